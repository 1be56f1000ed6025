//! The two clocks of a [`Context`].

use std::time::{SystemTime, UNIX_EPOCH};

use keypact_protocol::Context;
use rustix::time::{ClockId, clock_gettime};

/// Monotonic nanoseconds that go on in suspend.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the machine was started in the past");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("nanoseconds are positive");
    seconds * 1_000_000_000 + nanoseconds
}

/// Unix milliseconds.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Both. Only to be called once the inputs that it is for were collected.
pub(crate) fn context() -> Context {
    Context { now_ns: now_ns(), wall_ms: wall_ms() }
}
