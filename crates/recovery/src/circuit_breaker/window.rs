//! Rates over the last calls, or over the last seconds.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::config::WindowKind;
use crate::plant::{Plant, planted};

/// Calls, and how many of them failed or were slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Calls in the window.
    pub calls: u32,
    /// Of them with an error.
    pub errors: u32,
    /// Of them slow, successful or not.
    pub slow: u32,
}

impl Rates {
    /// Whether at least `percent` of the calls had an error. Exact: no rounding.
    #[must_use]
    #[inline]
    pub fn errors_reach(&self, percent: u32) -> bool {
        self.calls > 0 && u64::from(self.errors) * 100 >= u64::from(percent) * u64::from(self.calls)
    }

    /// Whether at least `percent` of the calls were slow.
    #[must_use]
    #[inline]
    pub fn slowness_reaches(&self, percent: u32) -> bool {
        self.calls > 0 && u64::from(self.slow) * 100 >= u64::from(percent) * u64::from(self.calls)
    }

    #[inline]
    pub(super) fn add(&mut self, error: bool, slow: bool) {
        self.calls += 1;
        self.errors += u32::from(error);
        self.slow += u32::from(slow);
    }

    fn take(&mut self, other: Rates) {
        assert!(
            other.calls <= self.calls && other.errors <= self.errors && other.slow <= self.slow,
            "what leaves a window was in it"
        );
        self.calls -= other.calls;
        self.errors -= other.errors;
        self.slow -= other.slow;
    }
}

impl fmt::Display for Rates {
    /// As `errors 2/4 50.0%, slow 0/4 0.0%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls;
        let percent = |of: u32| f64::from(of) * 100.0 / f64::from(calls.max(1));
        write!(
            f,
            "errors {}/{calls} {:.1}%, slow {}/{calls} {:.1}%",
            self.errors,
            percent(self.errors),
            self.slow,
            percent(self.slow)
        )
    }
}

/// The calls that count.
#[derive(Clone, Debug)]
pub(super) struct Window {
    totals: Rates,
    ring: Ring,
}

#[derive(Clone, Debug)]
enum Ring {
    /// Two bits for each call, 32 calls in a word: error, slow.
    Count { bits: Vec<u64>, size: u32, next: u32 },
    /// A sum for each stretch of time; `head` is the stretch that `next` stands for, counted from time 0.
    Time { sums: Vec<Rates>, bucket_ns: u64, head: u64 },
}

const CALLS_PER_WORD: u32 = 32;

impl Window {
    pub(super) fn new(kind: WindowKind) -> Window {
        let ring = match kind {
            WindowKind::Count { calls } => {
                let words = calls.div_ceil(CALLS_PER_WORD) as usize;
                Ring::Count { bits: vec![0; words], size: calls, next: 0 }
            }
            WindowKind::Time { buckets, bucket_ns } => {
                Ring::Time { sums: vec![Rates::default(); buckets as usize], bucket_ns, head: 0 }
            }
        };
        let window = Window { totals: Rates::default(), ring };
        window.assert_invariants();
        window
    }

    /// Adds a call that ended at this time. Amortized O(1).
    #[inline]
    pub(super) fn add(&mut self, now_ns: u64, error: bool, slow: bool) {
        self.advance(now_ns);
        if let Ring::Time { sums, head, .. } = &mut self.ring {
            let at = (*head % sums.len() as u64) as usize;
            sums[at].add(error, slow);
            self.totals.add(error, slow);
        } else {
            self.add_call(error, slow);
        }
    }

    /// The same of a window of calls; returns how many there are.
    #[inline]
    pub(super) fn add_call(&mut self, error: bool, slow: bool) -> u32 {
        let Ring::Count { bits, size, next } = &mut self.ring else {
            unreachable!("a window of time is told the time")
        };
        let word = &mut bits[(*next / CALLS_PER_WORD) as usize];
        let shift = *next % CALLS_PER_WORD * 2;
        // Nothing, where no call has been yet.
        let old = if planted(Plant::WindowNeverEvicts) { 0 } else { (*word >> shift & 3) as u32 };
        *word = *word & !(3 << shift) | (u64::from(error) | u64::from(slow) << 1) << shift;
        *next = if *next + 1 == *size { 0 } else { *next + 1 };
        let before = self.totals;
        assert!(old & 1 <= before.errors && old >> 1 <= before.slow, "what leaves a window was in it");
        let full = before.calls == *size && !planted(Plant::WindowNeverEvicts);
        self.totals = Rates {
            calls: before.calls + u32::from(!full),
            errors: before.errors - (old & 1) + u32::from(error),
            slow: before.slow - (old >> 1) + u32::from(slow),
        };
        self.totals.calls
    }

    /// Time goes on: buckets that are too old leave.
    #[inline]
    fn advance(&mut self, now_ns: u64) {
        while self.step(now_ns) {}
    }

    /// Time goes on by one bucket, or, if none of the old ones will be left, to the first new one. `false`: it is there already. Who has to
    /// know what the rates were in between looks after each step; at most as many follow each other as there are buckets.
    #[inline]
    pub(super) fn step(&mut self, now_ns: u64) -> bool {
        let Ring::Time { sums, bucket_ns, head } = &mut self.ring else { return false };
        let now = now_ns / *bucket_ns;
        if now <= *head {
            return false;
        }
        let len = sums.len() as u64;
        *head = (*head + 1).max((now + 1).saturating_sub(len));
        assert!(*head <= now, "a window is not ahead of time");
        let left = core::mem::take(&mut sums[(*head % len) as usize]);
        if !planted(Plant::WindowNeverEvicts) {
            self.totals.take(left);
        }
        true
    }

    #[inline]
    pub(super) fn rates(&self) -> Rates {
        self.totals
    }

    /// Forgets all calls.
    pub(super) fn clear(&mut self) {
        self.totals = Rates::default();
        match &mut self.ring {
            Ring::Count { bits, next, .. } => {
                bits.fill(0);
                *next = 0;
            }
            Ring::Time { sums, .. } => sums.fill(Rates::default()),
        }
        assert!(self.totals.calls == 0, "nothing counts any more");
    }

    pub(super) fn assert_invariants(&self) {
        let Rates { calls, errors, slow } = self.totals;
        assert!(errors <= calls && slow <= calls, "an error is a call, and a slow call too");
        match &self.ring {
            Ring::Count { bits, size, next } => {
                assert!(*next < *size, "the ring has a next place");
                assert!(bits.len() * CALLS_PER_WORD as usize >= *size as usize, "and a place for each call");
                assert!(calls <= *size || planted(Plant::WindowNeverEvicts), "the ring holds its window");
            }
            Ring::Time { sums, bucket_ns, .. } => {
                assert!(!sums.is_empty() && *bucket_ns > 0, "time is cut into stretches");
            }
        }
    }
}
