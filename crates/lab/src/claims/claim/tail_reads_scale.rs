//! Claim 10.

use keypact_protocol::{NodeId, ReadLevel};

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Task};
use crate::claims::world::{COUNT_NS, WARM_NS, chain, expect, per_second, priced};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 10,
    part: "replication",
    text: "Tail reads scale",
    how: "linearizable reads/s of chains of 2, 3, 5 and 8 members, 20 reading clients for each, while four clients write another key: all at the \
          tail, or spread over the members (CRAQ); control: spread, but of the key that is written, so that members ask the tail",
    measure,
};

const LENGTHS: [usize; 4] = [2, 3, 5, 8];
const READERS: usize = 20;
const WRITERS: usize = 4;
/// The key that is written, and one that is not.
const WRITTEN: u16 = 1;
const QUIET: u16 = 2;

fn reads_per_s(length: usize, seed: u64, spread: bool, key: u16) -> f64 {
    let mut roles = vec![Role::new(Aim::Leader, Task::Increment(WRITTEN)); WRITERS];
    for member in 1..=length as u64 {
        let node = NodeId(if spread { member } else { length as u64 });
        roles.extend([Role::new(Aim::At(node), Task::Read(key, ReadLevel::Linearizable)); READERS]);
    }
    let mut world = chain(priced(length), NodeId(1), Load::new(roles), seed);
    expect(world.run_until(WARM_NS + COUNT_NS));
    per_second(world.clients().samples(), |client| client >= WRITERS)
}

fn measure(effort: Effort) -> Finding {
    let run = |spread: bool, key: u16| -> Vec<f64> {
        let of = |length: &usize| {
            median(&effort.seeds().map(|seed| reads_per_s(*length, seed, spread, key)).collect::<Vec<_>>())
        };
        LENGTHS.iter().map(of).collect()
    };
    let (tail, craq, dirty) = (run(false, QUIET), run(true, QUIET), run(true, WRITTEN));
    let growth = |rates: &[f64]| rates[3] / rates[0];
    let mut figures = Vec::new();
    for (at, length) in LENGTHS.iter().enumerate() {
        figures.push(Figure::new(format!("{length} members, at the tail"), tail[at], "reads/s"));
        figures.push(Figure::new(format!("{length} members, at every member"), craq[at], "reads/s"));
    }
    let (flat, grows) = (growth(&tail) < 2.0, growth(&craq) >= 3.0);
    Finding {
        verdict: match (flat, grows) {
            (false, _) => Verdict::Holds,
            (true, true) => Verdict::HoldsOnlyIf,
            (true, false) => Verdict::DoesNotHold,
        },
        because: format!(
            "from 2 to 8 members reads at the tail alone grow {:.2} times, reads at every member {:.2} times (4 is linear){}",
            growth(&tail),
            growth(&craq),
            if flat && grows { ": only if every member may answer" } else { "" }
        ),
        figures,
        control: Control {
            what: "reads at every member, of the key that is being written".into(),
            figures: vec![
                Figure::new("2 members", dirty[0], "reads/s"),
                Figure::new("8 members", dirty[3], "reads/s"),
            ],
            differs: dirty[3] < craq[3] * 0.8,
        },
        plots: vec![Plot {
            title: "Linearizable reads per second".into(),
            x: "members".into(),
            y: "reads/s".into(),
            xs: LENGTHS.iter().map(|length| *length as f64).collect(),
            lines: vec![
                Line::new("at the tail", tail),
                Line::new("at every member", craq),
                Line::new("at every member, key being written (control)", dirty),
            ],
        }],
        seeds: effort.seeds * 12,
    }
}
