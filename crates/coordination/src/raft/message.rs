//! What members say to each other.
//!
//! On the wire: a header in postcard, then the entries as their own bytes, or the snapshot's meta and chunk raw.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Kind, Position};
use keypact_protocol::{DecodeError, Incarnation, NodeId, SnapshotChunk, Wire};
use serde::{Deserialize, Serialize};

use super::{Change, ChangeRefusal, Membership};

/// The longest content of a snapshot chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The longest meta of a snapshot, bytes.
pub const META_BYTES_MAX: usize = 1024;
/// No group lives to see a term or an index this large; bounding them where bytes come in keeps all later sums from overflowing.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// A message: who speaks, in which term, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender's term.
    pub term: u64,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Would you vote for me? Changes nothing at the receiver.
    PreVote {
        /// The term in which the sender would campaign.
        next_term: u64,
        /// The sender's last entry.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// As asked.
        next_term: u64,
        /// Yes or no.
        granted: bool,
    },
    /// Vote for me in this term.
    Vote {
        /// The sender's last entry.
        last: Position,
        /// The leader wants it so ([`Body::TimeoutNow`]): that it was just heard is no reason to say no.
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// Yes or no.
        granted: bool,
        /// To whom, of those who had the candidate's id: a vote for a life that is over is no vote for the next.
        candidate: Incarnation,
    },
    /// Entries from the leader.
    Append {
        /// The place before the first entry.
        prev: Position,
        /// The entries, contiguous.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: u64,
        /// The leader's newest confirmation round.
        round: u64,
    },
    /// The answer.
    AppendReply {
        /// As in the append.
        round: u64,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// The leader is there. Apart from appends, so that a node can merge the heartbeats of many groups.
    Heartbeat {
        /// A commit index that the receiver's log is known to reach.
        commit: u64,
        /// The leader's newest confirmation round.
        round: u64,
    },
    /// The answer. With round 0 it only tells an outdated leader the sender's term.
    HeartbeatReply {
        /// As in the heartbeat.
        round: u64,
    },
    /// One chunk of a snapshot.
    Snapshot {
        /// The chunk.
        chunk: SnapshotChunk,
    },
    /// The answer.
    SnapshotReply {
        /// The index of the snapshot's last entry.
        index: u64,
        /// What became of it.
        outcome: SnapshotOutcome,
    },
    /// Leader to voter: campaign now, I stop (thesis, 3.10).
    TimeoutNow,
    /// Operator to leader: change the members.
    Change(Change),
    /// Operator to leader: let this voter lead.
    Transfer {
        /// Which.
        to: NodeId,
    },
    /// The answer to the operator: it has begun, or why not.
    Answer(Result<(), ChangeRefusal>),
}

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The sender's log is durable, and equal to the leader's, up to here.
    Match {
        /// Up to and including this index.
        index: u64,
    },
    /// The sender does not have the entry at `prev_index` as the leader has it.
    Conflict {
        /// As in the append.
        prev_index: u64,
        /// The term that the sender has there; 0 if its log ends before.
        hint_term: u64,
        /// The first index of that term; the index after the last entry if the log ends before.
        hint_index: u64,
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
    /// The sender's log and state reach the snapshot's index, durably.
    Installed,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    index: u64,
    term: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Place {
        Place { index: position.index, term: position.term }
    }
}

impl From<Place> for Position {
    fn from(place: Place) -> Position {
        Position { index: place.index, term: place.term }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    term: u64,
    incarnation: u64,
    body: HeadBody,
}

/// A body without its payload.
#[derive(Serialize, Deserialize)]
enum HeadBody {
    PreVote { next_term: u64, last: Place },
    PreVoteReply { next_term: u64, granted: bool },
    Vote { last: Place, transfer: bool },
    VoteReply { granted: bool, candidate: u64 },
    Append { prev: Place, commit: u64, round: u64 },
    AppendReply { round: u64, outcome: AppendOutcome },
    Heartbeat { commit: u64, round: u64 },
    HeartbeatReply { round: u64 },
    Snapshot { meta_len: u32, chunk: u32, last: bool },
    SnapshotReply { index: u64, outcome: SnapshotOutcome },
    TimeoutNow,
    Change(Change),
    Transfer { to: u64 },
    Answer(Result<(), ChangeRefusal>),
}

impl HeadBody {
    fn largest_count(&self) -> u64 {
        match *self {
            HeadBody::PreVote { next_term, last } => next_term.max(last.index).max(last.term),
            HeadBody::PreVoteReply { next_term, .. } => next_term,
            HeadBody::Vote { last, .. } => last.index.max(last.term),
            HeadBody::Append { prev, commit, .. } => prev.index.max(prev.term).max(commit),
            HeadBody::AppendReply { outcome: AppendOutcome::Match { index }, .. } => index,
            HeadBody::AppendReply {
                outcome: AppendOutcome::Conflict { prev_index, hint_term, hint_index },
                ..
            } => prev_index.max(hint_term).max(hint_index),
            HeadBody::Heartbeat { commit, .. } => commit,
            HeadBody::SnapshotReply { index, .. } => index,
            HeadBody::VoteReply { .. }
            | HeadBody::HeartbeatReply { .. }
            | HeadBody::Snapshot { .. }
            | HeadBody::TimeoutNow
            | HeadBody::Change(_)
            | HeadBody::Transfer { .. }
            | HeadBody::Answer(_) => 0,
        }
    }
}

impl Message {
    fn head(&self) -> Head {
        let body = match &self.body {
            Body::PreVote { next_term, last } => {
                HeadBody::PreVote { next_term: *next_term, last: (*last).into() }
            }
            Body::PreVoteReply { next_term, granted } => {
                HeadBody::PreVoteReply { next_term: *next_term, granted: *granted }
            }
            Body::Vote { last, transfer } => HeadBody::Vote { last: (*last).into(), transfer: *transfer },
            Body::VoteReply { granted, candidate } => {
                HeadBody::VoteReply { granted: *granted, candidate: candidate.0 }
            }
            Body::Append { prev, commit, round, .. } => {
                HeadBody::Append { prev: (*prev).into(), commit: *commit, round: *round }
            }
            Body::AppendReply { round, outcome } => {
                HeadBody::AppendReply { round: *round, outcome: *outcome }
            }
            Body::Heartbeat { commit, round } => HeadBody::Heartbeat { commit: *commit, round: *round },
            Body::HeartbeatReply { round } => HeadBody::HeartbeatReply { round: *round },
            Body::Snapshot { chunk } => HeadBody::Snapshot {
                meta_len: u32::try_from(chunk.meta.len()).expect("metas are bounded far below 4 GiB"),
                chunk: chunk.chunk,
                last: chunk.last,
            },
            Body::SnapshotReply { index, outcome } => {
                HeadBody::SnapshotReply { index: *index, outcome: *outcome }
            }
            Body::TimeoutNow => HeadBody::TimeoutNow,
            Body::Change(change) => HeadBody::Change(change.clone()),
            Body::Transfer { to } => HeadBody::Transfer { to: to.0 },
            Body::Answer(outcome) => HeadBody::Answer(*outcome),
        };
        Head { term: self.term, incarnation: self.incarnation.0, body }
    }
}

impl Body {
    /// Whether it asks or tells, and does not answer: that is heard of anybody, since a member may not yet know that its leader is one.
    pub(super) fn asks(&self) -> bool {
        match self {
            Body::PreVote { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow => true,
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::SnapshotReply { .. }
            | Body::Change(_)
            | Body::Transfer { .. }
            | Body::Answer(_) => false,
        }
    }
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        let buffer = core::mem::take(out);
        *out = postcard::to_extend(&self.head(), buffer).expect("a vector takes any header");
        match &self.body {
            Body::Append { entries, .. } => {
                for entry in entries {
                    out.extend_from_slice(entry.bytes());
                }
            }
            Body::Snapshot { chunk } => {
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
            .map_err(|_| DecodeError::new("a Raft message header"))?;
        let mut rest = bytes.slice(bytes.len() - rest.len()..);
        if head.term > COUNT_MAX || head.body.largest_count() > COUNT_MAX {
            return Err(DecodeError::new("a term or index below 2^62"));
        }
        let body = match head.body {
            HeadBody::PreVote { next_term, last } => Body::PreVote { next_term, last: last.into() },
            HeadBody::PreVoteReply { next_term, granted } => Body::PreVoteReply { next_term, granted },
            HeadBody::Vote { last, transfer } => Body::Vote { last: last.into(), transfer },
            HeadBody::VoteReply { granted, candidate } => {
                Body::VoteReply { granted, candidate: Incarnation(candidate) }
            }
            HeadBody::Append { prev, commit, round } => {
                let entries = take_entries(prev.into(), head.term, &mut rest)?;
                Body::Append { prev: prev.into(), entries, commit, round }
            }
            HeadBody::AppendReply { round, outcome } => Body::AppendReply { round, outcome },
            HeadBody::Heartbeat { commit, round } => Body::Heartbeat { commit, round },
            HeadBody::HeartbeatReply { round } => Body::HeartbeatReply { round },
            HeadBody::Snapshot { meta_len, chunk, last } => {
                let meta_len = meta_len as usize;
                if meta_len > META_BYTES_MAX || meta_len > rest.len() {
                    return Err(DecodeError::new("a snapshot's meta"));
                }
                let meta = rest.split_to(meta_len);
                if rest.len() > CHUNK_BYTES_MAX {
                    return Err(DecodeError::new("a snapshot chunk of at most 256 KiB"));
                }
                let bytes = core::mem::take(&mut rest);
                Body::Snapshot { chunk: SnapshotChunk { meta, chunk, bytes, last } }
            }
            HeadBody::SnapshotReply { index, outcome } => Body::SnapshotReply { index, outcome },
            HeadBody::TimeoutNow => Body::TimeoutNow,
            HeadBody::Change(change) => Body::Change(change),
            HeadBody::Transfer { to } => Body::Transfer { to: NodeId(to) },
            HeadBody::Answer(outcome) => Body::Answer(outcome),
        };
        if !rest.is_empty() {
            return Err(DecodeError::new("the end of a Raft message"));
        }
        Ok(Message { term: head.term, incarnation: Incarnation(head.incarnation), body })
    }
}

/// Reads entries to the end. What follows relies on their order, so it is checked here: no gaps after `prev`, no falling terms, none above
/// the sender's own term, memberships that can be used.
fn take_entries(prev: Position, term: u64, rest: &mut Bytes) -> Result<Vec<Entry>, DecodeError> {
    let mut entries = Vec::new();
    let mut before = prev;
    while !rest.is_empty() {
        let entry = Entry::take(rest)?;
        if before.index.checked_add(1) != Some(entry.index()) {
            return Err(DecodeError::new("entries without gaps"));
        }
        if entry.term() < before.term || entry.term() > term {
            return Err(DecodeError::new("entries whose terms do not fall"));
        }
        if entry.header().kind == Kind::Membership {
            Membership::decode(&entry.command())?;
        }
        before = Position { index: entry.index(), term: entry.term() };
        entries.push(entry);
    }
    Ok(entries)
}
