//! Claim 53.

use crate::claims::cap::{Kept, kept};
use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 53,
    part: "ordering and choice",
    text: "Under a cut each keyspace keeps consistency or availability",
    how: "three nodes of each replication, cut for five seconds into the leader's side and the others'; on each side a client \
          writes every 10 ms. Consistency is given up if both sides write in the same tenth of a second, availability is kept if both sides write in 95 \
          of 100. `keypact lab cap` shows each side. Control: no cut",
    measure,
};

/// Writing in so much of the time is being available, percent.
const AVAILABLE: f64 = 95.0;

fn typical(effort: Effort, cut: bool) -> Vec<Kept> {
    let runs: Vec<Vec<Kept>> = effort.seeds().map(|seed| kept(seed, cut)).collect();
    let names = runs[0].iter().map(|kept| kept.replication);
    let row = |(at, replication): (usize, &'static str)| {
        let of = |figure: fn(&Kept) -> f64| runs.iter().map(|run| figure(&run[at])).collect::<Vec<f64>>();
        Kept {
            replication,
            // One seed in which both sides write is too many.
            both_percent: of(|kept| kept.both_percent).into_iter().fold(0.0, f64::max),
            least_percent: median(&of(|kept| kept.least_percent)),
        }
    };
    names.enumerate().map(row).collect()
}

fn figures(rows: &[Kept]) -> Vec<Figure> {
    let both = |kept: &Kept| {
        let name = kept.replication;
        [
            Figure::new(format!("{name}: both sides write, at most"), kept.both_percent, "%"),
            Figure::new(format!("{name}: the side with fewer writes writes"), kept.least_percent, "%"),
        ]
    };
    rows.iter().flat_map(both).collect()
}

fn measure(effort: Effort) -> Finding {
    let (cut, whole) = (typical(effort, true), typical(effort, false));
    let consistent = cut.iter().filter(|kept| kept.both_percent == 0.0).count();
    let available = cut.iter().filter(|kept| kept.least_percent >= AVAILABLE).count();
    let either =
        cut.iter().filter(|kept| (kept.both_percent == 0.0) != (kept.least_percent >= AVAILABLE)).count();
    Finding {
        verdict: Verdict::of(either == cut.len()),
        because: format!(
            "of {} replications {consistent} keep one order of writes and {available} go on writing on both sides; {either} do one and not the other",
            cut.len()
        ),
        figures: figures(&cut),
        control: Control {
            what: "no cut".into(),
            figures: figures(&whole),
            differs: whole.iter().all(|kept| kept.least_percent >= AVAILABLE),
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}
