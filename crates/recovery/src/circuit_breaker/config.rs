//! Settings.

use core::fmt;

use crate::{MILLISECOND_NS, SECOND_NS};

/// Over what rates are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowKind {
    /// The last so many calls: a ring of bits.
    Count {
        /// Calls.
        calls: u32,
    },
    /// The calls of the last `buckets * bucket_ns` nanoseconds. The oldest bucket leaves as a whole, so the window is up to one bucket
    /// shorter than its length.
    Time {
        /// Sums kept.
        buckets: u32,
        /// What each covers, nanoseconds.
        bucket_ns: u64,
    },
}

/// How a breaker judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Errors in a hundred calls, at or above which the breaker opens: 1..=100.
    pub error_rate_percent: u32,
    /// Slow calls in a hundred, likewise.
    pub slow_rate_percent: u32,
    /// A call that takes longer is slow, nanoseconds. `None`: nobody looks, and no clock is read for it.
    pub slow_call_ns: Option<u64>,
    /// Over what rates are taken.
    pub window: WindowKind,
    /// With fewer calls in the window there is no rate. At most the size of a count window.
    pub minimum_calls: u32,
    /// How long a rate must have been at or above its threshold before the breaker opens, nanoseconds. 0: opens at once.
    pub duration_ns: u64,
    /// How long it stays open, nanoseconds.
    pub cool_down_ns: u64,
    /// Calls let through half-open.
    pub probes: u32,
    /// A call that asks so long after the last probe, while one has not answered, finds that they have failed, nanoseconds.
    pub probe_timeout_ns: u64,
    /// Events kept until someone takes them; the oldest go first.
    pub events_max: usize,
}

impl Default for Config {
    /// Half of the last 100 calls, at once; open for a minute; one probe, 10 s.
    fn default() -> Self {
        Config {
            error_rate_percent: 50,
            slow_rate_percent: 100,
            slow_call_ns: None,
            window: WindowKind::Count { calls: 100 },
            minimum_calls: 100,
            duration_ns: 0,
            cool_down_ns: 60 * SECOND_NS,
            probes: 1,
            probe_timeout_ns: 10_000 * MILLISECOND_NS,
            events_max: 32,
        }
    }
}

/// The largest window, in calls or buckets.
pub(super) const WINDOW_MAX: u32 = 1 << 16;

/// Settings that no breaker can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigError {
    /// A threshold is not in 1..=100.
    Threshold,
    /// The window has no room, or more than 65,536 calls or buckets.
    Window,
    /// The minimum of calls is 0, or more than a count window holds.
    MinimumCalls,
    /// No probe would ever be let through, or more than 65,536.
    Probes,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigError::Threshold => "a rate's threshold is a percentage from 1 to 100",
            ConfigError::Window => "a window holds from 1 to 65,536 calls, or buckets of some length",
            ConfigError::MinimumCalls => {
                "the minimum of calls is at least 1 and at most what the window holds"
            }
            ConfigError::Probes => "a half-open breaker lets from 1 to 65,536 probes through",
        })
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Whether a breaker can have it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let percent = 1..=100;
        if !percent.contains(&self.error_rate_percent) || !percent.contains(&self.slow_rate_percent) {
            return Err(ConfigError::Threshold);
        }
        let sizes = 1..=WINDOW_MAX;
        let holds = match self.window {
            WindowKind::Count { calls } if sizes.contains(&calls) => calls,
            WindowKind::Time { buckets, bucket_ns } if sizes.contains(&buckets) && bucket_ns > 0 => u32::MAX,
            WindowKind::Count { .. } | WindowKind::Time { .. } => return Err(ConfigError::Window),
        };
        if self.minimum_calls == 0 || self.minimum_calls > holds {
            return Err(ConfigError::MinimumCalls);
        }
        if !sizes.contains(&self.probes) {
            return Err(ConfigError::Probes);
        }
        Ok(())
    }
}
