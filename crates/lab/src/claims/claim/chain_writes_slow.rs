//! Claim 11.

use keypact_protocol::NodeId;
use keypact_simulator::{MILLISECOND_NS, SECOND_NS};

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::world::{chain, expect, priced, raft};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 11,
    part: "replication",
    text: "Chain writes slow with the chain's length",
    how: "median time of a write, ten clients that write every 5 ms, for chains of 2, 3, 5 and 7 members, and what one more member adds, beside \
          one link and one sync; control: Raft with as many members",
    measure,
};

const LENGTHS: [usize; 4] = [2, 3, 5, 7];
/// Counted from here on: a Raft group has a leader by then.
const FROM_NS: u64 = 3 * SECOND_NS;

fn writers() -> Load {
    Load::new([Role::new(Aim::Leader, Task::Append).every(5 * MILLISECOND_NS); 10])
}

fn middle_ms(load: &Load) -> f64 {
    let counts = load.samples().iter().filter(|sample| sample.is_done() && sample.begun_ns >= FROM_NS);
    median(&counts.map(|sample| (sample.ended_ns - sample.begun_ns) as f64 / 1e6).collect::<Vec<_>>())
}

fn chain_ms(length: usize, seed: u64) -> f64 {
    let mut world = chain(priced(length), NodeId(1), writers(), seed);
    expect(world.run_until(FROM_NS + SECOND_NS / 2));
    middle_ms(world.clients())
}

fn raft_ms(members: usize, seed: u64) -> f64 {
    let mut world = raft(priced(members), writers(), seed, |_| {});
    expect(world.run_until(FROM_NS + SECOND_NS / 2));
    middle_ms(world.clients())
}

fn measure(effort: Effort) -> Finding {
    let all = |of: fn(usize, u64) -> f64| -> Vec<f64> {
        let one = |length: &usize| median(&effort.seeds().map(|seed| of(*length, seed)).collect::<Vec<_>>());
        LENGTHS.iter().map(one).collect()
    };
    let (chains, rafts) = (all(chain_ms), all(raft_ms));
    let swarm = priced(2);
    // A link takes its least and by chance up to its spread more; a sync up to as much again.
    let link_ms = (swarm.delay_min_ns as f64 + swarm.delay_spread_ns as f64 / 2.0) / 1e6;
    let sync_ms = swarm.sync_ns as f64 * 1.5 / 1e6;
    let slope = |times: &[f64]| (times[3] - times[0]) / (LENGTHS[3] - LENGTHS[0]) as f64;
    let rows = |times: &[f64]| -> Vec<Figure> {
        let row = |(length, ms): (&usize, &f64)| Figure::new(format!("{length} members"), *ms, "ms");
        let rows = LENGTHS.iter().zip(times).map(row);
        rows.chain([Figure::new("each member adds", slope(times), "ms")]).collect()
    };
    let mut figures = rows(&chains);
    figures.push(Figure::new("one link", link_ms, "ms"));
    figures.push(Figure::new("one link and one sync", link_ms + sync_ms, "ms"));
    Finding {
        verdict: Verdict::of(chains.is_sorted() && chains[3] > chains[0] * 1.2),
        because: format!(
            "each member adds {:.3} ms, which is {:.1} links, or {:.1} of one link and one sync: members pass entries on before their own disk \
             has them",
            slope(&chains),
            slope(&chains) / link_ms,
            slope(&chains) / (link_ms + sync_ms)
        ),
        figures,
        control: Control {
            what: "Raft with as many members".into(),
            figures: rows(&rafts),
            differs: slope(&rafts) < slope(&chains) / 2.0,
        },
        plots: vec![Plot {
            title: "Median time of a write".into(),
            x: "members".into(),
            y: "ms".into(),
            xs: LENGTHS.iter().map(|length| *length as f64).collect(),
            lines: vec![Line::new("chain", chains), Line::new("raft (control)", rafts)],
        }],
        seeds: effort.seeds * 8,
    }
}
