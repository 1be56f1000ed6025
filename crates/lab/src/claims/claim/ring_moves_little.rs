//! Claims 22, 23 and 25.

use keypact_partitioning::Member;
use keypact_partitioning::ring::{Ring, Tokens};
use keypact_protocol::NodeId;

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::partition::{max_over_mean, ring};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const MOVES: Claim = Claim {
    number: 22,
    part: "partitioning",
    text: "A node that joins or leaves a ring moves about 1/N of the keys",
    how: "rings of 10, 100 and 1,000 nodes, 128 tokens each, random and allocated: share of the circle that changes its owner when one more \
          node joins, and when one leaves, times N; control: one token for each node",
    measure: moves,
};

pub(in crate::claims) const ADJACENT: Claim = Claim {
    number: 23,
    part: "partitioning",
    text: "Only adjacent partitions are affected",
    how: "a node joins a ring of 20: how many nodes give something to it, and the share that moves between two others, with one token each; \
          control: 128 tokens each",
    measure: adjacent,
};

pub(in crate::claims) const UNEVEN: Claim = Claim {
    number: 25,
    part: "partitioning",
    text: "A ring is uneven without virtual nodes",
    how: "largest share beside the mean, 100 nodes, 1, 8, 64 and 256 random tokens each; control: 128 allocated tokens",
    measure: uneven,
};

/// Rings with one token each, of which the spread is taken.
const SINGLE_RUNS: u64 = 20;

fn joined(before: &Ring, node: NodeId) -> Ring {
    let mut after = before.clone();
    after.join(Member::alone(node)).expect("a new node");
    after
}

/// Shares moved by a join and by a leave, times the number of nodes after and before.
fn moved(count: u64, tokens_each: u32, tokens: Tokens, seed: u64) -> (f64, f64) {
    let before = ring(count, tokens_each, tokens, seed);
    let new = NodeId(count + 1);
    let join = before.moved(&joined(&before, new), new).share;
    let mut after = before.clone();
    let gone = NodeId(seed % count + 1);
    after.leave(gone).expect("it is there");
    (join * (count + 1) as f64, before.moved(&after, gone).share * count as f64)
}

fn moves(effort: Effort) -> Finding {
    let mut figures = Vec::new();
    let mut worst: f64 = 0.0;
    let middle = |runs: &[(f64, f64)]| {
        let pick = |of: fn(&(f64, f64)) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
        (pick(|run| run.0), pick(|run| run.1))
    };
    for count in [10, 100, 1_000] {
        for (name, tokens) in [("random", Tokens::Random), ("allocated", Tokens::Allocated)] {
            let runs: Vec<_> = effort.seeds().map(|seed| moved(count, 128, tokens, seed)).collect();
            let (join, leave) = middle(&runs);
            figures.push(Figure::new(format!("{count} nodes, {name} tokens: join moves"), join, "/ N"));
            figures.push(Figure::new(format!("{count} nodes, {name} tokens: leave moves"), leave, "/ N"));
            worst = worst.max((join - 1.0).abs()).max((leave - 1.0).abs());
        }
    }
    let single: Vec<_> = (effort.first_seed..effort.first_seed.saturating_add(SINGLE_RUNS))
        .map(|seed| moved(100, 1, Tokens::Random, seed).0)
        .collect();
    let spread =
        single.iter().copied().fold(0.0, f64::max) - single.iter().copied().fold(f64::INFINITY, f64::min);
    Finding {
        verdict: Verdict::of(worst < 0.3),
        because: format!("with 128 tokens each, medians are within {:.0} % of 1/N", worst * 100.0),
        figures,
        control: Control {
            what: "one random token for each of 100 nodes: largest less smallest share that a join moves"
                .into(),
            figures: vec![Figure::new("spread", spread, "/ N")],
            differs: spread > 0.5,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 6 + SINGLE_RUNS,
    }
}

/// How many nodes give to the one that joins, and the share that moves elsewhere.
fn givers(tokens_each: u32, seed: u64) -> (f64, f64) {
    let before = ring(20, tokens_each, Tokens::Random, seed);
    let new = NodeId(21);
    let after = joined(&before, new);
    let owned = |ring: &Ring| -> Vec<(NodeId, f64)> {
        ring.members().iter().map(|member| member.node).zip(ring.shares()).collect()
    };
    let later = owned(&after);
    let gave = owned(&before)
        .into_iter()
        .filter(|(node, share)| later.iter().any(|(other, less)| other == node && *less < share - 1e-12));
    (gave.count() as f64, before.moved(&after, new).elsewhere)
}

fn adjacent(effort: Effort) -> Finding {
    let middle = |tokens_each: u32| {
        let runs: Vec<_> = effort.seeds().map(|seed| givers(tokens_each, seed)).collect();
        let elsewhere = runs.iter().map(|run| run.1).fold(0.0, f64::max);
        (median(&runs.iter().map(|run| run.0).collect::<Vec<_>>()), elsewhere)
    };
    let (one, many) = (middle(1), middle(128));
    Finding {
        verdict: match (one.0 == 1.0 && one.1 == 0.0, many.0 == 1.0 && many.1 == 0.0) {
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOnlyIf,
            (false, _) => Verdict::DoesNotHold,
        },
        because: format!(
            "with one token each {} node gives to the new one, with 128 tokens {} of 20 do; {:.1} % move between two others",
            one.0,
            many.0,
            one.1.max(many.1) * 100.0
        ),
        figures: vec![
            Figure::new("one token: nodes that give to the new one", one.0, "nodes"),
            Figure::new("one token: moved between others", one.1 * 100.0, "%"),
            Figure::new("128 tokens: moved between others", many.1 * 100.0, "%"),
        ],
        control: Control {
            what: "128 tokens each".into(),
            figures: vec![Figure::new("nodes that give to the new one", many.0, "nodes")],
            differs: many.0 > 1.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}

fn uneven(effort: Effort) -> Finding {
    const TOKENS: [u32; 4] = [1, 8, 64, 256];
    let of = |tokens_each: u32, tokens: Tokens| {
        let runs: Vec<_> = effort
            .seeds()
            .map(|seed| max_over_mean(&ring(100, tokens_each, tokens, seed).shares()))
            .collect();
        median(&runs)
    };
    let random: Vec<f64> = TOKENS.iter().map(|tokens| of(*tokens, Tokens::Random)).collect();
    let allocated = of(128, Tokens::Allocated);
    let figure = |(tokens, ratio): (&u32, &f64)| {
        Figure::new(format!("{tokens} tokens each: largest / mean"), *ratio, "")
    };
    Finding {
        verdict: Verdict::of(random[0] > 3.0 && random[3] < 1.5),
        because: format!(
            "with one token the largest share is {:.1} times the mean, with 256 it is {:.2} times",
            random[0], random[3]
        ),
        figures: TOKENS.iter().zip(&random).map(figure).collect(),
        control: Control {
            what: "128 allocated tokens".into(),
            figures: vec![Figure::new("largest / mean", allocated, "")],
            differs: allocated < random[3],
        },
        plots: vec![Plot {
            title: "Largest share beside the mean".into(),
            x: "tokens of each node".into(),
            y: "largest / mean".into(),
            xs: TOKENS.iter().map(|tokens| f64::from(*tokens)).collect(),
            lines: vec![Line::new("random tokens", random)],
        }],
        seeds: effort.seeds * 5,
    }
}
