//! The world: virtual time, one event queue, every process, every fault; all from one seed.

mod experiment;
mod faults;
mod nodes;

use std::fmt;

use keypact_protocol::NodeId;

use crate::fault::MILLISECOND_NS;
use crate::network::Network;
use crate::queue::Queue;
use crate::trace::catch;
use crate::{
    Applied, ClientEffects, ClientId, Clients, Counters, Effects, FaultCounts, FaultKind, Observer, Process,
    ProcessInput, Random, Swarm, TraceHash, Violation,
};
pub use experiment::Work;
use faults::Active;
use nodes::Node;

/// A message that waits in a stopped process's sockets is dropped once so many wait.
const INBOX_LIMIT: usize = 4_096;
/// More events than this under way mean that something feeds itself.
const QUEUE_LIMIT: usize = 1_000_000;
/// How often the end of the liveness phase is looked for.
const POLL_NS: u64 = 5 * MILLISECOND_NS;

/// Everything that a world is made of. `configs` and `disks` have one element for each of `swarm.nodes`.
#[derive(Debug)]
pub struct Setup<P: Process, C, O> {
    /// Sizes, speeds, faults.
    pub swarm: Swarm,
    /// Each process's configuration.
    pub configs: Vec<P::Config>,
    /// Each process's disk.
    pub disks: Vec<P::Disk>,
    /// All clients.
    pub clients: C,
    /// The invariants.
    pub observer: O,
}

/// What is to happen.
#[derive(Debug)]
enum Event<P: Process> {
    Deliver { from: u16, to: u16, message: P::Message },
    Request { client: ClientId, to: u16, request: P::Request },
    Reply { client: ClientId, from: u16, reply: P::Reply },
    ClientWake { client: ClientId, token: u64 },
    Step { node: u16, life: u32 },
    Wake { node: u16, life: u32 },
    DiskDone { node: u16, life: u32, token: u64, ok: bool },
    Unreachable { node: u16, peer: u16 },
    Restart { node: u16 },
    Fault,
    FaultEnd { slot: u32 },
}

/// Where a trace for people goes.
pub type Printer = Box<dyn FnMut(fmt::Arguments<'_>)>;

/// A world; see the crate's documentation.
pub struct World<P: Process, C, O> {
    now_ns: u64,
    queue: Queue<Event<P>>,
    random: Random,
    client_random: Random,
    swarm: Swarm,
    network: Network,
    nodes: Vec<Node<P>>,
    clients: C,
    observer: O,
    faulty: bool,
    active: Vec<Option<Active>>,
    /// Scratch space, kept to spare allocations.
    batch: Vec<ProcessInput<P>>,
    effects: Effects<P>,
    client_effects: ClientEffects<P>,
    encoded: Vec<u8>,
    /// For the report.
    faults: FaultCounts,
    counters: Counters,
    trace: TraceHash,
    delivered: u64,
    steps: u64,
    largest_batch: usize,
    /// Who was stepping when a panic came.
    stepping: Option<NodeId>,
    printer: Option<Printer>,
}

impl<P: Process, C: Clients<P>, O: Observer<P>> World<P, C, O> {
    /// A world at time 0. Equal setups and seeds live equal lives.
    ///
    /// # Panics
    /// If `setup` has not one config and one disk for each node.
    #[must_use]
    pub fn new(setup: Setup<P, C, O>, seed: u64) -> Self {
        let count = setup.swarm.nodes;
        assert!(count > 0 && count < usize::from(u16::MAX), "a cluster has members, and not too many");
        assert!(setup.configs.len() == count && setup.disks.len() == count, "one config and disk per node");
        let mut random = Random::new(seed);
        let client_random = random.fork();
        let mut world = World {
            now_ns: 0,
            queue: Queue::new(),
            network: Network::new(count),
            nodes: Vec::with_capacity(count),
            clients: setup.clients,
            observer: setup.observer,
            faulty: true,
            active: Vec::new(),
            batch: Vec::new(),
            effects: Effects::default(),
            client_effects: ClientEffects::default(),
            encoded: Vec::new(),
            faults: FaultCounts::default(),
            counters: Counters::default(),
            trace: TraceHash::default(),
            delivered: 0,
            steps: 0,
            largest_batch: 0,
            stepping: None,
            printer: None,
            random,
            client_random,
            swarm: setup.swarm,
        };
        for (index, (config, disk)) in setup.configs.into_iter().zip(setup.disks).enumerate() {
            let clock = world.draw_clock();
            world.nodes.push(Node::new(NodeId(index as u64 + 1), config, disk, clock));
        }
        world
    }

    /// Prints every event to `printer` from now on.
    pub fn print_to(&mut self, printer: Printer) {
        self.printer = Some(printer);
    }

    /// Runs the safety phase, then the liveness phase, then lets the clients judge.
    ///
    /// # Errors
    /// The first violation: of an observer, a panic in a process (`no-panic`), a cluster that does not serve or converge in time once
    /// faults are over (`liveness`, `convergence`), or the clients' verdict.
    pub fn run(&mut self) -> Result<(), Violation> {
        let result = catch(|| self.run_phases());
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                process.count(&mut self.counters);
                self.observer.ended(node.id, &process);
            }
        }
        self.observer.count(&mut self.counters);
        self.counters.add("batch-of-several", u64::from(self.largest_batch > 1));
        match result {
            Ok(result) => result,
            Err(panic) => {
                let who = self.stepping.map_or_else(String::new, |node| format!("{node}: "));
                Err(Violation::new("no-panic", format!("{who}{panic}")))
            }
        }
    }

    fn run_phases(&mut self) -> Result<(), Violation> {
        self.begin()?;
        self.run_until(self.swarm.safety_ns)?;
        self.end_faults()?;
        let deadline_ns = self.now_ns + self.swarm.liveness_ns;
        self.with_clients(|clients, now_ns, random, out| clients.liveness_begins(now_ns, random, out));
        while !self.clients.satisfied() {
            if self.now_ns > deadline_ns && self.swarm.beyond {
                self.counters.add("not-served-in-the-end", 1);
                return Ok(());
            }
            if self.now_ns > deadline_ns {
                let detail = format!(
                    "{} ms after all faults ended, not served: {}",
                    self.swarm.liveness_ns / MILLISECOND_NS,
                    self.clients.waiting_for()
                );
                return Err(Violation::new("liveness", detail));
            }
            self.run_until(self.now_ns + POLL_NS)?;
        }
        while !self.has_converged() {
            if self.now_ns > deadline_ns {
                let states: Vec<_> = self.nodes.iter().map(|node| (node.id, node.applied())).collect();
                return Err(Violation::new("convergence", format!("applied states differ: {states:?}")));
            }
            self.run_until(self.now_ns + POLL_NS)?;
        }
        // Who takes no part in the end may be behind: the others are looked at first.
        let mut live: Vec<&P> = self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        live.sort_by_key(|process| process.applied().is_none());
        self.clients.judge(&live)
    }

    /// Starts every process and the clients. [`World::run`] does it by itself; measurements call it once, and then [`World::run_until`].
    ///
    /// # Errors
    /// The first violation.
    pub fn begin(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            self.start_node(index)?;
        }
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        self.with_clients(|clients, _, random, out| clients.start(&ids, random, out));
        self.plan_fault();
        Ok(())
    }

    fn has_converged(&self) -> bool {
        let mut seen: Option<Applied> = None;
        for applied in self.nodes.iter().filter(|node| node.process.is_some()).filter_map(Node::applied) {
            if *seen.get_or_insert(applied) != applied {
                return false;
            }
        }
        true
    }

    /// Runs every event up to `end_ns`, at which the world then stands.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_until(&mut self, end_ns: u64) -> Result<(), Violation> {
        while self.queue.next_at().is_some_and(|at_ns| at_ns <= end_ns) {
            let (at_ns, event) = self.queue.pop().expect("an event was there");
            assert!(at_ns >= self.now_ns, "time never goes back");
            self.now_ns = at_ns;
            self.dispatch(event)?;
            assert!(self.queue.len() < QUEUE_LIMIT, "events feed themselves");
        }
        self.now_ns = self.now_ns.max(end_ns);
        Ok(())
    }

    fn dispatch(&mut self, event: Event<P>) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from.into(), to.into(), message),
            Event::Request { client, to, request } => self.deliver_request(client, to.into(), request),
            Event::Reply { client, from, reply } => {
                let from = self.nodes[usize::from(from)].id;
                self.print(format_args!("{client} < {from}  {reply:?}"));
                self.trace.add(u64::from(client.0) | 1 << 32);
                self.with_clients(|clients, now_ns, random, out| {
                    clients.reply(now_ns, client, from, reply, random, out);
                });
                Ok(())
            }
            Event::ClientWake { client, token } => {
                self.with_clients(|clients, now_ns, random, out| {
                    clients.wake(now_ns, client, token, random, out);
                });
                Ok(())
            }
            Event::Step { node, life } => self.step_queued(node.into(), life),
            Event::Wake { node, life } => self.wake(node.into(), life),
            Event::DiskDone { node, life, token, ok } => self.disk_done(node.into(), life, token, ok),
            Event::Unreachable { node, peer } => {
                let peer = self.nodes[usize::from(peer)].id;
                self.input(node.into(), ProcessInput::Unreachable(peer))
            }
            Event::Restart { node } => self.start_node(node.into()),
            Event::Fault => self.strike(),
            Event::FaultEnd { slot } => self.end_fault(slot as usize),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: P::Message) -> Result<(), Violation> {
        if self.network.is_cut(from, to) || self.nodes[to].is_deaf() {
            return Ok(());
        }
        if self.nodes[to].process.is_none() {
            self.hint(from, to);
            return Ok(());
        }
        if self.nodes[to].inbox.len() >= INBOX_LIMIT {
            self.counters.add("inbox-full", 1);
            return Ok(());
        }
        self.delivered += 1;
        let from = self.nodes[from].id;
        if self.printer.is_some() {
            let to = self.nodes[to].id;
            self.print(format_args!("{from} > {to}  {message:?}"));
        }
        self.input(to, ProcessInput::Peer { from, message })
    }

    fn deliver_request(&mut self, client: ClientId, to: usize, request: P::Request) -> Result<(), Violation> {
        let id = self.nodes[to].id;
        self.print(format_args!("{client} > {id}  {request:?}"));
        if self.nodes[to].process.is_none() || self.nodes[to].inbox.len() >= INBOX_LIMIT {
            self.with_clients(|clients, now_ns, random, out| {
                clients.refused(now_ns, client, id, request, random, out);
            });
            return Ok(());
        }
        if self.nodes[to].is_deaf() {
            return Ok(());
        }
        self.input(to, ProcessInput::Client { client, request })
    }

    /// Lets the clients act, and carries out what they want.
    fn with_clients(&mut self, act: impl FnOnce(&mut C, u64, &mut Random, &mut ClientEffects<P>)) {
        act(&mut self.clients, self.now_ns, &mut self.client_random, &mut self.client_effects);
        let mut wanted = std::mem::take(&mut self.client_effects);
        for (client, to, request) in wanted.requests.drain(..) {
            if let Some(at_ns) = self.client_way() {
                let to = u16::try_from(to.0 - 1).expect("clients know the nodes");
                assert!(usize::from(to) < self.nodes.len(), "clients know the nodes");
                self.queue.push(at_ns, Event::Request { client, to, request });
            }
        }
        for (at_ns, client, token) in wanted.wakes.drain(..) {
            self.queue.push(at_ns.max(self.now_ns), Event::ClientWake { client, token });
        }
        // Hand the buffers back.
        self.client_effects = wanted;
    }

    /// When a message between a client and a node arrives, if it does.
    fn client_way(&mut self) -> Option<u64> {
        if self.faulty && self.random.chance(self.swarm.client_loss_ppm) {
            self.faults.add(FaultKind::ClientLoss);
            return None;
        }
        Some(self.now_ns + self.swarm.delay_min_ns + self.random.below(self.swarm.delay_spread_ns + 1))
    }

    #[inline]
    fn print(&mut self, line: fmt::Arguments<'_>) {
        if let Some(printer) = &mut self.printer {
            let (ms, ns) = (self.now_ns / MILLISECOND_NS, self.now_ns % MILLISECOND_NS);
            printer(format_args!("{ms:>6}.{ns:06}  {line}"));
        }
    }

    /// True time, nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Peer messages that reached a live process.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Batches that processes took.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The trace hash so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.trace.value()
    }

    /// Faults so far.
    #[must_use]
    pub fn faults(&self) -> &FaultCounts {
        &self.faults
    }

    /// Counters; complete after [`World::run`].
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// This seed's mix.
    #[must_use]
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// The clients, with what they recorded.
    #[must_use]
    pub fn clients(&self) -> &C {
        &self.clients
    }

    /// The observer.
    #[must_use]
    pub fn observer(&self) -> &O {
        &self.observer
    }
}
