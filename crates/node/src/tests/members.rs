//! Guards who belongs to the cluster: nodes come and go by an operator's wish, a lost folder comes back by itself and never votes empty.

use keypact_coordination::raft::{ChangeRefusal, Seat};
use keypact_protocol::{GroupId, Incarnation, NodeId};

use super::cluster::{Cluster, Fate, World, members};
use crate::node::CATALOG_AT;
use crate::{CATALOG, DEFAULT, GROUPS, Member, NodeConfig, Order, OrderRefusal, Reads, Roster};

impl Cluster {
    /// A folder for a node that joins, under a life of its own; it asks the founders.
    fn furnish(&mut self, id: u64, incarnation: u64) -> Member {
        let founders = self.configs.len().min(3) as u64;
        let mut own = members(id).pop().expect("ids count from 1");
        own.incarnation = incarnation;
        let mut known: Vec<Member> = members(founders).into_iter().filter(|member| member.id != id).collect();
        known.push(own.clone());
        let mut config = NodeConfig::new(NodeId(id), known);
        config.founder = false;
        self.configs.insert(id, config);
        self.worlds.insert(id, World::default());
        own
    }

    fn order(&mut self, id: u64, order: &Order) -> Result<(), OrderRefusal> {
        let context = self.context();
        let node = self.nodes.get_mut(&id).expect("it runs");
        let outcome = node.operate(order, context, self.worlds.get_mut(&id).expect("it has a folder"));
        self.inputs(id, Vec::new());
        outcome
    }

    fn catalog_leader(&self) -> Option<u64> {
        let leads = |id: &&u64| self.nodes[id].replicas[CATALOG_AT].leads();
        let leaders = self.nodes.keys().filter(leads);
        leaders.max_by_key(|id| self.nodes[id].raft(CATALOG).expect("it has the group").term()).copied()
    }

    /// Has the catalog's leader carry an order out, whoever that is by then.
    fn operate(&mut self, order: &Order) {
        for _ in 0..500 {
            if let Some(leader) = self.catalog_leader() {
                match self.order(leader, order) {
                    Ok(()) => return,
                    Err(
                        OrderRefusal::UnderWay
                        | OrderRefusal::NotFounded
                        | OrderRefusal::Group(ChangeRefusal::NotReady | ChangeRefusal::NotLeader { .. }),
                    ) => {}
                    Err(refusal) => panic!("{order:?} is refused: {refusal}"),
                }
            }
            self.advance(20);
        }
        panic!("nobody carries {order:?} out");
    }

    fn leader_of(&self, group: GroupId) -> Option<u64> {
        if group == CATALOG { self.catalog_leader() } else { self.leader() }
    }

    /// Has whoever leads a group hand it over, until this node leads it.
    fn hand_over(&mut self, group: GroupId, to: u64) {
        for _ in 0..500 {
            match self.leader_of(group) {
                Some(leader) if leader == to => return,
                // Refused for a moment: nobody is ready before it has committed something, nor an heir before it has caught up.
                Some(leader) => drop(self.order(leader, &Order::Transfer { group, to: NodeId(to) })),
                None => {}
            }
            self.advance(20);
        }
        panic!("node {to} does not lead {group}");
    }

    fn votes(&self, id: u64) -> bool {
        self.nodes[&id].is_settled()
    }

    /// Whether all of these vote in both groups, and nobody else does, as each of them knows.
    fn is_made_of(&self, voters: &[u64]) -> bool {
        voters.iter().all(|id| {
            let node = &self.nodes[id];
            GROUPS.iter().all(|group| {
                let membership = node.raft(*group).expect("it has the group").membership();
                let seats = membership.members().iter().map(|m| (m.id.0, m.seat));
                seats.eq(voters.iter().map(|id| (*id, Seat::Voter)))
            }) && node.is_settled()
        })
    }
}

#[test]
fn a_node_is_let_in_by_an_operator_only() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    assert_eq!(cluster.run(1, 1, "SET k v"), "+OK");
    let member = cluster.furnish(4, 1);
    cluster.start(4);
    cluster.advance(3_000);
    assert!(cluster.nodes[&4].raft(DEFAULT).expect("it has the group").membership().members().is_empty());
    assert_eq!(cluster.nodes[&4].counters().writes_applied, 0);
    let leader = cluster.catalog_leader().expect("someone leads");
    assert_eq!(
        cluster.nodes[&leader].asking(),
        std::slice::from_ref(&member),
        "it asks, and nobody lets it in"
    );

    cluster.operate(&Order::Add(member));
    cluster.until(|cluster| cluster.is_made_of(&[1, 2, 3, 4]));
    assert_eq!(cluster.run(4, 1, "GET k"), "v", "it passes commands on, and answers");
    assert_eq!(cluster.worlds[&2].roster.nodes().len(), 4, "the server is told whom to connect with");
    assert!(cluster.nodes[&leader].asking().is_empty());

    // What it is, it is after a start too.
    cluster.crash(4, true);
    cluster.start(4);
    cluster.until(|cluster| cluster.votes(4));
}

/// Each time it is the leader of both groups that goes, and what it led goes on without it.
#[test]
fn leaders_are_removed_one_after_another() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    assert_eq!(cluster.run(1, 1, "SET k v"), "+OK");
    let first = cluster.leader().expect("someone leads");
    cluster.operate(&Order::Remove(NodeId(first)));
    let rest: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    cluster.until(|cluster| cluster.is_made_of(&rest) && cluster.nodes[&first].is_gone());
    cluster.until(|cluster| cluster.leader().is_some_and(|leader| leader != first));
    cluster.until(|cluster| cluster.raft(rest[0]).leader().is_some());
    assert_eq!(cluster.run(rest[0], 1, "GET k"), "v");
    assert!(cluster.nodes[&first].raft(DEFAULT).expect("it has the group").leader().is_none());

    cluster.operate(&Order::Remove(NodeId(rest[0])));
    cluster.until(|cluster| cluster.is_made_of(&rest[1..]));
    cluster.until(|cluster| cluster.leader() == Some(rest[1]));
    let last = Order::Remove(NodeId(rest[1]));
    let refusal = OrderRefusal::Group(ChangeRefusal::WouldLoseQuorum { alive: 0, quorum: 1 });
    assert_eq!(cluster.order(rest[1], &last), Err(refusal), "somebody stays");
    assert_eq!(cluster.run(rest[1], 1, "SET k w"), "+OK");

    // Under its next life, with a new folder, the first may come again; not under the one that is over.
    let old = Order::Add(members(3)[first as usize - 1].clone());
    let refusal = OrderRefusal::Incarnation { node: first, next: 2 };
    assert_eq!(cluster.order(rest[1], &old), Err(refusal));
    cluster.nodes.remove(&first);
    let member = cluster.furnish(first, 2);
    cluster.start(first);
    cluster.operate(&Order::Add(member));
    let mut both = vec![first, rest[1]];
    both.sort_unstable();
    cluster.until(|cluster| cluster.is_made_of(&both));
    cluster.until(|cluster| cluster.raft(first).leader().is_some());
    assert_eq!(cluster.run(first, 2, "GET k"), "w");
}

/// The folder of each in turn, the leader's too. Nobody does anything; and until the node is let in it has no vote to give.
#[test]
fn a_lost_folder_comes_back_by_itself() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    for (id, life) in [(1, 2), (2, 2), (3, 2), (2, 3)] {
        assert_eq!(cluster.run(id, life, &format!("SET k{id} v{life}")), "+OK");
        cluster.crash(id, true);
        cluster.furnish(id, life);
        cluster.start(id);
        assert_eq!(cluster.nodes[&id].seat(DEFAULT), None, "it begins with nothing");
        cluster.until(|cluster| cluster.is_made_of(&[1, 2, 3]));
        assert_eq!(cluster.nodes[&id].config().incarnation, Incarnation(life));
        cluster.until(|cluster| cluster.raft(id).leader().is_some());
        assert_eq!(cluster.run(id, life, &format!("GET k{id}")), format!("v{life}"));
    }
    let readmitted: u64 = cluster.nodes.values().map(|node| node.counters().readmitted).sum();
    assert!(readmitted >= 1, "counted where it was done, until that node lost its own folder");
}

/// A majority of folders is gone: nobody may make a group out of what is left.
#[test]
fn empty_folders_elect_nobody() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    assert_eq!(cluster.run(1, 1, "SET k v"), "+OK");
    for id in [1, 2] {
        cluster.crash(id, true);
        cluster.furnish(id, 2);
        cluster.start(id);
    }
    cluster.advance(20_000);
    assert!(cluster.leader().is_none() && cluster.catalog_leader().is_none());
    assert!(!cluster.votes(1) && !cluster.votes(2));
    assert_eq!(cluster.nodes[&1].partition().len(), 0);
}

/// Down while the cluster changed around it: whom it knows are gone or few, and the leader is one that it never heard of.
#[test]
fn who_was_away_learns_from_its_peers_who_belongs() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    cluster.crash(1, true);
    cluster.until(|cluster| cluster.leader().is_some() && cluster.catalog_leader().is_some());
    let fourth = cluster.furnish(4, 1);
    cluster.start(4);
    cluster.operate(&Order::Add(fourth));
    cluster.until(|cluster| cluster.votes(4));
    for group in GROUPS {
        cluster.until(|cluster| {
            let mut nodes = cluster.nodes.values();
            nodes.any(|node| node.raft(group).is_some_and(|raft| raft.term_start().is_some()))
        });
        let leader = cluster.nodes.keys().copied();
        let leader = leader
            .filter(|id| cluster.nodes[id].raft(group).is_some_and(|raft| raft.term_start().is_some()))
            .max_by_key(|id| cluster.nodes[id].raft(group).expect("it has the group").term());
        let transfer = Order::Transfer { group, to: NodeId(4) };
        cluster.order(leader.expect("just seen"), &transfer).expect("it has caught up");
    }
    cluster.until(|cluster| cluster.leader() == Some(4) && cluster.catalog_leader() == Some(4));
    // As over real connections: node 1 hears only whom it knows, and is heard by nobody else.
    cluster.network(|packet| if packet.from == 4 && packet.to == 1 { Fate::Waits } else { Fate::Arrives });
    cluster.start(1);
    assert!(cluster.nodes[&1].roster().node(NodeId(4)).is_none());
    cluster.until(|cluster| cluster.nodes[&1].roster().node(NodeId(4)).is_some());
    assert_eq!(cluster.worlds[&1].roster.nodes().len(), 4, "its server can connect with node 4 now");
    cluster.network_heals();
    cluster.until(|cluster| cluster.is_made_of(&[1, 2, 3, 4]));
}

/// More learners than a group may have, none of whom ever comes: who shall go goes all the same, and so makes room.
#[test]
fn a_full_group_lets_go_of_who_never_came() {
    let mut cluster = Cluster::new(1, Reads::Lease);
    for member in &members(6)[1..] {
        cluster.operate(&Order::Add(member.clone()));
        cluster.advance(500);
    }
    let has = |cluster: &Cluster, id: u64| {
        let mut groups = GROUPS.iter().filter_map(|group| cluster.nodes[&1].raft(*group));
        groups.all(|raft| raft.membership().member(NodeId(id)).is_some())
    };
    assert!((1..=5).all(|id| has(&cluster, id)) && !has(&cluster, 6), "four learners are as many as may be");
    cluster.operate(&Order::Remove(NodeId(2)));
    cluster.until(|cluster| !has(cluster, 2) && has(cluster, 6));
}

/// It leads `default`, and does not hear the catalog's leader: what it hears of the others is enough to take itself out.
#[test]
fn a_removed_leader_with_an_old_catalog_takes_itself_out() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    assert_eq!(cluster.run(1, 1, "SET k v"), "+OK");
    cluster.until(|cluster| cluster.nodes.values().all(|node| node.catalog().is_founded()));
    let removed = cluster.leader().expect("a write was answered");
    if cluster.catalog_leader() == Some(removed) {
        let to = NodeId(removed % 3 + 1);
        cluster.until(|cluster| {
            let raft = cluster.nodes[&removed].raft(CATALOG).expect("it has the group");
            raft.peers().all(|peer| peer.matched == raft.commit_index())
        });
        cluster.order(removed, &Order::Transfer { group: CATALOG, to }).expect("it has caught up");
        cluster.until(|cluster| cluster.catalog_leader() == Some(to.0));
        cluster.advance(1_000);
    }
    let catalogs = cluster.catalog_leader().expect("someone leads");
    let third = 6 - removed - catalogs;
    let cut = [(removed, catalogs), (catalogs, removed)];
    cluster.network(
        move |packet| if cut.contains(&(packet.from, packet.to)) { Fate::Lost } else { Fate::Arrives },
    );
    cluster.operate(&Order::Remove(NodeId(removed)));
    cluster.until(|cluster| cluster.nodes[&removed].is_gone());
    assert!(cluster.nodes[&removed].catalog().roster().node(NodeId(removed)).is_some(), "an old catalog");
    let mut rest = vec![catalogs, third];
    rest.sort_unstable();
    cluster.until(|cluster| cluster.is_made_of(&rest));
}

/// Node 1, whose clock is a day ahead, leads with node 2's vote and never hears node 3. Then node 2 is removed, and stays a voter for as long
/// as that would lose the quorum. Guards against its clock being forgotten before its vote: then too few were known, and stamps had no bound.
#[test]
fn a_removed_voters_clock_counts_as_long_as_its_vote() {
    const DAY_MS: i64 = 86_400_000;
    let mut cluster = Cluster::asleep(3, |_| ());
    cluster.skews_ms.insert(1, DAY_MS);
    cluster.network(|packet| {
        if packet.from + packet.to == 4 && packet.from != packet.to { Fate::Lost } else { Fate::Arrives }
    });
    (1..=3).for_each(|id| cluster.start(id));
    for (group, to) in [(DEFAULT, 2), (CATALOG, 2), (DEFAULT, 1)] {
        cluster.hand_over(group, to);
    }
    cluster.operate(&Order::Remove(NodeId(2)));
    cluster.until(|cluster| cluster.nodes[&1].roster().node(NodeId(2)).is_none());
    for number in 0..20 {
        assert_eq!(cluster.leader(), Some(1));
        assert_eq!(cluster.run(1, 1, &format!("SET k{number} v EX 3600")), "+OK");
        let stamp_ms = cluster.nodes[&1].partition().applied_stamp_ms();
        assert!(stamp_ms <= cluster.wall_ms + 500, "{stamp_ms} at {}", cluster.wall_ms);
        cluster.advance(20);
    }
    let voters = cluster.raft(1).membership().members().iter().filter(|m| m.seat.votes()).count();
    assert_eq!(voters, 3, "node 2 can't go while node 3 is not heard");
    cluster.network_heals();
    cluster.until(|cluster| cluster.is_made_of(&[1, 3]));
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    cluster.until(|cluster| {
        cluster.catalog_leader().is_some_and(|id| cluster.nodes[&id].catalog().is_founded())
    });
    let leader = cluster.catalog_leader().expect("just seen");
    let other = (1..=3).find(|id| *id != leader).expect("there are three");
    let fifth = members(5).pop().expect("five");
    let with = |change: fn(&mut Member)| {
        let mut member = members(5).pop().expect("five");
        change(&mut member);
        Order::Add(member)
    };
    let group = |refusal| Err(OrderRefusal::Group(refusal));
    let to = |group, to| Order::Transfer { group, to: NodeId(to) };
    let not_leader = group(ChangeRefusal::NotLeader { leader });
    assert_eq!(cluster.order(other, &Order::Add(fifth)), not_leader);
    assert_eq!(cluster.order(other, &Order::Remove(NodeId(1))), not_leader);
    assert_eq!(cluster.order(other, &to(CATALOG, other)), not_leader);
    let taken = OrderRefusal::AddressTaken { node: 2, address: String::from("127.0.0.1:7002") };
    let rows = [
        (with(|m| m.id = 0), Err(OrderRefusal::Malformed)),
        (with(|m| m.http.clear()), Err(OrderRefusal::Malformed)),
        (with(|m| m.id = 2), Err(OrderRefusal::Known { node: 2 })),
        (with(|m| m.incarnation = 0), Err(OrderRefusal::Incarnation { node: 5, next: 1 })),
        (with(|m| m.peer = String::from("127.0.0.1:7002")), Err(taken)),
        (Order::Remove(NodeId(9)), group(ChangeRefusal::NotMember { node: 9 })),
        (to(CATALOG, 9), group(ChangeRefusal::NotMember { node: 9 })),
        (to(CATALOG, leader), group(ChangeRefusal::AlreadyMember { node: leader })),
        (Order::Transfer { group: GroupId(9), to: NodeId(1) }, Err(OrderRefusal::NoGroup)),
    ];
    for (order, refusal) in rows {
        assert_eq!(cluster.order(leader, &order), refusal, "{order:?}");
    }
    // Two of three are needed: with one away neither of the others may go, but the one that is away.
    cluster.crash(other, true);
    cluster.advance(1_000);
    let leader = cluster.catalog_leader().expect("a majority is there");
    let third = 6 - leader - other;
    let lost = group(ChangeRefusal::WouldLoseQuorum { alive: 1, quorum: 2 });
    assert_eq!(cluster.order(leader, &Order::Remove(NodeId(third))), lost);
    assert_eq!(cluster.order(leader, &Order::Remove(NodeId(leader))), lost);
    let not_there = group(ChangeRefusal::NotCaughtUp { node: other, missing: 0 });
    let refused = cluster.order(leader, &to(CATALOG, other));
    assert!(
        refused == not_there
            || matches!(refused, Err(OrderRefusal::Group(ChangeRefusal::NotCaughtUp { .. })))
    );
    assert_eq!(cluster.order(leader, &Order::Remove(NodeId(other))), Ok(()));
    assert_eq!(cluster.order(leader, &Order::Remove(NodeId(other))), Err(OrderRefusal::UnderWay));
    let mut rest = vec![leader, third];
    rest.sort_unstable();
    cluster.until(|cluster| cluster.is_made_of(&rest));
}

#[test]
fn rosters_can_be_merged_in_any_order() {
    let base = Roster::of(members(3));
    let mut changed = base.clone();
    assert!(changed.dismiss(NodeId(2), Incarnation(1)) && !changed.dismiss(NodeId(2), Incarnation(1)));
    assert!(!changed.admit(&members(2)[1]), "that life is over");
    let mut third = members(3)[2].clone();
    third.incarnation = 4;
    assert!(changed.admit(&third) && !changed.admit(&members(3)[2]));
    assert_eq!(changed.next_life(NodeId(3)), Incarnation(5));
    assert_eq!(changed.next_life(NodeId(2)), Incarnation(2));
    assert_eq!(changed.next_life(NodeId(7)), Incarnation(1));
    let (mut one, mut other) = (base.clone(), changed.clone());
    assert!(one.merge(&changed) && !other.merge(&base));
    assert_eq!(one, other);
    assert!(one.covers(&base) && !base.covers(&one));
}
