//! Which nodes hold which slice.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Wire};

use crate::codec;
use crate::slice::{Position, Slice};

/// A slice and the nodes that hold it; the first of them owns it: it orders writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigned<B> {
    /// What.
    pub slice: Slice<B>,
    /// Who. At least one, each once.
    pub replicas: Vec<NodeId>,
}

impl<B> Assigned<B> {
    /// Who orders its writes.
    #[must_use]
    pub fn owner(&self) -> NodeId {
        self.replicas[0]
    }
}

/// A partition map: slices in order that cover the whole space, under a version that grows with each change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map<B> {
    version: u64,
    parts: Vec<Assigned<B>>,
}

/// Why a map was not made, or not changed. In every case nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Slices leave a gap, overlap, or do not reach from the first position to the end.
    NotCovered,
    /// A slice has no replica, or one twice.
    Replicas,
    /// The slice is not held by the nodes that the change expects.
    Conflict {
        /// The nodes expected.
        expected: Vec<NodeId>,
        /// The nodes that hold the first part of it that differs.
        found: Vec<NodeId>,
    },
    /// A split point is a boundary already.
    NothingToSplit,
    /// Two slices with different replicas can't be merged.
    NothingToMerge,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::NotCovered => f.write_str("the slices do not cover the space once"),
            MapError::Replicas => f.write_str("a slice needs replicas, each once"),
            MapError::Conflict { expected, found } => {
                write!(f, "the slice is held by {found:?}, not by {expected:?}; the map is unchanged")
            }
            MapError::NothingToSplit => f.write_str("a boundary is there already; the map is unchanged"),
            MapError::NothingToMerge => f.write_str("these slices can't be merged; the map is unchanged"),
        }
    }
}

impl core::error::Error for MapError {}

/// No node twice, and at least one.
pub(crate) fn are_replicas(replicas: &[NodeId]) -> bool {
    let twice = replicas.iter().enumerate().any(|(at, node)| replicas[..at].contains(node));
    !replicas.is_empty() && !twice
}

impl<B: Position> Map<B> {
    /// A map of one slice, version 1.
    ///
    /// # Errors
    /// [`MapError::Replicas`].
    pub fn whole(replicas: Vec<NodeId>) -> Result<Map<B>, MapError> {
        Map::new(1, alloc::vec![Assigned { slice: Slice::whole(), replicas }])
    }

    /// A map of these slices, in order.
    ///
    /// # Errors
    /// [`MapError::NotCovered`], [`MapError::Replicas`].
    pub fn new(version: u64, parts: Vec<Assigned<B>>) -> Result<Map<B>, MapError> {
        let mut expected = Some(B::first());
        for part in &parts {
            if expected.as_ref() != Some(part.slice.low()) {
                return Err(MapError::NotCovered);
            }
            if !are_replicas(&part.replicas) {
                return Err(MapError::Replicas);
            }
            expected = part.slice.high().cloned();
        }
        if parts.is_empty() || expected.is_some() {
            return Err(MapError::NotCovered);
        }
        let map = Map { version, parts };
        map.assert_invariants();
        Ok(map)
    }

    /// A map whose slices begin at the given positions, each with its replicas.
    ///
    /// # Errors
    /// [`MapError::NotCovered`] if the first is not [`Position::first`] or they do not rise; [`MapError::Replicas`].
    pub fn from_lows(version: u64, lows: Vec<(B, Vec<NodeId>)>) -> Result<Map<B>, MapError> {
        let mut ends: Vec<Option<B>> = lows.iter().skip(1).map(|(low, _)| Some(low.clone())).collect();
        ends.push(None);
        let parts = lows.into_iter().zip(ends).map(|((low, replicas), high)| {
            let slice = Slice::new(low, high).ok_or(MapError::NotCovered)?;
            Ok(Assigned { slice, replicas })
        });
        Map::new(version, parts.collect::<Result<_, _>>()?)
    }

    /// Grows with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All slices, in order.
    #[must_use]
    pub fn parts(&self) -> &[Assigned<B>] {
        &self.parts
    }

    /// Index of the slice that has the position, given how a slice's low end compares with it. O(log slices).
    #[inline]
    pub fn index_by(&self, is_at_or_before: impl Fn(&B) -> bool) -> usize {
        let after = self.parts.partition_point(|part| is_at_or_before(&part.slice.low));
        // The first slice begins at the first position.
        after.max(1) - 1
    }

    /// The slice that has the position. O(log slices).
    #[must_use]
    #[inline]
    pub fn find(&self, position: &B) -> &Assigned<B> {
        let part = &self.parts[self.index_by(|low| low <= position)];
        debug_assert!(part.slice.contains(position), "slices cover the space");
        part
    }

    /// The slices that have something of `slice`, in order: all that a range query must touch, and no more. O(log slices) to the first.
    pub fn overlapping(&self, slice: &Slice<B>) -> &[Assigned<B>] {
        let first = self.index_by(|low| low <= slice.low());
        let behind = match slice.high() {
            None => self.parts.len(),
            Some(high) => self.parts.partition_point(|part| part.slice.low() < high),
        };
        assert!(first < behind, "a slice is never empty, and the map covers it");
        &self.parts[first..behind]
    }

    /// Splits a slice in two with the same replicas: a boundary at `at`.
    ///
    /// # Errors
    /// [`MapError::NothingToSplit`].
    pub fn split(&mut self, at: &B) -> Result<(), MapError> {
        if !self.cut(at) {
            return Err(MapError::NothingToSplit);
        }
        self.version += 1;
        self.assert_around(at);
        Ok(())
    }

    /// Takes the boundary at `at` away.
    ///
    /// # Errors
    /// [`MapError::NothingToMerge`] if there is none, or the slices beside it have different replicas.
    pub fn merge(&mut self, at: &B) -> Result<(), MapError> {
        let right = self.index_by(|low| low <= at);
        if right == 0 || self.parts[right].slice.low != *at {
            return Err(MapError::NothingToMerge);
        }
        if self.parts[right - 1].replicas != self.parts[right].replicas {
            return Err(MapError::NothingToMerge);
        }
        let gone = self.parts.remove(right);
        self.parts[right - 1].slice.high = gone.slice.high;
        self.version += 1;
        self.assert_around(at);
        Ok(())
    }

    /// Gives a slice to other nodes, if those who hold all of it are the ones expected. One version on, whatever the slice's size.
    ///
    /// # Errors
    /// [`MapError::Conflict`], [`MapError::Replicas`].
    pub fn assign(&mut self, slice: &Slice<B>, from: &[NodeId], to: &[NodeId]) -> Result<(), MapError> {
        if !are_replicas(to) {
            return Err(MapError::Replicas);
        }
        if let Some(other) = self.overlapping(slice).iter().find(|part| part.replicas != from) {
            return Err(MapError::Conflict { expected: from.to_vec(), found: other.replicas.clone() });
        }
        self.cut(slice.low());
        if let Some(high) = slice.high() {
            self.cut(high);
        }
        for part in &mut self.parts {
            if slice.covers(&part.slice) {
                part.replicas = to.to_vec();
            }
        }
        self.version += 1;
        assert!(self.find(slice.low()).replicas == to, "the slice's first position has its new replicas");
        self.assert_around(slice.low());
        Ok(())
    }

    /// The same map with as few slices as say the same. The version stays: nothing changes for any position.
    #[must_use]
    pub fn coalesced(&self) -> Map<B> {
        let mut parts: Vec<Assigned<B>> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match parts.last_mut().filter(|last| last.replicas == part.replicas) {
                Some(last) => last.slice.high = part.slice.high.clone(),
                None => parts.push(part.clone()),
            }
        }
        let map = Map { version: self.version, parts };
        map.assert_invariants();
        map
    }

    /// The same under another version, when a catalog adopts a map that was made elsewhere.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Map<B> {
        self.version = version;
        self
    }

    /// Makes `at` a boundary; whether it was none.
    fn cut(&mut self, at: &B) -> bool {
        let index = self.index_by(|low| low <= at);
        // Not `Slice::split`: its result is what an owner acts on, and is fenced; this keeps the table.
        let part = &mut self.parts[index];
        if part.slice.low == *at {
            return false;
        }
        let right = Slice { low: at.clone(), high: part.slice.high.replace(at.clone()) };
        let replicas = part.replicas.clone();
        self.parts.insert(index + 1, Assigned { slice: right, replicas });
        true
    }

    /// What must hold around a change. O(1) beside the search.
    fn assert_around(&self, at: &B) {
        let index = self.index_by(|low| low <= at);
        assert!(self.parts[index].slice.contains(at), "every position has a slice");
        if index > 0 {
            let before = &self.parts[index - 1].slice;
            assert!(before.high.as_ref() == Some(&self.parts[index].slice.low), "slices meet");
        }
    }

    /// Slices cover the space once, each with replicas. O(slices).
    ///
    /// # Panics
    /// If not.
    pub fn assert_invariants(&self) {
        assert!(!self.parts.is_empty(), "the space is covered");
        assert!(self.parts[0].slice.low == B::first(), "from its first position");
        assert!(self.parts[self.parts.len() - 1].slice.high.is_none(), "to its end");
        for pair in self.parts.windows(2) {
            assert!(pair[0].slice.high.as_ref() == Some(&pair[1].slice.low), "without gap or overlap");
            assert!(pair[0].slice.low < pair[1].slice.low, "in order");
        }
        assert!(self.parts.iter().all(|part| are_replicas(&part.replicas)), "each slice has replicas");
    }
}

impl<B: Position> Wire for Map<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        codec::push_len(self.parts.len(), out);
        for part in &self.parts {
            part.slice.low.encode(out);
            codec::push_nodes(&part.replicas, out);
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Map<B>, DecodeError> {
        let version = codec::u64(&mut bytes)?;
        let count = codec::len(&mut bytes)?;
        let lows = (0..count).map(|_| Ok((B::decode(&mut bytes)?, codec::nodes(&mut bytes)?)));
        let lows = lows.collect::<Result<Vec<_>, DecodeError>>()?;
        codec::end(&bytes)?;
        Map::from_lows(version, lows).map_err(|_| DecodeError::new("a map that covers its space"))
    }
}
