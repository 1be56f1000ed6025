//! [`Node`]: takes inputs, drives replicas, carries out what they ask of their parent.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use keypact_coordination::raft::{self, OPERATOR, Raft};
use keypact_data::ListingId;
use keypact_protocol::{
    Context, Draft, DraftArena, GroupId, Input, Lsn, NodeId, Protocol, Reply, Request, RequestId,
    SnapshotInput, SnapshotRead,
};

use crate::catalog::{CatalogCommand, Keyspace};
use crate::clocks::Clocks;
use crate::config::NodeConfig;
use crate::idle::Expiry;
use crate::members::Members;
use crate::outside::{NodeInput, Outside, SessionId};
use crate::peer::{HEARTBEATS_LIMIT, PeerMessage};
use crate::pending::{Pending, PendingTable, Place, StreamKey};
use crate::remote::Forgotten;
use crate::replica::{Counters, Machine, Replica};
use crate::scope::{Gathered, Heartbeats, Scope};
use crate::session::{RemoteStream, Session};
use crate::timers::{TimerKey, Timers};

/// Hash tables without randomness of their own: the same inputs give the same tables.
pub(crate) type Table<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Another node's connection: that node, its life, the connection.
pub(crate) type RemoteKey = (NodeId, u64, u64);

/// Place of the catalog's replica.
pub(crate) const CATALOG_AT: usize = 0;
/// Place of `default`'s replica.
pub(crate) const DEFAULT_AT: usize = 1;

/// How often the node looks at what waits too long, nanoseconds.
pub(crate) const SWEEP_NS: u64 = 50_000_000;

/// Something left to do after the present input. Replicas are driven from one loop only, so that no replica's effects are carried out
/// in the middle of another's.
#[derive(Debug)]
pub(crate) enum Work {
    /// Hand this to a replica.
    Drive(usize, Input<Raft>),
    /// See whether a stream's next commands may start.
    Resume(StreamKey),
    /// Answer a read.
    Read(RequestId),
}

/// One whole node. See the crate's documentation.
pub struct Node {
    pub(crate) config: NodeConfig,
    /// The term of `default` that the disk knew when this life began: no earlier life led a later one.
    pub(crate) recovered_term: u64,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) pending: PendingTable,
    pub(crate) arena: DraftArena,
    pub(crate) sessions: Table<SessionId, Session>,
    pub(crate) remotes: Table<RemoteKey, RemoteStream>,
    pub(crate) forgotten: VecDeque<Forgotten>,
    pub(crate) timers: Timers,
    pub(crate) work: VecDeque<Work>,
    pub(crate) counters: Counters,
    /// Peers that were heard since they were last called unreachable.
    pub(crate) reachable: Vec<NodeId>,
    /// Drawn anew in every life.
    pub(crate) life: u64,
    pub(crate) generations: u64,
    pub(crate) durable: Lsn,
    /// The leader and term of `default` that waiting commands were last routed by.
    pub(crate) routed_by: (Option<NodeId>, u64),
    /// The members' wall clocks.
    pub(crate) clocks: Clocks,
    /// Who belongs to the cluster.
    pub(crate) members: Members,
    pub(crate) expiry: Expiry,
    /// Who asked for the listings under way.
    pub(crate) listings: BTreeMap<ListingId, Place>,
    gathered: Gathered,
    heartbeats: Heartbeats,
    /// The term in which this node proposed the catalog's first entry.
    founded_in: Option<u64>,
    dropped_before: Lsn,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Node({}, {} sessions, {} pending)",
            self.config.id,
            self.sessions.len(),
            self.pending.len()
        )
    }
}

impl Node {
    pub(crate) fn new(config: NodeConfig, replicas: Vec<Replica>, life: u64, durable: Lsn) -> Node {
        assert!(replicas.len() == crate::GROUPS.len(), "one replica per group");
        let recovered_term = replicas[DEFAULT_AT].raft.term();
        let Machine::Catalog(catalog) = &replicas[CATALOG_AT].machine else {
            unreachable!("the catalog's replica holds the catalog")
        };
        let members = Members::new(&config, catalog);
        let clocks = Clocks::new(config.id, config.clock_skew_bound_ms);
        let mut node = Node {
            config,
            recovered_term,
            replicas,
            pending: PendingTable::default(),
            arena: DraftArena::default(),
            sessions: Table::default(),
            remotes: Table::default(),
            forgotten: VecDeque::new(),
            timers: Timers::default(),
            work: VecDeque::new(),
            counters: Counters::default(),
            reachable: Vec::new(),
            life,
            generations: 0,
            durable,
            routed_by: (None, 0),
            clocks,
            members,
            expiry: Expiry::default(),
            listings: BTreeMap::new(),
            gathered: Gathered::default(),
            heartbeats: Heartbeats::default(),
            founded_in: None,
            dropped_before: Lsn::ZERO,
        };
        node.follow_voters();
        node
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Takes one input.
    pub fn handle(&mut self, input: NodeInput, context: Context, out: &mut impl Outside) {
        if let NodeInput::Peer { from, message: PeerMessage::Heartbeats { wall_ms, .. } } = &input {
            // Before time is bounded: the votes that make this node lead may come in the very message that brings a majority's clocks.
            self.hear_clock(*from, *wall_ms, context);
        }
        let context = self.clocks.bound(context);
        match input {
            NodeInput::Command { session, seq, command } => self.command(session, seq, command, context, out),
            NodeInput::Peer { from, message } => self.peer(from, message, context, out),
            NodeInput::Durable(lsn) => self.durable(lsn, context, out),
            NodeInput::Wake => self.wake(context, out),
            NodeInput::Start => self.start(context, out),
            NodeInput::SessionClosed(session) => {
                self.sessions.remove(&session);
            }
            NodeInput::Unreachable(peer) => self.unreachable(peer, context, out),
            NodeInput::Reachable(peer) => self.note_reachable(peer, out),
            NodeInput::CheckpointChunkWanted(group) => self.next_checkpoint_chunk(group, out),
            NodeInput::Checkpointed(group) => self.checkpointed(group),
            NodeInput::CheckpointRead { group, to, chunk } => self.checkpoint_read(group, to, chunk),
            NodeInput::IncomingTaken { group, chunk } => self.incoming_taken(group, chunk, out),
            NodeInput::LogLong(group) => {
                if let Some(at) = self.place_of(group) {
                    self.work.push_back(Work::Drive(at, Input::Compact));
                }
            }
        }
        self.work_off(context, out);
    }

    /// Writes out what the inputs since the last flush gathered, and checks that nothing contradicts itself. Call once per batch.
    pub fn flush(&mut self, context: Context, out: &mut impl Outside) {
        let own_wall_ms = context.wall_ms;
        let context = self.clocks.bound(context);
        self.found_catalog(context, out);
        // A flush may set commands free, and what they propose must not wait for the next batch. Each turn starts some of what waits.
        while self.replicas.iter().any(|replica| replica.touched) {
            for at in 0..self.replicas.len() {
                self.flush_replica(at, context, out);
            }
            self.follow_leader(context);
            self.work_off(context, out);
        }
        self.send_heartbeats(own_wall_ms, out);
        self.arm_idle(context);
        self.arm_listings(context);
        if let Some(at_ns) = self.timers.next_wish() {
            out.wake_at(at_ns);
        }
    }

    fn flush_replica(&mut self, at: usize, context: Context, out: &mut impl Outside) {
        if !self.replicas[at].touched {
            return;
        }
        self.replicas[at].touched = false;
        let (replica, mut scope) =
            scope_of(&mut self.replicas[at], &mut self.gathered, &mut self.heartbeats, out);
        replica.raft.flush(context, &mut replica.gate.sink(&mut scope));
        replica.raft.assert_invariants();
        self.absorb(at, context, out);
        if at == DEFAULT_AT {
            self.follow_voters();
            let bounded = !self.replicas[at].leads() || self.clocks.knows_majority();
            assert!(bounded, "who leads has heard a majority's clocks, or its stamps would have no bound");
        }
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The protocol of a group, to look at.
    #[must_use]
    pub fn raft(&self, group: GroupId) -> Option<&Raft> {
        self.place_of(group).map(|at| &self.replicas[at].raft)
    }

    /// The data of `default`, to look at.
    #[must_use]
    pub fn partition(&self) -> &keypact_data::Partition {
        self.replicas[DEFAULT_AT].partition()
    }

    /// How far this node's wall clock is ahead of the latest time that a majority of the members' clocks have reached, milliseconds.
    #[must_use]
    pub fn clock_ahead_ms(&self, context: Context) -> i64 {
        self.clocks.ahead_ms(context)
    }

    pub(crate) fn place_of(&self, group: GroupId) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.group == group)
    }

    fn start(&mut self, context: Context, out: &mut impl Outside) {
        for at in 0..self.replicas.len() {
            self.drive(at, Input::Start, context, out);
        }
        self.tend_members_later(context);
    }

    fn durable(&mut self, lsn: Lsn, context: Context, out: &mut impl Outside) {
        assert!(lsn >= self.durable, "the durable number never falls");
        self.durable = lsn;
        for at in 0..self.replicas.len() {
            let (replica, mut scope) =
                scope_of(&mut self.replicas[at], &mut self.gathered, &mut self.heartbeats, out);
            replica.gate.release(lsn, &mut scope);
            self.drive(at, Input::Durable(lsn), context, out);
        }
    }

    fn wake(&mut self, context: Context, out: &mut impl Outside) {
        self.timers.woken();
        // A timer that is set for a time that has passed comes with the next wake-up, not in circles.
        for _ in 0..self.timers.len() {
            let Some(key) = self.timers.pop_due(context.now_ns) else { break };
            match key {
                TimerKey::Replica(at, timer) => self.drive(at, Input::Timer(timer), context, out),
                TimerKey::Sweep => self.sweep(context, out),
                TimerKey::Expiry => self.expire_idle(context, out),
                TimerKey::Free => self.free_idle(),
                TimerKey::List => self.list_more(out),
                TimerKey::Members => self.tend_members(context, out),
                TimerKey::SweepRemotes => {
                    self.sweep_remotes(context.now_ns);
                    if !self.remotes.is_empty() {
                        self.sweep_remotes_later(context);
                    }
                }
            }
        }
    }

    fn unreachable(&mut self, peer: NodeId, context: Context, out: &mut impl Outside) {
        self.reachable.retain(|id| *id != peer);
        for at in 0..self.replicas.len() {
            self.drive(at, Input::Unreachable(peer), context, out);
        }
        self.give_up_route(peer, context, out);
    }

    fn note_reachable(&mut self, peer: NodeId, out: &mut impl Outside) {
        if !self.reachable.contains(&peer) && self.knows(peer) {
            self.reachable.push(peer);
            self.send_roster(Some(peer), None, out);
        }
    }

    fn hear_clock(&mut self, from: NodeId, wall_ms: u64, context: Context) {
        self.clocks.hear(from, self.knows(from), wall_ms, context.now_ns);
    }

    fn peer(&mut self, from: NodeId, message: PeerMessage, context: Context, out: &mut impl Outside) {
        if from == OPERATOR {
            // Nobody but this node itself speaks to its groups in an operator's name.
            return;
        }
        self.note_reachable(from, out);
        match message {
            PeerMessage::Group { group, message } => self.group_message(from, group, message, context, out),
            PeerMessage::Heartbeats { lines, .. } => {
                for (group, message) in lines {
                    self.group_message(from, group, message, context, out);
                }
            }
            // Who is no member has no business with the keyspace.
            PeerMessage::Forward(_) if !self.reachable.contains(&from) => {}
            PeerMessage::Forward(forward) => self.take_forward(from, forward, context, out),
            PeerMessage::ForwardReply(reply) => self.take_forward_reply(from, reply, context, out),
            PeerMessage::Members { roster, joins } => self.take_roster(from, &roster, joins, context, out),
        }
    }

    /// What a group that was just spoken to in an operator's name has said.
    pub(crate) fn take_group_answer(&mut self) -> Option<Result<(), raft::ChangeRefusal>> {
        self.gathered.answer.take()
    }

    fn group_message(
        &mut self,
        from: NodeId,
        group: GroupId,
        message: raft::Message,
        context: Context,
        out: &mut impl Outside,
    ) {
        // A group that this node does not know: a peer of a newer configuration. Nothing to say to it.
        if let Some(at) = self.place_of(group) {
            self.drive(at, Input::Message { from, message }, context, out);
        }
    }

    fn checkpoint_read(
        &mut self,
        group: GroupId,
        to: NodeId,
        chunk: Option<keypact_protocol::SnapshotChunk>,
    ) {
        let Some(at) = self.place_of(group) else { return };
        let answer = match chunk {
            Some(chunk) => SnapshotInput::Read { to, chunk },
            None => SnapshotInput::ReadFailed { to },
        };
        self.work.push_back(Work::Drive(at, Input::Snapshot(answer)));
    }

    /// Hands one input to a replica and carries out what it asks.
    pub(crate) fn drive(&mut self, at: usize, input: Input<Raft>, context: Context, out: &mut impl Outside) {
        let (replica, mut scope) =
            scope_of(&mut self.replicas[at], &mut self.gathered, &mut self.heartbeats, out);
        replica.touched = true;
        replica.raft.handle(input, context, &mut replica.gate.sink(&mut scope));
        self.absorb(at, context, out);
    }

    pub(crate) fn propose(
        &mut self,
        at: usize,
        pending: Pending,
        command: Draft,
        context: Context,
        out: &mut impl Outside,
    ) -> RequestId {
        let id = self.pending.insert(pending);
        self.drive(at, Input::Request(Request::Propose { id, command }), context, out);
        id
    }

    /// Carries out what a replica asked of its parent.
    fn absorb(&mut self, at: usize, context: Context, out: &mut impl Outside) {
        if self.gathered.is_empty() {
            return;
        }
        for (timer, at_ns) in self.gathered.timers.drain(..) {
            let key = TimerKey::Replica(at, timer);
            match at_ns {
                Some(at_ns) => self.timers.set(key, at_ns),
                None => self.timers.cancel(key),
            }
        }
        let mut deliveries = core::mem::take(&mut self.gathered.deliveries);
        for delivery in deliveries.drain(..) {
            self.deliver(at, &delivery, out);
        }
        self.gathered.deliveries = deliveries;
        let mut replies = core::mem::take(&mut self.gathered.replies);
        for reply in replies.drain(..) {
            self.group_reply(at, reply, context, out);
        }
        self.gathered.replies = replies;
        if self.gathered.asks_for_disk() {
            self.absorb_disk(at, out);
        }
        assert!(self.gathered.is_empty(), "replicas are driven from one loop only");
    }

    /// The rarer part of [`Node::absorb`]: checkpoints, snapshots, the log's length.
    fn absorb_disk(&mut self, at: usize, out: &mut impl Outside) {
        if let Some(meta) = self.gathered.checkpoint.take() {
            self.begin_checkpoint(at, meta, out);
        }
        for SnapshotRead { to, chunk } in self.gathered.snapshot_reads.drain(..) {
            out.checkpoint_read(self.replicas[at].group, to, chunk);
        }
        for chunk in core::mem::take(&mut self.gathered.snapshot_chunks) {
            self.take_incoming(at, chunk, out);
        }
        if let Some(lsn) = self.gathered.drop_before.take() {
            self.replicas[at].needs_from = lsn;
            self.drop_log(out);
        }
    }

    fn drop_log(&mut self, out: &mut impl Outside) {
        let needed = self.replicas.iter().map(|replica| replica.needs_from).min().unwrap_or(Lsn::ZERO);
        if needed > self.dropped_before {
            self.dropped_before = needed;
            out.drop_log_before(needed);
        }
    }

    fn group_reply(&mut self, at: usize, reply: Reply, context: Context, out: &mut impl Outside) {
        match reply {
            Reply::ReadFrom { id, index } if index <= self.replicas[at].applied_index() => {
                self.finish_read(id, out)
            }
            Reply::ReadFrom { id, index } => self.replicas[at].reads_at.entry(index).or_default().push(id),
            Reply::Refused { id, why } => self.refused(id, why, context, out),
            Reply::Uncertain { id } => self.uncertain(id, context, out),
        }
    }

    /// Works off what inputs and effects left to do.
    pub(crate) fn work_off(&mut self, context: Context, out: &mut impl Outside) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Drive(at, input) => self.drive(at, input, context, out),
                Work::Read(id) => self.finish_read(id, out),
                Work::Resume(StreamKey::Local(session)) => self.dispatch(session, context, out),
                Work::Resume(StreamKey::Remote(node, life, session)) => {
                    self.resume_remote((node, life, session), context, out);
                }
            }
        }
    }

    /// The catalog's first leader writes down what the cluster is made of.
    fn found_catalog(&mut self, context: Context, out: &mut impl Outside) {
        let replica = &self.replicas[CATALOG_AT];
        let term = replica.raft.term();
        if self.catalog().is_founded() || !replica.leads() || self.founded_in == Some(term) {
            return;
        }
        self.founded_in = Some(term);
        let default = Keyspace {
            name: String::from("default"),
            replication: String::from("raft"),
            partitions: 1,
            reads: String::from(self.config.reads.name()),
        };
        let command = CatalogCommand::Found {
            cluster: self.config.cluster.clone(),
            nodes: self.config.members.clone(),
            keyspaces: vec![default],
        };
        let draft = Draft::copy_of(&command.encode());
        self.propose(CATALOG_AT, Pending::Catalog, draft, context, out);
    }

    /// Heartbeats and votes of all groups to one peer travel as one message, with this node's own wall clock.
    fn send_heartbeats(&mut self, wall_ms: u64, out: &mut impl Outside) {
        if self.heartbeats.is_empty() {
            return;
        }
        let mut heartbeats = core::mem::take(&mut self.heartbeats);
        while let Some(&(to, _, _)) = heartbeats.first() {
            let mut lines = Vec::new();
            heartbeats.retain(|(peer, group, message)| {
                let joins = *peer == to && lines.len() < HEARTBEATS_LIMIT;
                if joins {
                    lines.push((*group, message.clone()));
                }
                !joins
            });
            out.send(to, crate::Traffic::Control, PeerMessage::Heartbeats { wall_ms, lines });
        }
        self.heartbeats = heartbeats;
    }
}

/// A replica, and the scope in which its effects are carried out.
fn scope_of<'a, O: Outside>(
    replica: &'a mut Replica,
    gathered: &'a mut Gathered,
    heartbeats: &'a mut Heartbeats,
    outside: &'a mut O,
) -> (&'a mut Replica, Scope<'a, O>) {
    let group = replica.group;
    (replica, Scope { group, outside, gathered, heartbeats })
}
