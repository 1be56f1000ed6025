//! Claim 7.

use std::collections::BTreeMap;

use keypact_protocol::NodeId;
use keypact_simulator::{Key, KvAnswer, MILLISECOND_NS, SECOND_NS, StateMachine};

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::load::{Aim, Ended, Load, Role, Sample, Task};
use crate::claims::peers::{Made, PeerWorld, made, peers};
use crate::claims::world::{expect, leader_follower, nodes, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 7,
    part: "replication",
    text: "Conflict resolution is complex",
    how: "five replicas, four writers at each, 2,000 writes/s on four keys. A write conflicts if another replica wrote its key and neither had seen the \
          other. What it means for three commands: of conflicting sets all but the last are gone (counted: who is outranked by one that had not \
          seen it); an increment is lost if it is missing in the end; a compare-and-set that takes a free key changes its meaning if several were \
          told that they have it. Conflicts are also counted of rare writers, each of which writes every 1 to 2 s. Other commands are not looked at. Control: a key for each \
          writer; and of compare-and-set a leader-follower group",
    measure,
};

const REPLICAS: usize = 5;
const CLIENTS: usize = 20;
const KEYS: usize = 4;
const RUN_NS: u64 = SECOND_NS;
/// From one write to the next of one writer.
const EVERY_NS: u64 = 10 * MILLISECOND_NS;
/// How long rare writers write.
const RARE_RUN_NS: u64 = 20 * SECOND_NS;
/// All of it is everywhere then.
const SPREAD_NS: u64 = 10 * SECOND_NS;

fn load(task: impl Fn(usize) -> Task, at_the_leader: bool, every_ns: impl Fn(usize) -> u64) -> Load {
    let role = |client: usize| {
        let aim = match at_the_leader {
            true => Aim::Leader,
            false => Aim::At(NodeId((client % REPLICAS) as u64 + 1)),
        };
        Role::new(aim, task(client)).every(every_ns(client))
    };
    Load::new((0..CLIENTS).map(role))
}

/// Each of these is written at every replica.
fn shared(client: usize) -> Key {
    (client / REPLICAS % KEYS) as Key
}

fn spread(seed: u64, task: impl Fn(usize) -> Task) -> PeerWorld {
    spread_for(seed, task, |_| EVERY_NS, RUN_NS)
}

/// Every 1 to 2 s, each in its own time: so they do not write together.
fn rarely(client: usize) -> u64 {
    SECOND_NS + SECOND_NS * client as u64 / CLIENTS as u64
}

fn spread_for(
    seed: u64,
    task: impl Fn(usize) -> Task,
    every_ns: impl Fn(usize) -> u64,
    run_ns: u64,
) -> PeerWorld {
    let mut world = peers(priced(REPLICAS), load(task, false, every_ns), seed, |_| {});
    expect(world.run_until(run_ns));
    world.clients_mut().stop();
    expect(world.run_until(run_ns + SPREAD_NS));
    world
}

/// Which set of a key stays is computed below by what each had seen, and by stamps: every replica must show the same.
fn check_what_stays(world: &PeerWorld, made: &[Made]) {
    let mut stays: BTreeMap<Key, &Made> = BTreeMap::new();
    for one in made.iter().filter(|one| !made.iter().any(|other| other.is_after(one))) {
        let held = stays.entry(one.key).or_insert(one);
        if one.outranks(held) {
            *held = one;
        }
    }
    for node in nodes(REPLICAS) {
        let machine = world.process(node).expect("nobody dies here").machine();
        for (key, one) in &stays {
            let shown = machine.read(key);
            assert!(shown == KvAnswer::Number(one.value), "{node} shows {shown:?} under {key}, not {one:?}");
        }
    }
}

fn sets_of(world: &PeerWorld) -> Sets {
    let made = made(world, REPLICAS);
    check_what_stays(world, &made);
    Sets::of(&made)
}

#[derive(Clone, Copy, Default)]
struct Sets {
    writes: u64,
    conflicts: u64,
    dropped: u64,
}

impl Sets {
    fn of(made: &[Made]) -> Sets {
        let mut sets = Sets { writes: made.len() as u64, ..Sets::default() };
        for one in made {
            let mut beside = made.iter().filter(|other| one.is_beside(other)).peekable();
            sets.conflicts += u64::from(beside.peek().is_some());
            sets.dropped += u64::from(beside.any(|other| other.outranks(one)));
        }
        sets
    }

    fn add(&mut self, other: Sets) {
        self.writes += other.writes;
        self.conflicts += other.conflicts;
        self.dropped += other.dropped;
    }

    fn per_1000(self, count: u64) -> f64 {
        count as f64 * 1_000.0 / self.writes.max(1) as f64
    }
}

/// Increments, and those of them that are missing, by the replica that has the fewest.
fn increments(seed: u64) -> (u64, u64) {
    let world = spread(seed, |client| Task::Increment(shared(client)));
    let done = world.clients().samples().iter().filter(|sample| sample.is_done()).count() as u64;
    let value = |node: NodeId| -> u64 {
        let machine = world.process(node).expect("nobody dies here").machine();
        let number = |key: usize| match machine.read(&(key as Key)) {
            KvAnswer::Number(number) => number as u64,
            other => unreachable!("{other:?} of a counter"),
        };
        (0..KEYS).map(number).sum()
    };
    let least = nodes(REPLICAS).into_iter().map(value).min().expect("there are replicas");
    (done, done.saturating_sub(least))
}

/// Keys that somebody has by his answer, and those that several have.
fn taken(samples: &[Sample]) -> (u64, u64) {
    let mut owners: BTreeMap<u64, u64> = BTreeMap::new();
    for sample in samples {
        if sample.ended == Ended::Done(KvAnswer::Swapped(true)) {
            *owners.entry(sample.number).or_default() += 1;
        }
    }
    (owners.len() as u64, owners.values().filter(|count| **count > 1).count() as u64)
}

fn taken_at_a_leader(seed: u64) -> (u64, u64) {
    let mut world =
        leader_follower(priced(REPLICAS), 0, NodeId(1), load(|_| Task::Take, true, |_| EVERY_NS), seed);
    expect(world.run_until(RUN_NS));
    taken(world.clients().samples())
}

/// What all seeds come to.
#[derive(Default)]
struct Sums {
    shared: Sets,
    rare: Sets,
    own: Sets,
    increments: (u64, u64),
    taken: (u64, u64),
    led: (u64, u64),
}

fn sums(effort: Effort) -> Sums {
    let mut sums = Sums::default();
    let add = |sum: &mut (u64, u64), one: (u64, u64)| *sum = (sum.0 + one.0, sum.1 + one.1);
    for seed in effort.seeds() {
        let sets = |key: fn(usize) -> Key| sets_of(&spread(seed, |client| Task::Set(key(client))));
        let rare = spread_for(seed, |client| Task::Set(shared(client)), rarely, RARE_RUN_NS);
        sums.rare.add(sets_of(&rare));
        sums.shared.add(sets(shared));
        sums.own.add(sets(|client| client as Key));
        add(&mut sums.increments, increments(seed));
        add(&mut sums.taken, taken(spread(seed, |_| Task::Take).clients().samples()));
        add(&mut sums.led, taken_at_a_leader(seed));
    }
    sums
}

fn measure(effort: Effort) -> Finding {
    let Sums { shared, rare, own, increments, taken, led } = sums(effort);
    let per_1000 = |(all, some): (u64, u64)| some as f64 * 1_000.0 / all.max(1) as f64;
    let changed = [shared.dropped > 0, increments.1 > 0, taken.1 > 0];
    let count = changed.iter().filter(|changed| **changed).count();
    Finding {
        verdict: match count {
            0 => Verdict::DoesNotHold,
            3 => Verdict::Holds,
            _ => Verdict::HoldsOnlyIf,
        },
        because: format!(
            "{:.0} of 1,000 writes of shared keys conflict, {:.0} if writers are rare, and {count} of three commands mean something else then: of 1,000 sets {:.0} are gone unseen, of \
             1,000 increments {:.0} are lost, and of 1,000 keys that are taken {:.0} are given to several{}",
            shared.per_1000(shared.conflicts),
            rare.per_1000(rare.conflicts),
            shared.per_1000(shared.dropped),
            per_1000(increments),
            per_1000(taken),
            if count < 3 && count > 0 { ". It holds only for commands whose order matters" } else { "" }
        ),
        figures: vec![
            Figure::new("conflicts, shared keys", shared.per_1000(shared.conflicts), "per 1,000 writes"),
            Figure::new("conflicts, rare writers", rare.per_1000(rare.conflicts), "per 1,000 writes"),
            Figure::new("sets gone unseen, rare writers", rare.per_1000(rare.dropped), "per 1,000 writes"),
            Figure::new("sets gone unseen", shared.per_1000(shared.dropped), "per 1,000 writes"),
            Figure::new("increments lost", per_1000(increments), "per 1,000 writes"),
            Figure::new("keys that several were given", per_1000(taken), "per 1,000 keys"),
        ],
        control: Control {
            what: "a key for each writer; for compare-and-set a leader".into(),
            figures: vec![
                Figure::new(
                    "conflicts, a key for each writer",
                    own.per_1000(own.conflicts),
                    "per 1,000 writes",
                ),
                Figure::new("keys that several were given by a leader", per_1000(led), "per 1,000 keys"),
            ],
            differs: own.writes > 0 && own.conflicts == 0 && led.0 > 0 && led.1 == 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 6,
    }
}
