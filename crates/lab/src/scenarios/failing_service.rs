//! The service that scenarios `idempotency`, `retry` and `circuit-breaker` ask: it crashes, loses answers, has bad phases, and is slow.
//!
//! It takes one request at a time from a bounded queue. An operation's effect and answer are one record on a simulated disk; the answer
//! leaves when the record is durable. What it has applied, it lists: who watches can count.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use keypact_protocol::{Context, DecodeError, NodeId, Wire};
use keypact_recovery::idempotency::{
    Answer, Begun, Config, Fingerprint, Never, Once, Record, Refused, Replayed, Store, Ticket,
};
use keypact_simulator::{
    ClientId, Counters, Disk, DiskWork, Effects, Loss, MILLISECOND_NS, Observer, Process, ProcessInput,
    Random, StartRefused, Swarm, Violation,
};

/// Services say nothing to each other.
#[derive(Clone, Debug)]
pub enum Silence {}

impl Wire for Silence {
    fn encode(&self, _out: &mut Vec<u8>) {
        match *self {}
    }

    fn decode(_bytes: Bytes) -> Result<Silence, DecodeError> {
        Err(DecodeError::new("a message between services, of which there is none"))
    }
}

/// What an operation answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing.
    Nil,
    /// No bytes.
    Empty,
    /// The text `0`.
    Zero,
    /// How many operations have had an effect so far: another number in each run.
    Number,
    /// That it can't be done, and has no effect.
    Invalid,
}

/// One try of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The operation: its effect is that this number is listed.
    pub operation: u64,
    /// Which try, counted from 0.
    pub attempt: u32,
    /// What it answers.
    pub kind: Kind,
    /// Its ticket, if it has one.
    pub ticket: Option<Ticket>,
    /// All operations of its session up to here have been answered.
    pub acknowledged: u64,
    /// Opens a session instead.
    pub open: bool,
    /// Bad phases are over.
    pub calm: bool,
}

impl Ask {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&[&self.operation.to_le_bytes(), &[self.kind as u8]])
    }
}

/// What a client is told about one try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The operation,
    pub operation: u64,
    /// and the try that is answered.
    pub attempt: u32,
    /// What.
    pub told: Told,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// It has had its effect; its answer.
    Done(Answer),
    /// A session was opened.
    Opened(u64),
    /// The queue is full. Not applied.
    Overloaded,
    /// A bad phase. Not applied.
    Failed,
    /// It would always fail.
    Invalid,
    /// By the ledger.
    Refused(Refused),
    /// It is in flight, and the wait for it was given up.
    StillInFlight,
}

/// How the service is for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// As it should be.
    Healthy,
    /// Refuses so many, parts per million.
    Failing(u32),
    /// Does its work and does not answer so many, parts per million.
    Silent(u32),
    /// Takes so many times as long.
    Slow(u64),
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Its ledger.
    pub ledger: Config,
    /// What a request takes.
    pub service_ns: u64,
    /// Requests that wait, at most.
    pub queue_max: usize,
    /// Moods, one after the other, again and again; each for so long.
    pub moods: Vec<(Mood, u64)>,
    /// A new log is begun when the old one has so many bytes.
    pub compact_after_bytes: u64,
}

impl ServiceConfig {
    /// The longest that a service which is well lets `clients` wait: both ways, one disk job before and one for the answer, and the queue.
    /// Who waits for less is not served by anyone.
    pub fn healthy_ns(&self, swarm: &Swarm, clients: u64) -> u64 {
        let way_ns = swarm.delay_min_ns + swarm.delay_spread_ns;
        2 * way_ns + 5 * swarm.sync_ns + clients * (self.service_ns + swarm.step_ns) + MILLISECOND_NS
    }

    /// Some service. `moods`: what it may suffer from.
    pub fn draw(ledger: Config, moods: &[Mood], random: &mut Random) -> ServiceConfig {
        let mut cycle = Vec::new();
        for _ in 0..random.between(2, 5) {
            cycle.push((Mood::Healthy, random.between(50, 800) * MILLISECOND_NS));
            cycle.push((random.pick(moods), random.between(50, 1_500) * MILLISECOND_NS));
        }
        ServiceConfig {
            ledger,
            service_ns: random.pick(&[20, 200, 2_000]) * 1_000,
            queue_max: random.pick(&[2, 16, 200]),
            moods: cycle,
            compact_after_bytes: random.pick(&[2_000, 20_000, 1 << 30]),
        }
    }
}

/// Records on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: Vec<Record>,
    position: u64,
    bytes: u64,
    /// A whole new log.
    replaced: Option<Vec<Record>>,
}

impl Store for Gathered {
    type Error = Never;

    fn append(&mut self, record: &Record) -> Result<u64, Never> {
        self.records.push(record.clone());
        self.position += 1;
        self.bytes += 40;
        Ok(self.position)
    }

    fn sync(&mut self) -> Result<u64, Never> {
        Ok(0)
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<(), Never> {
        let records: Vec<Record> = records.collect();
        self.bytes = records.len() as u64 * 40;
        self.replaced = Some(records);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A log of records, of which a crash may take what was not synced.
#[derive(Debug, Default)]
pub struct RecordLog {
    records: Vec<Record>,
    synced: usize,
}

impl Disk for RecordLog {
    fn crash(&mut self, loss: Loss, random: &mut Random) {
        let unsynced = self.records.len() - self.synced;
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Unsynced => 0,
            Loss::Part => random.index(unsynced + 1),
        };
        self.records.truncate(self.synced + kept);
        self.synced = self.records.len();
    }
}

type Waiter = (ClientId, u64, u32);

/// One life of the service.
#[derive(Debug)]
pub struct Service {
    id: NodeId,
    config: ServiceConfig,
    random: Random,
    begun_ns: u64,
    calm: bool,
    once: Once<Gathered, Waiter>,
    queue: VecDeque<(ClientId, Ask)>,
    /// What is being worked on, until when.
    serving: Option<(ClientId, Ask, u64)>,
    /// Appended, by position: whom to answer, what.
    appended: BTreeMap<u64, (ClientId, Ask, Told, bool)>,
    /// The position up to which a disk job is under way.
    syncing: Option<u64>,
    /// Where this life's positions begin on the disk.
    disk_base: usize,
    /// Operations that have had an effect, in order; also those of earlier lives.
    effects: Vec<u64>,
    counts: Counters,
}

/// The disk job's name.
const SYNC: u64 = 1;
/// How often waiters are looked after.
const SWEEP_NS: u64 = 20 * MILLISECOND_NS;

impl Service {
    /// All operations that have had an effect.
    pub fn effects(&self) -> &[u64] {
        &self.effects
    }

    /// How often an operation had its effect at this node; `None` if the node is down at the end.
    pub fn times(services: &[&Service], node: NodeId, operation: u64) -> Option<usize> {
        let service = services.iter().find(|service| service.id == node)?;
        Some(service.effects.iter().filter(|effect| **effect == operation).count())
    }

    fn mood(&self, now_ns: u64) -> Mood {
        if self.calm {
            return Mood::Healthy;
        }
        let cycle_ns: u64 = self.config.moods.iter().map(|(_, length_ns)| length_ns).sum();
        let mut at_ns = (now_ns - self.begun_ns) % cycle_ns.max(1);
        for (mood, length_ns) in &self.config.moods {
            if at_ns < *length_ns {
                return *mood;
            }
            at_ns -= length_ns;
        }
        Mood::Healthy
    }

    fn arrive(&mut self, client: ClientId, ask: Ask, out: &mut Effects<Service>) {
        self.calm |= ask.calm;
        if self.queue.len() >= self.config.queue_max {
            self.counts.add("overloaded", 1);
            return tell(client, &ask, Told::Overloaded, out);
        }
        self.queue.push_back((client, ask));
    }

    /// Ends what is due, and takes what is next.
    fn work(&mut self, context: Context, out: &mut Effects<Service>) {
        loop {
            match self.serving {
                Some((client, ask, until_ns)) if until_ns <= context.now_ns => {
                    self.serving = None;
                    self.serve(client, ask, context, out);
                }
                Some(_) => return,
                None => {
                    let Some((client, ask)) = self.queue.pop_front() else { return };
                    let factor = if let Mood::Slow(factor) = self.mood(context.now_ns) { factor } else { 1 };
                    self.serving = Some((client, ask, context.now_ns + self.config.service_ns * factor));
                }
            }
        }
    }

    fn serve(&mut self, client: ClientId, ask: Ask, context: Context, out: &mut Effects<Service>) {
        if ask.kind == Kind::Invalid {
            return tell(client, &ask, Told::Invalid, out);
        }
        let mut answers = true;
        match self.mood(context.now_ns) {
            Mood::Failing(ppm) if self.random.chance(ppm) => {
                self.counts.add("failed-by-mood", 1);
                return tell(client, &ask, Told::Failed, out);
            }
            Mood::Silent(ppm) => answers = !self.random.chance(ppm),
            _ => {}
        }
        self.counts.add("answer-kept-back", u64::from(!answers));
        if ask.open {
            return self.open(client, ask, context);
        }
        let Some(ticket) = ask.ticket else { return self.run(client, ask, answers) };
        if let Ticket::Sequenced { session, .. } = ticket {
            // Of a session that is unknown, the next line tells.
            let _ = self.once.ledger_mut().acknowledge(session, ask.acknowledged);
        }
        let waiter = (client, ask.operation, ask.attempt);
        match self.once.begin(ticket, ask.fingerprint(), waiter, context.wall_ms) {
            Ok(Begun::New) => self.run(client, ask, answers),
            Ok(Begun::Waits) => {}
            Ok(Begun::Done(answer)) => {
                if answers {
                    tell(client, &ask, Told::Done(answer), out);
                }
            }
            Err(refused) => tell(client, &ask, Told::Refused(refused), out),
        }
    }

    fn open(&mut self, client: ClientId, ask: Ask, context: Context) {
        // Refused if all sessions are busy: the client asks again.
        if let Ok((session, position)) = self.once.open(context.wall_ms) {
            self.appended.insert(position, (client, ask, Told::Opened(session), true));
        }
    }

    fn run(&mut self, client: ClientId, ask: Ask, answers: bool) {
        let answer = match ask.kind {
            Kind::Nil | Kind::Invalid => None,
            Kind::Empty => Some(Vec::new()),
            Kind::Zero => Some(b"0".to_vec()),
            Kind::Number => Some((self.effects.len() + self.appended.len() + 1).to_string().into_bytes()),
        };
        let effect = ask.operation.to_le_bytes().to_vec();
        let position = self.once.append(ask.ticket, answer.clone(), effect).expect("memory does not fail");
        self.appended.insert(position, (client, ask, Told::Done(answer), answers));
    }

    /// What was appended is durable up to here: it is applied, and answered.
    fn durable(&mut self, upto: u64, out: &mut Effects<Service>) {
        let finished = self.once.durable(upto).expect("memory does not fail");
        let mut waiting = finished.into_iter();
        while let Some(entry) = self.appended.first_entry().filter(|entry| *entry.key() <= upto) {
            let (client, ask, told, answers) = entry.remove();
            if let Told::Done(_) = told {
                self.effects.push(ask.operation);
                let finished = waiting.next().expect("what is done was appended");
                for (client, operation, attempt) in finished.waiters {
                    out.reply(
                        client,
                        Reply { operation, attempt, told: Told::Done(finished.answer.clone()) },
                    );
                }
            }
            if answers {
                tell(client, &ask, told, out);
            }
        }
    }

    /// Gives what has gathered to the disk, one job at a time.
    fn write(&mut self, disk: &mut RecordLog, out: &mut Effects<Service>) {
        let store = self.once.store_mut();
        disk.records.append(&mut store.records);
        let position = store.position;
        let behind = disk.records.len() - disk.synced;
        if self.syncing.is_none() && behind > 0 {
            self.syncing = Some(position);
            out.disk(SYNC, DiskWork::LogSync { bytes: 40 * behind as u64 });
        }
    }

    /// Begins a new log, if the old one is long and nothing is on its way. A rename does it at once.
    fn compact(&mut self, disk: &mut RecordLog) {
        let quiet = self.appended.is_empty() && self.syncing.is_none() && disk.synced == disk.records.len();
        if !quiet || self.once.store_ref().bytes() < self.config.compact_after_bytes {
            return;
        }
        let state = self.effects.iter().flat_map(|operation| operation.to_le_bytes()).collect();
        self.once.compact(state).expect("memory does not fail");
        let store = self.once.store_mut();
        disk.records = store.replaced.take().expect("it was replaced");
        disk.synced = disk.records.len();
        // Positions go on; so they begin before the new log.
        self.disk_base = disk.synced.wrapping_sub(store.position as usize);
        self.counts.add("compacted", 1);
    }
}

fn tell(client: ClientId, ask: &Ask, told: Told, out: &mut Effects<Service>) {
    out.reply(client, Reply { operation: ask.operation, attempt: ask.attempt, told });
}

fn take_numbers(bytes: &[u8], effects: &mut Vec<u64>) {
    for number in bytes.chunks_exact(8) {
        effects.push(u64::from_le_bytes(number.try_into().expect("eight bytes")));
    }
}

impl Process for Service {
    type Config = ServiceConfig;
    type Disk = RecordLog;
    type Message = Silence;
    type Request = Ask;
    type Reply = Reply;

    fn start(
        config: &ServiceConfig,
        id: NodeId,
        disk: &mut RecordLog,
        seed: u64,
        context: Context,
        out: &mut Effects<Service>,
    ) -> Result<Service, StartRefused> {
        let mut effects = Vec::new();
        let store = Gathered { bytes: 40 * disk.records.len() as u64, ..Gathered::default() };
        let once = Once::recover(config.ledger, store, disk.records.iter().cloned(), |replayed| {
            let (Replayed::State(bytes) | Replayed::Effect(bytes)) = replayed;
            take_numbers(bytes, &mut effects);
        });
        out.wake_at(context.now_ns + SWEEP_NS);
        Ok(Service {
            id,
            config: config.clone(),
            random: Random::new(seed),
            begun_ns: context.now_ns,
            calm: false,
            once,
            queue: VecDeque::new(),
            serving: None,
            appended: BTreeMap::new(),
            syncing: None,
            disk_base: disk.records.len(),
            effects,
            counts: Counters::default(),
        })
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Service>>,
        disk: &mut RecordLog,
        context: Context,
        out: &mut Effects<Service>,
    ) {
        for input in batch.drain(..) {
            match input {
                ProcessInput::Client { client, request } => self.arrive(client, request, out),
                ProcessInput::DiskDone { ok: false, .. } => return out.stop("fsync failed"),
                ProcessInput::DiskDone { ok: true, .. } => {
                    let upto = self.syncing.take().expect("a job was under way");
                    disk.synced = self.disk_base.wrapping_add(upto as usize);
                    self.durable(upto, out);
                }
                ProcessInput::Peer { message, .. } => match message {},
                ProcessInput::WakeUp | ProcessInput::Unreachable(_) => {}
            }
            self.work(context, out);
        }
        self.work(context, out);
        for (client, operation, attempt) in self.once.ledger_mut().give_up(context.wall_ms) {
            out.reply(client, Reply { operation, attempt, told: Told::StillInFlight });
        }
        self.write(disk, out);
        self.compact(disk);
        self.once.ledger().assert_invariants();
        let sweep_ns = context.now_ns + SWEEP_NS;
        out.wake_at(self.serving.map_or(sweep_ns, |(_, _, until_ns)| until_ns.min(sweep_ns)));
    }

    fn fingerprint(&self) -> u64 {
        self.effects.len() as u64 ^ (self.queue.len() as u64) << 32
    }

    fn count(&self, counters: &mut Counters) {
        counters.merge(&self.counts);
        let counts = self.once.ledger().counts();
        counters.add("run", counts.new);
        counters.add("answered-from-memory", counts.repeated);
        counters.add("duplicate-waited", counts.waited);
        counters.add("duplicate-gave-up", counts.waited_in_vain);
        counters.add("mismatch", counts.mismatched);
        counters.add("forgotten", counts.forgotten);
        counters.add("answer-dropped", counts.dropped);
        counters.add("session-dropped", counts.sessions_dropped);
    }
}

/// Sees that no operation has its effect twice, whatever was lost.
#[derive(Debug, Default)]
pub struct EffectWatch {
    /// By node: how many of its effects were looked at, and how often each operation is among them.
    seen: BTreeMap<u64, (usize, BTreeMap<u64, u32>)>,
}

impl EffectWatch {
    fn look(&mut self, node: NodeId, service: &Service) -> Result<(), Violation> {
        let (looked_at, times) = self.seen.entry(node.0).or_default();
        for operation in &service.effects()[*looked_at..] {
            let times = times.entry(*operation).or_default();
            *times += 1;
            if *times > 1 {
                let detail = format!("operation {operation} had its effect {times} times on {node}");
                return Err(Violation::new("effect-at-most-once", detail));
            }
        }
        *looked_at = service.effects().len();
        Ok(())
    }
}

impl Observer<Service> for EffectWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Service,
        _disk: &RecordLog,
    ) -> Result<(), Violation> {
        // What this life has recovered is the truth now.
        self.seen.remove(&node.0);
        self.look(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Service,
        _disk: &RecordLog,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }
}

/// What clients have reached, for the report: clients hold one end, the observer the other.
#[derive(Clone, Debug, Default)]
pub struct Reached(Rc<RefCell<Counters>>);

impl Reached {
    /// One more of these.
    pub fn add(&self, name: &'static str) {
        self.0.borrow_mut().add(name, 1);
    }
}

impl Observer<Service> for Reached {
    fn count(&self, counters: &mut Counters) {
        counters.merge(&self.0.borrow());
    }
}
