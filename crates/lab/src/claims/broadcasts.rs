//! Groups that broadcast: one speaker at each node, faults at will, and who delivered what when.

use std::collections::{BTreeMap, BTreeSet};

use keypact_coordination::raft;
use keypact_ordering::broadcast::{self, Broadcast, Order};
use keypact_ordering::total::sequencer;
use keypact_ordering::total::{self, Total};
use keypact_protocol::{Incarnation, NodeId, Protocol};
use keypact_simulator::{
    Ask, ClientEffects, ClientId, Clients, Loss, MILLISECOND_NS, MachineOutcome, MachineReply,
    MachineRequest, Observer, ProcessConfig, ProtocolProcess, Random, RecordDisk, SECOND_NS, Setup, Swarm,
    Tally, Violation, World,
};

use super::world::{expect, nodes};
use crate::scenarios::{
    Appointer, AppointerConfig, Enveloped, Inbox, Note, Opens, RaftLog, Seat, SeatConfig,
};

type Process<P> = ProtocolProcess<P, Inbox<Enveloped>>;

/// What is done to a group.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) swarm: Swarm,
    /// Between two broadcasts at one node, on average.
    pub(super) gap_ns: u64,
    /// Links are cut and mended while there is broadcasting.
    pub(super) cuts: bool,
    /// Node 1 is killed in the middle of it, and comes back.
    pub(super) kill: bool,
}

/// Speakers begin here: whoever has to be elected is.
pub(super) const SPEAK_FROM_NS: u64 = SECOND_NS;
/// And end here.
pub(super) const SPEAK_UNTIL_NS: u64 = 2 * SECOND_NS;
/// By then all has come that ever will.
const REST_NS: u64 = 6 * SECOND_NS;
/// How often a cut may begin, and how long it lasts at least.
const TICK_NS: u64 = 20 * MILLISECOND_NS;
/// A pair of nodes is cut in so many of the ticks, parts per million.
const CUT_PPM: u32 = 500_000;

/// What was seen.
#[derive(Debug)]
pub(super) struct Heard {
    /// Of each node, its deliveries in order: what, and when first.
    pub(super) by_node: Vec<Vec<(Note, u64)>>,
    /// When each note was given to its node.
    pub(super) begun_ns: BTreeMap<Note, u64>,
    /// Notes whose client was told that they were delivered.
    pub(super) acknowledged: BTreeSet<Note>,
    /// Messages between nodes while there was broadcasting.
    pub(super) messages: u64,
}

/// One client at each node: broadcasts, and does not wait for an answer before the next.
#[derive(Debug)]
struct Speakers {
    nodes: Vec<NodeId>,
    gap_ns: u64,
    numbers: Vec<u32>,
    begun_ns: BTreeMap<Note, u64>,
    acknowledged: BTreeSet<Note>,
}

type Out<P> = ClientEffects<Process<P>>;

impl<P: Protocol<Config: Clone>> Clients<Process<P>> for Speakers {
    fn len(&self) -> u32 {
        self.numbers.len() as u32
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out<P>) {
        assert!(nodes.len() == self.numbers.len(), "one at each node");
        self.nodes = nodes.to_vec();
        for client in 0..nodes.len() as u32 {
            out.wake_at(SPEAK_FROM_NS + random.below(self.gap_ns), ClientId(client), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, _token: u64, random: &mut Random, out: &mut Out<P>) {
        if now_ns >= SPEAK_UNTIL_NS {
            return;
        }
        let index = client.0 as usize;
        self.numbers[index] += 1;
        let note = Note { client: client.0, number: self.numbers[index], node: self.nodes[index] };
        self.begun_ns.insert(note, now_ns);
        let request = MachineRequest { token: u64::from(note.number), ask: Ask::Write(note) };
        out.request(client, note.node, request);
        out.wake_at(now_ns + self.gap_ns / 2 + random.below(self.gap_ns), client, 0);
    }

    fn reply(
        &mut self,
        _now_ns: u64,
        client: ClientId,
        from: NodeId,
        reply: MachineReply<Inbox<Enveloped>>,
        _random: &mut Random,
        _out: &mut Out<P>,
    ) {
        if let MachineOutcome::Done(_) = reply.outcome {
            let number = u32::try_from(reply.token).expect("tokens are numbers of notes");
            self.acknowledged.insert(Note { client: client.0, number, node: from });
        }
    }

    fn refused(
        &mut self,
        _now_ns: u64,
        _client: ClientId,
        _by: NodeId,
        _request: MachineRequest<Inbox<Enveloped>>,
        _random: &mut Random,
        _out: &mut Out<P>,
    ) {
    }

    fn liveness_begins(&mut self, _now_ns: u64, _random: &mut Random, _out: &mut Out<P>) {}

    fn satisfied(&self) -> bool {
        true
    }

    fn waiting_for(&self) -> String {
        String::from("nobody")
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }

    fn judge(&self, _processes: &[&Process<P>]) -> Result<(), Violation> {
        Ok(())
    }
}

/// Writes down deliveries, by node and index.
#[derive(Debug, Default)]
struct Ears {
    deliveries: BTreeMap<(NodeId, u64), (Note, u64)>,
}

impl Ears {
    fn listen<P: Protocol<Config: Clone>>(
        &mut self,
        now_ns: u64,
        node: NodeId,
        process: &Process<P>,
    ) -> Result<(), Violation> {
        for delivery in process.delivered().iter().filter(|delivery| !delivery.command.is_empty()) {
            let opened = Enveloped::open(&delivery.command)
                .map_err(|error| Violation::new("delivers-what-was-sent", format!("{node}: {error}")))?;
            // What a new life delivers again is no second delivery, but must be what it was.
            let (note, _) = self.deliveries.entry((node, delivery.index)).or_insert((opened.note, now_ns));
            if *note != opened.note {
                let detail = format!("{node} at {}: {note:?}, then {:?}", delivery.index, opened.note);
                return Err(Violation::new("delivers-again-what-it-did", detail));
            }
        }
        Ok(())
    }
}

impl<P: Protocol<Config: Clone>> Observer<Process<P>> for Ears {
    fn started(
        &mut self,
        now_ns: u64,
        node: NodeId,
        process: &Process<P>,
        _disk: &RecordDisk<P>,
    ) -> Result<(), Violation> {
        self.listen(now_ns, node, process)
    }

    fn stepped(
        &mut self,
        now_ns: u64,
        node: NodeId,
        process: &Process<P>,
        _disk: &RecordDisk<P>,
    ) -> Result<(), Violation> {
        self.listen(now_ns, node, process)
    }
}

/// Runs a group of these members until all has come to rest.
pub(super) fn run<P: Protocol<Config: Clone>>(plan: &Plan, configs: Vec<P::Config>, seed: u64) -> Heard {
    let ids = nodes(plan.swarm.nodes);
    assert!(configs.len() == ids.len(), "a config for each node");
    let config = |protocol| ProcessConfig { protocol, pending_limit: 100_000 };
    let setup = Setup::<Process<P>, Speakers, Ears> {
        configs: configs.into_iter().map(config).collect(),
        disks: ids.iter().map(|_| RecordDisk::default()).collect(),
        clients: Speakers {
            nodes: Vec::new(),
            gap_ns: plan.gap_ns,
            numbers: vec![0; ids.len()],
            begun_ns: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        },
        observer: Ears::default(),
        swarm: plan.swarm.clone(),
    };
    let mut world = World::new(setup, seed);
    expect(world.begin());
    expect(world.run_until(SPEAK_FROM_NS));
    let sent = |world: &World<Process<P>, Speakers, Ears>| -> u64 {
        ids.iter().map(|id| world.work(*id).messages).sum()
    };
    let before = sent(&world);
    let mut random = Random::new(seed ^ 0xc075);
    for now_ns in (SPEAK_FROM_NS..SPEAK_UNTIL_NS).step_by(TICK_NS as usize) {
        if plan.cuts {
            world.mend();
            if random.chance(CUT_PPM) {
                let mut pair = ids.clone();
                random.shuffle(&mut pair);
                world.cut_between(&pair[..1], &pair[1..2]);
            }
        }
        let at_ns = now_ns - SPEAK_FROM_NS;
        if plan.kill && at_ns == SECOND_NS * 2 / 5 {
            expect(world.kill(ids[0], Loss::Unsynced));
        }
        if plan.kill && at_ns == SECOND_NS * 3 / 5 {
            expect(world.revive(ids[0]));
        }
        expect(world.run_until(now_ns + TICK_NS));
    }
    let messages = sent(&world) - before;
    world.mend();
    expect(world.run_until(REST_NS));
    let mut by_node = vec![Vec::new(); ids.len()];
    for ((node, _), heard) in &world.observer().deliveries {
        by_node[node.0 as usize - 1].push(*heard);
    }
    let Speakers { begun_ns, acknowledged, .. } = world.clients();
    Heard { by_node, begun_ns: begun_ns.clone(), acknowledged: acknowledged.clone(), messages }
}

/// A group of fixed members that broadcast, in FIFO or causal order.
pub(super) fn unordered<O: Order>(plan: &Plan, seed: u64) -> Heard {
    let ids = nodes(plan.swarm.nodes);
    let configs = ids.iter().map(|id| broadcast::Config::new(*id, ids.clone())).collect();
    run::<Broadcast<O>>(plan, configs, seed)
}

/// A group in total order by a sequencer, at first node 1; the catalog that appoints it is at the last node.
pub(super) fn sequenced(plan: &Plan, seed: u64) -> Heard {
    let ids = nodes(plan.swarm.nodes);
    let appointer = AppointerConfig {
        members: ids.clone(),
        patience_ns: 150 * MILLISECOND_NS,
        restless: 0,
        restless_ns: SECOND_NS,
    };
    let catalog_at = *ids.last().expect("a group has members");
    let config = |id: &NodeId| SeatConfig {
        member: total::Config::new(*id, ids.clone(), sequencer::Config::new(*id, ids.clone())),
        catalog_at,
        catalog: (*id == catalog_at).then(|| appointer.clone()),
    };
    run::<Seat<Appointer>>(plan, ids.iter().map(config).collect(), seed)
}

/// A group in total order over Raft.
pub(super) fn over_raft(plan: &Plan, seed: u64) -> Heard {
    let ids = nodes(plan.swarm.nodes);
    let founders: Vec<_> = ids.iter().map(|id| (*id, Incarnation(1))).collect();
    let config = |id: &NodeId| total::Config::new(*id, ids.clone(), raft::Config::new(*id, founders.clone()));
    run::<Total<RaftLog>>(plan, ids.iter().map(config).collect(), seed)
}

/// What tests of the counting hear: of each node, which notes it delivered in order, each given as its sender and number.
#[cfg(test)]
pub(super) fn heard_of(by_node: &[&[(u64, u32)]]) -> Heard {
    let note = |(node, number): &(u64, u32)| {
        (Note { client: *node as u32 - 1, number: *number, node: NodeId(*node) }, SPEAK_FROM_NS)
    };
    let by_node: Vec<Vec<_>> = by_node.iter().map(|there| there.iter().map(note).collect()).collect();
    let begun_ns = by_node.iter().flatten().copied().collect();
    Heard { by_node, begun_ns, acknowledged: BTreeSet::new(), messages: 0 }
}
