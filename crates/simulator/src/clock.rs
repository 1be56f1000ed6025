//! One node's two clocks, as functions of true (virtual) time.

use keypact_protocol::Context;

const MILLION: i128 = 1_000_000;

/// A monotonic clock that runs `drift_ppm` too fast (or slow), and a wall clock that may be off and may jump.
///
/// Invariant: the monotonic clock never goes back, whatever is done to the other.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time at which the present rate began, and what the clock showed then.
    since_ns: u64,
    shown_ns: u64,
    drift_ppm: i64,
    /// Unix milliseconds at true time 0.
    wall_start_ms: u64,
    wall_skew_ms: i64,
}

impl Clock {
    /// A clock that shows `shown_ns` at true time 0 and is right about the wall, which then shows `wall_start_ms`.
    #[must_use]
    pub fn new(shown_ns: u64, wall_start_ms: u64) -> Clock {
        Clock { since_ns: 0, shown_ns, drift_ppm: 0, wall_start_ms, wall_skew_ms: 0 }
    }

    /// What a process sees at true time `now_ns`.
    #[must_use]
    #[inline]
    pub fn sample(&self, now_ns: u64) -> Context {
        let wall = self.wall_start_ms + now_ns / 1_000_000;
        Context { now_ns: self.local_ns(now_ns), wall_ms: wall.saturating_add_signed(self.wall_skew_ms) }
    }

    /// The monotonic clock at true time `now_ns`.
    #[must_use]
    #[inline]
    pub fn local_ns(&self, now_ns: u64) -> u64 {
        assert!(now_ns >= self.since_ns, "no clock is read in the past of its last setting");
        let passed = now_ns - self.since_ns;
        if self.drift_ppm == 0 {
            return self.shown_ns + passed;
        }
        let gained = (i128::from(passed) * i128::from(self.drift_ppm)).div_euclid(MILLION);
        self.shown_ns + passed.saturating_add_signed(gained as i64)
    }

    /// The true time at which the present rate began; the clock can't be read before.
    #[must_use]
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// The first true time, at or after `now_ns`, at which the clock shows at least `local_ns`.
    #[must_use]
    pub fn true_ns(&self, local_ns: u64, now_ns: u64) -> u64 {
        if local_ns <= self.local_ns(now_ns) {
            return now_ns;
        }
        let ahead = i128::from(local_ns - self.shown_ns);
        let rate = MILLION + i128::from(self.drift_ppm);
        let passed = (ahead * MILLION + rate - 1) / rate;
        let at_ns = self.since_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX / 2)).max(now_ns);
        assert!(self.local_ns(at_ns) >= local_ns, "nobody is woken too early");
        at_ns
    }

    /// From `now_ns` on the monotonic clock gains this much, in parts per million; negative: loses.
    ///
    /// # Panics
    /// If the clock would stand still or run at more than twice the right rate.
    pub fn drift(&mut self, now_ns: u64, ppm: i64) {
        assert!(ppm.abs() < 1_000_000, "a clock that stands still is not a drifting one");
        self.shown_ns = self.local_ns(now_ns);
        self.since_ns = now_ns;
        self.drift_ppm = ppm;
    }

    /// Sets how far the wall clock is off, in milliseconds.
    pub fn skew_wall(&mut self, skew_ms: i64) {
        self.wall_skew_ms = skew_ms;
    }

    /// How far the wall clock is off, in milliseconds.
    #[must_use]
    pub fn wall_skew_ms(&self) -> i64 {
        self.wall_skew_ms
    }

    /// How fast the monotonic clock gains, in parts per million.
    #[must_use]
    pub fn drift_ppm(&self) -> i64 {
        self.drift_ppm
    }
}
