//! Leading: the lease, proposals, the stream to the followers, and what is visible.

use alloc::boxed::Box;
use alloc::vec::Vec;

use keypact_log::{Entry, EntryHeader, Kind, Outgoing, Position, Tail};
use keypact_protocol::{
    Context, Draft, HEADROOM_BYTES, NodeId, Plant, Refusal, Reply, RequestId, Sink, SnapshotRead, planted,
};

use super::{AppendOutcome, Body, Counters, HardState, LeaderFollower, Message, Record, Timer};

/// How many appends one flush sends to one follower; the rest follows when it is heard of.
const FRAMES_PER_FLUSH: usize = 4;

/// What only a leader knows.
#[derive(Debug)]
pub(super) struct Leader {
    /// The index of the entry with which the epoch began; `None` until it is durable that this member leads.
    epoch_start: Option<u64>,
    /// When the lease ends, by its own clock; 0: it never had one.
    lease_until_ns: u64,
    /// Up to this index the catalog lets it make entries.
    allowed: u64,
    /// One for each other member.
    peers: Vec<Peer>,
}

/// A follower, as its leader sees it.
///
/// Invariant: `matched < next`.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// Its log is durable, and equal to ours, up to here.
    matched: u64,
    /// The first entry to send next.
    next: u64,
    /// Whether it is not yet known where the logs agree; then one append is out at a time.
    probing: bool,
    probe_sent: bool,
    /// When it was last heard, by its own clock; 0: not yet.
    heard_ns: u64,
    /// A snapshot instead of appends.
    pub(super) outgoing: Option<Outgoing>,
}

impl Peer {
    pub(super) fn probe_from(&mut self, next: u64) {
        self.next = next.max(self.matched + 1);
        assert!(self.next > self.matched, "what was acknowledged is not sent again");
        self.probing = true;
        self.probe_sent = false;
        self.outgoing = None;
    }

    /// Its log is durable, and equal to the leader's, up to here.
    pub(super) fn matched(&self) -> u64 {
        self.matched
    }

    pub(super) fn installed(&mut self, index: u64) {
        self.matched = self.matched.max(index);
        self.probe_from(self.matched + 1);
    }

    /// Whether that is news.
    fn matches(&mut self, index: u64) -> bool {
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(index + 1);
        self.probing = false;
        assert!(self.matched < self.next, "what was acknowledged is not sent again");
        news
    }
}

impl Leader {
    pub(super) fn epoch_start(&self) -> Option<u64> {
        self.epoch_start
    }

    pub(super) fn lease_until_ns(&self) -> u64 {
        self.lease_until_ns
    }

    pub(super) fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.iter_mut()
    }

    pub(super) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == node)
    }

    pub(super) fn sends_snapshot(&self) -> bool {
        self.peers.iter().any(|peer| peer.outgoing.as_ref().is_some_and(Outgoing::has_begun))
    }

    /// Whether a follower waits for a snapshot.
    pub(super) fn owes_snapshot(&self) -> bool {
        self.peers.iter().any(|peer| peer.outgoing.is_some())
    }

    /// Whether all that was acknowledged so far, by anyone, is at or before `commit`: nobody else serves while the lease holds, and what earlier
    /// leaders made visible stands before the epoch's first entry.
    fn knows_all(&self, commit: u64, now_ns: u64) -> bool {
        now_ns < self.lease_until_ns && self.epoch_start.is_some_and(|start| commit >= start)
    }

    /// The highest index that at least `acks` followers have on disk.
    fn acknowledged(&self, acks: usize) -> u64 {
        if acks == 0 {
            return u64::MAX;
        }
        let mut matched = [0; super::MEMBERS_MAX];
        for (slot, peer) in matched.iter_mut().zip(&self.peers) {
            *slot = peer.matched;
        }
        let matched = &mut matched[..self.peers.len()];
        assert!(acks <= matched.len(), "no more acknowledgements are wanted than there are followers");
        matched.sort_unstable_by(|a, b| b.cmp(a));
        matched[acks - 1]
    }

    pub(super) fn assert_invariants(&self, last_index: u64) {
        assert!(self.epoch_start.is_none_or(|start| start <= last_index), "a leader never cuts its log");
        assert!(self.peers.len() < super::MEMBERS_MAX, "one for each other member");
        assert!(
            self.epoch_start.is_some() || self.peers.is_empty(),
            "nobody is sent to before that is durable"
        );
        assert!(self.lease_until_ns > 0 || self.allowed == 0, "the lease comes with what it allows");
        for peer in &self.peers {
            assert!(peer.matched < peer.next && peer.next <= last_index + 1, "only what is held is sent");
        }
    }
}

impl LeaderFollower {
    /// The catalog has made this member the leader. It speaks once that is durable: forgetting it, it might lead the epoch twice.
    pub(super) fn become_appointed(&mut self, out: &mut impl Sink<Self>) {
        assert!(!self.hard.led, "nobody leads an epoch twice");
        assert!(!self.is_installing(), "who leads has a log");
        self.counters.leaderships += 1;
        self.incoming = None;
        self.diverged = false;
        self.leader = Some(self.config.id);
        self.fresh_ns = 0;
        let leader = Leader { epoch_start: None, lease_until_ns: 0, allowed: 0, peers: Vec::new() };
        self.leading = Some(Box::new(leader));
        self.write_hard(HardState { epoch: self.hard.epoch, led: true }, out);
    }

    pub(super) fn begin_to_lead_if_durable(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let Some(leader) = &mut self.leading else { return };
        if leader.epoch_start.is_some() || self.disk.hard > self.disk.durable {
            return;
        }
        let start = self.tail.last().index + 1;
        leader.epoch_start = Some(start);
        let others = self.config.members.iter().filter(|member| **member != self.config.id);
        leader.peers = others
            .map(|id| Peer {
                id: *id,
                matched: 0,
                next: start,
                probing: true,
                probe_sent: false,
                heard_ns: 0,
                outgoing: None,
            })
            .collect();
        assert!(leader.peers.len() + 1 == self.config.members.len(), "a leader speaks to all others");
        // An entry of its own epoch makes visible what came before: entries of older epochs are not made visible by counting copies,
        // since a member with a later epoch's entry may yet be promoted over them (Raft's figure 8 is ours too).
        self.append_own(Draft::copy_of(&[]), Kind::Noop, None, context, out);
        self.on_heartbeat_timer(context.now_ns, out);
        self.on_renew_timer(context.now_ns, out);
    }

    /// Stops leading. What waits may yet become visible through the next leader.
    pub(super) fn step_down(&mut self, out: &mut impl Sink<Self>) {
        assert!(self.leading.is_some(), "only a leader steps down");
        self.leading = None;
        self.leader = None;
        self.counters.stepped_down += 1;
        out.cancel_timer(Timer::Heartbeat);
        out.cancel_timer(Timer::Renew);
        for index in self.delivered + 1..=self.tail.last().index {
            if let Some(id) = self.tail.take_request(index) {
                // Early: "uncertain" is true whatever the disk does.
                out.reply_early(Reply::Uncertain { id });
            }
        }
    }

    /// The index with which the epoch began, if this member leads and its lease holds.
    pub(super) fn serves(&mut self, now_ns: u64) -> Result<u64, Refusal> {
        let Some(leader) = &self.leading else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        let Some(epoch_start) = leader.epoch_start else {
            return Err(Refusal::NotLeader { leader: None });
        };
        assert!(self.hard.led && epoch_start > 0, "who leads has written so, and has an entry of its own");
        if now_ns < leader.lease_until_ns || planted(Plant::ServesPastLease) {
            return Ok(epoch_start);
        }
        // Whoever leads now, it can't know: the catalog may have given the place to another.
        self.counters.refused_past_lease += 1;
        Err(Refusal::NotLeader { leader: None })
    }

    pub(super) fn on_grant(&mut self, sent_ns: u64, lease_ns: u64, allowed: u64, now_ns: u64) {
        let margin_ns = lease_ns / 1_000_000 * self.config.drift_bound_ppm;
        let Some(leader) = &mut self.leading else { return };
        // Who has not begun to lead has asked for nothing.
        if sent_ns > now_ns || leader.epoch_start.is_none() {
            self.counters.refused_contradictions += 1;
            return;
        }
        assert!(margin_ns <= lease_ns, "the drift bound leaves a lease");
        // Counted from when it asked: the catalog can't have answered before. Times of an earlier life belong to an earlier epoch.
        leader.lease_until_ns = leader.lease_until_ns.max(sent_ns + (lease_ns - margin_ns));
        leader.allowed = leader.allowed.max(allowed);
    }

    pub(super) fn on_renew_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if self.leading.is_some() {
            out.set_timer(Timer::Renew, now_ns + self.config.renew_ns());
            let last = self.tail.last().index;
            // Early: that it leads this epoch is durable since before it began to.
            out.send_early(super::CATALOG, self.message(Body::Renew { sent_ns: now_ns, last }));
        }
    }

    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: Draft,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        if let Err(why) = self.serves(context.now_ns) {
            return self.refuse(id, why, out);
        }
        let length = command.command_len();
        if length > self.config.max_command_bytes {
            return self.refuse(id, Refusal::TooLarge, out);
        }
        let last_index = self.tail.last().index;
        if self.leading.as_ref().is_some_and(|leader| last_index >= leader.allowed) {
            // The catalog could not say how much is lost, should this member be gone. It allows more with the next renewal.
            self.counters.refused_past_allowance += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        if self.tail.has_room(length + HEADROOM_BYTES).is_err() {
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        self.append_own(command, Kind::Command, Some(id), context, out);
    }

    fn append_own(
        &mut self,
        command: Draft,
        kind: Kind,
        request: Option<RequestId>,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        assert!(self.leading.is_some(), "only a leader makes entries");
        let header = EntryHeader {
            term: self.hard.epoch,
            index: self.tail.last().index + 1,
            stamp_ms: self.tail.next_stamp_ms(context.wall_ms),
            seed: self.next_seed(),
            kind,
        };
        assert!(header.index > self.commit, "a new entry is not yet visible");
        let entry = Entry::seal(command, header);
        let lsn = self.append(Record::Entry(entry.clone()), out);
        self.tail.append(entry, lsn, request);
    }

    /// SplitMix64 (Steele, Lea & Flood, 2014).
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Makes visible what is durable here and on enough followers.
    pub(super) fn advance_commit(&mut self, out: &mut impl Sink<Self>) {
        let Some(leader) = &self.leading else { return };
        let Some(epoch_start) = leader.epoch_start else { return };
        let acks = if planted(Plant::UnacknowledgedVisible) { 0 } else { self.config.acks };
        let index = self.tail.durable_index().min(leader.acknowledged(acks));
        assert!(index <= self.tail.last().index, "only what is held is counted");
        if index <= self.commit || index < epoch_start {
            return;
        }
        assert!(self.tail.term_at(index) == Some(self.hard.epoch), "counted entries are of this epoch");
        self.commit = index;
        self.deliver(out);
    }

    /// What was lost is found by the next heartbeat, whose place a follower then does not have.
    pub(super) fn on_heartbeat_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let Some(leader) = &mut self.leading else { return };
        out.set_timer(Timer::Heartbeat, now_ns + self.config.heartbeat_ns());
        let (base, last_index) = (self.tail.base().index, self.tail.last().index);
        let (epoch, commit) = (self.hard.epoch, self.commit);
        let knows_all = leader.knows_all(commit, now_ns);
        for peer in &mut leader.peers {
            peer.probe_sent = false;
            // A probe that carries entries says all that a heartbeat would; the next flush sends it again.
            if peer.outgoing.is_some() || (peer.probing && peer.next <= last_index) {
                continue;
            }
            if peer.next <= base {
                // What it has not acknowledged is in the checkpoint by now, so no heartbeat can find what was lost.
                peer.probe_from(peer.next);
                continue;
            }
            let index = peer.next - 1;
            let term = self.tail.term_at(index).expect("what was sent is in the tail");
            let prev = Position { index, term };
            let echo_ns = if knows_all { peer.heard_ns } else { 0 };
            let body = Body::Append { prev, entries: Vec::new(), commit, echo_ns };
            // Early: what is visible is durable where it must be, and that this member leads is, too.
            out.send_early(peer.id, Message { epoch, body });
        }
        self.resend_snapshots(now_ns, out);
    }

    pub(super) fn on_unreachable(&mut self, node: NodeId) {
        let Some(leader) = &mut self.leading else { return };
        // A probe goes on: begun anew it would look from the very beginning, and each hint would send one more.
        if let Some(peer) = leader.peer_mut(node).filter(|peer| peer.outgoing.is_none() && !peer.probing) {
            peer.probe_from(peer.matched + 1);
        }
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: NodeId,
        outcome: AppendOutcome,
        sent_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        let last_index = self.tail.last().index;
        let Some(peer) = self.leading.as_mut().and_then(|leader| leader.peer_mut(from)) else { return };
        // The latest, not the greatest: a clock that began anew with its node counts from its new beginning.
        peer.heard_ns = sent_ns;
        match outcome {
            AppendOutcome::Match { index } if index > last_index => self.counters.refused_contradictions += 1,
            AppendOutcome::Match { index } => {
                if peer.matches(index) {
                    self.advance_commit(out);
                }
            }
            AppendOutcome::Conflict { prev_index, next } => {
                // What it has matched it does not contradict; but its checkpoint may reach further than is known here.
                let stale = peer.outgoing.is_some()
                    || (prev_index <= peer.matched && next <= peer.matched + 1)
                    || (peer.probing && prev_index + 1 != peer.next);
                if stale || next == 0 {
                    return;
                }
                self.counters.conflicts += 1;
                if next > last_index + 1 {
                    // Its checkpoint reaches beyond this log: nothing is left to compare.
                    begin_snapshot(peer, &mut self.counters, out);
                } else {
                    peer.probe_from(next);
                }
            }
            AppendOutcome::Diverged { agreed } if agreed > last_index => {
                self.counters.refused_contradictions += 1
            }
            AppendOutcome::Diverged { agreed } => {
                // Its last acknowledgement may have been lost, or come later.
                let news = agreed > peer.matched;
                peer.matched = peer.matched.max(agreed);
                peer.next = peer.next.max(agreed + 1);
                if peer.outgoing.is_none() {
                    begin_snapshot(peer, &mut self.counters, out);
                }
                if news {
                    self.advance_commit(out);
                }
                self.show_again(agreed, out);
            }
        }
    }

    /// A follower that has diverged has applied all up to `agreed`, so that was visible in an earlier epoch: showing it again takes no more copies
    /// than there are. Without this no checkpoint would ever reach so far if all followers have diverged, as none could acknowledge the epoch's
    /// first entry (seed 1442124415 of scenario `leader-follower`).
    fn show_again(&mut self, agreed: u64, out: &mut impl Sink<Self>) {
        let start = self.leading.as_ref().and_then(|leader| leader.epoch_start());
        let index = agreed.min(start.map_or(0, |start| start - 1)).min(self.tail.durable_index());
        if index > self.commit {
            self.counters.shown_again += 1;
            self.commit = index;
            self.deliver(out);
        }
    }

    /// Sends each follower what is new to it, in few frames.
    pub(super) fn flush_appends(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let Some(leader) = &mut self.leading else { return };
        if leader.epoch_start.is_none() {
            return;
        }
        let (base, last, epoch) = (self.tail.base(), self.tail.last(), self.hard.epoch);
        let knows_all = leader.knows_all(self.commit, now_ns);
        for peer in &mut leader.peers {
            for _ in 0..FRAMES_PER_FLUSH {
                let waits = if peer.probing {
                    peer.probe_sent
                } else {
                    peer.next - peer.matched > self.config.max_inflight_entries
                };
                if peer.outgoing.is_some() || peer.next > last.index || waits {
                    break;
                }
                if peer.next <= base.index {
                    // No log is kept for who is gone for long: a checkpoint brings it back.
                    self.counters.left_behind += 1;
                    begin_snapshot(peer, &mut self.counters, out);
                    break;
                }
                let prev_term = self.tail.term_at(peer.next - 1).expect("the next entry is in the tail");
                let prev = Position { index: peer.next - 1, term: prev_term };
                let entries = frame(&self.tail, peer.next, self.config.max_append_bytes);
                let count = entries.len() as u64;
                let echo_ns = if knows_all { peer.heard_ns } else { 0 };
                let body = Body::Append { prev, entries, commit: self.commit, echo_ns };
                // Early: the followers' disks may be faster than ours. A leader that loses these entries in a crash never leads this
                // epoch again; its own copy was not counted, and theirs are as good as anybody's.
                out.send_early(peer.id, Message { epoch, body });
                if peer.probing {
                    peer.probe_sent = true;
                } else {
                    peer.next += count;
                }
            }
        }
    }
}

fn begin_snapshot(peer: &mut Peer, counters: &mut Counters, out: &mut impl Sink<LeaderFollower>) {
    assert!(peer.outgoing.is_none(), "one snapshot at a time is on its way to a follower");
    peer.probe_from(peer.next);
    peer.outgoing = Some(Outgoing::new());
    counters.snapshots_begun += 1;
    out.snapshot_out(SnapshotRead { to: peer.id, chunk: 0 });
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
