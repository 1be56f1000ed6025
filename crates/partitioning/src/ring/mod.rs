//! Consistent hashing: nodes own points of a circle, and a key belongs to the first one at or behind its own point.
//!
//! What it gives: a node that joins or leaves moves about 1/N of the keys, and only its own. What it costs: a lookup searches, and chance
//! makes shares uneven: with 128 random tokens each, the largest of 1,000 shares is about 1.3 times the mean. Therefore tokens can be
//! *allocated* ([`Tokens::Allocated`]): a node that joins takes exactly its share, from those who have the most.
//!
//! ```text
//!         0 ──▶ ... prev ─────────────┬─ token t of node n ─▶ ... ─▶ 2^64
//!                        (prev, t]: n │
//! ```
//!
//! Source: Karger et al. 1997; virtual nodes and preference lists: Dynamo (DeCandia et al. 2007, sections 4.2, 4.3 and 6.2). Where we
//! differ: tokens are allocated so that shares come out even without fixed equal arcs (Dynamo's strategy 3) or a rebalancing afterwards.

mod allocate;
mod lookup;
mod preference;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Plant, planted};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::codec;
use crate::map::{Map, MapError};
use crate::member::Member;
use crate::slice::{Position, Slice};

pub use lookup::RingTable;
pub use preference::Preference;

/// A place on the circle of 2^64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(pub u64);

impl Point {
    /// A key's point. O(key).
    #[must_use]
    #[inline]
    pub fn of(key: &[u8]) -> Point {
        Point(xxh3_64(key))
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Position for Point {
    fn first() -> Point {
        Point(0)
    }

    fn next(&self) -> Option<Point> {
        self.0.checked_add(1).map(Point)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &mut Bytes) -> Result<Point, DecodeError> {
        codec::u64(bytes).map(Point)
    }
}

/// How a node gets its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tokens {
    /// Where a hash of seed, node and number falls. Independent of who else is there.
    Random,
    /// Where they take the node's share from those who have the most. Depends on who was there before, in which order.
    Allocated,
}

/// Settings of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingConfig {
    /// Tokens of a node of weight 1.
    pub tokens_per_weight: u32,
    /// How tokens are placed.
    pub tokens: Tokens,
    /// Decides where tokens fall.
    pub seed: u64,
    /// At most so many tokens altogether.
    pub tokens_max: usize,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig { tokens_per_weight: 128, tokens: Tokens::Allocated, seed: 0, tokens_max: 1 << 20 }
    }
}

/// Why a ring was not changed. In every case nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingError {
    /// The node is there already.
    Present(NodeId),
    /// The node is not there.
    Absent(NodeId),
    /// A node without weight gets no tokens.
    NoWeight(NodeId),
    /// Too many tokens.
    Full,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Present(node) => write!(f, "{node} is in the ring already; nothing changed"),
            RingError::Absent(node) => write!(f, "{node} is not in the ring; nothing changed"),
            RingError::NoWeight(node) => write!(f, "{node} has weight 0; nothing changed"),
            RingError::Full => f.write_str("the ring has as many tokens as it may; nothing changed"),
        }
    }
}

impl core::error::Error for RingError {}

/// Nodes and their tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    config: RingConfig,
    members: Vec<Member>,
    /// By place; the node's index in `members`.
    tokens: BTreeMap<u64, u32>,
}

impl Ring {
    /// A ring without nodes.
    #[must_use]
    pub fn new(config: RingConfig) -> Ring {
        Ring { config, members: Vec::new(), tokens: BTreeMap::new() }
    }

    /// A ring of these nodes, joined in this order.
    ///
    /// # Errors
    /// As [`Ring::join`].
    pub fn of(config: RingConfig, members: &[Member]) -> Result<Ring, RingError> {
        let mut ring = Ring::new(config);
        if config.tokens == Tokens::Allocated {
            ring.admit_all(members)?;
            allocate::join_all(&mut ring, members);
        } else {
            for member in members {
                ring.join(*member)?;
            }
        }
        Ok(ring)
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &RingConfig {
        &self.config
    }

    /// Its nodes, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All tokens with their nodes, in the order of the circle.
    pub fn tokens(&self) -> impl Iterator<Item = (Point, NodeId)> {
        self.tokens.iter().map(|(token, index)| (Point(*token), self.members[*index as usize].node))
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Adds a node. Keys move to it, and between no others.
    ///
    /// Random: O(its tokens * log tokens). Allocated: O(tokens).
    ///
    /// # Errors
    /// [`RingError::Present`], [`RingError::NoWeight`], [`RingError::Full`].
    pub fn join(&mut self, member: Member) -> Result<(), RingError> {
        self.admit_all(&[member])?;
        let before = self.tokens.len();
        match self.config.tokens {
            Tokens::Random => self.join_at_random(member),
            Tokens::Allocated => allocate::join_all(self, &[member]),
        }
        assert!(self.tokens.len() == before + self.tokens_of(&member), "a node gets all of its tokens");
        Ok(())
    }

    /// Takes a node out. Its keys move, and no others.
    ///
    /// O(tokens).
    ///
    /// # Errors
    /// [`RingError::Absent`].
    pub fn leave(&mut self, node: NodeId) -> Result<(), RingError> {
        let gone = self.index(node).ok_or(RingError::Absent(node))?;
        self.members.remove(gone as usize);
        self.tokens.retain(|_, index| *index != gone);
        for index in self.tokens.values_mut().filter(|index| **index > gone) {
            *index -= 1;
        }
        assert!(
            self.tokens.values().all(|index| (*index as usize) < self.members.len()),
            "no token is left over"
        );
        Ok(())
    }

    fn index(&self, node: NodeId) -> Option<u32> {
        self.members.iter().position(|member| member.node == node).map(|at| at as u32)
    }

    fn tokens_of(&self, member: &Member) -> usize {
        member.weight as usize * self.config.tokens_per_weight.max(1) as usize
    }

    fn admit_all(&self, joining: &[Member]) -> Result<(), RingError> {
        let mut tokens = self.tokens.len();
        let mut known: Vec<NodeId> = self.members.iter().chain(joining).map(|member| member.node).collect();
        known.sort_unstable();
        if let Some(twice) = known.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RingError::Present(twice[0]));
        }
        for member in joining {
            if member.weight == 0 {
                return Err(RingError::NoWeight(member.node));
            }
            tokens = tokens.saturating_add(self.tokens_of(member));
        }
        if tokens > self.config.tokens_max { Err(RingError::Full) } else { Ok(()) }
    }

    fn join_at_random(&mut self, member: Member) {
        let index = self.members.len() as u32;
        self.members.push(member);
        if planted(Plant::TokensDependOnCount) {
            return self.redraw();
        }
        self.draw(index, self.config.seed);
    }

    fn draw(&mut self, index: u32, seed: u64) {
        let member = self.members[index as usize];
        for number in 0..self.tokens_of(&member) as u64 {
            let mut text = [0; 16];
            text[..8].copy_from_slice(&member.node.0.to_le_bytes());
            text[8..].copy_from_slice(&number.to_le_bytes());
            let token = xxh3_64_with_seed(&text, seed);
            self.place(token, index);
        }
    }

    /// Only for a planted bug: where tokens fall depends on how many nodes there are.
    fn redraw(&mut self) {
        self.tokens.clear();
        let seed = self.config.seed.wrapping_add(self.members.len() as u64);
        for index in 0..self.members.len() as u32 {
            self.draw(index, seed);
        }
    }

    /// Puts a token at the place or, if one is there, at the next that is free.
    fn place(&mut self, mut token: u64, index: u32) {
        let before = self.tokens.len();
        while self.tokens.contains_key(&token) {
            token = token.wrapping_add(1);
        }
        self.tokens.insert(token, index);
        assert!(self.tokens.len() == before + 1, "no token takes another's place");
    }

    /// Which node owns the point; `None` in an empty ring. O(log tokens); [`RingTable`] is faster.
    #[must_use]
    pub fn owner(&self, point: Point) -> Option<NodeId> {
        let at_or_behind = self.tokens.range(point.0..).next();
        let found = match at_or_behind {
            Some(found) => Some(found),
            // Behind the last token the circle begins anew.
            None if planted(Plant::RingDoesNotWrap) => self.tokens.last_key_value(),
            None => self.tokens.first_key_value(),
        };
        found.map(|(_, index)| self.members[*index as usize].node)
    }

    /// Each node's share of the circle, as a fraction, in the order of [`Ring::members`].
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let shares = allocate::owned(self);
        let circle = (1u128 << 64) as f64;
        shares.iter().map(|share| *share as f64 / circle).collect()
    }

    /// The ring as a map: each arc with the preference list of `replicas` nodes of its keys.
    ///
    /// # Errors
    /// [`MapError::NotCovered`] for an empty ring, [`MapError::Replicas`] for no replicas.
    pub fn map(&self, version: u64, replicas: usize) -> Result<Map<Point>, MapError> {
        let Some((last, _)) = self.tokens.last_key_value() else { return Err(MapError::NotCovered) };
        if replicas == 0 {
            return Err(MapError::Replicas);
        }
        let list = |point: u64| self.preference(Point(point), replicas).nodes;
        let mut lows = Vec::with_capacity(self.tokens.len() + 1);
        let mut low = Some(Point(0));
        for token in self.tokens.keys() {
            // Two tokens side by side leave nothing between them; the first arc begins at 0 whatever its token.
            if let Some(low) = low {
                lows.push((low, list(*token)));
            }
            low = Point(*token).next();
        }
        if let Some(low) = low {
            assert!(low.0 > *last, "behind the last token");
            lows.push((low, list(low.0)));
        }
        Ok(Map::from_lows(version, lows)?.coalesced())
    }

    /// The arcs that have other first owners in `after`: what a change of the ring moves. As a fraction of the circle, and how much of
    /// that goes to or comes from nodes other than `changed`.
    #[must_use]
    pub fn moved(&self, after: &Ring, changed: NodeId) -> Moved {
        let mut moved = Moved { share: 0.0, elsewhere: 0.0 };
        let mut bounds: Vec<u64> = self.tokens.keys().chain(after.tokens.keys()).copied().collect();
        bounds.sort_unstable();
        bounds.dedup();
        let Some(last) = bounds.last().copied() else { return moved };
        let mut before = last;
        for bound in bounds {
            // A single token owns the whole circle.
            let len = match bound.wrapping_sub(before) {
                0 => (1u128 << 64) as f64,
                len => len as f64,
            };
            let (from, to) = (self.owner(Point(bound)), after.owner(Point(bound)));
            if from != to {
                let share = len / (1u128 << 64) as f64;
                moved.share += share;
                if from != Some(changed) && to != Some(changed) {
                    moved.elsewhere += share;
                }
            }
            before = bound;
        }
        moved
    }
}

/// What a change of a ring moves, as fractions of the circle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moved {
    /// All that gets another first owner.
    pub share: f64,
    /// Of it, what neither came from nor went to the node that changed. Should be 0.
    pub elsewhere: f64,
}

/// An arc and its length on the circle; one that begins where it ends goes all round.
pub(crate) fn arc_len(previous: u64, token: u64) -> u128 {
    match token.wrapping_sub(previous) {
        0 => 1 << 64,
        len => u128::from(len),
    }
}

/// The whole circle as one slice.
#[must_use]
pub fn circle() -> Slice<Point> {
    Slice::whole()
}
