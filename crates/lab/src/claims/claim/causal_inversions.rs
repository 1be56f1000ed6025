//! Claim 50.

use std::collections::BTreeSet;

use keypact_ordering::broadcast::Order;
use keypact_ordering::causal::CausalOrder;
use keypact_ordering::clock::{Dot, ReplicaId, VectorClock};
use keypact_simulator::{MILLISECOND_NS, Swarm};

use crate::claims::broadcasts::{Heard, Plan, unordered};
use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 50,
    part: "ordering and choice",
    text: "Causal order has no inversions",
    how: "four members broadcast every 4 ms for a second over links that take from 0.05 to 5 ms and lose one message in a hundred, while pairs of \
          members are cut off from each other. Counted: deliveries of a message before one that its sender had delivered when it delivered its \
          own, by what the members did, not by the clocks that messages carry. Control: the same protocol without the buffer for what others \
          sent, each sender's order only",
    measure,
};

/// Delivers on arrival what comes next of its sender, whatever it comes after.
#[derive(Debug)]
struct OnArrival;

impl Order for OnArrival {
    fn context(me: ReplicaId, delivered: &VectorClock) -> VectorClock {
        CausalOrder::context(me, delivered)
    }

    fn is_ready(_after: &VectorClock, _covered: impl Fn(Dot) -> bool) -> bool {
        true
    }
}

/// Deliveries of others' messages, those of them that were inverted, and messages that some member never had.
fn inversions(heard: &Heard) -> [u64; 3] {
    let sets: Vec<BTreeSet<_>> =
        heard.by_node.iter().map(|there| there.iter().map(|(note, _)| *note).collect()).collect();
    let all: BTreeSet<_> = sets.iter().flatten().copied().collect();
    let missing: usize = sets.iter().map(|set| all.len() - set.len()).sum();
    let (mut deliveries, mut inverted) = (0, 0);
    for (member, there) in heard.by_node.iter().enumerate() {
        for (sender, own) in heard.by_node.iter().enumerate().filter(|(sender, _)| *sender != member) {
            // Both walks go forward: what the sender had delivered before each own message, and what is here by then. `checked` is how much of
            // the sender's past was found here before.
            let id = sender as u64 + 1;
            let mut here = BTreeSet::new();
            let mut checked = 0;
            for (note, _) in there {
                if note.node.0 == id {
                    deliveries += 1;
                    let place = own.iter().position(|(at, _)| at == note).expect("a sender delivers its own");
                    let is_here = |(past, _): &&(_, u64)| here.contains(past);
                    let from = checked.min(place);
                    let found = own[from..place].iter().take_while(is_here).count();
                    inverted += u64::from(from + found < place);
                    checked = checked.max(from + found);
                }
                here.insert(*note);
            }
        }
    }
    [deliveries, inverted, missing as u64]
}

fn sum<O: Order>(effort: Effort, plan: &Plan) -> [u64; 3] {
    let mut sum = [0; 3];
    for seed in effort.seeds() {
        let found = inversions(&unordered::<O>(plan, seed));
        sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
    sum
}

fn measure(effort: Effort) -> Finding {
    let swarm = Swarm { delay_spread_ns: 5 * MILLISECOND_NS, loss_ppm: 10_000, ..Swarm::calm(4) };
    let plan = Plan { swarm, gap_ns: 4 * MILLISECOND_NS, cuts: true, kill: false };
    let [deliveries, inverted, missing] = sum::<CausalOrder>(effort, &plan);
    let [bare_deliveries, bare_inverted, bare_missing] = sum::<OnArrival>(effort, &plan);
    let figures = |deliveries: u64, inverted: u64, missing: u64| {
        vec![
            Figure::new("deliveries of others' messages", deliveries as f64, "deliveries"),
            Figure::new("inversions", inverted as f64, "deliveries"),
            Figure::new("never came", missing as f64, "deliveries"),
        ]
    };
    Finding {
        verdict: Verdict::of(deliveries > 0 && inverted == 0 && missing == 0),
        because: format!(
            "of {deliveries} deliveries {inverted} came before something that their sender had seen, and {missing} never came; without the buffer \
             {bare_inverted} of {bare_deliveries} are inverted"
        ),
        figures: figures(deliveries, inverted, missing),
        control: Control {
            what: "without the buffer: what comes next of its sender is delivered on arrival".into(),
            figures: figures(bare_deliveries, bare_inverted, bare_missing),
            differs: bare_inverted > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}

#[cfg(test)]
mod tests {
    use super::inversions;
    use crate::claims::broadcasts::heard_of;

    /// Node 2 answers node 1's note; node 3 has the answer first, and node 1 never has the second answer.
    #[test]
    fn an_answer_before_its_question_is_an_inversion() {
        let found =
            inversions(&heard_of(&[&[(1, 1), (2, 1)], &[(1, 1), (2, 1), (2, 2)], &[(2, 1), (1, 1), (2, 2)]]));
        assert_eq!(found, [5, 1, 1], "deliveries of others' notes, inverted, never came");
    }
}
