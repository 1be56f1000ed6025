//! From the chunks of a snapshot to a partition.

use core::fmt;

use bytes::{Buf, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::Store;
use super::slot::Slot;
use super::snapshot::{
    CHECKSUM_BYTES, CHUNK_HEADER_BYTES, END, ENTRY_HEADER_BYTES, MAGIC, MAX_CHUNK_BYTES, META_BYTES, STRING,
    SnapshotMeta,
};
use crate::partition::{Limits, Partition};

/// Type byte and hash.
const END_BYTES: usize = 9;

/// Why chunks are no snapshot. Nothing of them is used then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// A chunk is shorter than its header or longer than any may be.
    ChunkLength,
    /// A chunk's checksum is wrong.
    Checksum,
    /// Not a chunk of a snapshot, or of another version.
    Version,
    /// A chunk is missing or comes twice.
    Sequence,
    /// More chunks after the last one.
    AfterEnd,
    /// The last chunk has not come, or the stream ends within an entry.
    Incomplete,
    /// The head says what can't be.
    Head,
    /// An entry has an unknown type, is over the limits, or comes twice.
    Entry,
    /// Not as many entries as the head says, or not the contents that the end says.
    Contents,
    /// An earlier chunk was refused.
    Failed,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadError::ChunkLength => "snapshot chunk has a wrong length",
            LoadError::Checksum => "snapshot chunk has a wrong checksum",
            LoadError::Version => "not a snapshot chunk of this version",
            LoadError::Sequence => "snapshot chunk out of order",
            LoadError::AfterEnd => "snapshot chunk after the last one",
            LoadError::Incomplete => "snapshot ends too early",
            LoadError::Head => "snapshot has a wrong head",
            LoadError::Entry => "snapshot has a wrong entry",
            LoadError::Contents => "snapshot has other contents than it says",
            LoadError::Failed => "snapshot was refused before",
        })
    }
}

impl core::error::Error for LoadError {}

enum State {
    Head,
    Entries { meta: SnapshotMeta, store: Store, expected: u64, hash_sum: u64 },
    Ended { meta: SnapshotMeta, store: Store },
    Failed,
}

/// Takes the chunks of one snapshot in order. Holds the partition so far and at most one entry's bytes.
pub struct Loader {
    state: State,
    sequence: u32,
    /// The part of the stream that is not yet understood.
    rest: BytesMut,
    last_seen: bool,
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new()
    }
}

impl Loader {
    /// Before the first chunk.
    pub fn new() -> Loader {
        Loader { state: State::Head, sequence: 0, rest: BytesMut::new(), last_seen: false }
    }

    /// What state the snapshot has, once its first chunk is in.
    pub fn meta(&self) -> Option<SnapshotMeta> {
        match &self.state {
            State::Entries { meta, .. } | State::Ended { meta, .. } => Some(*meta),
            State::Head | State::Failed => None,
        }
    }

    /// Takes the next chunk. O(its length), and of values that end in it.
    ///
    /// # Errors
    /// [`LoadError`]; the loader refuses all further chunks then.
    pub fn chunk(&mut self, chunk: Bytes) -> Result<(), LoadError> {
        let result = self.take(&chunk);
        if result.is_err() {
            self.state = State::Failed;
            self.rest = BytesMut::new();
        }
        result
    }

    /// The partition, after the last chunk.
    ///
    /// # Errors
    /// [`LoadError`] if chunks are missing or were refused.
    pub fn finish(self) -> Result<Partition, LoadError> {
        match self.state {
            State::Ended { meta, store } if self.last_seen && self.rest.is_empty() => {
                Ok(Partition::restored(store, meta.applied_index, meta.applied_stamp_ms))
            }
            State::Failed => Err(LoadError::Failed),
            _ => Err(LoadError::Incomplete),
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), LoadError> {
        if matches!(self.state, State::Failed) {
            return Err(LoadError::Failed);
        }
        if self.last_seen {
            return Err(LoadError::AfterEnd);
        }
        if chunk.len() < CHUNK_HEADER_BYTES || chunk.len() > MAX_CHUNK_BYTES {
            return Err(LoadError::ChunkLength);
        }
        let mut header = &chunk[..CHUNK_HEADER_BYTES];
        if header.get_u64_le() != xxh3_64(&chunk[CHECKSUM_BYTES..]) {
            return Err(LoadError::Checksum);
        }
        if header.get_u32_le() != MAGIC {
            return Err(LoadError::Version);
        }
        if header.get_u32_le() != self.sequence {
            return Err(LoadError::Sequence);
        }
        self.last_seen = header.get_u8() == 1;
        self.sequence = self.sequence.checked_add(1).ok_or(LoadError::Sequence)?;
        self.rest.extend_from_slice(&chunk[CHUNK_HEADER_BYTES..]);
        self.understand()?;
        match self.last_seen && !matches!(self.state, State::Ended { .. }) {
            true => Err(LoadError::Incomplete),
            false => Ok(()),
        }
    }

    /// Takes off `rest` all that is whole.
    fn understand(&mut self) -> Result<(), LoadError> {
        if let State::Head = self.state {
            if self.rest.len() < META_BYTES {
                return Ok(());
            }
            self.state = head(self.rest.split_to(META_BYTES).freeze())?;
        }
        while let State::Entries { meta, store, expected, hash_sum } = &mut self.state {
            match self.rest.first() {
                None => return Ok(()),
                Some(&STRING) => {
                    let Some(length) = entry_bytes(&self.rest, meta.limits)? else { return Ok(()) };
                    if self.rest.len() < length {
                        return Ok(());
                    }
                    if store.len() as u64 == *expected {
                        return Err(LoadError::Contents);
                    }
                    let hash = insert(store, &self.rest[..length])?;
                    *hash_sum = hash_sum.wrapping_add(hash);
                    self.rest.advance(length);
                }
                Some(&END) => {
                    if self.rest.len() < END_BYTES {
                        return Ok(());
                    }
                    let said = self.rest.split_to(END_BYTES).freeze().slice(1..).get_u64_le();
                    if said != *hash_sum || store.len() as u64 != *expected {
                        return Err(LoadError::Contents);
                    }
                    let State::Entries { meta, store, .. } =
                        core::mem::replace(&mut self.state, State::Failed)
                    else {
                        unreachable!("just matched")
                    };
                    self.state = State::Ended { meta, store };
                }
                Some(_) => return Err(LoadError::Entry),
            }
        }
        if self.rest.is_empty() { Ok(()) } else { Err(LoadError::AfterEnd) }
    }
}

fn head(mut bytes: Bytes) -> Result<State, LoadError> {
    let (applied_index, applied_stamp_ms) = (bytes.get_u64_le(), bytes.get_u64_le());
    let mut hash_key = [0; 16];
    bytes.copy_to_slice(&mut hash_key);
    let limits = Limits { max_value_bytes: bytes.get_u32_le() };
    if limits.max_value_bytes > Limits::MAX_VALUE_BYTES {
        return Err(LoadError::Head);
    }
    let meta = SnapshotMeta { applied_index, applied_stamp_ms, hash_key, limits };
    let expected = bytes.get_u64_le();
    Ok(State::Entries { meta, store: Store::new(hash_key, limits), expected, hash_sum: 0 })
}

/// Length of the entry at the start of `bytes`, header and all; `None` if not even the header is whole.
fn entry_bytes(bytes: &[u8], limits: Limits) -> Result<Option<usize>, LoadError> {
    let Some(mut header) = bytes.get(1..ENTRY_HEADER_BYTES) else { return Ok(None) };
    let (key_bytes, value_bytes) = (header.get_u32_le(), header.get_u32_le());
    if key_bytes > Limits::MAX_VALUE_BYTES || value_bytes > limits.max_value_bytes {
        return Err(LoadError::Entry);
    }
    Ok(Some(ENTRY_HEADER_BYTES + key_bytes as usize + value_bytes as usize))
}

/// Puts a whole entry in; its hash.
fn insert(store: &mut Store, entry: &[u8]) -> Result<u64, LoadError> {
    let (mut header, data) = entry[1..].split_at(ENTRY_HEADER_BYTES - 1);
    let key_bytes = header.get_u32_le() as usize;
    header.advance(4);
    let deadline = match header.get_u64_le() {
        0 => None,
        deadline => Some(deadline),
    };
    let (key, value) = data.split_at(key_bytes);
    let at = store.locate(key);
    let slot = Slot::new(at.tag, key, value, deadline);
    let hash = slot.content_hash();
    let before = store.len();
    store.put(at, slot);
    if store.len() == before { Err(LoadError::Entry) } else { Ok(hash) }
}
