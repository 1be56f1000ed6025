//! Members, times and limits of one group.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::NodeId;

use super::CATALOG;

/// Members of a group at most.
pub const MEMBERS_MAX: usize = 32;

/// One member's settings; equal on all, except `id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The group, fixed.
    pub members: Vec<NodeId>,
    /// A sequencer speaks to each member at least so often, milliseconds.
    pub heartbeat_ms: u64,
    /// What was sent and not answered is sent again after this, milliseconds.
    pub resend_ms: u64,
    /// Entry bytes in one message; a single larger entry goes alone.
    pub max_batch_bytes: usize,
    /// Entries on their way to one member, at most.
    pub max_inflight: u64,
    /// The largest command, bytes.
    pub max_command_bytes: usize,
    /// Entry bytes kept in memory; a sequencer refuses more.
    pub log_limit_bytes: usize,
    /// A checkpoint is asked for once the log is longer, bytes.
    pub checkpoint_after_bytes: usize,
}

/// Settings that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No members, more than [`MEMBERS_MAX`], or number 0, which is the catalog's.
    Members,
    /// A member stands twice.
    DuplicateMember,
    /// This node is no member.
    NotAMember,
    /// A time or limit is 0.
    Zero,
    /// The log can't hold twice what starts a checkpoint.
    LogTooSmall,
}

impl ConfigError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            ConfigError::Members => "a group has 1 to 32 members, none of them number 0",
            ConfigError::DuplicateMember => "a member stands twice",
            ConfigError::NotAMember => "this node is no member",
            ConfigError::Zero => "a time or limit is 0",
            ConfigError::LogTooSmall => "the log must hold twice what starts a checkpoint",
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
    /// Usual settings, for nodes in one site.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<NodeId>) -> Config {
        Config {
            id,
            members,
            heartbeat_ms: 50,
            resend_ms: 200,
            max_batch_bytes: 256 * 1024,
            max_inflight: 4_096,
            max_command_bytes: 16 * 1024 * 1024,
            log_limit_bytes: 64 * 1024 * 1024,
            checkpoint_after_bytes: 16 * 1024 * 1024,
        }
    }

    /// Checks that the settings work together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX || self.members.contains(&CATALOG) {
            return Err(ConfigError::Members);
        }
        if (1..self.members.len()).any(|at| self.members[..at].contains(&self.members[at])) {
            return Err(ConfigError::DuplicateMember);
        }
        if !self.members.contains(&self.id) {
            return Err(ConfigError::NotAMember);
        }
        let times = [self.heartbeat_ms, self.resend_ms, self.max_inflight];
        let limits = [self.max_batch_bytes, self.max_command_bytes, self.checkpoint_after_bytes];
        if times.contains(&0) || limits.contains(&0) {
            return Err(ConfigError::Zero);
        }
        if self.log_limit_bytes / 2 < self.checkpoint_after_bytes {
            return Err(ConfigError::LogTooSmall);
        }
        Ok(())
    }

    /// How many members are a majority. Any two majorities have a member in common.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().copied().filter(|member| *member != self.id)
    }

    pub(super) fn heartbeat_ns(&self) -> u64 {
        self.heartbeat_ms.saturating_mul(1_000_000)
    }

    pub(super) fn resend_ns(&self) -> u64 {
        self.resend_ms.saturating_mul(1_000_000)
    }
}
