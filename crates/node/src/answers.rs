//! How a command ends: applied, not applied, or uncertain; and to whom that is said.

use keypact_data::Command;
use keypact_protocol::{Context, Delivery, Refusal, RequestId};
use keypact_resp::Value;

use crate::node::{DEFAULT_AT, Node, Work};
use crate::outside::Outside;
use crate::peer::Resolution;
use crate::pending::{Pending, Place, StreamKey};
use crate::session::Waiting;

pub(crate) fn uncertain_error() -> Value {
    Value::error(
        "UNCERTAIN",
        "the leader was lost after the command reached it; it may or may not have been applied; read before you try again",
    )
}

pub(crate) fn no_quorum_error() -> Value {
    Value::error(
        "CLUSTERDOWN",
        "NOQUORUM no leader for keyspace default in time; nothing was applied; try again",
    )
}

pub(crate) fn overloaded_error() -> Value {
    Value::error("TRYAGAIN", "OVERLOADED too much is under way; nothing was applied; try again later")
}

/// For a read that can be answered neither here nor elsewhere in its place.
pub(crate) fn lost_read_error() -> Value {
    Value::error(
        "CLUSTERDOWN",
        "NOQUORUM the leader was lost before this read was answered, with writes behind it; nothing was read; try again",
    )
}

fn too_large_error() -> Value {
    Value::error("ERR", "the command is larger than this keyspace takes; nothing was applied")
}

impl Node {
    /// Applies one delivery, answers whom it answers, and then the reads that waited for it.
    pub(crate) fn deliver(&mut self, at: usize, delivery: &Delivery, out: &mut impl Outside) {
        let value = self.replicas[at].apply(delivery);
        match delivery.request.and_then(|id| self.pending.remove(id)) {
            Some(Pending::Write { place, reads }) => {
                self.counters.writes_applied += 1;
                let value = value.expect("a client's write has an answer");
                self.answer(place, Resolution::Value(value), out);
                self.answer_reads(reads, out);
            }
            Some(Pending::Tick { place, command, reads }) => {
                self.answer_read(place, &command, out);
                self.answer_reads(reads, out);
            }
            Some(Pending::Catalog | Pending::Expiry) | None => {}
            Some(Pending::Read { .. }) => unreachable!("a read is never proposed"),
        }
        while let Some(entry) = self.replicas[at].reads_at.first_entry()
            && *entry.key() <= delivery.index
        {
            for id in entry.remove() {
                self.finish_read(id, out);
            }
        }
    }

    fn answer_reads(&mut self, reads: Vec<(Place, Command)>, out: &mut impl Outside) {
        for (place, command) in reads {
            self.answer_read(place, &command, out);
        }
    }

    fn answer_read(&mut self, place: Place, command: &Command, out: &mut impl Outside) {
        if self.lists_in_slices(command) {
            return self.begin_listing(place, command, out);
        }
        let partition = self.replicas[DEFAULT_AT].partition();
        let value = partition.read(partition.applied_stamp_ms(), command);
        self.counters.reads_answered += 1;
        self.answer(place, Resolution::Value(value), out);
    }

    /// A read's index is applied: read.
    pub(crate) fn finish_read(&mut self, id: RequestId, out: &mut impl Outside) {
        let Some(Pending::Read { place, command }) = self.pending.remove(id) else { return };
        self.confirmed(place);
        self.answer_read(place, &command, out);
    }

    /// A read of this stream is no longer waiting for its confirmation.
    fn confirmed(&mut self, place: Place) {
        let Some(lane) = self.lane(place) else { return };
        lane.confirmed();
        if lane.unconfirmed == 0 {
            self.resume(place.stream);
        }
    }

    /// Has the stream's next commands looked at, if any wait.
    fn resume(&mut self, stream: StreamKey) {
        let waits = match stream {
            StreamKey::Local(session) => self.sessions.get(&session).is_some_and(|s| !s.waiting.is_empty()),
            StreamKey::Remote(node, life, session) => {
                self.remotes.get(&(node, life, session)).is_some_and(|remote| !remote.parked.is_empty())
            }
        };
        if waits {
            self.counters.writes_after_own_read += 1;
            self.work.push_back(Work::Resume(stream));
        }
    }

    /// The group refused a request; nothing was applied.
    pub(crate) fn refused(&mut self, id: RequestId, why: Refusal, context: Context, out: &mut impl Outside) {
        let refusal = match why {
            Refusal::Overloaded => Some(Resolution::Overloaded),
            Refusal::TooLarge => Some(Resolution::Value(too_large_error())),
            Refusal::NotLeader { .. } | Refusal::NoQuorum | Refusal::NotYet | Refusal::Lost => None,
        };
        match self.pending.remove(id) {
            Some(Pending::Read { place, command }) => {
                self.confirmed(place);
                match refusal {
                    Some(resolution) => self.answer(place, resolution, out),
                    None => self.give_back(None, place, command, context, out),
                }
            }
            Some(Pending::Tick { place, command, reads }) => {
                match refusal {
                    // Tried again at once it would be refused again, for ever.
                    Some(resolution) => self.answer(place, resolution, out),
                    None => self.give_back(Some(id), place, command, context, out),
                }
                self.give_back_all(id, reads, context, out);
            }
            Some(Pending::Write { place, reads }) => {
                // Only a leader is asked, and it asks no peer before it refuses: for others than the first two reasons a write is never
                // refused. Were it so, this would still be true.
                self.answer(place, refusal.unwrap_or(Resolution::Overloaded), out);
                self.give_back_all(id, reads, context, out);
            }
            Some(Pending::Catalog | Pending::Expiry) | None => {}
        }
    }

    /// A proposal entered the log, and the group can no longer tell what becomes of it.
    pub(crate) fn uncertain(&mut self, id: RequestId, context: Context, out: &mut impl Outside) {
        match self.pending.remove(id) {
            Some(Pending::Write { place, reads }) => {
                self.answer(place, Resolution::Uncertain, out);
                self.give_back_all(id, reads, context, out);
            }
            Some(Pending::Tick { place, command, reads }) => {
                self.give_back(Some(id), place, command, context, out);
                self.give_back_all(id, reads, context, out);
            }
            Some(Pending::Read { .. }) => unreachable!("a read is never proposed"),
            Some(Pending::Catalog | Pending::Expiry) | None => {}
        }
    }

    fn give_back_all(
        &mut self,
        proposal: RequestId,
        reads: Vec<(Place, Command)>,
        context: Context,
        out: &mut impl Outside,
    ) {
        for (place, command) in reads {
            self.give_back(Some(proposal), place, command, context, out);
        }
    }

    /// A read that was not answered goes where it came from, to be routed anew. Unless a write of its stream entered the log after the
    /// `proposal` that it waited for: asked again it might see that write, and a redirect would take that write along.
    fn give_back(
        &mut self,
        proposal: Option<RequestId>,
        place: Place,
        command: Command,
        context: Context,
        out: &mut impl Outside,
    ) {
        assert!(!command.spec().is_write(), "a write that may be in a log is never sent again");
        if proposal.is_some() && self.lane(place).is_some_and(|lane| lane.last_write != proposal) {
            self.counters.no_quorum += 1;
            return self.answer(place, Resolution::Value(lost_read_error()), out);
        }
        match place.stream {
            StreamKey::Local(key) => {
                let Some(session) = self.sessions.get_mut(&key) else { return };
                session.lane.answered();
                session.put_back(Waiting { seq: place.number, command, since_ns: context.now_ns });
                self.work.push_back(Work::Resume(place.stream));
            }
            StreamKey::Remote(..) => {
                let leader = self.replicas[DEFAULT_AT].raft.leader();
                self.answer(place, Resolution::Redirect { leader }, out);
            }
        }
    }

    /// Answers a command that was carried out here.
    pub(crate) fn answer(&mut self, place: Place, resolution: Resolution, out: &mut impl Outside) {
        match place.stream {
            StreamKey::Local(key) => {
                let Some(session) = self.sessions.get_mut(&key) else { return };
                session.lane.answered();
                // Once nothing is under way here, what waits may go elsewhere.
                if session.lane.in_flight == 0 && !session.waiting.is_empty() {
                    self.work.push_back(Work::Resume(place.stream));
                }
                let value = self.value_of(resolution);
                out.reply(key, place.number, value);
            }
            StreamKey::Remote(node, life, session) => {
                let key = (node, life, session);
                let Some(remote) = self.remotes.get_mut(&key) else { return };
                if remote.generation != place.generation {
                    return;
                }
                remote.lane.answered();
                let redirect = matches!(resolution, Resolution::Redirect { .. });
                self.answer_forward(key, place.generation, place.number, resolution, out);
                if redirect {
                    self.break_remote(key, out);
                }
            }
        }
    }

    /// What a connection of this node is told.
    pub(crate) fn value_of(&mut self, resolution: Resolution) -> Value {
        match resolution {
            Resolution::Value(value) => value,
            Resolution::Uncertain => {
                self.counters.uncertain += 1;
                uncertain_error()
            }
            Resolution::Overloaded => {
                self.counters.overloaded += 1;
                overloaded_error()
            }
            Resolution::Redirect { .. } | Resolution::Forgotten => {
                self.counters.no_quorum += 1;
                no_quorum_error()
            }
        }
    }
}
