//! Scenario `circuit-breaker`: clients of one caller that ask each service through its breaker, while services fail, are slow, fall silent and
//! crash.
//!
//! Checked, from what happened, by a referee for each service that keeps every result and counts anew each time: a breaker opens when, and
//! only when, a rate was at or above its threshold for the duration; open, it lets nothing through before the cool-down is over; half-open,
//! no more than its probes; their results decide, and nothing else; in the end, with the services well, all breakers are closed.

mod referee;

use keypact_protocol::NodeId;
use keypact_recovery::circuit_breaker::{Breakers, Config, KeyedPermit, Outcome, State, WindowKind};
use keypact_recovery::idempotency;
use keypact_simulator::{
    ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, Scenario, Setup, Tally, Violation,
};

use super::failing_service::{
    Ask, EffectWatch, Kind, Mood, Reached, RecordLog, Reply, Service, ServiceConfig, Told,
};
use super::idempotency::draw_swarm;
use referee::{Referee, Seen};

const TIMEOUT: u64 = 1 << 62;

/// Breakers, alone.
#[derive(Clone, Copy, Debug)]
pub struct CircuitBreakerScenario;

fn draw_config(healthy_ns: u64, random: &mut Random) -> Config {
    let calls = random.pick(&[1, 4, 10, 33, 100]);
    let count = WindowKind::Count { calls };
    let time = WindowKind::Time {
        buckets: random.pick(&[1, 4, 10]),
        bucket_ns: random.pick(&[20, 100, 500]) * MILLISECOND_NS,
    };
    let window = random.pick(&[count, time]);
    let most = if window == count { calls } else { 30 };
    Config {
        error_rate_percent: random.pick(&[1, 20, 50, 100]),
        slow_rate_percent: random.pick(&[30, 100]),
        slow_call_ns: random.pick(&[None, Some(healthy_ns), Some(3 * healthy_ns)]),
        window,
        minimum_calls: random.between(1, u64::from(most)) as u32,
        duration_ns: random.pick(&[0, 0, 20, 200]) * MILLISECOND_NS,
        cool_down_ns: random.pick(&[10, 100, 500]) * MILLISECOND_NS,
        probes: random.pick(&[1, 1, 3, 10]),
        probe_timeout_ns: healthy_ns.max(random.pick(&[100, 600]) * MILLISECOND_NS),
        events_max: random.pick(&[0, 1, 32]),
    }
}

impl Scenario for CircuitBreakerScenario {
    type Process = Service;
    type Clients = BreakerClients;
    type Observer = (EffectWatch, Reached);

    fn name(&self) -> &'static str {
        "circuit-breaker"
    }

    fn setup(&self, random: &mut Random) -> Setup<Service, BreakerClients, (EffectWatch, Reached)> {
        let swarm = draw_swarm(random);
        let moods = [
            Mood::Failing(500_000),
            Mood::Failing(1_000_000),
            Mood::Silent(500_000),
            Mood::Silent(1_000_000),
            Mood::Slow(20),
        ];
        let ledger = idempotency::Config::default();
        let mut configs: Vec<_> =
            (0..swarm.nodes).map(|_| ServiceConfig::draw(ledger, &moods, random)).collect();
        for config in &mut configs {
            // All probes at once are no overload; else a breaker that wants many could never close.
            config.queue_max = config.queue_max.max(16);
        }
        let healthy = configs.iter().map(|config| config.healthy_ns(&swarm, 12)).max();
        let healthy_ns = healthy.expect("there is a service");
        let disks = (0..swarm.nodes).map(|_| RecordLog::default()).collect();
        let reached = Reached::default();
        let clients = BreakerClients::draw(swarm.nodes, healthy_ns, reached.clone(), random);
        Setup { swarm, configs, disks, clients, observer: (EffectWatch::default(), reached) }
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &[
            "closed-again",
            "ignored",
            "late",
            "opened",
            "opened-after-duration",
            "opened-by-slowness",
            "probe-failed",
            "probes-timed-out",
            "rejected-half-open",
            "rejected-open",
        ]
    }
}

/// One call under way.
#[derive(Debug)]
struct Call {
    number: u64,
    node: usize,
    permit: KeyedPermit,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Client {
    call: Option<Call>,
    begun: u32,
    /// Names wake-ups.
    steps: u64,
}

/// Who asks, in scenario `circuit-breaker`.
#[derive(Debug)]
pub struct BreakerClients {
    operations: u32,
    think_max_ns: u64,
    timeout_ns: u64,
    invalid_ppm: u32,
    /// Calls given up by their caller, parts per million.
    cancel_ppm: u32,
    breakers: Breakers<usize>,
    referees: Vec<Referee>,
    clients: Vec<Client>,
    nodes: Vec<NodeId>,
    next_number: u64,
    finishing: bool,
    /// Since faults were over: calls that each service has answered.
    served: Vec<u32>,
    reached: Reached,
    tally: Tally,
}

type Out = ClientEffects<Service>;

impl BreakerClients {
    fn draw(nodes: usize, healthy_ns: u64, reached: Reached, random: &mut Random) -> BreakerClients {
        let config = draw_config(healthy_ns, random);
        let clients = random.between(1, 12) as usize;
        BreakerClients {
            operations: random.pick(&[200, 1_000]),
            think_max_ns: random.pick(&[1, 10, 50]) * MILLISECOND_NS,
            timeout_ns: healthy_ns.max(random.pick(&[20, 100, 400]) * MILLISECOND_NS),
            invalid_ppm: random.pick(&[0, 50_000]),
            cancel_ppm: random.pick(&[0, 20_000]),
            breakers: Breakers::new(config, nodes).expect("only settings that hold are drawn"),
            referees: (0..nodes).map(|_| Referee::new(config, reached.clone())).collect(),
            clients: (0..clients).map(|_| Client::default()).collect(),
            nodes: Vec::new(),
            next_number: 0,
            finishing: false,
            served: vec![0; nodes],
            reached,
            tally: Tally::default(),
        }
    }

    fn state(&self, node: usize) -> State {
        self.breakers.breaker(&node).map_or(State::Closed, |breaker| breaker.state())
    }

    fn well(&self, node: usize) -> bool {
        self.served[node] > 0 && self.state(node) == State::Closed
    }

    fn begin(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &self.clients[id.0 as usize];
        let wants = self.finishing || client.begun < self.operations;
        if !wants || client.call.is_some() || (self.finishing && self.satisfied()) {
            return;
        }
        let node = random.index(self.nodes.len());
        self.clients[id.0 as usize].begun += 1;
        let before = self.state(node);
        let admitted = self.breakers.admit(&node, now_ns);
        let after = self.state(node);
        match admitted {
            Err(_) => {
                self.referees[node].rejected(now_ns, before, after);
                self.reached.add(if after == State::Open { "rejected-open" } else { "rejected-half-open" });
                self.tally.failed += 1;
                self.pause(now_ns, id, random, out);
            }
            Ok(permit) => {
                let seen = self.referees[node].admitted(now_ns, before, after);
                let invalid = !self.finishing && random.chance(self.invalid_ppm);
                let ask = Ask {
                    operation: self.next_number,
                    attempt: 0,
                    kind: if invalid { Kind::Invalid } else { Kind::Nil },
                    ticket: None,
                    acknowledged: 0,
                    open: false,
                    calm: self.finishing,
                };
                self.next_number += 1;
                out.request(id, self.nodes[node], ask);
                let client = &mut self.clients[id.0 as usize];
                client.call = Some(Call { number: ask.operation, node, permit, seen });
                client.steps += 1;
                out.wake_at(now_ns + self.timeout_ns, id, client.steps | TIMEOUT);
            }
        }
    }

    fn end(&mut self, now_ns: u64, id: ClientId, outcome: Outcome, random: &mut Random, out: &mut Out) {
        let call = self.clients[id.0 as usize].call.take().expect("a call is under way");
        // Its caller has lost interest: that says nothing about the service.
        let outcome =
            if !self.finishing && random.chance(self.cancel_ppm) { Outcome::Ignored } else { outcome };
        let before = self.state(call.node);
        self.breakers.record(call.permit, outcome, now_ns);
        let after = self.state(call.node);
        self.referees[call.node].recorded(now_ns, call.seen, outcome, before, after);
        if outcome == Outcome::Success {
            self.tally.ok += 1;
            self.served[call.node] += u32::from(self.finishing);
        } else {
            self.tally.unknown += 1;
        }
        self.pause(now_ns, id, random, out);
    }

    fn pause(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        self.clients[id.0 as usize].steps += 1;
        out.wake_at(now_ns + random.below(self.think_max_ns + 1), id, 0);
    }

    fn satisfied(&self) -> bool {
        (0..self.served.len()).all(|node| self.well(node))
    }
}

impl Clients<Service> for BreakerClients {
    fn len(&self) -> u32 {
        self.clients.len() as u32
    }

    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for id in 0..self.clients.len() as u32 {
            out.wake_at(random.below(20 * MILLISECOND_NS), ClientId(id), 0);
        }
    }

    fn wake(&mut self, now_ns: u64, id: ClientId, token: u64, random: &mut Random, out: &mut Out) {
        let client = &self.clients[id.0 as usize];
        if token == 0 {
            self.begin(now_ns, id, random, out);
        } else if client.call.is_some() && client.steps | TIMEOUT == token {
            self.end(now_ns, id, Outcome::Error, random, out);
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
        if self.clients[id.0 as usize].call.as_ref().is_none_or(|call| call.number != reply.operation) {
            return;
        }
        let outcome = match reply.told {
            Told::Done(_) => Outcome::Success,
            Told::Invalid => Outcome::Ignored,
            _ => Outcome::Error,
        };
        self.end(now_ns, id, outcome, random, out);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        id: ClientId,
        _: NodeId,
        ask: Ask,
        random: &mut Random,
        out: &mut Out,
    ) {
        if self.clients[id.0 as usize].call.as_ref().is_some_and(|call| call.number == ask.operation) {
            self.end(now_ns, id, Outcome::Error, random, out);
        }
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.finishing = true;
        for id in 0..self.clients.len() as u32 {
            out.wake_at(now_ns + random.below(MILLISECOND_NS), ClientId(id), 0);
        }
    }

    fn satisfied(&self) -> bool {
        BreakerClients::satisfied(self)
    }

    fn waiting_for(&self) -> String {
        let waiting = (0..self.served.len()).filter(|node| !self.well(*node));
        waiting.map(|node| format!("n{} {} ", node + 1, self.state(node))).collect()
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, _processes: &[&Service]) -> Result<(), Violation> {
        self.referees.iter().try_for_each(Referee::verdict)
    }
}
