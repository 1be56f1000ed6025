//! Leader-follower: one leader orders a group's commands and streams them to its followers. Who leads, and for how long, comes from outside.
//!
//! *What it guarantees.* With `acks` = k > 0 what was delivered anywhere is on the leader's disk and on k followers', and is never lost
//! while the catalog promotes the most advanced of at least members − k sealed members. With `acks` = 0 the leader's disk is enough, and a
//! promotion may lose what had not reached the new leader; every member then still is, or becomes again, a prefix of the leader, and what was
//! lost is reported before it is cut off ([`Loss`]). Linearizable reads are answered by the leader, within its lease; stale ones by any member, with
//! an upper bound of their age; a session's own writes by any member that has applied them.
//!
//! *From.* Primary-backup replication with an external configuration service: Alsberg & Day, "A Principle for Resilient Sharing of
//! Distributed Resources" (1976); Liskov & Cowling, "Viewstamped Replication Revisited" (2012), for what a view change must collect; Gray &
//! Cheriton, "Leases" (1989). `docs/protocols/leader-follower.md` says where we differ.
//!
//! ```text
//!                          assign: I lead, never led this epoch        that is durable
//!            ┌──────────┐ ─────────────────────────────▶ ┌───────────┐ ──────────────▶ ┌─────────┐
//!   start ──▶│ follower │                                │ appointed │                 │ leading │◀─┐ grant: serves until
//!            └──────────┘ ◀───────────────────────────── └───────────┘ ◀────────────── └─────────┘──┘ the lease ends
//!                          any newer epoch: seal, assign, another leader's append
//! ```
//! Any restart ends a leadership: the leader may have lost entries that its followers have, and another leadership in the same epoch
//! would make other entries in their places.
//!
//! *Reading order.* `config`, `message`, `record`; here the dispatch; then `leader`, `follower`, `snapshot`, `recovery`; `session` and `epochs` are
//! reads by token; `succession` is the catalog's part, `kept` how that is written down; `status` is what others may see. Members are fixed.

mod config;
mod epochs;
mod follower;
pub mod invariants;
mod kept;
mod leader;
mod message;
mod record;
mod recovery;
mod session;
mod snapshot;
mod status;
mod succession;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;

use bytes::Bytes;
use keypact_log::{Position, Tail};
use keypact_protocol::{
    Context, Delivery, Input, Lsn, NodeId, Plant, Protocol, ReadLevel, RecoveryError, Refusal, Reply,
    Request, RequestId, Sink, planted,
};

use epochs::Epochs;
use follower::Append;
use leader::Leader;
use snapshot::Incoming;

pub use config::{Config, ConfigError, MEMBERS_MAX};
pub use invariants::{LeaderFollowerInvariants, Violation};
pub use message::{AppendOutcome, Body, CHUNK_BYTES_MAX, META_BYTES_MAX, Message, SnapshotOutcome};
pub use record::{HardState, Record};
pub use recovery::Recovering;
pub use status::Counters;
pub use succession::{Blocked, Choice, Extent, Leadership, Loss, Sealing, Succession, SuccessionConfig};

/// Under this number the catalog speaks; no node has it.
pub const CATALOG: NodeId = NodeId(0);

/// The timers of a leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time to speak to the followers.
    Heartbeat,
    /// Time to ask for the lease to be renewed.
    Renew,
}

/// One member of a group.
///
/// Invariants: `tail.base <= delivered <= commit <= tail.last`; no entry is of a later epoch than the member's; who leads has written that
/// it does; requests stand in the tail only while this member leads.
#[derive(Debug)]
pub struct LeaderFollower {
    config: Config,
    hard: HardState,
    tail: Tail,
    disk: Disk,
    /// The highest index known to be visible.
    commit: u64,
    /// The highest index given to the parent.
    delivered: u64,
    /// `None`: it follows, or waits to be told whom.
    leading: Option<Box<Leader>>,
    leader: Option<NodeId>,
    /// Up to here this log is known to be as the leader's of this epoch.
    agreed: u64,
    /// It has applied what the leader does not have; see [`AppendOutcome::Diverged`].
    diverged: bool,
    /// A log that ends so may be cut: the catalog has written down what is lost with it. Of this epoch.
    noted: Option<Position>,
    /// Which epochs the checkpoint's entries are of.
    epochs: Epochs,
    /// When this life began, by its own clock.
    born_ns: u64,
    /// What was acknowledged before is applied here; by its own clock, 0: nothing is known.
    fresh_ns: u64,
    incoming: Option<Incoming>,
    /// A checkpoint is being written.
    checkpoint_pending: bool,
    /// A shorter log, or a checkpoint to send, is wanted.
    compact_wanted: bool,
    /// There is a checkpoint, this member's or one that it was sent.
    has_checkpoint: bool,
    /// From this the entries' seeds are made.
    seed: u64,
    counters: Counters,
}

/// What this member wrote, and how much of it is durable.
#[derive(Clone, Copy, Debug)]
struct Disk {
    durable: Lsn,
    last_append: Lsn,
    /// The newest hard state.
    hard: Lsn,
    /// Once this hard state is durable, everything before it and before the tail can go.
    drop_after: Option<Lsn>,
}

impl Protocol for LeaderFollower {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering;

    fn begin(config: Config, checkpoint: Option<Bytes>, seed: u64) -> Result<Recovering, RecoveryError> {
        Recovering::begin(config, checkpoint, seed)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Start => self.start(context.now_ns, out),
            Input::Message { from: CATALOG, message } => self.on_catalog(message, context, out),
            Input::Message { from, message } => self.on_peer(from, message, context.now_ns, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, command, context, out),
            Input::Request(Request::Read { id, level } | Request::ReadKey { id, level, .. }) => {
                self.on_read(id, level, context.now_ns, out)
            }
            Input::Timer(Timer::Heartbeat) => self.on_heartbeat_timer(context.now_ns, out),
            Input::Timer(Timer::Renew) => self.on_renew_timer(context.now_ns, out),
            Input::Durable(lsn) => self.on_durable(lsn, context, out),
            Input::Unreachable(peer) => self.on_unreachable(peer),
            Input::Snapshot(input) => self.on_snapshot_input(input, context.now_ns, out),
            Input::Compact => self.compact_wanted = true,
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.flush_appends(context.now_ns, out);
        self.flush_checkpoint(out);
    }

    fn assert_invariants(&self) {
        self.tail.assert_invariants();
        let last = self.tail.last();
        assert!(self.tail.base().index <= self.delivered, "a checkpoint holds only what was delivered");
        assert!(self.delivered <= self.commit, "only what is visible is delivered");
        assert!(self.commit <= last.index, "what is visible is in the log");
        assert!(self.agreed <= last.index, "only what is held can agree");
        assert!(last.term <= self.hard.epoch, "no entry is of an epoch not yet known");
        assert!(!self.diverged || self.fresh_ns == 0, "who has applied what is lost is not fresh");
        assert!(!self.diverged || self.agreed < self.commit, "who has diverged has applied more than agrees");
        assert!(self.fresh_ns == 0 || self.fresh_ns >= self.born_ns, "times are of this life");
        assert!(self.leader != Some(CATALOG), "the catalog is no member");
        assert!(
            self.disk.durable <= self.disk.last_append || self.disk.drop_after.is_none(),
            "nothing waits"
        );
        match &self.leading {
            Some(leader) => {
                assert!(self.hard.led, "a leader has written that it leads");
                assert!(self.leader == Some(self.config.id), "a leader knows that it leads");
                assert!(self.incoming.is_none() && !self.diverged, "a leader's log is the right one");
                leader.assert_invariants(last.index);
            }
            None => assert!(self.leader != Some(self.config.id), "a follower follows somebody else"),
        }
    }
}

impl LeaderFollower {
    fn start(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        assert!(self.leading.is_none(), "every life begins as a follower");
        self.born_ns = now_ns;
        let first_epoch = self.hard.epoch == self.config.epoch;
        if first_epoch && !self.hard.led && self.config.leader == self.config.id {
            self.become_appointed(out);
        } else if first_epoch && self.config.leader != self.config.id {
            self.leader = Some(self.config.leader);
        }
    }

    fn on_catalog(&mut self, message: Message, context: Context, out: &mut impl Sink<Self>) {
        let Message { epoch, body } = message;
        let appoints = matches!(body, Body::Seal | Body::Assign { .. });
        if !appoints && !matches!(body, Body::Grant { .. } | Body::Noted { .. }) {
            self.counters.refused_contradictions += 1;
            return;
        }
        if self.refuses(epoch, appoints, out) {
            return;
        }
        match body {
            Body::Seal => self.on_seal(out),
            Body::Assign { leader, after } => self.on_assign(leader, after, out),
            Body::Grant { sent_ns, lease_ns, allowed } => {
                self.on_grant(sent_ns, lease_ns, allowed, context.now_ns);
            }
            Body::Noted { last, kept } => self.on_noted(last, kept, out),
            _ => unreachable!("looked at above"),
        }
    }

    fn on_peer(&mut self, from: NodeId, message: Message, now_ns: u64, out: &mut impl Sink<Self>) {
        if !self.config.is_member(from) || from == self.config.id {
            self.counters.refused_strangers += 1;
            return;
        }
        let Message { epoch, body } = message;
        let leads = matches!(body, Body::Append { .. } | Body::Snapshot { .. });
        if self.refuses(epoch, leads, out) {
            return;
        }
        if leads && !self.follow(from) {
            return;
        }
        match body {
            Body::Append { prev, entries, commit, echo_ns } => {
                self.on_append(from, Append { prev, entries, commit, echo_ns }, now_ns, out);
            }
            Body::Snapshot { log_end, chunk } => self.on_snapshot_chunk(from, log_end, chunk, out),
            Body::AppendReply { outcome, sent_ns } => self.on_append_reply(from, outcome, sent_ns, out),
            Body::SnapshotReply { index, outcome } => self.on_snapshot_reply(from, index, outcome, out),
            Body::Seal
            | Body::Sealed { .. }
            | Body::Assign { .. }
            | Body::Tail { .. }
            | Body::Noted { .. }
            | Body::Renew { .. }
            | Body::Resigned
            | Body::Grant { .. } => {
                self.counters.refused_contradictions += 1;
            }
        }
    }

    /// Whether a message of this epoch is to be passed over. A newer epoch is adopted, if the message is one that can bring it.
    fn refuses(&mut self, epoch: u64, brings_epoch: bool, out: &mut impl Sink<Self>) -> bool {
        if epoch < self.hard.epoch {
            self.counters.refused_stale += 1;
            return true;
        }
        if epoch > self.hard.epoch {
            if !brings_epoch {
                self.counters.refused_contradictions += 1;
                return true;
            }
            self.adopt_epoch(epoch, out);
        }
        assert!(epoch == self.hard.epoch, "from here on both are in one epoch");
        false
    }

    /// Older epochs are sealed from now on; who leads this one is not yet known.
    fn adopt_epoch(&mut self, epoch: u64, out: &mut impl Sink<Self>) {
        assert!(epoch > self.hard.epoch, "epochs never fall");
        if self.leading.is_some() {
            self.step_down(out);
        }
        self.leader = None;
        self.agreed = 0;
        self.diverged = false;
        self.noted = None;
        if !self.is_installing() {
            self.incoming = None;
        }
        self.write_hard(HardState { epoch, led: false }, out);
    }

    /// Takes `from` for the leader of the present epoch. `false` if that would make two.
    fn follow(&mut self, from: NodeId) -> bool {
        if self.leading.is_some() || self.hard.led || self.leader.is_some_and(|leader| leader != from) {
            self.counters.refused_contradictions += 1;
            return false;
        }
        self.leader = Some(from);
        true
    }

    fn on_seal(&mut self, out: &mut impl Sink<Self>) {
        if self.hard.led {
            // The catalog seals before it assigns: this is an old message, come late.
            self.counters.refused_contradictions += 1;
            return;
        }
        if self.is_installing() {
            // The log may be replaced at any moment; the catalog asks again.
            return;
        }
        let last = self.tail.last();
        // Held until the epoch and all of the log that it speaks of are durable.
        self.send_catalog(Body::Sealed { last, visible: self.commit }, out);
    }

    fn on_assign(&mut self, leader: NodeId, after: Position, out: &mut impl Sink<Self>) {
        if leader != self.config.id {
            if !self.config.is_member(leader) || !self.follow(leader) {
                self.counters.refused_contradictions += 1;
            } else if self.tail.last().term < self.hard.epoch && self.commit > after.index {
                // All that it holds is of older epochs, and some of what it has applied is not in the log that goes on.
                self.has_diverged();
            }
            self.tell_divergence(out);
        } else if self.leading.is_none() && self.hard.led {
            // It led this epoch in an earlier life. The catalog need not wait for its lease: no life but that one could use it.
            self.counters.refused_to_lead_again += 1;
            self.send_catalog(Body::Resigned, out);
        } else if self.leading.is_none() && !self.is_installing() {
            if !self.cut_to(after) {
                self.counters.refused_to_lead_diverged += 1;
                return;
            }
            self.become_appointed(out);
        }
    }

    /// Gives up what stands behind `after`; the epoch's first entry voids it on disk. `false`, and nothing is changed, if that can't be: the log
    /// does not have that place, or more was applied.
    fn cut_to(&mut self, after: Position) -> bool {
        let last = self.tail.last();
        if last == after || planted(Plant::PromotesUnsealed) {
            return true;
        }
        if self.tail.term_at(after.index) != Some(after.term) || self.commit > after.index {
            return false;
        }
        assert!(after.index < last.index, "another place in the log is before its end");
        self.counters.truncated_entries += last.index - after.index;
        self.tail.truncate_from(after.index + 1);
        true
    }

    fn on_durable(&mut self, lsn: Lsn, context: Context, out: &mut impl Sink<Self>) {
        assert!(lsn >= self.disk.durable, "what is durable stays so");
        self.disk.durable = lsn;
        self.tail.durable(lsn);
        self.drop_log_if_safe(out);
        self.begin_to_lead_if_durable(context, out);
        self.advance_commit(out);
        self.install_if_durable(out);
    }

    fn on_read(&mut self, id: RequestId, level: ReadLevel, now_ns: u64, out: &mut impl Sink<Self>) {
        if level == ReadLevel::Stale {
            if self.diverged {
                self.counters.refused_diverged += 1;
                return self.refuse(id, Refusal::NotLeader { leader: self.leader }, out);
            }
            // Early: any state will do.
            return out.reply_early(Reply::ReadFrom { id, index: 0 });
        }
        if let ReadLevel::Session { epoch, index } = level {
            return self.on_session_read(id, epoch, index, out);
        }
        match self.serves(now_ns) {
            // What earlier leaders made visible stands before the epoch's first entry. Early: all of that is on disks already.
            Ok(epoch_start) => {
                self.counters.lease_reads += 1;
                out.reply_early(Reply::ReadFrom { id, index: self.commit.max(epoch_start) });
            }
            Err(why) => self.refuse(id, why, out),
        }
    }

    /// Gives the parent what is visible and not yet delivered; not while a snapshot takes the place of the parent's state.
    fn deliver(&mut self, out: &mut impl Sink<Self>) {
        if self.is_installing() {
            return;
        }
        while self.delivered < self.commit {
            self.delivered += 1;
            let request = self.tail.take_request(self.delivered);
            let slot = self.tail.slot(self.delivered).expect("what is visible is in the tail");
            let header = slot.entry.header();
            // Early: the entry is on as many disks as the policy asks for. Should this member lose power now, it loses the parent's
            // state with it, and delivers the entry again once it hears again that it is visible.
            out.deliver_early(Delivery {
                index: header.index,
                stamp_ms: header.stamp_ms,
                seed: header.seed,
                command: slot.entry.command(),
                request,
            });
        }
    }

    fn append(&mut self, record: Record, out: &mut impl Sink<Self>) -> Lsn {
        let lsn = out.append(record);
        assert!(lsn > self.disk.last_append, "log sequence numbers rise");
        self.disk.last_append = lsn;
        lsn
    }

    fn write_hard(&mut self, hard: HardState, out: &mut impl Sink<Self>) {
        assert!(hard.epoch > self.hard.epoch || hard.led >= self.hard.led, "who led an epoch has led it");
        self.hard = hard;
        self.disk.hard = self.append(Record::HardState(hard), out);
    }

    /// Writes the hard state anew, so that the log before the tail is needed no more; says so once that is durable.
    fn shorten_log(&mut self, out: &mut impl Sink<Self>) {
        self.write_hard(self.hard, out);
        self.disk.drop_after = Some(self.disk.hard);
    }

    fn drop_log_if_safe(&mut self, out: &mut impl Sink<Self>) {
        if let Some(hard) = self.disk.drop_after.take_if(|hard| *hard <= self.disk.durable) {
            let first = self.tail.slot(self.tail.base().index + 1).map_or(hard, |slot| slot.lsn);
            out.drop_log_before(first.min(hard));
        }
    }

    fn message(&self, body: Body) -> Message {
        Message { epoch: self.hard.epoch, body }
    }

    fn send_catalog(&self, body: Body, out: &mut impl Sink<Self>) {
        out.send(CATALOG, self.message(body));
    }

    fn refuse(&self, id: RequestId, why: Refusal, out: &mut impl Sink<Self>) {
        // Early: a refusal says that nothing was written, which no crash can make untrue.
        out.reply_early(Reply::Refused { id, why });
    }

    fn is_installing(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_installing)
    }
}
