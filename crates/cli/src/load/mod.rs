//! Clients that read and write under their own eyes: each records what it asked, what it was told, and when.
//!
//! What they write is chosen so that a loss can be counted without a checker too: keys that are set once, increments, and appended
//! words that nobody writes twice. Keys are left behind after a while, so that no key's history gets too long for a checker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keypact_checker::history::Moment;
use keypact_checker::{Answer, Call, Operation, Outcome as Told, Value as Kept};
use keypact_client::{ClientError, Connection, Outcome, Timeouts, Value};

/// Operations after which the clients go on to new keys.
const OPERATIONS_PER_GENERATION: u64 = 4_000;
/// Registers of a generation; and half as many counters and texts each.
const REGISTERS: u64 = 8;
/// Reads that are under way together at the end.
const READS_AT_ONCE: usize = 256;
/// A client that was refused, or found nobody, waits so long before it goes on.
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than a node holds a command, so that its own word comes first.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What all clients share.
pub(crate) struct Load {
    addresses: Vec<String>,
    password: Option<String>,
    /// Set to end the clients.
    pub(crate) stop: AtomicBool,
    start: Instant,
    next_process: AtomicU64,
    operations: AtomicU64,
    operations_max: u64,
    /// When the last write was acknowledged, nanoseconds since the start.
    last_write_ns: AtomicU64,
}

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// All that was asked.
    pub(crate) operations: Vec<Operation>,
    /// Times of acknowledged operations, microseconds.
    pub(crate) latencies_us: Vec<u64>,
    /// When writes were acknowledged, nanoseconds since the load's start.
    pub(crate) writes_ns: Vec<u64>,
    /// What it was told is written.
    pub(crate) promised: Promised,
}

/// Acknowledged writes, to be found again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    /// Keys set once, and to what.
    pub(crate) once: Vec<(String, String)>,
    /// Acknowledged increments of a counter.
    pub(crate) increments: BTreeMap<String, i64>,
    /// Words appended to a text.
    pub(crate) words: BTreeMap<String, Vec<String>>,
}

impl Promised {
    /// Takes another client's in.
    pub(crate) fn add(&mut self, other: Promised) {
        self.once.extend(other.once);
        for (key, count) in other.increments {
            *self.increments.entry(key).or_default() += count;
        }
        for (key, words) in other.words {
            self.words.entry(key).or_default().extend(words);
        }
    }

    /// How many of these writes are not in what is there at the end. A key set more than once can't be judged so: the checker does.
    pub(crate) fn lost(&self, found: &BTreeMap<String, Kept>) -> u64 {
        let text = |key: &str| match found.get(key) {
            Some(Kept::Text(text)) => &**text,
            _ => "",
        };
        let once = self.once.iter().filter(|(key, value)| text(key) != value).count() as u64;
        let increments = self.increments.iter().map(|(key, promised)| {
            let there = text(key).parse::<i64>().unwrap_or(0);
            u64::try_from(promised.saturating_sub(there)).unwrap_or(0)
        });
        let words = self.words.iter().map(|(key, words)| {
            let there: std::collections::BTreeSet<&str> = text(key).split(';').collect();
            words.iter().filter(|word| !there.contains(word.as_str())).count() as u64
        });
        once + increments.sum::<u64>() + words.sum::<u64>()
    }
}

/// One thing to do.
struct Step {
    key: String,
    call: Call,
    arguments: [Vec<u8>; 3],
    count: usize,
}

impl Step {
    fn new(key: String, call: Call, name: &str, value: Option<&str>) -> Step {
        let count = if value.is_some() { 3 } else { 2 };
        let arguments = [
            name.as_bytes().to_vec(),
            key.as_bytes().to_vec(),
            value.unwrap_or_default().as_bytes().to_vec(),
        ];
        Step { key, call, arguments, count }
    }

    fn arguments(&self) -> Vec<&[u8]> {
        self.arguments[..self.count].iter().map(Vec::as_slice).collect()
    }
}

/// A generator for choosing keys (xorshift64*, Vigna 2016); nothing depends on its quality.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

impl Load {
    /// Clients of these nodes, which do at most so many operations in all.
    pub(crate) fn new(addresses: Vec<String>, password: Option<String>, operations_max: u64) -> Load {
        assert!(!addresses.is_empty(), "clients have a node to talk to");
        Load {
            addresses,
            password,
            stop: AtomicBool::new(false),
            start: Instant::now(),
            next_process: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            operations_max,
            last_write_ns: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the last write was acknowledged, nanoseconds since the start; 0 if none was.
    pub(crate) fn last_write_ns(&self) -> u64 {
        self.last_write_ns.load(Ordering::Relaxed)
    }

    /// Operations begun so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs one client on this thread until it is stopped.
    pub(crate) fn client(&self, client: usize, seed: u64) -> Recorded {
        let mut dice = Dice(seed | 1);
        let mut recorded = Recorded::default();
        let mut node = client % self.addresses.len();
        let mut process = self.process();
        let mut connection = None;
        let mut number = 0;
        while !self.stopped() {
            let Some(open) = &mut connection else {
                connection = self.connect(node);
                if connection.is_none() {
                    node = (node + 1) % self.addresses.len();
                    thread::sleep(PAUSE);
                }
                continue;
            };
            let total = self.operations.fetch_add(1, Ordering::Relaxed);
            if total >= self.operations_max {
                break;
            }
            number += 1;
            let step = step(&mut dice, total / OPERATIONS_PER_GENERATION, client, number);
            let asked = self.now_ns();
            let result = open.call(&step.arguments());
            let outcome = recorded.take(process, step, asked, self.now_ns(), &result);
            if let Some(last) = recorded.writes_ns.last() {
                self.last_write_ns.fetch_max(*last, Ordering::Relaxed);
            }
            if result.is_err() {
                connection = None;
                node = (node + 1) % self.addresses.len();
            }
            match outcome {
                Outcome::Applied => {}
                Outcome::NotApplied => thread::sleep(PAUSE),
                // What is uncertain may still be running: its process never asks again.
                Outcome::Uncertain => process = self.process(),
            }
        }
        recorded
    }

    fn process(&self) -> u64 {
        self.next_process.fetch_add(1, Ordering::Relaxed)
    }

    fn connect(&self, node: usize) -> Option<Connection> {
        let timeouts = Timeouts { connect: Duration::from_millis(500), answer: ANSWER_LIMIT };
        let mut connection = Connection::open(&self.addresses[node], timeouts).ok()?;
        if let Some(password) = &self.password {
            connection.auth(password).ok()?;
        }
        Some(connection)
    }

    /// Reads all these keys once more, as many at a time as go into one pipeline; what was read, and the reads for the history.
    ///
    /// # Errors
    /// The node does not answer, or refuses.
    pub(crate) fn read_back(
        &self,
        node: usize,
        keys: &[String],
    ) -> Result<(BTreeMap<String, Kept>, Vec<Operation>), String> {
        let mut connection =
            self.connect(node).ok_or_else(|| format!("{} does not answer", self.addresses[node]))?;
        let mut found = BTreeMap::new();
        let mut operations = Vec::with_capacity(keys.len());
        for batch in keys.chunks(READS_AT_ONCE) {
            let asked = self.now_ns();
            let said = |error: ClientError| error.to_string();
            for key in batch {
                connection.send(&[b"GET", key.as_bytes()]).map_err(said)?;
            }
            connection.flush().map_err(said)?;
            for key in batch {
                let kept = match connection.receive().map_err(said)? {
                    Value::Null => Kept::Nil,
                    Value::Bulk(bytes) => Kept::text(&String::from_utf8_lossy(&bytes)),
                    other => return Err(format!("GET {key}: {other:?}")),
                };
                let outcome = Told::Ok(Answer::Value(kept.clone()));
                operations.push(operation(
                    self.process(),
                    key,
                    Call::Read,
                    outcome,
                    asked,
                    Some(self.now_ns()),
                ));
                found.insert(key.clone(), kept);
            }
        }
        assert_eq!(operations.len(), keys.len(), "one read for each key");
        Ok((found, operations))
    }
}

fn operation(process: u64, key: &str, call: Call, outcome: Told, asked: u64, told: Option<u64>) -> Operation {
    let moment = |time| Moment { position: 0, time_ns: Some(time), line: 0 };
    Operation { process, key: key.into(), call, outcome, invoked: moment(asked), returned: told.map(moment) }
}

/// The next thing to do: 40 % reads, 20 % overwrites, 15 % increments, 15 % appends, 10 % keys set once.
fn step(dice: &mut Dice, generation: u64, client: usize, number: u64) -> Step {
    let register = format!("register-{generation}-{}", dice.below(REGISTERS));
    let counter = format!("counter-{generation}-{}", dice.below(REGISTERS / 2));
    let text = format!("text-{generation}-{}", dice.below(REGISTERS / 2));
    let value = format!("{client}.{number}");
    match dice.below(100) {
        0..20 => Step::new(register, Call::Read, "GET", None),
        20..30 => Step::new(counter, Call::Read, "GET", None),
        30..40 => Step::new(text, Call::Read, "GET", None),
        40..60 => Step::new(register, Call::Write(Kept::text(&value)), "SET", Some(&value)),
        60..75 => Step::new(counter, Call::Add(1), "INCR", None),
        75..90 => {
            let word = format!("{value};");
            Step::new(text, Call::Append(word.as_str().into()), "APPEND", Some(&word))
        }
        _ => Step::new(format!("once-{value}"), Call::Write(Kept::text(&value)), "SET", Some(&value)),
    }
}

impl Recorded {
    /// Notes how one step ended.
    fn take(
        &mut self,
        process: u64,
        step: Step,
        asked: u64,
        told: u64,
        result: &Result<Value, ClientError>,
    ) -> Outcome {
        assert!(asked <= told, "the clock is monotonic");
        let outcome = Outcome::of_call(result);
        let recorded = match (outcome, result) {
            (Outcome::Applied, Ok(reply)) => {
                self.latencies_us.push((told - asked) / 1_000);
                if step.call != Call::Read {
                    self.writes_ns.push(told);
                    self.promise(&step);
                }
                Told::Ok(answer(&step.call, reply))
            }
            (Outcome::NotApplied, _) => Told::Failed,
            _ => Told::Unknown,
        };
        self.operations.push(operation(process, &step.key, step.call, recorded, asked, Some(told)));
        outcome
    }

    fn promise(&mut self, step: &Step) {
        match &step.call {
            Call::Write(Kept::Text(value)) if step.key.starts_with("once-") => {
                self.promised.once.push((step.key.clone(), value.to_string()));
            }
            Call::Add(by) => *self.promised.increments.entry(step.key.clone()).or_default() += by,
            Call::Append(word) => {
                let word = word.trim_end_matches(';').to_owned();
                self.promised.words.entry(step.key.clone()).or_default().push(word);
            }
            _ => {}
        }
    }
}

/// What a reply told about the data. One of another shape than the command's is recorded as it is, for the checker to object.
fn answer(call: &Call, reply: &Value) -> Answer {
    match (call, reply) {
        (Call::Write(_), reply) if reply.is_ok() => Answer::Nothing,
        (_, Value::Null) => Answer::Value(Kept::Nil),
        (_, Value::Integer(number)) => Answer::Integer(*number),
        (_, Value::Bulk(bytes)) => Answer::Value(Kept::text(&String::from_utf8_lossy(bytes))),
        (_, other) => Answer::Value(Kept::text(&format!("{other:?}"))),
    }
}

/// The longest time without an acknowledged write, of those that end after `from_ns`; what comes after the last write counts, up to `end_ns`.
pub(crate) fn longest_gap_ns(writes_ns: &mut [u64], from_ns: u64, end_ns: u64) -> u64 {
    writes_ns.sort_unstable();
    let ends = writes_ns.iter().copied().skip(1).chain([end_ns]);
    let gaps = writes_ns.iter().zip(ends).filter(|(_, end)| *end >= from_ns);
    gaps.map(|(start, end)| end.saturating_sub(*start)).max().unwrap_or(end_ns)
}

/// The value that a share of the values (0 to 1) does not exceed; 0 of none. `values` are sorted by this.
pub(crate) fn quantile(values: &mut [u64], share: f64) -> u64 {
    assert!((0.0..=1.0).contains(&share), "a share is from 0 to 1");
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
