//! Total order: all members deliver all messages in one order.
//!
//! *What it guarantees.* Every member delivers the same messages in the same order; none twice, none that nobody broadcast; and of each
//! sender's in the order in which it sent them (FIFO), over its crashes, too. What one member has delivered, all deliver. What a live
//! member broadcasts is delivered once the log goes on.
//!
//! *How.* Over any log that all deliver alike ([`ReplicatedLog`]): Raft in the node, or the log [by sequencer](sequencer). A member gives its
//! messages to whom leads the log, again and again until they are delivered; so one message may stand in the log several times, and one
//! may stand there before an earlier one of its sender. What counts is the first at its turn, by a table that is a function of the log:
//! of each node, the life that broadcasts and how many of its messages came. A life begins by an item of the log that closes the lives
//! before it, so nothing need be written before a message is sent, and nothing that an older life had on its way comes late.
//!
//! *From.* Chandra & Toueg (1996), section 7: total order broadcast and consensus are each built from the other. Hadzilacos & Toueg (1994)
//! for the properties' names. Duplicates found by the sender's count: Kaashoek & Tanenbaum (1991). `docs/protocols/total.md` says where
//! we differ.
//!
//! ```text
//!  a message at its sender:   waits ──session open──▶ submitted ──in the log, at its turn──▶ delivered, answered
//!                               ▲                         │
//!                               └── other leader, silence, came too early
//!  a life of a sender:        closed ──Open in the log, the last known session was open──▶ open ──a newer life's Open──▶ closed
//! ```
//! *Reading order.* `log`, `config`, `message`; here the dispatch; then `sessions` (what the log says), `sender`, `admission` (at whom leads), `ordering` (between log and
//! parent), `recovery`; `status` is what others may see. Then [`sequencer`].

mod admission;
mod config;
pub mod invariants;
mod log;
mod message;
mod ordering;
mod recovery;
mod sender;
pub mod sequencer;
mod sessions;
mod status;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::Bytes;
use keypact_protocol::{
    Context, Draft, HEADROOM_BYTES, Input, NodeId, Protocol, RecoveryError, Refusal, Reply, Request,
    RequestId, Sink, Wire,
};

use admission::{Admission, Admitted};
use config::SENDERS_MAX as SENDERS_LIMIT;
use ordering::{LogSink, OWN_REQUESTS, Ordering};

pub use config::{Config, ConfigError, SENDERS_MAX};
pub use invariants::{TotalInvariants, Violation};
pub use log::{BySequencer, ReplicatedLog};
pub use message::{ITEM_BYTES_MAX, Item, Message};
pub use recovery::Recovering;
pub use status::Counters;

/// A timer of either; `T` are the log's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer<T> {
    /// The log's.
    Log(T),
    /// Time to submit again what has not come.
    Resend,
}

/// One member of a group.
///
/// Its deliveries have the log's indexes; where the log has nothing of a sender's, or something for the second time, the command is empty.
/// Requests have ids below 2^63.
#[derive(Debug)]
pub struct Total<L: ReplicatedLog> {
    config: Config<()>,
    core: L::Core,
    ordering: Ordering,
    admission: Admission,
    /// Proposals made to the log.
    proposals: u64,
    timer_set: bool,
}

/// The same by a sequencer.
pub type Sequenced = Total<BySequencer>;

impl<L: ReplicatedLog> Protocol for Total<L> {
    type Config = Config<<L::Core as Protocol>::Config>;
    type Message = Message<<L::Core as Protocol>::Message>;
    type Record = <L::Core as Protocol>::Record;
    type Timer = Timer<<L::Core as Protocol>::Timer>;
    type Recovery = Recovering<L>;

    fn begin(
        config: Self::Config,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Recovering<L>, RecoveryError> {
        Recovering::begin(config, checkpoint, seed)
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        let input = match input {
            Input::Request(Request::Propose { id, command }) => return self.broadcast(id, command, out),
            Input::Message { from, message: Message::Submit { items } } => {
                return self.on_submit(from, items, context, out);
            }
            Input::Timer(Timer::Resend) => {
                self.timer_set = false;
                self.ordering.sender.overdue();
                return;
            }
            Input::Snapshot(input) => {
                let (input, passed_over) = self.ordering.translate(input);
                for id in passed_over {
                    // They stand in the log that the snapshot covers, or never will: this member can't tell.
                    out.reply(Reply::Uncertain { id });
                }
                Input::Snapshot(input)
            }
            Input::Start => Input::Start,
            Input::Message { from, message: Message::Log(message) } => Input::Message { from, message },
            Input::Timer(Timer::Log(timer)) => Input::Timer(timer),
            Input::Request(Request::Read { id, level }) => Input::Request(Request::Read { id, level }),
            Input::Request(Request::ReadKey { id, level, key }) => {
                Input::Request(Request::ReadKey { id, level, key })
            }
            Input::Durable(lsn) => Input::Durable(lsn),
            Input::Unreachable(peer) => Input::Unreachable(peer),
            Input::Compact => Input::Compact,
        };
        self.give_log(input, context, out);
    }

    fn flush(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.submit(context, out);
        let (core, ordering) = (&mut self.core, &mut self.ordering);
        core.flush(context, &mut LogSink::<L, _> { ordering, out, log: PhantomData });
        self.answer_log(context, out);
    }

    fn assert_invariants(&self) {
        self.core.assert_invariants();
        self.ordering.sender.assert_invariants(self.config.window);
        assert!(self.ordering.sessions.len() <= SENDERS_LIMIT, "the table is bounded");
        assert!(self.ordering.answers.is_empty(), "the log has all its answers");
        assert!(self.timer_set || self.ordering.sender.waiting() == 0, "what waits is not forgotten");
    }
}

impl<L: ReplicatedLog> Total<L> {
    fn give_log(&mut self, input: Input<L::Core>, context: Context, out: &mut impl Sink<Self>) {
        let (core, ordering) = (&mut self.core, &mut self.ordering);
        core.handle(input, context, &mut LogSink::<L, _> { ordering, out, log: PhantomData });
        self.answer_log(context, out);
        assert!(self.ordering.answers.is_empty(), "the log has all its answers");
        if core::mem::take(&mut self.ordering.lost) {
            self.admission.clear();
        }
    }

    /// What this layer answers in the parent's place. Each answer lets the log send or ask for one chunk, so there is an end.
    fn answer_log(&mut self, context: Context, out: &mut impl Sink<Self>) {
        while let Some(answer) = self.ordering.answers.pop_front() {
            let (core, ordering) = (&mut self.core, &mut self.ordering);
            let mut sink = LogSink::<L, _> { ordering, out, log: PhantomData };
            core.handle(Input::Snapshot(answer), context, &mut sink);
        }
    }

    fn broadcast(&mut self, id: RequestId, command: Draft, out: &mut impl Sink<Self>) {
        assert!(id.0 < OWN_REQUESTS, "the parent's requests have ids below 2^63");
        let why = if command.command_len() > self.config.max_body_bytes {
            Some(Refusal::TooLarge)
        } else if self.ordering.sender.waiting() >= self.config.window {
            Some(Refusal::Overloaded)
        } else {
            None
        };
        if let Some(why) = why {
            self.ordering.counters.refused += 1;
            // Early: nothing was submitted, which no crash can make untrue.
            return out.reply_early(Reply::Refused { id, why });
        }
        self.ordering.sender.push(id, command.seal(|_| ()).slice(HEADROOM_BYTES..));
        assert!(self.ordering.sender.waiting() <= self.config.window, "what waits is bounded");
    }

    /// Gives what waits to whom leads the log.
    fn submit(&mut self, context: Context, out: &mut impl Sink<Self>) {
        if self.ordering.sender.waiting() > 0 && !self.timer_set {
            self.timer_set = true;
            let resend_ns = self.config.resend_ms.saturating_mul(1_000_000);
            out.set_timer(Timer::Resend, context.now_ns.saturating_add(resend_ns));
        }
        let node = self.config.id;
        let leader = L::leader(&self.core);
        if leader != Some(node) {
            self.admission.clear();
        }
        let Some(leader) = leader else { return };
        let present = self.ordering.sessions.get(node).map_or(0, |session| session.session);
        for items in self.ordering.sender.due(leader, present, self.config.max_batch_bytes) {
            self.ordering.counters.submitted += items.len() as u64;
            if leader == node {
                self.propose(node, items, context, out);
            } else {
                // Early: an item claims nothing of this disk. If this life ends, its session does.
                out.send_early(leader, Message::Submit { items });
            }
        }
    }

    fn on_submit(&mut self, from: NodeId, items: Vec<Bytes>, context: Context, out: &mut impl Sink<Self>) {
        if !self.config.members.contains(&from) {
            self.ordering.counters.refused_strangers += 1;
        } else if L::leader(&self.core) != Some(self.config.id) {
            // The sender learns who leads as this member did, and submits again.
            self.ordering.counters.misdirected += 1;
            self.admission.clear();
        } else {
            self.propose(from, items, context, out);
        }
    }

    /// Puts a sender's items before the log. Refused or not: senders wait for deliveries, not for this.
    fn propose(&mut self, from: NodeId, items: Vec<Bytes>, context: Context, out: &mut impl Sink<Self>) {
        for item in items {
            let too_long = item.len() > self.config.max_body_bytes.saturating_add(ITEM_BYTES_MAX);
            match Item::decode(item.clone()) {
                Ok(Item::Open { node, session, after }) if node == from && !too_long => {
                    if self.admission.admits_open(node, session, after)
                        && self.propose_one(&item, context, out)
                    {
                        self.admission.opening(node, session, after);
                    }
                }
                Ok(Item::Message { node, session, counter, .. }) if node == from && !too_long => {
                    self.propose_message((node, session, counter), item, context, out);
                }
                _ => self.ordering.counters.malformed += 1,
            }
        }
    }

    /// A message, if it is its sender's next, and those behind it that came before it.
    fn propose_message(
        &mut self,
        (node, session, counter): (NodeId, u64, u64),
        item: Bytes,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        let mut next = match self.admission.judge(&self.ordering.sessions, (node, session, counter), &item) {
            Admitted::Next => Some((counter, item)),
            Admitted::Early => {
                self.ordering.counters.early += 1;
                None
            }
            Admitted::Dropped => {
                self.ordering.counters.again += 1;
                None
            }
        };
        while let Some((counter, item)) = next {
            if !self.propose_one(&item, context, out) {
                return;
            }
            if self.admission.is_behind(&self.ordering.sessions, node, session, counter) {
                self.admission.proposed(node, session, counter);
            }
            next = self.admission.take_next(&self.ordering.sessions, node, session);
        }
    }

    /// Whether the log took it.
    fn propose_one(&mut self, item: &Bytes, context: Context, out: &mut impl Sink<Self>) -> bool {
        self.proposals = (self.proposals + 1) % OWN_REQUESTS;
        let id = RequestId(OWN_REQUESTS | self.proposals);
        assert!(
            id.0 >= OWN_REQUESTS && !item.is_empty(),
            "it is no request of the parent's, and no entry of the log's own"
        );
        self.ordering.refused = None;
        self.ordering.counters.proposed += 1;
        let command = Draft::copy_of(item);
        self.give_log(Input::Request(Request::Propose { id, command }), context, out);
        self.ordering.refused != Some(id)
    }
}
