//! How many retries all operations together may make: a token bucket.

use crate::plant::{Plant, planted};
use crate::{Now, SECOND_NS};

/// One retry, in the units of the bucket.
const RETRY: u64 = 1_000_000;

/// What a budget allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetConfig {
    /// Retries per million first tries.
    pub ratio_ppm: u32,
    /// Retries per second beside that, so that a caller with little traffic may retry at all.
    pub minimum_per_s: u32,
    /// Retries that may be saved up, at most.
    pub capacity: u32,
}

impl Default for BudgetConfig {
    /// One retry for five first tries, one per second beside that, at most 100 saved up.
    fn default() -> Self {
        BudgetConfig { ratio_ppm: 200_000, minimum_per_s: 1, capacity: 100 }
    }
}

/// What a budget has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BudgetCounts {
    /// Operations that began.
    pub first_tries: u64,
    /// Retries that were paid for.
    pub retries: u64,
    /// Retries that were refused.
    pub refused: u64,
}

/// A retry budget, shared by the operations of one caller towards one service.
///
/// Invariant, at every moment: `retries <= ratio * first_tries + minimum_per_s * seconds since it was made`. It begins empty.
#[derive(Clone, Debug)]
pub struct Budget {
    config: BudgetConfig,
    /// Millionths of a retry.
    level: u64,
    /// Up to here time has been paid out.
    paid_ns: u64,
    counts: BudgetCounts,
}

impl Budget {
    /// An empty budget at this time.
    ///
    /// # Panics
    /// If it could never hold one retry.
    #[must_use]
    pub fn new(config: BudgetConfig, now_ns: u64) -> Budget {
        assert!(config.capacity > 0, "a budget can hold at least one retry");
        Budget { config, level: 0, paid_ns: now_ns, counts: BudgetCounts::default() }
    }

    /// An operation begins: its first try pays a part of a retry in.
    #[inline]
    pub fn first_try(&mut self) {
        self.counts.first_tries += 1;
        self.put(u64::from(self.config.ratio_ppm));
    }

    /// Takes one retry out, if there is one.
    #[must_use = "a retry that was not granted may not be made"]
    pub fn withdraw(&mut self, now: impl Now) -> bool {
        self.pay_out(now.now_ns());
        if self.level < RETRY {
            self.counts.refused += 1;
            return false;
        }
        self.level -= RETRY;
        self.counts.retries += 1;
        assert!(self.level <= u64::from(self.config.capacity - 1) * RETRY, "a retry takes its place out");
        true
    }

    /// What it has seen.
    #[must_use]
    pub fn counts(&self) -> BudgetCounts {
        self.counts
    }

    /// Whole retries that it holds.
    #[must_use]
    pub fn level(&self) -> u64 {
        self.level / RETRY
    }

    fn put(&mut self, amount: u64) {
        if planted(Plant::BudgetNeverRefilled) {
            return;
        }
        self.level = (self.level + amount).min(u64::from(self.config.capacity) * RETRY);
        assert!(self.level <= u64::from(self.config.capacity) * RETRY, "the bucket does not overflow");
    }

    /// Pays in what the time since the last payment is worth, rounded down. A clock that went back pays nothing.
    fn pay_out(&mut self, now_ns: u64) {
        let rate = u128::from(self.config.minimum_per_s) * u128::from(RETRY);
        let elapsed_ns = u128::from(now_ns.saturating_sub(self.paid_ns));
        let gained = elapsed_ns * rate / u128::from(SECOND_NS);
        if gained == 0 {
            // What is less than a millionth is not thrown away but waits.
            return;
        }
        assert!(now_ns > self.paid_ns, "no time is paid for twice");
        self.paid_ns = now_ns;
        self.put(u64::try_from(gained).unwrap_or(u64::MAX / 2));
    }
}
