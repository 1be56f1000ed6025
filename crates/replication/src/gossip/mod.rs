//! Gossip: peer-to-peer replication. Every replica takes reads and writes; what changed spreads from peer to peer, and conflicts are resolved by
//! the type of the data.
//!
//! *What it guarantees.* The state is a [`Lattice`](keypact_crdt::Lattice): replicas that have applied the same events are equal, and replicas that
//! can reach each other, over others too, apply the same events in the end. A write is acknowledged once it is on the own disk and on
//! those of `acks` peers. It can be lost only if all replicas that have it lose their disks, or are away for longer than the catalog keeps
//! their place. Nothing that was deleted comes back, whoever comes back.
//!
//! *From.* Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987): push-pull anti-entropy. Almeida, Shoker & Baquero,
//! "Delta State Replicated Data Types" (2018): deltas, and the condition under which one may be applied. Van Renesse et al., "Efficient
//! Reconciliation and Flow Control for Anti-Entropy Protocols" (2008): digests, then only what is missing, within a budget.
//! `docs/protocols/gossip.md` says where we differ.
//!
//! ```text
//!                    a view with me, under a new identity                   has all that a member had
//!            ┌─────┐ ────────────────────────────────────▶ ┌─────────┐ ─────────────────────────────▶ ┌─────────┐◀── founder
//!   blank ──▶│ out │   forgets its state                    │ joining │                                │ serving │
//!            └─────┘ ◀──────────────────────────────────── └─────────┘                                └─────────┘
//!               ▲                a view without me                                                        │ a view in which I drain
//!               │                                                                   ┌──────────┐          ▼
//!               └────────────────────────── a view without me ───────────────────── │ draining │ ◀────────┘  takes no writes
//!                                                                                   └──────────┘
//! ```
//! A round, with all that it may need:
//! ```text
//!   a ── Digest{what I have, ask back} ──▶ b
//!   a ◀── Deltas{what you lack} ────────── b      few and recent: as they came; else Part, Next, Part, .. of one large delta
//!   a ◀── Digest{what I have} ──────────── b      only if b lacks something, too
//!   a ── Deltas{what you lack} ──────────▶ b
//! ```
//!
//! *Reading order.* `config`, `view`, `message`, `record`, `change`; here the dispatch; then `write`, `round`, `transfer`, `membership`,
//! `recovery`; `roster` is the catalog's side; `status` is what others may see.

mod change;
mod config;
pub mod invariants;
mod membership;
mod message;
mod recent;
mod record;
mod recovery;
mod roster;
mod round;
mod status;
mod transfer;
mod view;
mod write;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{Dot, DotContext, HybridClock, HybridStamp, ReplicaId};
use keypact_protocol::{
    Context, Delivery, Incarnation, Input, Lsn, NodeId, Protocol, ReadLevel, RecoveryError, Refusal, Reply,
    Request, RequestId, Sink, SnapshotInput, Wire,
};

use recent::Recent;
use record::Meta;
use round::Pace;
use transfer::{Incoming, Outgoing};
use write::Held;

pub use change::{Change, Replicated, Writer};
pub use config::{Config, ConfigError, DELTAS_MAX, FORGETS_MAX, MEMBERS_MAX, PARTS_MAX};
pub use invariants::{GossipInvariants, Violation};
pub use message::{Ask, Body, Message};
pub use record::Record;
pub use recovery::Recovering;
pub use roster::{NodeRecord, Roster, RosterConfig, RosterRecord};
pub use status::Counters;
pub use view::{Forget, Member, View};

/// Under this number the catalog speaks; no node has it.
pub const CATALOG: NodeId = NodeId(0);

/// What a replica waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time for a round.
    Round,
    /// Time to report to the catalog.
    Report,
    /// The oldest write has waited long enough for its acknowledgements.
    Acknowledge,
}

/// One replica of a group.
///
/// Invariants: `version` is the state's; who serves is in its view, under its own identity; what is held has the last indices.
#[derive(Debug)]
pub struct Gossip<L: Replicated> {
    config: Config,
    folder: Incarnation,
    view: View,
    /// The identity under which `state` was made; kept while it is out, to know what is lost when another one is granted.
    replica: Option<ReplicaId>,
    /// Has all that a member must have.
    serving: bool,
    state: L,
    version: DotContext,
    clock: HybridClock,
    /// The last change that was written.
    index: u64,
    /// Changes that wait for an acknowledgement, or behind one that does.
    held: VecDeque<Held>,
    recent: Recent,
    /// Own deltas since the last flush.
    fresh: Vec<Bytes>,
    incoming: Option<Incoming>,
    outgoing: BTreeMap<NodeId, Outgoing>,
    transfers_begun: u64,
    /// What a member had when it was first asked: with all of that a newcomer serves.
    target: Option<DotContext>,
    /// Own events up to here are known to be on another's disk.
    spread: u64,
    spent: membership::Spent,
    pace: Pace,
    log: Log,
    /// What the parent may lack, from recovery to the start.
    again: Vec<Delivery>,
    counters: Counters,
}

/// What was written, and what of it is needed.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    last_append: Lsn,
    bytes_since_checkpoint: usize,
    /// A checkpoint is being written; it covers everything up to here.
    pending: Option<Lsn>,
    checkpointed: Lsn,
    compact_wanted: bool,
}

impl<L: Replicated> Protocol for Gossip<L> {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering<L>;

    fn begin(config: Config, checkpoint: Option<Bytes>, seed: u64) -> Result<Recovering<L>, RecoveryError> {
        Recovering::begin(config, checkpoint, seed)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Start => self.start(context, out),
            Input::Message { from, message } => self.on_message(from, message, context, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, &command, context, out),
            Input::Request(Request::Read { id, level } | Request::ReadKey { id, level, .. }) => {
                self.on_read(id, level, out);
            }
            Input::Timer(Timer::Round) => self.on_round_timer(context, out),
            Input::Timer(Timer::Report) => self.on_report_timer(context.now_ns, out),
            Input::Timer(Timer::Acknowledge) => self.on_acknowledge_timer(context.now_ns, out),
            // The gate knows what is durable; nothing here counts it.
            Input::Durable(_) => {}
            // It may come back at any moment; what it lacks then, its digest says.
            Input::Unreachable(peer) => drop(self.outgoing.remove(&peer)),
            Input::Snapshot(SnapshotInput::Checkpointed { .. }) => self.on_checkpointed(out),
            Input::Snapshot(_) => unreachable!("no snapshot was asked for"),
            Input::Compact => self.log.compact_wanted = true,
        }
    }

    fn flush(&mut self, _context: Context, out: &mut impl Sink<Self>) {
        self.push_fresh(out);
        self.keep_log_short(out);
    }

    fn assert_invariants(&self) {
        assert!(!self.serving || self.row().is_some(), "who serves is in its view");
        assert!(!self.serving || self.row().map(|row| row.replica) == self.replica, "under its own identity");
        assert!(!self.serving || self.target.is_none(), "who serves waits for nothing");
        assert!(self.view.number > 0 || self.replica.is_none(), "a view grants identities");
        assert!(self.row().is_some() || self.incoming.is_none(), "who is out is sent nothing");
        assert!(self.fresh.is_empty(), "a flush leaves nothing unsaid");
        assert!(self.held.len() <= self.config.held_max, "what waits is bounded");
        assert!(self.held.len() as u64 <= self.index, "what waits has an index");
        assert!(self.held.front().is_none_or(|held| held.wait.is_some()), "nothing waits for nothing");
        assert!(self.outgoing.len() <= self.config.transfers_max, "transfers are bounded");
        assert!(self.recent.len_bytes() <= self.config.recent_bytes_max, "what is kept is bounded");
        assert!(self.log.checkpointed <= self.log.last_append, "a checkpoint covers what was written");
        if let Some(incoming) = &self.incoming {
            incoming.assert_invariants(self.config.transfer_bytes_max);
        }
    }
}

impl<L: Replicated> Gossip<L> {
    fn start(&mut self, context: Context, out: &mut impl Sink<Self>) {
        for delivery in core::mem::take(&mut self.again) {
            // Early: its record was read from the disk.
            out.deliver_early(delivery);
        }
        assert!(self.again.is_empty(), "each life starts once");
        self.begin_rounds(context.now_ns, out);
        if self.config.report_ms > 0 {
            self.on_report_timer(context.now_ns, out);
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, context: Context, out: &mut impl Sink<Self>) {
        let Message { group, view, body } = message;
        if group != self.config.group {
            self.counters.refused_group += 1;
            return;
        }
        if let Body::View(view) = body {
            return self.on_view(view, out);
        }
        if view != self.view.number {
            return self.compare_views(from, view, &body, out);
        }
        if from == self.config.id || self.row().is_none() || self.view.place(from).is_none() {
            self.counters.refused_strangers += 1;
            return;
        }
        assert!(self.replica.is_some() && view == self.view.number, "both are members of one view");
        match body {
            Body::Digest { version, serving, ask } => {
                self.on_digest(from, &version, serving, ask, context, out)
            }
            Body::Deltas { stamp, deltas, answer } => {
                self.on_deltas(from, stamp, deltas, answer, context, out);
            }
            Body::Part { stamp, transfer, index, count, delta } => {
                self.observe(stamp, context.wall_ms);
                self.on_part(from, (transfer, index, count), delta, context.now_ns, out);
            }
            Body::Next { transfer, index } => self.on_next(from, transfer, index, context.now_ns, out),
            Body::View(_) => unreachable!("looked at above"),
            // To the catalog, not to a replica.
            Body::Report { .. } => self.counters.refused_strangers += 1,
        }
    }

    /// There is no one order in which a read could have a place: what is here will do, or nothing. A write's name is its event: as epoch the
    /// identity, as index the counter.
    fn on_read(&mut self, id: RequestId, level: ReadLevel, out: &mut impl Sink<Self>) {
        let refused = |why| Reply::Refused { id, why };
        // Early: a read promises nothing but what the parent has applied when it answers.
        out.reply_early(match level {
            ReadLevel::Linearizable | ReadLevel::Lease => refused(Refusal::NoQuorum),
            _ if !self.serving => refused(self.elsewhere()),
            ReadLevel::Stale => Reply::ReadFrom { id, index: 0 },
            ReadLevel::Session { epoch, index } => self.session_read(id, ReplicaId(epoch), index),
        });
    }

    fn session_read(&mut self, id: RequestId, writer: ReplicaId, counter: u64) -> Reply {
        if counter == 0 || self.version.contains(Dot::new(writer, counter)) {
            return Reply::ReadFrom { id, index: self.index };
        }
        // Whoever wrote it has it.
        self.counters.refused_not_seen += 1;
        assert!(self.serving, "who does not serve sends all reads elsewhere");
        let leader = self.view.has_replica(writer).then_some(writer.life().0);
        Reply::Refused { id, why: Refusal::NotLeader { leader } }
    }

    /// Not here: perhaps there.
    fn elsewhere(&mut self) -> Refusal {
        self.counters.refused_not_serving += 1;
        Refusal::NotLeader { leader: self.pick_peers(1).first().copied() }
    }

    fn message(&self, body: Body) -> Message {
        Message { group: self.config.group, view: self.view.number, body }
    }

    /// Takes note of another's clock. One that is too far ahead is passed over; what it stamped is taken all the same, since what a
    /// register shows is decided by causes first.
    fn observe(&mut self, stamp: HybridStamp, wall_ms: u64) {
        if self.clock.observe(stamp, wall_ms).is_err() {
            self.counters.stamps_refused += 1;
        }
    }

    fn append(&mut self, record: Record, bytes: usize, out: &mut impl Sink<Self>) {
        let lsn = out.append(record);
        assert!(lsn > self.log.last_append, "log sequence numbers rise");
        self.log.last_append = lsn;
        self.log.bytes_since_checkpoint += bytes;
    }

    fn keep_log_short(&mut self, out: &mut impl Sink<Self>) {
        let long = self.log.bytes_since_checkpoint >= self.config.checkpoint_after_bytes;
        let worth_it = self.log.compact_wanted && self.log.last_append > self.log.checkpointed;
        if self.log.pending.is_some() || !(long || worth_it) {
            return;
        }
        assert!(self.log.last_append >= self.log.checkpointed, "a checkpoint covers what was written");
        self.log.bytes_since_checkpoint = 0;
        self.log.compact_wanted = false;
        self.log.pending = Some(self.log.last_append);
        self.counters.checkpoints += 1;
        out.checkpoint(self.meta());
    }

    fn meta(&self) -> Bytes {
        assert!(self.held.back().is_none_or(|held| held.index == self.index), "what is held comes last");
        let mut state = Vec::new();
        self.state.encode(&mut state);
        let meta = Meta {
            folder: self.folder,
            view: self.view.clone(),
            replica: self.replica,
            serving: self.serving,
            stamp: self.clock.last(),
            index: self.index,
            held: self.held.iter().map(|held| held.change.clone()).collect(),
            state: Bytes::from(state),
        };
        let mut out = Vec::new();
        meta.encode(&mut out);
        Bytes::from(out)
    }

    fn on_checkpointed(&mut self, out: &mut impl Sink<Self>) {
        let covers = self.log.pending.take().expect("a checkpoint was asked for");
        assert!(covers >= self.log.checkpointed, "checkpoints are written in order");
        self.log.checkpointed = covers;
        out.drop_log_before(covers.next());
    }
}
