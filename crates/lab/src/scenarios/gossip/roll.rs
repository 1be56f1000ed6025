//! The scenario's catalog: a [`Roster`] with a disk, and a plan of who leaves and comes back.

use bytes::{Buf, BufMut, Bytes};
use keypact_protocol::{DecodeError, NodeId, Wire};
use keypact_replication::gossip::{
    Body, CATALOG, Config, Gossip, Message, Roster, RosterConfig, RosterRecord, View,
};

use super::shelf::Shelf;
use crate::scenarios::seat::{Catalog, Way, Wishes};

/// What the catalog is told, in every life.
#[derive(Clone, Debug)]
pub(crate) struct RollConfig {
    /// Its rules.
    pub roster: RosterConfig,
    /// All nodes, which are the founders.
    pub members: Vec<NodeId>,
    /// Who never leaves: the catalog's own node.
    pub stays: NodeId,
    /// How many steps the plan has. With an even one a member leaves, with the odd one after it it may come back.
    pub last: u64,
    /// From one step to the next, milliseconds.
    pub period_ms: u64,
    /// Makes one seed's plan different from another's.
    pub salt: u64,
}

impl RollConfig {
    fn who(&self, step: u64) -> NodeId {
        let draw = ((step / 2 + 1) ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let others: Vec<NodeId> = self.members.iter().copied().filter(|node| *node != self.stays).collect();
        others[(draw % others.len() as u64) as usize]
    }
}

/// What the catalog must not forget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RollRecord {
    step: u64,
    roster: RosterRecord,
}

impl Wire for RollRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.step);
        self.roster.encode(out);
    }

    fn decode(mut bytes: Bytes) -> Result<RollRecord, DecodeError> {
        let step = bytes.try_get_u64_le().map_err(|_| DecodeError::new("a plan's step"))?;
        Ok(RollRecord { step, roster: RosterRecord::decode(bytes)? })
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Roll {
    config: RollConfig,
    pub(super) roster: Roster,
    step: u64,
    next_step_ns: u64,
}

impl Roll {
    /// After a change: written down, and told to everybody.
    fn tell(&self) -> Wishes<Roll> {
        let record = RollRecord { step: self.step, roster: self.roster.record() };
        let message = self.roster.message();
        let messages = self.config.members.iter().map(|node| (*node, message.clone())).collect();
        Wishes { record: Some(record), messages }
    }
}

impl Catalog for Roll {
    type Member = Gossip<Shelf>;
    type Config = RollConfig;
    type Kept = RollRecord;

    const NODE: NodeId = CATALOG;

    fn new(config: RollConfig) -> Roll {
        let roster = Roster::new(config.roster, View::of_founders(&config.members));
        Roll { config, roster, step: 0, next_step_ns: 0 }
    }

    fn tick_ns(config: &RollConfig) -> u64 {
        (config.roster.retention_ns / 4).min(50_000_000)
    }

    fn member_id(config: &Config) -> NodeId {
        config.id
    }

    fn way(message: &Message) -> Way {
        match message.body {
            Body::Report { .. } => Way::ToCatalog,
            // Views come from the catalog and from members alike.
            _ => Way::Between,
        }
    }

    fn replay(&mut self, record: RollRecord) {
        self.step = record.step;
        self.roster.resume(record.roster);
    }

    fn start(&mut self, now_ns: u64) {
        self.roster.start(now_ns);
        self.next_step_ns = now_ns + self.config.period_ms * 1_000_000;
    }

    fn tick(&mut self, now_ns: u64) -> Wishes<Roll> {
        let mut changed = self.roster.tick(now_ns);
        if self.step < self.config.last && now_ns >= self.next_step_ns {
            let node = self.config.who(self.step);
            if self.step.is_multiple_of(2) {
                self.roster.drain(node);
            } else {
                self.roster.join(node);
            }
            self.step += 1;
            self.next_step_ns = now_ns + self.config.period_ms * 1_000_000;
            changed = true;
        }
        if changed { self.tell() } else { Wishes::default() }
    }

    fn hear(&mut self, from: NodeId, message: &Message, now_ns: u64) -> Wishes<Roll> {
        if self.roster.hear(from, message, now_ns) {
            return self.tell();
        }
        let mut wishes = Wishes::default();
        if message.view < self.roster.view().number {
            wishes.messages.push((from, self.roster.message()));
        }
        wishes
    }
}
