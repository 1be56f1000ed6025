//! What others may see of a member: the node for its status, the simulator for its checks.

use keypact_log::{Position, Tail};
use keypact_protocol::NodeId;

use super::replication::Progress;
use super::{Config, HardState, Membership, ProgressState, Raft, Seat, State};

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks who would vote for it.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// A peer, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which.
    pub id: NodeId,
    /// What it may do.
    pub seat: Seat,
    /// How many of the entries that were there one heartbeat ago it lacks.
    pub missing: u64,
    /// Its log is durable, and equal to the leader's, up to this index.
    pub matched: u64,
    /// The first index to be sent next.
    pub next: u64,
    /// How the leader speaks to it.
    pub state: ProgressState,
    /// Unanswered appends.
    pub inflight: usize,
    /// When it was last heard, monotonic nanoseconds.
    pub heard_ns: u64,
}

/// What happened since the start, for the simulator's "this was reached" and a node's metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Pre-vote rounds begun.
    pub pre_votes: u64,
    /// Terms begun as a candidate.
    pub elections: u64,
    /// Elections won.
    pub leaderships: u64,
    /// Times that another leader was followed than before.
    pub leader_changes: u64,
    /// Campaigns not begun because the disk hangs or a snapshot is being installed.
    pub campaigns_held_back: u64,
    /// Votes not considered because a leader is heard.
    pub votes_withheld: u64,
    /// Leaderships that ended with a newer term.
    pub stepped_down_newer_term: u64,
    /// Leaderships that ended for want of a majority.
    pub stepped_down_no_quorum: u64,
    /// Leaderships that ended because the disk hangs.
    pub stepped_down_disk_hangs: u64,
    /// Leaderships that ended because the leader was removed from the group.
    pub stepped_down_removed: u64,
    /// Configurations appended by this leader: joint ones.
    pub joint_configurations: u64,
    /// The same: others, of learners or the end of a joint one.
    pub settled_configurations: u64,
    /// The joint ones that this leader found in its log, of an earlier term, and brought to their end.
    pub changes_inherited: u64,
    /// Configurations that were cut off with the log's end.
    pub configurations_undone: u64,
    /// Changes and transfers refused.
    pub changes_refused: u64,
    /// Voters told to take over.
    pub transfers_told: u64,
    /// Transfers given up.
    pub transfers_given_up: u64,
    /// Campaigns begun because the leader wanted it so.
    pub campaigns_by_transfer: u64,
    /// Snapshots installed that brought another configuration.
    pub configurations_by_snapshot: u64,
    /// Messages refused: not from a member, or of another incarnation.
    pub refused_strangers: u64,
    /// Messages refused: an old term.
    pub refused_stale: u64,
    /// Messages refused: no correct member could have sent them.
    pub refused_contradictions: u64,
    /// Requests refused for a full queue or tail.
    pub refused_overload: u64,
    /// Appends refused because the log differs or ends before.
    pub conflicts_reported: u64,
    /// The same, as the leader hears it.
    pub conflicts_answered: u64,
    /// Times that entries were cut off for a leader's.
    pub truncations: u64,
    /// Appends of which not all was taken because the tail is full.
    pub appends_without_room: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
    /// Snapshots begun for a peer.
    pub snapshots_begun: u64,
    /// Snapshot chunks sent.
    pub snapshot_chunks_sent: u64,
    /// Snapshots that a peer installed.
    pub snapshots_sent: u64,
    /// Snapshots installed here.
    pub snapshots_installed: u64,
    /// Lease reads answered by the lease.
    pub lease_reads: u64,
    /// Lease reads that fell back to a majority's confirmation.
    pub lease_fallbacks: u64,
    /// Reads answered after a majority's confirmation.
    pub index_reads: u64,
}

impl Raft {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who the members are, as far as it knows: the last configuration of its log, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.active.membership
    }

    /// The index of the entry that the configuration in use stands in, or a later one of a checkpoint.
    #[must_use]
    pub fn membership_index(&self) -> u64 {
        self.active.index
    }

    /// Its own seat in that.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        self.active.own
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.state {
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The newest term that it knows.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.hard.term
    }

    /// The leader of that term, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The highest index known to be durable on a majority.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        self.commit
    }

    /// The highest index given to the parent.
    #[must_use]
    pub fn delivered_index(&self) -> u64 {
        self.delivered
    }

    /// The place of the last entry, durable or not.
    #[must_use]
    pub fn last(&self) -> Position {
        self.tail.last()
    }

    /// The log since the last checkpoint.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Term and vote, if a crash now would keep them; `None` while they are on their way to the disk.
    #[must_use]
    pub fn durable_hard_state(&self) -> Option<HardState> {
        self.durable_hard()
    }

    /// The index of the first entry of its own term, if it leads.
    #[must_use]
    pub fn term_start(&self) -> Option<u64> {
        match &self.state {
            State::Leader(leader) => Some(leader.term_start),
            _ => None,
        }
    }

    /// Whether lease reads are answered at once at this time.
    #[must_use]
    pub fn lease_holds(&self, now_ns: u64) -> bool {
        self.config.lease && self.holds_lease(now_ns)
    }

    /// How many reads wait.
    #[must_use]
    pub fn pending_reads(&self) -> usize {
        match &self.state {
            State::Leader(leader) => leader.reads.len(),
            _ => 0,
        }
    }

    /// The other members as this leader sees them; empty if it does not lead.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        let peers = match &self.state {
            State::Leader(leader) => leader.peers.as_slice(),
            _ => &[],
        };
        peers.iter().map(|peer: &Progress| PeerStatus {
            id: peer.id(),
            seat: peer.seat(),
            missing: peer.missing(),
            matched: peer.matched(),
            next: peer.next(),
            state: peer.state(),
            inflight: peer.inflight_len(),
            heard_ns: peer.heard_ns(),
        })
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
