//! Claim 3.

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::{KvAnswer, MICROSECOND_NS, MILLISECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Verdict, percentile};
use crate::claims::load::{Aim, Ended, Load, Role, Sample, Task};
use crate::claims::world::{COUNT_NS, WARM_NS, expect, leader_follower, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 3,
    part: "replication",
    text: "Follower reads are stale",
    how: "one client writes a counter about every millisecond, others read it at two followers: share of reads that miss a write acknowledged \
          before they began, and how old what they saw was; control: they read at the leader, by lease",
    measure,
};

/// Share of stale reads, and the ages of what they saw, milliseconds.
#[derive(Default)]
struct Staleness {
    reads: u64,
    ages_ms: Vec<f64>,
}

impl Staleness {
    fn share(&self) -> f64 {
        self.ages_ms.len() as f64 / self.reads.max(1) as f64
    }
}

fn number(sample: &Sample) -> Option<i64> {
    match sample.ended {
        Ended::Done(KvAnswer::Number(number)) => Some(number),
        _ => None,
    }
}

fn run(effort: Effort, level: ReadLevel) -> Staleness {
    let mut found = Staleness::default();
    for seed in effort.seeds() {
        let reader =
            |node| Role::new(Aim::At(NodeId(node)), Task::Read(1, level)).every(700 * MICROSECOND_NS);
        let readers = if level == ReadLevel::Stale { [reader(2), reader(3)] } else { [reader(1), reader(1)] };
        let writer = Role::new(Aim::Leader, Task::Increment(1)).every(MILLISECOND_NS);
        let load = Load::new([writer].into_iter().chain(readers));
        let mut world = leader_follower(priced(3), 0, NodeId(1), load, seed);
        expect(world.run_until(WARM_NS + COUNT_NS));
        let samples = world.clients().samples();
        // When each value of the counter was acknowledged; values rise with time.
        let written: Vec<(i64, u64)> = samples
            .iter()
            .filter(|sample| sample.client == 0)
            .filter_map(|sample| Some((number(sample)?, sample.ended_ns)))
            .collect();
        for sample in samples.iter().filter(|sample| sample.client > 0 && sample.begun_ns >= WARM_NS) {
            let Some(seen) = number(sample) else { continue };
            found.reads += 1;
            let missed = written.iter().find(|(value, _)| *value > seen);
            if let Some((_, acknowledged_ns)) = missed
                && *acknowledged_ns < sample.begun_ns
            {
                found.ages_ms.push((sample.begun_ns - acknowledged_ns) as f64 / MILLISECOND_NS as f64);
            }
        }
    }
    found
}

fn measure(effort: Effort) -> Finding {
    let (followers, leader) = (run(effort, ReadLevel::Stale), run(effort, ReadLevel::Lease));
    Finding {
        verdict: Verdict::of(followers.share() > 0.0),
        because: format!(
            "{:.1} % of the reads at followers miss a write that was acknowledged before they began",
            followers.share() * 100.0
        ),
        figures: vec![
            Figure::new("reads at followers", followers.reads as f64, "reads"),
            Figure::new("stale", followers.share() * 100.0, "%"),
            Figure::new("age of stale reads, median", percentile(&followers.ages_ms, 0.5), "ms"),
            Figure::new("age of stale reads, p99", percentile(&followers.ages_ms, 0.99), "ms"),
        ],
        control: Control {
            what: "the same reads at the leader, by lease".into(),
            figures: vec![
                Figure::new("reads at the leader", leader.reads as f64, "reads"),
                Figure::new("stale", leader.share() * 100.0, "%"),
            ],
            differs: leader.reads > 0 && leader.share() == 0.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 2,
    }
}
