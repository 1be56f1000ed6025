//! Claim 51.

use std::collections::BTreeSet;

use keypact_ordering::causal::CausalOrder;
use keypact_ordering::fifo::FifoOrder;
use keypact_simulator::{MILLISECOND_NS, Swarm};

use crate::claims::broadcasts::{Heard, Plan, over_raft, sequenced, unordered};
use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 51,
    part: "ordering and choice",
    text: "Total order is one order for all",
    how: "three members broadcast every 4 ms for a second, while pairs of them are cut off from each other and node 1, at first the sequencer, is killed and \
          comes back; then it is waited until all is quiet. Counted: in how many different orders the members of one group delivered, \
          messages that some lack or have twice, and that some lack though their client was told that they were delivered; by a sequencer and \
          over Raft. Control: the same in FIFO and in causal order",
    measure,
};

/// What the groups of all seeds did.
#[derive(Clone, Copy, Default)]
struct Orders {
    delivered: u64,
    /// Different orders in one group, at most.
    most: u64,
    /// Given to the members, dead ones too.
    begun: u64,
    /// Messages that some delivered and others never.
    lacking: u64,
    /// Delivered once more by the same member.
    doubled: u64,
    /// Acknowledged, and not delivered by some.
    broken: u64,
}

fn look(sum: &mut Orders, heard: &Heard) {
    let orders: Vec<Vec<_>> =
        heard.by_node.iter().map(|there| there.iter().map(|(note, _)| *note).collect()).collect();
    let sets: Vec<BTreeSet<_>> = orders.iter().map(|order| order.iter().copied().collect()).collect();
    let all: BTreeSet<_> = sets.iter().flatten().copied().collect();
    sum.begun += heard.begun_ns.len() as u64;
    sum.delivered += all.len() as u64;
    sum.lacking += sets.iter().map(|set| (all.len() - set.len()) as u64).sum::<u64>();
    sum.doubled += orders.iter().zip(&sets).map(|(order, set)| (order.len() - set.len()) as u64).sum::<u64>();
    sum.broken += sets.iter().map(|set| heard.acknowledged.difference(set).count() as u64).sum::<u64>();
    sum.most = sum.most.max(orders.iter().collect::<BTreeSet<_>>().len() as u64);
}

fn sum(effort: Effort, run: impl Fn(u64) -> Heard) -> Orders {
    let mut sum = Orders::default();
    effort.seeds().for_each(|seed| look(&mut sum, &run(seed)));
    sum
}

fn figures(rows: &[(&str, Orders)]) -> Vec<Figure> {
    let row = |(name, orders): &(&str, Orders)| {
        [
            Figure::new(
                format!("{name}: orders in one group of three, at most"),
                orders.most as f64,
                "orders",
            ),
            Figure::new(format!("{name}: messages that clients began"), orders.begun as f64, "messages"),
            Figure::new(format!("{name}: of these, delivered by any"), orders.delivered as f64, "messages"),
            Figure::new(format!("{name}: deliveries that are lacking"), orders.lacking as f64, "deliveries"),
            Figure::new(format!("{name}: of these, though acknowledged"), orders.broken as f64, "deliveries"),
            Figure::new(
                format!("{name}: deliveries for the second time"),
                orders.doubled as f64,
                "deliveries",
            ),
        ]
    };
    rows.iter().flat_map(row).collect()
}

fn measure(effort: Effort) -> Finding {
    let plan = Plan { swarm: Swarm::calm(3), gap_ns: 4 * MILLISECOND_NS, cuts: true, kill: true };
    let by_sequencer = sum(effort, |seed| sequenced(&plan, seed));
    let by_raft = sum(effort, |seed| over_raft(&plan, seed));
    let fifo = sum(effort, |seed| unordered::<FifoOrder>(&plan, seed));
    let causal = sum(effort, |seed| unordered::<CausalOrder>(&plan, seed));
    let holds = |orders: Orders| {
        let wrong = orders.lacking + orders.broken + orders.doubled;
        orders.delivered > 0 && orders.most == 1 && wrong == 0
    };
    Finding {
        verdict: Verdict::of(holds(by_sequencer) && holds(by_raft)),
        because: format!(
            "members of one group delivered in at most {} order by a sequencer and {} over Raft, and {} deliveries are lacking; in FIFO order it \
             is {} orders, in causal order {}",
            by_sequencer.most,
            by_raft.most,
            by_sequencer.lacking + by_raft.lacking,
            fifo.most,
            causal.most
        ),
        figures: figures(&[("sequencer", by_sequencer), ("raft", by_raft)]),
        control: Control {
            what: "the same in FIFO and in causal order".into(),
            figures: figures(&[("fifo", fifo), ("causal", causal)]),
            differs: fifo.most > 1 && causal.most > 1,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}
