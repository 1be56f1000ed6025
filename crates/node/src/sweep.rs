//! What waits too long: for a leader, or for an answer that a peer won't give.

use keypact_protocol::{Context, NodeId};

use crate::node::{DEFAULT_AT, Node, SWEEP_NS, Work};
use crate::outside::{Outside, SessionId};
use crate::peer::Resolution;
use crate::pending::StreamKey;
use crate::session::Sent;
use crate::timers::TimerKey;

/// How often other nodes' streams are looked through for idle ones, nanoseconds.
const SWEEP_REMOTES_NS: u64 = 10_000_000_000;

/// How long a leader that was deposed may still take to say what became of forwarded commands, nanoseconds.
const DEPOSED_GRACE_NS: u64 = 200_000_000;

impl Node {
    /// Something waits: have it looked at in a while.
    pub(crate) fn sweep_later(&mut self, context: Context) {
        if !self.timers.is_set(TimerKey::Sweep) {
            self.timers.set(TimerKey::Sweep, context.now_ns + SWEEP_NS);
        }
    }

    /// Ends the waiting of what has waited long enough. O(connections), while any waits.
    pub(crate) fn sweep(&mut self, context: Context, out: &mut impl Outside) {
        let mut keys: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.waiting.is_empty() || !session.sent.is_empty())
            .map(|(key, _)| *key)
            .collect();
        // The table's own order depends on its history.
        keys.sort_unstable();
        for key in &keys {
            self.sweep_waiting(*key, context, out);
            self.sweep_sent(*key, context, out);
            if let Some(session) = self.sessions.get_mut(key).filter(|session| session.sent.is_empty()) {
                session.give_up_at_ns = None;
            }
            if self.sessions.get(key).is_some_and(|session| !session.waiting.is_empty()) {
                self.work.push_back(Work::Resume(StreamKey::Local(*key)));
            }
        }
        if !keys.is_empty() {
            self.sweep_later(context);
        }
    }

    /// Another node's stream is remembered: have it looked at in a while.
    pub(crate) fn sweep_remotes_later(&mut self, context: Context) {
        if !self.timers.is_set(TimerKey::SweepRemotes) {
            self.timers.set(TimerKey::SweepRemotes, context.now_ns + SWEEP_REMOTES_NS);
        }
    }

    fn sweep_waiting(&mut self, key: SessionId, context: Context, out: &mut impl Outside) {
        let hold_ns = self.config.hold_ms * 1_000_000;
        while let Some(session) = self.sessions.get_mut(&key)
            && session
                .waiting
                .front()
                .is_some_and(|first| context.now_ns.saturating_sub(first.since_ns) > hold_ns)
        {
            let waiting = session.waiting.pop_front().expect("just seen");
            // `Redirect` with nobody to ask: it did not start anywhere.
            let value = self.value_of(Resolution::Redirect { leader: None });
            out.reply(key, waiting.seq, value);
        }
    }

    fn sweep_sent(&mut self, key: SessionId, context: Context, out: &mut impl Outside) {
        let limit_ns = self.config.forward_timeout_ms * 1_000_000;
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let all_late = session.give_up_at_ns.is_some_and(|at_ns| context.now_ns >= at_ns);
        let is_late = |sent: &Sent| all_late || context.now_ns.saturating_sub(sent.sent_ns) > limit_ns;
        let count = session.sent.iter().take_while(|sent| is_late(sent)).count();
        if count == 0 {
            return;
        }
        // One answer is missing, so the leader may wait for that command for ever: what follows goes as a new generation.
        let route = session.route.as_mut().expect("what is sent has a route");
        route.term = 0;
        self.give_up_sent(key, count, out);
    }

    /// A peer's process is gone: what was forwarded to it won't be answered. It is not asked again at once: each attempt may end in another
    /// such hint.
    pub(crate) fn give_up_route(&mut self, peer: NodeId, context: Context, out: &mut impl Outside) {
        let term = self.replicas[DEFAULT_AT].raft.term();
        let mut keys: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.route.is_some_and(|route| route.to == peer))
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        for key in keys {
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            session.route = None;
            session.refused = Some((peer, term, context.now_ns));
            let count = session.sent.len();
            self.give_up_sent(key, count, out);
            self.work.push_back(Work::Resume(StreamKey::Local(key)));
        }
    }

    /// A new leader is known: commands that waited for one may go.
    pub(crate) fn follow_leader(&mut self, context: Context) {
        let raft = &self.replicas[DEFAULT_AT].raft;
        let present = (raft.leader(), raft.term());
        if present == self.routed_by {
            return;
        }
        self.routed_by = present;
        for session in self.sessions.values_mut().filter(|session| !session.sent.is_empty()) {
            let is_same = session.route.is_some_and(|route| (Some(route.to), route.term) == present);
            if is_same {
                session.give_up_at_ns = None;
            } else if present.0.is_some() {
                session.give_up_at_ns.get_or_insert(context.now_ns + DEPOSED_GRACE_NS);
            }
        }
        let mut keys: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.waiting.is_empty())
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        self.work.extend(keys.into_iter().map(|key| Work::Resume(StreamKey::Local(key))));
    }
}
