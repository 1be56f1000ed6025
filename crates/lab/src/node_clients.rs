//! Clients of whole nodes: connections with one or more commands under way, as real clients have them.

use std::collections::VecDeque;
use std::sync::Arc;

use keypact_checker::history::Moment;
use keypact_checker::{Answer, Call, History, Operation, Outcome, Value as Told};
use keypact_data::Command;
use keypact_protocol::NodeId;
use keypact_resp::{Arguments, Value};
use keypact_simulator::{
    ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, SECOND_NS, Tally, Violation,
};

use crate::node_process::{NodeProcess, NodeReply, NodeRequest};

/// What clients do in one seed.
#[derive(Clone, Debug)]
pub struct NodeWorkload {
    /// How many clients.
    pub clients: u32,
    /// Operations that each begins in the safety phase, at most.
    pub operations: u32,
    /// Operations of one connection under way at once, at most.
    pub pipeline: usize,
    /// Between the end of an operation and the next, at most.
    pub think_max_ns: u64,
    /// An operation without an answer for so long is given up, and its connection with it.
    pub timeout_ns: u64,
    /// Reads, parts per million of all operations.
    pub reads_ppm: u32,
    /// Keys of each kind: lists, counters, registers.
    pub keys: [u16; 3],
    /// Operations on keys that expire, parts per million. What they are told depends on clocks, so it is no part of the history; but they
    /// make ticks, long frames in the log, and states that replicas must still agree on.
    pub passing_ppm: u32,
    /// Bytes added to each element of a list, so that logs and snapshots grow.
    pub padding: usize,
    /// Bytes added to each value of a register, so that records take several sectors of the log.
    pub register_padding: usize,
    /// Whether a client that is refused goes to another node: the one that it asked may not belong to the cluster.
    pub moves_on: bool,
}

impl NodeWorkload {
    /// A mix.
    #[must_use]
    pub fn draw(random: &mut Random) -> NodeWorkload {
        NodeWorkload {
            clients: random.between(1, 8) as u32,
            operations: random.pick(&[20, 80, 200]),
            pipeline: random.pick(&[1, 1, 2, 5]),
            think_max_ns: random.pick(&[0, 1, 10, 60]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[SECOND_NS, 4 * SECOND_NS]),
            reads_ppm: random.pick(&[100_000, 500_000, 800_000]),
            keys: [random.between(1, 2) as u16, random.below(2) as u16, random.below(3) as u16],
            passing_ppm: random.pick(&[0, 100_000, 300_000]),
            padding: random.pick(&[0, 10, 200]),
            register_padding: 0,
            moves_on: false,
        }
    }
}

/// What stands behind an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Work {
    Append(u64),
    Increment,
    Set(i64),
    SetIfAbsent(i64),
    GetSet(i64),
    Delete,
    Read,
    /// Sets a key of so many bytes for so many milliseconds.
    SetPassing(usize, u64),
    ReadPassing,
}

impl Work {
    fn is_passing(&self) -> bool {
        matches!(self, Work::SetPassing(..) | Work::ReadPassing)
    }
}

#[derive(Clone, Debug)]
struct Asked {
    client: u32,
    connection: u64,
    place: u64,
    key: Arc<str>,
    work: Work,
    invoked_ns: u64,
    returned_ns: Option<u64>,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Client {
    target: usize,
    connection: u64,
    next_place: u64,
    under_way: VecDeque<usize>,
    begun: u32,
    served: bool,
    reads_left: Vec<Arc<str>>,
}

/// All clients.
#[derive(Debug)]
pub struct NodeClients {
    workload: NodeWorkload,
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    asked: Vec<Asked>,
    next_element: u64,
    finishing: bool,
    /// An answer that no client should ever see.
    unexpected: Option<Violation>,
}

type Out = ClientEffects<NodeProcess>;

/// Wake-ups: begin something; or else the index of an operation that may have timed out, plus one.
const BEGIN: u64 = 0;

impl NodeClients {
    /// Clients with this work before them.
    #[must_use]
    pub fn new(workload: NodeWorkload) -> NodeClients {
        assert!(workload.clients > 0 && workload.keys[0] > 0, "someone has something to do");
        let clients = (0..workload.clients).map(|_| Client::default()).collect();
        NodeClients {
            workload,
            nodes: Vec::new(),
            clients,
            asked: Vec::new(),
            next_element: 0,
            finishing: false,
            unexpected: None,
        }
    }

    /// What was asked and told, for a checker.
    ///
    /// # Errors
    /// A violation if the record contradicts itself.
    pub fn history(&self) -> Result<History, Violation> {
        let moment = |time_ns| Moment { position: 0, time_ns: Some(time_ns), line: 0 };
        let lasting = self.asked.iter().enumerate().filter(|(_, asked)| !asked.work.is_passing());
        let operations = lasting.map(|(index, asked)| Operation {
            // Operations of one connection overlap, so each is a process of its own.
            process: index as u64,
            key: Arc::clone(&asked.key),
            call: self.call(&asked.work),
            outcome: asked.outcome.clone(),
            invoked: moment(asked.invoked_ns),
            returned: asked.returned_ns.map(moment),
        });
        History::merge(operations.collect()).map_err(|problem| Violation::new("history", problem.to_string()))
    }

    fn call(&self, work: &Work) -> Call {
        match work {
            Work::Append(element) => Call::Append(self.element(*element).into()),
            Work::Increment => Call::Add(1),
            Work::Set(value) => Call::Write(Told::text(&self.register(*value))),
            Work::SetIfAbsent(value) => Call::SetIfAbsent(Told::text(&self.register(*value))),
            Work::GetSet(value) => Call::GetSet(Told::text(&self.register(*value))),
            Work::Delete => Call::Delete,
            Work::Read => Call::Read,
            Work::SetPassing(..) | Work::ReadPassing => unreachable!("these are no part of the history"),
        }
    }

    fn element(&self, element: u64) -> String {
        format!("{element}{},", "x".repeat(self.workload.padding))
    }

    fn register(&self, value: i64) -> String {
        format!("{value}{}", "x".repeat(self.workload.register_padding))
    }

    fn all_keys(&self) -> Vec<Arc<str>> {
        let names = ["list", "counter", "register"];
        let kinds = names.iter().zip(self.workload.keys);
        kinds.flat_map(|(name, count)| (0..count).map(move |n| Arc::from(format!("{name}{n}")))).collect()
    }

    fn draw(&mut self, random: &mut Random) -> (Arc<str>, Work) {
        if random.chance(self.workload.passing_ppm) {
            let key = Arc::from(format!("passing{}", random.below(3)));
            let work = match random.below(2) {
                0 => Work::ReadPassing,
                _ => Work::SetPassing(random.pick(&[10, 700, 3_000]), random.between(1, 2_000)),
            };
            return (key, work);
        }
        let keys = self.all_keys();
        let key = Arc::clone(&keys[random.index(keys.len())]);
        if random.chance(self.workload.reads_ppm) {
            return (key, Work::Read);
        }
        let work = if key.starts_with("list") {
            self.next_append()
        } else if key.starts_with("counter") {
            Work::Increment
        } else {
            let value = random.below(6) as i64;
            match random.below(5) {
                0 => Work::SetIfAbsent(value),
                1 => Work::GetSet(value),
                2 => Work::Delete,
                _ => Work::Set(value),
            }
        };
        (key, work)
    }

    fn next_append(&mut self) -> Work {
        self.next_element += 1;
        Work::Append(self.next_element)
    }

    fn next_work(&mut self, id: ClientId, random: &mut Random) -> Option<(Arc<str>, Work)> {
        let client = &mut self.clients[id.0 as usize];
        if !self.finishing {
            let more = client.begun < self.workload.operations;
            return more.then(|| self.draw(random));
        }
        if !client.under_way.is_empty() {
            return None;
        }
        if !client.served {
            return Some((Arc::from("list0"), self.next_append()));
        }
        client.reads_left.pop().map(|key| (key, Work::Read))
    }

    fn begin(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        while self.clients[id.0 as usize].under_way.len() < self.workload.pipeline {
            let Some((key, work)) = self.next_work(id, random) else { return };
            self.send(now_ns, id, key, work, out);
            // Sometimes the next follows at once, on the same connection.
            if random.chance(300_000) {
                return;
            }
        }
    }

    fn send(&mut self, now_ns: u64, id: ClientId, key: Arc<str>, work: Work, out: &mut Out) {
        let command = self.command(&key, &work);
        let client = &mut self.clients[id.0 as usize];
        let (connection, place) = (client.connection, client.next_place);
        client.next_place += 1;
        client.begun += 1;
        client.under_way.push_back(self.asked.len());
        let target = self.nodes[client.target];
        self.asked.push(Asked {
            client: id.0,
            connection,
            place,
            key,
            work,
            invoked_ns: now_ns,
            returned_ns: None,
            outcome: Outcome::Unknown,
        });
        out.wake_at(now_ns + self.workload.timeout_ns, id, self.asked.len() as u64);
        out.request(id, target, NodeRequest { place, connection, command });
    }

    fn command(&self, key: &str, work: &Work) -> Command {
        let number = |number: &i64| vec![self.register(*number)];
        let (name, values) = match work {
            Work::Append(element) => ("APPEND", vec![self.element(*element)]),
            Work::Increment => ("INCR", Vec::new()),
            Work::Set(value) => ("SET", number(value)),
            Work::SetIfAbsent(value) => ("SETNX", number(value)),
            Work::GetSet(value) => ("GETSET", number(value)),
            Work::Delete => ("DEL", Vec::new()),
            Work::Read | Work::ReadPassing => ("GET", Vec::new()),
            Work::SetPassing(bytes, ms) => ("SET", vec!["p".repeat(*bytes), "PX".into(), ms.to_string()]),
        };
        let mut parts: Vec<&[u8]> = vec![name.as_bytes(), key.as_bytes()];
        parts.extend(values.iter().map(|value| value.as_bytes()));
        Command::parse(Arguments::from_parts(&parts)).expect("clients send commands that exist")
    }

    /// The connection is given up: what is under way on it stays unknown.
    fn reconnect(&mut self, id: ClientId, random: &mut Random) {
        let client = &mut self.clients[id.0 as usize];
        for index in client.under_way.drain(..) {
            let asked = &self.asked[index];
            if self.finishing && asked.work == Work::Read {
                client.reads_left.push(Arc::clone(&asked.key));
            }
        }
        client.connection += 1;
        client.next_place = 0;
        client.target = random.index(self.nodes.len());
    }

    /// Puts an answer down. `None` if it makes no sense for what was asked.
    fn outcome_of(&self, work: &Work, value: &Value) -> Option<Outcome> {
        let told = |bytes: &[u8]| Told::text(&String::from_utf8_lossy(bytes));
        let answer = match (work, value) {
            (_, Value::Error(error)) => {
                return match &*error.code {
                    "CLUSTERDOWN" | "TRYAGAIN" => Some(Outcome::Failed),
                    "UNCERTAIN" => Some(Outcome::Unknown),
                    _ => None,
                };
            }
            (Work::Append(_) | Work::Increment, Value::Integer(number)) => Answer::Integer(*number),
            (Work::ReadPassing, Value::Bulk(_) | Value::Null) => Answer::Nothing,
            (Work::Set(_) | Work::SetPassing(..), value) if value.is_ok() => Answer::Nothing,
            (Work::SetIfAbsent(_), Value::Integer(number)) => Answer::Applied(*number == 1),
            (Work::Delete, Value::Integer(number)) => Answer::Integer(*number),
            (Work::GetSet(_) | Work::Read, Value::Bulk(bytes)) => Answer::Value(told(bytes)),
            (Work::GetSet(_) | Work::Read, Value::Null) => Answer::Value(Told::Nil),
            _ => return None,
        };
        Some(Outcome::Ok(answer))
    }

    /// Lists in their final state: what was acknowledged is there, once, in each connection's order; what was refused is not.
    fn judge_list(&self, key: &str, content: &str) -> Result<(), Violation> {
        let mut places = std::collections::BTreeMap::new();
        for (at, element) in content.split_terminator(',').enumerate() {
            let number: u64 = element.trim_end_matches('x').parse().unwrap_or(0);
            if places.insert(number, at).is_some() {
                return Err(Violation::new("applied-once", format!("{key} has element {number} twice")));
            }
        }
        let mut last: std::collections::BTreeMap<(u32, u64), (u64, usize)> =
            std::collections::BTreeMap::new();
        for asked in self.asked.iter().filter(|asked| &*asked.key == key) {
            let Work::Append(element) = asked.work else { continue };
            match (&asked.outcome, places.get(&element)) {
                (Outcome::Ok(_), None) => {
                    return Err(Violation::new("acknowledged-is-kept", format!("{asked:?} is lost")));
                }
                (Outcome::Failed, Some(_)) => {
                    return Err(Violation::new("refused-is-not-applied", format!("{asked:?} is there")));
                }
                (_, Some(at)) => {
                    let stream = (asked.client, asked.connection);
                    let before = last.insert(stream, (asked.place, *at));
                    if before.is_some_and(|(_, earlier)| earlier > *at) {
                        let detail = format!("{asked:?} overtook one of the same connection");
                        return Err(Violation::new("connection-order", detail));
                    }
                }
                _ => {}
            }
        }
        self.judge_own_writes(key)
    }

    /// A read sees what was acknowledged of its own connection before it.
    fn judge_own_writes(&self, key: &str) -> Result<(), Violation> {
        let mut least: std::collections::BTreeMap<(u32, u64), i64> = std::collections::BTreeMap::new();
        for asked in self.asked.iter().filter(|asked| &*asked.key == key) {
            let stream = (asked.client, asked.connection);
            match (&asked.work, &asked.outcome) {
                (Work::Append(_), Outcome::Ok(Answer::Integer(length))) => {
                    least.insert(stream, *length);
                }
                (Work::Read, Outcome::Ok(Answer::Value(value))) => {
                    let length = if let Told::Text(text) = value { text.len() as i64 } else { 0 };
                    if least.get(&stream).is_some_and(|least| length < *least) {
                        let detail = format!("{asked:?} does not see a write of its own connection");
                        return Err(Violation::new("connection-order", detail));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Clients<NodeProcess> for NodeClients {
    fn len(&self) -> u32 {
        self.workload.clients
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for id in 0..self.workload.clients {
            self.clients[id as usize].target = random.index(nodes.len());
            out.wake_at(random.below(50 * MILLISECOND_NS), ClientId(id), BEGIN);
        }
    }

    fn wake(&mut self, now_ns: u64, client: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        if token != BEGIN {
            let index = usize::try_from(token - 1).expect("an index");
            if !self.clients[client.0 as usize].under_way.contains(&index) {
                return;
            }
            self.reconnect(client, random);
        }
        self.begin(now_ns, client, random, out);
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        from: NodeId,
        reply: NodeReply,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if state.connection != reply.connection || self.nodes[state.target] != from {
            return;
        }
        let found = state.under_way.iter().position(|index| self.asked[*index].place == reply.place);
        let Some(at) = found else { return };
        let index = state.under_way.remove(at).expect("its position was just found");
        let Some(outcome) = self.outcome_of(&self.asked[index].work, &reply.value) else {
            let detail = format!("{:?} was answered {:?}", self.asked[index], reply.value);
            self.unexpected = Some(Violation::new("answers-make-sense", detail));
            return;
        };
        let asked = &mut self.asked[index];
        asked.returned_ns = (outcome != Outcome::Unknown).then_some(now_ns);
        asked.outcome = outcome;
        let state = &mut self.clients[client.0 as usize];
        let done = matches!(asked.outcome, Outcome::Ok(_));
        state.served |= self.finishing && done && asked.work != Work::Read;
        if self.finishing && !done && asked.work == Work::Read {
            state.reads_left.push(Arc::clone(&asked.key));
        }
        let refused = self.asked[index].outcome == Outcome::Failed;
        if refused && self.workload.moves_on && self.clients[client.0 as usize].under_way.is_empty() {
            self.reconnect(client, random);
        }
        let think_ns = random.below(self.workload.think_max_ns + 1);
        let rest_ns = if done { think_ns } else { think_ns.max(20 * MILLISECOND_NS) };
        out.wake_at(now_ns + rest_ns, client, BEGIN);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        by: NodeId,
        request: NodeRequest,
        random: &mut Random,
        out: &mut Out,
    ) {
        let state = &mut self.clients[client.0 as usize];
        if state.connection != request.connection || self.nodes[state.target] != by {
            return;
        }
        // Nobody took this one; what went before it on the connection may have been taken.
        let found = state.under_way.iter().position(|index| self.asked[*index].place == request.place);
        if let Some(index) = found.and_then(|at| state.under_way.remove(at)) {
            let asked = &mut self.asked[index];
            asked.outcome = Outcome::Failed;
            asked.returned_ns = Some(now_ns);
            if self.finishing && asked.work == Work::Read {
                state.reads_left.push(Arc::clone(&asked.key));
            }
        }
        self.reconnect(client, random);
        out.wake_at(now_ns + random.between(1, 40) * MILLISECOND_NS, client, BEGIN);
    }

    fn liveness_begins(&mut self, now_ns: u64, _random: &mut Random, out: &mut Out) {
        self.finishing = true;
        self.clients[0].reads_left = self.all_keys();
        for id in 0..self.workload.clients {
            out.wake_at(now_ns, ClientId(id), BEGIN);
        }
    }

    fn satisfied(&self) -> bool {
        self.finishing
            && self.clients.iter().all(|c| c.served && c.reads_left.is_empty() && c.under_way.is_empty())
    }

    fn waiting_for(&self) -> String {
        let waiting = self.clients.iter().enumerate().filter(|(_, client)| !client.served);
        let waiting: Vec<String> = waiting
            .map(|(id, client)| {
                let under_way: Vec<&Asked> = client.under_way.iter().map(|at| &self.asked[*at]).collect();
                format!("c{id} at {} with {under_way:?}", self.nodes[client.target])
            })
            .collect();
        if waiting.is_empty() { "final reads".into() } else { waiting.join(", ") }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for asked in &self.asked {
            match asked.outcome {
                Outcome::Ok(_) => tally.ok += 1,
                Outcome::Failed => tally.failed += 1,
                Outcome::Unknown => tally.unknown += 1,
            }
        }
        tally
    }

    fn judge(&self, processes: &[&NodeProcess]) -> Result<(), Violation> {
        if let Some(violation) = &self.unexpected {
            return Err(violation.clone());
        }
        let Some(process) = processes.first() else {
            return Err(Violation::new("liveness", "no process is left"));
        };
        let partition = process.node().partition();
        for key in self.all_keys().iter().filter(|key| key.starts_with("list")) {
            let value = partition.read(partition.applied_stamp_ms(), &self.command(key, &Work::Read));
            let content = value.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            self.judge_list(key, &content.unwrap_or_default())?;
        }
        Ok(())
    }
}
