//! Repair: members tell what they hold; who lacks something asks one that has it; what all hold is forgotten.

use alloc::vec::Vec;

use keypact_protocol::{Context, NodeId, Plant, Sink, planted};

use super::sender::batches;
use super::{Body, Broadcast, MEMBERS_MAX, Order, STREAMS_MAX, Timer, TooManyStreams};
use crate::clock::{Dot, ReplicaId, VectorClock};
use crate::envelope::Envelope;

/// A quiet group speaks 2^4 times as rarely.
const QUIET_SHIFT_MAX: u32 = 4;
/// Messages asked for at a time.
const WANT_MAX: u64 = 1_024;

impl<O: Order> Broadcast<O> {
    pub(super) fn on_status_timer(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.pace.round += 1;
        self.pace.quiet = (self.pace.quiet + 1).min(QUIET_SHIFT_MAX);
        if self.joined {
            self.say_status(out);
            self.forget_held_by_all();
            self.ask_for_missing(context.now_ns, out);
        } else {
            self.ask_to_join(out);
        }
        self.set_timer(context.now_ns, out);
    }

    pub(super) fn set_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let interval_ms = self.config.status_ms << self.pace.quiet.min(QUIET_SHIFT_MAX);
        out.set_timer(Timer::Status, now_ns.saturating_add(interval_ms.saturating_mul(1_000_000)));
    }

    pub(super) fn say_status(&mut self, out: &mut impl Sink<Self>) {
        self.pace.unsaid = 0;
        if !self.joined || !self.is_member() {
            return;
        }
        for to in self.others() {
            // Not early: what is said to be held must be durable, since others forget it then.
            out.send(to, Body::Status { view: self.view.number, holds: self.delivered.clone() });
        }
    }

    pub(super) fn on_status(&mut self, from: NodeId, holds: &VectorClock) -> Result<(), TooManyStreams> {
        assert!(from != self.config.id, "nobody tells itself");
        if !self.peers.entry(from).or_default().contains_all(holds) {
            self.note_held(from, holds)?;
            self.pace.quiet = 0;
        }
        self.pace.news = true;
        self.forget_held_by_all();
        Ok(())
    }

    /// Up to which message of a stream every other member of the view holds it, as far as known.
    pub(super) fn held_by_all(&self, replica: ReplicaId) -> u64 {
        let mut held = self.others().map(|member| self.held_by(member, replica));
        if planted(Plant::ForgottenTooEarly) {
            return held.max().unwrap_or(u64::MAX);
        }
        let least = held.try_fold(u64::MAX, |least, holds| (holds > 0).then_some(least.min(holds)));
        least.unwrap_or(0)
    }

    fn held_by(&self, member: NodeId, replica: ReplicaId) -> u64 {
        let Some(holds) = self.peers.get(&member) else { return 0 };
        let (node, incarnation) = replica.life();
        // Who has gone on to a later incarnation takes nothing of an earlier one any more.
        let closed = holds.iter().any(|(other, _)| other.life().0 == node && other.life().1 > incarnation);
        if closed { u64::MAX } else { holds.get(replica) }
    }

    /// Drops what all members hold.
    pub(super) fn forget_held_by_all(&mut self) {
        if !self.is_member() {
            return;
        }
        let replicas: Vec<ReplicaId> = self.store.replicas().collect();
        for replica in replicas {
            let held = self.held_by_all(replica);
            if held > 0 {
                self.store.forget(replica, held);
            }
        }
    }

    /// Asks for what some member holds and this one lacks: each stream from one member, and not again before it could have come.
    pub(super) fn ask_for_missing(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if !self.joined || !self.is_member() {
            return;
        }
        let mut members: Vec<NodeId> = self.others().collect();
        if members.is_empty() {
            return;
        }
        // Not always the same one first.
        let turn = (self.pace.round % members.len() as u64) as usize;
        members.rotate_left(turn);
        for member in members {
            for (replica, last) in self.missing_from(member) {
                let asked = self.asked.get(&replica).copied();
                if self.said_gone(member, replica) {
                    continue;
                }
                if asked.is_some_and(|at_ns| now_ns < at_ns.saturating_add(self.config.resend_ns())) {
                    continue;
                }
                let first = self.delivered.get(replica) + 1;
                assert!(first <= last, "only what is missing is asked for");
                self.asked.insert(replica, now_ns);
                self.counters.asked += 1;
                let last = last.min(first + WANT_MAX - 1);
                // Early: asking promises nothing. What was delivered and not yet durable comes twice after a crash.
                out.send_early(member, Body::Want { replica, first, last });
            }
        }
    }

    /// Whether a member said that it has dropped the first message that is missing of a stream.
    fn said_gone(&self, member: NodeId, replica: ReplicaId) -> bool {
        let Some((counter, members)) = self.gone.get(&replica) else { return false };
        *counter == self.delivered.get(replica) + 1 && members.contains(&member)
    }

    /// Notes that a member does not have what is missing here. If no other member has it: what one of those holds that once had it.
    pub(super) fn note_gone(
        &mut self,
        member: NodeId,
        dot: Dot,
    ) -> Result<Option<VectorClock>, TooManyStreams> {
        if self.gone.len() >= STREAMS_MAX && !self.gone.contains_key(&dot.replica) {
            return Err(TooManyStreams);
        }
        let noted = self.gone.entry(dot.replica).or_insert((dot.counter, Vec::new()));
        if noted.0 != dot.counter {
            *noted = (dot.counter, Vec::new());
        }
        if !noted.1.contains(&member) {
            noted.1.push(member);
        }
        assert!(noted.1.len() < MEMBERS_MAX, "only other members are noted");
        self.asked.remove(&dot.replica);
        self.pace.news = true;
        if !self.others().all(|member| self.said_gone(member, dot.replica)) {
            return Ok(None);
        }
        let mut others = self.others().filter_map(|member| self.peers.get(&member));
        Ok(others.find(|holds| holds.contains(dot)).cloned())
    }

    /// Streams of which a member holds more, with the last message to ask for: up to the first that is held back here. And what somebody
    /// has no more, of which everybody is asked.
    fn missing_from(&self, member: NodeId) -> Vec<(ReplicaId, u64)> {
        let none = VectorClock::new();
        let holds = self.peers.get(&member).unwrap_or(&none);
        let missing = holds.iter().filter_map(|(replica, held)| {
            let first = self.delivered.get(replica) + 1;
            if replica == self.me || held < first || self.is_closed(replica) {
                return None;
            }
            let waiting = self.held_back.range(Dot::new(replica, first)..=Dot::new(replica, held)).next();
            let last = waiting.map_or(held, |(dot, _)| dot.counter - 1);
            (last >= first).then_some((replica, last))
        });
        let sought = self.gone.iter().filter(|(replica, (counter, _))| {
            *counter == self.delivered.get(**replica) + 1 && holds.get(**replica) < *counter
        });
        missing.chain(sought.map(|(replica, (counter, _))| (*replica, *counter))).collect()
    }

    pub(super) fn on_want(
        &mut self,
        from: NodeId,
        replica: ReplicaId,
        first: u64,
        last: u64,
        out: &mut impl Sink<Self>,
    ) {
        let run: Vec<Envelope> = self.store.run(replica, first, last).cloned().collect();
        if let Some(envelopes) = batches(&run, self.config.max_batch_bytes).next() {
            assert!(envelopes[0].dot == Dot::new(replica, first), "it begins with what was asked for");
            self.counters.repaired += envelopes.len() as u64;
            return out.send(from, Body::Data { envelopes: envelopes.to_vec() });
        }
        // All members held it, or it was jumped over, or it was never here.
        self.counters.gone += 1;
        out.send(from, Body::Gone { replica, counter: first, holds: self.delivered.clone() });
    }
}
