//! Claim 49.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use keypact_ordering::fifo::FifoOrder;
use keypact_simulator::{MILLISECOND_NS, Swarm};

use crate::claims::bare::{Bare, BareConfig};
use crate::claims::broadcasts::{Heard, Plan, run, unordered};
use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::world::nodes;
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 49,
    part: "ordering and choice",
    text: "FIFO by sequence numbers holds across reconnects",
    how: "three members broadcast every 2 ms for a second, while every 20 ms one pair of them may be cut off from each other, which loses what is on \
          its way; then it is waited until all is quiet. Counted at every member, beside the order in which each sender delivered its own: \
          messages that never came, that came twice, that came after a later one; and the same with one member killed and back. Control: the same cuts for bare \
          connections, in order and complete until one breaks, as nothing on it is acknowledged for 30 ms; what was then not acknowledged is \
          forgotten, or sent again",
    measure,
};

/// What went wrong with messages at members other than their sender.
#[derive(Clone, Copy, Default)]
struct Faults {
    expected: u64,
    lost: u64,
    doubled: u64,
    overtaken: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.expected += other.expected;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.overtaken += other.overtaken;
    }
}

impl Faults {
    fn any(self) -> bool {
        self.lost + self.doubled + self.overtaken > 0
    }

    fn figures(self, who: &str) -> Vec<Figure> {
        let figure = |what: &str, count: u64| Figure::new(format!("{who}: {what}"), count as f64, "messages");
        vec![
            figure("to be delivered by others", self.expected),
            figure("never came", self.lost),
            figure("came twice", self.doubled),
            figure("came after a later one", self.overtaken),
        ]
    }
}

fn faults(heard: &Heard) -> Faults {
    let mut found = Faults::default();
    for (sender, own) in heard.by_node.iter().enumerate() {
        let id = sender as u64 + 1;
        let sent = own.iter().filter(|(note, _)| note.node.0 == id).map(|(note, _)| *note);
        let places: BTreeMap<_, usize> = sent.zip(0..).collect();
        for (_, there) in heard.by_node.iter().enumerate().filter(|(member, _)| *member != sender) {
            let mut came = vec![false; places.len()];
            let mut last = None;
            found.expected += places.len() as u64;
            for (note, _) in there.iter().filter(|(note, _)| note.node.0 == id) {
                let place = places[note];
                if came[place] {
                    found.doubled += 1;
                } else if last.is_some_and(|last| place < last) {
                    found.overtaken += 1;
                }
                came[place] = true;
                last = last.max(Some(place));
            }
            found.lost += came.iter().filter(|came| !**came).count() as u64;
        }
    }
    found
}

fn sum(effort: Effort, run: impl Fn(u64) -> Heard) -> Faults {
    let mut sum = Faults::default();
    for seed in effort.seeds() {
        sum += faults(&run(seed));
    }
    sum
}

fn measure(effort: Effort) -> Finding {
    let plan = Plan { swarm: Swarm::calm(3), gap_ns: 2 * MILLISECOND_NS, cuts: true, kill: false };
    let killed = Plan { kill: true, ..plan.clone() };
    let bare = |sends_again: bool| {
        sum(effort, |seed| {
            let members = nodes(3);
            let config = |id: &_| BareConfig { id: *id, members: members.clone(), sends_again };
            run::<Bare>(&plan, members.iter().map(config).collect(), seed)
        })
    };
    let fifo = sum(effort, |seed| unordered::<FifoOrder>(&plan, seed));
    let restarted = sum(effort, |seed| unordered::<FifoOrder>(&killed, seed));
    let (forgets, again) = (bare(false), bare(true));
    let wrong = |faults: Faults| faults.lost + faults.doubled + faults.overtaken;
    Finding {
        verdict: Verdict::of(fifo.expected > 0 && restarted.expected > 0 && !fifo.any() && !restarted.any()),
        because: format!(
            "of {} messages {} were lost, doubled or overtaken, and of {} where a member was also killed {}; bare connections lose {} or double {}",
            fifo.expected,
            wrong(fifo),
            restarted.expected,
            wrong(restarted),
            forgets.lost,
            again.doubled,
        ),
        figures: [fifo.figures("cuts"), restarted.figures("cuts, and a member killed and back")].concat(),
        control: Control {
            what: "bare connections, whose order ends with them".into(),
            figures: [forgets.figures("forgets"), again.figures("sends again")].concat(),
            differs: forgets.any() && again.any(),
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}

#[cfg(test)]
mod tests {
    use super::faults;
    use crate::claims::broadcasts::heard_of;

    /// Node 1 sent four: node 2 lacks one and has one twice, node 3 has three after a later one.
    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let sent: &[(u64, u32)] = &[(1, 1), (1, 2), (1, 3), (1, 4)];
        let there: &[(u64, u32)] = &[(1, 1), (1, 2), (1, 2), (1, 4)];
        let other: &[(u64, u32)] = &[(1, 4), (1, 1), (1, 2), (1, 3)];
        let found = faults(&heard_of(&[sent, there, other]));
        assert_eq!((found.expected, found.lost, found.doubled, found.overtaken), (8, 1, 1, 3));
        assert!(!faults(&heard_of(&[sent, sent, sent])).any());
    }
}
