//! What is wanted of Keypact, checked against what was measured. A target that was not measured is said to be so, never left out.

use crate::compare::{Placement, Row};
use crate::failover::Failovers;
use crate::recovery::Cost;

/// One wish and what came of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Target {
    /// What.
    pub(crate) name: String,
    /// At least or at most this; the name says which.
    pub(crate) wanted: f64,
    /// What was measured; `None` if this run did not.
    pub(crate) measured: Option<f64>,
    /// Whether it holds.
    pub(crate) met: Option<bool>,
}

impl Target {
    fn at_least(name: String, wanted: f64, measured: Option<f64>) -> Target {
        Target { name, wanted, measured, met: measured.map(|measured| measured >= wanted) }
    }

    fn at_most(name: String, wanted: f64, measured: Option<f64>) -> Target {
        Target { name, wanted, measured, met: measured.map(|measured| measured <= wanted) }
    }
}

/// Command, clients, least ratio of operations per second.
const ETCD: [(&str, usize, f64); 5] = [
    ("set", 1, 2.5),
    ("set", 64, 8.0),
    ("set", 256, 8.0),
    ("get-lease", 64, 8.0),
    ("get-read-index", 64, 5.0),
];
const FAILOVER_MS_MAX: f64 = 600.0;

/// Against etcd: connections at the leader, for each length of values; and the killed leader.
pub(crate) fn etcd(rows: &[Row], values: &[usize], failovers: Option<&Failovers>) -> Vec<Target> {
    let mut targets = Vec::new();
    for value_bytes in values {
        for (op, clients, wanted) in ETCD {
            let row = rows.iter().find(|row| {
                let cell = &row.cell;
                let placed = cell.placement == Placement::Leader && cell.value_bytes == *value_bytes;
                placed && row.op == op && cell.clients == clients
            });
            let at = format!("{op}, {clients} clients, {value_bytes} bytes");
            let ratio = row.and_then(|row| Some(row.ratio?.median));
            targets.push(Target::at_least(format!("{at}: ratio at least"), wanted, ratio));
            if op == "set" {
                let p99 = row.and_then(|row| Some((row.ours?.0.p99_us, row.theirs?.0.p99_us)));
                targets.push(lower_p99(&at, p99));
            }
        }
    }
    let ours = failovers.map(|failovers| &failovers.ours).filter(|runs| !runs.gaps_ms.is_empty());
    let gap = ours.and_then(|runs| Some(runs.spread()?.median));
    let name = String::from("killed leader, median write gap in ms: at most");
    targets.push(Target::at_most(name, FAILOVER_MS_MAX, gap));
    let name = String::from("killed leader, acknowledged writes lost: at most");
    targets.push(Target::at_most(name, 0.0, ours.map(|runs| runs.lost as f64)));
    targets
}

/// "Lower" is strict.
fn lower_p99(at: &str, p99: Option<(f64, f64)>) -> Target {
    let (ours, theirs) = p99.unzip();
    Target {
        name: format!("{at}: p99 in us below"),
        wanted: theirs.unwrap_or(f64::NAN),
        measured: ours,
        met: p99.map(|(ours, theirs)| ours < theirs),
    }
}

/// Against raft-rs: at 64 and 4,096 clients at least as many proposals per second. Given as (clients, ratio).
pub(crate) fn raft_rs(ratios: &[(usize, f64)]) -> Vec<Target> {
    [64, 4_096]
        .into_iter()
        .map(|clients| {
            let ratio = ratios.iter().find(|ratio| ratio.0 == clients).map(|ratio| ratio.1);
            Target::at_least(format!("proposals, {clients} clients: ratio at least"), 1.0, ratio)
        })
        .collect()
}

/// Against other libraries: at most their time for each call.
pub(crate) fn recovery(costs: &[Cost]) -> Vec<Target> {
    let target = |cost: &Cost| {
        let name = format!("{} beside {}: time at most", cost.call, cost.peer);
        Target::at_most(name, 1.0, cost.ratio.map(|ratio| ratio.median))
    };
    costs.iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let targets = etcd(&[], &[64], None);
        assert_eq!(targets.len(), 5 + 3 + 2);
        assert!(targets.iter().all(|target| target.met.is_none()));
    }

    #[test]
    fn bounds_are_kept_from_the_right_side() {
        let targets = raft_rs(&[(64, 0.99), (4_096, 1.0)]);
        assert_eq!(targets.iter().map(|target| target.met).collect::<Vec<_>>(), [Some(false), Some(true)]);
        assert_eq!(lower_p99("set", Some((5.0, 5.0))).met, Some(false));
        assert_eq!(lower_p99("set", Some((4.9, 5.0))).met, Some(true));
    }
}
