//! What one node holds, and whether it may serve it: the owner's side of a map, and the fence of each move.
//!
//! ```text
//!   giver    Serving ──give──▶ Giving ──release──▶ (gone)
//!   taker    (none) ──take──▶ Taken ──activate(version)──▶ Serving since version
//! ```
//! Between `give` and `activate` nobody serves the slice. A node that is told to give stops first; the catalog switches its map only once
//! the taker has everything on its disk; the taker serves only once it hears of that switch. So at each version one node serves a position.
//!
//! Each change is to be on disk before it is spoken of. All operations may be repeated: messages come twice, and nodes restart.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Plant, Wire, planted};

use crate::codec;
use crate::slice::{Position, Slice};

/// A step of a plan. Plans of one map are numbered upwards, one at a time; so a move of an older plan is over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MoveId {
    /// Which plan.
    pub plan: u64,
    /// Which of its steps, counted from 0.
    pub step: u32,
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plan, self.step)
    }
}

/// Whether a held slice is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldingState {
    /// Yes.
    Serving,
    /// No more: it is being given away.
    Giving(MoveId),
    /// Not yet: the map does not say so.
    Taken(MoveId),
}

/// A slice that a node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding<B> {
    /// What.
    pub slice: Slice<B>,
    /// The map version at which the node came to own it.
    pub since: u64,
    /// Whether it is served.
    pub state: HoldingState,
}

/// All that a node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holdings<B> {
    /// Sorted by their low ends.
    held: Vec<Holding<B>>,
    /// The newest plan that it took part in.
    newest_plan: u64,
    /// At most so many slices are held; bounds the table.
    limit: usize,
}

/// Why a step was not taken. In every case nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldingError {
    /// The move is of a plan that is over.
    StalePlan,
    /// Not all of the slice is served here, so it can't be given away.
    NotServed,
    /// Something of the slice is held already.
    Held,
    /// Too many slices are held.
    Full,
}

impl fmt::Display for HoldingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HoldingError::StalePlan => "the move is of a plan that is over; nothing changed",
            HoldingError::NotServed => "the slice is not served here; nothing changed",
            HoldingError::Held => "something of the slice is held already; nothing changed",
            HoldingError::Full => "too many slices are held; nothing changed",
        })
    }
}

impl core::error::Error for HoldingError {}

impl<B: Position> Holdings<B> {
    /// Nothing held, and never more than `limit` slices; at most 2^20, so that a table can always be written down.
    #[must_use]
    pub fn new(limit: usize) -> Holdings<B> {
        Holdings { held: Vec::new(), newest_plan: 0, limit: limit.min(codec::LIST_LIMIT) }
    }

    /// A node that begins with these slices of a map's first version.
    ///
    /// # Errors
    /// [`HoldingError::Full`], [`HoldingError::Held`] if two of them overlap.
    pub fn begin(
        slices: impl IntoIterator<Item = Slice<B>>,
        since: u64,
        limit: usize,
    ) -> Result<Holdings<B>, HoldingError> {
        let mut holdings = Holdings::new(limit);
        for slice in slices {
            holdings.admit(&slice)?;
            holdings.insert(Holding { slice, since, state: HoldingState::Serving });
        }
        Ok(holdings)
    }

    /// All that is held, in order.
    #[must_use]
    pub fn held(&self) -> &[Holding<B>] {
        &self.held
    }

    /// Since which version this node serves the position; `None` if it does not. O(log held).
    #[must_use]
    pub fn serves(&self, position: &B) -> Option<u64> {
        let behind = self.held.partition_point(|holding| holding.slice.low <= *position);
        let holding = self.held[..behind]
            .iter()
            .rev()
            .take(2)
            .find(|holding| holding.slice.contains(position) && is_served(holding))?;
        assert!(holding.slice.low <= *position, "found from below");
        Some(holding.since)
    }

    /// Whether this node serves all of the slice: a range query that it answered in part would look complete.
    #[must_use]
    pub fn serves_all(&self, slice: &Slice<B>) -> bool {
        if planted(Plant::RangeAnsweredInPart) {
            return self.serves(&slice.low).is_some();
        }
        let mut open = Some(slice.low.clone());
        for holding in self.held.iter().filter(|holding| is_served(holding)) {
            let Some(from) = &open else { break };
            if holding.slice.contains(from) {
                open = holding.slice.high.clone();
                if open.as_ref().is_some_and(|end| slice.high.as_ref().is_some_and(|high| end >= high)) {
                    open = None;
                }
                if open.is_none() {
                    return true;
                }
            }
        }
        false
    }

    /// Stops serving a slice, to give it away. Repeated for the same move: nothing changes.
    ///
    /// # Errors
    /// [`HoldingError::StalePlan`], [`HoldingError::NotServed`], [`HoldingError::Full`].
    pub fn give(&mut self, id: MoveId, slice: &Slice<B>) -> Result<(), HoldingError> {
        self.admit_plan(id)?;
        if self.held.iter().any(|holding| holding.state == HoldingState::Giving(id)) {
            return Ok(());
        }
        if !self.serves_all(slice) {
            return Err(HoldingError::NotServed);
        }
        // An end that cuts a slice in two needs room; a full node can still give away what it holds as a whole.
        let cuts = [Some(slice.low()), slice.high()].into_iter().flatten().filter(|at| self.is_cut_by(at));
        if self.held.len() + cuts.count() > self.limit {
            return Err(HoldingError::Full);
        }
        self.cut(slice.low());
        if let Some(high) = slice.high() {
            self.cut(high);
        }
        let given = self
            .held
            .iter_mut()
            .filter(|holding| holding.state == HoldingState::Serving && slice.contains(&holding.slice.low));
        let mut count = 0;
        for holding in given {
            holding.state = HoldingState::Giving(id);
            count += 1;
        }
        assert!(count > 0, "a slice that is served is made of held ones");
        self.newest_plan = id.plan;
        Ok(())
    }

    /// Holds a slice that another node gave, without serving it. Repeated, or served by now: nothing changes, and `Ok(false)`.
    ///
    /// # Errors
    /// [`HoldingError::StalePlan`], [`HoldingError::Held`], [`HoldingError::Full`].
    pub fn take(&mut self, id: MoveId, slice: &Slice<B>) -> Result<bool, HoldingError> {
        self.admit_plan(id)?;
        let mut overlapping = self.held.iter().filter(|holding| holding.slice.intersection(slice).is_some());
        if let Some(first) = overlapping.next() {
            let again = match first.state {
                HoldingState::Taken(earlier) => earlier == id,
                // A plan moves nothing twice: what is served since this plan was taken by this move.
                HoldingState::Serving => self.newest_plan == id.plan && first.slice.covers(slice),
                HoldingState::Giving(_) => false,
            };
            return if again { Ok(false) } else { Err(HoldingError::Held) };
        }
        drop(overlapping);
        self.admit(slice)?;
        self.insert(Holding { slice: slice.clone(), since: 0, state: HoldingState::Taken(id) });
        self.newest_plan = id.plan;
        assert!(self.serves(slice.low()).is_none(), "what is taken is not yet served");
        Ok(true)
    }

    /// Serves what was taken: the map says so since `version`. Whether anything changed.
    ///
    /// # Errors
    /// [`HoldingError::StalePlan`].
    pub fn activate(&mut self, id: MoveId, version: u64) -> Result<bool, HoldingError> {
        self.admit_plan(id)?;
        let mut changed = false;
        for holding in &mut self.held {
            if holding.state == HoldingState::Taken(id) {
                *holding =
                    Holding { slice: holding.slice.clone(), since: version, state: HoldingState::Serving };
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Lets go of what was given away: the map says that another node owns it. Gives back what is gone; its keys may go, too.
    ///
    /// # Errors
    /// [`HoldingError::StalePlan`].
    pub fn release(&mut self, id: MoveId) -> Result<Vec<Slice<B>>, HoldingError> {
        self.admit_plan(id)?;
        let before = self.held.len();
        let mut gone = Vec::new();
        self.held.retain(|holding| {
            let goes = holding.state == HoldingState::Giving(id);
            if goes {
                gone.push(holding.slice.clone());
            }
            !goes
        });
        assert!(self.held.len() + gone.len() == before, "only what was given goes");
        Ok(gone)
    }

    fn admit_plan(&self, id: MoveId) -> Result<(), HoldingError> {
        if id.plan < self.newest_plan { Err(HoldingError::StalePlan) } else { Ok(()) }
    }

    fn admit(&self, slice: &Slice<B>) -> Result<(), HoldingError> {
        if self.held.len() >= self.limit {
            return Err(HoldingError::Full);
        }
        let held = self.held.iter().any(|holding| holding.slice.intersection(slice).is_some());
        if held { Err(HoldingError::Held) } else { Ok(()) }
    }

    fn insert(&mut self, holding: Holding<B>) {
        let at = self.held.partition_point(|held| held.slice.low < holding.slice.low);
        self.held.insert(at, holding);
        assert!(self.held.len() <= self.limit, "the limit was asked for before");
    }

    /// Whether a served slice has `at` inside.
    fn is_cut_by(&self, at: &B) -> bool {
        let is_inside = |holding: &Holding<B>| holding.slice.contains(at) && holding.slice.low != *at;
        self.held.iter().any(|holding| holding.state == HoldingState::Serving && is_inside(holding))
    }

    /// Splits the served slice that has `at` inside.
    fn cut(&mut self, at: &B) {
        let Some(index) = self
            .held
            .iter()
            .position(|holding| holding.state == HoldingState::Serving && holding.slice.contains(at))
        else {
            return;
        };
        let holding = &mut self.held[index];
        if let Some((left, right)) = holding.slice.split(at) {
            holding.slice = left;
            let right = Holding { slice: right, since: holding.since, state: holding.state };
            self.held.insert(index + 1, right);
            assert!(self.held.len() <= self.limit, "room for a cut was asked for before");
        }
    }

    /// The table is sorted and bounded. O(held).
    ///
    /// # Panics
    /// If not.
    pub fn assert_invariants(&self) {
        assert!(self.held.len() <= self.limit, "the table is bounded");
        let sorted = self.held.windows(2).all(|pair| pair[0].slice.low <= pair[1].slice.low);
        assert!(sorted, "the table is sorted");
    }
}

fn is_served<B>(holding: &Holding<B>) -> bool {
    match holding.state {
        HoldingState::Serving => true,
        HoldingState::Giving(_) => planted(Plant::GiverServesOn),
        HoldingState::Taken(_) => false,
    }
}

impl<B: Position> Wire for Holdings<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.newest_plan.to_le_bytes());
        codec::push_len(self.limit, out);
        codec::push_len(self.held.len(), out);
        for holding in &self.held {
            holding.slice.encode_to(out);
            out.extend_from_slice(&holding.since.to_le_bytes());
            let (kind, id) = match holding.state {
                HoldingState::Serving => (0, MoveId { plan: 0, step: 0 }),
                HoldingState::Giving(id) => (1, id),
                HoldingState::Taken(id) => (2, id),
            };
            out.push(kind);
            out.extend_from_slice(&id.plan.to_le_bytes());
            out.extend_from_slice(&id.step.to_le_bytes());
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Holdings<B>, DecodeError> {
        let newest_plan = codec::u64(&mut bytes)?;
        let limit = codec::u32(&mut bytes)? as usize;
        let count = codec::len(&mut bytes)?;
        let mut held: Vec<Holding<B>> = Vec::new();
        for _ in 0..count {
            let slice = Slice::decode_from(&mut bytes)?;
            let since = codec::u64(&mut bytes)?;
            let kind = codec::byte(&mut bytes)?;
            let id = MoveId { plan: codec::u64(&mut bytes)?, step: codec::u32(&mut bytes)? };
            let state = match kind {
                0 => HoldingState::Serving,
                1 => HoldingState::Giving(id),
                2 => HoldingState::Taken(id),
                _ => return Err(DecodeError::new("a holding's state")),
            };
            if held.last().is_some_and(|last| last.slice.low > slice.low) {
                return Err(DecodeError::new("holdings in order"));
            }
            held.push(Holding { slice, since, state });
        }
        codec::end(&bytes)?;
        if held.len() > limit || limit > codec::LIST_LIMIT {
            return Err(DecodeError::new("no more holdings than the limit"));
        }
        Ok(Holdings { held, newest_plan, limit })
    }
}
