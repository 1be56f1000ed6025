//! Claim 1.

use keypact_protocol::{NodeId, ReadLevel};

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::world::{COUNT_NS, WARM_NS, expect, leader_follower, per_second, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 1,
    part: "replication",
    text: "Leader-follower reads scale",
    how: "reads/s with 1, 2, 4, 8 followers, each asked by 60 clients, more than it can serve, that read what it has, while one client writes at the leader; \
          control: the same clients read at the leader",
    measure,
};

const FOLLOWERS: [usize; 4] = [1, 2, 4, 8];
const READERS: usize = 60;

fn reads_per_s(followers: usize, seed: u64, at_the_leader: bool) -> f64 {
    let mut roles = vec![Role::new(Aim::Leader, Task::Increment(1))];
    for follower in 0..followers {
        let (node, level) = match at_the_leader {
            true => (NodeId(1), ReadLevel::Lease),
            false => (NodeId(follower as u64 + 2), ReadLevel::Stale),
        };
        roles.extend([Role::new(Aim::At(node), Task::Read(1, level)); READERS]);
    }
    let mut world = leader_follower(priced(followers + 1), 0, NodeId(1), Load::new(roles), seed);
    expect(world.run_until(WARM_NS + COUNT_NS));
    per_second(world.clients().samples(), |client| client > 0)
}

fn measure(effort: Effort) -> Finding {
    let run = |at_the_leader: bool| -> Vec<f64> {
        let of = |followers: &usize| -> f64 {
            median(
                &effort.seeds().map(|seed| reads_per_s(*followers, seed, at_the_leader)).collect::<Vec<_>>(),
            )
        };
        FOLLOWERS.iter().map(of).collect()
    };
    let (spread, alone) = (run(false), run(true));
    let figures = |rates: &[f64]| -> Vec<Figure> {
        let figure = |(followers, rate): (&usize, &f64)| {
            Figure::new(format!("{followers} followers"), *rate, "reads/s")
        };
        FOLLOWERS.iter().zip(rates).map(figure).collect()
    };
    let (growth, control_growth) = (spread[3] / spread[0], alone[3] / alone[0]);
    Finding {
        verdict: Verdict::of(growth >= 6.0),
        because: format!(
            "eight followers answer {growth:.1} times what one answers; reads of what a follower has may be stale (claim 3)"
        ),
        figures: figures(&spread),
        control: Control {
            what: "all clients read at the leader".into(),
            figures: figures(&alone),
            differs: control_growth < 2.0,
        },
        plots: vec![Plot {
            title: "Reads per second".into(),
            x: "followers".into(),
            y: "reads/s".into(),
            xs: FOLLOWERS.iter().map(|count| *count as f64).collect(),
            lines: vec![Line::new("at the followers", spread), Line::new("at the leader", alone)],
        }],
        seeds: effort.seeds * 8,
    }
}
