//! Worlds and clients of measurements of two-phase commit: groups at fixed places, clients that append one element to a list at each participant.

use keypact_coordination::two_phase_commit::{CoordinatorConfig, Outcome, ParticipantConfig, Why};
use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{
    ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, SECOND_NS, Setup, Swarm, Tally, Violation,
    World,
};

use super::world::{expect, nodes};
use crate::scenarios::{
    LedgerConfig, ListOperation, MachineConfig, MachineDisk, MachineProcess, Role, TransactionReplicaConfig,
    TransactionReply, TransactionRequest,
};

pub(super) type TransactionWorld = World<MachineProcess, Transactions, ()>;

/// A group: where its log is, and where its replicas are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) home: u64,
    pub(super) places: &'static [u64],
}

/// A group of one machine: the textbook's.
pub(super) const fn alone(id: u64, places: &'static [u64; 1]) -> Group {
    Group { id, home: places[0], places }
}

/// A calm world, begun, in which every group has found its leader.
pub(super) fn world(
    swarm: Swarm,
    coordinators: &[Group],
    participants: &[Group],
    load: Transactions,
    seed: u64,
) -> TransactionWorld {
    let machine = MachineConfig {
        ledgers: Vec::new(),
        replicas: Vec::new(),
        places: std::collections::BTreeMap::new(),
    };
    let mut configs = vec![machine; swarm.nodes];
    let roles = coordinators.iter().map(|group| (group, true)).chain(participants.iter().map(|g| (g, false)));
    for (of, coordinates) in roles {
        let group = GroupId(of.id);
        let role = match coordinates {
            true => Role::Coordinator(CoordinatorConfig::new(group)),
            false => Role::Participant(ParticipantConfig::new(group)),
        };
        let places: Vec<NodeId> = of.places.iter().map(|place| NodeId(*place)).collect();
        let campaign_ns = 100 * MILLISECOND_NS;
        let ledger =
            LedgerConfig { group, replicas: places.clone(), lease_ns: 3 * campaign_ns, fences: true };
        configs[of.home as usize - 1].ledgers.push(ledger);
        for place in of.places {
            configs[*place as usize - 1].replicas.push(TransactionReplicaConfig {
                group,
                home: NodeId(of.home),
                role: role.clone(),
                campaign_ns,
                forced_ppm: 0,
                checkpoint_every: u64::MAX / 2,
            });
        }
        for config in &mut configs {
            config.places.insert(group, places.clone());
        }
    }
    assert!(nodes(swarm.nodes).len() == configs.len(), "a configuration for each node");
    let disks = configs.iter().map(|_| MachineDisk::default()).collect();
    let mut world = World::new(Setup { configs, disks, clients: load, observer: (), swarm }, seed);
    expect(world.begin());
    expect(world.run_until(SECOND_NS / 2));
    world
}

/// What one client does, again and again: appends an element, new each time, to these lists at once.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) coordinator: Group,
    /// Which list at which participant; a participant may stand twice, with two lists.
    pub(super) lists: Vec<(u64, u32)>,
    /// Each list by itself, one transaction after the other: no atomicity is asked for.
    pub(super) one_by_one: bool,
    pub(super) timeout_ns: u64,
}

impl Errand {
    pub(super) fn new(coordinator: Group, lists: Vec<(u64, u32)>) -> Errand {
        Errand { coordinator, lists, one_by_one: false, timeout_ns: SECOND_NS }
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Committed,
    NotApplied,
    Unknown,
}

/// One transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Done {
    pub(super) client: usize,
    pub(super) begun_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) end: End,
}

#[derive(Debug)]
struct Client {
    errand: Errand,
    element: u64,
    begun_ns: u64,
    /// Of the lists, one by one: which is next.
    step: usize,
    token: u64,
    place: usize,
    busy: bool,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Transactions {
    clients: Vec<Client>,
    done: Vec<Done>,
    elements: u64,
    tokens: u64,
    stopped: bool,
}

/// What was not taken is asked again after this.
const RETRY_NS: u64 = 5 * MILLISECOND_NS;
const BEGIN: u64 = 0;
/// Beside a token in a wake-up: ask again, rather than give up.
const RETRY: u64 = 1 << 63;

type Out = ClientEffects<MachineProcess>;

impl Transactions {
    pub(super) fn new(errands: impl IntoIterator<Item = Errand>) -> Transactions {
        let client =
            |errand| Client { errand, element: 0, begun_ns: 0, step: 0, token: 0, place: 0, busy: false };
        let clients: Vec<Client> = errands.into_iter().map(client).collect();
        assert!(!clients.is_empty(), "somebody asks");
        Transactions { clients, done: Vec::new(), elements: 0, tokens: 0, stopped: false }
    }

    /// All that have ended, in the order of their end.
    pub(super) fn done(&self) -> &[Done] {
        &self.done
    }

    /// Nobody begins anything more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    fn begin(&mut self, now_ns: u64, id: usize, out: &mut Out) {
        let client = &mut self.clients[id];
        if self.stopped || client.busy {
            return;
        }
        self.elements += 1;
        client.element = self.elements;
        (client.busy, client.begun_ns, client.step) = (true, now_ns, 0);
        self.ask(now_ns, id, out);
    }

    fn ask(&mut self, now_ns: u64, id: usize, out: &mut Out) {
        self.tokens += 1;
        let client = &mut self.clients[id];
        client.token = self.tokens;
        let lists = match client.errand.one_by_one {
            true => &client.errand.lists[client.step..=client.step],
            false => &client.errand.lists[..],
        };
        let mut parts: Vec<(GroupId, Vec<ListOperation>)> = Vec::new();
        for (group, key) in lists {
            let append = ListOperation::Append { key: *key, element: client.element, at_most: u32::MAX };
            match parts.iter_mut().find(|(of, _)| of.0 == *group) {
                Some((_, operations)) => operations.push(append),
                None => parts.push((GroupId(*group), vec![append])),
            }
        }
        let coordinator = client.errand.coordinator;
        let place = NodeId(coordinator.places[client.place % coordinator.places.len()]);
        let request = TransactionRequest { token: client.token, coordinator: GroupId(coordinator.id), parts };
        out.request(ClientId(id as u32), place, request);
        out.wake_at(now_ns + client.errand.timeout_ns, ClientId(id as u32), client.token);
    }

    fn end(&mut self, now_ns: u64, id: usize, end: End, out: &mut Out) {
        let client = &mut self.clients[id];
        if end == End::Committed && client.errand.one_by_one && client.step + 1 < client.errand.lists.len() {
            client.step += 1;
            return self.ask(now_ns, id, out);
        }
        (client.busy, client.token) = (false, 0);
        self.done.push(Done { client: id, begun_ns: client.begun_ns, ended_ns: now_ns, end });
        self.begin(now_ns, id, out);
    }

    fn again(&mut self, now_ns: u64, id: usize, out: &mut Out) {
        let client = &mut self.clients[id];
        client.place += 1;
        out.wake_at(now_ns + RETRY_NS, ClientId(id as u32), RETRY | client.token);
    }
}

impl Clients<MachineProcess> for Transactions {
    fn len(&self) -> u32 {
        self.clients.len() as u32
    }

    fn start(&mut self, _nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        for id in 0..self.clients.len() as u32 {
            // The groups find their leaders first.
            out.wake_at(SECOND_NS / 2 + random.below(10 * MILLISECOND_NS), ClientId(id), BEGIN);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, _random: &mut Random, out: &mut Out) {
        let id = client.0 as usize;
        if token == BEGIN {
            self.begin(now_ns, id, out);
        } else if self.clients[id].token == token & !RETRY {
            match token & RETRY {
                0 => self.end(now_ns, id, End::Unknown, out),
                _ => self.ask(now_ns, id, out),
            }
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: TransactionReply,
        _random: &mut Random,
        out: &mut Out,
    ) {
        let id = client.0 as usize;
        if self.clients[id].token != reply.token {
            return;
        }
        match reply.outcome {
            Outcome::NotApplied { why: Why::NotLeader } => self.again(now_ns, id, out),
            Outcome::Committed { .. } => self.end(now_ns, id, End::Committed, out),
            Outcome::NotApplied { .. } => self.end(now_ns, id, End::NotApplied, out),
            Outcome::Uncertain | Outcome::ByHand { .. } => self.end(now_ns, id, End::Unknown, out),
        }
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: TransactionRequest,
        _random: &mut Random,
        out: &mut Out,
    ) {
        if self.clients[client.0 as usize].token == request.token {
            self.again(now_ns, client.0 as usize, out);
        }
    }

    fn liveness_begins(&mut self, _now_ns: u64, _random: &mut Random, _out: &mut Out) {}

    fn satisfied(&self) -> bool {
        true
    }

    fn waiting_for(&self) -> String {
        String::from("nobody")
    }

    fn tally(&self) -> Tally {
        let count = |end| self.done.iter().filter(|done| done.end == end).count() as u64;
        Tally { ok: count(End::Committed), failed: count(End::NotApplied), unknown: count(End::Unknown) }
    }

    fn judge(&self, _processes: &[&MachineProcess]) -> Result<(), Violation> {
        Ok(())
    }
}
