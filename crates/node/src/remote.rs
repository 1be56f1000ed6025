//! Commands between nodes: those that others forward here, and the answers to those that this node forwarded.

use keypact_coordination::raft::Role;
use keypact_data::Command;
use keypact_protocol::{Context, NodeId};

use crate::node::{DEFAULT_AT, Node, RemoteKey, Work};
use crate::outside::{Outside, SessionId, Traffic};
use crate::peer::{Forward, ForwardReply, PeerMessage, Resolution};
use crate::pending::{Place, StreamKey};
use crate::session::{RemoteStream, Sent, Waiting};

/// Other nodes' connections that are remembered, at most.
const REMOTES_LIMIT: usize = 65_536;

impl Node {
    /// Another node's connection forwards a command.
    pub(crate) fn take_forward(
        &mut self,
        from: NodeId,
        forward: Forward,
        context: Context,
        out: &mut impl Outside,
    ) {
        let Forward { life, session, term, generation, place, command } = forward;
        let key = (from, life, session);
        if !self.remotes.contains_key(&key) && self.remotes.len() >= REMOTES_LIMIT {
            return self.answer_forward(key, generation, place, Resolution::Overloaded, out);
        }
        self.counters.forwards_taken += 1;
        let raft = &self.replicas[DEFAULT_AT].raft;
        let serves = raft.role() == Role::Leader && raft.term() == term;
        let remote = self.remotes.entry(key).or_insert_with(|| RemoteStream::new(generation, context.now_ns));
        if generation < remote.generation {
            // Its sender has given up on that generation.
            return;
        }
        if generation > remote.generation {
            *remote = RemoteStream::new(generation, context.now_ns);
        }
        remote.used_ns = context.now_ns;
        if place < remote.next_place {
            // A copy of a command that was taken before.
            return;
        }
        remote.park(place, command);
        if remote.broken || !serves {
            return self.break_remote(key, out);
        }
        self.work.push_back(Work::Resume(StreamKey::Remote(from, life, session)));
    }

    /// Starts what may start of another node's connection.
    pub(crate) fn resume_remote(&mut self, key: RemoteKey, context: Context, out: &mut impl Outside) {
        loop {
            let leads = self.replicas[DEFAULT_AT].raft.role() == Role::Leader;
            let Some(remote) = self.remotes.get_mut(&key) else { return };
            if remote.broken || !leads {
                return self.break_remote(key, out);
            }
            let generation = remote.generation;
            let Some((number, command)) = remote.take_next() else { return };
            let place = Place { stream: StreamKey::Remote(key.0, key.1, key.2), generation, number };
            self.carry_out(place, command, context, out);
        }
    }

    /// Nothing more of this generation is carried out: what is refused once, and all that follows it, must be resumed elsewhere.
    pub(crate) fn break_remote(&mut self, key: RemoteKey, out: &mut impl Outside) {
        let leader = self.replicas[DEFAULT_AT].raft.leader();
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        remote.broken = true;
        let generation = remote.generation;
        let parked = core::mem::take(&mut remote.parked);
        for place in parked.into_keys() {
            self.counters.redirects += 1;
            self.answer_forward(key, generation, place, Resolution::Redirect { leader }, out);
        }
    }

    pub(crate) fn answer_forward(
        &mut self,
        key: RemoteKey,
        generation: u64,
        place: u64,
        resolution: Resolution,
        out: &mut impl Outside,
    ) {
        let (node, life, session) = key;
        let reply = ForwardReply { life, session, generation, place, resolution };
        out.send(node, Traffic::Bulk, PeerMessage::ForwardReply(reply));
    }

    /// The answer to a command that this node forwarded.
    pub(crate) fn take_forward_reply(
        &mut self,
        from: NodeId,
        reply: ForwardReply,
        context: Context,
        out: &mut impl Outside,
    ) {
        let key = SessionId(reply.session);
        let present = self.replicas[DEFAULT_AT].raft.term();
        let Some(session) = self.sessions.get_mut(&key).filter(|_| reply.life == self.life) else { return };
        let Some(route) = session.route else { return };
        if route.to != from || route.generation != reply.generation {
            return;
        }
        // Answers mostly come in order.
        let Some(at) = session.sent.iter().position(|sent| sent.place == reply.place) else { return };
        if matches!(reply.resolution, Resolution::Redirect { .. }) {
            // This and what follows it was not applied and won't be: it starts anew. What came before is still to be answered.
            session.route = Some(crate::session::Route { term: 0, ..route });
            session.refused = Some((from, present, context.now_ns));
            let again: Vec<Sent> = session.sent.drain(at..).collect();
            for Sent { seq, command, since_ns, .. } in again {
                session.put_back(Waiting { seq, command, since_ns });
            }
        } else {
            let sent = session.sent.remove(at).expect("its position was just found");
            let value = self.value_of(reply.resolution);
            out.reply(key, sent.seq, value);
        }
        self.work.push_back(Work::Resume(StreamKey::Local(key)));
        self.sweep_later(context);
    }

    /// A forwarded command gets no answer: a write is uncertain; a read can be asked again.
    pub(crate) fn give_up_sent(&mut self, key: SessionId, sent: Sent, out: &mut impl Outside) {
        let Sent { seq, command, since_ns, .. } = sent;
        if is_write(&command) {
            let value = self.value_of(Resolution::Uncertain);
            return out.reply(key, seq, value);
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.put_back(Waiting { seq, command, since_ns });
        }
    }
}

fn is_write(command: &Command) -> bool {
    command.spec().is_write()
}
