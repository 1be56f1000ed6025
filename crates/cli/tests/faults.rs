//! Real processes and real files under faults: killed for long, killed together, paused, killed in the middle of a snapshot.
//!
//! Clients are those of `keypact demo`, and its checker judges what they were told. Every wait is for a condition.

#[allow(dead_code, unreachable_pub, reason = "the demo's clients; a test uses its part")]
#[path = "../src/load/mod.rs"]
mod load;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use keypact_checker::report::Judgement;
use keypact_checker::{History, Limits, ModelKind, Value as Kept, check_history};
use keypact_client::{Outcome, Value};
use load::{Load, Promised};
use rustix::process::Signal;
use support::nodes::Nodes;
use support::{bulk, eventually};

/// A log of which little is kept, so that whoever is away for a moment needs a snapshot. All keys of the configuration file.
const SHORT_LOG: [(&str, u64); 6] = [
    ("value_limit_bytes", 16 << 10),
    ("checkpoint_after_bytes", 64 << 10),
    ("tail_limit_bytes", 512 << 10),
    ("frame_bytes", 4 << 20),
    ("segment_bytes", 64 << 10),
    ("log_bytes", 256 << 10),
];

/// Names of checkpoints of group `default` begin so.
const CHECKPOINT: &str = "checkpoint-0000000000000002-";

/// Pipelined writes of keys `prefix-N`, each with a value of `bytes` bytes that begins with the key, until all are acknowledged: whoever
/// writes faster than checkpoints can be made is told to try again.
fn fill(nodes: &Nodes, index: usize, prefix: &str, keys: usize, bytes: usize) {
    const AT_ONCE: usize = 16;
    let mut connection = nodes.connect(index);
    let mut left: Vec<usize> = (0..keys).rev().collect();
    let mut write = |left: &mut Vec<usize>| {
        let batch = left.split_off(left.len().saturating_sub(AT_ONCE));
        for number in &batch {
            let key = format!("{prefix}-{number}");
            connection
                .send(&[b"SET", key.as_bytes(), value_of(&key, bytes).as_bytes()])
                .expect("the node serves");
        }
        connection.flush().expect("the node serves");
        for number in batch {
            let told = connection.receive();
            match Outcome::of_call(&told) {
                Outcome::Applied => assert_eq!(told.expect("the node serves"), Value::ok()),
                Outcome::NotApplied => left.push(number),
                Outcome::Uncertain => panic!("{prefix}-{number}: {told:?}"),
            }
        }
    };
    eventually("all is written", || {
        for _ in 0..64 {
            write(&mut left);
        }
        left.is_empty()
    });
}

fn value_of(key: &str, bytes: usize) -> String {
    format!("{key:.<bytes$}")
}

/// What [`fill`] wrote is there, as this node says.
fn check_filled(nodes: &Nodes, index: usize, prefix: &str, keys: usize, bytes: usize) {
    let mut connection = nodes.connect(index);
    for number in 0..keys {
        let key = format!("{prefix}-{number}");
        let found = connection.call(&[b"GET", key.as_bytes()]).expect("the node serves");
        assert_eq!(found, bulk(&value_of(&key, bytes)), "{key} at node {}", index + 1);
    }
}

/// Runs clients on all nodes while `disturb` does its work; then everything they were told must be explainable, and every acknowledged
/// write must be there.
fn judged(nodes: &mut Nodes, clients: usize, disturb: impl FnOnce(&mut Nodes, &Load)) {
    let load = Load::new(nodes.addresses(), None, 120_000);
    let recorded: Vec<_> = std::thread::scope(|scope| {
        let load = &load;
        let client = |index: usize| scope.spawn(move || load.client(index, 0x5EED << index));
        let running: Vec<_> = (0..clients).map(client).collect();
        disturb(nodes, load);
        load.stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|client| client.join().expect("a client ends well")).collect()
    });
    let mut promised = Promised::default();
    let mut operations = Vec::new();
    for client in recorded {
        promised.add(client.promised);
        operations.extend(client.operations);
    }
    let keys: BTreeSet<String> = operations.iter().map(|operation| operation.key.to_string()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let mut found: BTreeMap<String, Kept> = BTreeMap::new();
    eventually("all keys are read back", || {
        let Some((read, reads)) = (0..3).find_map(|node| load.read_back(node, &keys).ok()) else {
            return false;
        };
        found = read;
        operations.extend(reads);
        true
    });
    assert_eq!(promised.lost(&found), 0, "acknowledged writes are there");
    let history = History::merge(operations).expect("the history makes sense");
    let limits = Limits { time: Some(Duration::from_secs(60)), ..Limits::default() };
    let report = check_history(&history, &ModelKind::Kv, &Kept::Nil, &limits).expect("known answers");
    let violation = report.violation.map(|violation| violation.text);
    assert_eq!(report.verdict, Judgement::Linearizable, "{violation:?}");
}

/// Waits until the clients have begun so many operations more, and written something meanwhile.
fn go_on(load: &Load, operations: u64) {
    let (before, since_ns) = (load.operations(), load.now_ns());
    eventually("clients go on", || {
        load.operations() >= before + operations && load.last_write_ns() > since_ns
    });
}

/// A node is killed, and stays away while the others write far more than they keep of their logs: it needs a snapshot, and then is one
/// of a majority again, with all the data. Guards the way of a snapshot from file to file, and its hand-over to entries.
#[test]
fn a_node_that_was_away_for_long_gets_a_snapshot_and_serves_again() {
    let mut nodes = Nodes::start("away", &SHORT_LOG);
    fill(&nodes, 0, "before", 64, 200);
    let leader = nodes.leader_among(&[0, 1, 2]);
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.kill(away);
    fill(&nodes, leader, "during", 2_000, 500);
    assert!(nodes.metric(leader, "checkpoints_total") >= 3, "the log was cut meanwhile");

    // Reads of this node tell what it has itself.
    nodes.set(away, "reads", "\"stale\"");
    nodes.begin(away);
    eventually("it has caught up", || {
        nodes.group(away, "applied").is_some_and(|applied| Some(applied) == nodes.group(leader, "commit"))
    });
    assert!(nodes.metric(away, "snapshots_installed_total") >= 1, "by a snapshot");
    check_filled(&nodes, away, "before", 64, 200);
    check_filled(&nodes, away, "during", 2_000, 500);

    nodes.kill(leader);
    let next = nodes.leader_among(&[away, other]);
    fill(&nodes, next, "after", 64, 200);
    eventually("it follows, or leads", || nodes.metric(away, "keys") == 64 + 2_000 + 64);
    check_filled(&nodes, away, "after", 64, 200);
    nodes.stop();
}

/// All nodes are killed at once, long after their first checkpoints: what each recovers is a checkpoint and the log behind it.
#[test]
fn all_are_killed_and_recover_from_checkpoint_and_log() {
    let mut nodes = Nodes::start("together", &SHORT_LOG);
    judged(&mut nodes, 8, |nodes, load| {
        fill(nodes, 0, "early", 1_000, 500);
        eventually("each has a checkpoint", || {
            (0..3).all(|index| !nodes.files(index, CHECKPOINT, ".snap").is_empty())
        });
        go_on(load, 500);
        (0..3).for_each(|index| nodes.kill(index));
        (0..3).for_each(|index| nodes.begin(index));
        go_on(load, 500);
    });
    for index in 0..3 {
        let said = nodes.said(index);
        let lives: Vec<&str> = said.lines().filter(|line| line.contains("recovered from")).collect();
        assert_eq!(lives.len(), 2, "{said}");
        let records = lives[1].split("records=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let records: u64 = records.and_then(|number| number.parse().ok()).expect("it tells how many");
        assert!(records > 0, "some of it was in the log: {}", lives[1]);
        check_filled(&nodes, index, "early", 1_000, 500);
    }
    nodes.stop();
}

/// The leader sleeps (SIGSTOP) for longer than its lease and an election, with reads waiting in its sockets; others write meanwhile. When
/// it wakes, what it answers must not be from its memory. Guards the lease against pauses, by real clocks.
#[test]
fn a_paused_leader_answers_no_stale_read() {
    let mut nodes = Nodes::start("paused", &[]);
    let leader = nodes.leader_among(&[0, 1, 2]);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    judged(&mut nodes, 8, |nodes, load| {
        fill(nodes, leader, "old", 50, 100);
        let mut asking: Vec<_> = (0..50).map(|_| nodes.connect(leader)).collect();
        go_on(load, 500);
        nodes.send(leader, Signal::STOP);
        // These lie in its sockets until it wakes.
        for (number, connection) in asking.iter_mut().enumerate() {
            connection.send(&[b"GET", format!("old-{number}").as_bytes()]).unwrap();
            connection.flush().unwrap();
        }
        let next = nodes.leader_among(&others);
        let mut writing = nodes.connect(next);
        for number in 0..50 {
            let key = format!("old-{number}");
            assert_eq!(writing.call(&[b"SET", key.as_bytes(), b"new"]).unwrap(), Value::ok());
        }
        nodes.send(leader, Signal::CONT);
        for (number, connection) in asking.iter_mut().enumerate() {
            let told = connection.receive();
            let fresh = matches!(&told, Ok(value) if *value == bulk("new"));
            assert!(fresh || Outcome::of_call(&told) != Outcome::Applied, "old-{number}: {told:?}");
        }
        eventually("it knows that another leads", || nodes.group(leader, "leader") == Some(next as u64 + 1));
        go_on(load, 500);
    });
    nodes.stop();
}

/// A node is killed while it receives a snapshot, and again, with the sender instead, while it receives the next. Half a snapshot must
/// leave nothing behind that a start would take for a checkpoint.
#[test]
fn a_snapshot_is_interrupted_by_the_death_of_either_end() {
    let mut nodes = Nodes::start("halfway", &SHORT_LOG);
    let leader = nodes.leader_among(&[0, 1, 2]);
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.kill(away);
    fill(&nodes, leader, "big", 800, 4_000);
    // 3 MB in so small portions that a snapshot can be caught in the middle.
    nodes.set(away, "checkpoint_bytes_per_second", &(1_u64 << 20).to_string());
    nodes.set(away, "reads", "\"stale\"");

    let is_halfway = |nodes: &Nodes| {
        let lengths = nodes.files(away, CHECKPOINT, ".tmp").into_iter().map(std::fs::metadata);
        lengths.flatten().any(|file| file.len() > 300_000)
    };
    nodes.begin(away);
    eventually("a snapshot comes in", || is_halfway(&nodes));
    nodes.kill(away);
    assert!(nodes.files(away, CHECKPOINT, ".snap").is_empty(), "half a snapshot is no checkpoint");

    nodes.begin(away);
    eventually("the next comes in", || is_halfway(&nodes));
    nodes.kill(leader);
    assert_eq!(nodes.metric(away, "snapshots_installed_total"), 0, "it was in the middle");
    assert_eq!(nodes.leader_among(&[other, away]), other, "who lacks entries is not elected");
    fill(&nodes, other, "more", 50, 100);
    eventually("the new leader's snapshot is installed", || {
        nodes.metric(away, "keys") == 850 && nodes.metric(away, "snapshots_installed_total") >= 1
    });
    check_filled(&nodes, away, "big", 800, 4_000);
    nodes.begin(leader);
    eventually("all have everything", || {
        let applied: BTreeSet<_> = (0..3).map(|index| nodes.group(index, "applied")).collect();
        applied.len() == 1 && !applied.contains(&None)
    });
    check_filled(&nodes, leader, "more", 50, 100);
    nodes.stop();
}
