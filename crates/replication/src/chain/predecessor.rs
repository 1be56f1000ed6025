//! What a member does for its successor: passes on what it has, and sends again what was lost.

use alloc::vec::Vec;

use keypact_log::{Entry, Outgoing, Position, Tail};
use keypact_protocol::{NodeId, Sink, SnapshotRead};

use super::{Body, Chain, Counters, Life, Member, MemberState, Timer};

/// How many messages with entries one flush sends; the rest follows when the successor is heard.
const FRAMES_PER_FLUSH: usize = 4;

/// The successor, as its predecessor sees it in this epoch.
///
/// Invariant: `received < next`, once it was heard.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) id: NodeId,
    pub(super) life: Life,
    pub(super) state: MemberState,
    /// The first entry to send next; `None` until it has said where it stands.
    next: Option<u64>,
    /// Its log agrees with ours up to here.
    received: u64,
    /// And is durable up to here.
    pub(super) durable: u64,
    /// The frame behind this index is to be sent again.
    resend_after: Option<u64>,
    /// Behind which index a frame was sent again last: once is enough until it has got on, or the next heartbeat.
    resent_after: Option<u64>,
    /// What it had, and what was to be sent next, at the last heartbeat; and whether it has missed something since.
    received_then: u64,
    next_then: u64,
    gap_since: bool,
    /// The watermark and commit index that it was told last.
    told: (u64, u64),
    /// It is waited for: nothing is committed in this epoch without it any more.
    pub(super) counted: bool,
    /// A snapshot instead of entries.
    pub(super) outgoing: Option<Outgoing>,
    /// No entry before this is sent. 0; it is a bug to have another.
    floor: u64,
}

impl Successor {
    pub(super) fn new(member: Member, floor: u64) -> Successor {
        assert!(member.state <= MemberState::Syncing, "only who takes part is sent to");
        Successor {
            id: member.node,
            life: member.life,
            state: member.state,
            next: None,
            received: 0,
            durable: 0,
            resend_after: None,
            resent_after: None,
            received_then: 0,
            next_then: 0,
            gap_since: false,
            told: (0, 0),
            counted: false,
            outgoing: None,
            floor: if member.state == MemberState::Serving { floor } else { 0 },
        }
    }

    /// Sends from behind `received` on.
    fn go_on_after(&mut self, received: u64) {
        let next = (received + 1).max(self.floor);
        assert!(next > received, "what it has is not sent again");
        self.next = Some(next);
    }

    /// At a heartbeat: all that was sent goes out again if some of it was lost, that is, was under way at the last heartbeat already, and since
    /// then nothing came back, or word of a gap.
    fn send_again_if_lost(&mut self, counters: &mut Counters) {
        let old = self.next_then > self.received + 1;
        if old && (self.gap_since || self.received == self.received_then) {
            counters.resent += 1;
            self.go_on_after(self.received);
        }
        self.received_then = self.received;
        self.next_then = self.next.unwrap_or(0);
        self.gap_since = false;
    }

    /// Whether it has said in this epoch where it stands.
    pub(super) fn was_heard(&self) -> bool {
        self.next.is_some()
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// It has the state and log up to `index`.
    pub(super) fn installed(&mut self, index: u64) {
        self.outgoing = None;
        self.received = self.received.max(index);
        self.durable = self.durable.max(index);
        assert!(self.durable <= self.received, "only what it has is durable there");
        self.go_on_after(self.received);
    }

    pub(super) fn assert_invariants(&self, last_index: u64) {
        assert!(self.received <= last_index, "it has nothing that was not sent");
        assert!(self.durable <= self.received, "only what it has is durable there");
        assert!(self.next.is_none_or(|next| next <= last_index + 1), "only what is held is sent");
        assert!(self.next.is_none_or(|next| next > self.received), "what it has is not sent again");
        assert!(!self.counted || self.state == MemberState::Syncing, "who serves is waited for anyway");
    }
}

impl Chain {
    pub(super) fn on_ack(
        &mut self,
        received: u64,
        durable: u64,
        commit: u64,
        gap: bool,
        out: &mut impl Sink<Self>,
    ) {
        let last_index = self.tail.last().index;
        let Some(successor) = &mut self.successor else { return };
        if received > last_index || durable > received || commit > received {
            self.counters.refused_contradictions += 1;
            return;
        }
        let first = successor.next.is_none();
        if first {
            successor.go_on_after(received);
        } else if gap && received >= successor.received && successor.resent_after != Some(received) {
            // The next frame was lost, or overtaken by later ones: those it keeps. Sending twice does no harm.
            successor.resend_after = Some(received);
            successor.resent_after = Some(received);
        }
        successor.gap_since |= gap;
        successor.received = successor.received.max(received);
        successor.durable = successor.durable.max(durable);
        assert!(successor.durable <= successor.received, "only what it has is durable there");
        if successor.next.is_some_and(|next| next <= successor.received) {
            successor.go_on_after(successor.received);
        }
        match successor.state {
            // What its tail has committed is on every disk, this one included.
            MemberState::Serving => self.commit_to(commit, out),
            _ => self.advance_commit(out),
        }
    }

    /// Passes on what is new: entries, or how far they are durable and committed.
    pub(super) fn flush_forward(&mut self, out: &mut impl Sink<Self>) {
        let (base, last) = (self.tail.base(), self.tail.last());
        let (watermark, commit, epoch) = (self.watermark(), self.commit, self.epoch);
        let Some(successor) = &mut self.successor else { return };
        if successor.outgoing.is_some() {
            if successor.received < base.index {
                return;
            }
            // It says that it has as much as the checkpoint; that this was installed was said in an answer that is late, or lost. Asked
            // again, this member would want a newer checkpoint to send, and with nothing committed meanwhile there is none (seed 40156).
            successor.outgoing = None;
            successor.go_on_after(successor.received);
        }
        let Some(mut next) = successor.next else { return };
        if next <= base.index {
            assert!(
                successor.state == MemberState::Syncing || successor.floor > 0,
                "who serves has what is committed"
            );
            successor.outgoing = Some(Outgoing::new());
            self.counters.snapshots_begun += 1;
            return out.snapshot_out(SnapshotRead { to: successor.id, chunk: 0 });
        }
        if let Some(after) = successor.resend_after.take()
            && (after + 1).max(successor.floor) < next
            && after >= base.index
        {
            self.counters.resent += 1;
            let again = (after + 1).max(successor.floor);
            let entries = frame(&self.tail, again, self.config.max_append_bytes);
            let prev = place_before(&self.tail, again);
            let body = Body::Forward { prev, entries, watermark, commit };
            // Early: as below.
            out.send_early(successor.id, super::Message { group: self.config.group, epoch, body });
        }
        for _ in 0..FRAMES_PER_FLUSH {
            let unanswered = next - 1 - successor.received.min(next - 1);
            if next > last.index || unanswered >= self.config.max_inflight_entries {
                break;
            }
            let entries = frame(&self.tail, next, self.config.max_append_bytes);
            let prev = place_before(&self.tail, next);
            next += entries.len() as u64;
            let body = Body::Forward { prev, entries, watermark, commit };
            // Early: the message itself says how far this disk has what it carries. A member that loses entries in a crash never counts
            // again in this epoch, and comes back by resync.
            out.send_early(successor.id, super::Message { group: self.config.group, epoch, body });
            successor.told = (watermark, commit);
        }
        assert!(next <= last.index + 1, "only what is held is sent");
        successor.next = Some(next);
        // Who serves has told what is committed.
        let commit_is_news = successor.told.1 != commit && successor.state == MemberState::Syncing;
        if successor.told.0 != watermark || commit_is_news {
            successor.told = (watermark, commit);
            let prev = place_before(&self.tail, next);
            let body = Body::Forward { prev, entries: Vec::new(), watermark, commit };
            // Early: what it calls durable is.
            out.send_early(successor.id, super::Message { group: self.config.group, epoch, body });
        }
    }

    /// Up to here this member and all before it are durable.
    pub(super) fn watermark(&self) -> u64 {
        match self.predecessor {
            None => self.own_durable(),
            Some(_) => self.own_durable().min(self.upstream_durable),
        }
    }

    /// Speaks to the successor even if there is nothing to say: what was lost is found so.
    pub(super) fn on_heartbeat_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        out.set_timer(Timer::Heartbeat, now_ns + self.config.heartbeat_ns());
        self.resend_snapshot(now_ns, out);
        self.retry_reads(now_ns, out);
        let (watermark, commit) = (self.watermark(), self.commit);
        let last_index = self.tail.last().index;
        let Some(successor) = &mut self.successor else { return };
        successor.resent_after = None;
        if successor.outgoing.is_some() {
            return;
        }
        successor.send_again_if_lost(&mut self.counters);
        let next = successor.next.unwrap_or(last_index + 1);
        if next <= self.tail.base().index {
            return;
        }
        let id = successor.id;
        let prev = place_before(&self.tail, next);
        // Early: what it calls durable is.
        out.send_early(id, self.message(Body::Forward { prev, entries: Vec::new(), watermark, commit }));
    }
}

/// The place before the entry `next`, which is held or the next to come.
fn place_before(tail: &Tail, next: u64) -> Position {
    assert!(next > tail.base().index, "what is in the checkpoint is not sent entry by entry");
    let index = next - 1;
    Position { index, term: tail.term_at(index).expect("what was sent is in the tail") }
}

/// The entries from `next` on, up to `max_bytes`, at least one.
fn frame(tail: &Tail, next: u64, max_bytes: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    for slot in tail.slots_from(next).expect("the next entry is in the tail") {
        bytes += slot.entry.len_bytes();
        if !entries.is_empty() && bytes > max_bytes {
            break;
        }
        entries.push(slot.entry.clone());
    }
    assert!(entries.first().is_some_and(|first| first.index() == next), "the next one is there to be sent");
    entries
}
