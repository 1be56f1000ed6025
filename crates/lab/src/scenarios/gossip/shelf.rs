//! What the replicas of the scenario hold: a map with one of each kind that can lie in maps under every key.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keypact_crdt::{Lattice, OrMap};
use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::{DecodeError, Delivery, Refusal, Wire};
use keypact_replication::gossip::{Change, Replicated, Writer};
use keypact_simulator::{Applied, StateMachine, TraceHash};

use crate::scenarios::crdt::board::{Action, Field, Kind, put_part, take_part};
use crate::scenarios::crdt::replica::Made;

/// What a client writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    /// Its number: all differ.
    pub token: u64,
    /// What.
    pub action: Action,
}

/// Every kind, by its number on the wire.
pub(crate) const KINDS: [Kind; 7] =
    [Kind::Tally, Kind::Latest, Kind::Values, Kind::Enable, Kind::Disable, Kind::Set, Kind::Inner];

impl Command {
    fn encode(self, out: &mut BytesMut) {
        let (what, key, kind, item, by) = match self.action {
            Action::Remove { key } => (0, key, Kind::Tally, 0, 0),
            Action::Put { key, kind, item, by } => (1, key, kind, item, by),
            Action::Take { key, kind, item } => (2, key, kind, item, 0),
            Action::Grow(_) | Action::Level(_) | Action::Write => unreachable!("not on the map"),
        };
        out.put_u64_le(self.token);
        out.put_u8(what);
        out.put_u8(KINDS.iter().position(|known| *known == kind).expect("all kinds are listed") as u8);
        out.put_u64_le(key);
        out.put_u64_le(item);
        out.put_i64_le(by);
    }

    fn decode(mut bytes: Bytes) -> Option<Command> {
        if bytes.len() != 34 {
            return None;
        }
        let token = bytes.get_u64_le();
        let what = bytes.get_u8();
        let kind = *KINDS.get(usize::from(bytes.get_u8()))?;
        let (key, item, by) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_i64_le());
        let action = match what {
            0 => Action::Remove { key },
            1 => Action::Put { key, kind, item, by },
            2 => Action::Take { key, kind, item },
            _ => return None,
        };
        Some(Command { token, action })
    }
}

/// The map, and beside it what was done here in this life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    map: OrMap<u64, Field>,
    made: Vec<Made>,
}

impl Shelf {
    /// The map.
    pub(crate) fn map(&self) -> &OrMap<u64, Field> {
        &self.map
    }

    /// What was done here in this life.
    pub(crate) fn made(&self) -> &[Made] {
        &self.made
    }
}

impl PartialEq for Shelf {
    fn eq(&self, other: &Shelf) -> bool {
        self.map == other.map
    }
}

impl Wire for Shelf {
    fn encode(&self, out: &mut Vec<u8>) {
        self.map.encode(out);
    }

    fn decode(bytes: Bytes) -> Result<Shelf, DecodeError> {
        Ok(Shelf { map: Wire::decode(bytes)?, made: Vec::new() })
    }
}

impl Lattice for Shelf {
    type Delta = <OrMap<u64, Field> as Lattice>::Delta;

    fn merge(&mut self, other: Shelf) -> bool {
        self.map.merge(other.map)
    }

    fn apply(&mut self, delta: Self::Delta) -> bool {
        self.map.apply(delta)
    }

    fn version(&self) -> DotContext {
        self.map.version()
    }

    fn delta_since(&self, seen: &DotContext) -> Self::Delta {
        self.map.delta_since(seen)
    }

    fn living(&self) -> std::collections::BTreeSet<ReplicaId> {
        self.map.living()
    }

    fn forget(&mut self, replica: ReplicaId) {
        self.map.forget(replica);
    }
}

impl Replicated for Shelf {
    fn carry_out(&mut self, command: Bytes, writer: Writer) -> Result<Self::Delta, Refusal> {
        let Some(Command { token, action }) = Command::decode(command) else {
            return Err(Refusal::TooLarge);
        };
        let Writer { replica, stamp, .. } = writer;
        let seen = self.map.version();
        let before = self.map.context().max(replica);
        let delta = match action {
            Action::Put { key, kind, item, by } => self
                .map
                .update(key, replica, |held, event| put_part(kind, token, item, by, stamp, held, event)),
            Action::Take { key, kind, item } => {
                self.map.update(key, replica, |held, event| take_part(kind, item, held, event))
            }
            Action::Remove { key } => self.map.remove(&key, replica),
            Action::Grow(_) | Action::Level(_) | Action::Write => unreachable!("not on the map"),
        };
        let counter = self.map.context().max(replica);
        let counter = if counter == before { 0 } else { counter };
        let number = self.made.len() as u64 + 1;
        self.made.push(Made { token, replica, number, action, seen, counter, over: None, stamp });
        Ok(delta)
    }

    fn reset(&mut self) {
        self.map = OrMap::default();
    }
}

/// The parent's copy.
impl StateMachine for Shelf {
    type Command = Command;
    /// A key.
    type Query = u64;
    /// How much lives under it; of a write nothing.
    type Answer = u64;

    fn encode(command: &Command, out: &mut BytesMut) {
        command.encode(out);
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<u64, DecodeError> {
        Change::decode(delivery.command.clone())?.apply_to(&mut self.map)?;
        Ok(0)
    }

    fn read(&self, key: &u64) -> u64 {
        self.map.get(key).map_or(0, |field| field.5.len() as u64)
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.map.encode(out);
    }

    fn load(bytes: Bytes) -> Result<Shelf, DecodeError> {
        Wire::decode(bytes)
    }

    /// What was applied: equal versions, equal states, and that is looked at elsewhere.
    fn digest(&self) -> u64 {
        let mut hash = TraceHash::default();
        for span in self.map.version().spans() {
            hash.add(span.replica.0);
            hash.add(span.first ^ span.last.rotate_left(32));
        }
        hash.value()
    }

    /// Orders differ, and so does how many deliveries it took.
    fn compared(&self, _index: u64) -> Applied {
        let mut bytes = Vec::new();
        self.map.encode(&mut bytes);
        let mut hash = TraceHash::default();
        hash.add_bytes(&bytes);
        Applied { index: 0, digest: hash.value() }
    }
}
