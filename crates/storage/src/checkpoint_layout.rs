//! A checkpoint's bytes. See the crate's documentation for the tables.

use bytes::Bytes;
use keypact_protocol::GroupId;

use crate::checkpoint::{CHUNK_BYTES_MAX, META_BYTES_MAX};
use crate::disk::{File, read_full};
use crate::error::StorageError;
use crate::layout::{FORMAT_VERSION, checksum, put_u32, put_u64, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"KEYPACTC";
const END_MAGIC: [u8; 8] = *b"KEYPACTE";
/// Length of the header before the meta data, bytes.
pub(crate) const HEADER_BYTES: usize = 64;
const END_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

/// Where one chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    checksum: u64,
}

impl ChunkEntry {
    pub(crate) fn of(bytes: &[u8], offset: u64) -> Self {
        let length = u32::try_from(bytes.len()).expect("at most 256 KiB");
        Self { offset, bytes: length, checksum: checksum(bytes) }
    }

    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        *self == Self::of(bytes, self.offset)
    }
}

/// What is known of a checkpoint without its chunks.
#[derive(Debug)]
pub(crate) struct CheckpointLayout {
    pub(crate) meta: Bytes,
    pub(crate) chunks: Vec<ChunkEntry>,
}

/// Header and meta data.
pub(crate) fn encode_header(group: GroupId, id: u64, meta: &[u8]) -> Vec<u8> {
    assert!(meta.len() <= META_BYTES_MAX, "meta data over the limit");
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put_u32(&mut bytes, 8, FORMAT_VERSION);
    put_u32(&mut bytes, 12, u32::try_from(meta.len()).expect("at most 1 MiB"));
    put_u64(&mut bytes, 16, group.0);
    put_u64(&mut bytes, 24, id);
    put_u64(&mut bytes, 32, checksum(meta));
    let sum = checksum(&bytes[..56]);
    put_u64(&mut bytes, 56, sum);
    bytes.extend_from_slice(meta);
    bytes
}

/// Chunk table and end; `offset` is where the table will be.
pub(crate) fn encode_end(
    group: GroupId,
    id: u64,
    meta: &[u8],
    chunks: &[ChunkEntry],
    offset: u64,
) -> Vec<u8> {
    let table_bytes = chunks.len() * ENTRY_BYTES;
    let mut bytes = vec![0; table_bytes + END_BYTES];
    for (index, chunk) in chunks.iter().enumerate() {
        let at = index * ENTRY_BYTES;
        put_u64(&mut bytes, at, chunk.offset);
        put_u32(&mut bytes, at + 8, chunk.bytes);
        put_u64(&mut bytes, at + 16, chunk.checksum);
    }
    let table_checksum = checksum(&bytes[..table_bytes]);
    let end = &mut bytes[table_bytes..];
    end[..8].copy_from_slice(&END_MAGIC);
    put_u64(end, 8, offset);
    put_u64(end, 16, chunks.len() as u64);
    put_u64(end, 24, table_checksum);
    put_u64(end, 32, group.0);
    put_u64(end, 40, id);
    put_u64(end, 48, checksum(meta));
    let sum = checksum(&end[..56]);
    put_u64(end, 56, sum);
    bytes
}

struct Source<'f, F> {
    file: &'f F,
    name: &'f str,
}

impl<F: File> Source<'_, F> {
    fn damaged(&self, offset: u64, what: &str) -> StorageError {
        StorageError::damaged(self.name, offset, what)
    }

    fn read(&self, offset: u64, len: usize, what: &str) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; len];
        let read =
            read_full(self.file, offset, &mut bytes).map_err(|e| StorageError::io("read", self.name, e))?;
        if read == len { Ok(bytes) } else { Err(self.damaged(offset, what)) }
    }
}

/// Reads and verifies everything but the chunks.
pub(crate) fn read_layout(
    file: &impl File,
    name: &str,
    group: GroupId,
    id: u64,
) -> Result<CheckpointLayout, StorageError> {
    let source = Source { file, name };
    let bad_header = "the checkpoint's header is not what was written";
    let header = source.read(0, HEADER_BYTES, bad_header)?;
    if header[..8] != MAGIC || u64_at(&header, 56) != checksum(&header[..56]) {
        return Err(source.damaged(0, bad_header));
    }
    if u32_at(&header, 8) != FORMAT_VERSION {
        let (found, supported) = (u32_at(&header, 8), FORMAT_VERSION);
        return Err(StorageError::Version { file: name.to_owned(), found, supported });
    }
    if (u64_at(&header, 16), u64_at(&header, 24)) != (group.0, id) {
        return Err(source.damaged(0, "it is another group's or another checkpoint under this name"));
    }
    let bad_meta = "the checkpoint's meta data is not what was written";
    let meta_bytes = u32_at(&header, 12) as usize;
    if meta_bytes > META_BYTES_MAX {
        return Err(source.damaged(0, bad_header));
    }
    let meta = source.read(HEADER_BYTES as u64, meta_bytes, bad_meta)?;
    if checksum(&meta) != u64_at(&header, 32) {
        return Err(source.damaged(HEADER_BYTES as u64, bad_meta));
    }
    let chunks = read_table(&source, &header, (HEADER_BYTES + meta_bytes) as u64)?;
    Ok(CheckpointLayout { meta: Bytes::from(meta), chunks })
}

fn read_table<F: File>(
    source: &Source<'_, F>,
    header: &[u8],
    first_chunk: u64,
) -> Result<Vec<ChunkEntry>, StorageError> {
    let bad = "the checkpoint's end is not what was written";
    let file_bytes = source.file.len().map_err(|e| StorageError::io("read the length of", source.name, e))?;
    let Some(end_at) = file_bytes.checked_sub(END_BYTES as u64).filter(|at| *at >= first_chunk) else {
        return Err(source.damaged(file_bytes, bad));
    };
    let end = source.read(end_at, END_BYTES, bad)?;
    let same = end[32..48] == header[16..32] && end[48..56] == header[32..40];
    if end[..8] != END_MAGIC || u64_at(&end, 56) != checksum(&end[..56]) || !same {
        return Err(source.damaged(end_at, bad));
    }
    let (table_at, count) = (u64_at(&end, 8), u64_at(&end, 16));
    let table_bytes = end_at.checked_sub(table_at).filter(|_| table_at >= first_chunk);
    let Some(table_bytes) = table_bytes.filter(|bytes| count.checked_mul(ENTRY_BYTES as u64) == Some(*bytes))
    else {
        return Err(source.damaged(end_at, bad));
    };
    let table = source.read(table_at, usize::try_from(table_bytes).expect("64-bit sizes"), bad)?;
    if checksum(&table) != u64_at(&end, 24) {
        return Err(source.damaged(table_at, "the checkpoint's chunk table is not what was written"));
    }
    let mut next = first_chunk;
    let mut chunks = Vec::with_capacity(table.len() / ENTRY_BYTES);
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let chunk =
            ChunkEntry { offset: u64_at(entry, 0), bytes: u32_at(entry, 8), checksum: u64_at(entry, 16) };
        if chunk.offset != next || chunk.bytes as usize > CHUNK_BYTES_MAX {
            return Err(source.damaged(table_at, "the checkpoint's chunk table does not fit its chunks"));
        }
        next += u64::from(chunk.bytes);
        chunks.push(chunk);
    }
    if next != table_at {
        return Err(source.damaged(table_at, "the checkpoint's chunk table does not fit its chunks"));
    }
    Ok(chunks)
}
