//! Guards what happens at limits: commands beyond them are refused with "not applied", once, and nothing goes round in circles.

use keypact_protocol::{NodeId, Wire};

use super::cluster::{Asked, Cluster, Fate, encoded};
use crate::{NodeInput, PeerMessage, Reads};

#[test]
fn commands_beyond_a_connections_limit_are_refused() {
    let mut cluster = Cluster::with(3, |config| config.session_limit = 3);
    for node in [cluster.pair().0, cluster.pair().1] {
        let asked: Vec<Asked> = (0..5).map(|_| cluster.ask(node, 1, "INCR n")).collect();
        assert_eq!(cluster.told(asked[3]), "-TRYAGAIN");
        assert_eq!(cluster.told(asked[4]), "-TRYAGAIN");
        cluster.settle();
        assert!(asked[..3].iter().all(|one| cluster.told(*one).starts_with(':')));
        assert!(cluster.run(node, 1, "INCR n").starts_with(':'), "there is room again");
    }
    assert_eq!(cluster.run(1, 2, "GET n"), "8");
}

#[test]
fn without_a_leader_commands_are_held_and_then_refused() {
    let mut cluster = Cluster::with(3, |config| config.hold_ms = 2_000);
    let (leader, other) = cluster.pair();
    cluster.network(|_| Fate::Lost);
    cluster.until(|cluster| cluster.leader().is_none() && cluster.raft(other).leader().is_none());
    let early = [cluster.ask(other, 1, "INCR n"), cluster.ask(leader, 1, "GET n")];
    cluster.advance(1_900);
    assert_eq!(early.map(|one| cluster.told(one)), ["nothing", "nothing"]);
    let late = cluster.ask(other, 1, "INCR n");
    cluster.advance(200);
    assert_eq!(early.map(|one| cluster.told(one)), ["-CLUSTERDOWN", "-CLUSTERDOWN"]);
    assert_eq!(cluster.told(late), "nothing", "each has its own time");
    cluster.network_heals();
    assert_eq!(cluster.until_told(&[late]), [":1"], "a leader came in time");
}

/// A full tail refuses writes; what is refused is not applied.
#[test]
fn a_full_log_refuses_writes() {
    let mut cluster = small_tail();
    fill_tail(&mut cluster);
    let before = cluster.nodes[&1].partition().state_hash();
    assert_eq!(cluster.run(1, 1, "INCR n"), "-TRYAGAIN");
    assert_eq!(cluster.nodes[&1].partition().state_hash(), before);
    assert_eq!(cluster.nodes[&1].counters().overloaded, 1, "counted once");
    assert_eq!(cluster.run(1, 1, "GET n"), "_", "reads go on");
}

/// A tick has no room in a full tail: its read is refused, and does not try for ever.
#[test]
fn a_tick_without_room_ends() {
    let mut cluster = small_tail();
    let first_ms = cluster.wall_ms + 500_000;
    for at in 0..4 {
        assert_eq!(cluster.run(1, 1, &format!("SET a{at} 1 PXAT {}", first_ms + at)), "+OK");
    }
    fill_tail(&mut cluster);
    // Ticks are so short that some may still find room.
    let mut answers = Vec::new();
    for at in 0..4 {
        cluster.wall_ms = first_ms + at;
        answers.push(cluster.run(1, 1, &format!("GET a{at}")));
    }
    assert_eq!(answers[3], "-TRYAGAIN");
    assert!(answers.iter().all(|answer| answer == "_" || answer == "-TRYAGAIN"), "{answers:?}");
    assert_eq!(cluster.run(1, 2, "GET b"), "_", "reads that need no tick go on");
}

fn small_tail() -> Cluster {
    Cluster::with(1, |config| {
        config.reads = Reads::Lease;
        config.value_limit_bytes = 1_000;
        config.checkpoint_after_bytes = 100_000;
        config.tail_limit_bytes = 262_144;
    })
}

/// No checkpoint is ever durable, so that the tail stays full.
fn fill_tail(cluster: &mut Cluster) {
    cluster.worlds.get_mut(&1).expect("node 1").checkpoints_hang = true;
    let value = "x".repeat(10_000);
    while cluster.run(1, 9, &format!("SET filler {value}")) == "+OK" {}
    while cluster.run(1, 9, "SET filler x") == "+OK" {}
    while cluster.run(1, 9, "DEL f") == ":0" {}
    let overloaded = cluster.nodes.get_mut(&1).expect("node 1");
    overloaded.counters.overloaded = 0;
}

#[test]
fn a_command_larger_than_the_limit_is_refused() {
    let mut cluster = small_tail();
    let value = "x".repeat(80_000);
    assert_eq!(cluster.run(1, 1, &format!("SET a {value}")), "-ERR");
    assert_eq!(cluster.run(1, 1, "GET a"), "_");
}

/// More answers to heartbeats in one batch than fit in a message travel in several.
#[test]
fn many_heartbeats_are_split() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    let mut heartbeats = None;
    cluster.network(|packet| match packet.message {
        PeerMessage::Heartbeats { .. } => Fate::Waits,
        _ => Fate::Arrives,
    });
    cluster.advance(100);
    for packet in cluster.waiting.drain(..) {
        if packet.from == leader && packet.to == other {
            heartbeats = Some(packet.message);
        }
    }
    let message = heartbeats.expect("a leader sends heartbeats");
    let input = NodeInput::Peer { from: NodeId(leader), message };
    cluster.inputs(other, vec![input; 5_000]);
    let sent = cluster.waiting.drain(..).filter(|packet| packet.from == other);
    let lengths: Vec<usize> = sent
        .map(|packet| match PeerMessage::decode(encoded(&packet.message)).expect("it was just encoded") {
            PeerMessage::Heartbeats { lines, .. } => lines.len(),
            other => panic!("not {other:?}"),
        })
        .collect();
    assert!(lengths.len() > 1 && lengths.iter().sum::<usize>() >= 5_000, "{lengths:?}");
}
