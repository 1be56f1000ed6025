//! What members and the catalog say to each other.
//!
//! On the wire: a header in postcard, then the entries as their own bytes, or the snapshot's meta and chunk raw.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Position};
use keypact_protocol::{DecodeError, NodeId, SnapshotChunk, Wire};
use serde::{Deserialize, Serialize};

/// The longest content of a snapshot chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The longest meta of a snapshot, bytes.
pub const META_BYTES_MAX: usize = 1024;
/// No group lives to see an epoch or index this large; bounding them where bytes come in keeps all later sums from overflowing.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// A message: which epoch it is about, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The epoch in which it is said; of [`Body::Seal`] and [`Body::Assign`], the new one.
    pub epoch: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Leader to follower: entries, or none, and then it is a heartbeat.
    Append {
        /// The place before the first entry.
        prev: Position,
        /// The entries, contiguous.
        entries: Vec<Entry>,
        /// What is visible, as far as the leader knows.
        commit: u64,
        /// The newest of the follower's own times that the leader has seen, if its lease held when it sent this: all that was acknowledged
        /// before that time is at or before `commit`. 0: nothing is said.
        echo_ns: u64,
    },
    /// The answer.
    AppendReply {
        /// What became of it.
        outcome: AppendOutcome,
        /// The follower's own clock. Comes back as [`Body::Append::echo_ns`].
        sent_ns: u64,
    },
    /// Leader to follower: one chunk of a snapshot.
    Snapshot {
        /// Index of the last entry of the leader's log.
        log_end: u64,
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
    /// Catalog to member: refuse all earlier epochs from now on, durably, and say how far your log reaches.
    Seal,
    /// The answer.
    Sealed {
        /// The last entry.
        last: Position,
        /// What this member knows to be visible, and has applied: it can't cut off entries up to here.
        visible: u64,
    },
    /// Catalog to member: this epoch begins. Comes again and again.
    Assign {
        /// Who leads it.
        leader: NodeId,
        /// The end of the log with which it begins: what others have beyond is lost.
        after: Position,
    },
    /// Member to catalog: the leader's log contradicts mine, or a snapshot is to replace it. I wait until you have written this down.
    Tail {
        /// The last entry.
        last: Position,
        /// The place before the first entry listed.
        before: Position,
        /// Entries that may be lost, the first of them, as many as the member's limit allows.
        entries: Vec<Entry>,
    },
    /// Catalog to member: what a log that ends so has lost is written down; it may be cut.
    Noted {
        /// As in [`Body::Tail`].
        last: Position,
        /// Up to here it is as the log that goes on.
        kept: u64,
    },
    /// Leader to catalog: I lead this epoch; renew my lease.
    Renew {
        /// The leader's own clock when it asked. Comes back.
        sent_ns: u64,
        /// Index of the last entry of its log.
        last: u64,
    },
    /// Member to catalog: I led this epoch in an earlier life, and shall not again.
    Resigned,
    /// Catalog to leader: nobody takes your place for so long after you asked.
    Grant {
        /// As in [`Body::Renew`].
        sent_ns: u64,
        /// How long, nanoseconds of the catalog's clock.
        lease_ns: u64,
        /// Up to this index the leader may make entries. Should it never be heard of again, no more than these are lost.
        allowed: u64,
    },
}

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The follower's log is durable, and equal to the leader's, up to here.
    Match {
        /// Up to and including this index.
        index: u64,
    },
    /// The follower's log does not have, or no longer has, what the leader has at `prev_index`.
    Conflict {
        /// As in the append.
        prev_index: u64,
        /// From where to try instead.
        next: u64,
    },
    /// The follower has applied what the leader does not have. It serves nothing until a snapshot replaces its state.
    Diverged {
        /// Up to here it knows its log to be the leader's; it has applied all of that, and more. Only a snapshot that reaches it may replace
        /// the follower's log.
        agreed: u64,
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
    /// The follower's log and state reach the snapshot's index, durably.
    Installed,
    /// The follower's own checkpoint ends at `base`, behind the snapshot's and within the leader's log: that is where to compare.
    Ahead {
        /// Its index.
        base: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    epoch: u64,
    body: HeadBody,
}

/// A body without its payload. Places are (index, epoch).
#[derive(Serialize, Deserialize)]
enum HeadBody {
    Append { prev: (u64, u64), commit: u64, echo_ns: u64 },
    AppendReply { outcome: AppendOutcome, sent_ns: u64 },
    Snapshot { log_end: u64, meta_len: u32, chunk: u32, last: bool },
    SnapshotReply { index: u64, outcome: SnapshotOutcome },
    Seal,
    Sealed { last: (u64, u64), visible: u64 },
    Assign { leader: u64, after: (u64, u64) },
    Tail { last: (u64, u64), before: (u64, u64) },
    Noted { last: (u64, u64), kept: u64 },
    Renew { sent_ns: u64, last: u64 },
    Resigned,
    Grant { sent_ns: u64, lease_ns: u64, allowed: u64 },
}

impl HeadBody {
    fn largest_count(&self) -> u64 {
        match *self {
            HeadBody::Append { prev, commit, echo_ns } => prev.0.max(prev.1).max(commit).max(echo_ns),
            HeadBody::AppendReply { outcome, sent_ns } => outcome.largest_count().max(sent_ns),
            HeadBody::SnapshotReply { index, outcome: SnapshotOutcome::Ahead { base } } => index.max(base),
            HeadBody::SnapshotReply { index, .. } | HeadBody::Snapshot { log_end: index, .. } => index,
            HeadBody::Sealed { last, visible } => last.0.max(last.1).max(visible),
            HeadBody::Tail { last, before } => last.0.max(last.1).max(before.0).max(before.1),
            HeadBody::Noted { last, kept } => last.0.max(last.1).max(kept),
            HeadBody::Assign { after, .. } => after.0.max(after.1),
            HeadBody::Renew { sent_ns, last } => sent_ns.max(last),
            HeadBody::Grant { sent_ns, lease_ns, allowed } => sent_ns.max(lease_ns).max(allowed),
            HeadBody::Seal | HeadBody::Resigned => 0,
        }
    }
}

impl AppendOutcome {
    fn largest_count(self) -> u64 {
        match self {
            AppendOutcome::Match { index } | AppendOutcome::Diverged { agreed: index } => index,
            AppendOutcome::Conflict { prev_index, next } => prev_index.max(next),
        }
    }
}

const fn pair(place: Position) -> (u64, u64) {
    (place.index, place.term)
}

impl Message {
    fn head(&self) -> Head {
        let body = match &self.body {
            Body::Append { prev, commit, echo_ns, .. } => {
                HeadBody::Append { prev: pair(*prev), commit: *commit, echo_ns: *echo_ns }
            }
            Body::AppendReply { outcome, sent_ns } => {
                HeadBody::AppendReply { outcome: *outcome, sent_ns: *sent_ns }
            }
            Body::Snapshot { log_end, chunk } => HeadBody::Snapshot {
                log_end: *log_end,
                meta_len: u32::try_from(chunk.meta.len()).expect("metas are bounded far below 4 GiB"),
                chunk: chunk.chunk,
                last: chunk.last,
            },
            Body::SnapshotReply { index, outcome } => {
                HeadBody::SnapshotReply { index: *index, outcome: *outcome }
            }
            Body::Seal => HeadBody::Seal,
            Body::Sealed { last, visible } => {
                assert!(*visible <= last.index, "what is visible is in the log");
                HeadBody::Sealed { last: pair(*last), visible: *visible }
            }
            Body::Assign { leader, after } => HeadBody::Assign { leader: leader.0, after: pair(*after) },
            Body::Tail { last, before, .. } => {
                assert!(
                    before.index <= last.index && before.term <= last.term,
                    "what is listed is of the tail"
                );
                HeadBody::Tail { last: pair(*last), before: pair(*before) }
            }
            Body::Noted { last, kept } => HeadBody::Noted { last: pair(*last), kept: *kept },
            Body::Renew { sent_ns, last } => HeadBody::Renew { sent_ns: *sent_ns, last: *last },
            Body::Resigned => HeadBody::Resigned,
            Body::Grant { sent_ns, lease_ns, allowed } => {
                HeadBody::Grant { sent_ns: *sent_ns, lease_ns: *lease_ns, allowed: *allowed }
            }
        };
        Head { epoch: self.epoch, body }
    }
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        let buffer = core::mem::take(out);
        *out = postcard::to_extend(&self.head(), buffer).expect("a vector takes any header");
        match &self.body {
            Body::Append { entries, .. } | Body::Tail { entries, .. } => {
                for entry in entries {
                    out.extend_from_slice(entry.bytes());
                }
            }
            Body::Snapshot { chunk, .. } => {
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
            .map_err(|_| DecodeError::new("a leader-follower message header"))?;
        let mut rest = bytes.slice(bytes.len() - rest.len()..);
        if head.epoch > COUNT_MAX || head.body.largest_count() > COUNT_MAX {
            return Err(DecodeError::new("an epoch, index or time below 2^62"));
        }
        let place = |(index, term): (u64, u64)| Position { index, term };
        let body = match head.body {
            HeadBody::Append { prev, commit, echo_ns } => {
                let prev = place(prev);
                Body::Append { prev, entries: take_entries(prev, head.epoch, &mut rest)?, commit, echo_ns }
            }
            HeadBody::AppendReply { outcome, sent_ns } => Body::AppendReply { outcome, sent_ns },
            HeadBody::Snapshot { log_end, meta_len, chunk, last } => {
                Body::Snapshot { log_end, chunk: take_chunk(meta_len, chunk, last, &mut rest)? }
            }
            HeadBody::SnapshotReply { index, outcome } => Body::SnapshotReply { index, outcome },
            HeadBody::Seal => Body::Seal,
            HeadBody::Sealed { last, visible } if visible > last.0 => {
                return Err(DecodeError::new("a log that ends before what is visible"));
            }
            HeadBody::Sealed { last, visible } => Body::Sealed { last: place(last), visible },
            HeadBody::Assign { leader, after } => {
                Body::Assign { leader: NodeId(leader), after: place(after) }
            }
            HeadBody::Tail { last, before } => {
                let (last, before) = (place(last), place(before));
                let entries = take_entries(before, last.term, &mut rest)?;
                if before.index > last.index || entries.len() as u64 > last.index - before.index {
                    return Err(DecodeError::new("entries of a tail, up to its end"));
                }
                Body::Tail { last, before, entries }
            }
            HeadBody::Noted { last, kept } => Body::Noted { last: place(last), kept },
            HeadBody::Renew { sent_ns, last } => Body::Renew { sent_ns, last },
            HeadBody::Resigned => Body::Resigned,
            HeadBody::Grant { sent_ns, lease_ns, allowed } => Body::Grant { sent_ns, lease_ns, allowed },
        };
        if !rest.is_empty() {
            return Err(DecodeError::new("the end of a leader-follower message"));
        }
        Ok(Message { epoch: head.epoch, body })
    }
}

fn take_chunk(meta_len: u32, chunk: u32, last: bool, rest: &mut Bytes) -> Result<SnapshotChunk, DecodeError> {
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
    Ok(SnapshotChunk { meta, chunk, bytes, last })
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
