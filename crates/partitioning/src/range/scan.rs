//! A range query: leg by leg, each at the one node that has it, through changes of the map.

use crate::map::Map;
use crate::range::RangeKey;
use crate::slice::Slice;
use keypact_protocol::NodeId;

/// What is left of a range query. The map may change between legs: what was answered stays answered, the rest is looked up anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// What is not answered yet; `None`: all is.
    rest: Option<Slice<RangeKey>>,
    legs: u64,
}

/// One question of a range query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leg {
    /// What is asked.
    pub slice: Slice<RangeKey>,
    /// Who is asked.
    pub owner: NodeId,
    /// The version of the map that says so.
    pub version: u64,
}

impl Scan {
    /// A query for all keys of this slice.
    #[must_use]
    pub fn new(slice: Slice<RangeKey>) -> Scan {
        Scan { rest: Some(slice), legs: 0 }
    }

    /// The next question by this map; `None` if all was answered. Asked again, it may differ: the map may.
    #[must_use]
    pub fn next(&self, map: &Map<RangeKey>) -> Option<Leg> {
        let rest = self.rest.as_ref()?;
        let part = map.find(rest.low());
        let slice = part.slice.intersection(rest).expect("the part has the rest's first position");
        assert!(slice.low() == rest.low(), "a leg begins where the last one ended");
        Some(Leg { slice, owner: part.owner(), version: map.version() })
    }

    /// The leg was answered, completely. One that does not begin where the rest does (an answer that came twice) changes nothing.
    pub fn answered(&mut self, leg: &Leg) {
        let Some(rest) = self.rest.take() else { return };
        if leg.slice.low() != rest.low() {
            self.rest = Some(rest);
            return;
        }
        self.legs += 1;
        self.rest = leg.slice.high().and_then(|high| Slice::new(high.clone(), rest.high().cloned()));
        if let Some(left) = &self.rest {
            assert!(left.low() > rest.low(), "each leg shortens the rest");
        }
    }

    /// Whether all was answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rest.is_none()
    }

    /// How many questions were answered.
    #[must_use]
    pub fn legs(&self) -> u64 {
        self.legs
    }
}
