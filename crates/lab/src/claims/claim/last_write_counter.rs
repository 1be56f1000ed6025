//! Claim 38.

use keypact_crdt::{Lattice, PnCounter};
use keypact_ordering::clock::{Causality, ReplicaId, VectorClock};
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 38,
    part: "coordination",
    text: "A vector clock with last-write-wins makes a distributed counter",
    how: "five replicas hold a number with a vector clock and the time of its last write; each adds one to what it has, and at random sends its \
          state to another, which keeps the newer one, or of concurrent ones the one that was written last. Counted: additions that are missing \
          in the end; control: a PN-counter under the same additions and messages",
    measure,
};

const REPLICAS: usize = 5;
const ADDITIONS: u64 = 500;

#[derive(Clone, Default)]
struct Register {
    value: u64,
    clock: VectorClock,
    written_at: u64,
}

impl Register {
    fn add_one(&mut self, id: ReplicaId, now: u64) {
        self.value += 1;
        self.clock.increment(id);
        self.written_at = now;
    }

    fn take(&mut self, other: &Register) {
        let newer = match self.clock.compare(&other.clock) {
            Causality::Before => true,
            Causality::Concurrent => other.written_at > self.written_at,
            Causality::After | Causality::Equal => false,
        };
        let mut clock = self.clock.clone();
        clock.merge(&other.clock);
        if newer {
            *self = other.clone();
        }
        self.clock = clock;
    }
}

/// Additions that are missing once everybody has heard of everybody: of registers, and of PN-counters. `gossip_ppm`: how often states are
/// exchanged after an addition.
fn lost(seed: u64, gossip_ppm: u32) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut registers = vec![Register::default(); REPLICAS];
    let mut counters = vec![PnCounter::default(); REPLICAS];
    for now in 1..=ADDITIONS {
        let at = random.index(REPLICAS);
        let id = ReplicaId(at as u64 + 1);
        registers[at].add_one(id, now);
        counters[at].add(1, id).expect("few additions");
        while random.chance(gossip_ppm) {
            let (from, to) = (random.index(REPLICAS), random.index(REPLICAS));
            let (register, counter) = (registers[from].clone(), counters[from].clone());
            registers[to].take(&register);
            counters[to].merge(counter);
        }
    }
    let (mut register, mut counter) = (registers[0].clone(), counters[0].clone());
    for (other, more) in registers.iter().zip(counters) {
        register.take(other);
        counter.merge(more);
    }
    let counted = u64::try_from(counter.value()).unwrap_or(0);
    (ADDITIONS - register.value.min(ADDITIONS), ADDITIONS.abs_diff(counted))
}

fn measure(effort: Effort) -> Finding {
    const RATES: [(u32, &str); 3] = [(100_000, "rare"), (500_000, "frequent"), (900_000, "very frequent")];
    let mut figures = Vec::new();
    let (mut registers, mut counters) = (0, 0);
    for (gossip_ppm, name) in RATES {
        let runs: Vec<_> = effort.seeds().map(|seed| lost(seed, gossip_ppm)).collect();
        let sum: u64 = runs.iter().map(|run| run.0).sum();
        registers += sum;
        counters += runs.iter().map(|run| run.1).sum::<u64>();
        let share = sum as f64 * 100.0 / (ADDITIONS * effort.seeds) as f64;
        figures.push(Figure::new(format!("additions lost, {name} exchange"), share, "%"));
    }
    Finding {
        verdict: Verdict::of(registers == 0),
        because: format!(
            "{registers} of {} additions are gone{}",
            ADDITIONS * effort.seeds * RATES.len() as u64,
            if registers > 0 {
                ": of two concurrent ones a register keeps one; the clock only tells that it happened"
            } else {
                ""
            }
        ),
        figures,
        control: Control {
            what: "a PN-counter under the same additions and messages".into(),
            figures: vec![Figure::new("additions lost", counters as f64, "additions")],
            differs: counters == 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * RATES.len() as u64,
    }
}
