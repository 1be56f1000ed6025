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

/// Dropped segments' files that wait for their next use, at most this many; more are removed.
const SPARES_MAX: usize = 2;

/// Files that a next segment can be made of, without a segment's name.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    names: Vec<String>,
    /// Numbers of spare files never repeat within one run, so that no rename replaces one.
    next_number: u64,
}

impl Spares {
    /// Adopts what an earlier run left; returns what is too many.
    pub(crate) fn adopt(names: &[String]) -> (Self, Vec<String>) {
        let mut found: Vec<String> = names.iter().filter(|n| spare_number(n).is_some()).cloned().collect();
        let surplus = found.split_off(found.len().min(SPARES_MAX));
        let highest = names.iter().filter_map(|name| spare_number(name)).max();
        let next_number = highest.map_or(1, |n| n.saturating_add(1));
        (Self { names: found, next_number }, surplus)
    }

    pub(crate) fn new_name(&mut self) -> String {
        let name = format!("spare-{:016x}.log", self.next_number);
        self.next_number += 1;
        name
    }
}

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

/// The number in a spare file's name.
fn spare_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("spare-")?.strip_suffix(".log")?;
    u64::from_str_radix(digits, 16).ok()
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
        if let Some(oldest) = self.droppable() {
            self.drop_oldest(oldest)?;
            return Ok(false);
        }
        match &mut self.preparation {
            Preparation::Ready(_) => Ok(true),
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
                Ok(true)
            }
        }
    }

    /// Goes one step towards a ready next segment, without filling it further: the writer is waiting for it.
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
        if let Some(name) = self.spares.names.pop() {
            let file = self.disk.open(&name).map_err(|e| self.named_error("open", &name, e))?;
            let filled = file.len().map_err(|e| self.named_error("read the length of", &name, e))?;
            self.preparation = Preparation::Filling { name, file, filled };
            return Ok(());
        }
        let name = self.spares.new_name();
        let file = self.disk.create(&name).map_err(|e| self.named_error("create", &name, e))?;
        file.reserve(self.options.segment_bytes)
            .map_err(|e| self.named_error("reserve room for", &name, e))?;
        self.preparation = Preparation::Filling { name, file, filled: 0 };
        Ok(())
    }

    /// Takes the oldest segment out of the log, to be used again if it has a segment's size and is not one too many. The folder
    /// is synced each time, because recovery expects segments without a gap.
    fn drop_oldest(&mut self, sequence: u64) -> Result<(), StorageError> {
        let name = segment_name(sequence);
        assert!(sequence < self.current.sequence, "the current segment is never dropped");
        let file = self.disk.open(&name).map_err(|e| self.named_error("open", &name, e))?;
        let len = file.len().map_err(|e| self.named_error("read the length of", &name, e))?;
        if len <= self.options.segment_bytes && self.spares.names.len() < SPARES_MAX {
            let spare = self.spares.new_name();
            self.disk.rename(&name, &spare).map_err(|e| self.named_error("rename", &name, e))?;
            self.spares.names.push(spare);
        } else {
            self.disk.remove(&name).map_err(|e| self.named_error("remove", &name, e))?;
        }
        self.disk.sync_directory().map_err(|e| self.named_error("sync the folder of", &name, e))?;
        let dropped = self.segments.pop_front().expect("the oldest segment was found");
        assert_eq!(dropped.sequence, sequence, "segments are dropped in order");
        Ok(())
    }
}
