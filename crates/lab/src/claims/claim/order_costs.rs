//! Claim 52.

use std::collections::BTreeMap;
use std::fmt::Write;

use keypact_ordering::causal::CausalOrder;
use keypact_ordering::fifo::FifoOrder;
use keypact_simulator::{MILLISECOND_NS, Swarm};

use crate::claims::broadcasts::{Heard, Plan, over_raft, sequenced, unordered};
use crate::claims::finding::{Control, Figure, Finding, Verdict, median, percentile};
use crate::claims::world::priced;
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 52,
    part: "ordering and choice",
    text: "Stronger order costs latency",
    how: "five members broadcast every 5 ms for a second. Time from the client's broadcast to its delivery at another member, median of all, and until \
          all members have delivered it; and messages between nodes for each broadcast, statuses and heartbeats too. Over links that take 0.05 to \
          0.15 ms, and over links that take 0.05 to 10 ms, where what goes one way overtakes what goes another. Total order by a sequencer and over Raft; \
          each is held against FIFO, and costs latency if its median at another member is 5 % more. Control: a group of one, with nobody to wait for",
    measure,
};

/// So much more is a cost and no chance, parts of one.
const MARGIN: f64 = 0.05;

/// What a broadcast takes, milliseconds, and messages for each.
#[derive(Clone, Copy)]
struct Cost {
    /// Until another member delivers it; in a group of one, its own. Median of all.
    one_ms: f64,
    /// The slowest hundredth of these takes longer.
    one_p99_ms: f64,
    /// Until all have. Median.
    all_ms: f64,
    messages: f64,
}

const NAMES: [&str; 4] = ["fifo", "causal", "total by sequencer", "total over raft"];

/// Of each broadcast, how long it took until each other member delivered it, or the only one; and of those that all have, until then.
fn times_ms(heard: &Heard) -> (Vec<f64>, Vec<f64>) {
    let alone = heard.by_node.len() == 1;
    let mut ones = Vec::new();
    let mut last_ms: BTreeMap<_, (usize, f64)> = BTreeMap::new();
    for (node, there) in heard.by_node.iter().enumerate() {
        for (note, at_ns) in there {
            let ms = (at_ns - heard.begun_ns[note]) as f64 / MILLISECOND_NS as f64;
            if alone || note.node.0 != node as u64 + 1 {
                ones.push(ms);
            }
            let (members, last) = last_ms.entry(*note).or_default();
            *members += 1;
            *last = ms.max(*last);
        }
    }
    let everywhere = last_ms.into_values().filter(|(members, _)| *members == heard.by_node.len());
    (ones, everywhere.map(|(_, ms)| ms).collect())
}

fn costs(effort: Effort, swarm: &Swarm) -> [Cost; 4] {
    let plan = Plan { swarm: swarm.clone(), gap_ns: 5 * MILLISECOND_NS, cuts: false, kill: false };
    let runs: [fn(&Plan, u64) -> Heard; 4] =
        [unordered::<FifoOrder>, unordered::<CausalOrder>, sequenced, over_raft];
    runs.map(|run| {
        let (mut ones, mut alls, mut messages, mut broadcasts) = (Vec::new(), Vec::new(), 0, 0);
        for seed in effort.seeds() {
            let heard = run(&plan, seed);
            let (one, all) = times_ms(&heard);
            ones.extend(one);
            alls.extend(all);
            messages += heard.messages;
            broadcasts += heard.begun_ns.len() as u64;
        }
        assert!(alls.len() as u64 == broadcasts, "in a calm world all members deliver all");
        Cost {
            one_ms: median(&ones),
            one_p99_ms: percentile(&ones, 0.99),
            all_ms: median(&alls),
            messages: messages as f64 / broadcasts.max(1) as f64,
        }
    })
}

fn figures(of: &str, costs: &[Cost; 4]) -> Vec<Figure> {
    let row = |(name, cost): (&&str, &Cost)| {
        [
            Figure::new(format!("{of}, {name}: median until another has it"), cost.one_ms, "ms"),
            Figure::new(format!("{of}, {name}: p99 until another has it"), cost.one_p99_ms, "ms"),
            Figure::new(format!("{of}, {name}: median until all have it"), cost.all_ms, "ms"),
            Figure::new(format!("{of}, {name}: messages per broadcast"), cost.messages, "messages"),
        ]
    };
    NAMES.iter().zip(costs).flat_map(row).collect()
}

/// Whether causal order, total order by a sequencer and total order over Raft cost more than FIFO.
fn dearer([fifo, stronger @ ..]: &[Cost; 4]) -> [bool; 3] {
    stronger.map(|cost| cost.one_ms > fifo.one_ms * (1.0 + MARGIN))
}

fn because(near: &[Cost; 4], uneven: &[Cost; 4]) -> String {
    let mut text = String::from("against FIFO, and in the median,");
    let found = dearer(near).into_iter().zip(dearer(uneven));
    for (at, ((on_even, on_uneven), name)) in found.zip(&NAMES[1..]).enumerate() {
        let where_it_costs = match (on_even, on_uneven) {
            (true, true) => "costs latency on both kinds of links",
            (true, false) => "costs latency on short, even links only",
            (false, true) => "costs latency on long, uneven links only",
            (false, false) => "costs none on either",
        };
        let semicolon = if at == 0 { "" } else { ";" };
        write!(text, "{semicolon} {name} {where_it_costs}").expect("text takes all");
    }
    let says = |costs: &[Cost; 4]| {
        let [fifo, causal, sequencer, raft] = costs.map(|cost| cost.one_ms);
        format!("{fifo:.2} FIFO, {causal:.2} causal, {sequencer:.2} by a sequencer, {raft:.2} over Raft")
    };
    format!(
        "{text}. Medians until another member has it, in ms: on even links {}; on uneven ones {}",
        says(near),
        says(uneven)
    )
}

fn measure(effort: Effort) -> Finding {
    let near = costs(effort, &priced(5));
    let uneven = costs(effort, &Swarm { delay_spread_ns: 10 * MILLISECOND_NS, ..priced(5) });
    let alone = costs(effort, &priced(1));
    let found = [dearer(&near), dearer(&uneven)].concat();
    let verdict = match found.iter().filter(|dearer| **dearer).count() {
        0 => Verdict::DoesNotHold,
        some if some < found.len() => Verdict::HoldsOnlyIf,
        _ => Verdict::Holds,
    };
    Finding {
        verdict,
        because: because(&near, &uneven),
        figures: [figures("even links", &near), figures("uneven links", &uneven)].concat(),
        control: Control {
            what: "a group of one".into(),
            figures: figures("alone", &alone),
            differs: !dearer(&alone).contains(&true),
        },
        plots: Vec::new(),
        seeds: effort.seeds * 12,
    }
}
