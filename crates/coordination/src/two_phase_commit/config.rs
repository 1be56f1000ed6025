//! Limits and time limits.

use core::fmt;

use keypact_protocol::GroupId;

use super::wire::LIST_MAX;

/// Participants of one transaction at most, whatever is configured.
pub(super) const PARTICIPANTS_MAX: usize = 4_096;
/// The longest configured pause: doubled ten times and as much again by chance, it is still far from overflowing.
const BACKOFF_MAX_MS: u64 = 60_000;

/// A coordinator's configuration.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Its own group.
    pub group: GroupId,
    /// Transactions under way at most, those included that are decided and not yet applied everywhere.
    pub max_transactions: usize,
    /// Participants of one transaction at most.
    pub max_participants: usize,
    /// Locks at one participant at most.
    pub max_locks: usize,
    /// Keys and operations of one participant at most, bytes.
    pub max_work_bytes: usize,
    /// Tries of one transaction at most, the first included.
    pub max_attempts: u32,
    /// The pause before the second attempt; doubled for each later one, and up to as much again by chance. A minute at most; may be 0.
    pub backoff_ms: u64,
    /// An attempt whose votes and confirmations are not all in by then is aborted.
    pub vote_ms: u64,
    /// No attempt begins or goes undecided after this; a client is then told that nothing was applied, or, where that is not known, so.
    pub transaction_ms: u64,
    /// A client whose transaction is decided, but not applied everywhere by then, is told that the outcome is uncertain.
    pub answer_ms: u64,
    /// What was not answered is said again after this.
    pub resend_ms: u64,
}

impl CoordinatorConfig {
    /// Usual values.
    #[must_use]
    pub fn new(group: GroupId) -> CoordinatorConfig {
        CoordinatorConfig {
            group,
            max_transactions: 4_096,
            max_participants: 64,
            max_locks: 4_096,
            max_work_bytes: 16 << 20,
            max_attempts: 8,
            backoff_ms: 2,
            vote_ms: 1_000,
            transaction_ms: 5_000,
            answer_ms: 10_000,
            resend_ms: 100,
        }
    }

    /// Checks that the limits make sense.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bounds = [
            // Logged commits whose end is not logged yet come on top of what is under way: the table holds three times as many.
            ("max_transactions", self.max_transactions, LIST_MAX / 4),
            ("max_participants", self.max_participants, PARTICIPANTS_MAX),
            ("max_locks", self.max_locks, LIST_MAX),
            ("max_work_bytes", self.max_work_bytes, 64 << 20),
            ("max_attempts", self.max_attempts as usize, 64),
        ];
        check(&bounds)?;
        if self.backoff_ms > BACKOFF_MAX_MS {
            return Err(ConfigError { field: "backoff_ms" });
        }
        positive_ms(&[
            ("vote_ms", self.vote_ms),
            ("transaction_ms", self.transaction_ms),
            ("answer_ms", self.answer_ms),
            ("resend_ms", self.resend_ms),
        ])
    }
}

/// A participant's configuration.
#[derive(Clone, Debug)]
pub struct ParticipantConfig {
    /// Its own group.
    pub group: GroupId,
    /// Transactions that hold locks here at most.
    pub max_transactions: usize,
    /// Locks of one transaction at most.
    pub max_locks: usize,
    /// Keys and operations of one transaction at most, bytes.
    pub max_work_bytes: usize,
    /// Finished transactions remembered of each coordinator. Older ones are refused, never run again.
    pub max_finished: usize,
    /// Coordinators that ever had a transaction here, at most: what each has finished is never quite forgotten. Transactions of others are refused.
    pub max_coordinators: usize,
    /// How long a prepared participant waits for the outcome before it asks for it, and then between two questions.
    pub inquire_ms: u64,
    /// A read-only participant lets its locks go after this. Safe: it then does not confirm that it held them.
    pub read_lock_ms: u64,
}

impl ParticipantConfig {
    /// Usual values.
    #[must_use]
    pub fn new(group: GroupId) -> ParticipantConfig {
        ParticipantConfig {
            group,
            max_transactions: 4_096,
            max_locks: 4_096,
            max_work_bytes: 16 << 20,
            max_finished: 4_096,
            max_coordinators: 64,
            inquire_ms: 200,
            read_lock_ms: 3_000,
        }
    }

    /// Checks that the limits make sense.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(&[
            ("max_transactions", self.max_transactions, LIST_MAX),
            ("max_locks", self.max_locks, LIST_MAX),
            ("max_work_bytes", self.max_work_bytes, 64 << 20),
            ("max_finished", self.max_finished, LIST_MAX),
            // A checkpoint lists what is remembered of all of them.
            ("max_coordinators", self.max_coordinators, LIST_MAX / self.max_finished.max(1)),
        ])?;
        positive_ms(&[("inquire_ms", self.inquire_ms), ("read_lock_ms", self.read_lock_ms)])
    }
}

impl ParticipantConfig {
    /// What its table is bounded by; equal on all replicas of the group.
    #[must_use]
    pub fn table_limits(&self) -> TableLimits {
        TableLimits { finished: self.max_finished, coordinators: self.max_coordinators }
    }
}

/// What a participant's table remembers at most. Decides what records come to, so it is equal on all replicas of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// Finished transactions of each coordinator.
    pub finished: usize,
    /// Coordinators.
    pub coordinators: usize,
}

fn check(bounds: &[(&'static str, usize, usize)]) -> Result<(), ConfigError> {
    match bounds.iter().find(|(_, value, most)| *value == 0 || value > most) {
        Some((field, _, _)) => Err(ConfigError { field }),
        None => Ok(()),
    }
}

/// A day: the longest time limit, so that no sum overflows.
const TIME_MAX_MS: u64 = 86_400_000;

fn positive_ms(times: &[(&'static str, u64)]) -> Result<(), ConfigError> {
    match times.iter().find(|(_, ms)| *ms == 0 || *ms > TIME_MAX_MS) {
        Some((field, _)) => Err(ConfigError { field }),
        None => Ok(()),
    }
}

/// A limit that is zero or too large. Nothing was built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Which.
    pub field: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is zero or too large", self.field)
    }
}

impl core::error::Error for ConfigError {}

/// Nanoseconds of so many milliseconds, which [`ConfigError`] has bounded.
pub(super) fn ms(milliseconds: u64) -> u64 {
    debug_assert!(milliseconds <= TIME_MAX_MS, "validate bounds every time limit");
    milliseconds * 1_000_000
}
