//! Claim 2.

use keypact_protocol::{NodeId, ReadLevel};

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::world::{COUNT_NS, WARM_NS, expect, leader_follower, per_second, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 2,
    part: "replication",
    text: "Leader-follower writes bottleneck at the leader",
    how: "writes/s of 200 clients with 1, 2, 4, 8 followers, and the share of time that the leader and the busiest follower work; \
          control: the same clients read at the followers",
    measure,
};

const FOLLOWERS: [usize; 4] = [1, 2, 4, 8];
const CLIENTS: usize = 200;

/// Operations a second, and the busy shares of the leader and of the busiest follower.
fn run(followers: usize, seed: u64, writes: bool) -> (f64, f64, f64) {
    let role = |client: usize| match writes {
        true => Role::new(Aim::Leader, Task::Increment(client as u16)),
        false => {
            let node = NodeId((client % followers) as u64 + 2);
            Role::new(Aim::At(node), Task::Read(1, ReadLevel::Stale))
        }
    };
    let load = Load::new((0..CLIENTS).map(role));
    let mut world = leader_follower(priced(followers + 1), 0, NodeId(1), load, seed);
    expect(world.run_until(WARM_NS));
    let members: Vec<NodeId> = (1..=followers as u64 + 1).map(NodeId).collect();
    let before: Vec<u64> = members.iter().map(|node| world.work(*node).busy_ns).collect();
    expect(world.run_until(WARM_NS + COUNT_NS));
    let shares = members
        .iter()
        .zip(before)
        .map(|(node, before)| (world.work(*node).busy_ns - before) as f64 / COUNT_NS as f64);
    let shares: Vec<f64> = shares.collect();
    let busiest = shares[1..].iter().copied().fold(0.0, f64::max);
    (per_second(world.clients().samples(), |_| true), shares[0], busiest)
}

fn measure(effort: Effort) -> Finding {
    let all = |writes: bool| -> Vec<(f64, f64, f64)> {
        let of = |followers: &usize| {
            let runs: Vec<_> = effort.seeds().map(|seed| run(*followers, seed, writes)).collect();
            let middle =
                |pick: fn(&(f64, f64, f64)) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
            (middle(|run| run.0), middle(|run| run.1), middle(|run| run.2))
        };
        FOLLOWERS.iter().map(of).collect()
    };
    let (writes, reads) = (all(true), all(false));
    let mut figures = Vec::new();
    for (followers, (rate, leader, busiest)) in FOLLOWERS.iter().zip(&writes) {
        figures.push(Figure::new(format!("{followers} followers"), *rate, "writes/s"));
        figures.push(Figure::new(format!("{followers} followers: leader busy"), leader * 100.0, "%"));
        figures.push(Figure::new(format!("{followers} followers: busiest follower"), busiest * 100.0, "%"));
    }
    let growth = writes[3].0 / writes[0].0;
    let control_growth = reads[3].0 / reads[0].0;
    let at_its_limit = writes.iter().all(|(_, leader, _)| *leader > 0.9);
    Finding {
        verdict: Verdict::of(growth <= 1.1 && at_its_limit),
        because: format!(
            "with eight followers the group writes {growth:.2} times what it writes with one, and the leader is busy {:.0} % of the time",
            writes[3].1 * 100.0
        ),
        figures,
        control: Control {
            what: "stale reads at the followers instead of writes".into(),
            figures: vec![
                Figure::new("1 follower", reads[0].0, "reads/s"),
                Figure::new("8 followers", reads[3].0, "reads/s"),
            ],
            differs: control_growth > 2.0,
        },
        plots: vec![Plot {
            title: "Operations per second".into(),
            x: "followers".into(),
            y: "operations/s".into(),
            xs: FOLLOWERS.iter().map(|count| *count as f64).collect(),
            lines: vec![
                Line::new("writes", writes.iter().map(|run| run.0).collect()),
                Line::new("reads at followers (control)", reads.iter().map(|run| run.0).collect()),
            ],
        }],
        seeds: effort.seeds * 8,
    }
}
