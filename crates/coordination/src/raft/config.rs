//! Members, times and limits of one group.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::{Incarnation, NodeId};

/// The most voters a group may have. More would make every commit wait for more disks, for no gain that the field has found.
pub const MEMBERS_MAX: usize = 7;

/// Members, times and limits. Equal on all founding members, except `id` and `incarnation`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The life of this member's folder.
    pub incarnation: Incarnation,
    /// The founding members, this one too, all of them voters: whoever was there when the cluster was formed. Empty for who joins later,
    /// or again under a new incarnation: it learns from a leader who the members are, and never votes with an empty log.
    pub members: Vec<(NodeId, Incarnation)>,
    /// How often a leader speaks to each peer when nothing else is to be said, milliseconds. At least a round trip.
    pub heartbeat_ms: u64,
    /// How long a member that heard from a leader neither campaigns nor helps another to, milliseconds.
    pub election_timeout_ms: u64,
    /// A member waits a random time up to this longer before it campaigns, milliseconds.
    pub election_jitter_ms: u64,
    /// How much faster one member's clock may run than another's, parts per million. Leases are shorter by that much; a pair of clocks
    /// that differs by more can break lease reads, and nothing else.
    pub drift_bound_ppm: u64,
    /// Whether lease reads are answered by the lease. If not they are confirmed with a majority.
    pub lease: bool,
    /// The most entry bytes in one message. A larger entry travels alone.
    pub max_append_bytes: usize,
    /// The most unanswered appends to one peer.
    pub max_inflight: usize,
    /// The most entry bytes in unanswered appends to one peer.
    pub max_inflight_bytes: usize,
    /// After how long an unanswered append or snapshot chunk is sent again, milliseconds.
    pub resend_ms: u64,
    /// The most reads that wait for a confirmation.
    pub max_pending_reads: usize,
    /// The most bytes of log held in memory. Proposals beyond are refused.
    pub tail_limit_bytes: usize,
    /// A checkpoint is asked for when the log since the last one is longer than this, bytes.
    pub checkpoint_after_bytes: usize,
    /// A leader whose oldest write is not on disk after this time steps down, milliseconds.
    pub disk_hang_ms: u64,
    /// The longest command, bytes.
    pub max_command_bytes: usize,
}

/// A configuration that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// More members than [`MEMBERS_MAX`].
    MemberCount,
    /// Node 0 is nobody: by that number an operator speaks ([`super::OPERATOR`]).
    ReservedId,
    /// A member is named twice.
    DuplicateMember,
    /// There are founding members, and this node is not one under its incarnation.
    NotAMember,
    /// A time or limit is zero.
    Zero,
    /// The election time-out is less than two heartbeats, so one lost heartbeat would depose a leader.
    ElectionTimeoutTooShort,
    /// The drift bound leaves no lease.
    DriftBoundTooLarge,
    /// The largest command does not fit in half of the tail, or the tail can't hold two times what starts a checkpoint.
    TailTooSmall,
}

impl ConfigError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            ConfigError::MemberCount => "a group has at most 7 members",
            ConfigError::ReservedId => "node 0 is reserved",
            ConfigError::DuplicateMember => "a member is named twice",
            ConfigError::NotAMember => "this node is not a member under its incarnation",
            ConfigError::Zero => "a time or limit is zero",
            ConfigError::ElectionTimeoutTooShort => "the election time-out is shorter than two heartbeats",
            ConfigError::DriftBoundTooLarge => "the drift bound is half or more",
            ConfigError::TailTooSmall => {
                "the tail must hold twice the largest command and twice what starts a checkpoint"
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Defaults for member `id` of `members`, for nodes in one site: heartbeat 50 ms, election time-out 300 to 500 ms, drift bound
    /// 2 %, leases on, frames of 256 KiB, 64 of them or 8 MiB in flight, 64 MiB of log of which 16 MiB start a checkpoint, commands
    /// up to 17 MiB (a value of 16 MiB and its key).
    ///
    /// # Panics
    /// Never; [`Config::validate`] tells whether `id` is among `members`.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<(NodeId, Incarnation)>) -> Config {
        let incarnation = members
            .iter()
            .find(|(member, _)| *member == id)
            .map_or(Incarnation::default(), |(_, incarnation)| *incarnation);
        Config {
            id,
            incarnation,
            members,
            heartbeat_ms: 50,
            election_timeout_ms: 300,
            election_jitter_ms: 200,
            drift_bound_ppm: 20_000,
            lease: true,
            max_append_bytes: 256 * 1024,
            max_inflight: 64,
            max_inflight_bytes: 8 * 1024 * 1024,
            resend_ms: 300,
            max_pending_reads: 65_536,
            tail_limit_bytes: 64 * 1024 * 1024,
            checkpoint_after_bytes: 16 * 1024 * 1024,
            disk_hang_ms: 1_000,
            max_command_bytes: 17 * 1024 * 1024,
        }
    }

    /// Checks that the values can work together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.members.len() > MEMBERS_MAX {
            return Err(ConfigError::MemberCount);
        }
        if self.id == super::OPERATOR || self.members.iter().any(|(member, _)| *member == super::OPERATOR) {
            return Err(ConfigError::ReservedId);
        }
        for (at, (member, _)) in self.members.iter().enumerate() {
            if self.members[..at].iter().any(|(other, _)| other == member) {
                return Err(ConfigError::DuplicateMember);
            }
        }
        if !self.members.is_empty() && !self.members.contains(&(self.id, self.incarnation)) {
            return Err(ConfigError::NotAMember);
        }
        let times = [self.heartbeat_ms, self.election_jitter_ms, self.resend_ms, self.disk_hang_ms];
        let limits = [
            self.max_append_bytes,
            self.max_inflight,
            self.max_inflight_bytes,
            self.max_pending_reads,
            self.checkpoint_after_bytes,
            self.max_command_bytes,
        ];
        if times.contains(&0) || limits.contains(&0) {
            return Err(ConfigError::Zero);
        }
        if self.election_timeout_ms < self.heartbeat_ms.saturating_mul(2) {
            return Err(ConfigError::ElectionTimeoutTooShort);
        }
        if self.drift_bound_ppm >= 500_000 {
            return Err(ConfigError::DriftBoundTooLarge);
        }
        let need = self.max_command_bytes.max(self.checkpoint_after_bytes).saturating_mul(2);
        if self.tail_limit_bytes < need {
            return Err(ConfigError::TailTooSmall);
        }
        Ok(())
    }

    pub(super) fn heartbeat_ns(&self) -> u64 {
        ns(self.heartbeat_ms)
    }

    pub(super) fn election_timeout_ns(&self) -> u64 {
        ns(self.election_timeout_ms)
    }

    pub(super) fn resend_ns(&self) -> u64 {
        ns(self.resend_ms)
    }

    pub(super) fn disk_hang_ns(&self) -> u64 {
        ns(self.disk_hang_ms)
    }
}

pub(super) const fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
