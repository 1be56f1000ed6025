//! Claims 39, 40 and 41: a service with an idempotency ledger, behind a network that loses requests and answers, that crashes.

use keypact_recovery::idempotency::{
    Answer, Begun, Config, Fingerprint, MemoryStore, Once, Refused, Replayed, Ticket, Token,
};
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const SAME: Claim = Claim {
    number: 39,
    part: "recovery",
    text: "A retry with the same token gives the same result",
    how: "1,000 operations a seed, whose results are nil, 0, empty or a counter's value; a third of requests and answers are lost, the service crashes at \
          one in ten, also between effect and answer; each is asked until answered, and then three times more. Counted: answers that differ \
          from the first, effects beyond one. Control: the same without tokens",
    measure: same,
};

pub(in crate::claims) const CHOSEN: Claim = Claim {
    number: 40,
    part: "recovery",
    text: "The token must be chosen by the client",
    how: "1,000 operations a seed over the network of claim 39. The token is drawn by the client, or by the service when it runs the operation, which \
          tells it in its answer, or by the service in a request of its own before. Counted: effects beyond one for each operation. \
          Control: no loss and no crash, the service draws",
    measure: chosen,
};

pub(in crate::claims) const IMMUTABLE: Claim = Claim {
    number: 41,
    part: "recovery",
    text: "The token must be immutable",
    how: "1,000 operations a seed over the network of claim 39; afterwards each token is used again, for another operation. Counted: those that are \
          refused, and effects of those that are not. Control: the token used again for the same operation",
    measure: immutable,
};

const OPERATIONS: u64 = 1_000;
const LOST_PPM: u32 = 333_333;
const CRASH_PPM: u32 = 100_000;
/// After so many tries a client would give up; far more than any seed needs.
const TRIES_MAX: u32 = 1_000;

/// A service: what it did is counted, and what it answered depends on what it did before.
struct Service {
    once: Once<MemoryStore, ()>,
    effects: u64,
    draws: Random,
}

/// What the client hears.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Heard {
    Answer(Answer),
    Refused(Refused),
    Nothing,
}

/// What is asked: a number, by which the kind of result is chosen.
#[derive(Clone, Copy)]
struct Operation(u64);

impl Operation {
    fn fingerprint(self) -> Fingerprint {
        Fingerprint::of(&[b"operation", &self.0.to_le_bytes()])
    }

    /// Nil, zero, empty, or how many effects there were before.
    fn answer(self, effects: u64) -> Answer {
        match self.0 % 4 {
            0 => None,
            1 => Some(b"0".to_vec()),
            2 => Some(Vec::new()),
            _ => Some(effects.to_string().into_bytes()),
        }
    }
}

impl Service {
    fn new(seed: u64) -> Service {
        let once = Once::recover(Config::default(), MemoryStore::default(), [], |_| ());
        Service { once, effects: 0, draws: Random::new(seed) }
    }

    fn draw_token(&mut self) -> Token {
        Token::new(NOW_MS, u128::from(self.draws.bits()) << 16 | u128::from(self.draws.bits() & 0xffff))
    }

    /// Runs an operation unless its token is known.
    fn ask(&mut self, operation: Operation, token: Option<Token>) -> Heard {
        let ticket = token.map(Ticket::Free);
        if let Some(ticket) = ticket {
            match self.once.begin(ticket, operation.fingerprint(), (), NOW_MS) {
                Ok(Begun::New) => {}
                Ok(Begun::Done(answer)) => return Heard::Answer(answer),
                Ok(Begun::Waits) => unreachable!("one request at a time"),
                Err(refused) => return Heard::Refused(refused),
            }
        }
        let answer = operation.answer(self.effects);
        self.once.commit(ticket, answer.clone(), vec![1]).expect("memory takes it");
        self.effects += 1;
        Heard::Answer(answer)
    }

    /// All that is not in the store goes.
    fn crash(&mut self) {
        let records: Vec<_> = self.once.store_ref().records().collect();
        let store = self.once.store_ref().clone();
        let mut effects = 0;
        self.once = Once::recover(Config::default(), store, records, |replayed| {
            effects += u64::from(matches!(replayed, Replayed::Effect(_)));
        });
        assert!(effects == self.effects, "effects are in the records");
    }
}

const NOW_MS: u64 = 1_700_000_000_000;

/// What may go wrong on the way.
struct Network {
    random: Random,
    lost_ppm: u32,
    crash_ppm: u32,
}

impl Network {
    fn new(seed: u64, faulty: bool) -> Network {
        let (lost_ppm, crash_ppm) = if faulty { (LOST_PPM, CRASH_PPM) } else { (0, 0) };
        Network { random: Random::new(seed), lost_ppm, crash_ppm }
    }

    /// One try: the request may be lost, the service may crash after it, and the answer may be lost.
    fn once(&mut self, service: &mut Service, carried_out: impl FnOnce(&mut Service) -> Heard) -> Heard {
        if self.random.chance(self.lost_ppm) {
            return Heard::Nothing;
        }
        let heard = carried_out(service);
        if self.random.chance(self.crash_ppm) {
            service.crash();
            return Heard::Nothing;
        }
        if self.random.chance(self.lost_ppm) { Heard::Nothing } else { heard }
    }

    /// Until something is heard.
    fn until_heard(&mut self, service: &mut Service, mut ask: impl FnMut(&mut Service) -> Heard) -> Heard {
        for _ in 0..TRIES_MAX {
            match self.once(service, &mut ask) {
                Heard::Nothing => {}
                heard => return heard,
            }
        }
        panic!("nothing is heard in {TRIES_MAX} tries");
    }
}

/// Answers that differ from the first, and effects beyond one for each operation.
fn repeat(seed: u64, with_token: bool) -> (u64, u64) {
    let (mut service, mut network) = (Service::new(seed), Network::new(seed, true));
    let mut different = 0;
    for number in 0..OPERATIONS {
        let token = with_token.then(|| service.draw_token());
        let first = network.until_heard(&mut service, |service| service.ask(Operation(number), token));
        for _ in 0..3 {
            let again = network.until_heard(&mut service, |service| service.ask(Operation(number), token));
            different += u64::from(again != first);
        }
    }
    (different, service.effects - OPERATIONS)
}

fn sum(effort: Effort, run: impl Fn(u64) -> (u64, u64)) -> (u64, u64) {
    effort.seeds().map(run).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

fn same(effort: Effort) -> Finding {
    let (different, doubled) = sum(effort, |seed| repeat(seed, true));
    let (bare_different, bare_doubled) = sum(effort, |seed| repeat(seed, false));
    let operations = OPERATIONS * effort.seeds;
    Finding {
        verdict: Verdict::of(different == 0 && doubled == 0),
        because: format!(
            "of {} retries {different} got another answer, and {doubled} effects happened twice",
            3 * operations
        ),
        figures: vec![
            Figure::new("operations", operations as f64, "operations"),
            Figure::new("retries with another answer", different as f64, "retries"),
            Figure::new("effects beyond one", doubled as f64, "effects"),
        ],
        control: Control {
            what: "the same without tokens".into(),
            figures: vec![
                Figure::new("retries with another answer", bare_different as f64, "retries"),
                Figure::new("effects beyond one", bare_doubled as f64, "effects"),
            ],
            differs: bare_doubled > 0 && bare_different > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chooser {
    Client,
    /// When it runs the operation; told with the answer.
    Service,
    /// In a request of its own.
    ServiceBefore,
}

/// Effects beyond one for each operation, and requests sent until all were answered.
fn doubled(seed: u64, chooser: Chooser, faulty: bool) -> (u64, u64) {
    let (mut service, mut network) = (Service::new(seed), Network::new(seed, faulty));
    let mut requests = 0;
    for number in 0..OPERATIONS {
        let mut known = None;
        match chooser {
            Chooser::Client => known = Some(service.draw_token()),
            Chooser::Service => {}
            Chooser::ServiceBefore => {
                network.until_heard(&mut service, |service| {
                    requests += 1;
                    known = Some(service.draw_token());
                    Heard::Answer(None)
                });
            }
        }
        network.until_heard(&mut service, |service| {
            requests += 1;
            // A client that has heard no token can name none; whoever asks without one is given a new one.
            let token = known.unwrap_or_else(|| service.draw_token());
            service.ask(Operation(number), Some(token))
        });
    }
    (service.effects - OPERATIONS, requests)
}

fn chosen(effort: Effort) -> Finding {
    let of = |chooser: Chooser| sum(effort, |seed| doubled(seed, chooser, true));
    let (client, by_client) = of(Chooser::Client);
    let (service, _) = of(Chooser::Service);
    let (before, by_before) = of(Chooser::ServiceBefore);
    let (calm, _) = sum(effort, |seed| doubled(seed, Chooser::Service, false));
    let operations = (OPERATIONS * effort.seeds) as f64;
    Finding {
        verdict: match (client, service, before) {
            (0, 1.., 1..) => Verdict::Holds,
            (0, 1.., 0) => Verdict::HoldsOnlyIf,
            _ => Verdict::DoesNotHold,
        },
        because: format!(
            "a token that the service draws when it runs the operation leaves {service} effects too many, one that the client draws {client}; one that \
             the service draws in a request before leaves {before}: so it must be known to the client before the operation is sent, whoever draws it"
        ),
        figures: vec![
            Figure::new("client's token: effects beyond one", client as f64, "effects"),
            Figure::new(
                "client's token: requests that arrived for each operation",
                by_client as f64 / operations,
                "requests",
            ),
            Figure::new("service's token: effects beyond one", service as f64, "effects"),
            Figure::new("service's token, asked for before: effects beyond one", before as f64, "effects"),
            Figure::new(
                "service's token, asked for before: requests that arrived for each operation",
                by_before as f64 / operations,
                "requests",
            ),
        ],
        control: Control {
            what: "no loss and no crash, the service draws".into(),
            figures: vec![Figure::new("effects beyond one", calm as f64, "effects")],
            differs: calm == 0 && service > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}

/// Tokens used again: how many are refused, and effects that came of it.
fn reused(seed: u64, for_another: bool) -> (u64, u64) {
    let (mut service, mut network) = (Service::new(seed), Network::new(seed, true));
    let mut used = Vec::new();
    for number in 0..OPERATIONS {
        let token = service.draw_token();
        network.until_heard(&mut service, |service| service.ask(Operation(number), Some(token)));
        used.push(token);
    }
    let before = service.effects;
    let mut refused = 0;
    for (number, token) in used.into_iter().enumerate() {
        let asked = Operation(number as u64 + if for_another { OPERATIONS } else { 0 });
        let heard = network.until_heard(&mut service, |service| service.ask(asked, Some(token)));
        refused += u64::from(heard == Heard::Refused(Refused::Mismatch));
    }
    (refused, service.effects - before)
}

fn immutable(effort: Effort) -> Finding {
    let (refused, effects) = sum(effort, |seed| reused(seed, true));
    let (same_refused, same_effects) = sum(effort, |seed| reused(seed, false));
    let all = OPERATIONS * effort.seeds;
    Finding {
        verdict: Verdict::of(refused == all && effects == 0),
        because: format!(
            "{refused} of {all} tokens used again for another operation are refused, with {effects} effects"
        ),
        figures: vec![
            Figure::new("used again", all as f64, "tokens"),
            Figure::new("refused", refused as f64, "tokens"),
            Figure::new("effects", effects as f64, "effects"),
        ],
        control: Control {
            what: "used again for the same operation".into(),
            figures: vec![
                Figure::new("refused", same_refused as f64, "tokens"),
                Figure::new("effects", same_effects as f64, "effects"),
            ],
            differs: same_refused == 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}
