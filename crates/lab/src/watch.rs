//! Raft's cluster-wide checks, called where the simulator calls, and what they have seen.

use keypact_coordination::raft::invariants::{self, RaftInvariants};
use keypact_coordination::raft::{Counters as RaftCounters, Membership, Raft};
use keypact_protocol::NodeId;
use keypact_simulator::{Counters, Kv, Observer, ProtocolProcess, RecordDisk, Violation};

/// One Raft group, watched.
#[derive(Debug)]
pub struct RaftWatch {
    invariants: RaftInvariants,
    sum: RaftCounters,
}

impl RaftWatch {
    /// A group of these members, none of which has lived yet.
    #[must_use]
    pub fn new(members: &[NodeId]) -> RaftWatch {
        RaftWatch { invariants: RaftInvariants::new(members), sum: RaftCounters::default() }
    }

    /// A group whose members may change: these nodes, of which the founding members are some.
    #[must_use]
    pub fn of(nodes: &[NodeId], founding: &Membership) -> RaftWatch {
        RaftWatch { invariants: RaftInvariants::of(nodes, founding), sum: RaftCounters::default() }
    }

    /// A member begins a new life.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn started(&mut self, node: NodeId, raft: &Raft) -> Result<(), Violation> {
        self.invariants.restarted(node);
        self.stepped(node, raft)
    }

    /// A member has handled a batch.
    ///
    /// # Errors
    /// The first property that does not hold.
    #[inline]
    pub fn stepped(&mut self, node: NodeId, raft: &Raft) -> Result<(), Violation> {
        self.invariants
            .check(node, raft)
            .map_err(|invariants::Violation { property, detail }| Violation { property, detail })
    }

    /// A life is over: what it reached is added up.
    pub fn ended(&mut self, raft: &Raft) {
        let (sum, life) = (&mut self.sum, raft.counters());
        for (sum, life) in [
            (&mut sum.leaderships, life.leaderships),
            (&mut sum.leader_changes, life.leader_changes),
            (&mut sum.campaigns_held_back, life.campaigns_held_back),
            (&mut sum.votes_withheld, life.votes_withheld),
            (&mut sum.stepped_down_newer_term, life.stepped_down_newer_term),
            (&mut sum.stepped_down_no_quorum, life.stepped_down_no_quorum),
            (&mut sum.stepped_down_disk_hangs, life.stepped_down_disk_hangs),
            (&mut sum.refused_stale, life.refused_stale),
            (&mut sum.conflicts_reported, life.conflicts_reported),
            (&mut sum.truncations, life.truncations),
            (&mut sum.checkpoints, life.checkpoints),
            (&mut sum.snapshots_begun, life.snapshots_begun),
            (&mut sum.snapshots_sent, life.snapshots_sent),
            (&mut sum.snapshots_installed, life.snapshots_installed),
            (&mut sum.lease_reads, life.lease_reads),
            (&mut sum.lease_fallbacks, life.lease_fallbacks),
            (&mut sum.index_reads, life.index_reads),
        ] {
            *sum += life;
        }
    }

    /// What should be reached over many seeds, under the names of [`RAFT_SOMETIMES`]. Counters of several groups add up.
    pub fn count(&self, counters: &mut Counters) {
        let sum = &self.sum;
        let counts = [
            sum.leaderships,
            sum.leader_changes,
            sum.campaigns_held_back,
            sum.votes_withheld,
            sum.stepped_down_newer_term,
            sum.stepped_down_no_quorum,
            sum.stepped_down_disk_hangs,
            sum.refused_stale,
            sum.conflicts_reported,
            sum.truncations,
            sum.checkpoints,
            sum.snapshots_begun,
            sum.snapshots_sent,
            sum.snapshots_installed,
            sum.lease_reads,
            sum.lease_fallbacks,
            sum.index_reads,
        ];
        for (name, count) in RAFT_SOMETIMES.iter().zip(counts) {
            counters.add(name, count);
        }
        counters.add("raft-checks", self.invariants.checks());
    }
}

/// What Raft should reach over many seeds.
pub const RAFT_SOMETIMES: [&str; 17] = [
    "leader-elected",
    "leader-changed",
    "campaign-held-back",
    "vote-withheld",
    "stepped-down-newer-term",
    "stepped-down-no-quorum",
    "stepped-down-disk-hangs",
    "stale-message-refused",
    "conflict-reported",
    "conflict-truncated",
    "checkpoint-asked",
    "snapshot-begun",
    "snapshot-sent",
    "snapshot-taken-over",
    "lease-read",
    "lease-fell-back",
    "read-index",
];
impl Observer<ProtocolProcess<Raft, Kv>> for RaftWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &ProtocolProcess<Raft, Kv>,
        _disk: &RecordDisk<Raft>,
    ) -> Result<(), Violation> {
        RaftWatch::started(self, node, process.protocol())
    }

    #[inline]
    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &ProtocolProcess<Raft, Kv>,
        _disk: &RecordDisk<Raft>,
    ) -> Result<(), Violation> {
        RaftWatch::stepped(self, node, process.protocol())
    }

    fn ended(&mut self, _node: NodeId, process: &ProtocolProcess<Raft, Kv>) {
        RaftWatch::ended(self, process.protocol());
    }

    fn count(&self, counters: &mut Counters) {
        RaftWatch::count(self, counters);
    }
}
