//! Guards the order of one connection: commands take effect in the order in which they were asked, wherever they are carried out, and
//! each is answered once with the truth about what happened to it.

use super::cluster::{Asked, Cluster, Fate, Packet, is_forward, is_forward_reply};
use crate::Reads;

/// Where a story's client is connected: to the leader or to another node.
fn places() -> impl Iterator<Item = (Cluster, u64)> {
    let levels = [Reads::Lease, Reads::ReadIndex];
    levels.into_iter().flat_map(|reads| {
        [true, false].into_iter().map(move |at_leader| {
            let cluster = Cluster::new(3, reads);
            let (leader, other) = cluster.pair();
            (cluster, if at_leader { leader } else { other })
        })
    })
}

fn ask_all(cluster: &mut Cluster, node: u64, session: u64, texts: &[&str]) -> Vec<Asked> {
    texts.iter().map(|text| cluster.ask(node, session, text)).collect()
}

fn told(cluster: &Cluster, asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|one| cluster.told(*one)).collect()
}

/// What nodes say of commands passes; what replicas say to each other is lost.
fn only_commands(packet: &Packet) -> Fate {
    if is_forward(packet) || is_forward_reply(packet) { Fate::Arrives } else { Fate::Lost }
}

/// The leader of the story is cut off from its peers' replicas, but not from the commands that they forward.
fn cut_replicas_of(cluster: &mut Cluster, leader: u64) {
    cluster.network(move |packet| {
        let touches = packet.from == leader || packet.to == leader;
        if touches { only_commands(packet) } else { Fate::Arrives }
    });
}

#[test]
fn what_is_set_is_read_at_every_node() {
    for (mut cluster, node) in places() {
        assert_eq!(cluster.run(node, 1, "SET a 1"), "+OK");
        assert_eq!(cluster.run(node, 1, "GET a"), "1");
        for id in 1..=3 {
            assert_eq!(cluster.run(id, 7, "GET a"), "1", "node {id} answers any key");
        }
    }
}

#[test]
fn a_pipeline_takes_effect_in_its_order() {
    for (mut cluster, node) in places() {
        let texts =
            ["GET a", "SET a 1", "GET a", "APPEND a 2", "GET a", "DEL a", "GET a", "SET a 3", "GET a"];
        let asked = ask_all(&mut cluster, node, 1, &texts);
        cluster.settle();
        assert_eq!(told(&cluster, &asked), ["_", "+OK", "1", ":2", "12", ":1", "_", "+OK", "3"]);
    }
}

#[test]
fn a_read_after_an_own_write_needs_no_confirmation() {
    let mut cluster = Cluster::new(3, Reads::ReadIndex);
    let (leader, _) = cluster.pair();
    let asked = ask_all(&mut cluster, leader, 1, &["SET a 1", "GET a"]);
    cluster.settle();
    assert_eq!(told(&cluster, &asked), ["+OK", "1"]);
    assert_eq!(cluster.nodes[&leader].counters().reads_after_own_write, 1);
    assert_eq!(cluster.raft(leader).counters().index_reads, 0, "the write's commit proved that it still led");
}

#[test]
fn a_write_waits_for_the_unconfirmed_read_before_it() {
    let mut cluster = Cluster::new(3, Reads::ReadIndex);
    let (leader, _) = cluster.pair();
    let last = cluster.raft(leader).last().index;
    let asked = ask_all(&mut cluster, leader, 1, &["GET a", "SET a 1"]);
    assert_eq!(cluster.raft(leader).last().index, last, "the write is not in the log yet");
    cluster.settle();
    assert_eq!(told(&cluster, &asked), ["_", "+OK"]);
    assert_eq!(cluster.nodes[&leader].counters().writes_after_own_read, 1);
}

/// What a batch's flush sets free is sent in the same batch: nothing else may come for a long time.
#[test]
fn what_becomes_free_in_a_flush_is_sent_in_it() {
    let mut cluster = Cluster::new(1, Reads::ReadIndex);
    let asked = ask_all(&mut cluster, 1, 1, &["GET a", "SET a 1", "GET a"]);
    cluster.settle();
    assert_eq!(told(&cluster, &asked), ["_", "+OK", "1"]);
}

/// The leader is lost with writes in its log: they are uncertain, once; reads behind the last of them are asked again of the new leader.
#[test]
fn a_lost_leader_leaves_writes_uncertain_and_reads_are_asked_again() {
    for (mut cluster, node) in places() {
        let leader = cluster.leader().expect("someone leads");
        assert_eq!(cluster.run(node, 1, "SET a 0"), "+OK");
        cut_replicas_of(&mut cluster, leader);
        let asked = ask_all(&mut cluster, node, 1, &["INCR a", "INCR a", "GET a"]);
        cluster.settle();
        assert_eq!(told(&cluster, &asked), ["nothing", "nothing", "nothing"]);
        cluster.until(|cluster| cluster.leader() != Some(leader) && cluster.leader().is_some());
        cluster.network_heals();
        let answers = cluster.until_told(&asked);
        assert_eq!(answers, ["-UNCERTAIN", "-UNCERTAIN", "0"]);
        let last = cluster.ask(node, 1, "INCR a");
        assert_eq!(cluster.until_told(&[last]), [":1"], "what was lost was not sent again");
    }
}

/// A read between two writes of a lost leader can neither be answered in its order nor take what follows it along: that would carry out an
/// uncertain write twice.
#[test]
fn a_read_between_uncertain_writes_is_refused_and_takes_nothing_along() {
    for (mut cluster, node) in places() {
        let leader = cluster.leader().expect("someone leads");
        cut_replicas_of(&mut cluster, leader);
        let asked = ask_all(&mut cluster, node, 1, &["INCR a", "GET a", "INCR a", "GET a", "INCR a"]);
        cluster.settle();
        cluster.until(|cluster| cluster.leader() != Some(leader) && cluster.leader().is_some());
        cluster.network_heals();
        let answers = cluster.until_told(&asked);
        let expected = ["-UNCERTAIN", "-CLUSTERDOWN", "-UNCERTAIN", "-CLUSTERDOWN", "-UNCERTAIN"];
        assert_eq!(answers, expected, "client at node {node}, leader {leader}");
        let last = cluster.ask(node, 1, "GET a");
        assert_eq!(cluster.until_told(&[last]), ["_"], "nothing was applied, nothing was sent again");
    }
}

/// An unconfirmed read of a deposed leader, and the write behind it, go to the new leader in their order.
#[test]
fn a_deposed_leaders_unconfirmed_read_and_what_follows_start_anew() {
    for (mut cluster, node) in places() {
        if cluster.configs[&1].reads == Reads::Lease {
            // By lease the read would be answered at once.
            continue;
        }
        let leader = cluster.leader().expect("someone leads");
        cut_replicas_of(&mut cluster, leader);
        let asked = ask_all(&mut cluster, node, 1, &["GET a", "INCR a", "GET a", "INCR a"]);
        cluster.until(|cluster| cluster.leader() != Some(leader) && cluster.leader().is_some());
        cluster.network_heals();
        assert_eq!(cluster.until_told(&asked), ["_", ":1", "1", ":2"]);
    }
}

/// A connection's node becomes leader, and later follows another: its commands change between here and there in order.
#[test]
fn a_connection_outlives_changes_of_the_leader() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let mut expected = 0;
    for _ in 0..4 {
        let leader = cluster.leader().expect("someone leads");
        for id in 1..=3 {
            expected += 1;
            assert_eq!(cluster.run(id, 1, "INCR n"), format!(":{expected}"));
        }
        cluster.network(move |packet| {
            if packet.from == leader || packet.to == leader { Fate::Lost } else { Fate::Arrives }
        });
        cluster.until(|cluster| cluster.leader().is_some_and(|now| now != leader));
        cluster.network_heals();
        cluster.until(|cluster| {
            let now = cluster.leader().map(keypact_protocol::NodeId);
            cluster.nodes.keys().all(|id| cluster.raft(*id).leader() == now)
        });
    }
}
