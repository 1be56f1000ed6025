//! Scenario `retry`: clients that retry by policy and budget, before a service that refuses, overloads, is slow, loses answers and crashes.
//!
//! Checked, from what happened, by a referee that shares no code with the policy: waits are what the formula says; what is uncertain and has
//! no token is not tried again, and so has its effect at most once; nothing permanent is tried again; no try after the deadline; retries
//! never exceed the budget's bound, and are not refused while it must have some left.

mod referee;

use keypact_protocol::NodeId;
use keypact_recovery::idempotency::{Config, Ticket, Token};
use keypact_recovery::retry::{Budget, BudgetConfig, Failure, GiveUp, Jitter, Policy, Retry};
use keypact_simulator::{
    ClientEffects, ClientId, Clients, MILLISECOND_NS, Random, Scenario, Setup, Tally, Violation,
};

use super::failing_service::{
    Ask, EffectWatch, Kind, Mood, Reached, RecordLog, Reply, Service, ServiceConfig, Told,
};
use super::idempotency::draw_swarm;
use referee::Referee;

/// Unix milliseconds at true time 0, as the simulator has it.
const WALL_START_MS: u64 = 1_704_067_200_000;
const TIMEOUT: u64 = 1 << 62;
const RETRY: u64 = 1 << 63;

/// Policy and budget, alone.
#[derive(Clone, Copy, Debug)]
pub struct RetryScenario;

fn draw_policy(random: &mut Random) -> Policy {
    let base_ns = random.pick(&[0, 1, MILLISECOND_NS, 20 * MILLISECOND_NS]);
    let retries_max = random.pick(&[0, 3, 10, 200, 200]);
    // Without any wait there is no backoff; a thousand tries at once show nothing that ten do not.
    let base_ns = if retries_max > 10 { base_ns.max(1) } else { base_ns };
    let added = Jitter::Added { jitter_ns: random.pick(&[0, MILLISECOND_NS, 30 * MILLISECOND_NS]) };
    Policy {
        base_ns,
        max_ns: base_ns.max(random.pick(&[5, 20, 100, 1_000]) * MILLISECOND_NS),
        jitter: random.pick(&[added, added, Jitter::Full, Jitter::Equal, Jitter::Decorrelated]),
        retries_max,
        deadline_ns: random.pick(&[None, None, Some(200), Some(2_000)]).map(|ms: u64| ms * MILLISECOND_NS),
    }
}

fn draw_budget(random: &mut Random) -> Option<BudgetConfig> {
    random.chance(600_000).then(|| BudgetConfig {
        ratio_ppm: random.pick(&[0, 200_000, 200_000, 1_000_000]),
        minimum_per_s: random.pick(&[0, 1, 10]),
        capacity: random.pick(&[1, 10, 100]),
    })
}

impl Scenario for RetryScenario {
    type Process = Service;
    type Clients = RetryClients;
    type Observer = (EffectWatch, Reached);

    fn name(&self) -> &'static str {
        "retry"
    }

    fn setup(&self, random: &mut Random) -> Setup<Service, RetryClients, (EffectWatch, Reached)> {
        let swarm = draw_swarm(random);
        let moods = [
            Mood::Failing(100_000),
            Mood::Failing(1_000_000),
            Mood::Failing(1_000_000),
            Mood::Silent(300_000),
            Mood::Silent(1_000_000),
            Mood::Slow(50),
        ];
        let mut configs: Vec<ServiceConfig> =
            (0..swarm.nodes).map(|_| ServiceConfig::draw(Config::default(), &moods, random)).collect();
        let disks = (0..swarm.nodes).map(|_| RecordLog::default()).collect();
        let reached = Reached::default();
        let mut clients = RetryClients::draw(reached.clone(), random);
        if random.chance(250_000) {
            clients.be_patient(random);
            configs[0].moods.push((Mood::Failing(1_000_000), 2_000 * MILLISECOND_NS));
        }
        let healthy = configs.iter().map(|config| config.healthy_ns(&swarm, 12)).max();
        clients.timeout_ns = clients.timeout_ns.max(healthy.expect("there is a service"));
        Setup { swarm, configs, disks, clients, observer: (EffectWatch::default(), reached) }
    }

    fn sometimes(&self) -> &'static [&'static str] {
        &[
            "attempt-64",
            "gave-up-budget",
            "gave-up-deadline",
            "gave-up-permanent",
            "gave-up-retries",
            "gave-up-uncertain",
            "overloaded",
            "retried-uncertain",
            "succeeded-after-retry",
            "total-failure",
        ]
    }
}

/// One operation under way.
#[derive(Debug)]
struct Current {
    number: u64,
    node: usize,
    kind: Kind,
    ticket: Option<Ticket>,
    attempt: u32,
    retry: Retry,
    /// A try is under way; else a wait is.
    asking: bool,
}

#[derive(Debug, Default)]
struct Client {
    current: Option<Current>,
    begun: u32,
    /// Names wake-ups.
    steps: u64,
    served: bool,
}

/// Who asks, in scenario `retry`.
#[derive(Debug)]
pub struct RetryClients {
    count: u32,
    operations: u32,
    think_max_ns: u64,
    timeout_ns: u64,
    tokens_ppm: u32,
    invalid_ppm: u32,
    policy: Policy,
    budget: Option<Budget>,
    clients: Vec<Client>,
    nodes: Vec<NodeId>,
    next_number: u64,
    /// Acknowledged operations, and their nodes.
    acknowledged: Vec<(u64, usize)>,
    finishing: bool,
    referee: Referee,
    reached: Reached,
    tally: Tally,
}

type Out = ClientEffects<Service>;

impl RetryClients {
    fn draw(reached: Reached, random: &mut Random) -> RetryClients {
        let count = random.between(1, 12) as u32;
        let policy = draw_policy(random);
        let budget = draw_budget(random);
        RetryClients {
            count,
            operations: random.pick(&[30, 150]),
            think_max_ns: random.pick(&[1, 10, 100]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[5, 50, 200]) * MILLISECOND_NS,
            tokens_ppm: random.pick(&[0, 500_000, 1_000_000]),
            invalid_ppm: random.pick(&[0, 20_000]),
            policy,
            budget: budget.map(|config| Budget::new(config, 0)),
            clients: (0..count).map(|_| Client::default()).collect(),
            nodes: Vec::new(),
            next_number: 0,
            acknowledged: Vec::new(),
            finishing: false,
            referee: Referee::new(policy, budget, reached.clone()),
            reached,
            tally: Tally::default(),
        }
    }

    /// Short waits, as many as an outage takes.
    fn be_patient(&mut self, random: &mut Random) {
        self.policy.base_ns = random.pick(&[1, MILLISECOND_NS]);
        self.policy.max_ns = random.pick(&[1, 5]) * MILLISECOND_NS;
        self.policy.jitter = random.pick(&[Jitter::Added { jitter_ns: MILLISECOND_NS }, Jitter::Equal]);
        self.policy.retries_max = 1_000;
        self.policy.deadline_ns = None;
        self.budget = None;
        self.referee = Referee::new(self.policy, None, self.reached.clone());
    }

    fn begin(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &self.clients[id.0 as usize];
        let wants = if self.finishing { !client.served } else { client.begun < self.operations };
        if !wants || client.current.is_some() {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let token = Token::new(WALL_START_MS + now_ns / MILLISECOND_NS, u128::from(random.bits()));
        let ticket = random.chance(self.tokens_ppm).then_some(Ticket::Free(token));
        let invalid = !self.finishing && random.chance(self.invalid_ppm);
        let current = Current {
            number,
            node: random.index(self.nodes.len()),
            kind: if invalid { Kind::Invalid } else { Kind::Number },
            ticket,
            attempt: 0,
            retry: self.policy.begin(ticket.is_some(), now_ns),
            asking: false,
        };
        if let Some(budget) = &mut self.budget {
            budget.first_try();
        }
        self.referee.begun(now_ns, number, ticket.is_some());
        let client = &mut self.clients[id.0 as usize];
        client.begun += 1;
        client.current = Some(current);
        self.send(now_ns, id, out);
    }

    fn send(&mut self, now_ns: u64, id: ClientId, out: &mut Out) {
        let client = &mut self.clients[id.0 as usize];
        let current = client.current.as_mut().expect("an operation is under way");
        let ask = Ask {
            operation: current.number,
            attempt: current.attempt,
            kind: current.kind,
            ticket: current.ticket,
            acknowledged: 0,
            open: false,
            calm: self.finishing,
        };
        current.asking = true;
        self.referee.tried(now_ns, current.number, current.attempt);
        out.request(id, self.nodes[current.node], ask);
        client.steps += 1;
        out.wake_at(now_ns + self.timeout_ns, id, client.steps | TIMEOUT);
    }

    fn failed(&mut self, now_ns: u64, id: ClientId, failure: Failure, random: &mut Random, out: &mut Out) {
        let client = &mut self.clients[id.0 as usize];
        let current = client.current.as_mut().expect("an operation is under way");
        current.asking = false;
        self.referee.failed(now_ns, current.number, failure);
        let granted = current.retry.failed(failure, self.budget.as_mut(), now_ns, random.bits());
        client.steps += 1;
        match granted {
            Ok(wait_ns) => {
                current.attempt += 1;
                self.referee.granted();
                out.wake_at(now_ns.saturating_add(wait_ns), id, client.steps | RETRY);
            }
            Err(why) => {
                self.referee.gave_up(now_ns, why);
                self.reached.add(match why {
                    GiveUp::Permanent => "gave-up-permanent",
                    GiveUp::UncertainWithoutToken => "gave-up-uncertain",
                    GiveUp::Retries => "gave-up-retries",
                    GiveUp::Deadline => "gave-up-deadline",
                    GiveUp::Budget => "gave-up-budget",
                });
                if failure == Failure::NotApplied {
                    self.tally.failed += 1;
                } else {
                    self.tally.unknown += 1;
                }
                self.end(now_ns, id, random, out);
            }
        }
    }

    fn end(&mut self, now_ns: u64, id: ClientId, random: &mut Random, out: &mut Out) {
        let client = &mut self.clients[id.0 as usize];
        client.current = None;
        client.steps += 1;
        out.wake_at(now_ns + random.below(self.think_max_ns + 1), id, 0);
    }
}

impl Clients<Service> for RetryClients {
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
        let client = &self.clients[id.0 as usize];
        if token == 0 {
            self.begin(now_ns, id, random, out);
        } else if client.current.is_none() || client.steps != token & !(TIMEOUT | RETRY) {
            // Of an earlier step.
        } else if token & RETRY != 0 {
            self.send(now_ns, id, out);
        } else {
            self.failed(now_ns, id, Failure::Uncertain, random, out);
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
        let Some(current) = &self.clients[id.0 as usize].current else { return };
        if current.number != reply.operation {
            return;
        }
        if let Told::Done(_) = reply.told {
            // Also if it answers an earlier try.
            if current.attempt > 0 {
                self.reached.add("succeeded-after-retry");
            }
            self.acknowledged.push((current.number, current.node));
            self.tally.ok += 1;
            self.referee.succeeded();
            self.clients[id.0 as usize].served |= self.finishing;
            return self.end(now_ns, id, random, out);
        }
        if current.attempt != reply.attempt || !current.asking {
            return;
        }
        let failure = match reply.told {
            Told::Invalid => Failure::Permanent,
            Told::StillInFlight | Told::Refused(_) => Failure::Uncertain,
            _ => Failure::NotApplied,
        };
        self.failed(now_ns, id, failure, random, out);
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
        let Some(current) = &self.clients[id.0 as usize].current else { return };
        if current.number == ask.operation && current.attempt == ask.attempt && current.asking {
            self.failed(now_ns, id, Failure::NotApplied, random, out);
        }
    }

    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut Out) {
        self.finishing = true;
        for id in 0..self.count {
            let client = &mut self.clients[id as usize];
            client.current = None;
            client.steps += 1;
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
        self.referee.verdict()?;
        for (number, node) in &self.acknowledged {
            if Service::times(processes, self.nodes[*node], *number) == Some(0) {
                let detail = format!("operation {number} was answered and had no effect");
                return Err(Violation::new("acknowledged-is-kept", detail));
            }
        }
        Ok(())
    }
}
