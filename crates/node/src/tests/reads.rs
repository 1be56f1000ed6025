//! Guards what reads see: expiry by the entries' stamps, stale reads, and leaders that lost their majority.

use super::cluster::{Cluster, Fate};
use crate::Reads;

/// A read that meets a deadline commits a tick first, so that no later reader sees the key again.
#[test]
fn a_read_that_meets_a_deadline_ticks() {
    for reads in [Reads::Lease, Reads::ReadIndex] {
        let mut cluster = Cluster::new(3, reads);
        let (leader, other) = cluster.pair();
        assert_eq!(cluster.run(leader, 1, "SET a 1 PX 50"), "+OK");
        assert_eq!(cluster.run(other, 1, "GET a"), "1");
        cluster.advance(60);
        let asked = [cluster.ask(leader, 1, "GET a"), cluster.ask(leader, 1, "EXISTS a")];
        cluster.settle();
        assert_eq!(asked.map(|one| cluster.told(one)), ["_", ":0"]);
        assert_eq!(cluster.nodes[&leader].counters().ticks, 1, "one for both");
        assert_eq!(cluster.run(other, 1, "GET a"), "_");
        assert_eq!(cluster.nodes[&leader].counters().ticks, 1, "time has moved on for all");
    }
}

/// A tick that is lost with its leader is no write: its read is asked again.
#[test]
fn a_lost_ticks_read_is_asked_again() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, _) = cluster.pair();
    assert_eq!(cluster.run(leader, 1, "SET a 1 PX 50"), "+OK");
    cluster.advance(60);
    cluster.network(
        move |packet| {
            if packet.from == leader || packet.to == leader { Fate::Lost } else { Fate::Arrives }
        },
    );
    let asked = [cluster.ask(leader, 1, "GET a"), cluster.ask(leader, 1, "GET b")];
    cluster.until(|cluster| cluster.leader().is_some_and(|now| now != leader));
    cluster.network_heals();
    assert_eq!(cluster.until_told(&asked), ["_", "_"]);
}

#[test]
fn a_stale_read_is_answered_where_it_is_asked() {
    let mut cluster = Cluster::new(3, Reads::Stale);
    let (leader, other) = cluster.pair();
    assert_eq!(cluster.run(other, 1, "SET a 1"), "+OK");
    cluster.advance(100);
    cluster.network(|_| Fate::Lost);
    assert_eq!(cluster.run(other, 2, "GET a"), "1");
    assert_eq!(cluster.run(leader, 2, "GET a"), "1");
}

/// Even a stale read waits for what its own connection forwarded before it.
#[test]
fn a_stale_read_waits_for_its_own_connections_commands() {
    let mut cluster = Cluster::new(3, Reads::Stale);
    let (_, other) = cluster.pair();
    let asked = [cluster.ask(other, 1, "SET a 1"), cluster.ask(other, 1, "GET a")];
    assert_eq!(cluster.told(asked[1]), "nothing");
    cluster.settle();
    assert_eq!(cluster.told(asked[0]), "+OK");
    assert_ne!(cluster.told(asked[1]), "nothing");
}

/// A leader without its majority answers no read from its state, by either level, once its lease is over.
#[test]
fn a_cut_off_leader_answers_no_read() {
    for reads in [Reads::Lease, Reads::ReadIndex] {
        let mut cluster = Cluster::new(3, reads);
        let (leader, other) = cluster.pair();
        assert_eq!(cluster.run(leader, 1, "SET a old"), "+OK");
        // Its clock stands still while the others choose another leader.
        cluster.paused.insert(leader);
        cluster.until(|cluster| cluster.leader().is_some_and(|now| now != leader));
        assert_eq!(cluster.run(other, 1, "SET a new"), "+OK");
        cluster.network(|_| Fate::Lost);
        let asked = cluster.ask(leader, 1, "GET a");
        assert_eq!(cluster.told(asked), "nothing", "{reads:?}");
        cluster.paused.clear();
        cluster.network_heals();
        assert_eq!(cluster.until_told(&[asked]), ["new"]);
    }
}
