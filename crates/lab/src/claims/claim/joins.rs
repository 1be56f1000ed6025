//! Claims 17 and 24: a node joins while clients write and read.

use std::num::NonZeroU32;

use keypact_partitioning::hash::{Modulo, Slot, SlotTable};
use keypact_partitioning::placement::{Plan, Throttle};
use keypact_partitioning::range::{KeyOrder, RangeKey, RangeMap};
use keypact_partitioning::ring::{Point, Tokens};
use keypact_partitioning::{Map, Member, Position, Slice};
use keypact_protocol::NodeId;
use keypact_simulator::{Costs, MILLISECOND_NS, SECOND_NS, Setup, Swarm, World};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median, percentile};
use crate::claims::partition::ring;
use crate::claims::world::{COSTS, expect, nodes, priced};
use crate::claims::{Claim, Effort};
use crate::scenarios::partitioning::{
    PartitionClients, PlainDisk, Report, Scheme, Shard, ShardConfig, Workload,
};

pub(in crate::claims) const RANGE: Claim = Claim {
    number: 17,
    part: "partitioning",
    text: "Range rebalancing is expensive",
    how: "2,000 keys of a kilobyte on eight nodes, links of ten megabytes a second, 40 clients; a ninth node joins. Ranges: each node keeps one, so all \
          boundaries shift; or each gives a ninth of its range away. Bytes copied, how long it takes, and clients' 99th percentile meanwhile, beside the \
          second before; control: hash slots",
    measure: range,
};

pub(in crate::claims) const RING: Claim = Claim {
    number: 24,
    part: "partitioning",
    text: "Additions to a ring are scalable",
    how: "rings of 10, 30 and 100 nodes with 16 tokens each, 20 keys of a kilobyte for each node, 40 clients; one more node joins: how long it takes, bytes \
          copied, and clients' 99th percentile meanwhile, beside the second before. A thousand nodes are too many for this simulation: its catalog sends \
          everyone the whole map after each step. Control: `hash % n` on 10 nodes",
    measure: growth,
};

const KEY_BYTES: usize = 1_000;
const CLIENTS: u32 = 40;
/// The first plan, at the start, changes nothing; the second comes after so long.
const JOIN_AT_NS: u64 = 2 * SECOND_NS;
const END_NS: u64 = 60 * SECOND_NS;

/// One map before, one after.
#[derive(Clone, Debug)]
struct Joining<A: Position> {
    maps: [Map<A>; 2],
    members: Vec<Member>,
    position: fn(&[u8]) -> A,
}

impl<A: Position + Send + Sync + 'static> Scheme for Joining<A> {
    type At = A;

    fn position(&self, key: &[u8]) -> A {
        (self.position)(key)
    }

    fn first_map(&self) -> Map<A> {
        self.maps[0].clone()
    }

    fn rounds(&self) -> u64 {
        2
    }

    fn wanted(&self, round: u64, map: &Map<A>, _: &[Report<A>]) -> Map<A> {
        self.maps[usize::from(round == 2)].clone().with_version(map.version())
    }

    fn members(&self) -> &[Member] {
        &self.members
    }
}

fn keys(count: u64) -> Vec<Vec<u8>> {
    let key = |number: u64| {
        let mut key = format!("{number:08}:").into_bytes();
        key.resize(KEY_BYTES, b'x');
        key
    };
    (0..count).map(key).collect()
}

/// What a join was like.
#[derive(Clone, Copy)]
struct Join {
    copied_bytes: f64,
    took_ms: f64,
    before_ms: f64,
    meanwhile_ms: f64,
}

type JoinWorld<A> = World<Shard<Joining<A>>, PartitionClients<Joining<A>>, ()>;

/// Nodes with these keys' owners, begun, and clients at work.
fn world<A: Position + Send + Sync + 'static>(
    scheme: Joining<A>,
    keys: Vec<Vec<u8>>,
    costs: Costs,
    seed: u64,
) -> JoinWorld<A> {
    let ids = nodes(scheme.members.len());
    let config = ShardConfig {
        catalog_at: NodeId(1),
        nodes: ids.clone(),
        tick_ns: 20 * MILLISECOND_NS,
        round_gap_ns: JOIN_AT_NS,
        throttle: Throttle { steps_max: 8, steps_per_node_max: 1, bytes_per_s: u64::MAX },
        scheme: scheme.clone(),
    };
    let workload = Workload {
        keys,
        pairs: Vec::new(),
        clients: CLIENTS,
        operations: u64::MAX,
        think_max_ns: 10 * MILLISECOND_NS,
        timeout_ns: 5 * SECOND_NS,
        reads_ppm: 500_000,
        ranges_ppm: 0,
        pairs_ppm: 0,
        astray_ppm: 0,
        hot_ppm: 0,
    };
    let swarm = Swarm { costs, ..priced(ids.len()) };
    let setup = Setup {
        configs: ids.iter().map(|_| config.clone()).collect(),
        disks: ids.iter().map(|_| PlainDisk::default()).collect(),
        clients: PartitionClients::new(scheme, workload),
        observer: (),
        swarm,
    };
    let mut world = World::new(setup, seed);
    expect(world.begin());
    world
}

fn join<A: Position + Send + Sync + 'static>(
    scheme: Joining<A>,
    keys: Vec<Vec<u8>>,
    costs: Costs,
    seed: u64,
) -> Join {
    let owned = |slice: &Slice<A>| {
        keys.iter().filter(|key| slice.contains(&(scheme.position)(key))).map(|key| key.len() as u64).sum()
    };
    let plan = Plan::between(&scheme.maps[0], &scheme.maps[1], owned);
    let copied_bytes = plan.steps.iter().map(|step| step.copied_bytes()).sum::<u64>() as f64;
    let mut world = world(scheme, keys, costs, seed);
    expect(world.run_until(JOIN_AT_NS));
    let (mut now_ns, mut begun_ns) = (JOIN_AT_NS, None);
    loop {
        now_ns += MILLISECOND_NS;
        assert!(now_ns < END_NS, "the join comes to an end");
        expect(world.run_until(now_ns));
        let catalog = world.process(NodeId(1)).and_then(Shard::catalog).expect("node 1 keeps the catalog");
        if catalog.executor.plan_id() == 2 {
            let _ = begun_ns.get_or_insert(now_ns);
            if catalog.left() == 0 {
                break;
            }
        }
    }
    let begun_ns = begun_ns.expect("it ended, so it began");
    let within = |from_ns: u64, to_ns: u64| -> f64 {
        let done = world.clients().history.done();
        let times = done.filter(|(invoked, returned)| *returned >= from_ns && *invoked < to_ns);
        percentile(
            &times.map(|(invoked, returned)| (returned - invoked) as f64 / 1e6).collect::<Vec<_>>(),
            0.99,
        )
    };
    Join {
        copied_bytes,
        took_ms: (now_ns - begun_ns) as f64 / 1e6,
        before_ms: within(JOIN_AT_NS - SECOND_NS, JOIN_AT_NS),
        meanwhile_ms: within(begun_ns, now_ns),
    }
}

fn members(count: u64) -> Vec<Member> {
    (1..=count).map(|id| Member::alone(NodeId(id))).collect()
}

const RANGE_KEYS: u64 = 2_000;
const RANGE_NODES: u64 = 8;
const SLOTS: u16 = 16_384;

fn range_position(key: &[u8]) -> RangeKey {
    KeyOrder::Bytes.position(key)
}

/// Ranges that begin at these keys' numbers, and their owners.
fn ranges(lows: &[(u64, u64)]) -> Map<RangeKey> {
    let point = |(low, _): &(u64, u64)| KeyOrder::Bytes.split_point(format!("{low:08}:").as_bytes());
    let points: Vec<RangeKey> = lows[1..].iter().map(point).collect();
    let owners = lows.iter().map(|(_, node)| vec![NodeId(*node)]).collect();
    RangeMap::new(KeyOrder::Bytes, &points, owners).expect("split points rise").map().clone()
}

fn shifted(seed: u64) -> Join {
    let even = |count: u64| -> Vec<_> { (0..count).map(|at| (at * RANGE_KEYS / count, at + 1)).collect() };
    let maps = [ranges(&even(RANGE_NODES)), ranges(&even(RANGE_NODES + 1))];
    let scheme = Joining { maps, members: members(RANGE_NODES + 1), position: range_position };
    join(scheme, keys(RANGE_KEYS), SLOW_LINKS, seed)
}

fn split(seed: u64) -> Join {
    let width = RANGE_KEYS / RANGE_NODES;
    let before: Vec<_> = (0..RANGE_NODES).map(|at| (at * width, at + 1)).collect();
    let given = width / (RANGE_NODES + 1);
    let after: Vec<_> = before
        .iter()
        .flat_map(|(low, node)| [(*low, *node), (low + width - given, RANGE_NODES + 1)])
        .collect();
    let scheme = Joining {
        maps: [ranges(&before), ranges(&after)],
        members: members(RANGE_NODES + 1),
        position: range_position,
    };
    join(scheme, keys(RANGE_KEYS), SLOW_LINKS, seed)
}

fn slots(seed: u64) -> Join {
    let before = SlotTable::even(&nodes(RANGE_NODES as usize)).expect("fewer nodes than slots").map().clone();
    // The last ninth of each node's slots goes to the new one.
    let mut after = before.clone();
    for part in before.parts() {
        let (low, high) = (part.slice.low().number(), part.slice.high().map_or(SLOTS, |high| high.number()));
        let cut = Slot::new(high - (high - low) / (RANGE_NODES as u16 + 1)).expect("a slot");
        let slice = Slice::new(cut, part.slice.high().copied()).expect("not empty");
        after.assign(&slice, &part.replicas, &[NodeId(RANGE_NODES + 1)]).expect("the slice is its owner's");
    }
    let scheme = Joining { maps: [before, after], members: members(RANGE_NODES + 1), position: Slot::of };
    join(scheme, keys(RANGE_KEYS), SLOW_LINKS, seed)
}

const SLOW_LINKS: Costs = Costs { link_bytes_per_s: 10_000_000, ..COSTS };

fn typical(effort: Effort, run: impl Fn(u64) -> Join) -> Join {
    let runs: Vec<Join> = effort.seeds().map(run).collect();
    let of = |figure: fn(&Join) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
    Join {
        copied_bytes: of(|run| run.copied_bytes),
        took_ms: of(|run| run.took_ms),
        before_ms: of(|run| run.before_ms),
        meanwhile_ms: of(|run| run.meanwhile_ms),
    }
}

fn figures(name: &str, join: Join) -> [Figure; 4] {
    [
        Figure::new(format!("{name}: copied"), join.copied_bytes, "bytes"),
        Figure::new(format!("{name}: took"), join.took_ms, "ms"),
        Figure::new(format!("{name}: clients' p99 before"), join.before_ms, "ms"),
        Figure::new(format!("{name}: clients' p99 meanwhile"), join.meanwhile_ms, "ms"),
    ]
}

fn range(effort: Effort) -> Finding {
    let (shifted, split, slots) = (typical(effort, shifted), typical(effort, split), typical(effort, slots));
    // Expensive: twice the bytes of what hash slots copy, or twice their time.
    let dear =
        |join: Join| join.copied_bytes > 2.0 * slots.copied_bytes || join.took_ms > 2.0 * slots.took_ms;
    Finding {
        verdict: match (dear(shifted), dear(split)) {
            (true, true) => Verdict::Holds,
            (false, false) => Verdict::DoesNotHold,
            _ => Verdict::HoldsOnlyIf,
        },
        because: format!(
            "one range for each node copies {:.1} times what hash slots do, in {:.0} ms instead of {:.0}; ranges that are split copy {:.1} times it, in {:.0} ms",
            shifted.copied_bytes / slots.copied_bytes,
            shifted.took_ms,
            slots.took_ms,
            split.copied_bytes / slots.copied_bytes,
            split.took_ms
        ),
        figures: figures("one range each", shifted)
            .into_iter()
            .chain(figures("split ranges", split))
            .collect(),
        control: Control {
            what: "hash slots".into(),
            figures: figures("hash slots", slots).into(),
            differs: shifted.copied_bytes > slots.copied_bytes,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 3,
    }
}

const SIZES: [u64; 3] = [10, 30, 100];
const TOKENS: u32 = 16;
const KEYS_PER_NODE: u64 = 20;

fn ring_join(count: u64, seed: u64) -> Join {
    let map = |nodes: u64| ring(nodes, TOKENS, Tokens::Random, seed).map(1, 1).expect("somebody is there");
    let scheme =
        Joining { maps: [map(count), map(count + 1)], members: members(count + 1), position: Point::of };
    join(scheme, keys(KEYS_PER_NODE * count), COSTS, seed)
}

/// Share of keys that `hash % n` moves when there is one node more.
fn modulo_moves(count: u64) -> f64 {
    let all = keys(KEYS_PER_NODE * count * 10);
    let [before, after] =
        [count, count + 1].map(|nodes| Modulo::new(NonZeroU32::new(nodes as u32).expect("some nodes")));
    let moved = all.iter().filter(|key| before.index(key) != after.index(key)).count();
    moved as f64 / all.len() as f64
}

fn growth(effort: Effort) -> Finding {
    // A hundred nodes take seconds each.
    let effort = Effort { seeds: effort.seeds.min(2), ..effort };
    let rows: Vec<(u64, Join)> =
        SIZES.iter().map(|count| (*count, typical(effort, |seed| ring_join(*count, seed)))).collect();
    let (small, large) = (rows[0].1, rows[SIZES.len() - 1].1);
    let share =
        |count: u64, join: Join| join.copied_bytes / (KEYS_PER_NODE * count * KEY_BYTES as u64) as f64;
    let flat = large.copied_bytes < 3.0 * small.copied_bytes && large.took_ms < 3.0 * small.took_ms;
    let calm = large.meanwhile_ms < 2.0 * large.before_ms;
    let modulo = modulo_moves(SIZES[0]);
    Finding {
        verdict: match (flat, calm) {
            (true, true) => Verdict::Holds,
            (false, false) => Verdict::DoesNotHold,
            _ => Verdict::HoldsOnlyIf,
        },
        because: format!(
            "from 10 to 100 nodes, each with as many keys, a join copies {:.1} times as much and takes {:.1} times as long; clients' p99 at 100 nodes is {:.2} ms \
             meanwhile, {:.2} ms before",
            large.copied_bytes / small.copied_bytes,
            large.took_ms / small.took_ms,
            large.meanwhile_ms,
            large.before_ms
        ),
        figures: rows.iter().flat_map(|(count, join)| figures(&format!("{count} nodes"), *join)).collect(),
        control: Control {
            what: "`hash % n` on 10 nodes".into(),
            figures: vec![Figure::new("keys that move", modulo * 100.0, "%")],
            differs: modulo > 3.0 * share(SIZES[0], small),
        },
        plots: Vec::new(),
        seeds: effort.seeds * SIZES.len() as u64,
    }
}
