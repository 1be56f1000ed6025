//! Scenario `idempotency`: clients that send each operation again until they know what came of it, and sometimes long after; a service that
//! crashes between effect and answer and loses answers.
//!
//! Checked, from what happened: no operation has its effect twice; what was acknowledged has had its effect, exactly once, on the disk in the
//! end; every answer to an operation is the same; a ticket used for another operation is not answered with the first one's result.

use std::collections::BTreeMap;

use keypact_protocol::NodeId;
use keypact_recovery::idempotency::{Answer, Config, Refused, Ticket, Token};
use keypact_simulator::{
    ClientEffects, ClientId, Clients, FaultKind, FaultSet, Limits, MILLISECOND_NS, Random, SECOND_NS,
    Scenario, Setup, Swarm, Tally, Violation,
};

use super::failing_service::{Ask, EffectWatch, Kind, Mood, RecordLog, Reply, Service, ServiceConfig, Told};

/// Unix milliseconds at true time 0, as the simulator has it.
const WALL_START_MS: u64 = 1_704_067_200_000;
/// A client whose operation was refused so often, or not answered, gives it up.
const ATTEMPTS_MAX: u32 = 12;
const TIMEOUT: u64 = 1 << 62;

/// Tokens and sessions, alone.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyScenario;

/// One seed's faults: those of one process and its disk, and lost answers.
pub(super) fn draw_swarm(random: &mut Random) -> Swarm {
    let faults = FaultSet::of(&[
        FaultKind::ClientLoss,
        FaultKind::Crash,
        FaultKind::CrashAll,
        FaultKind::Pause,
        FaultKind::Suspend,
        FaultKind::Slow,
        FaultKind::UnsyncedLost,
        FaultKind::Torn,
        FaultKind::SlowDisk,
        FaultKind::HungDisk,
        FaultKind::FailedSync,
        FaultKind::Skew,
        FaultKind::Drift,
    ]);
    let limits = Limits {
        nodes: vec![1, 1, 2, 3],
        faults,
        safety_ns: (2 * SECOND_NS, 8 * SECOND_NS),
        ..Limits::default()
    };
    let mut swarm = Swarm::draw(&limits, random);
    if swarm.faults.has(FaultKind::ClientLoss) {
        swarm.client_loss_ppm = random.pick(&[1_000, 20_000, 100_000, 300_000]);
    }
    swarm
}

impl Scenario for IdempotencyScenario {
    type Process = Service;
    type Clients = TokenClients;
    type Observer = EffectWatch;

    fn name(&self) -> &'static str {
        "idempotency"
    }

    fn setup(&self, random: &mut Random) -> Setup<Service, TokenClients, EffectWatch> {
        let swarm = draw_swarm(random);
        let ledger = Config {
            retention_ms: random.pick(&[2_500, 6_000, 3_600_000]),
            answers_max: random.pick(&[4, 40, 10_000]),
            in_flight_max: random.pick(&[1, 8, 100]),
            waiters_max: random.pick(&[1, 4]),
            wait_max_ms: random.pick(&[20, 200, 2_000]),
            skew_max_ms: 2_000,
            sessions_max: random.pick(&[1, 4, 100]),
            session_window: random.pick(&[1, 4, 64]),
        };
        let moods = [Mood::Failing(300_000), Mood::Silent(500_000), Mood::Silent(1_000_000), Mood::Slow(20)];
        let configs = (0..swarm.nodes).map(|_| ServiceConfig::draw(ledger, &moods, random)).collect();
        let disks = (0..swarm.nodes).map(|_| RecordLog::default()).collect();
        let clients = TokenClients::draw(random);
        Setup { swarm, configs, disks, clients, observer: EffectWatch::default() }
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &[
            "answered-from-memory",
            "answer-dropped",
            "answer-kept-back",
            "compacted",
            "duplicate-gave-up",
            "duplicate-waited",
            "forgotten",
            "mismatch",
            "session-dropped",
        ]
    }
}

/// One operation, and all that its client was told.
#[derive(Debug)]
struct Operation {
    node: usize,
    kind: Kind,
    ticket: Option<Ticket>,
    acknowledged: u64,
    answer: Option<Answer>,
    attempts: u32,
}

/// A client's session with one node.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    number: u64,
    last: u64,
    answered: u64,
}

#[derive(Debug, Default)]
struct Client {
    current: Option<u64>,
    /// Begun so far, and how many attempts in all: names timeouts.
    begun: u32,
    tries: u64,
    sessions: BTreeMap<usize, Session>,
    served: bool,
    /// The operation only opens a session.
    opens: bool,
}

/// Who asks, in scenario `idempotency`.
#[derive(Debug)]
pub struct TokenClients {
    count: u32,
    operations: u32,
    think_max_ns: u64,
    timeout_ns: u64,
    /// Parts per million of operations: in a session, an old one again, another one under an old ticket.
    sequenced_ppm: u32,
    again_ppm: u32,
    reuse_ppm: u32,
    /// Parts per million of sends that are sent twice at once.
    double_ppm: u32,
    clients: Vec<Client>,
    nodes: Vec<NodeId>,
    /// By number, from 0.
    asked: Vec<Operation>,
    finishing: bool,
    violation: Option<Violation>,
    tally: Tally,
}

type Out = ClientEffects<Service>;

impl TokenClients {
    fn draw(random: &mut Random) -> TokenClients {
        let count = random.between(1, 8) as u32;
        TokenClients {
            count,
            operations: random.pick(&[50, 200]),
            think_max_ns: random.pick(&[1, 10, 100]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[5, 50, 400]) * MILLISECOND_NS,
            sequenced_ppm: random.pick(&[0, 300_000, 1_000_000]),
            again_ppm: random.pick(&[50_000, 300_000]),
            reuse_ppm: random.pick(&[0, 100_000]),
            double_ppm: random.pick(&[0, 300_000]),
            clients: (0..count).map(|_| Client::default()).collect(),
            nodes: Vec::new(),
            asked: Vec::new(),
            finishing: false,
            violation: None,
            tally: Tally::default(),
        }
    }

    fn begin(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &self.clients[id.0 as usize];
        let wants = if self.finishing { !client.served } else { client.begun < self.operations };
        if !wants || client.current.is_some() {
            return;
        }
        self.clients[id.0 as usize].begun += 1;
        self.clients[id.0 as usize].opens = false;
        let old = !self.finishing && !self.asked.is_empty() && random.chance(self.again_ppm);
        let number = if old {
            // Mostly a late one, sometimes one that is still in flight.
            let number = random.index(self.asked.len());
            self.asked[number].attempts = 0;
            number as u64
        } else {
            self.next_operation(now_ns, id, random)
        };
        self.clients[id.0 as usize].current = Some(number);
        self.send(now_ns, id, random, out);
    }

    fn next_operation(&mut self, now_ns: u64, id: ClientId, random: &mut Random) -> u64 {
        let kind = random.pick(&[Kind::Nil, Kind::Empty, Kind::Zero, Kind::Number, Kind::Number]);
        let mut node = random.index(self.nodes.len());
        let mut ticket =
            Ticket::Free(Token::new(WALL_START_MS + now_ns / MILLISECOND_NS, random_bits(random)));
        let mut acknowledged = 0;
        let client = &mut self.clients[id.0 as usize];
        if !self.finishing && random.chance(self.reuse_ppm) && !self.asked.is_empty() {
            // Someone's mistake: a ticket of another operation.
            let other = &self.asked[random.index(self.asked.len())];
            (node, ticket, acknowledged) = (other.node, other.ticket.unwrap_or(ticket), other.acknowledged);
        } else if random.chance(self.sequenced_ppm) {
            match client.sessions.get_mut(&node) {
                Some(session) => {
                    session.last += 1;
                    ticket = Ticket::Sequenced { session: session.number, sequence: session.last };
                    acknowledged = session.answered;
                }
                // Each try opens one, and with fewer places than clients they put each other's out: nobody is promised one.
                None => client.opens = !self.finishing,
            }
        }
        let ticket = Some(ticket);
        self.asked.push(Operation { node, kind, ticket, acknowledged, answer: None, attempts: 0 });
        self.asked.len() as u64 - 1
    }

    fn send(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &mut self.clients[id.0 as usize];
        let number = client.current.expect("an operation is under way");
        let operation = &mut self.asked[number as usize];
        let ask = Ask {
            operation: number,
            attempt: operation.attempts,
            kind: operation.kind,
            ticket: operation.ticket,
            acknowledged: operation.acknowledged,
            open: client.opens,
            calm: self.finishing,
        };
        operation.attempts += 1;
        client.tries += 1;
        out.request(id, self.nodes[operation.node], ask);
        if random.chance(self.double_ppm) {
            out.request(id, self.nodes[operation.node], ask);
        }
        out.wake_at(now_ns + self.timeout_ns, id, client.tries | TIMEOUT);
    }

    /// The operation under way has ended.
    fn end(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &mut self.clients[id.0 as usize];
        client.current = None;
        client.tries += 1;
        out.wake_at(now_ns + random.below(self.think_max_ns + 1), id, 0);
    }

    fn again(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &self.clients[id.0 as usize];
        let number = client.current.expect("an operation is under way");
        if self.asked[number as usize].attempts >= ATTEMPTS_MAX && !self.finishing {
            self.tally.unknown += 1;
            self.lose_session(id, number);
            return self.end(now_ns, id, random, out);
        }
        self.send(now_ns, id, random, out);
    }

    /// A number of a session is not known to be answered: the next one would leave a gap, so a new session is opened.
    fn lose_session(&mut self, id: ClientId, number: u64) {
        let node = self.asked[number as usize].node;
        self.clients[id.0 as usize].sessions.remove(&node);
    }

    fn done(&mut self, number: u64, answer: Answer) {
        let operation = &mut self.asked[number as usize];
        match &operation.answer {
            None => operation.answer = Some(answer),
            Some(first) if *first == answer => {}
            Some(first) => {
                let detail = format!("operation {number} was answered {first:?}, and then {answer:?}");
                self.violation.get_or_insert(Violation::new("same-answer", detail));
            }
        }
    }
}

fn random_bits(random: &mut Random) -> u128 {
    u128::from(random.bits()) << 64 | u128::from(random.bits())
}

impl Clients<Service> for TokenClients {
    fn len(&self) -> u32 {
        self.count
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for id in 0..self.count {
            out.wake_at(random.below(20 * MILLISECOND_NS), ClientId(id), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, id: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        if token == 0 {
            self.begin(now_ns, id, random, out);
        } else if self.clients[id.0 as usize].tries | TIMEOUT == token
            && self.clients[id.0 as usize].current.is_some()
        {
            self.again(now_ns, id, random, out);
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        id: ClientId,
        _from: NodeId,
        reply: Reply,
        random: &mut Random,
        out: &mut Out,
    ) {
        // What comes late is judged too.
        if let Told::Done(answer) = &reply.told {
            self.done(reply.operation, answer.clone());
        }
        if self.clients[id.0 as usize].current != Some(reply.operation) {
            return;
        }
        match reply.told {
            Told::Done(_) => {
                self.tally.ok += 1;
                let client = &mut self.clients[id.0 as usize];
                client.served |= self.finishing;
                let operation = &self.asked[reply.operation as usize];
                if let Some(Ticket::Sequenced { session, sequence }) = operation.ticket
                    && let Some(known) = client.sessions.get_mut(&operation.node)
                    && known.number == session
                {
                    known.answered = known.answered.max(sequence);
                }
                self.end(now_ns, id, random, out);
            }
            Told::Opened(number) => {
                let node = self.asked[reply.operation as usize].node;
                let client = &mut self.clients[id.0 as usize];
                if client.opens {
                    client.sessions.insert(node, Session { number, last: 0, answered: 0 });
                    self.end(now_ns, id, random, out);
                }
            }
            Told::Refused(Refused::TooManyInFlight | Refused::TooManyWait)
            | Told::Overloaded
            | Told::Failed
            | Told::StillInFlight => {} // The timeout sends it again.
            Told::Refused(_) | Told::Invalid => {
                self.tally.failed += 1;
                self.lose_session(id, reply.operation);
                self.end(now_ns, id, random, out);
            }
        }
    }

    fn refused(&mut self, _: u64, _: ClientId, _: NodeId, _: Ask, _: &mut Random, _: &mut Out) {
        // The timeout sends it again.
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.finishing = true;
        for id in 0..self.count {
            let client = &mut self.clients[id as usize];
            client.current = None;
            client.tries += 1;
            out.wake_at(now_ns + random.below(MILLISECOND_NS), ClientId(id), 0);
        }
    }

    fn satisfied(&self) -> bool {
        self.clients.iter().all(|client| client.served)
    }

    fn waiting_for(&self) -> String {
        let waiting = self.clients.iter().enumerate().filter(|(_, client)| !client.served);
        waiting.map(|(id, client)| format!("c{id} {:?} ", client.current)).collect()
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, processes: &[&Service]) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        for (number, operation) in self.asked.iter().enumerate() {
            let Some(answer) = &operation.answer else { continue };
            let node = self.nodes[operation.node];
            let Some(times) = Service::times(processes, node, number as u64) else { continue };
            if times != 1 {
                let detail =
                    format!("operation {number} was answered {answer:?} and had its effect {times} times");
                return Err(Violation::new("acknowledged-is-kept", detail));
            }
        }
        Ok(())
    }
}
