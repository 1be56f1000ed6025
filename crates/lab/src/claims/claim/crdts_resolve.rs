//! Claim 36.

use std::collections::BTreeSet;

use keypact_crdt::{Lattice, LwwRegister, MvRegister, OrSet, PnCounter};
use keypact_ordering::clock::{HybridStamp, ReplicaId};
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 36,
    part: "coordination",
    text: "CRDTs resolve conflicts by themselves",
    how: "five replicas change a set, a counter and two registers without asking anybody; deltas are lost, doubled and late; then all merge. \
          Counted: replicas that differ from the first, and elements on which they differed before; control: plain sets, each of which is \
          told of every operation in the end",
    measure,
};

const REPLICAS: usize = 5;
const ROUNDS: usize = 400;
const ELEMENTS: u64 = 20;

#[derive(Clone, Default, PartialEq, Debug)]
struct Replica {
    set: OrSet<u64>,
    counter: PnCounter,
    latest: LwwRegister<u64>,
    all: MvRegister<u64>,
    /// The control: the same adds and removes, as they arrive.
    plain: BTreeSet<u64>,
}

/// What one operation sends.
#[derive(Clone, Debug)]
enum Sent {
    Set(<OrSet<u64> as Lattice>::Delta, bool, u64),
    Counter(<PnCounter as Lattice>::Delta),
    Latest(<LwwRegister<u64> as Lattice>::Delta),
    All(<MvRegister<u64> as Lattice>::Delta),
}

impl Replica {
    fn act(&mut self, id: ReplicaId, at: u64, random: &mut Random) -> Sent {
        let element = random.below(ELEMENTS);
        match random.below(6) {
            0 => Sent::Counter(
                self.counter.add(random.below(9) as i64 - 4, id).expect("few and small additions"),
            ),
            1 => {
                let stamp = HybridStamp { wall_ms: at, ..HybridStamp::default() };
                Sent::Latest(self.latest.assign(random.below(1_000), stamp, id))
            }
            2 => Sent::All(self.all.assign(random.below(1_000), id)),
            3 | 4 => {
                self.plain.insert(element);
                Sent::Set(self.set.add(element, id), true, element)
            }
            _ => {
                self.plain.remove(&element);
                Sent::Set(self.set.remove(&element, id), false, element)
            }
        }
    }

    fn take(&mut self, sent: Sent) {
        match sent {
            Sent::Set(delta, adds, element) => {
                self.set.apply(delta);
                if adds {
                    self.plain.insert(element);
                } else {
                    self.plain.remove(&element);
                }
            }
            Sent::Counter(delta) => drop(self.counter.apply(delta)),
            Sent::Latest(delta) => drop(self.latest.apply(delta)),
            Sent::All(delta) => drop(self.all.apply(delta)),
        }
    }

    fn merge(&mut self, other: &Replica) {
        self.set.merge(other.set.clone());
        self.counter.merge(other.counter.clone());
        self.latest.merge(other.latest.clone());
        self.all.merge(other.all.clone());
    }
}

/// Replicas that differ once everybody has everything: by CRDTs, and by plain sets; and elements of the sets on which replicas differed
/// before that.
fn run(seed: u64) -> [u64; 3] {
    let mut random = Random::new(seed);
    let mut replicas = vec![Replica::default(); REPLICAS];
    let mut under_way: Vec<(usize, Sent)> = Vec::new();
    // What each plain set has not been told.
    let mut untold: Vec<(usize, bool, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let from = random.index(REPLICAS);
        let sent = replicas[from].act(ReplicaId(from as u64 + 1), round as u64, &mut random);
        for to in (0..REPLICAS).filter(|to| *to != from) {
            // Lost, once or twice; in any order.
            let copies = random.below(3);
            for _ in 0..copies {
                under_way.push((to, sent.clone()));
            }
            if let (0, Sent::Set(_, adds, element)) = (copies, &sent) {
                untold.push((to, *adds, *element));
            }
        }
        for _ in 0..random.below(6) {
            if under_way.is_empty() {
                break;
            }
            let (to, sent) = under_way.swap_remove(random.index(under_way.len()));
            replicas[to].take(sent);
        }
    }
    let differ = |element: &u64| {
        let has: BTreeSet<bool> = replicas.iter().map(|replica| replica.set.contains(element)).collect();
        has.len() > 1
    };
    let conflicts = (0..ELEMENTS).filter(differ).count() as u64;
    let before = replicas.clone();
    // The plain sets, too, get all that is still under way, and what was lost.
    untold.extend(under_way.iter().filter_map(|(to, sent)| match sent {
        Sent::Set(_, adds, element) => Some((*to, *adds, *element)),
        _ => None,
    }));
    random.shuffle(&mut untold);
    for (to, adds, element) in untold {
        if adds {
            replicas[to].plain.insert(element);
        } else {
            replicas[to].plain.remove(&element);
        }
    }
    let plain = replicas.iter().filter(|replica| replica.plain != replicas[0].plain).count() as u64;
    for replica in &mut replicas {
        before.iter().for_each(|other| replica.merge(other));
    }
    let same = |one: &Replica, two: &Replica| {
        (&one.set, &one.counter, &one.latest, &one.all) == (&two.set, &two.counter, &two.latest, &two.all)
    };
    let unresolved = replicas.iter().filter(|replica| !same(replica, &replicas[0])).count() as u64;
    [unresolved, plain, conflicts]
}

fn measure(effort: Effort) -> Finding {
    let mut sums = [0; 3];
    for seed in effort.seeds() {
        for (sum, one) in sums.iter_mut().zip(run(seed)) {
            *sum += one;
        }
    }
    let [unresolved, plain, conflicts] = sums.map(|sum| sum as f64);
    Finding {
        verdict: Verdict::of(unresolved == 0.0 && conflicts > 0.0),
        because: format!(
            "replicas disagreed on {conflicts} elements before they merged, and {unresolved} differ after; what a merge decides is the type's \
             rule, not what somebody meant"
        ),
        figures: vec![
            Figure::new("elements that replicas disagreed on", conflicts, "elements"),
            Figure::new("replicas that differ after merging", unresolved, "replicas"),
        ],
        control: Control {
            what: "plain sets, each told of every operation".into(),
            figures: vec![Figure::new("replicas that differ", plain, "replicas")],
            differs: plain > 0.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds,
    }
}
