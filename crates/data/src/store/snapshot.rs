//! Snapshots that don't stop the world.
//!
//! Buckets are encoded one after the other while writes go on; what these change is put aside first (`before`), so the
//! chunks together are the state at the beginning.
//!
//! ```text
//! chunk   0  checksum u64   XXH3-64 of all that follows
//!         8  magic    u32
//!        12  sequence u32   from 0
//!        16  last     u8    1 in the last chunk
//!        17  a piece of the stream
//! stream     applied index u64, applied stamp u64, hash key [u8; 16], max_value_bytes u32, entries u64
//!            each entry: 1 u8, key length u32, value length u32, deadline u64 (0: none), key, value
//!            0 u8, sum of the entries' hashes u64
//! ```
//! All numbers are little-endian. Pieces are cut anywhere, so chunks are short however long values are.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::before::Before;
use super::slot::Slot;
use super::{BUCKETS, Bucket, Location};
use crate::partition::Limits;

/// No chunk is longer, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// Shorter chunks are not asked for.
const MIN_CHUNK_BYTES: usize = 64;
/// "KPS" and the version.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"KPS\x01");
pub(super) const CHUNK_HEADER_BYTES: usize = 17;
pub(super) const CHECKSUM_BYTES: usize = 8;
pub(super) const META_BYTES: usize = 44;
pub(super) const ENTRY_HEADER_BYTES: usize = 17;
pub(super) const STRING: u8 = 1;
pub(super) const END: u8 = 0;
/// Longer values are not copied before their chunk is put together.
const MAX_INLINE_BYTES: usize = 1024;

/// What state a snapshot has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotMeta {
    /// The last entry in it.
    pub applied_index: u64,
    /// That entry's stamp, Unix milliseconds.
    pub applied_stamp_ms: u64,
    /// The partition's hash key.
    pub hash_key: [u8; 16],
    /// The partition's limits.
    pub limits: Limits,
}

pub(super) struct Snapshot {
    /// What is encoded, and what is not.
    before: Before,
    /// The buckets themselves, if the keyspace was flushed since; nothing is put aside any more then.
    taken_over: Option<Vec<Bucket>>,
    /// Entries when it began, and encoded so far.
    entries: usize,
    encoded: usize,
    hash_sum: u64,
    /// Encoded, not yet in a chunk.
    pieces: VecDeque<Bytes>,
    pieces_bytes: usize,
    piece: BytesMut,
    sequence: u32,
    ended: bool,
}

impl Snapshot {
    pub(super) fn new(meta: SnapshotMeta, entries: usize) -> Snapshot {
        let mut piece = BytesMut::with_capacity(META_BYTES);
        piece.put_u64_le(meta.applied_index);
        piece.put_u64_le(meta.applied_stamp_ms);
        piece.extend_from_slice(&meta.hash_key);
        piece.put_u32_le(meta.limits.max_value_bytes);
        piece.put_u64_le(entries as u64);
        assert!(piece.len() == META_BYTES, "the head has a fixed length");
        Snapshot {
            before: Before::now(),
            taken_over: None,
            entries,
            encoded: 0,
            hash_sum: 0,
            pieces: VecDeque::new(),
            pieces_bytes: 0,
            piece,
            sequence: 0,
            ended: false,
        }
    }

    /// Whether the last chunk is out.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.unsent_bytes() == 0
    }

    /// Keeps an entry that is being changed or removed, unless its key has been kept before.
    pub(super) fn preserve(&mut self, at: Location, slot: Slot) {
        if self.taken_over.is_none() {
            self.before.preserve(at, slot);
        }
    }

    /// Keeps in mind that a key was not there.
    pub(super) fn preserve_absence(&mut self, at: Location, key: Bytes) {
        if self.taken_over.is_none() {
            self.before.preserve_absence(at, key);
        }
    }

    /// Takes the flushed buckets that are not yet encoded; gives back the others.
    pub(super) fn take_over(&mut self, mut flushed: Vec<Bucket>) -> Vec<Bucket> {
        assert!(flushed.len() == BUCKETS, "all buckets are flushed at once");
        if self.taken_over.is_some() {
            return flushed;
        }
        let encoded = flushed[..self.before.next_bucket()].iter_mut().map(core::mem::take).collect();
        self.taken_over = Some(flushed);
        encoded
    }

    pub(super) fn into_buckets(self) -> Vec<Bucket> {
        self.taken_over.unwrap_or_default()
    }

    /// The next chunk; buckets that it took over and has encoded go to `discarded`.
    pub(super) fn next_chunk(
        &mut self,
        max_bytes: usize,
        live: &[Bucket],
        discarded: &mut Vec<Bucket>,
    ) -> Bytes {
        assert!(max_bytes >= MIN_CHUNK_BYTES, "a chunk has room for its header and some data");
        assert!(!self.is_finished(), "a finished snapshot is dropped");
        let room = max_bytes.min(MAX_CHUNK_BYTES) - CHUNK_HEADER_BYTES;
        while self.unsent_bytes() < room && !self.ended {
            self.encode_next(live, discarded);
        }
        let length = room.min(self.unsent_bytes());
        let last = self.ended && length == self.unsent_bytes();
        let mut chunk = BytesMut::with_capacity(CHUNK_HEADER_BYTES + length);
        chunk.put_u64_le(0);
        chunk.put_u32_le(MAGIC);
        chunk.put_u32_le(self.sequence);
        chunk.put_u8(u8::from(last));
        self.close_piece();
        while chunk.len() < CHUNK_HEADER_BYTES + length {
            let missing = CHUNK_HEADER_BYTES + length - chunk.len();
            let piece = self.pieces.front_mut().expect("unsent_bytes counts the pieces");
            let part = piece.split_to(piece.len().min(missing));
            self.pieces_bytes -= part.len();
            chunk.extend_from_slice(&part);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let checksum = xxh3_64(&chunk[CHECKSUM_BYTES..]);
        chunk[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.sequence = self.sequence.checked_add(1).expect("2^32 chunks are more than memory holds");
        chunk.freeze()
    }

    fn unsent_bytes(&self) -> usize {
        self.pieces_bytes + self.piece.len()
    }

    /// Encodes one bucket, or the end behind the last one.
    fn encode_next(&mut self, live: &[Bucket], discarded: &mut Vec<Bucket>) {
        let index = self.before.next_bucket();
        if index == BUCKETS {
            assert!(self.encoded == self.entries, "as many entries as there were at the beginning");
            self.piece.put_u8(END);
            self.piece.put_u64_le(self.hash_sum);
            self.ended = true;
            return;
        }
        let aside = self.before.read_next();
        let taken_over = self.taken_over.as_mut().map(|buckets| core::mem::take(&mut buckets[index]));
        for slot in aside.entries(taken_over.as_ref().unwrap_or(&live[index])) {
            self.encode(slot);
        }
        discarded.extend(taken_over.filter(|bucket| !bucket.is_empty()));
    }

    fn encode(&mut self, slot: &Slot) {
        let (key, value) = (slot.key(), slot.value_slice());
        self.piece.put_u8(STRING);
        self.piece.put_u32_le(u32::try_from(key.len()).expect("a key has less than 4 GiB"));
        self.piece.put_u32_le(u32::try_from(value.len()).expect("a value has at most 512 MiB"));
        self.piece.put_u64_le(slot.deadline().unwrap_or(0));
        self.piece.extend_from_slice(key);
        if value.len() <= MAX_INLINE_BYTES {
            self.piece.extend_from_slice(value);
        } else {
            self.close_piece();
            self.pieces_bytes += value.len();
            self.pieces.push_back(slot.value());
        }
        self.encoded += 1;
        self.hash_sum = self.hash_sum.wrapping_add(slot.content_hash());
    }

    fn close_piece(&mut self) {
        if !self.piece.is_empty() {
            let piece = self.piece.split().freeze();
            self.pieces_bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}
