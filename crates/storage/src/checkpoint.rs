//! Checkpoints: per group the newest state that is durable as a whole, in chunks that can be streamed to a peer.
//!
//! A checkpoint is written under a temporary name, synced, renamed, and the folder synced; only then is the one before removed.
//! Whoever still reads that one keeps reading it through its open file.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use keypact_protocol::GroupId;

use crate::checkpoint_layout::{
    CheckpointLayout, ChunkEntry, HEADER_BYTES, encode_end, encode_header, read_layout,
};
use crate::disk::{Disk, File, read_full};
use crate::error::StorageError;

/// Largest chunk of a checkpoint, bytes: what travels in one frame.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Largest meta data of a checkpoint, bytes.
pub const META_BYTES_MAX: usize = 1 << 20;
/// How many superseded checkpoints of a group are remembered for their readers.
const OLD_READERS_MAX: usize = 16;

pub(crate) fn checkpoint_name(group: GroupId, id: u64) -> String {
    format!("checkpoint-{:016x}-{id:016x}.snap", group.0)
}

fn parse_name(name: &str) -> Option<(GroupId, u64)> {
    let (group, id) = name.strip_prefix("checkpoint-")?.strip_suffix(".snap")?.split_once('-')?;
    if group.len() != 16 || id.len() != 16 {
        return None;
    }
    Some((GroupId(u64::from_str_radix(group, 16).ok()?), u64::from_str_radix(id, 16).ok()?))
}

fn is_leftover(name: &str) -> bool {
    name.starts_with("checkpoint-") && name.ends_with(".tmp")
}

/// The checkpoints of one node's folder.
#[derive(Debug)]
pub struct Checkpoints<D: Disk> {
    disk: D,
    groups: BTreeMap<GroupId, Group<D::File>>,
    next_id: u64,
}

#[derive(Debug)]
struct Group<F> {
    newest: CheckpointReader<F>,
    old: Vec<Weak<Inner<F>>>,
}

impl<D: Disk> Checkpoints<D> {
    /// Opens all groups' newest checkpoints, and removes leftovers of unfinished and superseded ones. Reads headers, meta data
    /// and chunk tables, not the chunks.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if a checkpoint is not what was written.
    pub fn open(disk: D) -> Result<Self, StorageError> {
        let names = disk.list().map_err(|e| StorageError::io("list", disk.describe(""), e))?;
        let mut newest: BTreeMap<GroupId, u64> = BTreeMap::new();
        let found: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        for &(group, id) in &found {
            let best = newest.entry(group).or_insert(id);
            *best = id.max(*best);
        }
        let next_id = newest.values().max().map_or(1, |id| id + 1);
        let mut checkpoints = Self { disk, groups: BTreeMap::new(), next_id };
        for (&group, &id) in &newest {
            let newest = checkpoints.open_one(group, id)?;
            checkpoints.groups.insert(group, Group { newest, old: Vec::new() });
        }
        // Only after the newest ones were found to be whole.
        let superseded = found.iter().filter(|(group, id)| newest[group] != *id);
        let superseded = superseded.map(|&(group, id)| checkpoint_name(group, id));
        for name in superseded.chain(names.iter().filter(|name| is_leftover(name)).cloned()) {
            checkpoints.remove(&name)?;
        }
        checkpoints.sync_directory()?;
        Ok(checkpoints)
    }

    fn open_one(&self, group: GroupId, id: u64) -> Result<CheckpointReader<D::File>, StorageError> {
        let name = checkpoint_name(group, id);
        let described = self.disk.describe(&name);
        let file = self.disk.open(&name).map_err(|e| StorageError::io("open", described.clone(), e))?;
        let layout = read_layout(&file, &described, group, id)?;
        Ok(CheckpointReader { inner: Arc::new(Inner { file, name: described, group, id, layout }) })
    }

    /// All groups that have a checkpoint, in order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// Opens the group's newest checkpoint; `None` if it has none. The reader stays good when a newer one comes.
    #[must_use]
    pub fn newest(&self, group: GroupId) -> Option<CheckpointReader<D::File>> {
        self.groups.get(&group).map(|g| g.newest.clone())
    }

    /// The meta data of the group's newest checkpoint; `None` if it has none.
    #[must_use]
    pub fn read_meta(&self, group: GroupId) -> Option<Bytes> {
        self.groups.get(&group).map(|g| g.newest.meta())
    }

    /// Reads one chunk of a checkpoint that is the newest, or that somebody still holds a reader of.
    ///
    /// # Errors
    /// [`StorageError::NoCheckpoint`], [`StorageError::BadChunk`], [`StorageError::Damaged`].
    pub fn read_chunk(&self, group: GroupId, id: u64, index: u32) -> Result<Bytes, StorageError> {
        let gone = StorageError::NoCheckpoint { group, id };
        let Some(found) = self.groups.get(&group) else { return Err(gone) };
        if found.newest.id() == id {
            return found.newest.chunk(index);
        }
        let old = found.old.iter().filter_map(Weak::upgrade).find(|inner| inner.id == id);
        old.map_or(Err(gone), |inner| CheckpointReader { inner }.chunk(index))
    }

    /// Begins a checkpoint of the group. Nothing of it can be seen before [`Checkpoints::finish`]. The writer needs this
    /// object no more until then, so it may live on another thread.
    pub fn begin(&mut self, group: GroupId, meta: &[u8]) -> Result<CheckpointWriter<D>, StorageError> {
        if meta.len() > META_BYTES_MAX {
            let what = format!("meta data of {} bytes, at most {META_BYTES_MAX} are allowed", meta.len());
            return Err(StorageError::BadChunk { group, what });
        }
        let id = self.next_id;
        self.next_id += 1;
        let temporary = format!("{}.tmp", checkpoint_name(group, id));
        let described = self.disk.describe(&temporary);
        let error = |operation| {
            let described = described.clone();
            move |e: io::Error| StorageError::io(operation, described, e)
        };
        let file = self.disk.create(&temporary).map_err(error("create"))?;
        let header = encode_header(group, id, meta);
        file.write_at(0, &header).map_err(error("write to"))?;
        Ok(CheckpointWriter {
            disk: self.disk.clone(),
            file: Some(file),
            temporary,
            group,
            id,
            meta: Bytes::copy_from_slice(meta),
            offset: header.len() as u64,
            chunks: Vec::new(),
            failed: false,
        })
    }

    /// Begins a checkpoint that arrives from a peer, chunk by chunk: the same as [`Checkpoints::begin`]; use
    /// [`CheckpointWriter::chunk_at`], which refuses a chunk that is not the next.
    pub fn begin_incoming(
        &mut self,
        group: GroupId,
        meta: &[u8],
    ) -> Result<CheckpointWriter<D>, StorageError> {
        self.begin(group, meta)
    }

    /// Makes the checkpoint durable and the group's newest, and removes the one before; returns its id. A checkpoint that was
    /// begun before the group's newest is dropped: the newest one's id is returned.
    pub fn finish(&mut self, mut writer: CheckpointWriter<D>) -> Result<u64, StorageError> {
        let group = writer.group;
        if let Some(newest) = self.groups.get(&group).map(|g| g.newest.id()).filter(|id| *id > writer.id) {
            return Ok(newest);
        }
        let (file, layout) = writer.end()?;
        let name = checkpoint_name(group, writer.id);
        let described = self.disk.describe(&name);
        let error = |operation| {
            let described = described.clone();
            move |e: io::Error| StorageError::io(operation, described, e)
        };
        self.disk.rename(&writer.temporary, &name).map_err(error("rename"))?;
        writer.temporary.clear();
        self.disk.sync_directory().map_err(error("sync the folder of"))?;
        let inner = Arc::new(Inner { file, name: described, group, id: writer.id, layout });
        self.replace(CheckpointReader { inner })?;
        Ok(writer.id)
    }

    fn replace(&mut self, newest: CheckpointReader<D::File>) -> Result<(), StorageError> {
        let (group, id) = (newest.group(), newest.id());
        let Some(found) = self.groups.get_mut(&group) else {
            self.groups.insert(group, Group { newest, old: Vec::new() });
            return Ok(());
        };
        let before = core::mem::replace(&mut found.newest, newest);
        assert!(before.id() < id, "a checkpoint is replaced by a newer one only");
        found.old.retain(|old| old.strong_count() > 0);
        if found.old.len() == OLD_READERS_MAX {
            found.old.remove(0);
        }
        found.old.push(Arc::downgrade(&before.inner));
        self.remove(&checkpoint_name(group, before.id()))?;
        self.sync_directory()
    }

    /// Removes the group's checkpoint, durably; nothing happens if it has none.
    pub fn forget(&mut self, group: GroupId) -> Result<(), StorageError> {
        let Some(found) = self.groups.remove(&group) else { return Ok(()) };
        self.remove(&checkpoint_name(group, found.newest.id()))?;
        self.sync_directory()
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.disk.remove(name).map_err(|e| StorageError::io("remove", self.disk.describe(name), e))
    }

    fn sync_directory(&self) -> Result<(), StorageError> {
        self.disk.sync_directory().map_err(|e| StorageError::io("sync the folder", self.disk.describe(""), e))
    }
}

/// A checkpoint that is being written. Dropped without [`Checkpoints::finish`], it is gone.
#[derive(Debug)]
pub struct CheckpointWriter<D: Disk> {
    disk: D,
    file: Option<D::File>,
    /// Empty once the file has its final name.
    temporary: String,
    group: GroupId,
    id: u64,
    meta: Bytes,
    offset: u64,
    chunks: Vec<ChunkEntry>,
    failed: bool,
}

impl<D: Disk> CheckpointWriter<D> {
    /// Adds a chunk of at most [`CHUNK_BYTES_MAX`] bytes; it will be read as a chunk again. After an error the writer is dead.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.len() > CHUNK_BYTES_MAX {
            let what = format!("a chunk of {} bytes, at most {CHUNK_BYTES_MAX} are allowed", bytes.len());
            return Err(StorageError::BadChunk { group: self.group, what });
        }
        if self.chunks.len() >= u32::MAX as usize {
            return Err(StorageError::BadChunk { group: self.group, what: "too many chunks".to_owned() });
        }
        let offset = self.offset;
        self.write("write to", offset, bytes)?;
        self.chunks.push(ChunkEntry::of(bytes, offset));
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Adds chunk `index` of a checkpoint that arrives from a peer.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`] if it is not the next; the writer lives on.
    pub fn chunk_at(&mut self, index: u32, bytes: &[u8]) -> Result<(), StorageError> {
        if index != self.chunk_count() {
            let what = format!("chunk {index} came where {} was expected", self.chunk_count());
            return Err(StorageError::BadChunk { group: self.group, what });
        }
        self.chunk(bytes)
    }

    /// How many chunks it has so far.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("chunk refuses more")
    }

    /// Whose.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The id that it will have.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    fn write(&mut self, operation: &'static str, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Failed);
        }
        let file = self.file.as_ref().expect("the file is taken at the end only");
        let result = file.write_at(offset, bytes);
        self.failed = result.is_err();
        result.map_err(|e| StorageError::io(operation, self.disk.describe(&self.temporary), e))
    }

    /// Writes table and end, and syncs.
    fn end(&mut self) -> Result<(D::File, CheckpointLayout), StorageError> {
        let offset = self.offset;
        let end = encode_end(self.group, self.id, &self.meta, &self.chunks, offset);
        self.write("write to", offset, &end)?;
        let file = self.file.take().expect("the file is taken at the end only");
        if let Err(e) = file.sync() {
            self.failed = true;
            return Err(StorageError::io("sync", self.disk.describe(&self.temporary), e));
        }
        Ok((file, CheckpointLayout { meta: self.meta.clone(), chunks: core::mem::take(&mut self.chunks) }))
    }
}

impl<D: Disk> Drop for CheckpointWriter<D> {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // If this fails, the next `Checkpoints::open` removes it.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}

/// A checkpoint that can be read, also after a newer one took its place. Clones share the open file.
#[derive(Debug)]
pub struct CheckpointReader<F> {
    inner: Arc<Inner<F>>,
}

impl<F> Clone for CheckpointReader<F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

#[derive(Debug)]
struct Inner<F> {
    file: F,
    name: String,
    group: GroupId,
    id: u64,
    layout: CheckpointLayout,
}

impl<F: File> CheckpointReader<F> {
    /// Whose.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    /// Which; a later one of the same folder has a higher id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// What was given at its beginning.
    #[must_use]
    pub fn meta(&self) -> Bytes {
        self.inner.layout.meta.clone()
    }

    /// How many chunks it has.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.inner.layout.chunks.len()).expect("the writer refuses more")
    }

    /// Bytes of all chunks together.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.inner.layout.chunks.iter().map(|c| u64::from(c.bytes)).sum()
    }

    /// Reads and verifies one chunk.
    ///
    /// # Errors
    /// [`StorageError::BadChunk`] if it has no such chunk, [`StorageError::Damaged`] if it is not what was written.
    pub fn chunk(&self, index: u32) -> Result<Bytes, StorageError> {
        let inner = &self.inner;
        let Some(entry) = inner.layout.chunks.get(index as usize) else {
            let what = format!("there is no chunk {index}, it has {}", inner.layout.chunks.len());
            return Err(StorageError::BadChunk { group: inner.group, what });
        };
        let mut bytes = vec![0; entry.bytes as usize];
        let read = read_full(&inner.file, entry.offset, &mut bytes)
            .map_err(|e| StorageError::io("read", inner.name.clone(), e))?;
        if read != bytes.len() || !entry.fits(&bytes) {
            let what = format!("chunk {index} is not what was written");
            return Err(StorageError::damaged(inner.name.clone(), entry.offset, what));
        }
        assert!(entry.offset >= HEADER_BYTES as u64, "chunks lie behind the header");
        Ok(Bytes::from(bytes))
    }

    /// All chunks in order, each verified.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Bytes, StorageError>> + '_ {
        (0..self.chunk_count()).map(|index| self.chunk(index))
    }
}
