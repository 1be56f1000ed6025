//! Clients that act on any replica, and the watch over all of it.

use std::cell::RefCell;
use std::rc::Rc;

use keypact_crdt::Lattice;
use keypact_protocol::NodeId;
use keypact_simulator::{ClientEffects, ClientId, Clients, Counters, Observer, Random, Tally, Violation};

use super::board::{Action, Kind};
use super::ledger::Ledger;
use super::replica::{ActionReply, ActionRequest, Replica, ReplicaDisk};
use super::{ITEMS, KEYS};

/// How clients behave in one seed.
#[derive(Clone, Debug)]
pub struct BoardWork {
    /// How many there are.
    pub clients: u32,
    /// Actions of each before it only waits.
    pub actions: u32,
    /// From an answer to the next action, at most.
    pub think_max_ns: u64,
    /// After this the answer is not waited for any more.
    pub timeout_ns: u64,
    /// Actions that take something away, of those on the map.
    pub takes_ppm: u32,
    /// Actions that are not on the map.
    pub plain_ppm: u32,
}

#[derive(Clone, Debug, Default)]
struct Client {
    /// The number of the action that waits, 0: none.
    waiting: u64,
    left: u32,
    served: bool,
}

/// All clients.
#[derive(Debug)]
pub struct BoardClients {
    work: BoardWork,
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    tokens: u64,
    tally: Tally,
    last_phase: bool,
    ledger: Rc<RefCell<Ledger>>,
}

type Out = ClientEffects<Replica>;

/// What is under a key, every kind as often.
const KINDS: [Kind; 7] =
    [Kind::Tally, Kind::Latest, Kind::Values, Kind::Enable, Kind::Disable, Kind::Set, Kind::Inner];

impl BoardClients {
    /// Clients whose actions are judged by this ledger.
    pub fn new(work: BoardWork, ledger: Rc<RefCell<Ledger>>) -> BoardClients {
        let client = Client { left: work.actions, ..Client::default() };
        let clients = vec![client; work.clients as usize];
        BoardClients {
            work,
            nodes: Vec::new(),
            clients,
            tokens: 0,
            tally: Tally::default(),
            last_phase: false,
            ledger,
        }
    }

    fn draw(&self, random: &mut Random) -> Action {
        if random.chance(self.work.plain_ppm) {
            return match random.below(3) {
                0 => Action::Grow(random.between(1, 9)),
                1 => Action::Level(random.between(1, 9) as i64 - 5),
                _ => Action::Write,
            };
        }
        let (key, item) = (random.below(KEYS), random.below(ITEMS));
        let kind = random.pick(&KINDS);
        if !random.chance(self.work.takes_ppm) {
            return Action::Put { key, kind, item, by: random.between(1, 9) as i64 - 3 };
        }
        if random.chance(250_000) { Action::Remove { key } } else { Action::Take { key, kind, item } }
    }

    fn act(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        self.tokens += 1;
        let token = self.tokens;
        self.clients[client.0 as usize].waiting = token;
        let action = self.draw(random);
        let to = random.pick(&self.nodes);
        out.request(client, to, ActionRequest { token, action });
        out.wake_at(now_ns + self.work.timeout_ns, client, token);
    }

    /// Goes on after an outcome, unless the client has done enough.
    fn go_on(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        let state = &mut self.clients[client.0 as usize];
        state.waiting = 0;
        state.left = state.left.saturating_sub(1);
        if (self.last_phase && state.served) || (!self.last_phase && state.left == 0) {
            return;
        }
        out.wake_at(now_ns + random.below(self.work.think_max_ns + 1), client, 0);
    }
}

impl Clients<Replica> for BoardClients {
    fn len(&self) -> u32 {
        self.work.clients
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for client in 0..self.work.clients {
            out.wake_at(random.below(self.work.think_max_ns + 1), ClientId(client), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        let waiting = self.clients[client.0 as usize].waiting;
        if token == 0 && waiting == 0 {
            self.act(now_ns, client, random, out);
        } else if token > 0 && token == waiting {
            self.tally.unknown += 1;
            self.go_on(now_ns, client, random, out);
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: ActionReply,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if reply.token != state.waiting {
            return;
        }
        if reply.done {
            self.tally.ok += 1;
            state.served |= self.last_phase;
        } else {
            self.tally.failed += 1;
        }
        self.go_on(now_ns, client, random, out);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: ActionRequest,
        random: &mut Random,
        out: &mut Out,
    ) {
        if request.token == self.clients[client.0 as usize].waiting {
            self.tally.failed += 1;
            self.go_on(now_ns, client, random, out);
        }
    }

    fn liveness_begins(&mut self, now_ns: u64, _random: &mut Random, out: &mut Out) {
        self.last_phase = true;
        for client in 0..self.work.clients {
            self.clients[client as usize].waiting = 0;
            out.wake_at(now_ns, ClientId(client), 0);
        }
    }

    fn satisfied(&self) -> bool {
        self.clients.iter().all(|client| client.served && client.waiting == 0)
    }

    fn waiting_for(&self) -> String {
        format!("{:?}", self.clients.iter().enumerate().find(|(_, client)| !client.served))
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, processes: &[&Replica]) -> Result<(), Violation> {
        let mut ledger = self.ledger.borrow_mut();
        let present = processes.iter().map(|process| process.replica().life().0).collect();
        for (index, process) in processes.iter().enumerate() {
            ledger.check_end(process.replica().life().0, process.board(), &present)?;
            if process.board() != processes[0].board() {
                return Err(Violation::new("convergence", format!("{index} differs from the first")));
            }
        }
        Ok(())
    }
}

/// Feeds the ledger, and has it judge states as they change.
#[derive(Debug)]
pub struct BoardWatch {
    ledger: Rc<RefCell<Ledger>>,
    /// Of each replica, how many events it had applied when it was last looked at.
    applied: Vec<u64>,
    changes: u64,
    /// Every so many changes the whole state is evaluated.
    every: u64,
}

impl BoardWatch {
    /// Watches so many replicas.
    pub fn new(nodes: usize, every: u64, ledger: Rc<RefCell<Ledger>>) -> BoardWatch {
        BoardWatch { ledger, applied: vec![0; nodes], changes: 0, every }
    }
}

impl Observer<Replica> for BoardWatch {
    fn started(&mut self, _: u64, _: NodeId, replica: &Replica, _: &ReplicaDisk) -> Result<(), Violation> {
        self.ledger.borrow_mut().started(replica.replica());
        Ok(())
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        replica: &Replica,
        _: &ReplicaDisk,
    ) -> Result<(), Violation> {
        let mut ledger = self.ledger.borrow_mut();
        for made in replica.made() {
            ledger.made(made)?;
        }
        let applied = replica.board().map.version().dot_count();
        let before = &mut self.applied[node.0 as usize - 1];
        if *before == applied {
            return Ok(());
        }
        *before = applied;
        self.changes += 1;
        if self.changes.is_multiple_of(self.every) {
            ledger.check_map(node, &replica.board().map)
        } else {
            Ok(())
        }
    }

    fn replied(&mut self, _: u64, _: NodeId, _: ClientId, reply: &ActionReply) -> Result<(), Violation> {
        if reply.done {
            self.ledger.borrow_mut().acknowledged(reply.token);
        }
        Ok(())
    }

    fn crashed(&mut self, _now_ns: u64, node: NodeId, disk: &ReplicaDisk) -> Result<(), Violation> {
        self.ledger.borrow_mut().crashed(disk.replica(node), disk.actions(), disk.is_lost())
    }

    fn count(&self, counters: &mut Counters) {
        let reached = &self.ledger.borrow().reached;
        counters.add("add-won", reached.add_won);
        counters.add("values-side-by-side", reached.siblings);
        counters.add("states-evaluated", reached.evaluated);
        counters.add("forgotten-unheard", reached.forgotten);
    }
}
