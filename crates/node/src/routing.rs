//! Where a client's command goes: here, to the leader, or into waiting.

use keypact_coordination::raft::Role;
use keypact_data::Command;
use keypact_protocol::{Context, Draft, Input, NodeId, ReadLevel, Request};

use crate::answers::overloaded_error;
use crate::config::Reads;
use crate::node::{DEFAULT_AT, Node};
use crate::outside::{Outside, SessionId, Traffic};
use crate::peer::{Forward, PeerMessage};
use crate::pending::{Pending, Place, StreamKey};
use crate::session::{Lane, Route, Sent, Waiting};

/// Where a command may go now.
enum Destination {
    Here,
    To(NodeId),
    Nowhere,
}

impl Node {
    /// A client's command arrives.
    pub(crate) fn command(
        &mut self,
        session: SessionId,
        seq: u64,
        command: Command,
        context: Context,
        out: &mut impl Outside,
    ) {
        let is_write = command.spec().is_write();
        let here = matches!(self.destination(is_write), Destination::Here);
        let entry = self.sessions.entry(session).or_default();
        if entry.len() >= self.config.session_limit {
            self.counters.overloaded += 1;
            return out.reply(session, seq, overloaded_error());
        }
        if here && entry.is_next(is_write) {
            // The common case does without the queue.
            let place = Place { stream: StreamKey::Local(session), generation: 0, number: seq };
            return self.carry_out(place, command, context, out);
        }
        entry.waiting.push_back(Waiting { seq, command, since_ns: context.now_ns });
        if entry.waiting.len() == 1 {
            self.dispatch(session, context, out);
        }
    }

    /// Starts what may start of a connection's waiting commands.
    pub(crate) fn dispatch(&mut self, key: SessionId, context: Context, out: &mut impl Outside) {
        loop {
            let Some(session) = self.sessions.get_mut(&key) else { return };
            session.assert_invariants();
            let Some(front) = session.waiting.front() else { return };
            let is_write = front.command.spec().is_write();
            let admitted = session.lane.admits(is_write) && session.sent.is_empty();
            let idle_here = session.lane.in_flight == 0;
            match self.destination(is_write) {
                Destination::Here if admitted => {
                    let session = self.sessions.get_mut(&key).expect("just seen");
                    let Waiting { seq, command, .. } = session.waiting.pop_front().expect("just seen");
                    let place = Place { stream: StreamKey::Local(key), generation: 0, number: seq };
                    self.carry_out(place, command, context, out);
                }
                Destination::To(leader) if idle_here => {
                    if !self.forward(key, leader, context, out) {
                        return self.sweep_later(context);
                    }
                }
                Destination::Nowhere => return self.sweep_later(context),
                Destination::Here | Destination::To(_) => return self.sweep_later(context),
            }
        }
    }

    fn destination(&self, is_write: bool) -> Destination {
        let raft = &self.replicas[DEFAULT_AT].raft;
        if raft.role() == Role::Leader || (!is_write && self.config.reads == Reads::Stale) {
            return Destination::Here;
        }
        match raft.leader() {
            // What is sent to a peer that can't be reached is lost, and would be waited for in vain.
            Some(leader) if self.reachable.contains(&leader) => Destination::To(leader),
            _ => Destination::Nowhere,
        }
    }

    /// Forwards a connection's first waiting command. `false` if earlier ones went elsewhere and are not answered, or the leader sent some back
    /// just now.
    fn forward(&mut self, key: SessionId, leader: NodeId, context: Context, out: &mut impl Outside) -> bool {
        let term = self.replicas[DEFAULT_AT].raft.term();
        let session = self.sessions.get_mut(&key).expect("the caller has seen it");
        if session.is_refused(leader, term, context.now_ns) {
            return false;
        }
        if session.route.is_none_or(|route| route.to != leader || route.term != term) {
            if !session.sent.is_empty() {
                return false;
            }
            self.generations += 1;
            session.route = Some(Route { to: leader, term, generation: self.generations, next_place: 0 });
            // That was about the route before.
            session.give_up_at_ns = None;
        }
        let Waiting { seq, command, since_ns } = session.waiting.pop_front().expect("the caller has seen it");
        let route = session.route.as_mut().expect("just set");
        let (place, generation) = (route.next_place, route.generation);
        route.next_place += 1;
        let sent_ns = context.now_ns;
        session.sent.push_back(Sent {
            place,
            seq,
            command: command.clone(),
            since_ns,
            sent_ns,
            is_overtaken: false,
        });
        self.counters.forwarded += 1;
        self.sweep_later(context);
        let (life, session) = (self.life, key.0);
        let forward = Forward { life, session, term, generation, place, command };
        out.send(leader, Traffic::Bulk, PeerMessage::Forward(forward));
        true
    }

    /// Carries out a command here: this node leads, or the read may be stale.
    pub(crate) fn carry_out(
        &mut self,
        place: Place,
        command: Command,
        context: Context,
        out: &mut impl Outside,
    ) {
        if command.spec().is_write() {
            let draft = self.arena.draft(command.encoded_len(), |buffer| command.encode(buffer));
            drop(command);
            self.propose_write(Pending::Write { place, reads: Vec::new() }, draft, place, context, out);
        } else {
            self.carry_out_read(place, command, context, out);
        }
    }

    fn propose_write(
        &mut self,
        pending: Pending,
        draft: Draft,
        place: Place,
        context: Context,
        out: &mut impl Outside,
    ) {
        let is_tick = matches!(pending, Pending::Tick { .. });
        let id = self.pending.insert(pending);
        if let Some(lane) = self.lane(place) {
            assert!(lane.unconfirmed == 0 || is_tick, "a write waits for the reads before it");
            lane.in_flight += 1;
            lane.last_write = Some(id);
        }
        self.drive(DEFAULT_AT, Input::Request(Request::Propose { id, command: draft }), context, out);
    }

    fn carry_out_read(&mut self, place: Place, command: Command, context: Context, out: &mut impl Outside) {
        let last_write = self.lane(place).and_then(|lane| lane.last_write);
        if let Some(Pending::Write { reads, .. } | Pending::Tick { reads, .. }) =
            last_write.and_then(|id| self.pending.at(id))
        {
            reads.push((place, command));
            self.counters.reads_after_own_write += 1;
            if let Some(lane) = self.lane(place) {
                lane.in_flight += 1;
            }
            return;
        }
        let partition = self.replicas[DEFAULT_AT].partition();
        let level = match self.config.reads {
            Reads::Stale => ReadLevel::Stale,
            Reads::Lease => ReadLevel::Lease,
            Reads::ReadIndex => ReadLevel::Linearizable,
        };
        if level != ReadLevel::Stale && partition.read_meets_deadline(&command, context.wall_ms) {
            self.counters.ticks += 1;
            let draft = self.arena.draft(0, |_| ());
            return self.propose_write(
                Pending::Tick { place, command, reads: Vec::new() },
                draft,
                place,
                context,
                out,
            );
        }
        let id = self.pending.insert(Pending::Read { place, command });
        if let Some(lane) = self.lane(place) {
            lane.in_flight += 1;
            lane.unconfirmed += 1;
        }
        self.drive(DEFAULT_AT, Input::Request(Request::Read { id, level }), context, out);
    }

    /// How the stream of this place stands; `None` if it is closed or in another generation by now.
    pub(crate) fn lane(&mut self, place: Place) -> Option<&mut Lane> {
        match place.stream {
            StreamKey::Local(session) => self.sessions.get_mut(&session).map(|session| &mut session.lane),
            StreamKey::Remote(node, life, session) => self
                .remotes
                .get_mut(&(node, life, session))
                .filter(|remote| remote.generation == place.generation)
                .map(|remote| &mut remote.lane),
        }
    }
}
