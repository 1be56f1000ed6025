//! Settings of one member.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::{Incarnation, NodeId};

use crate::clock::ReplicaId;

/// Nodes that ever broadcast in one group, at most.
pub const SENDERS_MAX: usize = 1_024;

/// One member's settings, with those of its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config<C> {
    /// This member.
    pub id: NodeId,
    /// Who may broadcast.
    pub members: Vec<NodeId>,
    /// The log's own settings.
    pub log: C,
    /// Own messages that were not delivered yet, at most; more are refused.
    pub window: usize,
    /// Own messages that have not come are submitted again after this, milliseconds.
    pub resend_ms: u64,
    /// Content of one submission, bytes; a single larger message goes alone.
    pub max_batch_bytes: usize,
    /// The largest command, bytes. The log must take [`super::ITEM_BYTES_MAX`] more.
    pub max_body_bytes: usize,
}

/// A setting that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No members, more than [`SENDERS_MAX`], or one stands twice.
    Members,
    /// This node is no member.
    NotAMember,
    /// A node's number needs more than 48 bits, or is 0.
    Identity,
    /// A limit or an interval is 0.
    Zero,
}

impl ConfigError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            ConfigError::Members => "a group has 1 to 1,024 members, each once",
            ConfigError::NotAMember => "this node is no member",
            ConfigError::Identity => "a node's number is above 0 and has 48 bits",
            ConfigError::Zero => "a limit or an interval is 0",
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl core::error::Error for ConfigError {}

impl<C> Config<C> {
    /// Usual settings over this log.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<NodeId>, log: C) -> Config<C> {
        Config {
            id,
            members,
            log,
            window: 4_096,
            resend_ms: 200,
            max_batch_bytes: 256 * 1024,
            max_body_bytes: 15 * 1024 * 1024,
        }
    }

    /// Checks that the settings work together; the log checks its own.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let twice = (1..self.members.len()).any(|at| self.members[..at].contains(&self.members[at]));
        if self.members.is_empty() || self.members.len() > SENDERS_MAX || twice {
            return Err(ConfigError::Members);
        }
        if !self.members.contains(&self.id) {
            return Err(ConfigError::NotAMember);
        }
        if self.members.iter().any(|member| stream_of(*member).is_none()) {
            return Err(ConfigError::Identity);
        }
        if [self.window, self.max_batch_bytes, self.max_body_bytes].contains(&0) || self.resend_ms == 0 {
            return Err(ConfigError::Zero);
        }
        Ok(())
    }
}

/// The name of a node's stream. It has one over all its lives: the count of its messages stands in the log.
pub(super) fn stream_of(node: NodeId) -> Option<ReplicaId> {
    ReplicaId::of_life(node, Incarnation(0)).filter(|_| node > NodeId(0))
}
