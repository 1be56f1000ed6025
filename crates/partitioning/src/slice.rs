//! Positions and slices of an ordered space.

use alloc::vec::Vec;
use core::fmt::{self, Debug};

use bytes::Bytes;
use keypact_protocol::{DecodeError, Plant, Wire, planted};

use crate::codec;

/// A place in a partitioner's ordered space.
pub trait Position: Ord + Clone + Debug {
    /// The smallest of all.
    fn first() -> Self;

    /// The smallest that is greater; `None` if this is the greatest.
    fn next(&self) -> Option<Self>;

    /// Appends the encoding. It says its own length.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads back what [`Position::encode`] wrote, from the front of `bytes`, which is then behind it.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else; never panics.
    fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError>;
}

/// From `low`, included, to `high`, excluded. Never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice<B> {
    /// The first position in it.
    pub(crate) low: B,
    /// The first behind it; `None`: it goes to the end of the space.
    pub(crate) high: Option<B>,
}

impl<B: Position> Slice<B> {
    /// The slice between two positions; `None` if it would be empty.
    #[must_use]
    pub fn new(low: B, high: Option<B>) -> Option<Slice<B>> {
        if high.as_ref().is_some_and(|high| *high <= low) {
            return None;
        }
        Some(Slice { low, high })
    }

    /// The whole space.
    #[must_use]
    pub fn whole() -> Slice<B> {
        Slice { low: B::first(), high: None }
    }

    /// The first position in it.
    #[must_use]
    pub fn low(&self) -> &B {
        &self.low
    }

    /// The first position behind it; `None`: there is none.
    #[must_use]
    pub fn high(&self) -> Option<&B> {
        self.high.as_ref()
    }

    /// Whether the position is in it.
    #[must_use]
    #[inline]
    pub fn contains(&self, position: &B) -> bool {
        self.low <= *position && self.ends_after(position)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Slice<B>) -> bool {
        let low = self.low <= other.low;
        low && match (&self.high, &other.high) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs <= mine,
        }
    }

    /// What both have; `None` if nothing.
    #[must_use]
    pub fn intersection(&self, other: &Slice<B>) -> Option<Slice<B>> {
        let low = self.low.clone().max(other.low.clone());
        let high = match (&self.high, &other.high) {
            (None, high) | (high, None) => high.clone(),
            (Some(mine), Some(theirs)) => Some(mine.clone().min(theirs.clone())),
        };
        let both = Slice::new(low, high)?;
        assert!(self.covers(&both) && other.covers(&both), "an intersection is in both");
        Some(both)
    }

    /// Whether it goes on behind `position`.
    #[inline]
    pub(crate) fn ends_after(&self, position: &B) -> bool {
        self.high.as_ref().is_none_or(|high| position < high)
    }

    /// Both halves: up to `at`, and from `at` on. `at` itself is in the second.
    ///
    /// `None` if one of them would be empty; nothing is split then.
    #[must_use]
    pub fn split(&self, at: &B) -> Option<(Slice<B>, Slice<B>)> {
        if *at <= self.low || !self.contains(at) {
            return None;
        }
        let mut left = Slice { low: self.low.clone(), high: Some(at.clone()) };
        if planted(Plant::SplitPointInBothHalves) {
            left.high = at.next();
        }
        Some((left, Slice { low: at.clone(), high: self.high.clone() }))
    }
}

impl<B: Debug> Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.high {
            Some(high) => write!(f, "[{:?}, {high:?})", self.low),
            None => write!(f, "[{:?}, end)", self.low),
        }
    }
}

impl<B: Position> Slice<B> {
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        self.low.encode(out);
        out.push(u8::from(self.high.is_some()));
        if let Some(high) = &self.high {
            high.encode(out);
        }
    }

    pub(crate) fn decode_from(bytes: &mut Bytes) -> Result<Slice<B>, DecodeError> {
        let low = B::decode(bytes)?;
        let high = match codec::byte(bytes)? {
            0 => None,
            1 => Some(B::decode(bytes)?),
            _ => return Err(DecodeError::new("whether a slice has an end")),
        };
        Slice::new(low, high).ok_or(DecodeError::new("a slice that is not empty"))
    }
}

impl<B: Position> Wire for Slice<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_to(out);
    }

    fn decode(mut bytes: Bytes) -> Result<Slice<B>, DecodeError> {
        let slice = Slice::decode_from(&mut bytes)?;
        codec::end(&bytes)?;
        Ok(slice)
    }
}
