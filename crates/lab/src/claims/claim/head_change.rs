//! Claim 13.

use std::collections::BTreeMap;

use keypact_protocol::NodeId;
use keypact_replication::chain::{Body, MemberState, Message};
use keypact_simulator::{Kv, Loss, MILLISECOND_NS, Observer, ProtocolProcess, SECOND_NS, Violation};

use crate::claims::finding::{Control, Figure, Finding, Verdict, median};
use crate::claims::load::{Aim, Load, Role, Sample, Task};
use crate::claims::world::{chain_watched, expect, priced};
use crate::claims::{Claim, Effort};
use crate::scenarios::ChainSeat;

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 13,
    part: "replication",
    text: "A chain's head can be changed independently",
    how: "chains of four; after two seconds of writes the head is restarted on purpose: the next member becomes head, the old one comes back as tail. \
          Bytes of entries and snapshots that the other three are sent meanwhile though they had them; once with writes at rest, once with \
          five writers at work. Control: the member behind the head is restarted, too",
    measure,
};

const MEMBERS: usize = 4;
const CHANGE_AT_NS: u64 = 2 * SECOND_NS;
const END_NS: u64 = 7 * SECOND_NS;

/// Counts what members are sent again, from some moment on.
#[derive(Debug, Default)]
struct Tap {
    /// By member, the last entry that it was ever sent; the head has its own.
    had: BTreeMap<NodeId, u64>,
    again_bytes: BTreeMap<NodeId, u64>,
    new_bytes: BTreeMap<NodeId, u64>,
}

impl Observer<ProtocolProcess<ChainSeat, Kv>> for Tap {
    fn sent(&mut self, now_ns: u64, _: NodeId, to: NodeId, message: &Message) -> Result<(), Violation> {
        let had = self.had.entry(to).or_default();
        match &message.body {
            Body::Forward { entries, .. } => {
                for entry in entries {
                    let is_new = entry.index() > *had;
                    *had = entry.index().max(*had);
                    if now_ns >= CHANGE_AT_NS {
                        let counted = if is_new { &mut self.new_bytes } else { &mut self.again_bytes };
                        *counted.entry(to).or_default() += entry.len_bytes() as u64;
                    }
                }
            }
            Body::Snapshot(chunk) if now_ns >= CHANGE_AT_NS => {
                *self.again_bytes.entry(to).or_default() += chunk.bytes.len() as u64;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What came of one change of head.
struct Change {
    /// Sent to the others though they had it, bytes.
    others_again: f64,
    /// Sent to the old head on its way back, bytes.
    old_head: f64,
    /// The longest time without a write after the change, milliseconds.
    pause_ms: f64,
}

fn change(at_rest: bool, restarted: &[u64], seed: u64) -> Change {
    let writer = Role::new(Aim::Leader, Task::Append).every(2 * MILLISECOND_NS).timeout(50 * MILLISECOND_NS);
    let mut world = chain_watched(priced(MEMBERS), NodeId(3), Load::new([writer; 5]), Tap::default(), seed);
    expect(world.run_until(CHANGE_AT_NS - SECOND_NS / 2));
    if at_rest {
        world.clients_mut().stop();
    }
    expect(world.run_until(CHANGE_AT_NS));
    let head = NodeId(restarted[0]);
    for node in restarted {
        expect(world.kill(NodeId(*node), Loss::Nothing));
        expect(world.revive(NodeId(*node)));
    }
    expect(world.run_until(END_NS));
    let back = world.process(head).map(|process| process.protocol().member().state());
    assert!(back == Some(MemberState::Serving), "the old head serves again, seed {seed}: {back:?}");
    let tap = world.observer();
    let sum = |bytes: &BTreeMap<NodeId, u64>, counts: &dyn Fn(NodeId) -> bool| {
        bytes.iter().filter(|(node, _)| counts(**node)).map(|(_, bytes)| *bytes).sum::<u64>() as f64
    };
    Change {
        others_again: sum(&tap.again_bytes, &|node| node != head),
        old_head: sum(&tap.again_bytes, &|node| node == head) + sum(&tap.new_bytes, &|node| node == head),
        pause_ms: pause_ms(world.clients().samples()),
    }
}

fn pause_ms(samples: &[Sample]) -> f64 {
    let mut ends: Vec<u64> =
        samples.iter().filter(|sample| sample.is_done()).map(|sample| sample.ended_ns).collect();
    ends.retain(|at_ns| *at_ns >= CHANGE_AT_NS);
    ends.sort_unstable();
    let mut last_ns = CHANGE_AT_NS;
    let gaps = ends.into_iter().map(|at_ns| at_ns - core::mem::replace(&mut last_ns, at_ns));
    gaps.max().unwrap_or(0) as f64 / 1e6
}

fn measure(effort: Effort) -> Finding {
    let run = |at_rest: bool, restarted: &[u64]| -> Vec<Change> {
        effort.seeds().map(|seed| change(at_rest, restarted, seed)).collect()
    };
    let (rest, busy) = (run(true, &[1]), run(false, &[1]));
    let (two_rest, two_busy) = (run(true, &[1, 2]), run(false, &[1, 2]));
    let of =
        |runs: &[Change], figure: fn(&Change) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
    let again = |runs: &[Change]| runs.iter().map(|run| run.others_again).collect::<Vec<_>>();
    let most = |runs: &[Change]| again(runs).into_iter().fold(0.0, f64::max);
    let least = |runs: &[Change]| again(runs).into_iter().fold(f64::INFINITY, f64::min);
    let (rest_again, busy_again) = (most(&rest), most(&busy));
    Finding {
        verdict: match (rest_again == 0.0, busy_again == 0.0) {
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOnlyIf,
            (false, _) => Verdict::DoesNotHold,
        },
        because: format!(
            "with writes at rest the other members are sent {rest_again:.0} bytes again, with five writers at work up to {busy_again:.0}: what was under way; \
             writes pause for {:.0} ms",
            of(&busy, |run| run.pause_ms)
        ),
        figures: vec![
            Figure::new("at rest: sent to the others again, at most", rest_again, "bytes"),
            Figure::new("at rest: sent to the old head", of(&rest, |run| run.old_head), "bytes"),
            Figure::new("at work: sent to the others again, at most", busy_again, "bytes"),
            Figure::new("at work: sent to the old head", of(&busy, |run| run.old_head), "bytes"),
            Figure::new("at work: longest time without a write", of(&busy, |run| run.pause_ms), "ms"),
        ],
        control: Control {
            what: "the member behind the head is restarted, too".into(),
            figures: vec![
                Figure::new("at rest: sent to the others again, at least", least(&two_rest), "bytes"),
                Figure::new("at work: sent to the others again, at least", least(&two_busy), "bytes"),
            ],
            differs: least(&two_rest) > rest_again && least(&two_busy) > busy_again,
        },
        plots: Vec::new(),
        seeds: effort.seeds * 4,
    }
}
