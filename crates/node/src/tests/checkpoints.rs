//! Guards checkpoints and snapshots: what a node forgets of its log it has in a checkpoint; what a peer sends becomes state only if it is
//! whole, understood and durable.

use keypact_coordination::raft::{self, Body};
use keypact_log::CheckpointMeta;
use keypact_protocol::{NodeId, SnapshotChunk};

use super::cluster::{Cluster, Fate, Packet};
use crate::{CATALOG, DEFAULT, NodeInput, PeerMessage, Reads};

fn small(count: u64) -> Cluster {
    Cluster::with(count, |config| {
        config.reads = Reads::Lease;
        config.value_limit_bytes = 64 * 1024;
        config.checkpoint_after_bytes = 64 * 1024;
        config.tail_limit_bytes = 512 * 1024;
    })
}

fn fill(cluster: &mut Cluster, node: u64, from: u64, count: u64) {
    let value = "v".repeat(8_000);
    for key in from..from + count {
        assert_eq!(cluster.run(node, 5, &format!("SET k{key} {value}")), "+OK");
    }
}

fn state(cluster: &Cluster, id: u64) -> (u64, u64) {
    let partition = cluster.nodes[&id].partition();
    (partition.applied_index(), partition.state_hash())
}

#[test]
fn a_node_comes_back_from_checkpoint_and_log() {
    let mut cluster = small(1);
    // More than one chunk.
    fill(&mut cluster, 1, 0, 60);
    assert!(cluster.nodes[&1].counters().checkpoints > 0);
    assert!(cluster.worlds[&1].checkpoints[&DEFAULT].1.len() > 1);
    assert_eq!(cluster.run(1, 5, "INCR n"), ":1");
    let before = state(&cluster, 1);
    cluster.crash(1, true);
    cluster.start(1);
    cluster.until(|cluster| cluster.leader().is_some());
    assert_eq!(cluster.run(1, 6, "GET n"), "1");
    assert_eq!(state(&cluster, 1).1, before.1);
    assert_eq!(cluster.run(1, 6, "INCR n"), ":2", "nothing is applied twice");
}

/// Commands go on while a checkpoint is written, and are in the log behind it.
#[test]
fn writes_go_on_during_a_checkpoint() {
    let mut cluster = small(1);
    cluster.worlds.get_mut(&1).expect("node 1").checkpoints_hang = true;
    fill(&mut cluster, 1, 0, 12);
    assert_eq!(cluster.nodes[&1].counters().checkpoints, 1);
    assert_eq!(cluster.run(1, 5, "INCR n"), ":1");
    cluster.worlds.get_mut(&1).expect("node 1").checkpoints_hang = false;
    cluster.settle();
    assert_eq!(cluster.run(1, 5, "INCR n"), ":2");
    cluster.crash(1, true);
    cluster.start(1);
    cluster.until(|cluster| cluster.leader().is_some());
    assert_eq!(cluster.run(1, 6, "GET n"), "2");
}

/// A crash during a checkpoint leaves the one before, and the log since.
#[test]
fn a_crash_during_a_checkpoint_loses_nothing() {
    let mut cluster = small(1);
    fill(&mut cluster, 1, 0, 12);
    cluster.worlds.get_mut(&1).expect("node 1").checkpoints_hang = true;
    fill(&mut cluster, 1, 100, 12);
    assert_eq!(cluster.nodes[&1].counters().checkpoints, 2);
    let before = state(&cluster, 1);
    cluster.crash(1, true);
    cluster.start(1);
    cluster.until(|cluster| cluster.leader().is_some());
    cluster.settle();
    assert_eq!(state(&cluster, 1).1, before.1);
}

/// A node asked for a shorter log: each group checkpoints or appends anew what it needs, and old records are dropped.
#[test]
fn a_long_log_is_made_short() {
    let mut cluster = small(1);
    assert_eq!(cluster.run(1, 5, "SET a 1"), "+OK");
    let before = cluster.worlds[&1].dropped_before;
    for _ in 0..2 {
        cluster.inputs(1, vec![NodeInput::LogLong(CATALOG), NodeInput::LogLong(DEFAULT)]);
        cluster.settle();
    }
    assert!(cluster.worlds[&1].dropped_before > before);
    assert!(cluster.raft(1).tail().is_empty());
    cluster.crash(1, true);
    cluster.start(1);
    cluster.until(|cluster| cluster.leader().is_some());
    assert_eq!(cluster.run(1, 6, "GET a"), "1");
}

/// The leader has forgotten what a peer lacks: it sends its checkpoint, and the peer goes on from there, also after a restart.
fn lag(cluster: &mut Cluster) -> (u64, u64) {
    let (leader, lagging) = cluster.pair();
    cluster.network(
        move |packet| {
            if packet.from == lagging || packet.to == lagging { Fate::Lost } else { Fate::Arrives }
        },
    );
    fill(cluster, leader, 0, 60);
    assert!(cluster.raft(leader).tail().base().index > cluster.raft(lagging).last().index);
    (leader, lagging)
}

#[test]
fn a_lagging_node_installs_a_snapshot() {
    let mut cluster = small(3);
    let (leader, lagging) = lag(&mut cluster);
    cluster.network_heals();
    cluster.until(|cluster| state(cluster, lagging) == state(cluster, leader));
    assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 1);
    cluster.crash(lagging, true);
    cluster.start(lagging);
    cluster.until(|cluster| state(cluster, lagging) == state(cluster, leader));
    assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 0, "it has it on disk");
}

fn chunk_of(message: &mut PeerMessage) -> Option<&mut SnapshotChunk> {
    match message {
        PeerMessage::Group { message: raft::Message { body: Body::Snapshot { chunk }, .. }, .. } => {
            Some(chunk)
        }
        _ => None,
    }
}

/// A chunk that is not understood changes nothing, and the next attempt succeeds.
#[test]
fn a_bad_chunk_fails_the_install_and_no_more() {
    for bad_chunk in [0, 1] {
        let mut cluster = small(3);
        let (leader, lagging) = lag(&mut cluster);
        cluster.network(move |packet| {
            let mut message = packet.message.clone();
            let is_chunk = chunk_of(&mut message).is_some_and(|chunk| chunk.chunk == bad_chunk);
            if is_chunk && packet.to == lagging { Fate::Waits } else { Fate::Arrives }
        });
        cluster.until(|cluster| !cluster.waiting.is_empty());
        let mut packet = cluster.waiting.remove(0);
        let chunk = chunk_of(&mut packet.message).expect("only chunks wait");
        chunk.bytes = bytes::Bytes::from_static(b"nonsense");
        let before = state(&cluster, lagging);
        cluster.deliver(packet);
        assert_eq!(state(&cluster, lagging), before);
        assert!(cluster.nodes[&lagging].replicas[1].install.is_none(), "given up");
        cluster.waiting.clear();
        cluster.network_heals();
        cluster.until(|cluster| state(cluster, lagging) == state(cluster, leader));
        assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 1);
    }
}

/// A node whose disk takes no checkpoints lacks so much that it needs a snapshot: which node, and the first chunk on its way to it.
fn snapshot_for_a_hanging_disk(cluster: &mut Cluster) -> (u64, Packet) {
    let (leader, lagging) = cluster.pair();
    cluster.network(
        move |packet| {
            if packet.from == lagging || packet.to == lagging { Fate::Lost } else { Fate::Arrives }
        },
    );
    let value = "v".repeat(8_000);
    for _ in 0..12 {
        assert_eq!(cluster.run(leader, 5, &format!("SET a {value}")), "+OK");
    }
    cluster.worlds.get_mut(&lagging).expect("it has a folder").checkpoints_hang = true;
    cluster.network(move |packet| {
        let mut message = packet.message.clone();
        match chunk_of(&mut message) {
            Some(_) if packet.to == lagging => Fate::Waits,
            _ => Fate::Arrives,
        }
    });
    cluster.until(|cluster| !cluster.waiting.is_empty());
    (lagging, cluster.waiting.remove(0))
}

/// The first chunk of another checkpoint, with the same beginning and another stamp, of which more is to come.
fn beginning_of_an_earlier(packet: &Packet, earlier_ms: u64) -> Packet {
    let mut other = packet.clone();
    let chunk = chunk_of(&mut other.message).expect("only chunks wait");
    chunk.last = false;
    let (meta, members) = CheckpointMeta::decode_with(&chunk.meta).expect("a sender's meta");
    chunk.meta = CheckpointMeta { stamp_ms: meta.stamp_ms - earlier_ms, ..meta }.encode_with(&members);
    other
}

/// The disk's answer about a chunk of an abandoned snapshot must not be taken for the answer about the next one's: that one would become
/// state before it is durable.
#[test]
fn a_late_answer_of_an_abandoned_snapshot_installs_nothing() {
    let mut cluster = small(3);
    let (lagging, mut second) = snapshot_for_a_hanging_disk(&mut cluster);
    assert!(chunk_of(&mut second.message).is_some_and(|chunk| chunk.last), "the checkpoint is small");
    cluster.deliver(beginning_of_an_earlier(&second, 1));
    cluster.deliver(second);
    cluster.input(lagging, NodeInput::IncomingTaken { group: DEFAULT, chunk: 0 });
    assert!(cluster.nodes[&lagging].replicas[1].install.is_some(), "the second is under way");
    assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 0, "the answer was about the first");
    cluster.input(lagging, NodeInput::IncomingTaken { group: DEFAULT, chunk: 0 });
    assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 1);
    assert_eq!(cluster.raft(lagging).delivered_index(), state(&cluster, lagging).0);
}

/// While the disk takes nothing, each new checkpoint of the leader makes the snapshot begin anew. Guards the disk's queue, which is short,
/// and the answers: those about abandoned snapshots must not be taken for others'.
#[test]
fn snapshots_that_begin_anew_are_few_while_the_disk_hangs() {
    let mut cluster = small(3);
    let (lagging, real) = snapshot_for_a_hanging_disk(&mut cluster);
    let leader = cluster.leader().expect("it sent the snapshot");
    for earlier_ms in (1..=300).rev() {
        cluster.deliver(beginning_of_an_earlier(&real, earlier_ms));
    }
    let owed = cluster.worlds[&lagging].owed_answers();
    assert!((2..=10).contains(&owed), "the disk owes {owed} answers");
    cluster.worlds.get_mut(&lagging).expect("it has a folder").checkpoints_hang = false;
    cluster.network_heals();
    cluster.until(|cluster| state(cluster, lagging) == state(cluster, leader));
    assert_eq!(cluster.nodes[&lagging].counters().snapshots_installed, 1);
    assert_eq!(cluster.nodes[&lagging].replicas[1].stale_first_chunks, 0);
}

/// Answers about groups and checkpoints that are not there are passed over.
#[test]
fn answers_about_nothing_are_passed_over() {
    let mut cluster = small(1);
    let unknown = keypact_protocol::GroupId(99);
    for group in [unknown, DEFAULT] {
        cluster.input(1, NodeInput::CheckpointChunkWanted(group));
        cluster.input(1, NodeInput::Checkpointed(group));
        cluster.input(1, NodeInput::CheckpointRead { group, to: NodeId(2), chunk: None });
        cluster.input(1, NodeInput::IncomingTaken { group, chunk: 0 });
    }
    cluster.input(1, NodeInput::LogLong(unknown));
    cluster.settle();
    assert_eq!(cluster.run(1, 1, "INCR n"), ":1");
}
