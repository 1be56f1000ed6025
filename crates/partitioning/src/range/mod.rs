//! Range partitioning: keys in their order, cut into slices.
//!
//! What it gives: neighbours stay together, so a range query touches only the slices that it needs ([`Scan`]). What it costs: keys that come
//! in order all go to one slice; therefore slices split, by size and by load ([`SplitPolicy`]), and move.
//!
//! The order is that of bytes, or of the number behind a key's last `:` ([`KeyOrder`]).
//!
//! Source: range partitioning as in Bigtable (Chang et al. 2006, section 5.1: tablets) and Spanner (Corbett et al. 2012, section 2.1);
//! splits by load after CockroachDB's and TiKV's: the median of sampled requests.

mod order;
mod scan;
mod split;

use alloc::vec::Vec;

use keypact_protocol::NodeId;

use crate::map::{Assigned, Map, MapError};

pub use order::{KeyOrder, RangeKey};
pub use scan::{Leg, Scan};
pub use split::{LoadSample, SplitPolicy, SplitReason, split_by_size};

/// Keys in their order, and who holds which slice of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeMap {
    order: KeyOrder,
    map: Map<RangeKey>,
}

impl RangeMap {
    /// Slices cut at the given split points, each with the replicas at its place: one more than split points.
    ///
    /// # Errors
    /// [`MapError::NotCovered`] if split points do not rise, or replicas are not one more; [`MapError::Replicas`].
    pub fn new(
        order: KeyOrder,
        split_points: &[RangeKey],
        replicas: Vec<Vec<NodeId>>,
    ) -> Result<RangeMap, MapError> {
        if replicas.len() != split_points.len() + 1 {
            return Err(MapError::NotCovered);
        }
        let first = RangeKey::first_of_all();
        let lows = core::iter::once(first).chain(split_points.iter().cloned());
        Ok(RangeMap { order, map: Map::from_lows(1, lows.zip(replicas).collect())? })
    }

    /// How keys are ordered.
    #[must_use]
    pub fn order(&self) -> KeyOrder {
        self.order
    }

    /// The slices.
    #[must_use]
    pub fn map(&self) -> &Map<RangeKey> {
        &self.map
    }

    /// The slices, to be split, merged, assigned.
    pub fn map_mut(&mut self) -> &mut Map<RangeKey> {
        &mut self.map
    }

    /// The slice that has the key. Nothing is allocated. O(key + log slices).
    #[must_use]
    #[inline]
    pub fn find(&self, key: &[u8]) -> &Assigned<RangeKey> {
        let number = self.order.number(key);
        &self.map.parts()[self.map.index_by(|low| low.is_at_or_before(number, key))]
    }
}
