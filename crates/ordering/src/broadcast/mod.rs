//! Reliable broadcast in a group: what [`crate::fifo`] and [`crate::causal`] share. They differ only in what a message waits for
//! ([`Order`]).
//!
//! *What it guarantees.* Every member delivers a message at most once, and only messages that were broadcast. What any member has delivered
//! every member delivers in the end, as long as the members of the view come back with their disks. Each stream is delivered in its order,
//! over crashes of its sender, too. A member's deliveries are a log of its own: after a crash it delivers again, in the same order, what
//! its parent's last checkpoint lacks.
//!
//! *From.* Reliable broadcast and its orders: Hadzilacos & Toueg, "A Modular Approach to Fault-Tolerant Broadcasts and Related Problems"
//! (1994). Repair by telling what one holds: Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987). Views:
//! Birman & Joseph, "Exploiting Virtual Synchrony in Distributed Systems" (1987). `docs/protocols/fifo.md` says where we differ.
//!
//! ```text
//!            ┌─────────┐  welcome: begin there    ┌────────┐  a view without me   ┌─────┐
//!  joins ───▶│ joining │ ───────────────────────▶ │ member │ ───────────────────▶ │ out │
//!            └─────────┘              founder ──▶ └────────┘ ◀─────────────────── └─────┘
//!                                                             a view with me
//! ```
//! A message on its way through a member:
//! ```text
//!  request ─▶ named: next of the own stream ─┐
//!                                            ├─▶ delivered: logged, counted, kept ─▶ forgotten once all members hold it
//!  from a member ─▶ held back until its turn ┘
//! ```
//!
//! *Reading order.* `config`, `message`, `record`; here the dispatch; then `sender`, `receiver`, `repair`, `membership`, `streams`,
//! `store`, `recovery`; `status` is what others may see.

mod config;
pub mod invariants;
mod membership;
mod message;
mod receiver;
mod record;
mod recovery;
mod repair;
mod sender;
mod status;
mod store;
mod streams;

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::Bytes;
use keypact_protocol::{
    Context, Delivery, Input, Lsn, NodeId, Plant, Protocol, ReadLevel, RecoveryError, Refusal, Reply,
    Request, RequestId, Sink, SnapshotInput, Wire, planted,
};

use crate::clock::{Dot, ReplicaId, VectorClock};
use crate::envelope::Envelope;
use record::Meta;
use store::Store;

pub use config::{Config, ConfigError, MEMBERS_MAX, STREAMS_MAX};
pub use invariants::{BroadcastInvariants, Violation};
pub use message::{Body, View};
pub use record::Record;
pub use recovery::Recovering;
pub use status::Counters;
pub use streams::TooManyStreams;

/// Under this number the catalog speaks; no node has it.
pub const CATALOG: NodeId = NodeId(0);

/// What a message waits for, beside the one before it in its stream.
pub trait Order: core::fmt::Debug + 'static {
    /// What a message must come after that is broadcast by `me`, where `delivered` is all that was delivered here.
    fn context(me: ReplicaId, delivered: &VectorClock) -> VectorClock;

    /// Whether what a message must come after is there. `covered` tells it of one entry of its clock.
    fn is_ready(after: &VectorClock, covered: impl Fn(Dot) -> bool) -> bool;
}

/// The one timer: members tell each other what they hold, and ask for what they lack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time to do so.
    Status,
}

/// One member of a group.
///
/// Invariants: `delivered` holds exactly what the log has, or jumped over; what is held back was not delivered; what some member of the
/// view may lack is kept.
#[derive(Debug)]
pub struct Broadcast<O: Order> {
    config: Config,
    /// The name of the own stream.
    me: ReplicaId,
    view: View,
    joined: bool,
    delivered: VectorClock,
    /// How many messages were broadcast here.
    own: u64,
    /// How many were delivered here.
    index: u64,
    stamp_ms: u64,
    store: Store,
    /// Messages that wait for others before them.
    held_back: BTreeMap<Dot, Envelope>,
    /// What other members hold durably, as far as known.
    peers: BTreeMap<NodeId, VectorClock>,
    /// Broadcast since the last flush.
    fresh: Vec<Envelope>,
    /// When a stream's missing messages were last asked for, nanoseconds.
    asked: BTreeMap<ReplicaId, u64>,
    /// Of a stream's first missing message: which members hold it no more.
    gone: BTreeMap<ReplicaId, (u64, Vec<NodeId>)>,
    log: Log,
    /// What the parent's checkpoint may lack, from recovery to the start.
    again: Vec<Delivery>,
    pace: Pace,
    jump: Option<Jump>,
    counters: Counters,
    order: PhantomData<O>,
}

/// Where a member began, or began anew: everything up to `to` counts as delivered from here on, and will not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jump {
    /// The last delivery before it.
    pub after_index: u64,
    /// All that was delivered or jumped over.
    pub to: VectorClock,
}

/// What was written, and what of it is needed.
#[derive(Clone, Copy, Debug)]
struct Log {
    last_append: Lsn,
    bytes_since_checkpoint: usize,
    /// A checkpoint is being written; it covers everything up to here.
    pending: Option<Lsn>,
    /// The newest durable checkpoint covers everything up to here.
    checkpointed: Lsn,
    /// Records before this were said to be needed no more.
    dropped_before: Lsn,
    compact_wanted: bool,
}

/// How often members speak.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    round: u64,
    /// Rounds in which nothing was new.
    quiet: u32,
    /// Deliveries since the last status.
    unsaid: u64,
    /// Somebody may hold what is missing here.
    news: bool,
}

impl<O: Order> Protocol for Broadcast<O> {
    type Config = Config;
    type Message = Body;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering<O>;

    fn begin(config: Config, checkpoint: Option<Bytes>, _seed: u64) -> Result<Recovering<O>, RecoveryError> {
        Recovering::begin(config, checkpoint)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Start => self.start(context, out),
            Input::Message { from, message } => self.on_message(from, message, context, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, command, context, out),
            Input::Request(Request::Read { id, level } | Request::ReadKey { id, level, .. }) => {
                on_read(id, level, out);
            }
            Input::Timer(Timer::Status) => self.on_status_timer(context, out),
            Input::Snapshot(SnapshotInput::Checkpointed { .. }) => self.on_checkpointed(),
            Input::Compact => self.log.compact_wanted = true,
            // The gate knows what is durable; nothing here counts it. A hint changes nothing: the view says who counts.
            Input::Durable(_) | Input::Unreachable(_) => {}
            Input::Snapshot(_) => unreachable!("no snapshot was asked for"),
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.push_fresh(out);
        if self.pace.news {
            self.pace.news = false;
            // Room may have been made by who now holds more.
            self.release(context, out);
            self.ask_for_missing(context.now_ns, out);
        }
        if self.pace.unsaid >= (self.config.window / 4).max(1) {
            self.say_status(out);
        }
        self.keep_log_short(out);
    }

    fn assert_invariants(&self) {
        assert!(self.held_back.len() <= self.config.held_back_max, "what waits is bounded");
        assert!(self.own <= self.delivered.get(self.me), "own messages are delivered at once");
        assert!(self.fresh.is_empty(), "a flush leaves nothing unsaid");
        assert!(self.delivered.len() <= STREAMS_MAX, "streams are bounded");
        assert!(self.joined || self.index == 0, "who has no place to begin from delivers nothing");
        assert!(self.log.checkpointed <= self.log.last_append, "a checkpoint covers what was written");
        assert!(
            self.log.dropped_before <= self.log.checkpointed.next(),
            "what a checkpoint lacks is in the log"
        );
        assert!(!self.peers.contains_key(&self.config.id), "nobody is a peer of itself");
    }
}

impl<O: Order> Broadcast<O> {
    fn start(&mut self, context: Context, out: &mut impl Sink<Self>) {
        for delivery in core::mem::take(&mut self.again) {
            // Early: its record was read from the disk.
            out.deliver_early(delivery);
        }
        assert!(self.again.is_empty(), "each life starts once");
        // Earlier than others' next: they may wait for what only this member has.
        self.set_timer(context.now_ns, out);
        self.say_status(out);
    }

    fn on_message(&mut self, from: NodeId, body: Body, context: Context, out: &mut impl Sink<Self>) {
        if let Body::View(view) = body {
            return self.on_view(view, context, out);
        }
        if let Body::Status { view, .. } = body
            && view != self.view.number
            && from != CATALOG
        {
            self.compare_views(from, view, out);
        }
        if !self.view.has(from) || from == self.config.id || !self.is_member() {
            self.counters.refused_strangers += 1;
            return;
        }
        match body {
            Body::Join => self.on_join(from, out),
            Body::Welcome { holds } => {
                let begun = self.on_welcome(from, &holds, context, out);
                self.count_refused(begun);
            }
            _ if !self.joined => {}
            Body::Data { envelopes } => self.on_data(from, envelopes, context, out),
            Body::Status { holds, .. } => {
                let heard = self.on_status(from, &holds);
                self.count_refused(heard);
            }
            Body::Gone { replica, counter, holds } => {
                let heard = self.on_gone(from, Dot::new(replica, counter), &holds, context, out);
                self.count_refused(heard);
            }
            Body::Want { replica, first, last } => self.on_want(from, replica, first, last, out),
            Body::View(_) => unreachable!("looked at above"),
        }
    }

    /// In the view, whether or not it has a place to begin from.
    fn is_member(&self) -> bool {
        self.view.has(self.config.id)
    }

    fn others(&self) -> impl Iterator<Item = NodeId> {
        self.view.members.iter().copied().filter(|member| *member != self.config.id)
    }

    /// The next delivery: logged, counted, kept. The parent hears of it once it is durable, so that a crash can't change the order in which
    /// it hears of things.
    fn deliver(
        &mut self,
        envelope: Envelope,
        request: Option<RequestId>,
        wall_ms: u64,
        out: &mut impl Sink<Self>,
    ) {
        self.index += 1;
        self.stamp_ms = self.stamp_ms.max(wall_ms);
        self.delivered.observe(envelope.dot);
        assert!(self.delivered.len() <= STREAMS_MAX, "room for the stream was asked for before");
        let (index, stamp_ms) = (self.index, self.stamp_ms);
        let delivery = delivery_of(index, stamp_ms, &envelope, request);
        let lsn = self.append(Record::Delivered { index, stamp_ms, envelope: envelope.clone() }, out);
        self.log.bytes_since_checkpoint += envelope.encoded_len();
        if self.others().next().is_some() {
            self.store.insert(lsn, envelope);
        }
        self.counters.delivered += 1;
        self.pace.unsaid += 1;
        self.pace.quiet = 0;
        out.deliver(delivery);
    }

    fn append(&mut self, record: Record, out: &mut impl Sink<Self>) -> Lsn {
        let lsn = out.append(record);
        assert!(lsn > self.log.last_append, "log sequence numbers rise");
        self.log.last_append = lsn;
        lsn
    }

    fn keep_log_short(&mut self, out: &mut impl Sink<Self>) {
        let long = self.log.bytes_since_checkpoint >= self.config.checkpoint_after_bytes;
        let worth_it = self.log.compact_wanted && self.log.last_append > self.log.checkpointed;
        if self.log.pending.is_none() && (long || worth_it) {
            self.log.bytes_since_checkpoint = 0;
            self.log.compact_wanted = false;
            self.log.pending = Some(self.log.last_append);
            self.counters.checkpoints += 1;
            out.checkpoint(self.meta());
        }
        let needed = self.store.first_place().unwrap_or(Lsn(u64::MAX)).min(self.log.checkpointed.next());
        if needed > self.log.dropped_before {
            self.log.dropped_before = needed;
            out.drop_log_before(needed);
        }
    }

    fn meta(&self) -> Bytes {
        let meta = Meta {
            index: self.index,
            stamp_ms: self.stamp_ms,
            joined: self.joined,
            delivered: self.delivered.clone(),
            view: self.view.clone(),
        };
        let mut out = Vec::new();
        meta.encode(&mut out);
        Bytes::from(out)
    }

    fn on_checkpointed(&mut self) {
        let covers = self.log.pending.take().expect("a checkpoint was asked for");
        assert!(covers >= self.log.checkpointed, "checkpoints are written in order");
        self.log.checkpointed = covers;
    }
}

/// There is no one order in which a read could have a place: any state will do, or none.
fn on_read<O: Order>(id: RequestId, level: ReadLevel, out: &mut impl Sink<Broadcast<O>>) {
    // Early: nothing rests on what this member wrote.
    out.reply_early(match level {
        ReadLevel::Stale => Reply::ReadFrom { id, index: 0 },
        ReadLevel::Linearizable | ReadLevel::Lease | ReadLevel::Session { .. } => {
            Reply::Refused { id, why: Refusal::NoQuorum }
        }
    });
}

fn delivery_of(index: u64, stamp_ms: u64, envelope: &Envelope, request: Option<RequestId>) -> Delivery {
    let seed = seed_of(envelope.dot);
    Delivery { index, stamp_ms, seed, command: envelope.to_command(), request }
}

/// Equal on all members, different for each message.
fn seed_of(dot: Dot) -> u64 {
    let mixed = (dot.replica.0 ^ dot.counter.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Where a stream goes on.
fn is_next(delivered: &VectorClock, dot: Dot) -> bool {
    if planted(Plant::GapSkipped) {
        return dot.counter > delivered.get(dot.replica);
    }
    delivered.is_next(dot)
}
