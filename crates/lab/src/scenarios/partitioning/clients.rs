//! Clients that append, read, and ask for ranges, by maps that grow old.

use keypact_partitioning::{Map, Slice};
use keypact_protocol::NodeId;
use keypact_simulator::{ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, Tally, Violation};

use super::Scheme;
use super::history::{Fate, ListHistory};
use super::message::{Answer, Ask, Key, Reply, Request, Rows};
use super::process::Shard;

/// What clients do.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) keys: Vec<Key>,
    /// Keys that must lie together; appended to in one request.
    pub(crate) pairs: Vec<[Key; 2]>,
    pub(crate) clients: u32,
    /// Requests altogether, at most, before faults are over.
    pub(crate) operations: u64,
    pub(crate) think_max_ns: u64,
    pub(crate) timeout_ns: u64,
    pub(crate) reads_ppm: u32,
    pub(crate) ranges_ppm: u32,
    pub(crate) pairs_ppm: u32,
    /// How likely a request goes to a node that need not be the owner.
    pub(crate) astray_ppm: u32,
    /// How likely a request goes to the keys of the moment: a hotspot that wanders upwards.
    pub(crate) hot_ppm: u32,
}

impl Workload {
    pub(crate) fn draw(keys: Vec<Key>, random: &mut Random) -> Workload {
        Workload {
            keys,
            pairs: Vec::new(),
            clients: random.between(2, 6) as u32,
            operations: 1_500,
            think_max_ns: random.pick(&[2, 10, 40]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[100, 400]) * MILLISECOND_NS,
            reads_ppm: 300_000,
            ranges_ppm: 0,
            pairs_ppm: 0,
            astray_ppm: 30_000,
            hot_ppm: random.pick(&[0, 500_000, 900_000]),
        }
    }
}

/// What a client is about.
#[derive(Clone, Debug)]
enum Task<A> {
    Append {
        keys: Vec<Key>,
        element: u64,
    },
    Read {
        key: Key,
    },
    /// What is left, and until where the question under way reaches.
    Range {
        rest: Slice<A>,
        asked: Option<Slice<A>>,
    },
}

#[derive(Clone, Debug)]
struct Client<A: Clone> {
    map: Map<A>,
    task: Option<Task<A>>,
    /// When the task, or the leg of a range, was first asked.
    invoked_ns: u64,
    /// The request under way; answers to earlier ones come too late.
    op: u64,
    /// Keys that must yet be served since faults were over.
    due: Vec<Key>,
}

/// All clients.
#[derive(Debug)]
pub(crate) struct PartitionClients<S: Scheme> {
    scheme: S,
    workload: Workload,
    nodes: Vec<NodeId>,
    clients: Vec<Client<S::At>>,
    pub(crate) history: ListHistory,
    tally: Tally,
    begun: u64,
    next_op: u64,
    next_element: u64,
    faults_are_over: bool,
    /// A pair of keys that must lie together was said not to.
    crossing: Option<String>,
}

type Out<S> = ClientEffects<Shard<S>>;

impl<S: Scheme> PartitionClients<S> {
    pub(crate) fn new(scheme: S, workload: Workload) -> PartitionClients<S> {
        let map = scheme.first_map();
        let client = Client { map, task: None, invoked_ns: 0, op: 0, due: Vec::new() };
        PartitionClients {
            clients: vec![client; workload.clients as usize],
            scheme,
            workload,
            nodes: Vec::new(),
            history: ListHistory::default(),
            tally: Tally::default(),
            begun: 0,
            next_op: 0,
            next_element: 0,
            faults_are_over: false,
            crossing: None,
        }
    }

    fn draw_key(&self, now_ns: u64, random: &mut Random) -> Key {
        let keys = &self.workload.keys;
        if random.chance(self.workload.hot_ppm) {
            let moment = (now_ns / (300 * MILLISECOND_NS)) as usize;
            return keys[(moment + random.index(3)) % keys.len()].clone();
        }
        keys[random.index(keys.len())].clone()
    }

    fn draw_task(&mut self, at: usize, now_ns: u64, random: &mut Random) -> Option<Task<S::At>> {
        self.next_element += 1;
        let element = self.next_element;
        if self.faults_are_over {
            let key = self.clients[at].due.last()?.clone();
            return Some(Task::Append { keys: vec![key], element });
        }
        if self.begun >= self.workload.operations {
            return None;
        }
        if random.chance(self.workload.ranges_ppm) {
            let mut ends = [0, 0].map(|_| self.scheme.position(&self.draw_key(now_ns, random)));
            ends.sort_unstable();
            let [low, high] = ends;
            let high = if random.chance(200_000) { None } else { Some(high) };
            let rest = Slice::new(low, high)?;
            return Some(Task::Range { rest, asked: None });
        }
        if !self.workload.pairs.is_empty() && random.chance(self.workload.pairs_ppm) {
            let pair = self.workload.pairs[random.index(self.workload.pairs.len())].clone();
            return Some(Task::Append { keys: pair.to_vec(), element });
        }
        let key = self.draw_key(now_ns, random);
        if random.chance(self.workload.reads_ppm) {
            return Some(Task::Read { key });
        }
        Some(Task::Append { keys: vec![key], element })
    }

    /// Asks, or asks again, by the map that the client knows.
    fn ask(&mut self, at: usize, now_ns: u64, random: &mut Random, out: &mut Out<S>) {
        self.next_op += 1;
        let op = self.next_op;
        let client = &mut self.clients[at];
        let Some(task) = &mut client.task else { return };
        let (ask, owner) = match task {
            Task::Append { keys, element } => {
                let owner = client.map.find(&self.scheme.position(&keys[0])).owner();
                (Ask::Append { keys: keys.clone(), element: *element }, owner)
            }
            Task::Read { key } => {
                let owner = client.map.find(&self.scheme.position(key)).owner();
                (Ask::Read { key: key.clone() }, owner)
            }
            Task::Range { rest, asked } => {
                let part = client.map.find(rest.low());
                let leg = part.slice.intersection(rest).expect("the part has the rest's beginning");
                *asked = Some(leg.clone());
                (Ask::Range { slice: leg }, part.owner())
            }
        };
        client.op = op;
        // Now and then elsewhere: whoever is asked says what map it knows.
        let to = if random.chance(self.workload.astray_ppm) { random.pick(&self.nodes) } else { owner };
        let request = Request { op, version: client.map.version(), ask };
        let id = ClientId(at as u32);
        out.request(id, to, request);
        out.wake_at(now_ns + self.workload.timeout_ns, id, op);
    }

    fn begin(&mut self, at: usize, now_ns: u64, random: &mut Random, out: &mut Out<S>) {
        if let Some(task) = self.draw_task(at, now_ns, random) {
            self.begun += 1;
            self.clients[at].task = Some(task);
            self.clients[at].invoked_ns = now_ns;
            self.ask(at, now_ns, random, out);
        } else if !self.faults_are_over {
            self.think(at, now_ns, random, out);
        }
    }

    /// Something was refused, and certainly not done: the same again, somewhat later.
    fn again_later(&mut self, at: usize, now_ns: u64, random: &mut Random, out: &mut Out<S>) {
        self.next_op += 1;
        // The token of a pause is an operation that nobody answers.
        self.clients[at].op = self.next_op;
        let pause_ns = random.between(MILLISECOND_NS, 20 * MILLISECOND_NS);
        out.wake_at(now_ns + pause_ns, ClientId(at as u32), self.next_op | AGAIN);
    }

    fn think(&mut self, at: usize, now_ns: u64, random: &mut Random, out: &mut Out<S>) {
        self.next_op += 1;
        self.clients[at].op = self.next_op;
        let pause_ns = random.below(self.workload.think_max_ns) + 1;
        out.wake_at(now_ns + pause_ns, ClientId(at as u32), self.next_op | AGAIN);
    }

    fn ended(&mut self, at: usize, fate: Fate) {
        let client = &mut self.clients[at];
        let Some(task) = client.task.take() else { return };
        match fate {
            Fate::Done(_) => self.tally.ok += 1,
            Fate::Refused => self.tally.failed += 1,
            Fate::Unknown => self.tally.unknown += 1,
        }
        if let Task::Append { keys, element } = task {
            for key in &keys {
                self.history.append(key, element, client.invoked_ns, fate);
            }
            if matches!(fate, Fate::Done(_)) {
                client.due.retain(|due| !keys.contains(due));
            }
        }
    }

    fn answered(
        &mut self,
        at: usize,
        answer: Answer<S::At>,
        now_ns: u64,
        random: &mut Random,
        out: &mut Out<S>,
    ) {
        match answer {
            Answer::Appended => self.ended(at, Fate::Done(now_ns)),
            Answer::List(list) => {
                if let Some(Task::Read { key }) = &self.clients[at].task {
                    self.history.read(key, list, self.clients[at].invoked_ns, now_ns);
                }
                self.ended(at, Fate::Done(now_ns));
            }
            Answer::Rows(rows) => {
                if self.took_leg(at, rows, now_ns) {
                    // The next leg is a question of its own: what it says is as of then.
                    self.clients[at].invoked_ns = now_ns;
                    return self.ask(at, now_ns, random, out);
                }
                self.ended(at, Fate::Done(now_ns));
            }
            Answer::NotMine(map) => {
                let client = &mut self.clients[at];
                if map.version() > client.map.version() {
                    client.map = *map;
                    return self.ask(at, now_ns, random, out);
                }
                return self.again_later(at, now_ns, random, out);
            }
            Answer::Crossing => {
                if let Some(Task::Append { keys, .. }) = &self.clients[at].task {
                    let names: Vec<String> = keys.iter().map(|key| key.escape_ascii().to_string()).collect();
                    self.crossing = Some(names.join(" and "));
                }
                self.ended(at, Fate::Refused);
            }
        }
        self.think(at, now_ns, random, out);
    }

    /// The answer to a leg of a range: a read of every key that is in it, of those too that it does not name. Whether more is left to ask.
    fn took_leg(&mut self, at: usize, rows: Rows, now_ns: u64) -> bool {
        let client = &mut self.clients[at];
        let Some(Task::Range { rest, asked: Some(leg) }) = &mut client.task else { return false };
        for key in self.workload.keys.iter().filter(|key| leg.contains(&self.scheme.position(key))) {
            let list = rows.iter().find(|(name, _)| name == key).map(|(_, list)| list.clone());
            self.history.read(key, list.unwrap_or_default(), client.invoked_ns, now_ns);
        }
        match leg.high().cloned().and_then(|high| Slice::new(high, rest.high().cloned())) {
            Some(left) => {
                *rest = left;
                true
            }
            None => false,
        }
    }
}

/// Marks the token of a pause.
const AGAIN: u64 = 1 << 63;

impl<S: Scheme> Clients<Shard<S>> for PartitionClients<S> {
    fn len(&self) -> u32 {
        self.workload.clients
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out<S>) {
        self.nodes = nodes.to_vec();
        for at in 0..self.clients.len() {
            self.think(at, 0, random, out);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out<S>) {
        let at = client.0 as usize;
        if token & !AGAIN != self.clients[at].op {
            return;
        }
        if token & AGAIN != 0 {
            return match self.clients[at].task {
                Some(_) => self.ask(at, now_ns, random, out),
                None => self.begin(at, now_ns, random, out),
            };
        }
        // No answer: an append may have been done, so its element is not sent again.
        self.ended(at, Fate::Unknown);
        self.think(at, now_ns, random, out);
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: Reply<S::At>,
        random: &mut Random,
        out: &mut Out<S>,
    ) {
        let at = client.0 as usize;
        if reply.op == self.clients[at].op {
            self.answered(at, reply.answer, now_ns, random, out);
        }
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: Request<S::At>,
        random: &mut Random,
        out: &mut Out<S>,
    ) {
        let at = client.0 as usize;
        if request.op != self.clients[at].op {
            return;
        }
        if self.faults_are_over || random.chance(500_000) {
            return self.again_later(at, now_ns, random, out);
        }
        self.ended(at, Fate::Refused);
        self.think(at, now_ns, random, out);
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out<S>) {
        self.faults_are_over = true;
        let count = self.clients.len();
        for (number, key) in self.workload.keys.iter().enumerate() {
            self.clients[number % count].due.push(key.clone());
        }
        for at in 0..count {
            if self.clients[at].task.is_none() {
                self.think(at, now_ns, random, out);
            }
        }
    }

    fn satisfied(&self) -> bool {
        self.clients.iter().all(|client| client.due.is_empty() && client.task.is_none())
    }

    fn waiting_for(&self) -> String {
        let due = self.clients.iter().flat_map(|client| &client.due);
        due.map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, processes: &[&Shard<S>]) -> Result<(), Violation> {
        if let Some(keys) = &self.crossing {
            return Err(Violation::new("one-tag-one-slot", format!("{keys} have one tag, and lie apart")));
        }
        let pairs = self.workload.pairs.iter().flatten();
        for key in self.workload.keys.iter().chain(pairs) {
            let mut lists = processes.iter().filter_map(|process| process.owner().list(key));
            let Some(list) = lists.next() else {
                let detail = format!("nobody serves {}", key.escape_ascii());
                return Err(Violation::new("every-key-is-served", detail));
            };
            self.history.judge(key, list)?;
        }
        Ok(())
    }
}
