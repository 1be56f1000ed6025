//! Members, times and limits of one group.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::{GroupId, NodeId};

/// The most members a group may have.
pub const MEMBERS_MAX: usize = 16;

/// Says which keys a command writes: calls `mark` with a digest of each. A command that marks none is taken to write every key.
pub type KeysOf = fn(command: &[u8], mark: &mut dyn FnMut(u64));

/// Members, times and limits. Equal on all members, except `id`.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The group. Messages of another are refused.
    pub group: GroupId,
    /// All members, this one too, in whatever order: their places come from the catalog.
    pub members: Vec<NodeId>,
    /// Which keys a command writes, so that a read of another key need not ask the tail.
    pub keys_of: KeysOf,
    /// How often a member speaks to its successor when nothing else is to be said, milliseconds.
    pub heartbeat_ms: u64,
    /// How often a member asks the catalog to renew its lease, milliseconds. A third of the lease or less.
    pub renew_ms: u64,
    /// How much faster one node's clock may run than another's, parts per million. Leases are shorter by that much.
    pub drift_bound_ppm: u64,
    /// The most entry bytes in one message. A larger entry travels alone.
    pub max_append_bytes: usize,
    /// The most entries on their way to the successor that it has not said to have.
    pub max_inflight_entries: u64,
    /// The most messages kept that came before one that they follow.
    pub max_early_frames: usize,
    /// A syncing member is waited for once it lacks at most this many committed entries.
    pub sync_lag_entries: u64,
    /// After how long an unanswered snapshot chunk is sent again, milliseconds.
    pub resend_ms: u64,
    /// After how long a read that the tail did not confirm is refused, milliseconds.
    pub read_timeout_ms: u64,
    /// The most reads that wait for the tail.
    pub max_pending_reads: usize,
    /// A member whose disk has not answered for so long asks for no renewal, so that the others go on without it, milliseconds.
    pub disk_hang_ms: u64,
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
    /// This node is no member.
    NotAMember,
    /// A time or a limit is zero.
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
            ConfigError::Members => "a chain has 1 to 16 members, none of them n0",
            ConfigError::DuplicateMember => "a member is named twice",
            ConfigError::NotAMember => "this node is no member",
            ConfigError::Zero => "a time or a limit is zero",
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

/// For parents that do not know keys: every command may write every key.
fn every_key(_command: &[u8], _mark: &mut dyn FnMut(u64)) {}

impl Config {
    /// Defaults for member `id` of `members`: heartbeat 50 ms, renewal every 100 ms, drift bound 2 %, frames of 256 KiB, 4,096 entries in
    /// flight, 64 early messages kept, a syncing member waited for from 1,024 entries on, reads given up after 1 s, 64 MiB of log of which 16 MiB start a checkpoint,
    /// commands up to 17 MiB.
    #[must_use]
    pub fn new(id: NodeId, group: GroupId, members: Vec<NodeId>) -> Config {
        Config {
            id,
            group,
            members,
            keys_of: every_key,
            heartbeat_ms: 50,
            renew_ms: 100,
            drift_bound_ppm: 20_000,
            max_append_bytes: 256 * 1024,
            max_inflight_entries: 4_096,
            max_early_frames: 64,
            sync_lag_entries: 1_024,
            resend_ms: 300,
            read_timeout_ms: 1_000,
            max_pending_reads: 4_096,
            disk_hang_ms: 2_000,
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
        if !self.is_member(self.id) {
            return Err(ConfigError::NotAMember);
        }
        let times =
            [self.heartbeat_ms, self.renew_ms, self.resend_ms, self.read_timeout_ms, self.disk_hang_ms];
        let counts = [self.max_inflight_entries, self.max_pending_reads as u64];
        let limits = [self.max_append_bytes, self.checkpoint_after_bytes, self.max_command_bytes];
        if times.contains(&0) || counts.contains(&0) || limits.contains(&0) {
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

    pub(super) fn read_timeout_ns(&self) -> u64 {
        ns(self.read_timeout_ms)
    }

    pub(super) fn disk_hang_ns(&self) -> u64 {
        ns(self.disk_hang_ms)
    }
}

const fn ns(ms: u64) -> u64 {
    assert!(ms > 0, "times were looked at before the member was made");
    ms.saturating_mul(1_000_000)
}
