//! Guards `KEYS` in slices: it sees the moment of its place in the connection, other commands go on meanwhile, and it is answered once.

use super::cluster::{Asked, Cluster};
use crate::{NodeInput, SessionId};

const KEYS: usize = 40;

/// A leader that has many keys, looks at few of them at once, and has not been given time for a second slice.
fn with_many_keys() -> (Cluster, u64) {
    let mut cluster = Cluster::with(3, |config| config.keys_at_once = 1);
    let (leader, _) = cluster.pair();
    for key in 0..KEYS {
        assert_eq!(cluster.run(leader, 1, &format!("SET key:{key} v")), "+OK");
    }
    (cluster, leader)
}

/// Lets time pass until it is answered; how many keys it names.
fn count(cluster: &mut Cluster, asked: Asked) -> usize {
    cluster.until(|cluster| cluster.told(asked) != "nothing");
    cluster.keys_told(asked).expect("a list of keys")
}

#[test]
fn a_listing_is_of_its_place_in_the_connection() {
    let (mut cluster, leader) = with_many_keys();
    let first = cluster.ask(leader, 1, "KEYS *");
    let set = cluster.ask(leader, 1, "SET another v");
    let delete = cluster.ask(leader, 1, "DEL key:0 key:1 key:2");
    let second = cluster.ask(leader, 1, "KEYS key:*");
    cluster.settle();
    assert_eq!(cluster.told(first), "nothing", "it takes several slices");
    assert_eq!([cluster.told(set), cluster.told(delete)], ["+OK", ":3"], "and nobody waits for them");
    assert_eq!(count(&mut cluster, first), KEYS, "as before the writes behind it");
    assert_eq!(count(&mut cluster, second), KEYS - 3);
}

#[test]
fn flushing_does_not_change_what_a_listing_saw() {
    let (mut cluster, leader) = with_many_keys();
    let listing = cluster.ask(leader, 1, "KEYS *");
    assert_eq!(cluster.run(leader, 2, "FLUSHALL"), "+OK");
    assert_eq!(count(&mut cluster, listing), KEYS);
    assert_eq!(cluster.run(leader, 2, "DBSIZE"), ":0");
}

#[test]
fn too_many_listings_are_refused() {
    let (mut cluster, leader) = with_many_keys();
    let asked: Vec<_> = (0..6).map(|session| cluster.ask(leader, session, "KEYS *")).collect();
    cluster.settle();
    let refused = asked.iter().filter(|one| cluster.told(**one) == "-TRYAGAIN").count();
    assert_eq!(refused, 2);
    for one in &asked[..4] {
        assert_eq!(count(&mut cluster, *one), KEYS);
    }
}

/// A client of another node asks; its connection ends before the answer.
#[test]
fn an_answer_that_nobody_waits_for_is_dropped() {
    let (mut cluster, leader) = with_many_keys();
    let listing = cluster.ask(leader, 1, "KEYS *");
    cluster.settle();
    cluster.input(leader, NodeInput::SessionClosed(SessionId(1)));
    cluster.advance(1_000);
    assert_eq!(cluster.told(listing), "nothing");
    assert!(!cluster.nodes[&leader].partition().is_listing());
}

#[test]
fn a_snapshot_ends_listings_with_an_error() {
    let mut cluster = Cluster::with(3, |config| {
        config.keys_at_once = 1;
        config.value_limit_bytes = 64 * 1024;
        config.checkpoint_after_bytes = 64 * 1024;
        config.tail_limit_bytes = 512 * 1024;
    });
    let (leader, other) = cluster.pair();
    for key in 0..KEYS {
        assert_eq!(cluster.run(leader, 1, &format!("SET key:{key} v")), "+OK");
    }
    let listing = cluster.ask(leader, 1, "KEYS *");
    cluster.settle();
    // The leader stands still; the others go on without it, and forget the log that it lacks.
    cluster.paused.insert(leader);
    cluster.until(|cluster| cluster.leader().is_some_and(|newer| newer != leader));
    let value = "v".repeat(8_000);
    for key in 0..100 {
        assert_eq!(cluster.run(other, 2, &format!("SET more:{key} {value}")), "+OK");
    }
    assert_eq!(cluster.told(listing), "nothing");
    // It hears of all that before its time goes on.
    cluster.paused.clear();
    cluster.settle();
    assert_eq!(cluster.nodes[&leader].counters().snapshots_installed, 1);
    assert_eq!(cluster.told(listing), "-CLUSTERDOWN");
}
