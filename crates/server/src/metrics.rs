//! What a node counts about itself, and how it is written down for Prometheus.
//!
//! The node's thread counts in plain integers, and hands out copies when asked; nothing here is shared or atomic.

/// Buckets of [`Log2`].
const BUCKETS: usize = 28;

/// A histogram whose bucket `i` counts values below 2^i. Fixed size, O(1).
#[derive(Clone, Debug)]
pub(crate) struct Log2 {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for Log2 {
    fn default() -> Log2 {
        Log2 { counts: [0; BUCKETS], sum: 0 }
    }
}

impl Log2 {
    pub(crate) fn record(&mut self, value: u64) {
        let bucket = (64 - value.leading_zeros() as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum, count, and per bucket its upper bound and how many values it has, in units of `unit`.
    pub(crate) fn buckets(&self, unit: f64) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = (0..BUCKETS - 1).map(|bucket| (1u64 << bucket) as f64 * unit).chain([f64::MAX]);
        (self.sum as f64 * unit, self.count(), bounds.zip(self.counts).collect())
    }

    /// The bound of the bucket that holds this quantile, given in parts per thousand; 0 if nothing was recorded.
    #[cfg(test)]
    pub(crate) fn quantile_bound(&self, permille: u64) -> u64 {
        let rank = self.count() * permille / 1_000;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > rank {
                return 1 << bucket;
            }
        }
        0
    }
}

/// What the node's thread counts beside what node, links and log count themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Inputs per batch.
    pub(crate) batch_inputs: Log2,
    /// Commands by their number in the table.
    pub(crate) commands: Vec<u64>,
    /// Error replies by class.
    pub(crate) errors: [u64; ERRORS.len() + 1],
    pub(crate) protocol_errors: u64,
    pub(crate) checkpoints_begun: u64,
}

/// Classes of errors; the rest are counted together.
pub(crate) const ERRORS: [&str; 7] =
    ["ERR", "WRONGTYPE", "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "TRYAGAIN", "UNCERTAIN"];

impl Figures {
    pub(crate) fn count_command(&mut self, id: u16) {
        let id = usize::from(id);
        if self.commands.len() <= id {
            self.commands.resize(id + 1, 0);
        }
        self.commands[id] += 1;
    }

    pub(crate) fn count_error(&mut self, code: &str) {
        let class = ERRORS.iter().position(|c| *c == code).unwrap_or(ERRORS.len());
        self.errors[class] += 1;
    }
}
