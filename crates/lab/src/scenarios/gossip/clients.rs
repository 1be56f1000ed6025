//! Clients that write, delete and read at any replica.

use std::cell::RefCell;
use std::rc::Rc;

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::{
    Ask, ClientEffects, ClientId, Clients, MILLISECOND_NS, MachineOutcome, MachineReply, MachineRequest,
    Random, SECOND_NS, Tally, Violation,
};

use super::Process;
use super::shelf::{Command, KINDS, Shelf};
use super::watch::Book;
use crate::scenarios::crdt::board::{Action, Kind};
use crate::scenarios::crdt::{ITEMS, KEYS};

/// What clients do in one seed.
#[derive(Clone, Debug)]
pub(crate) struct GossipWork {
    /// How many there are.
    pub clients: u32,
    /// Operations of each in the safety phase, at most.
    pub operations: u32,
    /// From an answer to the next operation, at most.
    pub think_max_ns: u64,
    /// After this the answer is not waited for any more.
    pub timeout_ns: u64,
    /// Writes that take something away.
    pub takes_ppm: u32,
    /// Of these, such as remove a whole key.
    pub removes_ppm: u32,
    /// Operations at another node than the last.
    pub wander_ppm: u32,
    /// What is written.
    pub kinds: Vec<Kind>,
    /// From the end of faults to the writes that must succeed: what the catalog plans must have come to its end.
    pub calm_ns: u64,
}

impl GossipWork {
    /// A mix.
    #[must_use]
    pub(crate) fn draw(random: &mut Random) -> GossipWork {
        let few = [Kind::Values, Kind::Set];
        GossipWork {
            clients: random.between(2, 5) as u32,
            operations: random.between(20, 80) as u32,
            think_max_ns: random.pick(&[5, 30, 80]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[50, 300, 600]) * MILLISECOND_NS,
            takes_ppm: random.pick(&[150_000, 400_000, 600_000]),
            removes_ppm: random.pick(&[250_000, 700_000]),
            wander_ppm: random.pick(&[100_000, 500_000, 1_000_000]),
            kinds: if random.chance(300_000) { few.to_vec() } else { KINDS.to_vec() },
            calm_ns: 2 * SECOND_NS,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Client {
    target: usize,
    /// The operation that waits for an answer, 0: none.
    waiting: u64,
    begun: u32,
    /// Nodes at which a write still has to succeed.
    to_do: Vec<usize>,
}

/// All clients.
#[derive(Debug)]
pub(crate) struct GossipClients {
    work: GossipWork,
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    tokens: u64,
    tally: Tally,
    lively: bool,
    calm_until_ns: u64,
    book: Rc<RefCell<Book>>,
}

type Out = ClientEffects<Process>;

impl GossipClients {
    /// Clients whose writes are judged by this book.
    #[must_use]
    pub(crate) fn new(work: GossipWork, book: Rc<RefCell<Book>>) -> GossipClients {
        let clients = vec![Client::default(); work.clients as usize];
        GossipClients {
            work,
            nodes: Vec::new(),
            clients,
            tokens: 0,
            tally: Tally::default(),
            lively: false,
            calm_until_ns: 0,
            book,
        }
    }

    fn draw(&self, random: &mut Random) -> Action {
        let (key, item) = (random.below(KEYS), random.below(ITEMS));
        let kind = random.pick(&self.work.kinds);
        if !random.chance(self.work.takes_ppm) {
            return Action::Put { key, kind, item, by: random.between(1, 9) as i64 - 3 };
        }
        if random.chance(self.work.removes_ppm) {
            Action::Remove { key }
        } else {
            Action::Take { key, kind, item }
        }
    }

    fn go_on(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        let action = self.draw(random);
        let count = self.nodes.len();
        let state = &mut self.clients[client.0 as usize];
        if state.waiting > 0 {
            return;
        }
        let mut reads = false;
        if self.lively {
            if now_ns < self.calm_until_ns {
                return;
            }
            let Some(next) = state.to_do.last() else { return };
            state.target = *next;
        } else if state.begun >= self.work.operations {
            return;
        } else {
            if random.chance(self.work.wander_ppm) {
                state.target = random.index(count);
            }
            reads = random.chance(100_000);
        }
        state.begun += 1;
        self.tokens += 1;
        let token = self.tokens;
        state.waiting = token;
        let ask = match reads {
            true => Ask::Read(random.below(KEYS), ReadLevel::Stale),
            false => Ask::Write(Command { token, action }),
        };
        out.request(client, self.nodes[state.target], MachineRequest { token, ask });
        out.wake_at(now_ns + self.work.timeout_ns, client, token);
    }

    /// The operation that waits has an outcome; plans the next one.
    fn settle(
        &mut self,
        now_ns: u64,
        client: ClientId,
        token: u64,
        outcome: Option<bool>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if state.waiting != token {
            return;
        }
        state.waiting = 0;
        match outcome {
            Some(true) => {
                self.tally.ok += 1;
                let target = state.target;
                if self.lively {
                    state.to_do.retain(|node| *node != target);
                }
            }
            Some(false) => self.tally.failed += 1,
            None => self.tally.unknown += 1,
        }
        let pause_ns = if self.lively { 10 * MILLISECOND_NS } else { 1 };
        out.wake_at(now_ns + pause_ns + random.below(self.work.think_max_ns), client, 0);
    }
}

impl Clients<Process> for GossipClients {
    fn len(&self) -> u32 {
        self.work.clients
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for client in 0..self.work.clients {
            self.clients[client as usize].target = random.index(nodes.len());
            out.wake_at(random.below(self.work.think_max_ns), ClientId(client), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        if token == 0 {
            self.go_on(now_ns, client, random, out);
        } else {
            self.settle(now_ns, client, token, None, random, out);
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: MachineReply<Shelf>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let outcome = match reply.outcome {
            MachineOutcome::Done(_) => Some(true),
            MachineOutcome::Refused(_) => Some(false),
            MachineOutcome::Uncertain => None,
        };
        self.settle(now_ns, client, reply.token, outcome, random, out);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: MachineRequest<Shelf>,
        random: &mut Random,
        out: &mut Out,
    ) {
        self.settle(now_ns, client, request.token, Some(false), random, out);
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.lively = true;
        self.calm_until_ns = now_ns + self.work.calm_ns;
        for client in 0..self.work.clients {
            // At every node: one that can't take writes any more would else not be noticed.
            self.clients[client as usize].to_do = (0..self.nodes.len()).collect();
            out.wake_at(self.calm_until_ns + random.below(self.work.think_max_ns), ClientId(client), 0);
        }
    }

    fn satisfied(&self) -> bool {
        self.clients.iter().all(|client| client.to_do.is_empty())
    }

    fn waiting_for(&self) -> String {
        format!("{:?}", self.clients.iter().enumerate().find(|(_, client)| !client.to_do.is_empty()))
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, processes: &[&Process]) -> Result<(), Violation> {
        let Some(first) = processes.first() else {
            return Err(Violation::new("liveness", "no process is left"));
        };
        let mut book = self.book.borrow_mut();
        for process in processes {
            let member = process.protocol().member();
            let node = member.config().id;
            book.check_end(node, process)?;
            // A write that still waits for its acknowledgements is in one replica's state, and not yet given to its parent.
            if process.machine() != first.machine() {
                let detail = format!("{node} differs from {}", first.protocol().member().config().id);
                return Err(Violation::new("convergence", detail));
            }
        }
        Ok(())
    }
}
