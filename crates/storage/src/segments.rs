//! Making segments ahead of their use, and recycling dropped ones.

use std::io;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::{Disk, File};
use crate::error::StorageError;
use crate::layout::{SECTOR_BYTES, SegmentHeader};
use crate::wal::Wal;

/// Zeros are written in pieces of this many bytes.
const ZEROS_BYTES: usize = 64 << 10;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// The one segment that is being made ahead.
#[derive(Debug)]
pub(crate) enum Preparation<D: Disk> {
    /// Nothing is there yet.
    None,
    /// A spare file, without a segment's name; `filled` bytes of it are known to be written.
    Filling { name: String, file: D::File, filled: u64 },
    /// The next segment, with header and name.
    Ready(Prepared<D::File>),
}

#[derive(Debug)]
pub(crate) struct Prepared<F> {
    pub(crate) file: F,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
}

pub(crate) fn segment_name(sequence: u64) -> String {
    format!("wal-{sequence:016x}.log")
}

/// The sequence in a segment's name.
pub(crate) fn segment_sequence(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    let lower_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits.len() != 16 || !lower_hex {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}.log")
}

pub(crate) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".log")
}

/// A salt that no other segment of this folder has: sequences never repeat.
pub(crate) fn salt_of(seed: u64, sequence: u64) -> u64 {
    xxh3_64_with_seed(&sequence.to_le_bytes(), seed)
}

/// Gives a spare file a segment's header and name, durably; in this order, so that a named segment always has its header.
pub(crate) fn promote<D: Disk>(
    disk: &D,
    spare: &str,
    file: D::File,
    sequence: u64,
    seed: u64,
) -> Result<Prepared<D::File>, StorageError> {
    let error = |operation, name: &str| {
        let name = disk.describe(name);
        move |e: io::Error| StorageError::io(operation, name, e)
    };
    let salt = salt_of(seed, sequence);
    file.write_at(0, &SegmentHeader { sequence, salt }.encode()).map_err(error("write to", spare))?;
    file.sync().map_err(error("sync", spare))?;
    disk.rename(spare, &segment_name(sequence)).map_err(error("rename", spare))?;
    disk.sync_directory().map_err(error("sync the folder of", &segment_name(sequence)))?;
    Ok(Prepared { file, sequence, salt })
}

/// Writes zeros from `from` to `to`, and syncs them: a few hundred KiB at a time, so that no sync of the log has to wait for
/// many megabytes of somebody else's pages.
pub(crate) fn fill(file: &impl File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let piece = (to - at).min(ZEROS_BYTES as u64);
        file.write_at(at, &ZEROS[..usize::try_from(piece).expect("at most 64 KiB")])?;
        at += piece;
    }
    file.sync()
}

impl<D: Disk> Wal<D> {
    pub(crate) fn next_sequence(&self) -> u64 {
        self.current.sequence + 1
    }

    fn named_error(&self, operation: &'static str, name: &str, source: io::Error) -> StorageError {
        StorageError::io(operation, self.disk.describe(name), source)
    }

    /// One bounded step of preparation; returns whether nothing is left to do.
    pub(crate) fn prepare_some(&mut self, budget_bytes: u64) -> Result<bool, StorageError> {
        match &mut self.preparation {
            Preparation::Ready(_) => {
                let Some(oldest) = self.droppable() else { return Ok(true) };
                self.forget_oldest(oldest, None)?;
                Ok(self.droppable().is_none())
            }
            Preparation::None => {
                self.begin_spare()?;
                Ok(false)
            }
            Preparation::Filling { name, file, filled } => {
                let from = (*filled).max(SECTOR_BYTES as u64);
                let to = from.saturating_add(budget_bytes.max(1)).min(self.options.segment_bytes);
                if from < to {
                    let result = fill(file, from, to);
                    *filled = to;
                    let name = name.clone();
                    result.map_err(|e| self.named_error("fill", &name, e))?;
                    return Ok(false);
                }
                self.prepare_now()?;
                Ok(self.droppable().is_none())
            }
        }
    }

    /// Makes the next segment ready without filling it further: the writer is waiting for it.
    pub(crate) fn prepare_now(&mut self) -> Result<(), StorageError> {
        match core::mem::replace(&mut self.preparation, Preparation::None) {
            Preparation::None => self.begin_spare(),
            Preparation::Filling { name, file, .. } => {
                let ready = promote(&self.disk, &name, file, self.next_sequence(), self.options.seed)?;
                self.preparation = Preparation::Ready(ready);
                Ok(())
            }
            ready @ Preparation::Ready(_) => {
                self.preparation = ready;
                Ok(())
            }
        }
    }

    /// Takes a dropped segment's file, or a new one.
    fn begin_spare(&mut self) -> Result<(), StorageError> {
        let name = spare_name(self.next_sequence());
        if let Some(oldest) = self.droppable() {
            let file = self.forget_oldest(oldest, Some(&name))?;
            if let Some((file, filled)) = file {
                self.preparation = Preparation::Filling { name, file, filled };
                return Ok(());
            }
        }
        let file = self.disk.create(&name).map_err(|e| self.named_error("create", &name, e))?;
        file.reserve(self.options.segment_bytes)
            .map_err(|e| self.named_error("reserve room for", &name, e))?;
        self.preparation = Preparation::Filling { name, file, filled: 0 };
        Ok(())
    }

    /// Takes the oldest segment out of the log: under another name if that is wanted and the file has a segment's size,
    /// else for good. The folder is synced each time, because recovery expects segments without a gap.
    fn forget_oldest(
        &mut self,
        sequence: u64,
        keep_as: Option<&str>,
    ) -> Result<Option<(D::File, u64)>, StorageError> {
        let name = segment_name(sequence);
        assert!(sequence < self.current.sequence, "the current segment is never dropped");
        let mut kept = None;
        if let Some(spare) = keep_as {
            let file = self.disk.open(&name).map_err(|e| self.named_error("open", &name, e))?;
            let len = file.len().map_err(|e| self.named_error("read the length of", &name, e))?;
            if len <= self.options.segment_bytes {
                self.disk.rename(&name, spare).map_err(|e| self.named_error("rename", &name, e))?;
                kept = Some((file, len));
            }
        }
        if kept.is_none() {
            self.disk.remove(&name).map_err(|e| self.named_error("remove", &name, e))?;
        }
        self.disk.sync_directory().map_err(|e| self.named_error("sync the folder of", &name, e))?;
        let forgotten = self.segments.pop_front().expect("the oldest segment was found");
        assert_eq!(forgotten.sequence, sequence, "segments are dropped in order");
        Ok(kept)
    }
}
