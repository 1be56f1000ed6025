//! How fast background writing may go.

const NANOSECONDS_PER_SECOND: u128 = 1_000_000_000;

/// A limit on bytes per second, as arithmetic over times that the caller gives: no clock inside.
///
/// Each permit says how long to wait before that piece is written; time that was not used is not saved up beyond one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    bytes_per_second: u64,
    burst_ns: u64,
    /// When all that was permitted so far will have been written at this rate, nanoseconds.
    busy_until_ns: u64,
}

impl RateLimit {
    /// At most `bytes_per_second` on average, with up to `burst_bytes` at once.
    ///
    /// # Panics
    /// If `bytes_per_second` is 0.
    #[must_use]
    pub fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        assert!(bytes_per_second > 0, "a rate of 0 never ends");
        let burst_ns = duration_ns(burst_bytes, bytes_per_second);
        Self { bytes_per_second, burst_ns, busy_until_ns: 0 }
    }

    /// Permits `bytes`; returns how long to wait before writing them, nanoseconds. `now_ns` is monotonic. O(1).
    pub fn permit(&mut self, now_ns: u64, bytes: u64) -> u64 {
        let start = self.busy_until_ns.max(now_ns);
        self.busy_until_ns = start.saturating_add(duration_ns(bytes, self.bytes_per_second));
        let wait = start.saturating_sub(now_ns).saturating_sub(self.burst_ns);
        assert!(wait <= start, "a wait never exceeds the work that is ahead of it");
        wait
    }
}

fn duration_ns(bytes: u64, bytes_per_second: u64) -> u64 {
    let ns = u128::from(bytes) * NANOSECONDS_PER_SECOND / u128::from(bytes_per_second);
    u64::try_from(ns).unwrap_or(u64::MAX)
}
