//! A catalog in small: gives each epoch to one member, and the next to another once that one is no longer heard of.
//!
//! It needs no lease and asks nobody before: that two sequence at once for a while does no harm, since only one has a majority's ears.

use bytes::Bytes;
use keypact_ordering::total::sequencer::{self, Body, CATALOG};
use keypact_ordering::total::{BySequencer, Config, Message, Total};
use keypact_protocol::{DecodeError, NodeId, Plant, Wire, planted};

use super::super::seat::{Catalog, Way, Wishes};

/// What it is told, in every life.
#[derive(Clone, Debug)]
pub(crate) struct AppointerConfig {
    /// The group.
    pub(crate) members: Vec<NodeId>,
    /// A sequencer not heard of for so long is replaced, nanoseconds.
    pub(crate) patience_ns: u64,
    /// So many epochs end although their sequencer is well.
    pub(crate) restless: u64,
    /// After so long, nanoseconds.
    pub(crate) restless_ns: u64,
}

/// What it must not forget: to whom the newest epoch was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appointed {
    epoch: u64,
    sequencer: NodeId,
}

impl Wire for Appointed {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.sequencer.0.to_le_bytes());
    }

    fn decode(bytes: Bytes) -> Result<Appointed, DecodeError> {
        let body: &[u8; 16] = bytes.as_ref().try_into().map_err(|_| DecodeError::new("an appointment"))?;
        let number = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        Ok(Appointed { epoch: number(0), sequencer: NodeId(number(8)) })
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Appointer {
    config: AppointerConfig,
    now: Option<Appointed>,
    heard_ns: u64,
    since_ns: u64,
    /// Appointments in this life.
    pub(super) appointments: u64,
}

impl Appointer {
    fn next(&self) -> Appointed {
        let members = &self.config.members;
        let Some(now) = self.now else { return Appointed { epoch: 1, sequencer: members[0] } };
        let place = members.iter().position(|member| *member == now.sequencer).unwrap_or(0);
        let sequencer = members[(place + 1) % members.len()];
        let again = planted(Plant::TwoSequencers) && members.len() > 1;
        Appointed { epoch: if again { now.epoch } else { now.epoch + 1 }, sequencer }
    }
}

impl Catalog for Appointer {
    type Member = Total<BySequencer>;
    type Config = AppointerConfig;
    type Kept = Appointed;

    const NODE: NodeId = CATALOG;

    fn new(config: AppointerConfig) -> Appointer {
        Appointer { config, now: None, heard_ns: 0, since_ns: 0, appointments: 0 }
    }

    fn tick_ns(config: &AppointerConfig) -> u64 {
        config.patience_ns / 4
    }

    fn member_id(config: &Config<sequencer::Config>) -> NodeId {
        config.id
    }

    fn way(message: &Message<sequencer::Message>) -> Way {
        match message {
            Message::Log(sequencer::Message { body: Body::Assign, .. }) => Way::FromCatalog,
            Message::Log(sequencer::Message { body: Body::Working { .. }, .. }) => Way::ToCatalog,
            _ => Way::Between,
        }
    }

    fn replay(&mut self, kept: Appointed) {
        self.now = Some(kept);
    }

    fn start(&mut self, now_ns: u64) {
        (self.heard_ns, self.since_ns) = (now_ns, now_ns);
    }

    fn tick(&mut self, now_ns: u64) -> Wishes<Appointer> {
        let mut wishes = Wishes::default();
        let silent = now_ns.saturating_sub(self.heard_ns) > self.config.patience_ns;
        let restless = self.now.is_some_and(|now| now.epoch <= self.config.restless)
            && now_ns.saturating_sub(self.since_ns) > self.config.restless_ns;
        if self.now.is_none() || silent || restless {
            let next = self.next();
            self.appointments += 1;
            (self.now, self.heard_ns, self.since_ns) = (Some(next), now_ns, now_ns);
            wishes.record = Some(next);
        }
        let Appointed { epoch, sequencer } = self.now.expect("somebody was appointed");
        let assign = Message::Log(sequencer::Message { epoch, body: Body::Assign });
        wishes.messages.push((sequencer, assign));
        wishes
    }

    fn hear(
        &mut self,
        from: NodeId,
        message: &Message<sequencer::Message>,
        now_ns: u64,
    ) -> Wishes<Appointer> {
        if let (Some(now), Message::Log(sequencer::Message { epoch, .. })) = (self.now, message)
            && (now.epoch, now.sequencer) == (*epoch, from)
        {
            self.heard_ns = now_ns;
        }
        Wishes::default()
    }
}
