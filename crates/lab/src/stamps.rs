//! Invariant: no entry is stamped later than a majority of clocks allow.
//!
//! A clock's *error* is what it shows beyond true time. The greatest error that a majority of the voters' clocks have each shown at some moment,
//! and the bound on skew, limit all stamps: a minority of wrong clocks never moves the time by which keys expire. Where voters come and go, those
//! of every configuration count that a leader has used.

use keypact_coordination::raft::Membership;
use keypact_node::{DEFAULT, Node};
use keypact_protocol::NodeId;
use keypact_simulator::{Counters, Violation};

const MS_NS: u64 = 1_000_000;

/// The clocks of a cluster's nodes, as they were seen.
#[derive(Debug)]
pub(crate) struct StampWatch {
    /// The greatest error that each node's wall clock has shown, milliseconds; of clocks that start right at any time.
    errors_ms: Vec<Option<i64>>,
    /// All sets of voters by which a node has led.
    voters: Vec<Vec<NodeId>>,
    /// How much faster one clock may run than another in this world, parts per million.
    drift_ppm: u64,
    /// Steps of a leader whose clock was beyond the bound.
    beyond: u64,
}

impl StampWatch {
    pub(crate) fn new(nodes: usize, drift_ppm: u64) -> StampWatch {
        assert!(nodes > 0, "a cluster has nodes");
        StampWatch { errors_ms: vec![None; nodes], voters: Vec::new(), drift_ppm, beyond: 0 }
    }

    /// A node has stepped, at true time `now_ns`, when its wall clock showed `wall_ms`. O(nodes).
    pub(crate) fn stepped(
        &mut self,
        now_ns: u64,
        node: NodeId,
        wall_ms: u64,
        process: &Node,
    ) -> Result<(), Violation> {
        let error_ms = signed(wall_ms) - signed(now_ns / MS_NS);
        let seen = &mut self.errors_ms[node.0 as usize - 1];
        *seen = Some(seen.map_or(error_ms, |before| before.max(error_ms)));
        let raft = process.raft(DEFAULT).expect("every node is in every group");
        let leads = raft.leader() == Some(node);
        if leads {
            self.note_voters(raft.membership());
        }
        let Some(majority_ms) = self.majority_ms() else { return Ok(()) };
        let config = process.config();
        self.beyond += u64::from(leads && error_ms > majority_ms + signed(config.clock_skew_bound_ms));
        // Between messages a peer's clock is reckoned by the node's own monotonic clock, which may be off by this.
        let drift_ms = now_ns / MS_NS * self.drift_ppm / 1_000_000 + 1;
        let latest_ms =
            signed(now_ns / MS_NS) + majority_ms + signed(config.clock_skew_bound_ms) + signed(drift_ms);
        let stamp_ms = signed(process.partition().applied_stamp_ms());
        if stamp_ms > latest_ms {
            let detail = format!(
                "{node} applied an entry stamped {} ms later than a majority of clocks and the bound allow",
                stamp_ms - latest_ms
            );
            return Err(Violation::new("stamps-within-a-majority", detail));
        }
        Ok(())
    }

    fn note_voters(&mut self, membership: &Membership) {
        let voters = || membership.members().iter().filter(|m| m.seat.votes()).map(|m| m.id);
        if !self.voters.last().is_some_and(|last| voters().eq(last.iter().copied())) {
            let voters: Vec<NodeId> = voters().collect();
            self.voters.retain(|other| *other != voters);
            self.voters.push(voters);
        }
    }

    /// The greatest error that a majority of some leader's voters have shown.
    fn majority_ms(&self) -> Option<i64> {
        let of_set = |voters: &Vec<NodeId>| {
            let mut errors_ms: Vec<i64> =
                voters.iter().filter_map(|id| self.errors_ms[id.0 as usize - 1]).collect();
            errors_ms.sort_unstable_by(|a, b| b.cmp(a));
            errors_ms.get(voters.len() / 2).copied()
        };
        self.voters.iter().filter_map(of_set).max()
    }

    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.add("leader-clock-too-far-ahead", self.beyond);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("simulated times are far below the limit")
}
