//! What a breaker tells about itself.

use super::breaker::State;
use super::window::Rates;

/// Why a breaker changed its state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The error rate was too high for too long.
    Errors,
    /// The rate of slow calls was.
    Slowness,
    /// The cool-down is over.
    CooledDown,
    /// The probes were well.
    ProbesSucceeded,
    /// The probes were not.
    ProbesFailed,
    /// The probes did not answer in time.
    ProbesTimedOut,
    /// Someone wanted it so.
    Told,
}

/// Something that an operator wants to know. Single calls are only counted ([`super::Counts`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A rate has reached its threshold; the breaker opens if it stays there for the duration. Not told if the duration is 0.
    AboveThreshold {
        /// When, nanoseconds.
        at_ns: u64,
        /// The rates then.
        rates: Rates,
    },
    /// All rates are below their thresholds again, in time.
    BelowThreshold {
        /// When, nanoseconds.
        at_ns: u64,
        /// The rates then.
        rates: Rates,
    },
    /// The state has changed.
    Changed {
        /// From this,
        from: State,
        /// to this,
        to: State,
        /// because of this.
        why: Why,
        /// When, nanoseconds.
        at_ns: u64,
        /// The rates that decided.
        rates: Rates,
    },
}
