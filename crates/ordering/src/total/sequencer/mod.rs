//! A replicated log by sequencer: one member numbers what the group delivers; it is delivered once a majority holds it.
//!
//! *What it guarantees.* All members deliver the same commands in the same order, without gaps. What any member has delivered is on the disks
//! of a majority, and every later sequencer finds it there, so no crash of a minority loses or renumbers it.
//!
//! *Who sequences* comes from outside, in epochs: the catalog gives each epoch to one member, once. Before a new sequencer orders anything it
//! collects from a majority: each member that answers obeys no older epoch any more, and the log with the latest viewstamp (epoch,
//! position) among them has all that was ever delivered. The sequencer takes over what it lacks of that, and opens its epoch by an
//! entry of its own; only by that one, not by counting copies of older ones, older entries come to be delivered.
//!
//! *From.* Sequencer: Kaashoek & Tanenbaum, "Group Communication in the Amoeba Distributed Operating System" (1991), its method PB with a
//! resilience degree of half the group. Collection: Birman & Joseph (1987), Oki & Liskov, "Viewstamped Replication" (1988). Why it can't be
//! had for less: Chandra & Toueg, "Unreliable Failure Detectors for Reliable Distributed Systems" (1996), section 7: total order
//! broadcast is consensus. `docs/protocols/total.md` says where we differ.
//!
//! ```text
//!           assign, this epoch never sequenced here    a majority has answered, the latest log is here
//!            ┌────────┐ ──────────────────────▶ ┌────────────┐ ──────────────────────▶ ┌────────────┐
//!   start ──▶│ member │                         │ collecting │                         │ sequencing │
//!            └────────┘ ◀────────────────────── └────────────┘ ◀────────────────────── └────────────┘
//!                                              any newer epoch
//! ```
//! A restart ends both roles for ever in this epoch: members may hold what this disk lost.
//!
//! *Reading order.* `config`, `message`, `record`; here the dispatch; then `log`, `collecting`, `sequencing`, `following`, `snapshot`,
//! `recovery`; `status` is what others may see.

mod collecting;
mod config;
mod following;
pub mod invariants;
mod log;
mod message;
mod record;
mod recovery;
mod sequencing;
mod snapshot;
mod status;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{
    Context, Delivery, Draft, Input, Lsn, NodeId, Plant, Protocol, ReadLevel, RecoveryError, Refusal, Reply,
    Request, RequestId, Sink, planted,
};

use collecting::Collection;
use log::Log;
use sequencing::Sequencing;
use snapshot::Incoming;

pub use config::{Config, ConfigError, MEMBERS_MAX};
pub use invariants::{SequencerInvariants, Violation};
pub use message::{Body, Message};
pub use record::{COUNT_MAX, Entry, HardState, Record, Viewstamp};
pub use recovery::Recovering;
pub use status::{Counters, Role};

/// Under this number the catalog speaks; no node has it.
pub const CATALOG: NodeId = NodeId(0);

/// The timer of who collects or sequences.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Time to speak to the members and the catalog.
    Heartbeat,
}

/// One member of a group.
///
/// Invariants: `log.base <= delivered <= committed <= log.last`; no entry is of a later epoch than the member's; requests stand in the log
/// only while this member sequences.
#[derive(Debug)]
pub struct Sequencer {
    config: Config,
    hard: HardState,
    log: Log,
    disk: Disk,
    /// Up to here a majority is known to hold everything.
    committed: u64,
    /// Up to here it was given to the parent.
    delivered: u64,
    /// Up to here this log is known to be as the sequencer's of this epoch.
    agreed: u64,
    state: State,
    incoming: Option<Incoming>,
    /// For whom a piece of the checkpoint is being read.
    reading: Vec<NodeId>,
    checkpoint_pending: bool,
    compact_wanted: bool,
    counters: Counters,
}

#[derive(Debug)]
enum State {
    Member,
    Collecting(Collection),
    Sequencing(Box<Sequencing>),
}

/// What was written, and how much of it is durable.
#[derive(Clone, Copy, Debug)]
struct Disk {
    durable: Lsn,
    last_append: Lsn,
    /// The newest hard state.
    hard: Lsn,
    /// Once this hard state is durable, everything before it and before the log can go.
    drop_after: Option<Lsn>,
}

impl Protocol for Sequencer {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Recovery = Recovering;

    fn begin(config: Config, checkpoint: Option<Bytes>, _seed: u64) -> Result<Recovering, RecoveryError> {
        Recovering::begin(config, checkpoint)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            // Who sequences is told so.
            Input::Start => {}
            Input::Message { from: CATALOG, message } => self.on_catalog(message, context, out),
            Input::Message { from, message } => self.on_message(from, message, context, out),
            Input::Request(Request::Propose { id, command }) => self.propose(id, command, context, out),
            Input::Request(Request::Read { id, level } | Request::ReadKey { id, level, .. }) => {
                on_read(id, level, out);
            }
            Input::Timer(Timer::Heartbeat) => self.on_heartbeat(context.now_ns, out),
            Input::Durable(lsn) => self.on_durable(lsn, context, out),
            Input::Unreachable(_) => {}
            Input::Snapshot(input) => self.on_snapshot_input(input, out),
            Input::Compact => self.compact_wanted = true,
        }
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.push_orders(context.now_ns, out);
        self.flush_checkpoint(out);
    }

    fn assert_invariants(&self) {
        self.log.assert_invariants();
        let last = self.log.last();
        assert!(self.log.base().position <= self.delivered, "a checkpoint holds only what was delivered");
        assert!(self.delivered <= self.committed, "only what a majority holds is delivered");
        assert!(self.committed <= last.position, "what is committed is in the log");
        assert!(self.agreed <= last.position, "only what is held can agree");
        assert!(self.reading.len() < self.config.members.len(), "one piece is read for each other member");
        assert!(last.epoch <= self.hard.epoch, "no entry is of an epoch not yet known");
        assert!(self.disk.hard <= self.disk.last_append, "the hard state was written");
        assert!(!(self.checkpoint_pending && self.is_installing()), "one checkpoint is written at a time");
        match &self.state {
            State::Member => {}
            State::Collecting(collection) => {
                assert!(self.hard.sequencer == Some(self.config.id), "who collects has written that it does");
                collection.assert_invariants(self.config.members.len());
            }
            State::Sequencing(sequencing) => {
                assert!(
                    self.hard.sequencer == Some(self.config.id),
                    "a sequencer has written that it is one"
                );
                assert!(self.incoming.is_none(), "a sequencer takes no snapshot");
                sequencing.assert_invariants(last.position);
            }
        }
    }
}

/// What this member has committed is not what others have: a read would need to ask a majority, and a broadcast has no reads.
fn on_read(id: RequestId, level: ReadLevel, out: &mut impl Sink<Sequencer>) {
    // Early: nothing rests on what this member wrote.
    out.reply_early(match level {
        ReadLevel::Stale => Reply::ReadFrom { id, index: 0 },
        ReadLevel::Linearizable | ReadLevel::Lease | ReadLevel::Session { .. } => {
            Reply::Refused { id, why: Refusal::NoQuorum }
        }
    });
}

impl Sequencer {
    fn on_catalog(&mut self, message: Message, context: Context, out: &mut impl Sink<Self>) {
        let Message { epoch, body: Body::Assign } = message else {
            self.counters.refused_contradictions += 1;
            return;
        };
        if epoch < self.hard.epoch {
            self.counters.refused_stale += 1;
            return;
        }
        if epoch > self.hard.epoch {
            self.adopt(epoch, self.config.id, out);
            return self.collect(context.now_ns, out);
        }
        match (&self.state, self.hard.sequencer) {
            // Said again.
            (State::Collecting(_) | State::Sequencing(_), _) => {}
            (State::Member, Some(sequencer)) if sequencer == self.config.id => {
                if planted(Plant::SequencerResumes) && !self.is_installing() {
                    return self.open_epoch(context, out);
                }
                // It was, in an earlier life. Members may hold entries of this epoch that this disk lost, and it would give their
                // places to others.
                self.counters.refused_to_resume += 1;
            }
            (State::Member, _) if planted(Plant::TwoSequencers) => {
                self.write_hard(HardState { epoch, sequencer: Some(self.config.id) }, out);
                self.collect(context.now_ns, out);
            }
            // Each epoch is given to one member.
            (State::Member, _) => self.counters.refused_contradictions += 1,
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, context: Context, out: &mut impl Sink<Self>) {
        if !self.config.members.contains(&from) || from == self.config.id {
            self.counters.refused_strangers += 1;
            return;
        }
        let Message { epoch, body } = message;
        if epoch < self.hard.epoch {
            self.counters.refused_stale += 1;
            return;
        }
        let from_sequencer =
            matches!(body, Body::Collect | Body::Fetch { .. } | Body::Order { .. } | Body::Snapshot { .. });
        if from_sequencer {
            if epoch > self.hard.epoch {
                self.adopt(epoch, from, out);
            }
            return self.on_sequencer(from, body, out);
        }
        if epoch > self.hard.epoch || matches!(self.state, State::Member) {
            // Nothing of this epoch was asked here, at least not in this life.
            self.counters.refused_contradictions += 1;
            return;
        }
        match body {
            Body::Holds { last } => self.on_holds(from, last, context, out),
            Body::Fetched { prev, entries } => self.on_fetched(from, prev, entries, context, out),
            Body::Compacted { base } => self.on_compacted(from, base),
            Body::Accept { held } => self.on_accept(from, held, context.now_ns, out),
            Body::Gap { last } => self.on_gap(from, last),
            Body::WantChunk { position, chunk } => {
                self.on_want_chunk(from, position, chunk, context.now_ns, out)
            }
            _ => self.counters.refused_contradictions += 1,
        }
    }

    /// What the sequencer of this member's epoch says.
    fn on_sequencer(&mut self, from: NodeId, body: Body, out: &mut impl Sink<Self>) {
        let obeys = self.hard.sequencer == Some(from) || planted(Plant::TwoSequencers);
        if !obeys || !matches!(self.state, State::Member) {
            // A second one in the same epoch would number other messages alike.
            self.counters.refused_contradictions += 1;
            return;
        }
        assert!(from != self.config.id, "nobody obeys itself");
        match body {
            Body::Collect => self.on_collect(from, out),
            Body::Fetch { after } => self.on_fetch(from, after, out),
            Body::Order { prev, entries, committed } => self.on_order(from, prev, entries, committed, out),
            Body::Snapshot { chunk } => self.on_snapshot_chunk(from, chunk, out),
            _ => unreachable!("only these were let through"),
        }
    }

    /// Older epochs are obeyed no more, and in this one nobody but `sequencer`.
    fn adopt(&mut self, epoch: u64, sequencer: NodeId, out: &mut impl Sink<Self>) {
        assert!(epoch > self.hard.epoch, "epochs never fall");
        if !matches!(self.state, State::Member) {
            self.step_down(out);
        }
        self.agreed = 0;
        if !self.is_installing() {
            self.incoming = None;
        }
        self.write_hard(HardState { epoch, sequencer: Some(sequencer) }, out);
        assert!(matches!(self.state, State::Member), "a role ends with its epoch");
    }

    fn step_down(&mut self, out: &mut impl Sink<Self>) {
        assert!(!matches!(self.state, State::Member), "who steps down had a role");
        self.state = State::Member;
        self.counters.stepped_down += 1;
        out.cancel_timer(Timer::Heartbeat);
        for id in self.log.take_requests() {
            // The next sequencer may find it in some log, or not.
            out.reply(Reply::Uncertain { id });
        }
    }

    fn propose(&mut self, id: RequestId, command: Draft, context: Context, out: &mut impl Sink<Self>) {
        let why = if !matches!(self.state, State::Sequencing(_)) {
            let leader = self.hard.sequencer.filter(|node| *node != self.config.id);
            Some(Refusal::NotLeader { leader })
        } else if command.command_len() > self.config.max_command_bytes {
            Some(Refusal::TooLarge)
        } else if self.log.bytes() >= self.config.log_limit_bytes {
            Some(Refusal::Overloaded)
        } else {
            None
        };
        if let Some(why) = why {
            self.counters.refused += 1;
            // Early: a refusal says that nothing was written, which no crash can make untrue.
            return out.reply_early(Reply::Refused { id, why });
        }
        assert!(self.log.bytes() < self.config.log_limit_bytes, "there is room in the log");
        let command = command.seal(|_| ()).slice(keypact_protocol::HEADROOM_BYTES..);
        self.sequence(command, Some(id), context.wall_ms, out);
    }

    fn on_durable(&mut self, lsn: Lsn, context: Context, out: &mut impl Sink<Self>) {
        assert!(lsn >= self.disk.durable, "what is durable stays so");
        self.disk.durable = lsn;
        self.log.written(lsn);
        self.drop_log_if_safe(out);
        self.count_own_hold(context, out);
        self.advance_committed(out);
        self.install_if_durable(out);
    }

    /// Gives the parent what a majority holds.
    fn deliver(&mut self, out: &mut impl Sink<Self>) {
        if self.is_installing() {
            return;
        }
        assert!(self.committed <= self.log.last().position, "what is committed is in the log");
        while self.delivered < self.committed {
            self.delivered += 1;
            let request = self.log.take_request(self.delivered);
            let slot = self.log.slot(self.delivered).expect("what is committed is in the log");
            let Entry { at, stamp_ms, command } = slot.entry.clone();
            assert!(at.position == self.delivered, "deliveries have no gap");
            assert!(at.epoch <= self.hard.epoch, "nothing is delivered of an epoch not yet known");
            self.counters.delivered += 1;
            // Early: the entry is on a majority's disks. Should this member lose power now, it loses the parent's state with it, and
            // delivers the entry again once it hears again that it is committed.
            out.deliver_early(Delivery { index: at.position, stamp_ms, seed: seed_of(at), command, request });
        }
    }

    fn append(&mut self, record: Record, out: &mut impl Sink<Self>) -> Lsn {
        let lsn = out.append(record);
        assert!(lsn > self.disk.last_append, "log sequence numbers rise");
        self.disk.last_append = lsn;
        lsn
    }

    fn write_hard(&mut self, hard: HardState, out: &mut impl Sink<Self>) {
        assert!(hard.epoch >= self.hard.epoch, "epochs never fall");
        assert!(hard.epoch == 0 || hard.sequencer.is_some(), "an epoch is somebody's");
        self.hard = hard;
        self.disk.hard = self.append(Record::HardState(hard), out);
    }

    /// Writes the hard state anew, so that the records before the log are needed no more; says so once that is durable.
    fn shorten_log(&mut self, out: &mut impl Sink<Self>) {
        self.write_hard(self.hard, out);
        self.disk.drop_after = Some(self.disk.hard);
        assert!(self.disk.hard == self.disk.last_append, "the hard state stands behind what is dropped");
    }

    fn drop_log_if_safe(&mut self, out: &mut impl Sink<Self>) {
        if let Some(hard) = self.disk.drop_after.take_if(|hard| *hard <= self.disk.durable) {
            let first = self.log.slot(self.log.base().position + 1).map_or(hard, |slot| slot.lsn);
            assert!(first > Lsn::ZERO && hard <= self.disk.durable, "what replaces it is durable");
            out.drop_log_before(first.min(hard));
        }
    }

    fn say(&self, body: Body) -> Message {
        Message { epoch: self.hard.epoch, body }
    }

    fn is_installing(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_installing)
    }
}

/// Equal on all members, different for each entry.
fn seed_of(at: Viewstamp) -> u64 {
    let mixed = (at.position ^ at.epoch.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
