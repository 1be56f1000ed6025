//! Peer-to-peer replication for measurements: the replicas of `replication::gossip`, fixed members, and under each key a register and a counter.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keypact_crdt::causal::Event;
use keypact_crdt::{Latest, Lattice, OrMap, Tally};
use keypact_ordering::clock::{Dot, DotContext, HybridStamp, ReplicaId};
use keypact_protocol::{DecodeError, Delivery, GroupId, NodeId, Refusal, Wire};
use keypact_replication::gossip::{Change, Config, Gossip, Replicated, View, Writer};
use keypact_simulator::{
    Applied, Key, KvAnswer, KvCommand, ProcessConfig, ProtocolProcess, RecordDisk, Setup, StateMachine,
    Swarm, World,
};

use super::load::Load;
use super::world::{expect, nodes};

type Field = (Latest<i64>, Tally);
type Map = OrMap<u64, Field>;

/// A write that was carried out here.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) key: Key,
    pub(super) dot: Dot,
    pub(super) stamp: HybridStamp,
    /// What a set wrote; 0 of an increment.
    pub(super) value: i64,
    /// What was known here before it.
    seen: DotContext,
}

impl Made {
    /// Neither knew of the other.
    pub(super) fn is_beside(&self, other: &Made) -> bool {
        self.key == other.key
            && self.dot != other.dot
            && !self.seen.contains(other.dot)
            && !other.seen.contains(self.dot)
    }

    /// This one was made by who had seen the other.
    pub(super) fn is_after(&self, other: &Made) -> bool {
        self.key == other.key && self.dot != other.dot && self.seen.contains(other.dot)
    }

    /// Of two sets of which neither was seen by the other's writer, this one stays.
    pub(super) fn outranks(&self, other: &Made) -> bool {
        (self.stamp, self.dot) > (other.stamp, other.dot)
    }
}

/// What a replica holds, and beside it what was written here.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    map: Map,
    pub(super) made: Vec<Made>,
    /// Keys in the last delta that was joined.
    joined: u64,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        self.map == other.map
    }
}

impl Wire for Peer {
    fn encode(&self, out: &mut Vec<u8>) {
        self.map.encode(out);
    }

    fn decode(bytes: Bytes) -> Result<Peer, DecodeError> {
        Ok(Peer { map: Wire::decode(bytes)?, ..Peer::default() })
    }
}

impl Lattice for Peer {
    type Delta = <Map as Lattice>::Delta;

    fn merge(&mut self, other: Peer) -> bool {
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

/// `None`: it appends to a list, and no type here keeps one order of what is appended; or the bytes are no command.
fn decode(mut command: Bytes) -> Option<KvCommand> {
    if command.len() != 19 {
        return None;
    }
    let (kind, key) = (command.get_u8(), command.get_u16_le());
    let (first, second) = (command.get_i64_le(), command.get_i64_le());
    match kind {
        0 => Some(KvCommand::Set { key, value: first }),
        1 => Some(KvCommand::CompareAndSet { key, expected: first, value: second }),
        2 => Some(KvCommand::Increment { key }),
        _ => None,
    }
}

impl Replicated for Peer {
    fn carry_out(&mut self, command: Bytes, writer: Writer) -> Result<Self::Delta, Refusal> {
        let Writer { replica, stamp, .. } = writer;
        let set = |held: &Field, value: i64, event: &mut Event| {
            (held.0.assign(value, stamp, event), Tally::default())
        };
        let command = decode(command).ok_or(Refusal::TooLarge)?;
        let key = u64::from(command.key());
        let seen = self.map.version();
        let delta = match command {
            KvCommand::Set { value, .. } => {
                self.map.update(key, replica, |held, event| set(held, value, event))
            }
            KvCommand::CompareAndSet { expected, value, .. } => {
                let held = self.map.get(&key).and_then(|held| held.0.value()).copied();
                if held.unwrap_or(0) != expected {
                    return Ok(Self::Delta::default());
                }
                self.map.update(key, replica, |held, event| set(held, value, event))
            }
            KvCommand::Increment { .. } => {
                self.map.update(key, replica, |held, event| (Latest::default(), held.1.add(1, event)))
            }
            KvCommand::Append { .. } => return Err(Refusal::TooLarge),
        };
        let dot = Dot::new(replica, self.map.context().max(replica));
        let value = match command {
            KvCommand::Set { value, .. } | KvCommand::CompareAndSet { value, .. } => value,
            KvCommand::Increment { .. } | KvCommand::Append { .. } => 0,
        };
        self.made.push(Made { key: command.key(), dot, stamp, value, seen });
        Ok(delta)
    }
}

/// The parent's copy. Of a write the answer is whether it changed anything.
impl StateMachine for Peer {
    type Command = KvCommand;
    type Query = Key;
    type Answer = KvAnswer;

    fn encode(command: &KvCommand, out: &mut BytesMut) {
        let (kind, first, second) = match *command {
            KvCommand::Set { value, .. } => (0, value, 0),
            KvCommand::CompareAndSet { expected, value, .. } => (1, expected, value),
            KvCommand::Increment { .. } => (2, 0, 0),
            KvCommand::Append { .. } => (3, 0, 0),
        };
        out.put_u8(kind);
        out.put_u16_le(command.key());
        out.put_i64_le(first);
        out.put_i64_le(second);
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<KvAnswer, DecodeError> {
        let Change::Join(delta) = Change::decode(delivery.command.clone())? else {
            return Err(DecodeError::new("members that are fixed"));
        };
        let delta = <Self as Lattice>::Delta::decode(delta)?;
        self.joined = delta.store().len() as u64;
        Ok(KvAnswer::Swapped(self.map.apply(delta)))
    }

    /// A delta for one who missed much has many keys: each is a change of its own.
    fn work(&self) -> u64 {
        self.joined.max(1)
    }

    fn read(&self, key: &Key) -> KvAnswer {
        let held = self.map.get(&u64::from(*key));
        KvAnswer::Number(held.map_or(0, |held| held.1.value() as i64 + held.0.value().copied().unwrap_or(0)))
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.map.encode(out);
    }

    fn load(bytes: Bytes) -> Result<Peer, DecodeError> {
        Wire::decode(bytes)
    }

    fn digest(&self) -> u64 {
        self.map.version().dot_count()
    }

    /// Orders differ.
    fn compared(&self, _index: u64) -> Applied {
        Applied { index: 0, digest: self.digest() }
    }
}

pub(super) type PeerProcess = ProtocolProcess<Gossip<Peer>, Peer>;
pub(super) type PeerWorld = World<PeerProcess, Load, ()>;

/// Peers, begun and with their clients at work. The members are fixed: no catalog.
pub(super) fn peers(swarm: Swarm, load: Load, seed: u64, tune: impl Fn(&mut Config)) -> PeerWorld {
    let ids = nodes(swarm.nodes);
    let config = |id: &NodeId| {
        let mut config = Config::new(*id, GroupId(1), View::of_founders(&ids));
        config.report_ms = 0;
        tune(&mut config);
        ProcessConfig { protocol: config, pending_limit: 100_000 }
    };
    let setup = Setup {
        configs: ids.iter().map(config).collect(),
        disks: ids.iter().map(|_| RecordDisk::default()).collect(),
        clients: load,
        observer: (),
        swarm,
    };
    let mut world = World::new(setup, seed);
    expect(world.begin());
    world
}

/// Writes that every replica has.
pub(super) fn common(world: &PeerWorld, count: usize) -> u64 {
    let versions = nodes(count).into_iter().map(|node| {
        world.process(node).map_or_else(DotContext::default, |process| process.protocol().version().clone())
    });
    versions.reduce(|one, other| one.intersection(&other)).map_or(0, |all| all.dot_count())
}

/// Everything that was written anywhere.
pub(super) fn made(world: &PeerWorld, count: usize) -> Vec<Made> {
    let of = |node| world.process(node).map_or(Vec::new(), |process| process.protocol().state().made.clone());
    nodes(count).into_iter().flat_map(of).collect()
}
