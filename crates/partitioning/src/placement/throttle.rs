//! How fast a plan may be carried out.

/// Limits of a plan's execution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Throttle {
    /// Steps at once, altogether.
    pub steps_max: usize,
    /// Steps at once that one node takes part in.
    pub steps_per_node_max: usize,
    /// Bytes copied in a second, on average.
    pub bytes_per_s: u64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { steps_max: 4, steps_per_node_max: 1, bytes_per_s: 50 << 20 }
    }
}

impl Throttle {
    /// The least time in which so many bytes may be copied, milliseconds.
    #[must_use]
    pub fn least_ms(&self, bytes: u64) -> u64 {
        let ms = u128::from(bytes) * 1_000 / u128::from(self.bytes_per_s.max(1));
        u64::try_from(ms).unwrap_or(u64::MAX)
    }
}

/// A budget that runs into debt with each start, and is paid off by time: a step begins only when none is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Debt {
    paid_at_ms: u64,
}

impl Debt {
    /// Whether something may begin now.
    pub(super) fn is_paid(&self, now_ms: u64) -> bool {
        self.paid_at_ms <= now_ms
    }

    /// When the next may begin.
    pub(super) fn paid_at_ms(&self) -> u64 {
        self.paid_at_ms
    }

    /// So many bytes begin now.
    pub(super) fn charge(&mut self, throttle: &Throttle, bytes: u64, now_ms: u64) {
        assert!(self.is_paid(now_ms), "nothing begins before the debt is paid");
        self.paid_at_ms = now_ms.saturating_add(throttle.least_ms(bytes));
    }
}
