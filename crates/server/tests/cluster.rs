//! Three nodes: any serves any key, one may go, strangers may not come.

mod common;

use common::{Folder, TestNode, bulk, cluster, cluster_with, http, metric, until};
use keypact_resp::Value;

fn leader(nodes: &[TestNode], among: &[usize]) -> usize {
    until(|| {
        among.iter().copied().find(|&at| {
            let (_, body) = http(&nodes[at].member.http, "/metrics");
            body.contains("keypact_role{role=\"leader\"} 1\n")
        })
    })
}

#[test]
fn any_node_answers_any_key_also_after_the_leader_has_gone() {
    let root = Folder::new();
    let mut nodes = cluster(&root, 3);
    for (at, node) in nodes.iter().enumerate() {
        assert_eq!(node.client().ask_until_served(&format!("SET key{at} value{at}")), Value::ok());
    }
    for node in &nodes {
        let mut client = node.client();
        for at in 0..3 {
            assert_eq!(client.ask_until_served(&format!("GET key{at}")), bulk(&format!("value{at}")));
        }
        // A pipeline through a node that has to forward it stays in order.
        client.send(&["SET p 1", "INCR p", "GET p", "PING", "INCR p", "DEL p"]);
        let replies: Vec<Value> = (0..6).map(|_| client.receive().expect("six replies")).collect();
        let pong = Value::Simple("PONG");
        let expected =
            [Value::ok(), Value::Integer(2), bulk("2"), pong, Value::Integer(3), Value::Integer(1)];
        assert_eq!(replies, expected);
    }

    let gone = leader(&nodes, &[0, 1, 2]);
    nodes[gone].stop().expect("a clean end");
    let left: Vec<usize> = (0..3).filter(|at| *at != gone).collect();
    for &at in &left {
        let mut client = nodes[at].client();
        assert_eq!(client.ask_until_served(&format!("SET later{at} x")), Value::ok());
        assert_eq!(client.ask_until_served("GET key0"), bulk("value0"));
    }
    assert_ne!(leader(&nodes, &left), gone);

    nodes[gone].start();
    let mut client = nodes[gone].client();
    for &at in &left {
        assert_eq!(client.ask_until_served(&format!("GET later{at}")), bulk("x"));
    }
    let applied = |node: &TestNode| metric(node, "keypact_group_applied_index{group=\"default\"}");
    let commit = metric(&nodes[left[0]], "keypact_group_commit_index{group=\"default\"}");
    until(|| (applied(&nodes[gone]) >= commit).then_some(()));
}

#[test]
fn whoever_does_not_know_the_secret_is_cut_off() {
    let root = Folder::new();
    let mut nodes = cluster_with(&root, 3, |identity| {
        if identity.node == 3 {
            identity.secret[0] ^= 1;
        }
    });
    nodes.iter_mut().for_each(TestNode::start);
    // The two that agree are a majority.
    assert_eq!(nodes[0].client().ask_until_served("SET a 1"), Value::ok());
    until(|| metric(&nodes[2], "keypact_peer_cuts_total{reason=\"secret\"}").filter(|count| *count >= 1.0));
    assert_eq!(metric(&nodes[2], "keypact_peer_connects_total"), Some(0.0));
    assert_eq!(http(&nodes[2].member.http, "/ready").0, 503);
    assert_eq!(http(&nodes[2].member.http, "/health").0, 200);
}

#[test]
fn a_member_of_another_cluster_or_earlier_life_is_cut_off() {
    let root = Folder::new();
    let mut nodes = cluster_with(&root, 3, |identity| match identity.node {
        // It knows node 3 under a later life than the one that runs.
        1 => identity.members[2].incarnation = 2,
        2 => identity.cluster_id[0] ^= 1,
        _ => {}
    });
    nodes.iter_mut().for_each(TestNode::start);
    // Node 1 dials both; they refuse it, or it refuses them.
    until(|| metric(&nodes[1], "keypact_peer_cuts_total{reason=\"cluster\"}").filter(|count| *count >= 1.0));
    until(|| {
        metric(&nodes[0], "keypact_peer_cuts_total{reason=\"incarnation\"}").filter(|count| *count >= 1.0)
    });
    assert_eq!(metric(&nodes[0], "keypact_peer_connects_total"), Some(0.0));
}
