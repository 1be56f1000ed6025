//! Guards forwarded commands: each is carried out at most once, in its stream's order, whatever the network does to messages, and those
//! whose outcome can't be known are called uncertain and never sent again.

use keypact_protocol::NodeId;

use super::cluster::{Asked, Cluster, Fate, Packet, command, is_forward, is_forward_reply};
use crate::peer::{Forward, ForwardReply, PeerMessage, Resolution};
use crate::{NodeInput, Reads, SessionId};

const STRANGE_LIFE: u64 = 77;

fn forward(session: u64, term: u64, generation: u64, place: u64, text: &str) -> PeerMessage {
    let command = command(text);
    PeerMessage::Forward(Forward { life: STRANGE_LIFE, session, term, generation, place, command })
}

/// Gives the leader forwarded commands from a life of `other` that the story plays itself; returns the answers to (generation, place).
fn replies_to(cluster: &mut Cluster, messages: Vec<PeerMessage>) -> Vec<ForwardReply> {
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward_reply(packet) { Fate::Waits } else { Fate::Arrives });
    for message in messages {
        cluster.input(leader, NodeInput::Peer { from: NodeId(other), message });
        cluster.settle();
    }
    let replies = cluster.waiting.drain(..).map(|packet| match packet.message {
        PeerMessage::ForwardReply(reply) => reply,
        other => panic!("only answers wait, not {other:?}"),
    });
    replies.collect()
}

fn is_redirect(reply: &ForwardReply) -> bool {
    matches!(reply.resolution, Resolution::Redirect { .. })
}

#[test]
fn copies_of_messages_change_nothing() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (_, other) = cluster.pair();
    cluster.network(|_| Fate::Twice);
    let asked: Vec<Asked> = (0..20).map(|_| cluster.ask(other, 1, "INCR n")).collect();
    cluster.settle();
    for (at, one) in asked.iter().enumerate() {
        assert_eq!(cluster.told(*one), format!(":{}", at + 1));
    }
}

#[test]
fn messages_in_the_wrong_order_are_carried_out_in_the_right_one() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let asked: Vec<Asked> = (0..5).map(|at| cluster.ask(other, 1, &format!("APPEND a {at}"))).collect();
    cluster.waiting.reverse();
    cluster.network_heals();
    cluster.settle();
    assert_eq!(
        asked.iter().map(|one| cluster.told(*one)).collect::<Vec<_>>(),
        [":1", ":2", ":3", ":4", ":5"]
    );
    assert_eq!(cluster.run(leader, 2, "GET a"), "01234");
}

/// Commands reach a node that leads no more: all come back and start anew, in order, at the next leader.
#[test]
fn several_commands_are_redirected_in_order() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let texts = ["APPEND a x", "GET a", "APPEND a y", "GET a"];
    let asked: Vec<Asked> = texts.iter().map(|text| cluster.ask(other, 1, text)).collect();
    let held: Vec<Packet> = cluster.waiting.drain(..).collect();
    cluster.network(
        move |packet| {
            if packet.from == leader || packet.to == leader { Fate::Lost } else { Fate::Arrives }
        },
    );
    cluster.until(|cluster| cluster.leader().is_some_and(|now| now != leader));
    cluster.network_heals();
    held.into_iter().for_each(|packet| cluster.deliver(packet));
    let redirects = cluster.nodes[&leader].counters().redirects;
    assert_eq!(cluster.until_told(&asked), [":1", "x", ":2", "xy"]);
    assert_eq!(redirects, 4);
    assert_eq!(cluster.nodes[&other].counters().uncertain, 0);
}

#[test]
fn a_command_of_another_term_is_sent_back() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let term = cluster.raft(cluster.pair().0).term();
    for wrong in [term - 1, term + 1] {
        let replies = replies_to(&mut cluster, vec![forward(1, wrong, 1, 0, "INCR n")]);
        assert_eq!(replies.len(), 1);
        assert!(is_redirect(&replies[0]));
    }
    cluster.network_heals();
    assert_eq!(cluster.run(1, 9, "GET n"), "_");
}

#[test]
fn a_generation_that_was_given_up_is_passed_over() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let term = cluster.raft(cluster.pair().0).term();
    let messages = vec![forward(1, term, 5, 0, "INCR n"), forward(1, term, 4, 0, "INCR n")];
    let replies = replies_to(&mut cluster, messages);
    assert_eq!(replies.iter().map(|reply| (reply.generation, reply.place)).collect::<Vec<_>>(), [(5, 0)]);
    cluster.network_heals();
    assert_eq!(cluster.run(1, 9, "GET n"), "1");
}

/// An answer to a command of an earlier life, or of a generation that was given up, is for nobody.
#[test]
fn answers_to_others_are_passed_over() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let asked = cluster.ask(other, 1, "INCR n");
    let PeerMessage::Forward(sent) = cluster.waiting[0].message.clone() else { panic!("a command waits") };
    let Forward { life, session, generation, place, .. } = sent;
    let resolution = Resolution::Uncertain;
    let right = ForwardReply { life, session, generation, place, resolution };
    let wrong = [
        ForwardReply { life: life + 1, ..right.clone() },
        ForwardReply { session: session + 1, ..right.clone() },
        ForwardReply { generation: generation + 1, ..right.clone() },
        ForwardReply { place: place + 1, ..right.clone() },
    ];
    for reply in wrong {
        let message = PeerMessage::ForwardReply(reply);
        cluster.input(other, NodeInput::Peer { from: NodeId(leader), message });
    }
    let third = 6 - leader - other;
    let message = PeerMessage::ForwardReply(right);
    cluster.input(other, NodeInput::Peer { from: NodeId(third), message });
    assert_eq!(cluster.told(asked), "nothing");
    cluster.network_heals();
    cluster.settle();
    assert_eq!(cluster.told(asked), ":1");
}

/// A forwarded write is lost on the way: it is uncertain after a while, and later commands go on.
#[test]
fn a_lost_command_is_uncertain_and_later_ones_go_on() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (_, other) = cluster.pair();
    cluster.advance(10_000);
    let mut first = true;
    cluster.network(move |packet| match is_forward(packet) && core::mem::take(&mut first) {
        true => Fate::Lost,
        false => Fate::Arrives,
    });
    let asked = [cluster.ask(other, 1, "INCR n"), cluster.ask(other, 1, "INCR n")];
    let answers = cluster.until_told(&asked);
    // The second waits at the leader for the first, for ever.
    assert_eq!(answers, ["-UNCERTAIN", "-UNCERTAIN"]);
    assert_eq!(cluster.run(other, 1, "INCR n"), ":1");
}

#[test]
fn a_lost_read_is_asked_again() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    assert_eq!(cluster.run(leader, 1, "SET a 1"), "+OK");
    let mut first = true;
    cluster.network(move |packet| match is_forward_reply(packet) && core::mem::take(&mut first) {
        true => Fate::Lost,
        false => Fate::Arrives,
    });
    let asked = [cluster.ask(other, 1, "GET a"), cluster.ask(other, 1, "SET b 1")];
    // What follows the read was answered: asked again, the read might see it. So it is refused.
    assert_eq!(cluster.until_told(&asked), ["-CLUSTERDOWN", "+OK"]);
    let mut first = true;
    cluster.network(move |packet| match is_forward_reply(packet) && core::mem::take(&mut first) {
        true => Fate::Lost,
        false => Fate::Arrives,
    });
    let asked = [cluster.ask(other, 1, "GET a"), cluster.ask(other, 1, "GET a")];
    assert_eq!(cluster.until_told(&asked), ["1", "1"]);
}

/// A command that waited long for a leader has its whole time once it is sent.
#[test]
fn the_wait_for_an_answer_begins_when_a_command_is_sent() {
    let mut cluster = Cluster::with(2, |config| {
        config.hold_ms = 20_000;
        config.forward_timeout_ms = 1_000;
    });
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Arrives } else { Fate::Lost });
    cluster.until(|cluster| cluster.leader().is_none() && cluster.raft(other).leader().is_none());
    let asked = cluster.ask(other, 1, "INCR n");
    cluster.advance(3_000);
    assert_eq!(cluster.told(asked), "nothing");
    // The first leader is the next again: only it may campaign.
    cluster.paused.insert(other);
    cluster.network_heals();
    cluster.advance(600);
    cluster.paused.clear();
    cluster.until(|cluster| cluster.leader().is_some());
    let answer = cluster.until_told(&[asked]);
    assert_eq!(answer, [":1"], "leader was {leader}");
}

/// The leader's process is gone: what it may have carried out is uncertain at once, reads go to the next leader.
#[test]
fn a_dead_leaders_commands_are_uncertain_at_once() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let asked = ["GET a", "INCR a", "GET a", "GET b"].map(|text| cluster.ask(other, 1, text));
    cluster.crash(leader, true);
    assert_eq!(cluster.told(asked[0]), "-CLUSTERDOWN", "asked again, it might see the write behind it");
    assert_eq!(cluster.told(asked[1]), "-UNCERTAIN");
    cluster.waiting.clear();
    cluster.network_heals();
    assert_eq!(cluster.until_told(&asked[2..]), ["_", "_"]);
}

/// A deposed leader gets little time for its answers; the next one has the whole.
#[test]
fn the_next_leader_has_its_whole_time() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, _) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let mut asked: Vec<(u64, Asked)> = (1..=3).map(|id| (id, cluster.ask(id, 1, "INCR n"))).collect();
    let held = core::mem::take(&mut cluster.waiting);
    cluster.settle();
    cluster.network(
        move |packet| {
            if packet.from == leader || packet.to == leader { Fate::Lost } else { Fate::Arrives }
        },
    );
    cluster.until(|cluster| cluster.leader().is_some_and(|now| now != leader));
    // Who leads now carries out its own.
    let next = cluster.leader();
    asked.retain(|(id, _)| *id != leader && Some(*id) != next);
    let (other, early) = asked[0];
    cluster.network(|packet| if is_forward_reply(packet) { Fate::Waits } else { Fate::Arrives });
    held.into_iter().filter(|packet| packet.from == other).for_each(|packet| cluster.deliver(packet));
    let redirect = cluster.waiting.remove(0);
    cluster.deliver(redirect);
    // It is on its way to the next leader, whose answer takes longer than the deposed one may.
    cluster.advance(1_000);
    assert_eq!(cluster.told(early), "nothing");
    cluster.network_heals();
    assert!(cluster.until_told(&[early])[0].starts_with(':'));
}

/// A stream that the leader has forgotten goes on at once: its sender begins a new generation.
#[test]
fn a_stream_that_was_idle_for_long_goes_on() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    assert_eq!(cluster.run(other, 1, "INCR n"), ":1");
    cluster.advance(400_000);
    assert_eq!(cluster.nodes[&leader].remotes.len(), 0, "idle streams are forgotten");
    assert_eq!(cluster.run(other, 1, "INCR n"), ":2");
    assert_eq!(cluster.nodes[&other].counters().uncertain, 0);
}

/// A copy of a command whose stream was forgotten is not carried out again.
#[test]
fn a_late_copy_finds_its_stream_forgotten() {
    let mut cluster = Cluster::new(3, Reads::Lease);
    let (leader, other) = cluster.pair();
    cluster.network(|packet| if is_forward(packet) { Fate::Waits } else { Fate::Arrives });
    let asked = cluster.ask(other, 1, "INCR n");
    let copy = cluster.waiting[0].clone();
    cluster.network_heals();
    cluster.settle();
    assert_eq!(cluster.told(asked), ":1");
    cluster.input(other, NodeInput::SessionClosed(SessionId(1)));
    cluster.advance(400_000);
    cluster.deliver(copy);
    cluster.settle();
    assert_eq!(cluster.run(leader, 2, "GET n"), "1");
}

/// Many short connections through one node: the leader forgets the oldest, and refuses none.
#[test]
fn many_short_connections_are_served() {
    let mut cluster = Cluster::new(2, Reads::Lease);
    let (leader, other) = cluster.pair();
    for session in 0..70_000 {
        assert_eq!(cluster.run(other, session, "GET a"), "_");
        cluster.input(other, NodeInput::SessionClosed(SessionId(session)));
    }
    assert!(cluster.nodes[&leader].remotes.len() <= 65_536);
    assert_eq!(cluster.run(other, 0, "INCR n"), ":1");
}

/// The answer to a read that waited through a change of generation does not free the writes of the new one too early.
#[test]
fn an_old_generations_read_frees_nothing_in_the_new_one() {
    let mut cluster = Cluster::new(3, Reads::ReadIndex);
    let (leader, other) = cluster.pair();
    let term = cluster.raft(leader).term();
    cluster.network(move |packet| if packet.from == leader { Fate::Lost } else { Fate::Arrives });
    let last = cluster.raft(leader).last().index;
    for message in [
        forward(1, term, 1, 0, "GET a"),
        forward(1, term, 2, 0, "GET a"),
        forward(1, term, 2, 1, "GET a"),
        forward(1, term, 2, 2, "SET a 1"),
    ] {
        cluster.input(leader, NodeInput::Peer { from: NodeId(other), message });
    }
    let key = (NodeId(other), STRANGE_LIFE, 1);
    assert_eq!(cluster.nodes[&leader].remotes[&key].lane.unconfirmed, 2);
    assert_eq!(cluster.raft(leader).last().index, last, "the write waits for both reads");
    cluster.network_heals();
    cluster.advance(100);
    assert_eq!(cluster.nodes[&leader].remotes[&key].lane.unconfirmed, 0);
    assert_eq!(cluster.nodes[&leader].remotes[&key].lane.in_flight, 0);
    assert_eq!(cluster.raft(leader).last().index, last + 1);
}
