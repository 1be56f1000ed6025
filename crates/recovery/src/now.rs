//! Time, given by the caller: as a number, or as a function that is called only if the time is needed.

/// Nanoseconds in a microsecond.
pub const MICROSECOND_NS: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND_NS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The monotonic time in nanoseconds since some fixed moment. A number is the time; a function is asked for it, at most once per call.
///
/// Most calls through a closed breaker need no time, and reading a clock costs more than all the rest.
pub trait Now {
    /// The time.
    fn now_ns(self) -> u64;
}

impl Now for u64 {
    #[inline]
    fn now_ns(self) -> u64 {
        self
    }
}

impl<F: FnOnce() -> u64> Now for F {
    #[inline]
    fn now_ns(self) -> u64 {
        self()
    }
}
