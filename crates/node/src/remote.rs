//! Commands between nodes: those that others forward here, and the answers to those that this node forwarded.

use keypact_coordination::raft::Role;
use keypact_protocol::{Context, NodeId};

use crate::answers::lost_read_error;
use crate::node::{DEFAULT_AT, Node, RemoteKey, Work};
use crate::outside::{Outside, SessionId, Traffic};
use crate::peer::{Forward, ForwardReply, PeerMessage, Resolution};
use crate::pending::{Place, StreamKey};
use crate::session::{RemoteStream, Sent, Waiting};

/// Other nodes' connections that are remembered, at most.
const REMOTES_LIMIT: usize = 65_536;

/// How long a stream that says nothing is remembered, nanoseconds.
const REMOTE_IDLE_NS: u64 = 60_000_000_000;

/// Lives of peers of which it is remembered what was forgotten, at most.
const FORGOTTEN_LIMIT: usize = 64;

/// The newest generation that was forgotten of one life of a peer. Its streams draw their generations from one count, so whatever is at most
/// this old may have been carried out in part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten {
    node: NodeId,
    life: u64,
    generation: u64,
}

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
        self.counters.forwards_taken += 1;
        let raft = &self.replicas[DEFAULT_AT].raft;
        let serves = raft.role() == Role::Leader && raft.term() == term;
        if (1..=self.recovered_term).contains(&term) && command.spec().is_write() {
            // An earlier life of this node may have led that term and taken this very command; the network kept a copy back. Seed
            // 1058112851 of scenario `beyond`: answered "not applied", the command was sent again and applied twice.
            return self.answer_forward(key, generation, place, Resolution::Uncertain, out);
        }
        if !self.remotes.contains_key(&key)
            && let Some(refusal) = self.refuse_stream(from, life, generation, serves)
        {
            self.counters.redirects += 1;
            return self.answer_forward(key, generation, place, refusal, out);
        }
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
        self.sweep_remotes_later(context);
    }

    /// Why a stream that is not remembered can't be taken; nothing of it is carried out then.
    fn refuse_stream(
        &mut self,
        node: NodeId,
        life: u64,
        generation: u64,
        serves: bool,
    ) -> Option<Resolution> {
        let leader = self.replicas[DEFAULT_AT].raft.leader();
        if !serves {
            return Some(Resolution::Redirect { leader });
        }
        let forgotten = self.forgotten.iter().find(|of| of.node == node && of.life == life);
        if forgotten.is_some_and(|of| generation <= of.generation) {
            return Some(Resolution::Forgotten);
        }
        if self.remotes.len() >= REMOTES_LIMIT {
            self.forget_remotes(|_| true, REMOTES_LIMIT / 2);
        }
        // All are under way: this one waits where it is.
        (self.remotes.len() >= REMOTES_LIMIT).then_some(Resolution::Redirect { leader: None })
    }

    /// Forgets streams that were idle for long. O(streams).
    pub(crate) fn sweep_remotes(&mut self, now_ns: u64) {
        self.forget_remotes(|remote| now_ns.saturating_sub(remote.used_ns) >= REMOTE_IDLE_NS, usize::MAX);
    }

    /// Forgets those streams of which nothing is under way, the longest idle first, at most so many. A copy of a command that was
    /// carried out must not be taken for a new one later, hence [`Forgotten`].
    fn forget_remotes(&mut self, may_go: impl Fn(&RemoteStream) -> bool, most: usize) {
        let idle = self.remotes.iter().filter(|(_, remote)| remote.lane.in_flight == 0 && may_go(remote));
        let mut idle: Vec<(u64, RemoteKey)> = idle.map(|(key, remote)| (remote.used_ns, *key)).collect();
        idle.sort_unstable();
        for (_, key) in idle.into_iter().take(most) {
            let remote = self.remotes.remove(&key).expect("it was just listed");
            self.note_forgotten(key.0, key.1, remote.generation);
        }
    }

    fn note_forgotten(&mut self, node: NodeId, life: u64, generation: u64) {
        if let Some(known) = self.forgotten.iter_mut().find(|of| of.node == node && of.life == life) {
            known.generation = known.generation.max(generation);
            return;
        }
        if self.forgotten.len() == FORGOTTEN_LIMIT {
            // The oldest life: copies of its messages would have to outlive dozens of its successors.
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(Forgotten { node, life, generation });
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
        if matches!(reply.resolution, Resolution::Redirect { .. } | Resolution::Forgotten) {
            // This and what follows it was not applied and won't be: it starts anew. What came before is still to be answered.
            session.route = Some(crate::session::Route { term: 0, ..route });
            if !matches!(reply.resolution, Resolution::Forgotten) {
                session.refused = Some((from, present, context.now_ns));
            }
            let again: Vec<Sent> = session.sent.drain(at..).collect();
            for Sent { seq, command, since_ns, .. } in again {
                session.put_back(Waiting { seq, command, since_ns });
            }
        } else {
            session.overtake(at);
            let sent = session.sent.remove(at).expect("its position was just found");
            let value = self.value_of(reply.resolution);
            out.reply(key, sent.seq, value);
        }
        self.work.push_back(Work::Resume(StreamKey::Local(key)));
        self.sweep_later(context);
    }

    /// The first `count` of a connection's forwarded commands get no answer: writes are uncertain; reads can be asked again, unless a
    /// write of the same connection that follows them may have been applied, which they might then see.
    pub(crate) fn give_up_sent(&mut self, key: SessionId, count: usize, out: &mut impl Outside) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let last_write = session.sent.iter().rposition(|sent| sent.command.spec().is_write());
        let given_up: Vec<Sent> = session.sent.drain(..count).collect();
        for (at, Sent { seq, command, since_ns, is_overtaken, .. }) in given_up.into_iter().enumerate() {
            if command.spec().is_write() {
                let value = self.value_of(Resolution::Uncertain);
                out.reply(key, seq, value);
            } else if is_overtaken || last_write.is_some_and(|last| at < last) {
                self.counters.no_quorum += 1;
                out.reply(key, seq, lost_read_error());
            } else if let Some(session) = self.sessions.get_mut(&key) {
                session.put_back(Waiting { seq, command, since_ns });
            }
        }
    }
}
