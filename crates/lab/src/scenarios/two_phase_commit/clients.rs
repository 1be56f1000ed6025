//! Clients with transactions over lists; their history is what the checker judges.

use std::sync::Arc;

use keypact_checker::{ListOutcome, ListTransaction, MicroOperation, Value};
use keypact_coordination::two_phase_commit::{Outcome, Why};
use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, Tally, Violation};

use super::process::{MachineProcess, Reply, Request};
use super::store::{ListOperation, lists};

/// What clients do in one seed.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// How many clients.
    pub(crate) clients: u32,
    /// Transactions in all, at most, while faults strike.
    pub(crate) transactions: u32,
    /// Keys in use at a time.
    pub(crate) keys: u32,
    /// A key is given up, and another taken in its place, after so many appends.
    pub(crate) appends_per_key: u32,
    /// Operations of a transaction at most.
    pub(crate) operations_max: u64,
    /// Share of reads among operations, parts per million.
    pub(crate) reads_ppm: u32,
    /// The longest pause between two transactions.
    pub(crate) think_max_ns: u64,
    /// How long a client waits.
    pub(crate) timeout_ns: u64,
    /// Coordinators, and where their replicas are.
    pub(crate) coordinators: Vec<(GroupId, Vec<NodeId>)>,
    /// Participants; a key belongs to one of them.
    pub(crate) participants: Vec<GroupId>,
}

/// One client.
#[derive(Debug, Default)]
struct Client {
    /// The transaction it waits for, by its place in the history.
    waits: Option<usize>,
    /// Its token; answers to others are late.
    token: u64,
    process: u64,
    /// Served since faults were over.
    served: bool,
}

/// All clients.
#[derive(Debug)]
pub(crate) struct ListClients {
    workload: Workload,
    clients: Vec<Client>,
    history: Vec<ListTransaction>,
    /// What each transaction of the history asked, in order.
    asked: Vec<Vec<ListOperation>>,
    events: u64,
    next_token: u64,
    next_element: u64,
    next_process: u64,
    /// Appends to each key in use, and the key.
    slots: Vec<(u32, u32)>,
    keys_used: u32,
    liveness: bool,
    /// Keys that are still to be read at the end.
    unread: Vec<u32>,
    reading: Vec<u32>,
}

type Out = ClientEffects<MachineProcess>;

impl ListClients {
    /// None has asked yet.
    #[must_use]
    pub(crate) fn new(workload: Workload) -> ListClients {
        let clients =
            (0..workload.clients).map(|index| Client { process: u64::from(index), ..Client::default() });
        ListClients {
            clients: clients.collect(),
            history: Vec::new(),
            asked: Vec::new(),
            events: 0,
            next_token: 1,
            next_element: 1,
            next_process: u64::from(workload.clients),
            slots: (0..workload.keys).map(|key| (0, key)).collect(),
            keys_used: workload.keys,
            liveness: false,
            unread: Vec::new(),
            reading: Vec::new(),
            workload,
        }
    }

    /// What clients asked and were told.
    #[must_use]
    pub(crate) fn history(&self) -> &[ListTransaction] {
        &self.history
    }

    fn moment(&mut self, now_ns: u64) -> keypact_checker::Moment {
        self.events += 1;
        keypact_checker::Moment { position: self.events, time_ns: Some(now_ns), line: 0 }
    }

    fn draw(&mut self, random: &mut Random) -> Vec<ListOperation> {
        let count = random.between(1, self.workload.operations_max);
        let mut operations = Vec::new();
        // A transaction in eight only reads.
        let only_reads = random.chance(125_000);
        for _ in 0..count {
            let slot = random.index(self.slots.len());
            let (appends, key) = &mut self.slots[slot];
            let key_now = *key;
            if only_reads || random.chance(self.workload.reads_ppm) {
                operations.push(ListOperation::Read { key: key_now });
                continue;
            }
            *appends += 1;
            if *appends >= self.workload.appends_per_key {
                (*appends, *key) = (0, self.keys_used);
                self.keys_used += 1;
            }
            let element = self.next_element;
            self.next_element += 1;
            // One in twenty is conditional, and mostly refused once the list has grown.
            let at_most = if random.chance(50_000) { 3 } else { u32::MAX };
            operations.push(ListOperation::Append { key: key_now, element, at_most });
        }
        operations
    }

    fn think(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        let most_ns = if self.liveness { 20 * MILLISECOND_NS } else { self.workload.think_max_ns };
        out.wake_at(now_ns + random.below(most_ns + 1), client, 0);
    }

    /// Asks for something new.
    fn ask(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        if self.liveness && self.clients[client.0 as usize].served && (client.0 > 0 || self.unread.is_empty())
        {
            return;
        }
        if !self.liveness && self.history.len() >= self.workload.transactions as usize {
            return;
        }
        let last_reads = self.liveness && client.0 == 0 && self.clients.iter().all(|client| client.served);
        let operations = if last_reads {
            self.reading = self.unread.iter().take(4).copied().collect();
            self.reading.iter().map(|key| ListOperation::Read { key: *key }).collect()
        } else {
            self.draw(random)
        };
        let micro = |operation: &ListOperation| match operation {
            ListOperation::Read { key } => MicroOperation::Read { key: name(*key), list: None },
            ListOperation::Append { key, element, .. } => {
                MicroOperation::Append { key: name(*key), element: Value::Integer(*element as i64) }
            }
        };
        let invoked = self.moment(now_ns);
        self.history.push(ListTransaction {
            process: self.clients[client.0 as usize].process,
            operations: operations.iter().map(micro).collect(),
            outcome: ListOutcome::Unknown,
            invoked,
            returned: None,
        });
        self.asked.push(operations);
        self.clients[client.0 as usize].waits = Some(self.history.len() - 1);
        self.send(now_ns, client, random, out);
    }

    /// Sends what the client waits for to some replica of some coordinator.
    fn send(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        let state = &mut self.clients[client.0 as usize];
        let index = state.waits.expect("there is something to ask");
        state.token = self.next_token;
        self.next_token += 1;
        let mut parts: Vec<(GroupId, Vec<ListOperation>)> = Vec::new();
        for operation in &self.asked[index] {
            let group =
                self.workload.participants[operation.key() as usize % self.workload.participants.len()];
            match parts.iter_mut().find(|(of, _)| *of == group) {
                Some((_, operations)) => operations.push(*operation),
                None => parts.push((group, vec![*operation])),
            }
        }
        let at = random.index(self.workload.coordinators.len());
        let (coordinator, places) = &self.workload.coordinators[at];
        let request = Request { token: state.token, coordinator: *coordinator, parts };
        out.request(client, random.pick(places), request);
        out.wake_at(now_ns + self.workload.timeout_ns, client, state.token);
    }

    fn end(
        &mut self,
        now_ns: u64,
        client: ClientId,
        outcome: ListOutcome,
        answers: Vec<Option<bytes::Bytes>>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let returned = self.moment(now_ns);
        let state = &mut self.clients[client.0 as usize];
        let index = state.waits.take().expect("it waited");
        state.token = 0;
        if outcome == ListOutcome::Unknown {
            // What it asked may still happen, so this client goes on as another one.
            state.process = self.next_process;
            self.next_process += 1;
        }
        let transaction = &mut self.history[index];
        transaction.outcome = outcome;
        transaction.returned = Some(returned);
        if outcome == ListOutcome::Committed {
            fill(transaction, &self.asked[index], &self.workload.participants, answers);
            if self.liveness {
                let state = &mut self.clients[client.0 as usize];
                if state.served && client.0 == 0 {
                    let read = std::mem::take(&mut self.reading);
                    self.unread.retain(|key| !read.contains(key));
                }
                state.served = true;
            }
        }
        self.think(now_ns, client, random, out);
    }
}

fn name(key: u32) -> Arc<str> {
    Arc::from(format!("k{key}"))
}

/// Puts what was read into a transaction. The answers are in the order in which the parts were first named.
fn fill(
    transaction: &mut ListTransaction,
    asked: &[ListOperation],
    participants: &[GroupId],
    answers: Vec<Option<bytes::Bytes>>,
) {
    let owner = |operation: &ListOperation| participants[operation.key() as usize % participants.len()];
    let mut order: Vec<GroupId> = Vec::new();
    for operation in asked {
        let group = owner(operation);
        if !order.contains(&group) {
            order.push(group);
        }
    }
    assert!(order.len() == answers.len(), "one answer from each participant");
    let mut read: Vec<Option<std::vec::IntoIter<Vec<u64>>>> =
        answers.into_iter().map(|answer| answer.map(|bytes| lists(bytes).into_iter())).collect();
    for (micro, operation) in transaction.operations.iter_mut().zip(asked) {
        let MicroOperation::Read { list, .. } = micro else { continue };
        let at = order.iter().position(|group| *group == owner(operation)).expect("it was listed");
        *list = read[at].as_mut().map(|lists| {
            let list = lists.next().expect("one list for each read");
            list.into_iter().map(|element| Value::Integer(element as i64)).collect()
        });
    }
}

impl Clients<MachineProcess> for ListClients {
    fn len(&self) -> u32 {
        self.workload.clients
    }

    fn start(&mut self, _nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        for index in 0..self.workload.clients {
            // The groups find their first leaders meanwhile.
            out.wake_at(random.below(300 * MILLISECOND_NS), ClientId(index), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        let state = &self.clients[client.0 as usize];
        match (state.waits, token) {
            (None, 0) => self.ask(now_ns, client, random, out),
            (Some(_), 0) if state.token == 0 => self.send(now_ns, client, random, out),
            (Some(_), token) if token != 0 && token == state.token => {
                self.end(now_ns, client, ListOutcome::Unknown, Vec::new(), random, out);
            }
            _ => {}
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: Reply,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if state.token != reply.token || state.waits.is_none() {
            return;
        }
        match reply.outcome {
            // Not applied, certainly: the same transaction may be asked of another one.
            Outcome::NotApplied { why: Why::NotLeader } => {
                state.token = 0;
                out.wake_at(now_ns + random.below(10 * MILLISECOND_NS), client, 0);
            }
            Outcome::Committed { answers } => {
                self.end(now_ns, client, ListOutcome::Committed, answers, random, out);
            }
            Outcome::NotApplied { .. } => {
                self.end(now_ns, client, ListOutcome::Aborted, Vec::new(), random, out)
            }
            Outcome::ByHand { .. } => unreachable!("nobody decides by hand here"),
            Outcome::Uncertain => self.end(now_ns, client, ListOutcome::Unknown, Vec::new(), random, out),
        }
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: Request,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if state.token == request.token && state.waits.is_some() {
            state.token = 0;
            out.wake_at(now_ns + random.below(20 * MILLISECOND_NS), client, 0);
        }
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.liveness = true;
        self.unread = (0..self.keys_used).collect();
        for index in 0..self.workload.clients {
            if self.clients[index as usize].waits.is_none() {
                self.think(now_ns, ClientId(index), random, out);
            }
        }
    }

    fn satisfied(&self) -> bool {
        self.unread.is_empty() && self.clients.iter().all(|client| client.served)
    }

    fn waiting_for(&self) -> String {
        let unserved = self.clients.iter().filter(|client| !client.served).count();
        format!("{unserved} clients, and {} keys unread", self.unread.len())
    }

    fn tally(&self) -> Tally {
        let count = |outcome| self.history.iter().filter(|t| t.outcome == outcome).count() as u64;
        Tally {
            ok: count(ListOutcome::Committed),
            failed: count(ListOutcome::Aborted),
            unknown: count(ListOutcome::Unknown),
        }
    }

    fn judge(&self, _processes: &[&MachineProcess]) -> Result<(), Violation> {
        Ok(())
    }
}
