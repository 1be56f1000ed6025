//! What log-based protocols share about snapshots: what a checkpoint says of itself, and how its chunks travel to a peer, one at a time.

use bytes::Bytes;
use keypact_protocol::SnapshotChunk;
use serde::{Deserialize, Serialize};

use crate::Position;

/// The first byte of an encoded meta without members.
const META_VERSION: u8 = 1;
/// The first byte of one with members.
const META_VERSION_MEMBERS: u8 = 2;
/// No index or term is larger; what says so was not written by us.
const COUNT_MAX: u64 = 1 << 62;

/// What a checkpoint says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointMeta {
    /// The last entry in it.
    pub position: Position,
    /// That entry's stamp, Unix milliseconds.
    pub stamp_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct MetaFields {
    version: u8,
    index: u64,
    term: u64,
    stamp_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct MemberFields<'a> {
    fields: MetaFields,
    members: &'a [u8],
}

impl CheckpointMeta {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let Position { index, term } = self.position;
        assert!(index.max(term) <= COUNT_MAX, "what is written can be read back");
        let fields = MetaFields { version: META_VERSION, index, term, stamp_ms: self.stamp_ms };
        postcard::to_allocvec(&fields).expect("a vector takes any meta").into()
    }

    /// Its bytes, with who the group's members were at that entry, in the protocol's own encoding.
    #[must_use]
    pub fn encode_with(self, members: &[u8]) -> Bytes {
        let Position { index, term } = self.position;
        assert!(index.max(term) <= COUNT_MAX, "what is written can be read back");
        let fields = MetaFields { version: META_VERSION_MEMBERS, index, term, stamp_ms: self.stamp_ms };
        postcard::to_allocvec(&MemberFields { fields, members }).expect("a vector takes any meta").into()
    }

    /// Reads back what [`CheckpointMeta::encode`] or [`CheckpointMeta::encode_with`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(meta: &[u8]) -> Option<CheckpointMeta> {
        CheckpointMeta::decode_with(meta).map(|(meta, _)| meta)
    }

    /// The same, with the members; empty if it was written without.
    #[must_use]
    pub fn decode_with(meta: &[u8]) -> Option<(CheckpointMeta, Bytes)> {
        let (fields, members): (MetaFields, &[u8]) = match meta.first() {
            Some(&META_VERSION) => (postcard::from_bytes(meta).ok()?, &[]),
            Some(&META_VERSION_MEMBERS) => {
                let MemberFields { fields, members } = postcard::from_bytes(meta).ok()?;
                (fields, members)
            }
            _ => return None,
        };
        if fields.index.max(fields.term) > COUNT_MAX {
            return None;
        }
        let position = Position { index: fields.index, term: fields.term };
        let meta = CheckpointMeta { position, stamp_ms: fields.stamp_ms };
        Some((meta, Bytes::copy_from_slice(members)))
    }
}

/// What to do with a chunk that the parent has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkRead {
    /// Send it.
    Send,
    /// A newer checkpoint took the place of the one that was begun: read chunk 0.
    Restart,
    /// The checkpoint ends too early; a newer one must be made. Chunk 0 comes up again after a while.
    TooOld,
    /// Not asked for, or no longer.
    Ignored,
}

/// A snapshot on its way to a peer.
///
/// ```text
///  reading ── read ──▶ unanswered ── answer: another chunk ──▶ reading ...
///     ▲                    │
///     └──── waited long ───┘
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Meta and index; known once chunk 0 was read.
    begun: Option<(Bytes, u64)>,
    /// The chunk that is being read or is unanswered.
    chunk: u32,
    /// Since when it is unanswered, or could not be had; `None` while the parent reads it.
    waiting_since_ns: Option<u64>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing::new()
    }
}

impl Outgoing {
    /// The parent is asked for chunk 0.
    #[must_use]
    pub fn new() -> Outgoing {
        Outgoing { begun: None, chunk: 0, waiting_since_ns: None }
    }

    /// Whether a chunk was sent.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Index of the snapshot that is being sent.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.begun.as_ref().map(|(_, index)| *index)
    }

    /// The parent has read a chunk. Only a checkpoint of at least `needed_index` is sent.
    pub fn read(&mut self, chunk: &SnapshotChunk, needed_index: u64, now_ns: u64) -> ChunkRead {
        if self.waiting_since_ns.is_some() || chunk.chunk != self.chunk {
            return ChunkRead::Ignored;
        }
        if self.begun.as_ref().is_some_and(|(meta, _)| *meta != chunk.meta) {
            *self = Outgoing::new();
            return ChunkRead::Restart;
        }
        let meta = CheckpointMeta::decode(&chunk.meta).expect("the parent gives back our own meta");
        if meta.position.index < needed_index {
            self.failed(now_ns);
            return ChunkRead::TooOld;
        }
        self.begun = Some((chunk.meta.clone(), meta.position.index));
        self.waiting_since_ns = Some(now_ns);
        self.assert_invariants();
        ChunkRead::Send
    }

    /// The parent has no such chunk (any more). Chunk 0 comes up again after a while.
    pub fn failed(&mut self, now_ns: u64) {
        *self = Outgoing { waiting_since_ns: Some(now_ns), ..Outgoing::new() };
    }

    /// The peer wants this chunk of the snapshot with this index next. Returns the chunk to read, if that is news.
    ///
    /// It may be an earlier one than was sent: a peer that was started anew, and to which the network then brought copies of the first
    /// chunks, is in the middle. A late answer that looks the same costs one chunk sent twice.
    pub fn wanted(&mut self, index: u64, chunk: u32) -> Option<u32> {
        if self.index() != Some(index) || self.waiting_since_ns.is_none() || chunk == self.chunk && chunk > 0
        {
            return None;
        }
        if chunk == 0 {
            *self = Outgoing::new();
        }
        self.chunk = chunk;
        self.waiting_since_ns = None;
        self.assert_invariants();
        Some(chunk)
    }

    /// The chunk to read again, if it was unanswered for longer than `resend_ns`.
    pub fn overdue(&mut self, now_ns: u64, resend_ns: u64) -> Option<u32> {
        let since_ns = self.waiting_since_ns?;
        if now_ns.saturating_sub(since_ns) <= resend_ns {
            return None;
        }
        self.waiting_since_ns = None;
        self.assert_invariants();
        Some(self.chunk)
    }

    fn assert_invariants(&self) {
        assert!(self.chunk == 0 || self.begun.is_some(), "only a snapshot that was begun has a middle");
        if let Some((meta, index)) = &self.begun {
            assert!(!meta.is_empty(), "a begun snapshot has a name");
            assert!(*index <= COUNT_MAX, "a begun snapshot ends at an index that we wrote");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(index: u64) -> Bytes {
        CheckpointMeta { position: Position { index, term: 2 }, stamp_ms: 7 }.encode()
    }

    fn chunk(index: u64, chunk: u32) -> SnapshotChunk {
        SnapshotChunk { meta: meta(index), chunk, bytes: Bytes::new(), last: false }
    }

    #[test]
    fn metas_survive_and_other_bytes_do_not() {
        let position = Position { index: 9, term: 2 };
        assert_eq!(CheckpointMeta::decode(&meta(9)), Some(CheckpointMeta { position, stamp_ms: 7 }));
        let huge = MetaFields { version: META_VERSION, index: COUNT_MAX + 1, term: 2, stamp_ms: 7 };
        assert_eq!(CheckpointMeta::decode(&postcard::to_allocvec(&huge).expect("a vector takes any")), None);
        let with = CheckpointMeta { position, stamp_ms: 7 }.encode_with(b"who");
        let known = Some((CheckpointMeta { position, stamp_ms: 7 }, Bytes::from_static(b"who")));
        assert_eq!(CheckpointMeta::decode_with(&with), known);
        assert_eq!(CheckpointMeta::decode_with(&meta(9)).map(|(_, members)| members), Some(Bytes::new()));
        for bytes in
            [&b""[..], b"\x02\x09\x02\x07", b"\x03\x09\x02\x07", b"\x01\x09", &with[..with.len() - 1]]
        {
            assert_eq!(CheckpointMeta::decode(bytes), None);
        }
    }

    #[test]
    fn chunks_follow_each_other_and_are_sent_again() {
        let mut outgoing = Outgoing::new();
        assert_eq!(outgoing.read(&chunk(9, 1), 0, 5), ChunkRead::Ignored);
        assert_eq!(outgoing.read(&chunk(9, 0), 0, 5), ChunkRead::Send);
        assert_eq!(outgoing.read(&chunk(9, 0), 0, 5), ChunkRead::Ignored);
        assert_eq!((outgoing.overdue(15, 10), outgoing.overdue(16, 10)), (None, Some(0)));
        assert_eq!(outgoing.read(&chunk(9, 0), 0, 16), ChunkRead::Send);
        assert_eq!((outgoing.wanted(8, 1), outgoing.wanted(9, 1)), (None, Some(1)));
        assert_eq!(outgoing.wanted(9, 2), None);
        assert_eq!(outgoing.read(&chunk(9, 1), 0, 17), ChunkRead::Send);
        assert_eq!(outgoing.wanted(9, 1), None);
    }

    /// The sender is at chunk 3; the receiver, started anew, took late copies of chunks 0 and 1 (seed 3446648919 of scenario
    /// `leader-follower`: it asked for chunk 2 and was sent chunk 3, for ever).
    #[test]
    fn a_receiver_that_fell_back_is_served_from_there() {
        let mut outgoing = Outgoing::new();
        for at in 0..3 {
            assert_eq!(outgoing.read(&chunk(9, at), 0, 1), ChunkRead::Send);
            assert_eq!(outgoing.wanted(9, at + 1), Some(at + 1));
        }
        assert_eq!(outgoing.read(&chunk(9, 3), 0, 2), ChunkRead::Send);
        assert_eq!(outgoing.wanted(9, 2), Some(2));
        assert_eq!(outgoing.read(&chunk(9, 2), 0, 3), ChunkRead::Send);
        assert_eq!(outgoing.wanted(9, 0), Some(0));
        assert!(!outgoing.has_begun());
    }

    #[test]
    fn a_checkpoint_that_was_replaced_or_is_too_old_is_not_sent() {
        let mut outgoing = Outgoing::new();
        assert_eq!(outgoing.read(&chunk(9, 0), 10, 1), ChunkRead::TooOld);
        assert_eq!((outgoing.has_begun(), outgoing.overdue(5, 10)), (false, None));
        assert_eq!(outgoing.overdue(12, 10), Some(0));
        assert_eq!(outgoing.read(&chunk(11, 0), 10, 13), ChunkRead::Send);
        assert_eq!(outgoing.wanted(11, 1), Some(1));
        assert_eq!(outgoing.read(&chunk(20, 1), 10, 14), ChunkRead::Restart);
        assert_eq!(outgoing.read(&chunk(20, 0), 10, 15), ChunkRead::Send);
    }
}
