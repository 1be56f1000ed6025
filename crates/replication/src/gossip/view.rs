//! Who is in the group, under which identity.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{ReplicaId, varint};
use keypact_protocol::{DecodeError, Incarnation, NodeId};

use super::config::{FORGETS_MAX, MEMBERS_MAX};

/// One member of a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The life of its folder in which it was admitted. A node with another folder is not this member.
    pub folder: Incarnation,
    /// The identity under which it counts its events. Never granted twice.
    pub replica: ReplicaId,
    /// It takes no more writes, and leaves once others have what it has.
    pub draining: bool,
}

/// An identity whose events' names are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forget {
    /// The view that ordered it: whoever enters from an older one drops them.
    pub view: u64,
    /// Whose.
    pub replica: ReplicaId,
}

/// Who is in the group. Made by the catalog, one after the other; the members take it from anybody, its number says that it is newer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Which, from 1; 0 is the view of who knows none.
    pub number: u64,
    /// The members, by node. Shared: many replicas in one process hold one list.
    pub members: Arc<[Member]>,
    /// What to forget, until every member has entered a view that says so.
    pub forgets: Vec<Forget>,
}

impl View {
    /// The view of who knows none.
    #[must_use]
    pub fn none() -> View {
        View { number: 0, members: Arc::from([]), forgets: Vec::new() }
    }

    /// View 1, of these founders on their first folders.
    ///
    /// # Panics
    /// If a node's number needs more than 48 bits.
    #[must_use]
    pub fn of_founders(nodes: &[NodeId]) -> View {
        let founder = |node: &NodeId| {
            let (node, folder) = (*node, Incarnation(0));
            let replica = ReplicaId::of_life(node, Incarnation(0)).expect("nodes are numbered below 2^48");
            Member { node, folder, replica, draining: false }
        };
        let mut members: Vec<Member> = nodes.iter().map(founder).collect();
        members.sort_by_key(|member| member.node);
        members.dedup_by_key(|member| member.node);
        assert!(members.len() <= nodes.len(), "a founder for each node, once");
        assert!(
            members.iter().all(|member| member.replica.life().0 == member.node),
            "each under its own name"
        );
        View { number: 1, members: Arc::from(members), forgets: Vec::new() }
    }

    /// A node's place among the members. O(log n).
    #[must_use]
    pub fn place(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search_by_key(&node, |member| member.node).ok()
    }

    /// A node's row. O(log n).
    #[must_use]
    pub fn row(&self, node: NodeId) -> Option<&Member> {
        let row = self.place(node).map(|at| &self.members[at]);
        assert!(row.is_none_or(|row| row.node == node), "a row is its node's");
        row
    }

    /// Whether this identity is a member's. O(log n).
    #[must_use]
    pub fn has_replica(&self, replica: ReplicaId) -> bool {
        self.row(replica.life().0).is_some_and(|row| row.replica == replica)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        assert!(self.members.is_sorted_by(|a, b| a.node < b.node), "members are in order, each once");
        assert!(self.members.len() <= MEMBERS_MAX && self.forgets.len() <= FORGETS_MAX, "both are bounded");
        varint::put(self.number, out);
        varint::put(self.members.len() as u64, out);
        for member in self.members.iter() {
            varint::put(member.node.0, out);
            varint::put(member.folder.0, out);
            varint::put(member.replica.0, out);
            out.push(u8::from(member.draining));
        }
        varint::put(self.forgets.len() as u64, out);
        for forget in &self.forgets {
            varint::put(forget.view, out);
            varint::put(forget.replica.0, out);
        }
    }

    pub(super) fn take(bytes: &mut Bytes) -> Result<View, DecodeError> {
        let number = varint::take(bytes)?;
        let count = varint::take_count(bytes, 4)?;
        if count > MEMBERS_MAX {
            return Err(DecodeError::new("a view of at most 16,384 members"));
        }
        let mut members: Vec<Member> = Vec::with_capacity(count);
        for _ in 0..count {
            let node = NodeId(varint::take(bytes)?);
            let folder = Incarnation(varint::take(bytes)?);
            let replica = ReplicaId(varint::take(bytes)?);
            let draining = take_bool(bytes)?;
            if members.last().is_some_and(|before| before.node >= node) || replica.life().0 != node {
                return Err(DecodeError::new("members in order, each with an identity of its own"));
            }
            members.push(Member { node, folder, replica, draining });
        }
        assert!(members.len() == count, "all were read");
        let count = varint::take_count(bytes, 2)?;
        if count > FORGETS_MAX {
            return Err(DecodeError::new("at most 4,096 identities to forget"));
        }
        let mut forgets = Vec::with_capacity(count);
        for _ in 0..count {
            forgets.push(Forget { view: varint::take(bytes)?, replica: ReplicaId(varint::take(bytes)?) });
        }
        assert!(members.len() <= MEMBERS_MAX && forgets.len() <= FORGETS_MAX, "both are bounded");
        Ok(View { number, members: Arc::from(members), forgets })
    }
}

pub(super) fn take_bool(bytes: &mut Bytes) -> Result<bool, DecodeError> {
    match take_byte(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::new("a yes or a no")),
    }
}

pub(super) fn take_byte(bytes: &mut Bytes) -> Result<u8, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::new("one more byte"));
    }
    Ok(bytes.split_to(1)[0])
}

/// Bytes with their length before them.
pub(super) fn put_bytes(content: &Bytes, out: &mut Vec<u8>) {
    let before = out.len();
    varint::put(content.len() as u64, out);
    out.extend_from_slice(content);
    assert!(out.len() > before + content.len(), "the length stands before");
}

pub(super) fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = varint::take_count(bytes, 1)?;
    assert!(len <= bytes.len(), "a count is at most what is left");
    Ok(bytes.split_to(len))
}

/// Nothing may follow.
pub(super) fn end(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("nothing behind the last field")) }
}
