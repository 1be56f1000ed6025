//! How long to wait.

use crate::plant::{Plant, planted};

/// What chance does to a wait. `exponential` is `min(max, base * 2^attempt)`.
///
/// Without chance, all clients that failed together come back together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jitter {
    /// `exponential + random(0, jitter)`.
    Added {
        /// The most that chance adds, nanoseconds.
        jitter_ns: u64,
    },
    /// `random(0, exponential)`: spreads best, may come back at once.
    Full,
    /// `exponential / 2 + random(0, exponential / 2)`: keeps at least half.
    Equal,
    /// `min(max, random(base, 3 * previous))`: grows from the last wait and not from the number of attempts.
    Decorrelated,
}

/// `min(max, base * 2^attempt)`, exactly, for every attempt.
#[must_use]
#[inline]
pub fn capped_exponential(base_ns: u64, max_ns: u64, attempt: u32) -> u64 {
    if planted(Plant::OverflowAtAttempt64) {
        return base_ns.wrapping_shl(attempt).min(max_ns);
    }
    if base_ns == 0 {
        return 0;
    }
    // The shift keeps all bits exactly if there is so much room above them.
    if attempt > base_ns.leading_zeros() {
        return max_ns;
    }
    let exponential_ns = base_ns << attempt;
    assert!(exponential_ns >> attempt == base_ns, "no bit was lost");
    assert!(attempt == 0 || exponential_ns > base_ns, "it grows with each attempt");
    exponential_ns.min(max_ns)
}

/// A number in `low..=high`, made of 64 random bits.
///
/// # Panics
/// If `high < low`.
#[must_use]
#[inline]
pub fn draw(low: u64, high: u64, random: u64) -> u64 {
    assert!(low <= high, "a range runs upwards");
    let span = u128::from(high - low) + 1;
    let drawn = low + ((u128::from(random) * span) >> 64) as u64;
    assert!((low..=high).contains(&drawn), "both ends may be drawn, and nothing else");
    drawn
}

/// The wait before the retry `attempt`, counted from 0; `previous_ns` is the wait before that, at first the base.
pub(super) fn wait_ns(
    jitter: Jitter,
    base_ns: u64,
    max_ns: u64,
    attempt: u32,
    previous_ns: u64,
    random: u64,
) -> u64 {
    let exponential_ns = capped_exponential(base_ns, max_ns, attempt);
    assert!(exponential_ns <= max_ns, "the cap holds");
    match jitter {
        Jitter::Added { jitter_ns } => exponential_ns.saturating_add(draw(0, jitter_ns, random)),
        Jitter::Full => draw(0, exponential_ns, random),
        Jitter::Equal => {
            let half_ns = exponential_ns / 2;
            let wait_ns = exponential_ns - half_ns + draw(0, half_ns, random);
            assert!((half_ns..=exponential_ns).contains(&wait_ns), "half of it is certain");
            wait_ns
        }
        Jitter::Decorrelated => {
            let top_ns = previous_ns.saturating_mul(3).max(base_ns);
            assert!(top_ns >= base_ns, "the range does not shrink below the base");
            draw(base_ns, top_ns, random).min(max_ns)
        }
    }
}
