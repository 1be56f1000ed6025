//! Times and limits of one replica.

use core::fmt;

use keypact_protocol::{GroupId, Incarnation, NodeId};

use super::View;

/// The most members that a view may have.
pub const MEMBERS_MAX: usize = 16_384;
/// The most identities that a view may order to be forgotten.
pub const FORGETS_MAX: usize = 4_096;
/// The most parts that a transfer may be cut into.
pub const PARTS_MAX: u32 = 1 << 20;
/// The most deltas in one message.
pub const DELTAS_MAX: usize = 4_096;

/// Times and limits. Equal on all replicas, except `id` and `folder`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This replica's node.
    pub id: NodeId,
    /// The group.
    pub group: GroupId,
    /// Which life of the node's folder this is: more than before once the disk was lost.
    pub folder: Incarnation,
    /// The view with which the group begins. Who stands in it with the right folder is a founder, and serves at once.
    pub first_view: View,
    /// How many peers a replica speaks to in a round.
    pub fan_out: usize,
    /// From one round to the next, milliseconds.
    pub interval_ms: u64,
    /// Rounds in which nothing is new double the interval, up to this.
    pub idle_interval_ms: u64,
    /// How often a replica reports to the catalog, milliseconds; 0: never, the members are fixed.
    pub report_ms: u64,
    /// To how many peers a fresh write is sent at once, without being asked for. At least `acks` are in any case.
    pub push_to: usize,
    /// The most bytes of deltas on their way to one peer. A larger delta travels alone.
    pub budget_bytes: usize,
    /// The most bytes of deltas that are kept for those who miss little.
    pub recent_bytes_max: usize,
    /// The most transfers on their way out at once.
    pub transfers_max: usize,
    /// The most bytes of one transfer, in and out: the largest state of a group.
    pub transfer_bytes_max: usize,
    /// A transfer that hears nothing for so long is given up, milliseconds.
    pub transfer_timeout_ms: u64,
    /// How many peers must have a write on disk before it is acknowledged.
    pub acks: usize,
    /// A write that waits for acknowledgements for so long is answered as uncertain, milliseconds.
    pub ack_timeout_ms: u64,
    /// The most changes that wait behind an unacknowledged one. Own writes are refused once half of it is taken.
    pub held_max: usize,
    /// The longest command, bytes.
    pub max_command_bytes: usize,
    /// A checkpoint is asked for when the log since the last one is longer than this, bytes.
    pub checkpoint_after_bytes: usize,
    /// How far ahead of the own wall another's stamps are believed, milliseconds.
    pub drift_max_ms: u64,
}

/// A configuration that can't work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The first view has no member, more than [`MEMBERS_MAX`], or one that has the catalog's number.
    Members,
    /// A time or a limit is zero.
    Zero,
    /// Nobody to speak to in a round.
    NoFanOut,
    /// More acknowledgements are wanted than there are others.
    TooManyAcks,
    /// The idle interval is below the interval.
    IdleBelowInterval,
}

impl ConfigError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            ConfigError::Members => "the first view has 1 to 16,384 members, none of them n0",
            ConfigError::Zero => "a time or a limit is zero",
            ConfigError::NoFanOut => "a round speaks to nobody",
            ConfigError::TooManyAcks => "more acknowledgements are wanted than there are others",
            ConfigError::IdleBelowInterval => "the idle interval is below the interval",
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
    /// Defaults: fan-out 1 every 100 ms, 1 s when idle, reports every 100 ms, a write is pushed to one peer, 64 KiB on their way to a peer,
    /// 1 MiB of recent deltas, 4 transfers of at most 256 MiB, no acknowledgements, commands up to 16 MiB, a checkpoint after 16 MiB, stamps
    /// up to 5 s ahead.
    #[must_use]
    pub fn new(id: NodeId, group: GroupId, first_view: View) -> Config {
        Config {
            id,
            group,
            folder: Incarnation(0),
            first_view,
            fan_out: 1,
            interval_ms: 100,
            idle_interval_ms: 1_000,
            report_ms: 100,
            push_to: 1,
            budget_bytes: 64 * 1024,
            recent_bytes_max: 1024 * 1024,
            transfers_max: 4,
            transfer_bytes_max: 256 * 1024 * 1024,
            transfer_timeout_ms: 2_000,
            acks: 0,
            ack_timeout_ms: 1_000,
            held_max: 4_096,
            max_command_bytes: 16 * 1024 * 1024,
            checkpoint_after_bytes: 16 * 1024 * 1024,
            drift_max_ms: 5_000,
        }
    }

    /// Checks that the values can work together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that can't.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let count = self.first_view.members.len();
        if count == 0 || count > MEMBERS_MAX || self.first_view.row(super::CATALOG).is_some() {
            return Err(ConfigError::Members);
        }
        let times = [self.interval_ms, self.transfer_timeout_ms, self.ack_timeout_ms];
        let limits = [
            self.budget_bytes,
            self.transfers_max,
            self.transfer_bytes_max,
            self.held_max,
            self.max_command_bytes,
            self.checkpoint_after_bytes,
        ];
        if times.contains(&0) || limits.contains(&0) {
            return Err(ConfigError::Zero);
        }
        if self.fan_out == 0 {
            return Err(ConfigError::NoFanOut);
        }
        if self.acks >= count {
            return Err(ConfigError::TooManyAcks);
        }
        if self.idle_interval_ms < self.interval_ms {
            return Err(ConfigError::IdleBelowInterval);
        }
        Ok(())
    }
}

/// Milliseconds as nanoseconds.
pub(super) const fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
