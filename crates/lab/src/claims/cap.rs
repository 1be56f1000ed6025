//! A live cut through a group of each replication that keeps one order of writes: what each side answers meanwhile and after (claim 53).
//!
//! Three nodes; after two seconds node 1, which leads where somebody leads, is cut off from nodes 2 and 3 for five seconds. On each side a
//! client writes, one reads as strictly as the replication allows, and one reads what its node has.

use std::collections::BTreeSet;

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::{MILLISECOND_NS, SECOND_NS};
use serde::Serialize;

use super::load::{Aim, Load, Role, Sample, Task};
use super::world::{chain, expect, leader_follower, nodes, priced, raft};

/// Which side of the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Node 1, with the leader of before.
    One,
    /// Nodes 2 and 3.
    Two,
}

/// What one kind of client saw on one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CapRow {
    /// The replication.
    pub replication: &'static str,
    /// The side.
    pub side: Side,
    /// What was asked.
    pub operation: &'static str,
    /// Done in a second before the cut.
    pub before_per_s: f64,
    /// Share of the time of the cut, by tenths of a second, in which something was done. Percent.
    pub available_percent: f64,
    /// From the cut to the last thing done before a pause of half a second or the end of the cut. Seconds.
    pub stopped_after_s: Option<f64>,
    /// From the cut to the first thing done after such a pause. Seconds; `None` if there was no pause or nothing came after it.
    pub resumed_after_s: Option<f64>,
    /// From the healing to the first thing done.
    pub after_healing_s: Option<f64>,
}

/// What `keypact lab cap --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CapReport {
    /// One row for each replication, side and kind of client.
    pub rows: Vec<CapRow>,
    /// The seed.
    pub seed: u64,
    /// How long the cut is. Seconds.
    pub cut_s: f64,
}

const CUT_AT_NS: u64 = 2 * SECOND_NS;
const HEAL_AT_NS: u64 = 7 * SECOND_NS;
const END_NS: u64 = 12 * SECOND_NS;
/// Longer without an answer than this is a pause.
const PAUSE_NS: u64 = SECOND_NS / 2;
/// Availability is counted in slices of this.
const SLICE_NS: u64 = SECOND_NS / 10;

/// Which kinds of reads are asked for, strict and local.
type Levels = (ReadLevel, ReadLevel);

const OPERATIONS: [&str; 3] = ["write", "strict read", "local read"];

/// Six clients: for each side a writer, a strict reader and a local reader.
fn roles((strict, local): Levels) -> Vec<Role> {
    let sides = [vec![NodeId(1)], vec![NodeId(2), NodeId(3)]];
    let side = |side: &Vec<NodeId>| {
        let role = |aim, task| {
            let role = Role::new(aim, task).every(10 * MILLISECOND_NS).timeout(100 * MILLISECOND_NS);
            role.reaching(side)
        };
        [
            role(Aim::Leader, Task::Append),
            role(Aim::Leader, Task::Read(0, strict)),
            role(Aim::At(side[0]), Task::Read(0, local)),
        ]
    };
    sides.iter().flat_map(side).collect()
}

fn rows(replication: &'static str, samples: &[Sample]) -> Vec<CapRow> {
    let row = |client: usize| {
        let mut done: Vec<u64> = samples
            .iter()
            .filter(|sample| sample.client == client && sample.is_done())
            .map(|sample| sample.ended_ns)
            .collect();
        done.sort_unstable();
        let side = if client < OPERATIONS.len() { Side::One } else { Side::Two };
        row_of(replication, side, OPERATIONS[client % OPERATIONS.len()], &done)
    };
    (0..2 * OPERATIONS.len()).map(row).collect()
}

fn row_of(replication: &'static str, side: Side, operation: &'static str, done_ns: &[u64]) -> CapRow {
    let within = |from_ns: u64, until_ns: u64| {
        done_ns.iter().copied().filter(move |at_ns| (from_ns..until_ns).contains(at_ns))
    };
    let seconds = |ns: u64| ns as f64 / SECOND_NS as f64;
    let slices = (HEAL_AT_NS - CUT_AT_NS) / SLICE_NS;
    let used = (0..slices).filter(|slice| {
        let from_ns = CUT_AT_NS + slice * SLICE_NS;
        within(from_ns, from_ns + SLICE_NS).next().is_some()
    });
    let mut last_ns = CUT_AT_NS;
    let (mut stopped, mut resumed) = (None, None);
    for at_ns in within(CUT_AT_NS, HEAL_AT_NS).chain([HEAL_AT_NS]) {
        if at_ns - last_ns > PAUSE_NS && stopped.is_none() {
            stopped = Some(seconds(last_ns - CUT_AT_NS));
            resumed = (at_ns < HEAL_AT_NS).then(|| seconds(at_ns - CUT_AT_NS));
        }
        last_ns = at_ns;
    }
    CapRow {
        replication,
        side,
        operation,
        before_per_s: within(SECOND_NS, CUT_AT_NS).count() as f64,
        available_percent: used.count() as f64 * 100.0 / slices as f64,
        stopped_after_s: stopped,
        resumed_after_s: resumed,
        after_healing_s: within(HEAL_AT_NS, u64::MAX).next().map(|at_ns| seconds(at_ns - HEAL_AT_NS)),
    }
}

/// Cuts unless it is the control, heals, and lets the clients go on for a while; what they saw.
macro_rules! cut_and_heal {
    ($world:expr, $cut:expr) => {{
        let mut world = $world;
        expect(world.run_until(CUT_AT_NS));
        if $cut {
            world.cut_between(&nodes(1), &nodes(3)[1..]);
        } else {
            // Each client may ask on the other side, as it could in any whole cluster.
            world.clients_mut().heal();
        }
        expect(world.run_until(HEAL_AT_NS));
        world.mend();
        world.clients_mut().heal();
        expect(world.run_until(END_NS));
        world.clients().samples().to_vec()
    }};
}

/// The first seed from `seed` on in which node 1 leads the Raft group when the cut comes.
fn raft_led_by_one(seed: u64) -> u64 {
    let leads = |seed: &u64| {
        let mut world = raft(priced(3), Load::new(roles(STRICT)), *seed, |_| {});
        expect(world.run_until(CUT_AT_NS));
        world.process(NodeId(1)).is_some_and(|process| process.protocol().term_start().is_some())
    };
    (seed..seed.saturating_add(1_000)).find(leads).expect("one of three leads in a third of the seeds")
}

const STRICT: Levels = (ReadLevel::Linearizable, ReadLevel::Stale);

/// What the clients of each replication saw, with a cut or without one. The catalog of chain and leader-follower, which needs a majority of
/// its own, is on the larger side.
fn seen(seed: u64, cut: bool) -> Vec<(&'static str, Vec<Sample>)> {
    let load = |levels| Load::new(roles(levels));
    let lease = (ReadLevel::Lease, ReadLevel::Stale);
    vec![
        ("raft", cut_and_heal!(raft(priced(3), load(STRICT), raft_led_by_one(seed), |_| {}), cut)),
        ("chain", cut_and_heal!(chain(priced(3), NodeId(3), load(STRICT), seed), cut)),
        (
            "leader-follower, acks 0",
            cut_and_heal!(leader_follower(priced(3), 0, NodeId(3), load(lease), seed), cut),
        ),
        (
            "leader-follower, acks 1",
            cut_and_heal!(leader_follower(priced(3), 1, NodeId(3), load(lease), seed), cut),
        ),
    ]
}

/// Cuts through a group of each replication. Of Raft groups the seed is the first from this one on whose leader is cut off.
#[must_use]
pub fn cap(seed: u64) -> CapReport {
    let rows =
        seen(seed, true).iter().flat_map(|(replication, samples)| rows(replication, samples)).collect();
    CapReport { rows, seed, cut_s: (HEAL_AT_NS - CUT_AT_NS) as f64 / SECOND_NS as f64 }
}

/// What one replication kept, in percent of the tenths of a second of the cut.
pub(super) struct Kept {
    pub(super) replication: &'static str,
    /// Writes were done on both sides: nobody can say then that there is one order of them.
    pub(super) both_percent: f64,
    /// Writes were done on the side where fewer were.
    pub(super) least_percent: f64,
}

/// What each replication keeps while it is cut, or in the same time without a cut.
pub(super) fn kept(seed: u64, cut: bool) -> Vec<Kept> {
    let of = |(replication, samples): &(&'static str, Vec<Sample>)| {
        let slices = (HEAL_AT_NS - CUT_AT_NS) / SLICE_NS;
        let wrote = |client: usize| -> BTreeSet<u64> {
            let done = samples.iter().filter(|sample| sample.client == client && sample.is_done());
            let within = done.filter(|sample| (CUT_AT_NS..HEAL_AT_NS).contains(&sample.ended_ns));
            within.map(|sample| (sample.ended_ns - CUT_AT_NS) / SLICE_NS).collect()
        };
        let (one, two) = (wrote(0), wrote(OPERATIONS.len()));
        let percent = |count: usize| count as f64 * 100.0 / slices as f64;
        Kept {
            replication,
            both_percent: percent(one.intersection(&two).count()),
            least_percent: percent(one.len().min(two.len())),
        }
    };
    seen(seed, cut).iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{CapRow, SECOND_NS, Side, cap, row_of};

    #[test]
    fn pauses_are_seen_and_measured() {
        let tenth = SECOND_NS / 10;
        // Every tenth until 2.5 s, from 4 s to the healing, and from 8 s on.
        let done: Vec<u64> = (1..=25).chain(40..70).chain(80..90).map(|at| at * tenth + 1).collect();
        let row = row_of("x", Side::One, "write", &done);
        let seen = (row.before_per_s, row.stopped_after_s, row.resumed_after_s, row.after_healing_s);
        let rounded = |value: Option<f64>| value.map(|value| (value * 10.0).round() / 10.0);
        assert_eq!(
            (seen.0, rounded(seen.1), rounded(seen.2), rounded(seen.3)),
            (10.0, Some(0.5), Some(2.0), Some(1.0))
        );
        assert_eq!(row.available_percent.round(), 72.0);
    }

    #[test]
    fn a_raft_group_goes_on_with_its_majority_and_nowhere_else() {
        let report = cap(1);
        let find = |side: Side, operation: &str| -> &CapRow {
            let found =
                |row: &&CapRow| row.replication == "raft" && row.side == side && row.operation == operation;
            report.rows.iter().find(found).expect("every row is there")
        };
        let minority = find(Side::One, "write");
        assert!(
            minority.stopped_after_s.is_some_and(|after| after < 1.0) && minority.resumed_after_s.is_none()
        );
        let majority = find(Side::Two, "write");
        assert!(majority.available_percent > 60.0, "{majority:?}");
        assert!(find(Side::One, "local read").available_percent > 95.0);
        assert_eq!(report, cap(1), "equal seeds, equal tables");
    }
}
