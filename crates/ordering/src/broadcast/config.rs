//! Settings of one member.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::{Incarnation, NodeId};

use crate::clock::ReplicaId;

/// Members of a group at most.
pub const MEMBERS_MAX: usize = 256;
/// Streams that a member knows at most: one for each member and each of its incarnations. It refuses to begin one more, its own too, and to
/// hear of more; a message that comes after others names up to so many streams.
pub const STREAMS_MAX: usize = crate::envelope::STREAMS_LIMIT;

/// One member's settings. `members`, `window` and the largest body should be equal on all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// Which life of its folder this is; with another incarnation it counts its messages from 1 again. Below 2^16.
    pub incarnation: Incarnation,
    /// The group's first view.
    pub members: Vec<NodeId>,
    /// It was not there from the beginning: it begins where a member says that it is ([`super::Body::Welcome`]).
    pub joins: bool,
    /// Members tell each other so often what they hold, milliseconds; sixteen times as rarely when nothing changes.
    pub status_ms: u64,
    /// What was asked for and has not come is asked for again after this, milliseconds.
    pub resend_ms: u64,
    /// Own messages that some member may not yet hold, at most; more are refused.
    pub window: u64,
    /// Messages that wait for others before them, at most; more are dropped, and asked for again.
    pub held_back_max: usize,
    /// Content of one message between members, bytes; a single larger envelope goes alone.
    pub max_batch_bytes: usize,
    /// The largest command, bytes.
    pub max_body_bytes: usize,
    /// A checkpoint is asked for once so much was logged since the last, bytes.
    pub checkpoint_after_bytes: usize,
}

/// A setting that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No members, more than [`MEMBERS_MAX`], or number 0, which is the catalog's.
    Members,
    /// A member stands twice.
    DuplicateMember,
    /// This member is not among the members, and does not join.
    NotAMember,
    /// The node's number needs more than 48 bits, or its incarnation more than 16.
    Identity,
    /// A limit or an interval is 0.
    Zero,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigError::Members => "a group has 1 to 256 members, none of them number 0",
            ConfigError::DuplicateMember => "a member stands twice",
            ConfigError::NotAMember => "this node is no member, and does not join",
            ConfigError::Identity => "a node's number has 48 bits, its incarnation 16",
            ConfigError::Zero => "a limit or an interval is 0",
        })
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Usual settings for a founding member in its first incarnation.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<NodeId>) -> Config {
        Config {
            id,
            incarnation: Incarnation(1),
            members,
            joins: false,
            status_ms: 50,
            resend_ms: 100,
            window: 4_096,
            held_back_max: 4_096,
            max_batch_bytes: 256 * 1024,
            max_body_bytes: 16 * 1024 * 1024,
            checkpoint_after_bytes: 8 * 1024 * 1024,
        }
    }

    /// Checks that the settings work together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !super::View::is_sound(&self.members) {
            let twice = (1..self.members.len()).any(|at| self.members[..at].contains(&self.members[at]));
            return Err(if twice { ConfigError::DuplicateMember } else { ConfigError::Members });
        }
        if !self.joins && !self.members.contains(&self.id) {
            return Err(ConfigError::NotAMember);
        }
        if ReplicaId::of_life(self.id, self.incarnation).is_none() {
            return Err(ConfigError::Identity);
        }
        let limits =
            [self.held_back_max, self.max_batch_bytes, self.max_body_bytes, self.checkpoint_after_bytes];
        if limits.contains(&0) || [self.status_ms, self.resend_ms, self.window].contains(&0) {
            return Err(ConfigError::Zero);
        }
        Ok(())
    }

    pub(super) fn resend_ns(&self) -> u64 {
        self.resend_ms.saturating_mul(1_000_000)
    }
}
