//! Chain replication: a group's members in a row. The head orders commands, each member passes them on, the tail commits. Who stands where
//! comes from outside.
//!
//! *What it guarantees.* What was acknowledged is on the disk of every serving member, and is never lost while one of them lives; the catalog
//! may take them away one by one until one is left. Reads at any serving member are linearizable, within the drift bound of the leases.
//!
//! *From.* Van Renesse & Schneider, "Chain Replication for Supporting High Throughput and Availability" (OSDI 2004); Terrace & Freedman, "Object
//! Storage on CRAQ" (USENIX ATC 2009) for reads at every member; the five member states from the design notes of 3FS (DeepSeek, 2025).
//! `docs/protocols/chain.md` says where we differ.
//!
//! ```text
//!            Forward(entries, watermark)          Forward            Forward
//!   head n1 ───────────────────────────▶ n2 ──────────────▶ tail n3 ─ ─ ─ ─ ─ ▶ n4 syncing
//!      │  ▲ ◀─────────────────────────── │ ◀────────────────  │  ▲ ◀ ─ ─ ─ ─ ─
//!      ▼  │          Ack(commit)         ▼       Ack(commit)  ▼  │      Ack(durable)
//!     disk, durable                     disk                 disk: commit = min(own durable, watermark)
//! ```
//! Nobody waits for a disk before passing entries on: each `Forward` says with its watermark how far all before are durable, so the disks work
//! side by side. Commits flow back as acknowledgements; every member applies only what is committed.
//!
//! *Why no log ever contradicts another's.* One head an epoch, in one life, makes entries. A serving member's log is a beginning of its
//! predecessor's: it grows only by what that sends, and who leaves the row is never put back but at its end, synced. A restart ends a
//! member's part in every epoch (its [`Life`] is named in the layout), since it may have lost what its successors have.
//!
//! *Reading order.* `layout` (the catalog's part), `config`, `message`, `record`; here the dispatch; `adopt` (a new epoch), `head`, `predecessor` (what goes
//! down), `successor` (what came down), `tail` (commit), `read`, `snapshot`, `recovery`; `status` is what others may see.

mod adopt;
mod config;
mod head;
pub mod invariants;
mod layout;
mod message;
mod predecessor;
mod read;
mod record;
mod recovery;
mod snapshot;
mod status;
mod successor;
mod tail;
mod unapplied;

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Tail};
use keypact_protocol::{
    Context, Delivery, Input, Lsn, NodeId, Plant, Protocol, RecoveryError, Refusal, Reply, Request,
    RequestId, Sink, planted,
};

use predecessor::Successor;
use read::Reads;
use snapshot::Incoming;
use unapplied::Unapplied;

pub use config::{Config, ConfigError, KeysOf, MEMBERS_MAX};
pub use invariants::{ChainInvariants, Violation};
pub use layout::{Event, Layout, Life, Member, MemberState, transition};
pub use message::{Body, CHUNK_BYTES_MAX, META_BYTES_MAX, Message, SnapshotOutcome};
pub use record::Record;
pub use recovery::Recovering;
pub use status::Counters;

/// Under this number the catalog speaks; no node has it.
pub const CATALOG: NodeId = NodeId(0);

/// The timers of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time to speak to the successor, and to ask again what was not answered.
    Heartbeat,
    /// Time to ask for the lease to be renewed.
    Renew,
}

/// One member of a group.
///
/// Invariants: `tail.base <= delivered <= commit <= tail.last`; what a serving member holds agrees with its predecessor's log; no entry is of a later
/// epoch than the member's; requests stand in the tail only while this member is the head.
#[derive(Debug)]
pub struct Chain {
    config: Config,
    life: Life,
    tail: Tail,
    disk: Disk,
    /// The highest index known to be committed.
    commit: u64,
    /// The highest index given to the parent.
    delivered: u64,
    unapplied: Unapplied,
    /// The newest epoch in which this life has a part; 0: none yet.
    epoch: u64,
    /// Everybody's places in it.
    members: Vec<Member>,
    /// This member's place.
    state: MemberState,
    predecessor: Option<NodeId>,
    /// Who gets what this member has: the next that serves, or, of the tail, who syncs.
    successor: Option<Successor>,
    /// The end of the log when the epoch was adopted. What earlier tails acknowledged is at or before it.
    epoch_start: u64,
    /// Up to here the log is known to be as the predecessor's. Of a serving member, all of it.
    agreed: u64,
    /// Up to here every member before this one is durable.
    upstream_durable: u64,
    /// Entries that came before those that they follow, by the index before them. Of this epoch's predecessor.
    early: BTreeMap<u64, Vec<Entry>>,
    /// Something is to be said to the predecessor; `gap`: that entries are missing.
    ack_due: bool,
    gap: bool,
    /// When the lease ends, by its own clock; 0: it has none.
    lease_until_ns: u64,
    reads: Reads,
    incoming: Option<Incoming>,
    /// A checkpoint is being written.
    checkpoint_pending: bool,
    /// A shorter log, or a checkpoint to send, is wanted.
    compact_wanted: bool,
    /// From this the entries' seeds are made.
    seed: u64,
    counters: Counters,
}

/// What this member wrote, and how much of it is durable.
#[derive(Clone, Copy, Debug)]
struct Disk {
    durable: Lsn,
    last_append: Lsn,
    /// The newest record of the life.
    life: Lsn,
    /// Once this record is durable, everything before it and before the tail can go.
    drop_after: Option<Lsn>,
    /// Since when something waits for the disk without any of it having become durable.
    waiting_since_ns: Option<u64>,
}

impl Protocol for Chain {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering;

    fn begin(config: Config, checkpoint: Option<Bytes>, seed: u64) -> Result<Recovering, RecoveryError> {
        Recovering::begin(config, checkpoint, seed)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        let now_ns = context.now_ns;
        match input {
            Input::Start => self.start(now_ns, out),
            Input::Message { from: CATALOG, message } => self.on_catalog(message, now_ns, out),
            Input::Message { from, message } => self.on_peer(from, message, now_ns, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, command, context, out),
            Input::Request(Request::Read { id, level }) => self.on_read(id, level, None, now_ns, out),
            Input::Request(Request::ReadKey { id, level, key }) => {
                self.on_read(id, level, Some(key), now_ns, out);
            }
            Input::Timer(Timer::Heartbeat) => self.on_heartbeat_timer(now_ns, out),
            Input::Timer(Timer::Renew) => self.on_renew_timer(now_ns, out),
            Input::Durable(lsn) => self.on_durable(lsn, now_ns, out),
            // What was lost with the connection is found by the next heartbeat.
            Input::Unreachable(_) => {}
            Input::Snapshot(input) => self.on_snapshot_input(input, now_ns, out),
            Input::Compact => self.compact_wanted = true,
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let waits = self.disk.last_append > self.disk.durable;
        if waits && self.disk.waiting_since_ns.is_none() {
            self.disk.waiting_since_ns = Some(context.now_ns);
        }
        self.flush_forward(out);
        self.flush_ack(out);
        self.flush_query(context.now_ns, out);
        self.flush_checkpoint(out);
    }

    fn assert_invariants(&self) {
        self.tail.assert_invariants();
        let last = self.tail.last();
        assert!(self.tail.base().index <= self.delivered, "a checkpoint holds only what was delivered");
        assert!(self.delivered <= self.commit, "only what is committed is delivered");
        assert!(self.commit <= last.index, "what is committed is in the log");
        assert!(self.agreed <= last.index, "only what is held can agree");
        assert!(self.delivered < last.index || self.unapplied.is_empty(), "all is applied");
        let serves = self.state == MemberState::Serving;
        assert!(!serves || self.agreed == last.index, "a serving member holds what its predecessor sent");
        assert!(
            !serves || last.term <= self.epoch || planted(Plant::ChainStaleEpoch),
            "no entry is of an epoch to come"
        );
        assert!(serves || self.lease_until_ns == 0, "who does not serve has no lease");
        assert!(serves || self.successor.is_none(), "who does not serve passes nothing on");
        assert!(self.epoch > 0 || self.members.is_empty(), "places belong to an epoch");
        assert!(self.early.len() <= self.config.max_early_frames, "early messages are bounded");
        self.reads.assert_invariants(self.config.max_pending_reads);
        if let Some(successor) = &self.successor {
            successor.assert_invariants(last.index);
        }
    }
}

impl Chain {
    fn recovered(
        config: Config,
        life: Life,
        tail: Tail,
        unapplied: Unapplied,
        last: Lsn,
        seed: u64,
    ) -> Chain {
        assert!(life.copy > 0 && life.start > 0, "a life has a name");
        let base = tail.base().index;
        Chain {
            disk: Disk {
                durable: last,
                last_append: last,
                life: last,
                drop_after: None,
                waiting_since_ns: None,
            },
            commit: base,
            delivered: base,
            epoch: 0,
            members: Vec::new(),
            state: MemberState::Offline,
            predecessor: None,
            successor: None,
            epoch_start: 0,
            agreed: base,
            upstream_durable: 0,
            early: BTreeMap::new(),
            ack_due: false,
            gap: false,
            lease_until_ns: 0,
            reads: Reads::default(),
            incoming: None,
            checkpoint_pending: false,
            compact_wanted: false,
            counters: Counters::default(),
            config,
            life,
            tail,
            unapplied,
            seed,
        }
    }

    fn start(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        assert!(self.epoch == 0, "every life begins outside of the chain");
        self.write_life(out);
        self.on_heartbeat_timer(now_ns, out);
        self.on_renew_timer(now_ns, out);
    }

    fn on_catalog(&mut self, message: Message, now_ns: u64, out: &mut impl Sink<Self>) {
        if message.group != self.config.group {
            self.counters.refused_strangers += 1;
            return;
        }
        match message.body {
            Body::Assign { members } => self.on_assign(message.epoch, members, now_ns, out),
            Body::Grant { life, sent_ns, lease_ns } => {
                self.on_grant(message.epoch, life, sent_ns, lease_ns, now_ns);
            }
            _ => self.counters.refused_contradictions += 1,
        }
    }

    fn on_peer(&mut self, from: NodeId, message: Message, now_ns: u64, out: &mut impl Sink<Self>) {
        let stranger = !self.config.is_member(from) || from == self.config.id;
        if stranger || message.group != self.config.group {
            self.counters.refused_strangers += 1;
            return;
        }
        if message.epoch != self.epoch {
            if message.epoch < self.epoch {
                self.counters.refused_stale += 1;
            } else {
                // It can't be followed before the catalog has told the places.
                self.counters.refused_ahead += 1;
            }
            if message.epoch > self.epoch || !planted(Plant::ChainStaleEpoch) {
                return;
            }
        }
        let from_predecessor = self.predecessor == Some(from);
        let from_successor = self.successor.as_ref().is_some_and(|successor| successor.id == from);
        match message.body {
            Body::Forward { prev, entries, watermark, commit }
                if from_predecessor || planted(Plant::ChainStaleEpoch) =>
            {
                self.on_forward(prev, entries, watermark, commit, out);
            }
            Body::Ack { received, durable, commit, gap } if from_successor => {
                self.on_ack(received, durable, commit, gap, out);
            }
            Body::Snapshot(chunk) if from_predecessor => self.on_snapshot_chunk(chunk, out),
            Body::SnapshotReply { index, outcome } if from_successor => {
                self.on_snapshot_reply(index, outcome, out);
            }
            Body::Query { round } => self.on_query(from, round, now_ns, out),
            Body::Answer { round, commit } => self.on_answer(from, round, commit, out),
            _ => self.counters.refused_contradictions += 1,
        }
    }

    fn on_durable(&mut self, lsn: Lsn, now_ns: u64, out: &mut impl Sink<Self>) {
        assert!(lsn >= self.disk.durable, "what is durable stays so");
        let own_before = self.own_durable();
        self.disk.durable = lsn;
        self.disk.waiting_since_ns = (self.disk.last_append > lsn).then_some(now_ns);
        self.tail.durable(lsn);
        self.drop_log_if_safe(out);
        // A syncing member is waited for by what its disk has.
        self.ack_due |= self.own_durable() > own_before && self.state == MemberState::Syncing;
        self.advance_commit(out);
    }

    /// How far the part of the log that agrees with the predecessor's is durable.
    fn own_durable(&self) -> u64 {
        self.tail.durable_index().min(self.agreed)
    }

    fn is_head(&self) -> bool {
        self.state == MemberState::Serving && self.predecessor.is_none()
    }

    fn is_tail(&self) -> bool {
        self.state == MemberState::Serving && self.tail_node() == Some(self.config.id)
    }

    fn serving(&self) -> impl DoubleEndedIterator<Item = NodeId> {
        let serves = |member: &&Member| member.state == MemberState::Serving;
        self.members.iter().filter(serves).map(|member| member.node)
    }

    fn head_node(&self) -> Option<NodeId> {
        self.serving().next()
    }

    fn tail_node(&self) -> Option<NodeId> {
        self.serving().next_back()
    }

    /// Whether nobody else serves, since when this member says so.
    fn has_lease(&self, now_ns: u64) -> bool {
        assert!(self.lease_until_ns == 0 || self.state == MemberState::Serving, "a lease is for serving");
        now_ns < self.lease_until_ns
    }

    /// The log is committed up to `index`, as far as it is known here.
    fn commit_to(&mut self, index: u64, out: &mut impl Sink<Self>) {
        if index > self.commit {
            assert!(index <= self.agreed, "only what agrees is committed here");
            self.commit = index;
            self.ack_due |= self.state == MemberState::Serving && self.predecessor.is_some();
            self.deliver(out);
        }
    }

    /// Gives the parent what is committed and not yet delivered; not while a snapshot takes the place of the parent's state.
    fn deliver(&mut self, out: &mut impl Sink<Self>) {
        if self.is_installing() {
            return;
        }
        while self.delivered < self.commit {
            self.delivered += 1;
            let request = self.tail.take_request(self.delivered);
            let slot = self.tail.slot(self.delivered).expect("what is committed is in the tail");
            let header = slot.entry.header();
            let command = slot.entry.command();
            assert!(header.index == self.delivered, "the tail has no gaps");
            self.unapplied.applied(header.index, &command);
            // Early: the entry is on the disk of every serving member. Should this member lose power now, it loses the parent's state
            // with it, and comes back by resync.
            let (index, stamp_ms, seed) = (header.index, header.stamp_ms, header.seed);
            out.deliver_early(Delivery { index, stamp_ms, seed, command, request });
        }
    }

    fn append(&mut self, record: Record, out: &mut impl Sink<Self>) -> Lsn {
        let lsn = out.append(record);
        assert!(lsn > self.disk.last_append, "log sequence numbers rise");
        self.disk.last_append = lsn;
        lsn
    }

    fn write_life(&mut self, out: &mut impl Sink<Self>) {
        self.disk.life = self.append(Record::Life(self.life), out);
    }

    /// Writes the life anew, so that the log before the tail is needed no more; says so once that is durable.
    fn shorten_log(&mut self, out: &mut impl Sink<Self>) {
        self.write_life(out);
        self.disk.drop_after = Some(self.disk.life);
    }

    fn drop_log_if_safe(&mut self, out: &mut impl Sink<Self>) {
        if let Some(life) = self.disk.drop_after.take_if(|life| *life <= self.disk.durable) {
            let first = self.tail.slot(self.tail.base().index + 1).map_or(life, |slot| slot.lsn);
            out.drop_log_before(first.min(life));
        }
    }

    fn message(&self, body: Body) -> Message {
        Message { group: self.config.group, epoch: self.epoch, body }
    }

    fn refuse(&self, id: RequestId, why: Refusal, out: &mut impl Sink<Self>) {
        // Early: a refusal says that nothing was written, which no crash can make untrue.
        out.reply_early(Reply::Refused { id, why });
    }

    fn is_installing(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_installing)
    }
}
