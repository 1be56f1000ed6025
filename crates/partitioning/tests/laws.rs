//! Laws of maps, plans, fences and rings, on random ones.

use bytes::Bytes;
use keypact_partitioning::hash::{SLOTS, Slot, SlotTable, crc16};
use keypact_partitioning::placement::{Executor, ExecutorRecord, Plan, Throttle, Unit, balance, even_out};
use keypact_partitioning::range::{KeyOrder, RangeKey, RangeMap, Scan};
use keypact_partitioning::ring::{Point, Ring, RingConfig, RingTable, Tokens};
use keypact_partitioning::{HoldingError, Holdings, Map, Member, MoveId, Position, Slice};
use keypact_protocol::{NodeId, Wire};
use proptest::prelude::*;

fn members(count: u64) -> Vec<Member> {
    (1..=count).map(|id| Member::alone(NodeId(id))).collect()
}

/// A map of slots with boundaries and owners by chance.
fn slot_maps() -> impl Strategy<Value = Map<Slot>> {
    let cuts = prop::collection::btree_map(1..SLOTS, 1..6u64, 0..12);
    (cuts, 1..6u64).prop_map(|(cuts, first)| {
        let rest = cuts.into_iter().map(|(low, owner)| (Slot::new(low).expect("below"), vec![NodeId(owner)]));
        let lows = std::iter::once((Slot::first(), vec![NodeId(first)])).chain(rest);
        Map::from_lows(1, lows.collect()).expect("rising boundaries")
    })
}

fn rings() -> impl Strategy<Value = Ring> {
    (1..8u64, 1..12u32, any::<u64>(), any::<bool>()).prop_map(
        |(count, tokens_per_weight, seed, allocated)| {
            let tokens = if allocated { Tokens::Allocated } else { Tokens::Random };
            let config = RingConfig { tokens_per_weight, tokens, seed, tokens_max: 10_000 };
            Ring::of(config, &members(count)).expect("members are different")
        },
    )
}

/// Bit by bit, as the specification has it.
fn slow_crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// A plan leads from one map to the other, moves each position at most once, and copies to nobody who has it.
    #[test]
    fn a_plan_leads_there_with_the_fewest_copies(from in slot_maps(), to in slot_maps(), order in any::<u64>()) {
        let plan = Plan::between(&from, &to, |slice| u64::from(slice.low().number()) + 1);
        let differ = (0..SLOTS).filter_map(Slot::new).filter(|slot| from.find(slot).replicas != to.find(slot).replicas);
        let covered: usize = plan.steps.iter().map(|step| {
            let high = step.slice.high().map_or(SLOTS, |high| high.number());
            usize::from(high - step.slice.low().number())
        }).sum();
        prop_assert_eq!(covered, differ.count());
        let run = plan.dry_run(&from, &Throttle::default()).expect("it fits the map that it was made for");
        prop_assert_eq!(run.copies, plan.steps.len());
        // In any order.
        let mut map = from;
        let mut steps = plan.steps;
        if !steps.is_empty() {
            let middle = (order % steps.len() as u64) as usize;
            steps.rotate_left(middle);
        }
        for step in &steps {
            map.assign(&step.slice, &step.from, &step.to).expect("steps are independent");
        }
        let (map, to) = (map.coalesced(), to.coalesced());
        prop_assert_eq!(map.parts(), to.parts());
    }

    /// Wherever a crash cuts the records off, the executor goes on from there to the same end.
    #[test]
    fn a_plan_can_be_resumed_anywhere(from in slot_maps(), to in slot_maps(), cut in any::<prop::sample::Index>()) {
        let throttle = Throttle { steps_max: 2, steps_per_node_max: 1, bytes_per_s: u64::MAX };
        let mut executor = Executor::new(from.clone(), throttle);
        let plan = Plan::between(&from, &to, |_| 1);
        let mut log = vec![executor.begin(1, plan).expect("it fits")];
        finish(&mut executor, &mut log);
        prop_assert!(executor.is_idle());
        let kept = cut.index(log.len()) + 1;
        let mut again = Executor::new(from, throttle);
        for record in &log[..kept] {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let record = ExecutorRecord::decode(Bytes::from(bytes)).expect("as encoded");
            again.replay(record).expect("in order");
        }
        finish(&mut again, &mut Vec::new());
        again.assert_invariants();
        prop_assert_eq!(again.map(), executor.map());
    }

    /// With one replica, nobody could even slots out with fewer moves: exactly what is over the quotas moves.
    #[test]
    fn balance_is_even_and_moves_the_least(owners in prop::collection::vec(1..7u64, 1..200), count in 1..6u64) {
        let units: Vec<Unit> =
            owners.iter().map(|owner| Unit { size: 1, replicas: vec![NodeId(*owner)] }).collect();
        let placed = balance(&units, &members(count), 1).expect("members are different");
        let total = owners.len() as u64;
        let (low, high) = (total / count, total.div_ceil(count));
        let held = |node: u64| placed.iter().filter(|nodes| nodes[0] == NodeId(node)).count() as u64;
        prop_assert!((1..=count).all(|node| (low..=high).contains(&held(node))));
        let moved = units.iter().zip(&placed).filter(|(unit, nodes)| unit.replicas != **nodes).count() as u64;
        // The fullest keep one more where it does not come out even.
        let mut had: Vec<u64> =
            (1..=count).map(|node| owners.iter().filter(|owner| **owner == node).count() as u64).collect();
        had.sort_unstable_by(|a, b| b.cmp(a));
        let more = (total % count) as usize;
        let stay: u64 = had.iter().enumerate().map(|(at, had)| (*had).min(low + u64::from(at < more))).sum();
        prop_assert_eq!(moved, total - stay);
    }

    /// Replicas stand on distinct hosts.
    #[test]
    fn balance_keeps_replicas_apart(hosts in prop::collection::vec((0..3u32, 0..4u32), 3..9), units in 1..60usize) {
        let members: Vec<Member> = hosts.iter().enumerate()
            .map(|(at, (zone, host))| Member::alone(NodeId(at as u64 + 1)).at(*zone, *host)).collect();
        let units = vec![Unit { size: 1, replicas: vec![NodeId(1), NodeId(2)] }; units];
        let Ok(placed) = balance(&units, &members, 2) else { return Ok(()) };
        for nodes in placed {
            let domain = |node: NodeId| members.iter().find(|member| member.node == node).map(|member| member.domain);
            prop_assert!(domain(nodes[0]) != domain(nodes[1]));
        }
    }

    /// The table finds what the ring finds, the map too; shares sum to one.
    #[test]
    fn ring_table_and_map_agree(ring in rings(), points in prop::collection::vec(any::<u64>(), 1..50)) {
        let table = RingTable::new(&ring).expect("somebody is there");
        let map = ring.map(1, 1).expect("somebody is there");
        let tokens = ring.tokens().flat_map(|(token, _)| [token.0, token.0.wrapping_add(1), token.0.wrapping_sub(1)]);
        for point in points.into_iter().chain(tokens).chain([0, u64::MAX]).map(Point) {
            prop_assert_eq!(Some(table.owner(point)), ring.owner(point));
            prop_assert_eq!(map.find(&point).owner(), table.owner(point));
        }
        prop_assert!((ring.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    /// A join moves keys to the new node only, a departure from the old one only; allocated tokens move the node's share exactly.
    #[test]
    fn only_who_joins_or_leaves_moves(ring in rings(), gone in any::<prop::sample::Index>()) {
        let newcomer = Member::alone(NodeId(99));
        let mut joined = ring.clone();
        joined.join(newcomer).expect("it is not there");
        let moved = ring.moved(&joined, newcomer.node);
        prop_assert_eq!(moved.elsewhere, 0.0);
        if ring.config().tokens == Tokens::Allocated {
            prop_assert!(moved.share <= 1.0 / joined.members().len() as f64 + 1e-9);
        }
        let leaver = joined.members()[gone.index(joined.members().len())].node;
        let mut left = joined.clone();
        left.leave(leaver).expect("it is there");
        prop_assert_eq!(joined.moved(&left, leaver).elsewhere, 0.0);
    }

    /// A range query's legs are the slices that overlap it, each once, and cover it without a gap.
    #[test]
    fn a_scan_touches_what_it_needs(points in prop::collection::btree_set(0..100i64, 0..8), low in 0..100i64, len in 1..60i64) {
        let order = KeyOrder::Integer;
        let point = |number: i64| order.split_point(number.to_string().as_bytes());
        let splits: Vec<RangeKey> = points.iter().map(|number| point(*number)).collect();
        let replicas = (0..=splits.len() as u64).map(|at| vec![NodeId(at + 1)]).collect();
        let map = RangeMap::new(order, &splits, replicas).expect("split points rise");
        let whole = Slice::new(point(low), Some(point(low + len))).expect("not empty");
        let mut scan = Scan::new(whole.clone());
        let mut end = whole.low().clone();
        while let Some(leg) = scan.next(map.map()) {
            prop_assert_eq!(leg.slice.low(), &end);
            end = leg.slice.high().expect("the query has an end").clone();
            scan.answered(&leg);
            // A second answer to the same leg changes nothing.
            scan.answered(&leg);
        }
        prop_assert_eq!(Some(&end), whole.high());
        prop_assert_eq!(scan.legs() as usize, map.map().overlapping(&whole).len());
    }

    #[test]
    fn crc16_is_the_slow_one(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(crc16(&bytes), slow_crc16(&bytes));
    }

    /// Bytes that nobody encoded are refused, without a panic; what was encoded comes back.
    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..80), map in slot_maps()) {
        let bytes = Bytes::from(bytes);
        let _ = Map::<RangeKey>::decode(bytes.clone());
        let _ = Plan::<RangeKey>::decode(bytes.clone());
        let _ = ExecutorRecord::<Point>::decode(bytes.clone());
        let _ = Holdings::<RangeKey>::decode(bytes);
        let mut encoded = Vec::new();
        map.encode(&mut encoded);
        prop_assert_eq!(Map::decode(Bytes::from(encoded)), Ok(map));
    }
}

fn finish(executor: &mut Executor<Slot>, log: &mut Vec<ExecutorRecord<Slot>>) {
    let mut open: Vec<MoveId> = executor.started().collect();
    loop {
        while let Some((id, record)) = executor.start_next(0) {
            open.push(id);
            log.push(record);
        }
        let Some(id) = open.pop() else { return };
        log.push(executor.switch(id).expect("it is under way"));
    }
}

#[test]
fn a_thousand_nodes_are_even() {
    let ring = Ring::of(RingConfig::default(), &members(1_000)).expect("members are different");
    let most = ring.shares().into_iter().fold(0.0, f64::max) * 1_000.0;
    assert!(most < 1.10, "max/mean {most}");
}

#[test]
fn slots_are_even() {
    let nodes: Vec<NodeId> = (1..=7).map(NodeId).collect();
    let owned = SlotTable::even(&nodes).expect("few nodes").owned();
    assert!(owned.iter().all(|(_, slots)| (2_340..=2_341).contains(slots)), "{owned:?}");
}

fn slots(low: u16, high: u16) -> Slice<Slot> {
    let slot = |number| Slot::new(number).expect("below");
    Slice::new(slot(low), Some(slot(high))).expect("not empty")
}

/// A full node that may give nothing away could never become less full.
#[test]
fn who_is_full_can_give_what_needs_no_room() {
    let parts = || [slots(0, 10), slots(10, 20), slots(30, 40)];
    let give = |limit, low, high| {
        let mut held = Holdings::begin(parts(), 1, limit).expect("they fit");
        let given = held.give(MoveId { plan: 1, step: 0 }, &slots(low, high));
        held.assert_invariants();
        (given, held.held().len())
    };
    assert_eq!(give(3, 30, 40), (Ok(()), 3), "as a whole");
    assert_eq!(give(3, 0, 20), (Ok(()), 3), "two, as a whole");
    assert_eq!(give(3, 5, 20), (Err(HoldingError::Full), 3), "one cut, no room");
    assert_eq!(give(4, 5, 20), (Ok(()), 4));
    assert_eq!(give(4, 3, 7), (Err(HoldingError::Full), 3), "two cuts, room for one; nothing changed");
    assert_eq!(give(5, 3, 7), (Ok(()), 5));
    assert_eq!(give(5, 20, 40), (Err(HoldingError::NotServed), 3));
}

/// Sizes are estimates, and come from files, too: none may make a sum overflow.
#[test]
fn sizes_beyond_all_bounds_are_taken() {
    let [from, to] = [[1, 2, 3], [2, 3, 1]].map(|owners| {
        let part = |(low, owner)| (Slot::new(low).expect("below"), vec![NodeId(owner)]);
        Map::from_lows(1, [0, 100, 200].into_iter().zip(owners).map(part).collect()).expect("rising")
    });
    let plan = Plan::between(&from, &to, |_| u64::MAX);
    let run = plan.dry_run(&from, &Throttle::default()).expect("it fits the map");
    assert_eq!((run.copies, run.bytes, plan.steps[0].copied_bytes()), (3, u64::MAX, u64::MAX));
    assert!(run.flows.values().all(|flow| flow.in_bytes == u64::MAX && flow.out_bytes == u64::MAX));
    let mut executor = Executor::new(from, Throttle::default());
    drop(executor.begin(1, plan).expect("it fits the map"));
    assert!(executor.start_next(0).is_some() && executor.start_next(u64::MAX - 1).is_none());
    let units = vec![Unit { size: u64::MAX, replicas: vec![NodeId(1)] }; 5];
    let placed = even_out(&units, &members(5), 2, u64::MAX, 100).expect("enough hosts");
    assert!(placed.iter().all(|nodes| nodes.len() == 2));
    let even = even_out(&units, &members(5), 1, 10, 100).expect("enough hosts");
    assert!((1..=5).all(|node| even.contains(&vec![NodeId(node)])), "equal sizes, however large, one each");
}
