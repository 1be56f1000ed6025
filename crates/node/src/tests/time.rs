//! Time of a group: keys that expire while nobody asks for anything, and leaders whose wall clocks are wrong.

use keypact_protocol::NodeId;

use super::cluster::Cluster;
use crate::{DEFAULT, Order, Reads};

const DAY_MS: i64 = 86_400_000;

fn keys(cluster: &Cluster) -> Vec<usize> {
    cluster.nodes.values().map(|node| node.partition().len()).collect()
}

/// Guards memory: without reads and writes no entry would say that time went by, and expired keys would stay for ever.
#[test]
fn expired_keys_leave_the_memory_of_an_idle_cluster() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    for number in 0..1_000 {
        let at = if number % 2 == 0 { leader } else { other };
        assert_eq!(cluster.run(at, number, &format!("SET k{number} v PX {}", 500 + number % 7)), "+OK");
    }
    assert_eq!(cluster.run(leader, 1, "SET stays v PX 3600000"), "+OK");
    assert_eq!(cluster.run(leader, 1, "SET stays-for-ever v"), "+OK");
    cluster.advance(3_000);
    assert_eq!(keys(&cluster), [2, 2, 2]);
    let ticks = cluster.nodes[&leader].counters().idle_ticks;
    assert_eq!(ticks, 4, "of 256 keys each");
    let states: Vec<u64> = cluster.nodes.values().map(|node| node.partition().state_hash()).collect();
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");

    // Quiet when nothing expires.
    let last = cluster.raft(leader).last();
    cluster.advance(100_000);
    assert_eq!(cluster.raft(leader).last(), last);
}

/// A leader that can't commit does not fill its log with ticks, and a new one goes on with them.
#[test]
fn one_tick_is_under_way_at_a_time() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let leader = cluster.leader().expect("someone leads");
    assert_eq!(cluster.run(leader, 1, "SET k v PX 200"), "+OK");
    let last = cluster.raft(leader).last().index;
    cluster.advance(1_150);
    cluster.paused = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    cluster.advance(290);
    assert_eq!(cluster.raft(leader).last().index, last + 1);
    cluster.paused.clear();
    cluster.advance(3_000);
    assert_eq!(keys(&cluster), [0, 0, 0]);
}

/// What `FLUSHALL` threw away is freed without further writes, on all replicas.
#[test]
fn flushed_keys_are_freed_by_an_idle_cluster() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let leader = cluster.leader().expect("someone leads");
    for number in 0..300 {
        cluster.run(leader, 1, &format!("SET k{number} v EX 1000"));
    }
    assert_eq!(cluster.run(leader, 1, "FLUSHALL"), "+OK");
    assert!(cluster.nodes[&leader].partition().has_discarded());
    cluster.advance(100);
    assert!(cluster.nodes.values().all(|node| !node.partition().has_discarded()));
}

/// Guards keys that are not due: stamps never fall, so what one wrong clock has expired would be gone for good.
#[test]
fn a_leader_whose_clock_is_a_day_ahead_expires_nothing_early() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    assert_eq!(cluster.run(leader, 1, "SET hour v EX 3600"), "+OK");
    cluster.skews_ms.insert(leader, DAY_MS);
    for _ in 0..20 {
        cluster.advance(100);
        assert_eq!(cluster.run(leader, 1, "GET hour"), "v");
        assert_eq!(cluster.run(leader, 1, "SET other v EX 3600"), "+OK");
    }
    let latest = cluster.wall_ms + 500;
    assert!(cluster.nodes.values().all(|node| node.partition().applied_stamp_ms() <= latest));
    assert!(cluster.nodes[&leader].clock_ahead_ms(cluster.context()) < 100, "by its own clock of the story");

    // The next leader's clock is right, and time goes on.
    cluster.crash(leader, true);
    cluster.until(|cluster| cluster.leader().is_some_and(|next| next != leader));
    assert_eq!(cluster.run(other, 2, "GET hour"), "v");
    assert_eq!(cluster.run(other, 2, "SET second v PX 1000"), "+OK");
    cluster.advance(2_000);
    assert_eq!(cluster.run(other, 2, "GET second"), "_");
    assert_eq!(cluster.run(other, 2, "GET hour"), "v");
}

/// A new leader has heard a majority's clocks with its votes, before it stamps anything: its first entry too is bounded.
#[test]
fn a_wrong_clock_is_bounded_from_a_leaders_first_entry_on() {
    let mut wrong_leaders = 0;
    for (skewed, skew_ms) in [1, 2, 3].into_iter().flat_map(|id| [(id, DAY_MS), (id, -DAY_MS)]) {
        let mut cluster = Cluster::asleep(3, |_| ());
        cluster.skews_ms.insert(skewed, skew_ms);
        (1..=3).for_each(|id| cluster.start(id));
        cluster.until(|cluster| cluster.leader().is_some_and(|id| cluster.raft(id).commit_index() > 0));
        let leader = cluster.leader().expect("just seen");
        wrong_leaders += usize::from(leader == skewed);
        let stamp_ms = cluster.nodes[&leader].partition().applied_stamp_ms();
        assert!(stamp_ms.abs_diff(cluster.wall_ms) <= 500 + 100, "{skewed} by {skew_ms}: {stamp_ms}");
        assert_eq!(cluster.run(leader, 1, "SET k v PX 5000"), "+OK");
        assert_eq!(cluster.run(leader, 1, "GET k"), "v");
        cluster.advance(6_500);
        assert_eq!(cluster.run(leader, 1, "GET k"), "_", "{skewed} by {skew_ms}: time goes on");
    }
    assert_eq!(wrong_leaders, 2, "the same node wins in each of these stories");
}

/// Who is handed leadership asks for no pre-votes, so it may know nobody's clock before the votes come; if it has just started not even its
/// leader's. Guards against a first entry that is stamped before the clock which came with the deciding vote is heard.
#[test]
fn a_wrong_clock_is_bounded_when_leadership_is_handed_over() {
    for (count, skew_ms) in [(3, DAY_MS), (3, -DAY_MS), (5, DAY_MS), (5, -DAY_MS)] {
        let mut cluster = Cluster::new(count, Reads::Lease);
        let (leader, heir) = cluster.pair();
        cluster.skews_ms.insert(heir, skew_ms);
        cluster.crash(heir, false);
        cluster.start(heir);
        // An entry tells the new life who leads, and no clock.
        assert_eq!(cluster.run(leader, 1, "SET k v PX 5000"), "+OK");
        let (context, order) = (cluster.context(), Order::Transfer { group: DEFAULT, to: NodeId(heir) });
        let node = cluster.nodes.get_mut(&leader).expect("it runs");
        let world = cluster.worlds.get_mut(&leader).expect("it has a folder");
        node.operate(&order, context, world).expect("it has caught up");
        cluster.inputs(leader, Vec::new());
        cluster.settle();
        assert_eq!(cluster.leader(), Some(heir), "{count} nodes");
        assert!(cluster.raft(heir).commit_index() >= cluster.raft(heir).term_start().expect("it leads"));
        let stamp_ms = cluster.nodes[&heir].partition().applied_stamp_ms();
        assert!(stamp_ms.abs_diff(cluster.wall_ms) <= 500 + 100, "{count} nodes, {skew_ms}: {stamp_ms}");
        assert_eq!(cluster.run(heir, 2, "GET k"), "v");
    }
}
