//! What members and the catalog say to each other.
//!
//! On the wire: a header in postcard, then the entries as their own bytes, or the snapshot's meta and chunk raw.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Position};
use keypact_protocol::{DecodeError, GroupId, NodeId, SnapshotChunk, Wire};
use serde::{Deserialize, Serialize};

use super::config::MEMBERS_MAX;
use super::{Life, Member, MemberState};

/// The longest content of a snapshot chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The longest meta of a snapshot, bytes.
pub const META_BYTES_MAX: usize = 1024;
/// No group lives to see an epoch or index this large; bounding them where bytes come in keeps all later sums from overflowing.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// A message: which group and epoch it is about, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The group.
    pub group: GroupId,
    /// The epoch in which it is said; of [`Body::Assign`], the new one; 0: none is known yet.
    pub epoch: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Predecessor to successor: entries, or none.
    Forward {
        /// The place before the first entry.
        prev: Position,
        /// The entries, contiguous.
        entries: Vec<Entry>,
        /// Up to here every member before the successor is durable.
        watermark: u64,
        /// What is committed, as far as the sender knows.
        commit: u64,
    },
    /// Successor to predecessor, after each [`Body::Forward`] and whenever it has news.
    Ack {
        /// Its log is as the predecessor's up to here.
        received: u64,
        /// And durable up to here.
        durable: u64,
        /// What is committed, as far as it knows.
        commit: u64,
        /// Something is missing after `received`: send from there again.
        gap: bool,
    },
    /// Tail to syncing member: one chunk of a snapshot.
    Snapshot(SnapshotChunk),
    /// The answer.
    SnapshotReply {
        /// The index of the snapshot's last entry.
        index: u64,
        /// What became of it.
        outcome: SnapshotOutcome,
    },
    /// Any serving member to the tail: how far is the log committed?
    Query {
        /// Comes back with the answer.
        round: u64,
    },
    /// The answer.
    Answer {
        /// As in the query.
        round: u64,
        /// Everything that was acknowledged before the query came is at or before this index.
        commit: u64,
    },
    /// Catalog to member: this epoch begins, and these are everybody's places. Comes again and again.
    Assign {
        /// In the order of [`super::Layout`].
        members: Vec<Member>,
    },
    /// Member to catalog: I am here; renew my lease.
    Renew {
        /// Which life it is.
        life: Life,
        /// Its own clock when it asked. Comes back.
        sent_ns: u64,
    },
    /// Catalog to member: you keep your place for so long after you asked.
    Grant {
        /// The member's life.
        life: Life,
        /// As in [`Body::Renew`].
        sent_ns: u64,
        /// How long, nanoseconds of the catalog's clock.
        lease_ns: u64,
    },
    /// Tail to catalog: this member has everything, and in this epoch nothing is committed without it any more.
    Synced {
        /// Which.
        node: NodeId,
        /// In which life.
        life: Life,
    },
}

/// What became of a snapshot's chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SnapshotOutcome {
    /// This chunk is the next one wanted; 0 asks to start again.
    Next {
        /// Which.
        chunk: u32,
    },
    /// The member's log and state reach the snapshot's index, durably.
    Installed,
}

#[derive(Serialize, Deserialize)]
struct Head {
    group: u64,
    epoch: u64,
    body: HeadBody,
}

/// A body without its payload. Places are (index, epoch); lives (copy, start); members (node, copy, start, state).
#[derive(Serialize, Deserialize)]
enum HeadBody {
    Forward { prev: (u64, u64), watermark: u64, commit: u64 },
    Ack { received: u64, durable: u64, commit: u64, gap: bool },
    Snapshot { meta_len: u32, chunk: u32, last: bool },
    SnapshotReply { index: u64, outcome: SnapshotOutcome },
    Query { round: u64 },
    Answer { round: u64, commit: u64 },
    Assign { members: Vec<(u64, u64, u64, u8)> },
    Renew { life: (u64, u64), sent_ns: u64 },
    Grant { life: (u64, u64), sent_ns: u64, lease_ns: u64 },
    Synced { node: u64, life: (u64, u64) },
}

impl HeadBody {
    /// The largest number that later sums are made of.
    fn largest_count(&self) -> u64 {
        match *self {
            HeadBody::Forward { prev, watermark, commit } => prev.0.max(prev.1).max(watermark).max(commit),
            HeadBody::Ack { received, durable, commit, .. } => received.max(durable).max(commit),
            HeadBody::SnapshotReply { index, .. } => index,
            HeadBody::Answer { commit, .. } => commit,
            HeadBody::Renew { sent_ns, .. } => sent_ns,
            HeadBody::Grant { sent_ns, lease_ns, .. } => sent_ns.max(lease_ns),
            HeadBody::Snapshot { .. }
            | HeadBody::Query { .. }
            | HeadBody::Assign { .. }
            | HeadBody::Synced { .. } => 0,
        }
    }
}

const fn pair(life: Life) -> (u64, u64) {
    (life.copy, life.start)
}

const fn life((copy, start): (u64, u64)) -> Life {
    Life { copy, start }
}

fn state_of(byte: u8) -> Result<MemberState, DecodeError> {
    MemberState::ALL.get(usize::from(byte)).copied().ok_or(DecodeError::new("a member's state"))
}

fn head_members(members: &[Member]) -> Vec<(u64, u64, u64, u8)> {
    assert!(members.len() <= MEMBERS_MAX, "a group has few members");
    members.iter().map(|m| (m.node.0, m.life.copy, m.life.start, m.state as u8)).collect()
}

/// What follows relies on the order of a layout, so it is checked here.
fn take_members(members: &[(u64, u64, u64, u8)]) -> Result<Vec<Member>, DecodeError> {
    if members.len() > MEMBERS_MAX {
        return Err(DecodeError::new("at most 16 members"));
    }
    let mut taken: Vec<Member> = Vec::with_capacity(members.len());
    for &(node, copy, start, state) in members {
        let member = Member { node: NodeId(node), life: life((copy, start)), state: state_of(state)? };
        let follows = taken.last().is_none_or(|before| before.state <= member.state);
        if !follows || taken.iter().any(|other| other.node == member.node) {
            return Err(DecodeError::new("members in the order of their states"));
        }
        taken.push(member);
    }
    // A second one would be the first one's successor, and take from it what nobody has acknowledged.
    let count = |state| taken.iter().filter(|member| member.state == state).count();
    let syncing = count(MemberState::Syncing);
    if syncing > 1 || (syncing == 1 && count(MemberState::Serving) == 0) {
        return Err(DecodeError::new("one member at most that syncs, with one that serves"));
    }
    assert!(taken.is_sorted_by_key(|member| member.state), "neighbours are found by this order");
    Ok(taken)
}

impl Message {
    fn head(&self) -> Head {
        let body = match &self.body {
            Body::Forward { prev, watermark, commit, .. } => {
                HeadBody::Forward { prev: (prev.index, prev.term), watermark: *watermark, commit: *commit }
            }
            Body::Ack { received, durable, commit, gap } => {
                HeadBody::Ack { received: *received, durable: *durable, commit: *commit, gap: *gap }
            }
            Body::Snapshot(chunk) => HeadBody::Snapshot {
                meta_len: u32::try_from(chunk.meta.len()).expect("metas are bounded far below 4 GiB"),
                chunk: chunk.chunk,
                last: chunk.last,
            },
            Body::SnapshotReply { index, outcome } => {
                HeadBody::SnapshotReply { index: *index, outcome: *outcome }
            }
            Body::Query { round } => HeadBody::Query { round: *round },
            Body::Answer { round, commit } => HeadBody::Answer { round: *round, commit: *commit },
            Body::Assign { members } => HeadBody::Assign { members: head_members(members) },
            Body::Renew { life, sent_ns } => HeadBody::Renew { life: pair(*life), sent_ns: *sent_ns },
            Body::Grant { life, sent_ns, lease_ns } => {
                HeadBody::Grant { life: pair(*life), sent_ns: *sent_ns, lease_ns: *lease_ns }
            }
            Body::Synced { node, life } => HeadBody::Synced { node: node.0, life: pair(*life) },
        };
        Head { group: self.group.0, epoch: self.epoch, body }
    }
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        let buffer = core::mem::take(out);
        *out = postcard::to_extend(&self.head(), buffer).expect("a vector takes any header");
        match &self.body {
            Body::Forward { entries, .. } => {
                for entry in entries {
                    out.extend_from_slice(entry.bytes());
                }
            }
            Body::Snapshot(chunk) => {
                assert!(chunk.meta.len() <= META_BYTES_MAX, "our own metas are short");
                assert!(chunk.bytes.len() <= CHUNK_BYTES_MAX, "the parent cuts chunks to size");
                out.extend_from_slice(&chunk.meta);
                out.extend_from_slice(&chunk.bytes);
            }
            _ => {}
        }
    }

    fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        let (head, rest) = postcard::take_from_bytes::<Head>(&bytes)
            .map_err(|_| DecodeError::new("a chain message header"))?;
        let mut rest = bytes.slice(bytes.len() - rest.len()..);
        if head.epoch > COUNT_MAX || head.body.largest_count() > COUNT_MAX {
            return Err(DecodeError::new("an epoch, index or time below 2^62"));
        }
        let body = match head.body {
            HeadBody::Forward { prev: (index, term), watermark, commit } => {
                let prev = Position { index, term };
                let entries = take_entries(prev, head.epoch, &mut rest)?;
                Body::Forward { prev, entries, watermark, commit }
            }
            HeadBody::Ack { received, durable, commit, gap } => Body::Ack { received, durable, commit, gap },
            HeadBody::Snapshot { meta_len, chunk, last } => take_chunk(meta_len, chunk, last, &mut rest)?,
            HeadBody::SnapshotReply { index, outcome } => Body::SnapshotReply { index, outcome },
            HeadBody::Query { round } => Body::Query { round },
            HeadBody::Answer { round, commit } => Body::Answer { round, commit },
            HeadBody::Assign { members } => Body::Assign { members: take_members(&members)? },
            HeadBody::Renew { life: said, sent_ns } => Body::Renew { life: life(said), sent_ns },
            HeadBody::Grant { life: said, sent_ns, lease_ns } => {
                Body::Grant { life: life(said), sent_ns, lease_ns }
            }
            HeadBody::Synced { node, life: said } => Body::Synced { node: NodeId(node), life: life(said) },
        };
        if !rest.is_empty() {
            return Err(DecodeError::new("the end of a chain message"));
        }
        Ok(Message { group: GroupId(head.group), epoch: head.epoch, body })
    }
}

fn take_chunk(meta_len: u32, chunk: u32, last: bool, rest: &mut Bytes) -> Result<Body, DecodeError> {
    let meta_len = meta_len as usize;
    if meta_len > META_BYTES_MAX || meta_len > rest.len() {
        return Err(DecodeError::new("a snapshot's meta"));
    }
    let meta = rest.split_to(meta_len);
    if rest.len() > CHUNK_BYTES_MAX {
        return Err(DecodeError::new("a snapshot chunk of at most 256 KiB"));
    }
    let bytes = core::mem::take(rest);
    assert!(rest.is_empty() && meta.len() <= META_BYTES_MAX, "a chunk is all that is left");
    Ok(Body::Snapshot(SnapshotChunk { meta, chunk, bytes, last }))
}

/// Reads entries to the end. What follows relies on their order, so it is checked here: no gaps after `prev`, no falling epochs, none above
/// the message's own.
fn take_entries(prev: Position, epoch: u64, rest: &mut Bytes) -> Result<Vec<Entry>, DecodeError> {
    let mut entries = Vec::new();
    let mut before = prev;
    while !rest.is_empty() {
        let entry = Entry::take(rest)?;
        if entry.index() != before.index + 1 {
            return Err(DecodeError::new("entries without gaps"));
        }
        if entry.term() < before.term || entry.term() > epoch {
            return Err(DecodeError::new("entries whose epochs do not fall"));
        }
        before = Position { index: entry.index(), term: entry.term() };
        entries.push(entry);
    }
    assert!(
        before.index == prev.index + entries.len() as u64,
        "entries without gaps are as many as they span"
    );
    Ok(entries)
}
