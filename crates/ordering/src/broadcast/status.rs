//! What others may see of a member.

use keypact_protocol::NodeId;

use super::{Broadcast, Jump, Order, View};
use crate::clock::{Dot, ReplicaId, VectorClock};

/// What a member did in this life. For metrics, and to see that tests reach what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages delivered, own ones too.
    pub delivered: u64,
    /// Broadcasts refused.
    pub refused: u64,
    /// Messages that were there before.
    pub duplicates: u64,
    /// Messages held back because one before them in their stream was missing.
    pub held_back_for_gap: u64,
    /// Messages held back because one of another stream was missing.
    pub held_back_for_others: u64,
    /// Messages delivered after they were held back.
    pub released: u64,
    /// Messages dropped because too many waited, or too many were kept.
    pub dropped_full: u64,
    /// Messages of an incarnation that a later one has ended.
    pub refused_older_incarnation: u64,
    /// Questions for what was missing.
    pub asked: u64,
    /// Messages sent because somebody asked.
    pub repaired: u64,
    /// Questions for what all members had held.
    pub gone: u64,
    /// Newcomers told where to begin.
    pub welcomed: u64,
    /// Times that it began, or began anew, where another member was.
    pub jumps: u64,
    /// Views taken over.
    pub views: u64,
    /// Views of a number that was given to another one.
    pub refused_views: u64,
    /// Messages refused because of the limit of streams ([`super::TooManyStreams`]).
    pub refused_streams: u64,
    /// Messages from who is not in the view, or while this member is not.
    pub refused_strangers: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
}

impl<O: Order> Broadcast<O> {
    /// The name of the own stream.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.me
    }

    /// What was delivered here or jumped over, of each stream from its beginning.
    #[must_use]
    pub fn delivered(&self) -> &VectorClock {
        &self.delivered
    }

    /// How many messages were delivered here, in all lives.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The group as this member knows it.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether it has a place to begin from.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.joined
    }

    /// The last time that it began anew, as far as its log goes back.
    #[must_use]
    pub fn last_jump(&self) -> Option<&Jump> {
        self.jump.as_ref()
    }

    /// Messages that wait for others.
    #[must_use]
    pub fn held_back(&self) -> usize {
        self.held_back.len()
    }

    /// Messages kept for others.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.store.len()
    }

    /// Whether this message is kept for others.
    #[must_use]
    pub fn keeps(&self, dot: Dot) -> bool {
        self.store.get(dot).is_some()
    }

    /// What a member is known to hold.
    #[must_use]
    pub fn known_of(&self, member: NodeId) -> Option<&VectorClock> {
        self.peers.get(&member)
    }

    /// What it did in this life.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
