//! Clients for measurements: fixed roles, closed or open loops, every operation written down.

use keypact_protocol::{NodeId, Protocol, ReadLevel, Refusal};
use keypact_simulator::{
    Ask, ClientEffects, ClientId, Clients, Key, KvAnswer, KvCommand, MILLISECOND_NS, MachineOutcome,
    MachineReply, MachineRequest, ProtocolProcess, Random, StateMachine, Tally, Violation,
};

/// Whom a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// Whoever leads: redirects are followed, and after silence the next node is asked.
    Leader,
    /// This node alone.
    At(NodeId),
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// Appends to list 0, so that nothing can be lost unseen.
    Append,
    /// Adds one to counter `key`.
    Increment(u16),
    /// Sets register `key` to what nobody else sets it to.
    Set(u16),
    /// Takes register n, for the n-th operation, if nobody has it: clients with this task compete.
    Take,
    /// Reads `key`.
    Read(u16, ReadLevel),
}

/// When it does the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Once the last is answered.
    Closed,
    /// Once the last is answered, and no sooner than this after the last was begun.
    Every(u64),
}

/// One client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Role {
    pub(super) aim: Aim,
    pub(super) task: Task,
    pub(super) pace: Pace,
    /// No answer for so long: given up, the outcome is unknown.
    pub(super) timeout_ns: u64,
    /// Which nodes it can reach: bit n for node n.
    reach: u64,
    /// Whom it asks first, if not the first whom it can reach.
    home: Option<NodeId>,
}

impl Role {
    pub(super) fn new(aim: Aim, task: Task) -> Role {
        Role { aim, task, pace: Pace::Closed, timeout_ns: 500 * MILLISECOND_NS, reach: u64::MAX, home: None }
    }

    pub(super) fn every(self, interval_ns: u64) -> Role {
        Role { pace: Pace::Every(interval_ns), ..self }
    }

    pub(super) fn timeout(self, timeout_ns: u64) -> Role {
        Role { timeout_ns, ..self }
    }

    /// It is on one side of a cut: it can reach these nodes alone.
    pub(super) fn reaching(self, nodes: &[NodeId]) -> Role {
        Role { reach: nodes.iter().fold(0, |bits, node| bits | 1 << node.0), ..self }
    }

    /// It asks this node first.
    pub(super) fn at_home(self, node: NodeId) -> Role {
        Role { home: Some(node), ..self }
    }

    fn reaches(&self, node: NodeId) -> bool {
        self.reach & 1 << node.0 != 0
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Ended {
    /// Done.
    Done(KvAnswer),
    /// Not applied.
    Refused,
    /// Not known.
    Unknown,
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sample {
    /// Index of the role.
    pub(super) client: usize,
    /// Which node answered, or was asked last.
    pub(super) node: NodeId,
    /// The client's own number for it, from 1.
    pub(super) number: u64,
    /// Of an append: what its last attempt would append.
    pub(super) element: u64,
    pub(super) begun_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) ended: Ended,
}

impl Sample {
    pub(super) fn is_done(&self) -> bool {
        matches!(self.ended, Ended::Done(_))
    }
}

#[derive(Debug)]
struct Client {
    role: Role,
    /// Index of the node that is asked.
    target: usize,
    /// Number of the operation, and when it began; `begun_ns` is meaningless between two.
    number: u64,
    begun_ns: u64,
    busy: bool,
    /// Tells attempts of one operation apart.
    attempt: u64,
    element: u64,
}

/// All clients of a measurement.
#[derive(Debug)]
pub(super) struct Load {
    clients: Vec<Client>,
    nodes: Vec<NodeId>,
    samples: Vec<Sample>,
    stopped: bool,
    next_element: u64,
}

/// A refused operation is tried again after this.
const RETRY_NS: u64 = 5 * MILLISECOND_NS;
/// Wake-up tokens carry a kind in the top bits, and the attempt below.
const BEGIN: u64 = 0;
const TIMEOUT: u64 = 1 << 62;
const RETRY: u64 = 1 << 63;

/// A machine that these clients can use.
pub(super) trait KvMachine: StateMachine<Command = KvCommand, Query = Key, Answer = KvAnswer> {}

impl<M: StateMachine<Command = KvCommand, Query = Key, Answer = KvAnswer>> KvMachine for M {}

type Out<P, M> = ClientEffects<ProtocolProcess<P, M>>;

impl Load {
    pub(super) fn new(roles: impl IntoIterator<Item = Role>) -> Load {
        let client =
            |role| Client { role, target: 0, number: 0, begun_ns: 0, busy: false, attempt: 0, element: 0 };
        let clients: Vec<Client> = roles.into_iter().map(client).collect();
        assert!(!clients.is_empty(), "somebody asks");
        Load { clients, nodes: Vec::new(), samples: Vec::new(), stopped: false, next_element: 0 }
    }

    /// Everything that has ended so far, in the order of its end.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Every client can reach every node again.
    pub(super) fn heal(&mut self) {
        for client in &mut self.clients {
            client.role.reach = u64::MAX;
        }
    }

    /// No client begins anything more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    fn begin<P: Protocol, M: KvMachine>(&mut self, now_ns: u64, id: usize, out: &mut Out<P, M>)
    where
        P::Config: Clone,
    {
        let client = &mut self.clients[id];
        if self.stopped || client.busy {
            return;
        }
        client.number += 1;
        client.begun_ns = now_ns;
        client.busy = true;
        if let Aim::At(node) = client.role.aim {
            client.target = self.nodes.iter().position(|each| *each == node).expect("a role names a node");
        }
        self.ask(id, out);
        let client = &self.clients[id];
        out.wake_at(now_ns + client.role.timeout_ns, ClientId(id as u32), TIMEOUT | client.number);
    }

    fn ask<P: Protocol, M: KvMachine>(&mut self, id: usize, out: &mut Out<P, M>)
    where
        P::Config: Clone,
    {
        let client = &mut self.clients[id];
        client.attempt += 1;
        let ask = match client.role.task {
            Task::Append => {
                self.next_element += 1;
                client.element = self.next_element;
                Ask::Write(KvCommand::Append { key: 0, element: client.element })
            }
            Task::Increment(key) => Ask::Write(KvCommand::Increment { key }),
            Task::Set(key) => {
                self.next_element += 1;
                Ask::Write(KvCommand::Set { key, value: self.next_element as i64 })
            }
            Task::Take => {
                let key = u16::try_from(client.number).expect("few operations");
                let value = id as i64 + 1;
                Ask::Write(KvCommand::CompareAndSet { key, expected: 0, value })
            }
            Task::Read(key, level) => Ask::Read(key, level),
        };
        out.request(
            ClientId(id as u32),
            self.nodes[client.target],
            MachineRequest { token: client.attempt, ask },
        );
    }

    fn end<P: Protocol, M: KvMachine>(&mut self, now_ns: u64, id: usize, ended: Ended, out: &mut Out<P, M>)
    where
        P::Config: Clone,
    {
        let client = &mut self.clients[id];
        client.busy = false;
        // Late answers to it are passed over.
        client.attempt += 1;
        self.samples.push(Sample {
            client: id,
            node: self.nodes[client.target],
            number: client.number,
            element: client.element,
            begun_ns: client.begun_ns,
            ended_ns: now_ns,
            ended,
        });
        if !matches!(ended, Ended::Done(_)) && client.role.aim == Aim::Leader {
            client.target = next_in_reach(&self.nodes, client);
        }
        match client.role.pace {
            Pace::Closed => self.begin(now_ns, id, out),
            Pace::Every(interval_ns) => {
                let at_ns = (client.begun_ns + interval_ns).max(now_ns);
                out.wake_at(at_ns, ClientId(id as u32), BEGIN);
            }
        }
    }

    /// It was not applied. A client of the leader looks for it; any other has its answer.
    fn not_applied<P: Protocol, M: KvMachine>(
        &mut self,
        now_ns: u64,
        id: usize,
        leader: Option<NodeId>,
        out: &mut Out<P, M>,
    ) where
        P::Config: Clone,
    {
        let client = &mut self.clients[id];
        if client.role.aim != Aim::Leader {
            self.samples.push(Sample {
                client: id,
                node: self.nodes[client.target],
                number: client.number,
                element: client.element,
                begun_ns: client.begun_ns,
                ended_ns: now_ns,
                ended: Ended::Refused,
            });
            client.busy = false;
            client.attempt += 1;
            // Nobody hammers a node that refuses.
            let pause_ns = match client.role.pace {
                Pace::Closed => RETRY_NS,
                Pace::Every(interval_ns) => interval_ns.max(RETRY_NS),
            };
            out.wake_at(now_ns + pause_ns, ClientId(id as u32), BEGIN);
            return;
        }
        let known = leader.filter(|leader| client.role.reaches(*leader));
        let known = known.and_then(|leader| self.nodes.iter().position(|node| *node == leader));
        match known {
            Some(known) if known != client.target => {
                client.target = known;
                self.ask(id, out);
            }
            _ => {
                client.target = next_in_reach(&self.nodes, client);
                out.wake_at(now_ns + RETRY_NS, ClientId(id as u32), RETRY | client.number);
            }
        }
    }
}

/// Index of the next node, round about, that the client can reach.
fn next_in_reach(nodes: &[NodeId], client: &Client) -> usize {
    let next = (1..=nodes.len()).map(|step| (client.target + step) % nodes.len());
    next.into_iter().find(|index| client.role.reaches(nodes[*index])).expect("a client reaches somebody")
}

impl<P: Protocol, M: KvMachine> Clients<ProtocolProcess<P, M>> for Load
where
    P::Config: Clone,
{
    fn len(&self) -> u32 {
        self.clients.len() as u32
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out<P, M>) {
        self.nodes = nodes.to_vec();
        for (id, client) in self.clients.iter_mut().enumerate() {
            if let Some(home) = client.role.home {
                client.target = nodes.iter().position(|node| *node == home).expect("a home is a node");
            }
            if !client.role.reaches(nodes[client.target]) {
                client.target = next_in_reach(nodes, client);
            }
            out.wake_at(random.below(10 * MILLISECOND_NS), ClientId(id as u32), BEGIN);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, _random: &mut Random, out: &mut Out<P, M>) {
        let id = client.0 as usize;
        let number = token & !(TIMEOUT | RETRY);
        let is_current = self.clients[id].busy && self.clients[id].number == number;
        if token == BEGIN {
            self.begin(now_ns, id, out);
        } else if token & TIMEOUT != 0 && is_current {
            self.end(now_ns, id, Ended::Unknown, out);
        } else if token & RETRY != 0 && is_current {
            self.ask(id, out);
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: MachineReply<M>,
        _random: &mut Random,
        out: &mut Out<P, M>,
    ) {
        let id = client.0 as usize;
        if !self.clients[id].busy || self.clients[id].attempt != reply.token {
            return;
        }
        match reply.outcome {
            MachineOutcome::Done(answer) => self.end(now_ns, id, Ended::Done(answer), out),
            MachineOutcome::Uncertain => self.end(now_ns, id, Ended::Unknown, out),
            MachineOutcome::Refused(Refusal::NotLeader { leader }) => {
                self.not_applied(now_ns, id, leader, out);
            }
            MachineOutcome::Refused(_) => self.not_applied(now_ns, id, None, out),
        }
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: MachineRequest<M>,
        _random: &mut Random,
        out: &mut Out<P, M>,
    ) {
        let id = client.0 as usize;
        if self.clients[id].busy && self.clients[id].attempt == request.token {
            self.not_applied(now_ns, id, None, out);
        }
    }

    fn liveness_begins(&mut self, _now_ns: u64, _random: &mut Random, _out: &mut Out<P, M>) {}

    fn satisfied(&self) -> bool {
        true
    }

    fn waiting_for(&self) -> String {
        String::from("nobody")
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for sample in &self.samples {
            match sample.ended {
                Ended::Done(_) => tally.ok += 1,
                Ended::Refused => tally.failed += 1,
                Ended::Unknown => tally.unknown += 1,
            }
        }
        tally
    }

    fn judge(&self, _processes: &[&ProtocolProcess<P, M>]) -> Result<(), Violation> {
        Ok(())
    }
}
