//! Each way to partition behind one trait: ours, and five crates.

use std::hash::BuildHasherDefault;

use anchorhash::AnchorHash;
use conhash::ConsistentHash;
use hashring::HashRing;
use jumphash::JumpHasher;
use keypact_partitioning::hash::{SLOTS, Slot, SlotTable};
use keypact_partitioning::placement::{Unit, balance};
use keypact_partitioning::ring::{Point, Ring, RingConfig, RingTable, Tokens};
use keypact_partitioning::{Map, Member};
use keypact_protocol::NodeId;
use maglev::{ConsistentHasher, Maglev};

/// Tokens of each node, where there are tokens.
pub const TOKENS: u32 = 128;

/// One way to say who owns a key. Nodes are numbered from 1.
pub trait Side: Sized {
    /// Its name in the table.
    const NAME: &'static str;

    /// Over the nodes 1 to `nodes`.
    fn build(nodes: u32) -> Self;

    /// The same after node `nodes` + 1 has joined, as the crate does it.
    fn join(self, nodes: u32) -> Self;

    /// The same after node `nodes`, the last, has left.
    fn leave(self, nodes: u32) -> Self;

    /// Who owns the key.
    fn owner(&self, key: &'static str) -> u32;
}

fn members(nodes: u32) -> Vec<Member> {
    (1..=nodes).map(|id| Member::alone(NodeId(id.into()))).collect()
}

/// Our ring, with its tokens placed by `ALLOCATED` or by chance.
pub struct OurRing<const ALLOCATED: bool> {
    ring: Ring,
    table: RingTable,
}

impl<const ALLOCATED: bool> OurRing<ALLOCATED> {
    fn of(ring: Ring) -> Self {
        let table = RingTable::new(&ring).expect("somebody is there");
        OurRing { ring, table }
    }
}

impl<const ALLOCATED: bool> Side for OurRing<ALLOCATED> {
    const NAME: &'static str = if ALLOCATED { "keypact ring" } else { "keypact ring, random tokens" };

    fn build(nodes: u32) -> Self {
        let tokens = if ALLOCATED { Tokens::Allocated } else { Tokens::Random };
        let config = RingConfig { tokens_per_weight: TOKENS, tokens, seed: 1, tokens_max: 1 << 20 };
        Self::of(Ring::of(config, &members(nodes)).expect("members are different"))
    }

    fn join(mut self, nodes: u32) -> Self {
        self.ring.join(Member::alone(NodeId(u64::from(nodes) + 1))).expect("it is not there");
        Self::of(self.ring)
    }

    fn leave(mut self, nodes: u32) -> Self {
        self.ring.leave(NodeId(nodes.into())).expect("it is there");
        Self::of(self.ring)
    }

    fn owner(&self, key: &'static str) -> u32 {
        self.table.owner(Point::of(key.as_bytes())).0 as u32
    }
}

/// Our slots; a change of nodes is a placement that moves the least.
pub struct OurSlots(SlotTable);

impl OurSlots {
    fn over(&self, nodes: u32) -> Self {
        let lows: Vec<Slot> = (0..SLOTS).filter_map(Slot::new).collect();
        let map = self.0.map();
        let units: Vec<Unit> =
            lows.iter().map(|low| Unit { size: 1, replicas: map.find(low).replicas.clone() }).collect();
        let placed = balance(&units, &members(nodes), 1).expect("members are different");
        let map = Map::from_lows(map.version() + 1, lows.into_iter().zip(placed).collect());
        OurSlots(SlotTable::new(map.expect("all slots").coalesced()))
    }
}

impl Side for OurSlots {
    const NAME: &'static str = "keypact slots";

    fn build(nodes: u32) -> Self {
        let nodes: Vec<NodeId> = (1..=nodes).map(|id| NodeId(id.into())).collect();
        OurSlots(SlotTable::even(&nodes).expect("fewer nodes than slots"))
    }

    fn join(self, nodes: u32) -> Self {
        self.over(nodes + 1)
    }

    fn leave(self, nodes: u32) -> Self {
        self.over(nodes - 1)
    }

    fn owner(&self, key: &'static str) -> u32 {
        self.0.find(key.as_bytes()).owner().0 as u32
    }
}

/// A virtual node of hashring and conhash.
#[derive(Clone, Hash)]
pub struct Virtual {
    node: u32,
    number: u32,
}

impl Side for HashRing<Virtual> {
    const NAME: &'static str = "hashring";

    fn build(nodes: u32) -> Self {
        let mut ring = HashRing::new();
        let all = (1..=nodes).flat_map(|node| (0..TOKENS).map(move |number| Virtual { node, number }));
        ring.batch_add(all.collect());
        ring
    }

    fn join(mut self, nodes: u32) -> Self {
        self.batch_add((0..TOKENS).map(|number| Virtual { node: nodes + 1, number }).collect());
        self
    }

    fn leave(mut self, nodes: u32) -> Self {
        for number in 0..TOKENS {
            self.remove(&Virtual { node: nodes, number }).expect("it is there");
        }
        self
    }

    fn owner(&self, key: &'static str) -> u32 {
        self.get(&key).expect("somebody is there").node
    }
}

/// A node of conhash.
#[derive(Clone)]
pub struct Named(u32);

impl conhash::Node for Named {
    fn name(&self) -> String {
        self.0.to_string()
    }
}

impl Side for ConsistentHash<Named> {
    const NAME: &'static str = "conhash";

    fn build(nodes: u32) -> Self {
        let mut ring = ConsistentHash::new();
        for node in 1..=nodes {
            ring.add(&Named(node), TOKENS as usize);
        }
        ring
    }

    fn join(mut self, nodes: u32) -> Self {
        self.add(&Named(nodes + 1), TOKENS as usize);
        self
    }

    fn leave(mut self, nodes: u32) -> Self {
        self.remove(&Named(nodes));
        self
    }

    fn owner(&self, key: &'static str) -> u32 {
        self.get_str(key).expect("somebody is there").0
    }
}

/// Jump hashing: only the last node can leave.
pub struct Jump(JumpHasher, u32);

impl Side for Jump {
    const NAME: &'static str = "jumphash";

    fn build(nodes: u32) -> Self {
        Jump(JumpHasher::new_with_keys(1, 2), nodes)
    }

    fn join(self, nodes: u32) -> Self {
        Jump(self.0, nodes + 1)
    }

    fn leave(self, nodes: u32) -> Self {
        Jump(self.0, nodes - 1)
    }

    fn owner(&self, key: &'static str) -> u32 {
        self.0.slot(&key, self.1) + 1
    }
}

type Sip = BuildHasherDefault<std::collections::hash_map::DefaultHasher>;

impl Side for AnchorHash<&'static str, u32, Sip> {
    const NAME: &'static str = "anchorhash";

    fn build(nodes: u32) -> Self {
        let capacity = u16::try_from(nodes * 2).expect("few nodes");
        anchorhash::Builder::with_hasher(Sip::default()).with_resources(1..=nodes).build(capacity)
    }

    fn join(mut self, nodes: u32) -> Self {
        self.add_resource(nodes + 1).expect("the capacity suffices");
        self
    }

    fn leave(mut self, nodes: u32) -> Self {
        self.remove_resource(&nodes).expect("it is there");
        self
    }

    fn owner(&self, key: &'static str) -> u32 {
        *self.get_resource(key).expect("somebody is there")
    }
}

impl Side for Maglev<u32> {
    const NAME: &'static str = "maglev";

    fn build(nodes: u32) -> Self {
        Maglev::new(1..=nodes)
    }

    fn join(self, nodes: u32) -> Self {
        Maglev::new(1..=nodes + 1)
    }

    fn leave(self, nodes: u32) -> Self {
        Maglev::new(1..nodes)
    }

    fn owner(&self, key: &'static str) -> u32 {
        *self.get(key).expect("somebody is there")
    }
}
