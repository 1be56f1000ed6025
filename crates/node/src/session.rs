//! Numbered streams: a client's connection here, or one that another node forwards.
//!
//! Commands of one stream take effect in their order. Writes follow each other in the group's log. A read that comes after a write of its own
//! stream waits for that write and needs no other proof of freshness: the write's delivery shows that this node still led when the read was
//! under way already. A write that comes after a read whose freshness is not confirmed yet waits for it.

use std::collections::{BTreeMap, VecDeque};

use keypact_data::Command;
use keypact_protocol::{NodeId, RequestId};

/// How a stream's commands stand at the node that carries them out.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// The last write accepted, unless answered.
    pub(crate) last_write: Option<RequestId>,
    /// Reads whose freshness is being confirmed.
    pub(crate) unconfirmed: usize,
    /// Commands accepted here and not answered.
    pub(crate) in_flight: usize,
}

impl Lane {
    /// One of its commands has its answer.
    pub(crate) fn answered(&mut self) {
        self.in_flight = self.in_flight.checked_sub(1).expect("each command is answered once");
    }

    /// One of its reads waits no more for its confirmation.
    pub(crate) fn confirmed(&mut self) {
        self.unconfirmed = self.unconfirmed.checked_sub(1).expect("each read is confirmed once");
    }

    /// Whether a command may start now.
    pub(crate) fn admits(&self, is_write: bool) -> bool {
        !is_write || self.unconfirmed == 0
    }
}

/// A command that has not started.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: u64,
    pub(crate) command: Command,
    pub(crate) since_ns: u64,
}

/// A command that was forwarded and not answered.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) place: u64,
    pub(crate) seq: u64,
    pub(crate) command: Command,
    pub(crate) since_ns: u64,
    pub(crate) sent_ns: u64,
    /// A write that follows it was answered before it. Asked again, a read might see that write.
    pub(crate) is_overtaken: bool,
}

/// Where a connection's commands are being forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) to: NodeId,
    pub(crate) term: u64,
    pub(crate) generation: u64,
    pub(crate) next_place: u64,
}

/// A client's connection.
///
/// Invariant: commands are under way at one place only: here (`lane.in_flight`), or where `route` says (`sent`).
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) lane: Lane,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) route: Option<Route>,
    pub(crate) sent: VecDeque<Sent>,
    /// Who last sent commands back, in which term as this node knows it, and when. Asking the same again at once would go round and round
    /// until one of the two learns of the change.
    pub(crate) refused: Option<(NodeId, u64, u64)>,
    /// Another node leads now: when to give up on answers from the one before.
    pub(crate) give_up_at_ns: Option<u64>,
}

/// How long a connection waits before it asks the same node in the same term again, nanoseconds.
const REFUSED_NS: u64 = 20_000_000;

impl Session {
    /// Whether asking this node in this term would be in vain for now.
    pub(crate) fn is_refused(&self, leader: NodeId, term: u64, now_ns: u64) -> bool {
        self.refused.is_some_and(|(node, then, at_ns)| {
            node == leader && then == term && now_ns.saturating_sub(at_ns) < REFUSED_NS
        })
    }

    /// Whether a command that arrives now may start here at once.
    pub(crate) fn is_next(&self, is_write: bool) -> bool {
        self.waiting.is_empty() && self.sent.is_empty() && self.lane.admits(is_write)
    }

    /// Commands not answered yet.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.sent.len() + self.lane.in_flight
    }

    /// Puts a command that did not start, or whose start came to nothing, back into its place. O(commands after it).
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let at = self.waiting.partition_point(|other| other.seq < waiting.seq);
        assert!(self.waiting.get(at).is_none_or(|other| other.seq != waiting.seq), "a command waits once");
        self.waiting.insert(at, waiting);
    }

    /// An answer to the command at `at` of `sent` came before those of the ones before it.
    pub(crate) fn overtake(&mut self, at: usize) {
        if at > 0 && self.sent[at].command.spec().is_write() {
            self.sent.range_mut(..at).for_each(|earlier| earlier.is_overtaken = true);
        }
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.sent.is_empty() || self.lane.in_flight == 0, "commands are under way at one place only");
        assert!(self.lane.unconfirmed <= self.lane.in_flight, "a read that is confirmed is under way");
        assert!(self.sent.is_empty() || self.route.is_some(), "what is sent has a route");
    }
}

/// Commands that came before their turn, at most.
const PARKED_LIMIT: usize = 4_096;

/// Another node's connection, whose commands are carried out here.
#[derive(Debug)]
pub(crate) struct RemoteStream {
    pub(crate) generation: u64,
    pub(crate) next_place: u64,
    /// Something of this generation was refused; so is all that follows, to keep the order.
    pub(crate) broken: bool,
    pub(crate) lane: Lane,
    pub(crate) parked: BTreeMap<u64, Command>,
    pub(crate) used_ns: u64,
}

impl RemoteStream {
    pub(crate) fn new(generation: u64, now_ns: u64) -> RemoteStream {
        RemoteStream {
            generation,
            next_place: 0,
            broken: false,
            lane: Lane::default(),
            parked: BTreeMap::new(),
            used_ns: now_ns,
        }
    }

    /// Keeps a command until its turn. Copies and those beyond the limit are passed over: their sender gives up on them in time.
    pub(crate) fn park(&mut self, place: u64, command: Command) {
        if place >= self.next_place && self.parked.len() < PARKED_LIMIT {
            self.parked.entry(place).or_insert(command);
        }
    }

    /// The command whose turn it is, if it is here and may start.
    pub(crate) fn take_next(&mut self) -> Option<(u64, Command)> {
        let (&place, command) = self.parked.first_key_value()?;
        if place != self.next_place || !self.lane.admits(command.spec().is_write()) {
            return None;
        }
        let (_, command) = self.parked.pop_first().expect("first was there");
        assert!(!self.broken, "nothing starts of a generation of which something was refused");
        self.next_place += 1;
        Some((place, command))
    }
}
