//! When and where a slice splits.

use alloc::vec::Vec;

use crate::range::RangeKey;
use crate::slice::Slice;

/// When a slice splits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitPolicy {
    /// Above so many bytes it splits by size.
    pub bytes_max: u64,
    /// Above so many requests a second it splits by load.
    pub requests_per_s_max: u64,
    /// How many requests a [`LoadSample`] keeps, at most.
    pub samples_max: usize,
}

impl Default for SplitPolicy {
    fn default() -> SplitPolicy {
        SplitPolicy { bytes_max: 64 << 20, requests_per_s_max: 5_000, samples_max: 256 }
    }
}

/// Why a slice should split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitReason {
    /// It is too large.
    Size,
    /// It is asked too often.
    Load,
}

impl SplitPolicy {
    /// Why a slice of this size and load should split; `None`: it should not. Size counts first: it is what can't be taken back.
    #[must_use]
    pub fn reason(&self, bytes: u64, requests_per_s: u64) -> Option<SplitReason> {
        match () {
            () if bytes > self.bytes_max => Some(SplitReason::Size),
            () if requests_per_s > self.requests_per_s_max => Some(SplitReason::Load),
            () => None,
        }
    }
}

/// Where a slice splits so that both halves have about the same bytes. `keys` are its keys in order, with their bytes.
///
/// `None` if it has fewer than two keys: nothing can be split. O(keys).
#[must_use]
pub fn split_by_size<'a>(
    slice: &Slice<RangeKey>,
    keys: impl Iterator<Item = (&'a RangeKey, u64)> + Clone,
) -> Option<RangeKey> {
    let total: u128 = keys.clone().map(|(_, bytes)| u128::from(bytes)).sum();
    let mut before: u128 = 0;
    let mut best: Option<(u128, &RangeKey)> = None;
    for (key, bytes) in keys {
        assert!(slice.contains(key), "a key outside the slice can't split it");
        let uneven = total.abs_diff(2 * before);
        // The first key splits nothing off.
        if before > 0 && best.is_none_or(|(least, _)| uneven < least) {
            best = Some((uneven, key));
        }
        before += u128::from(bytes);
    }
    assert!(before == total, "both walks see the same keys");
    best.map(|(_, key)| key.clone())
}

/// The keys of the last requests to a slice, thinned evenly: enough to find where half of the load lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadSample {
    kept: Vec<RangeKey>,
    limit: usize,
    /// Every so many-th request is kept.
    stride: u64,
    requests: u64,
}

impl LoadSample {
    /// Keeps at most `limit` keys.
    ///
    /// # Panics
    /// If `limit` is below 4: no median could be told.
    #[must_use]
    pub fn new(limit: usize) -> LoadSample {
        assert!(limit >= 4, "a median needs samples");
        LoadSample { kept: Vec::new(), limit, stride: 1, requests: 0 }
    }

    /// A request for this key. When the sample is full every second one is dropped, and from then on half as many are kept.
    pub fn request(&mut self, key: impl FnOnce() -> RangeKey) {
        if self.requests.is_multiple_of(self.stride) {
            if self.kept.len() == self.limit {
                let mut at = 0;
                self.kept.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride = self.stride.saturating_mul(2);
            }
            if self.requests.is_multiple_of(self.stride) {
                self.kept.push(key());
            }
        }
        self.requests += 1;
        assert!(self.kept.len() <= self.limit, "the sample is bounded");
    }

    /// How many requests there were since the last [`LoadSample::restart`].
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// A new period begins.
    pub fn restart(&mut self) {
        *self = LoadSample::new(self.limit);
    }

    /// Where half of the load lies, by the median of the sample; `None` if one key has so much of it that a split would leave three
    /// quarters or more on one side: that moves a hot key, and does not cool it.
    #[must_use]
    pub fn split_point(&self, slice: &Slice<RangeKey>) -> Option<RangeKey> {
        let mut keys: Vec<&RangeKey> = self.kept.iter().filter(|key| slice.contains(key)).collect();
        if keys.len() < 4 {
            return None;
        }
        keys.sort_unstable();
        let middle = keys[keys.len() / 2];
        // All requests for one key go to one side: split in front of the median's first, or behind its last.
        let before = keys.partition_point(|key| *key < middle);
        let through = keys.partition_point(|key| *key <= middle);
        let (at, left) = if keys.len().abs_diff(2 * before) <= keys.len().abs_diff(2 * through) {
            (Some(middle), before)
        } else {
            (keys.get(through).copied(), through)
        };
        let most = left.max(keys.len() - left);
        assert!(most <= keys.len() && 2 * most >= keys.len(), "two sides");
        if 4 * most >= 3 * keys.len() {
            return None;
        }
        at.filter(|at| *at > slice.low()).cloned()
    }
}
