//! Who belongs to the cluster and where it is reached: what the catalog decides, and what nodes tell each other before they can read it there.
//!
//! A roster only grows in knowledge. Of a node the latest life of its folder counts, and that a life is over counts for ever, so rosters can
//! be merged in any order and an old one does no harm: whatever it lacks is found out later, whatever it holds was true once.

use keypact_protocol::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use crate::Member;

/// The most nodes of a cluster. All of them hold all groups for now, and a group has no more voters.
pub const NODES_MAX: usize = 7;
/// The most nodes that are remembered as removed.
pub const GONE_MAX: usize = 256;

/// Who belongs to the cluster.
///
/// Invariants: ids rise in both lists; no node is listed under a life that is over.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    nodes: Vec<Member>,
    /// Node, and the last of its lives that are over by somebody's wish.
    gone: Vec<(u64, u64)>,
}

impl Roster {
    /// Of these nodes.
    #[must_use]
    pub fn of(mut nodes: Vec<Member>) -> Roster {
        nodes.sort_unstable_by_key(|member| member.id);
        nodes.dedup_by_key(|member| member.id);
        Roster { nodes, gone: Vec::new() }
    }

    /// As it was written; `None` if nobody could have made it.
    pub(crate) fn restored(nodes: Vec<Member>, gone: Vec<(u64, u64)>) -> Option<Roster> {
        let roster = Roster { nodes, gone };
        roster.is_sound().then_some(roster)
    }

    /// The nodes, by id.
    #[must_use]
    pub fn nodes(&self) -> &[Member] {
        &self.nodes
    }

    /// Removed nodes by id, each with the last of its lives that is over.
    #[must_use]
    pub fn gone(&self) -> &[(u64, u64)] {
        &self.gone
    }

    /// A node's row. O(nodes).
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Member> {
        self.nodes.iter().find(|member| member.id == id.0)
    }

    /// Whether this life of a node's folder was removed.
    #[must_use]
    pub fn is_gone(&self, id: NodeId, incarnation: Incarnation) -> bool {
        self.gone.iter().any(|(gone, last)| *gone == id.0 && incarnation.0 <= *last)
    }

    /// The first life under which this node may come: later than each that was heard of.
    #[must_use]
    pub fn next_life(&self, id: NodeId) -> Incarnation {
        let gone = self.gone.iter().find(|(gone, _)| *gone == id.0).map_or(0, |(_, last)| *last);
        let there = self.node(id).map_or(0, |member| member.incarnation);
        Incarnation(gone.max(there).saturating_add(1))
    }

    /// A node comes, or comes back under a later life. `false`, and nothing changes, if that life is over or a later one is there.
    pub fn admit(&mut self, member: &Member) -> bool {
        if member.id == 0 || self.is_gone(member.node_id(), Incarnation(member.incarnation)) {
            return false;
        }
        match self.nodes.binary_search_by_key(&member.id, |there| there.id) {
            Ok(at) if self.nodes[at].incarnation >= member.incarnation => return false,
            Ok(at) => self.nodes[at] = member.clone(),
            Err(at) => self.nodes.insert(at, member.clone()),
        }
        self.assert_invariants();
        true
    }

    /// A node goes, in this life and all before. `false`, and nothing changes, if that was known.
    pub fn dismiss(&mut self, id: NodeId, incarnation: Incarnation) -> bool {
        let (id, incarnation) = (id.0, incarnation.0);
        match self.gone.binary_search_by_key(&id, |(gone, _)| *gone) {
            Ok(at) if self.gone[at].1 >= incarnation => return false,
            Ok(at) => self.gone[at].1 = incarnation,
            Err(_) if self.gone.len() >= GONE_MAX => return false,
            Err(at) => self.gone.insert(at, (id, incarnation)),
        }
        self.nodes.retain(|member| member.id != id || member.incarnation > incarnation);
        self.assert_invariants();
        true
    }

    /// Takes in what another knows. Returns whether that was news.
    pub fn merge(&mut self, other: &Roster) -> bool {
        let gone =
            other.gone.iter().filter(|(id, last)| self.dismiss(NodeId(*id), Incarnation(*last))).count();
        let here = other.nodes.iter().filter(|member| self.admit(member)).count();
        gone + here > 0
    }

    /// Whether the other knows nothing that this one does not.
    #[must_use]
    pub fn covers(&self, other: &Roster) -> bool {
        !self.clone().merge(other)
    }

    /// Whether it is one that somebody could have made: what comes from outside is asked this.
    pub(crate) fn is_sound(&self) -> bool {
        let few = self.nodes.len() <= 2 * NODES_MAX && self.gone.len() <= GONE_MAX;
        let rising = self.nodes.windows(2).all(|pair| pair[0].id < pair[1].id)
            && self.gone.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let named = self.nodes.first().is_none_or(|member| member.id != 0);
        let mut nodes = self.nodes.iter();
        few && rising
            && named
            && !nodes.any(|member| self.is_gone(member.node_id(), Incarnation(member.incarnation)))
    }

    fn assert_invariants(&self) {
        assert!(self.nodes.windows(2).all(|pair| pair[0].id < pair[1].id), "a node stands once");
        assert!(self.gone.windows(2).all(|pair| pair[0].0 < pair[1].0), "a removed node stands once");
        assert!(self.gone.len() <= GONE_MAX, "what is remembered has a limit");
        let over = |member: &Member| self.is_gone(member.node_id(), Incarnation(member.incarnation));
        assert!(!self.nodes.iter().any(over), "who is listed has not been removed");
    }
}
