//! Members, times and limits of one group.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::NodeId;

/// The most members a group may have.
pub const MEMBERS_MAX: usize = 16;

/// Members, times and limits. Equal on all members, except `id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// All members, this one too. Fixed for now.
    pub members: Vec<NodeId>,
    /// How many followers must have an entry on disk before it is visible; 0: the leader's disk is enough.
    pub acks: usize,
    /// The epoch with which the group begins.
    pub epoch: u64,
    /// The leader of that epoch.
    pub leader: NodeId,
    /// How often a leader speaks to each follower when nothing else is to be said, milliseconds.
    pub heartbeat_ms: u64,
    /// How often a leader asks the catalog to renew its lease, milliseconds. A third of the lease or less.
    pub renew_ms: u64,
    /// How much faster one node's clock may run than another's, parts per million. Leases are shorter by that much.
    pub drift_bound_ppm: u64,
    /// The most entry bytes in one message. A larger entry travels alone.
    pub max_append_bytes: usize,
    /// The most unanswered entries on their way to one follower.
    pub max_inflight_entries: u64,
    /// The most bytes of entries that a member lists when its tail may be lost. Those beyond are only counted.
    pub loss_list_bytes: usize,
    /// After how long an unanswered snapshot chunk is sent again, milliseconds.
    pub resend_ms: u64,
    /// The most bytes of log held in memory. Proposals beyond are refused.
    pub tail_limit_bytes: usize,
    /// A checkpoint is asked for when the log since the last one is longer than this, bytes.
    pub checkpoint_after_bytes: usize,
    /// The longest command, bytes.
    pub max_command_bytes: usize,
}

/// A configuration that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No member, more than [`MEMBERS_MAX`], or one that has the catalog's number.
    Members,
    /// A member is named twice.
    DuplicateMember,
    /// This node, or the first leader, is no member.
    NotAMember,
    /// More acknowledgements are wanted than there are followers.
    TooManyAcks,
    /// A time, a limit or the first epoch is zero.
    Zero,
    /// The drift bound leaves no lease.
    DriftBoundTooLarge,
    /// The tail can't hold twice the largest command and twice what starts a checkpoint.
    TailTooSmall,
}

impl ConfigError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            ConfigError::Members => "a group has 1 to 16 members, none of them n0",
            ConfigError::DuplicateMember => "a member is named twice",
            ConfigError::NotAMember => "this node, or the first leader, is no member",
            ConfigError::TooManyAcks => "more acknowledgements are wanted than there are followers",
            ConfigError::Zero => "a time, a limit or the first epoch is zero",
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
    /// Defaults for member `id` of `members`, of which the first leads epoch 1: heartbeat 50 ms, renewal every 100 ms, drift bound 2 %,
    /// frames of 256 KiB, 4,096 entries in flight, 64 KiB of lost entries listed, 64 MiB of log of which 16 MiB start a checkpoint, commands up to 17 MiB.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<NodeId>, acks: usize) -> Config {
        let leader = members.first().copied().unwrap_or_default();
        Config {
            id,
            members,
            acks,
            epoch: 1,
            leader,
            heartbeat_ms: 50,
            renew_ms: 100,
            drift_bound_ppm: 20_000,
            max_append_bytes: 256 * 1024,
            max_inflight_entries: 4_096,
            loss_list_bytes: 64 * 1024,
            resend_ms: 300,
            tail_limit_bytes: 64 * 1024 * 1024,
            checkpoint_after_bytes: 16 * 1024 * 1024,
            max_command_bytes: 17 * 1024 * 1024,
        }
    }

    /// Checks that the values can work together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let count = self.members.len();
        if count == 0 || count > MEMBERS_MAX || self.members.contains(&super::CATALOG) {
            return Err(ConfigError::Members);
        }
        if (1..count).any(|at| self.members[..at].contains(&self.members[at])) {
            return Err(ConfigError::DuplicateMember);
        }
        if !self.is_member(self.id) || !self.is_member(self.leader) {
            return Err(ConfigError::NotAMember);
        }
        if self.acks >= count {
            return Err(ConfigError::TooManyAcks);
        }
        let times = [self.epoch, self.heartbeat_ms, self.renew_ms, self.resend_ms, self.max_inflight_entries];
        let limits = [self.max_append_bytes, self.checkpoint_after_bytes, self.max_command_bytes];
        if times.contains(&0) || limits.contains(&0) {
            return Err(ConfigError::Zero);
        }
        if self.drift_bound_ppm >= 500_000 {
            return Err(ConfigError::DriftBoundTooLarge);
        }
        let need = self.max_command_bytes.max(self.checkpoint_after_bytes).saturating_mul(2);
        if self.tail_limit_bytes < need {
            return Err(ConfigError::TailTooSmall);
        }
        assert!(self.max_command_bytes <= self.tail_limit_bytes / 2, "any command fits beside another");
        assert!(self.acks < count && count <= MEMBERS_MAX, "the leader is not among those who acknowledge");
        Ok(())
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }

    pub(super) fn heartbeat_ns(&self) -> u64 {
        ns(self.heartbeat_ms)
    }

    pub(super) fn renew_ns(&self) -> u64 {
        ns(self.renew_ms)
    }

    pub(super) fn resend_ns(&self) -> u64 {
        ns(self.resend_ms)
    }
}

const fn ns(ms: u64) -> u64 {
    assert!(ms > 0, "times were looked at before the member was made");
    ms.saturating_mul(1_000_000)
}
