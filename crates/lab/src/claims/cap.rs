//! A live cut through a group of each replication that keeps one order of writes: what each side answers meanwhile and after (claim 53).
//!
//! Three nodes; after two seconds node 1, which leads where somebody leads, is cut off from nodes 2 and 3 for five seconds. On each side a
//! client writes, one reads as strictly as there is, and one reads what its node has. In another run with the same seed all of them stop at the
//! healing: how long it takes until all nodes hold the same, and what of the acknowledged writes they then lack.

use std::collections::BTreeSet;

use keypact_protocol::{NodeId, ReadLevel};
use keypact_simulator::{Kv, KvAnswer, MILLISECOND_NS, SECOND_NS, StateMachine};
use serde::Serialize;

use super::load::{Aim, Load, Role, Sample, Task};
use super::peers::{Peer, peers};
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

/// What is left of the cut once nobody writes any more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CapEnd {
    /// The replication.
    pub replication: &'static str,
    /// From the healing until all nodes hold the same for good. Seconds; `None` if they do not within five.
    pub agree_after_s: Option<f64>,
    /// Writes that were acknowledged, on either side, before the cut and during it.
    pub acknowledged: u64,
    /// Those of them that are missing in the end.
    pub lost: u64,
}

/// What `keypact lab cap --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CapReport {
    /// One row for each replication, side and kind of client.
    pub rows: Vec<CapRow>,
    /// One for each replication.
    pub ends: Vec<CapEnd>,
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
fn roles(write: Task, (strict, local): Levels) -> Vec<Role> {
    let sides = [vec![NodeId(1)], vec![NodeId(2), NodeId(3)]];
    let side = |side: &Vec<NodeId>| {
        let role = |aim, task| {
            let role = Role::new(aim, task).every(10 * MILLISECOND_NS).timeout(100 * MILLISECOND_NS);
            role.reaching(side)
        };
        [
            role(Aim::Leader, write),
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
        let mut world = raft(priced(3), Load::new(roles(Task::Append, STRICT)), *seed, |_| {});
        expect(world.run_until(CUT_AT_NS));
        world.process(NodeId(1)).is_some_and(|process| process.protocol().term_start().is_some())
    };
    (seed..seed.saturating_add(1_000)).find(leads).expect("one of three leads in a third of the seeds")
}

const STRICT: Levels = (ReadLevel::Linearizable, ReadLevel::Stale);

/// Cuts, and no client begins anything after the healing: how it ends. `$lost` counts what a node's machine lacks of what was acknowledged.
macro_rules! cut_and_rest {
    ($replication:expr, $world:expr, $lost:expr) => {{
        let mut world = $world;
        expect(world.run_until(CUT_AT_NS));
        world.cut_between(&nodes(1), &nodes(3)[1..]);
        expect(world.run_until(HEAL_AT_NS));
        world.clients_mut().stop();
        world.mend();
        let mut differed_ns = None;
        for at_ns in (HEAL_AT_NS..=END_NS).step_by(LOOK_NS as usize) {
            expect(world.run_until(at_ns));
            let machine = |node: u64| world.process(NodeId(node)).expect("nobody dies here").machine();
            if machine(1) != machine(2) || machine(2) != machine(3) {
                differed_ns = Some(at_ns);
            }
        }
        let agreed_ns = differed_ns.map_or(HEAL_AT_NS, |at_ns| at_ns + LOOK_NS);
        let written: Vec<Sample> = world.clients().samples().iter().copied().filter(is_write).collect();
        let lost = (1..=3).map(|node| {
            let machine = world.process(NodeId(node)).expect("nobody dies here").machine();
            $lost(&written, machine)
        });
        CapEnd {
            replication: $replication,
            agree_after_s: (agreed_ns <= END_NS).then(|| (agreed_ns - HEAL_AT_NS) as f64 / SECOND_NS as f64),
            acknowledged: written.len() as u64,
            lost: lost.max().expect("there are nodes"),
        }
    }};
}

/// How often it is looked whether all hold the same.
const LOOK_NS: u64 = 10 * MILLISECOND_NS;

/// An acknowledged write.
fn is_write(sample: &Sample) -> bool {
    sample.client.is_multiple_of(OPERATIONS.len()) && sample.is_done()
}

fn elements_lost(written: &[Sample], machine: &Kv) -> u64 {
    let held: BTreeSet<u64> = machine.list(0).iter().copied().collect();
    written.iter().filter(|sample| !held.contains(&sample.element)).count() as u64
}

/// Increments that were never answered are counted, too: what is missing may be more by as many as these.
fn increments_lost(written: &[Sample], machine: &Peer) -> u64 {
    let KvAnswer::Number(count) = machine.read(&COUNTER) else { unreachable!("it is a counter") };
    (written.len() as u64).saturating_sub(count as u64)
}

/// What peers write: nothing of theirs keeps one order of what is appended.
const COUNTER: u16 = 0;
const LEASE: Levels = (ReadLevel::Lease, ReadLevel::Stale);

const RAFT: &str = "raft";
const CHAIN: &str = "chain";
const ACKS_0: &str = "leader-follower, acks 0";
const ACKS_1: &str = "leader-follower, acks 1";
const GOSSIP: &str = "gossip";

/// A group of each replication, each given to a macro. The catalog of chain and leader-follower, which needs a majority of its own, is on the
/// larger side.
macro_rules! each_replication {
    ($seed:expr, |$replication:ident, $world:ident, $lost:ident| $does:expr) => {{
        let seed = $seed;
        let log = |levels| Load::new(roles(Task::Append, levels));
        let counter = Load::new(roles(Task::Increment(COUNTER), STRICT));
        vec![
            {
                let ($replication, $world, $lost) =
                    (RAFT, raft(priced(3), log(STRICT), raft_led_by_one(seed), |_| {}), elements_lost);
                $does
            },
            {
                let ($replication, $world, $lost) =
                    (CHAIN, chain(priced(3), NodeId(3), log(STRICT), seed), elements_lost);
                $does
            },
            {
                let ($replication, $world, $lost) =
                    (ACKS_0, leader_follower(priced(3), 0, NodeId(3), log(LEASE), seed), elements_lost);
                $does
            },
            {
                let ($replication, $world, $lost) =
                    (ACKS_1, leader_follower(priced(3), 1, NodeId(3), log(LEASE), seed), elements_lost);
                $does
            },
            {
                let ($replication, $world, $lost) =
                    (GOSSIP, peers(priced(3), counter, seed, |_| {}), increments_lost);
                $does
            },
        ]
    }};
}

/// What the clients of each replication saw, with a cut or without one.
fn seen(seed: u64, cut: bool) -> Vec<(&'static str, Vec<Sample>)> {
    each_replication!(seed, |replication, world, _lost| (replication, cut_and_heal!(world, cut)))
}

/// How it ends for each replication.
fn ends(seed: u64) -> Vec<CapEnd> {
    each_replication!(seed, |replication, world, lost| cut_and_rest!(replication, world, lost))
}

/// Cuts through a group of each replication. Of Raft groups the seed is the first from this one on whose leader is cut off.
#[must_use]
pub fn cap(seed: u64) -> CapReport {
    let rows =
        seen(seed, true).iter().flat_map(|(replication, samples)| rows(replication, samples)).collect();
    CapReport { rows, ends: ends(seed), seed, cut_s: (HEAL_AT_NS - CUT_AT_NS) as f64 / SECOND_NS as f64 }
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
        let end = report.ends.iter().find(|end| end.replication == "raft").expect("every end is there");
        assert!(end.acknowledged > 0 && end.lost == 0 && end.agree_after_s.is_some(), "{end:?}");
        assert_eq!(report, cap(1), "equal seeds, equal tables");
    }

    #[test]
    fn peers_go_on_on_both_sides_and_agree_once_they_can_speak() {
        let report = cap(1);
        let rows: Vec<&CapRow> = report.rows.iter().filter(|row| row.replication == "gossip").collect();
        assert_eq!(rows.len(), 6);
        for row in rows {
            // No peer knows whether its state is the newest: it does not say so, cut off or not.
            let strict = row.operation == "strict read";
            let expected = if strict { 0.0..=0.0 } else { 95.0..=100.0 };
            assert!(expected.contains(&row.available_percent), "{row:?}");
        }
        let end = report.ends.iter().find(|end| end.replication == "gossip").expect("every end is there");
        assert!(end.acknowledged > 0 && end.lost == 0, "{end:?}");
        assert!(end.agree_after_s.is_some_and(|after| after < 3.0), "{end:?}");
    }
}
