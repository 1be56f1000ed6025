//! Clients of the kv machine: closed loops that follow redirects and write down what they were told.

use std::collections::BTreeMap;

use keypact_protocol::{NodeId, Protocol, ReadLevel, Refusal};

use super::order::{Placed, check};
use super::{Key, Kv, KvAnswer, KvCommand, digest_of};
use crate::fault::MILLISECOND_NS;
use crate::{
    Ask, ClientEffects, ClientId, Clients, MachineOutcome, MachineReply, MachineRequest, ProtocolProcess,
    Random, Tally, Violation,
};

/// What clients do in one seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many clients.
    pub clients: u32,
    /// Operations that each begins in the safety phase, at most.
    pub operations: u32,
    /// Between two operations, at most.
    pub think_max_ns: u64,
    /// An operation without an answer for so long is given up; its outcome is unknown.
    pub timeout_ns: u64,
    /// Operations that are begun at any node instead of the one that served the last, parts per million. Who wanders meets leaders that
    /// do not know yet that they were deposed.
    pub wander_ppm: u32,
    /// Reads, parts per million of all operations.
    pub reads_ppm: u32,
    /// How fresh reads are; one is chosen for each.
    pub levels: Vec<ReadLevel>,
    /// Lists are keys `0..lists`, counters the next, registers the last.
    pub lists: u16,
    /// See above.
    pub counters: u16,
    /// See above.
    pub registers: u16,
}

impl Workload {
    /// A mix.
    #[must_use]
    pub fn draw(random: &mut Random) -> Workload {
        Workload {
            clients: random.between(1, 8) as u32,
            operations: random.pick(&[100, 400, 1_200]),
            think_max_ns: random.pick(&[2, 10, 50, 200]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[100, 400, 1_500]) * MILLISECOND_NS,
            wander_ppm: random.pick(&[0, 200_000, 1_000_000]),
            reads_ppm: random.pick(&[100_000, 500_000, 800_000]),
            levels: random
                .pick(&[
                    &[ReadLevel::Linearizable][..],
                    &[ReadLevel::Lease],
                    &[ReadLevel::Lease, ReadLevel::Linearizable, ReadLevel::Stale],
                ])
                .to_vec(),
            lists: random.between(1, 2) as u16,
            counters: random.below(2) as u16,
            registers: random.below(3) as u16,
        }
    }

    fn keys(&self) -> u16 {
        self.lists + self.counters + self.registers
    }
}

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvWork {
    /// A write.
    Write(KvCommand),
    /// A read of a key.
    Read(Key, ReadLevel),
}

/// What was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvOutcome {
    /// Done.
    Ok(KvAnswer),
    /// Not applied.
    Failed,
    /// Not known, or not yet.
    Unknown,
}

/// One operation of the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvOperation {
    /// Who asked.
    pub client: u32,
    /// What.
    pub work: KvWork,
    /// When it was called, nanoseconds of true time.
    pub invoked_ns: u64,
    /// When the outcome was known; `None` for unknown ones.
    pub returned_ns: Option<u64>,
    /// What came of it.
    pub outcome: KvOutcome,
}

#[derive(Debug)]
struct Client {
    /// Index of whom it asks next.
    target: usize,
    /// The operation under way: its place in the history, and attempts so far.
    current: Option<usize>,
    attempts: u32,
    begun: u32,
    /// Tells timeouts and answers of this operation from those of earlier ones.
    token: u64,
    /// Liveness phase: what is left to do.
    reads_left: u16,
    served: bool,
}

/// All clients of the kv machine.
#[derive(Debug)]
pub struct KvClients {
    workload: Workload,
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    history: Vec<KvOperation>,
    next_element: u64,
    finishing: bool,
}

/// Wake-up tokens: `0`: begin; otherwise an operation's token with one of these.
const TIMEOUT: u64 = 1 << 62;
const RETRY: u64 = 1 << 63;
/// After so many refusals an operation has failed.
const ATTEMPTS_LIMIT: u32 = 20;

type Out<P> = ClientEffects<ProtocolProcess<P, Kv>>;

impl KvClients {
    /// Clients with this work before them.
    #[must_use]
    pub fn new(workload: Workload) -> KvClients {
        assert!(workload.lists > 0 && workload.clients > 0, "someone has something to do");
        let clients = (0..workload.clients)
            .map(|_| Client {
                target: 0,
                current: None,
                attempts: 0,
                begun: 0,
                token: 0,
                reads_left: 0,
                served: false,
            })
            .collect();
        KvClients {
            workload,
            nodes: Vec::new(),
            clients,
            history: Vec::new(),
            next_element: 1,
            finishing: false,
        }
    }

    /// Everything that was asked and told, in the order of the calls.
    #[must_use]
    pub fn history(&self) -> &[KvOperation] {
        &self.history
    }

    /// What is done.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    fn draw_work(&mut self, random: &mut Random) -> KvWork {
        let key = random.below(u64::from(self.workload.keys())) as Key;
        if random.chance(self.workload.reads_ppm) {
            return KvWork::Read(key, random.pick(&self.workload.levels));
        }
        let (lists, counters) = (self.workload.lists, self.workload.counters);
        KvWork::Write(if key < lists {
            self.next_append(key)
        } else if key < lists + counters {
            KvCommand::Increment { key }
        } else if random.chance(500_000) {
            KvCommand::Set { key, value: random.below(5) as i64 }
        } else {
            KvCommand::CompareAndSet { key, expected: random.below(5) as i64, value: random.below(5) as i64 }
        })
    }

    fn next_append(&mut self, key: Key) -> KvCommand {
        self.next_element += 1;
        KvCommand::Append { key, element: self.next_element }
    }

    fn begin<P: Protocol>(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out<P>)
    where
        P::Config: Clone,
    {
        let index = id.0 as usize;
        assert!(self.clients[index].current.is_none(), "one operation at a time");
        let work = if self.finishing {
            let client = &mut self.clients[index];
            if !client.served {
                KvWork::Write(self.next_append(0))
            } else if client.reads_left > 0 {
                client.reads_left -= 1;
                KvWork::Read(client.reads_left, ReadLevel::Linearizable)
            } else {
                return;
            }
        } else if self.clients[index].begun < self.workload.operations {
            self.draw_work(random)
        } else {
            return;
        };
        let client = &mut self.clients[index];
        if random.chance(self.workload.wander_ppm) {
            client.target = random.index(self.nodes.len());
        }
        client.begun += 1;
        client.attempts = 0;
        client.token += 1;
        client.current = Some(self.history.len());
        let timeout = client.token | TIMEOUT;
        self.history.push(KvOperation {
            client: id.0,
            work,
            invoked_ns: now_ns,
            returned_ns: None,
            outcome: KvOutcome::Unknown,
        });
        out.wake_at(now_ns + self.workload.timeout_ns, id, timeout);
        self.send(id, out);
    }

    fn send<P: Protocol>(&mut self, id: ClientId, out: &mut Out<P>)
    where
        P::Config: Clone,
    {
        let client = &mut self.clients[id.0 as usize];
        client.attempts += 1;
        let operation = &self.history[client.current.expect("an operation is under way")];
        let ask = match operation.work {
            KvWork::Write(command) => Ask::Write(command),
            KvWork::Read(key, level) => Ask::Read(key, level),
        };
        out.request(id, self.nodes[client.target], MachineRequest { token: client.token, ask });
    }

    fn end<P: Protocol>(
        &mut self,
        now_ns: u64,
        id: ClientId,
        outcome: KvOutcome,
        random: &mut Random,
        out: &mut Out<P>,
    ) where
        P::Config: Clone,
    {
        let client = &mut self.clients[id.0 as usize];
        let operation = &mut self.history[client.current.take().expect("an operation is under way")];
        operation.outcome = outcome;
        operation.returned_ns = (outcome != KvOutcome::Unknown).then_some(now_ns);
        if matches!(outcome, KvOutcome::Ok(_)) {
            let is_write = matches!(operation.work, KvWork::Write(_));
            client.served |= self.finishing && is_write;
        } else {
            client.target = random.index(self.nodes.len());
            if self.finishing && matches!(operation.work, KvWork::Read(..)) {
                client.reads_left += 1;
            }
        }
        let think_ns = random.below(self.workload.think_max_ns + 1);
        out.wake_at(now_ns + think_ns, id, 0);
    }

    /// It was not applied: the same operation is tried elsewhere, or has failed.
    fn not_applied<P: Protocol>(
        &mut self,
        now_ns: u64,
        id: ClientId,
        leader: Option<NodeId>,
        random: &mut Random,
        out: &mut Out<P>,
    ) where
        P::Config: Clone,
    {
        let client = &mut self.clients[id.0 as usize];
        if client.attempts >= ATTEMPTS_LIMIT {
            return self.end(now_ns, id, KvOutcome::Failed, random, out);
        }
        let known = leader.and_then(|leader| self.nodes.iter().position(|node| *node == leader));
        let hurry = known.is_some_and(|known| known != client.target);
        client.target = known.unwrap_or_else(|| random.index(self.nodes.len()));
        let wait_ns = if hurry { 0 } else { random.between(1, 40) * MILLISECOND_NS };
        out.wake_at(now_ns + wait_ns, id, client.token | RETRY);
    }

    fn is_current(&self, client: ClientId, token: u64) -> bool {
        let client = &self.clients[client.0 as usize];
        client.current.is_some() && client.token == token
    }

    /// Places of all operations on one list or counter whose place is known.
    fn place(&self, key: Key, list: Option<&[u64]>) -> Result<Vec<Placed>, Violation> {
        let positions: BTreeMap<u64, u64> =
            list.into_iter().flatten().enumerate().map(|(at, element)| (*element, at as u64 + 1)).collect();
        let mut placed = Vec::new();
        for op in &self.history {
            let found = match op.work {
                KvWork::Write(KvCommand::Append { key: of, element }) if of == key => {
                    place_append(op, &positions, element)?
                }
                KvWork::Write(KvCommand::Increment { key: of }) if of == key => match op.outcome {
                    KvOutcome::Ok(KvAnswer::Number(number)) => Some(number as u64),
                    _ => None,
                },
                KvWork::Read(of, level) if of == key => {
                    let seen = place_read(op, list)?;
                    // A stale read may be of any moment before; only its content was checked.
                    if level == ReadLevel::Stale { None } else { seen }
                }
                _ => None,
            };
            if let Some(position) = found {
                placed.push(Placed {
                    position,
                    is_write: matches!(op.work, KvWork::Write(_)),
                    invoked_ns: op.invoked_ns,
                    returned_ns: op.returned_ns.unwrap_or(u64::MAX),
                    client: op.client,
                });
            }
        }
        Ok(placed)
    }

    fn judge_counter(&self, key: Key, held: i64) -> Result<(), Violation> {
        let increments =
            self.history.iter().filter(|op| op.work == KvWork::Write(KvCommand::Increment { key }));
        let (mut least, mut most) = (0, 0);
        for op in increments {
            least += i64::from(matches!(op.outcome, KvOutcome::Ok(_)));
            most += i64::from(op.outcome != KvOutcome::Failed);
        }
        if held < least || held > most {
            let detail = format!("counter {key} holds {held}: {least} were acknowledged, {most} possible");
            return Err(Violation::new("acknowledged-is-kept", detail));
        }
        Ok(())
    }
}

/// Where an append ended up; all that is acknowledged must be somewhere, and nothing that was refused.
fn place_append(
    op: &KvOperation,
    positions: &BTreeMap<u64, u64>,
    element: u64,
) -> Result<Option<u64>, Violation> {
    let position = positions.get(&element).copied();
    match (op.outcome, position) {
        (KvOutcome::Ok(_), None) => {
            Err(Violation::new("acknowledged-is-kept", format!("{op:?} was acknowledged and is lost")))
        }
        (KvOutcome::Failed, Some(_)) => {
            Err(Violation::new("refused-is-not-applied", format!("{op:?} was refused and is there")))
        }
        (KvOutcome::Ok(KvAnswer::List { length, .. }), Some(position)) if length != position => {
            let detail = format!("{op:?} is at {position}");
            Err(Violation::new("linearizable", detail))
        }
        _ => Ok(position),
    }
}

/// What a read has seen; of a list, it must be the beginning of the final one.
fn place_read(op: &KvOperation, list: Option<&[u64]>) -> Result<Option<u64>, Violation> {
    match (op.outcome, list) {
        (KvOutcome::Ok(KvAnswer::Number(number)), _) => Ok(Some(number as u64)),
        (KvOutcome::Ok(KvAnswer::List { length, digest }), Some(elements)) => {
            let seen = elements.get(..length as usize);
            if seen.is_none_or(|seen| digest_of(seen) != digest) {
                let detail = format!("{op:?} saw what is no beginning of the final list");
                return Err(Violation::new("linearizable", detail));
            }
            Ok(Some(length))
        }
        (KvOutcome::Ok(answer), _) => {
            Err(Violation::new("linearizable", format!("{op:?} was answered {answer:?}")))
        }
        _ => Ok(None),
    }
}

impl<P: Protocol> Clients<ProtocolProcess<P, Kv>> for KvClients
where
    P::Config: Clone,
{
    fn len(&self) -> u32 {
        self.workload.clients
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out<P>) {
        self.nodes = nodes.to_vec();
        for id in 0..self.workload.clients {
            self.clients[id as usize].target = random.index(nodes.len());
            out.wake_at(random.below(50 * MILLISECOND_NS), ClientId(id), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out<P>) {
        if token == 0 {
            if self.clients[client.0 as usize].current.is_none() {
                self.begin(now_ns, client, random, out);
            }
        } else if self.is_current(client, token & !(TIMEOUT | RETRY)) {
            if token & TIMEOUT != 0 {
                self.end(now_ns, client, KvOutcome::Unknown, random, out);
            } else {
                self.send(client, out);
            }
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        from: NodeId,
        reply: MachineReply<Kv>,
        random: &mut Random,
        out: &mut Out<P>,
    ) {
        if !self.is_current(client, reply.token) {
            return;
        }
        match reply.outcome {
            MachineOutcome::Done(answer) => self.end(now_ns, client, KvOutcome::Ok(answer), random, out),
            MachineOutcome::Uncertain => self.end(now_ns, client, KvOutcome::Unknown, random, out),
            MachineOutcome::Refused(Refusal::NotLeader { leader }) => {
                let leader = leader.filter(|leader| *leader != from);
                self.not_applied(now_ns, client, leader, random, out);
            }
            MachineOutcome::Refused(_) => self.end(now_ns, client, KvOutcome::Failed, random, out),
        }
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        by: NodeId,
        request: MachineRequest<Kv>,
        random: &mut Random,
        out: &mut Out<P>,
    ) {
        assert!(self.nodes.contains(&by), "clients ask nodes");
        if self.is_current(client, request.token) {
            self.not_applied(now_ns, client, None, random, out);
        }
    }

    fn liveness_begins(&mut self, now_ns: u64, _random: &mut Random, out: &mut Out<P>) {
        self.finishing = true;
        // Impatient clients can keep a slow cluster overloaded for ever; what is asked now is whether it serves those who wait.
        self.workload.timeout_ns = self.workload.timeout_ns.max(3_000 * MILLISECOND_NS);
        let keys = self.workload.keys();
        for id in 0..self.workload.clients {
            self.clients[id as usize].reads_left = if id == 0 { keys } else { 0 };
            out.wake_at(now_ns, ClientId(id), 0);
        }
    }

    fn satisfied(&self) -> bool {
        self.finishing && self.clients.iter().all(|c| c.served && c.reads_left == 0 && c.current.is_none())
    }

    fn waiting_for(&self) -> String {
        let waiting = self.clients.iter().enumerate().filter(|(_, client)| !client.served);
        let waiting: Vec<String> = waiting
            .map(|(id, client)| format!("c{id} with {:?}", client.current.map(|at| self.history[at].work)))
            .collect();
        if waiting.is_empty() { "final reads".into() } else { waiting.join(", ") }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for operation in &self.history {
            match operation.outcome {
                KvOutcome::Ok(_) => tally.ok += 1,
                KvOutcome::Failed => tally.failed += 1,
                KvOutcome::Unknown => tally.unknown += 1,
            }
        }
        tally
    }

    fn judge(&self, processes: &[&ProtocolProcess<P, Kv>]) -> Result<(), Violation> {
        let Some(process) = processes.first() else {
            return Err(Violation::new("liveness", "no process is left"));
        };
        let machine = process.machine();
        for key in 0..self.workload.lists {
            let list = machine.list(key);
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let detail = format!("list {key} has element {} twice", twice[0]);
                return Err(Violation::new("applied-once", detail));
            }
            check(key, &mut self.place(key, Some(list))?)?;
        }
        for key in self.workload.lists..self.workload.lists + self.workload.counters {
            self.judge_counter(key, machine.number(key))?;
            check(key, &mut self.place(key, None)?)?;
        }
        Ok(())
    }
}
