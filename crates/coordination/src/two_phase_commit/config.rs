//! Limits and time limits.

use core::fmt;

use keypact_protocol::GroupId;

use super::wire::LIST_MAX;

/// A coordinator's configuration.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Its own group.
    pub group: GroupId,
    /// Transactions under way at most, those included that are decided and not yet applied everywhere.
    pub max_transactions: usize,
    /// Participants of one transaction at most.
    pub max_participants: usize,
    /// Keys and operations of one participant at most, bytes.
    pub max_work_bytes: usize,
    /// Tries of one transaction at most, the first included.
    pub max_attempts: u32,
    /// The pause before the second attempt; doubled for each later one, and up to as much again by chance.
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
            ("max_transactions", self.max_transactions, LIST_MAX),
            ("max_participants", self.max_participants, 4_096),
            ("max_work_bytes", self.max_work_bytes, 64 << 20),
            ("max_attempts", self.max_attempts as usize, 64),
        ];
        check(&bounds)?;
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
        ])?;
        positive_ms(&[("inquire_ms", self.inquire_ms), ("read_lock_ms", self.read_lock_ms)])
    }
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
