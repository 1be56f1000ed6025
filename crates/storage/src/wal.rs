//! The write-ahead log: one per node, for all groups.
//!
//! [`Wal::write`] and [`Wal::sync`] are separate, so that a simulator can put a crash between them. Invariants:
//!
//! - A segment gets its first frame only when the one before it is durable, so a gap before a segment with frames is damage.
//! - A segment has its final name only when its header is durable, so a bad header is damage.
//! - A segment is recycled only when a durable frame says that its records are no longer needed, and in order.

use std::collections::VecDeque;
use std::io;

use keypact_protocol::Lsn;

use crate::batch::{Batch, seal_frame};
use crate::disk::{Disk, File};
use crate::error::StorageError;
use crate::layout::{FRAME_HEADER_BYTES, FrameHeader, SECTOR_BYTES};
use crate::segments::{Preparation, Prepared, Spares, segment_name};

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Length of a segment, bytes, a multiple of [`SECTOR_BYTES`], at least 4,096. A frame longer than that gets a longer segment.
    pub segment_bytes: u64,
    /// A frame takes no more records than this many bytes; one frame is written per sync. At least [`SECTOR_BYTES`].
    pub frame_bytes_max: usize,
    /// From this and a segment's sequence comes its salt. Any number; best another one for each folder.
    pub seed: u64,
    /// Whatever the caller knows to have been durable from elsewhere; a log that ends before is damaged. Usually [`Lsn::ZERO`].
    pub durable_at_least: Lsn,
    /// Whether the folder had its log in an earlier life: then none is made, and a folder without one is damaged. Usually what
    /// [`crate::Folder::expect_log`] says.
    pub had_log: bool,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            frame_bytes_max: 1 << 20,
            seed: 0,
            durable_at_least: Lsn::ZERO,
            had_log: false,
        }
    }
}

impl WalOptions {
    pub(crate) fn assert_sane(&self) {
        assert!(self.segment_bytes >= 4096, "a segment holds at least eight sectors");
        assert_eq!(self.segment_bytes % SECTOR_BYTES as u64, 0, "segments are whole sectors");
        assert!(self.frame_bytes_max >= SECTOR_BYTES, "a frame holds at least a sector");
    }
}

/// A segment that has frames, or is the one that gets the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    /// Its last record; of an empty segment, the last one before it.
    pub(crate) last: Lsn,
}

/// Where frames are written.
#[derive(Debug)]
pub(crate) struct Current<F> {
    pub(crate) file: F,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    /// Where the next frame goes.
    pub(crate) offset: u64,
}

/// A place in the log: a segment's sequence, and bytes from its start.
pub(crate) type Place = (u64, u64);

/// The log as its own thread writes it. After an error every later call returns [`StorageError::Failed`].
#[derive(Debug)]
pub struct Wal<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: WalOptions,
    pub(crate) current: Current<D::File>,
    /// Oldest first; the last one is `current`.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) preparation: Preparation<D>,
    pub(crate) spares: Spares,
    pub(crate) written: Lsn,
    pub(crate) durable: Lsn,
    /// The largest durable LSN that a durable frame tells.
    pub(crate) claimed: Lsn,
    /// The largest durable LSN that a written frame tells.
    claimed_written: Lsn,
    kept_from: Lsn,
    /// What durable frames say of `kept_from`.
    kept_durable: Lsn,
    kept_written: Lsn,
    /// Whether `current` has bytes that are not synced.
    dirty: bool,
    durable_end: Place,
    provable_end: Place,
    failed: bool,
}

/// What recovery hands to a new [`Wal`].
pub(crate) struct Start<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: WalOptions,
    pub(crate) current: Current<D::File>,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) preparation: Preparation<D>,
    pub(crate) spares: Spares,
    pub(crate) last: Lsn,
    pub(crate) claimed: Lsn,
    pub(crate) kept_from: Lsn,
}

impl<D: Disk> Wal<D> {
    pub(crate) fn start(start: Start<D>) -> Self {
        let place = (start.current.sequence, start.current.offset);
        assert!(start.claimed <= start.last, "records that were claimed durable were recovered");
        Self {
            disk: start.disk,
            options: start.options,
            current: start.current,
            segments: start.segments,
            preparation: start.preparation,
            spares: start.spares,
            written: start.last,
            durable: start.last,
            claimed: start.claimed,
            claimed_written: start.claimed,
            kept_from: start.kept_from,
            kept_durable: start.kept_from,
            kept_written: start.kept_from,
            dirty: false,
            durable_end: place,
            provable_end: place,
            failed: false,
        }
    }

    /// Writes the batch's next frame, of at most [`WalOptions::frame_bytes_max`] bytes unless one record is larger; returns
    /// the last record written so far. Call [`Wal::sync`] after each, and again until [`Batch::is_written`]. Nothing that
    /// was written is durable before the sync.
    ///
    /// May have to sync and switch to the next segment first.
    ///
    /// # Panics
    /// If the batch does not begin where the last one ended.
    pub fn write(&mut self, batch: &mut Batch) -> Result<Lsn, StorageError> {
        self.check_alive()?;
        let Some((frame, bytes)) = batch.frame_to_write() else { return Ok(self.written) };
        assert_eq!(frame.first, self.written.next(), "batches are written in the order they were gathered");
        self.alive_unless_error(|wal| {
            wal.make_room(bytes.len() as u64)?;
            wal.write_frame(bytes, frame.bytes.len(), frame.count)
        })?;
        batch.frame_written();
        Ok(self.written)
    }

    /// Makes everything written durable; returns the last durable record.
    pub fn sync(&mut self) -> Result<Lsn, StorageError> {
        self.check_alive()?;
        if self.dirty {
            self.alive_unless_error(Self::sync_current)?;
        }
        Ok(self.durable)
    }

    /// Writes, when the log is idle, an empty frame that tells which records are durable, if the log does not say so yet.
    /// Without it nobody can tell damage of the last synced frame from a torn tail. It needs no sync of its own: losing it
    /// loses nothing. Returns whether one was written.
    pub fn note_durable(&mut self) -> Result<bool, StorageError> {
        self.check_alive()?;
        if self.claimed_written >= self.durable && self.kept_written >= self.kept_from {
            return Ok(false);
        }
        if self.written > self.durable {
            return Ok(false);
        }
        self.alive_unless_error(|wal| {
            wal.make_room(SECTOR_BYTES as u64)?;
            let mut bytes = [0; SECTOR_BYTES];
            wal.write_frame(&mut bytes, FRAME_HEADER_BYTES, 0)
        })?;
        Ok(true)
    }

    /// Ends the log cleanly: everything is durable, and the log says so.
    pub fn close(mut self) -> Result<Lsn, StorageError> {
        self.sync()?;
        self.note_durable()?;
        self.sync()
    }

    /// Tells that records before `lsn` are no longer needed. Whole segments of such records are recycled by
    /// [`Wal::prepare_ahead`], once a later frame that says so is durable.
    pub fn drop_before(&mut self, lsn: Lsn) {
        self.kept_from = self.kept_from.max(lsn.min(self.written.next()));
    }

    /// Does up to about `budget_bytes` of writing ahead: the next segment is filled with zeros (so that a sync has no
    /// metadata to write), given its header and its name; dropped segments' files are recycled for that. To be called by the log's
    /// thread after each batch and when idle, with a budget of about 256 KiB. Returns whether nothing is left to do.
    pub fn prepare_ahead(&mut self, budget_bytes: u64) -> Result<bool, StorageError> {
        self.check_alive()?;
        self.alive_unless_error(|wal| wal.prepare_some(budget_bytes))
    }

    /// The last record written.
    #[must_use]
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// The last record known durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// How many segments hold records, the current one included; the prepared one is not counted.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// How many bytes of segments hold records, about. O(1).
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        let whole = self.segments.len().saturating_sub(1) as u64;
        whole * self.options.segment_bytes + self.current.offset
    }

    /// Name of a segment's file, and how many of its bytes lie before the point up to which damage is told from a torn tail
    /// for certain, because a later durable frame says that they were durable. All earlier segments are before that point.
    /// For whoever injects faults.
    #[must_use]
    pub fn provable_end(&self) -> (String, u64) {
        (segment_name(self.provable_end.0), self.provable_end.1)
    }

    fn check_alive(&self) -> Result<(), StorageError> {
        if self.failed { Err(StorageError::Failed) } else { Ok(()) }
    }

    /// Runs one step; an error of it is the end of this log.
    fn alive_unless_error<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        assert!(!self.failed, "a failed log writes nothing");
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn write_frame(&mut self, bytes: &mut [u8], unpadded: usize, count: u32) -> Result<(), StorageError> {
        assert_eq!(bytes.len() % SECTOR_BYTES, 0, "frames are whole sectors");
        assert_eq!(self.current.offset % SECTOR_BYTES as u64, 0, "frames start at a sector");
        let header = FrameHeader {
            bytes: u32::try_from(unpadded).expect("a frame is shorter than 4 GiB"),
            count,
            first: self.written.next(),
            durable: self.durable,
            kept_from: self.kept_from,
            records_checksum: 0,
            offset: self.current.offset,
        };
        seal_frame(bytes, header, self.current.salt);
        self.current
            .file
            .write_at(self.current.offset, bytes)
            .map_err(|e| self.current_error("write to", e))?;
        self.dirty = true;
        self.current.offset += bytes.len() as u64;
        self.written = header.last();
        self.claimed_written = header.durable;
        self.kept_written = header.kept_from;
        self.segments.back_mut().expect("there is always a current segment").last = self.written;
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), StorageError> {
        self.current.file.sync().map_err(|e| self.current_error("sync", e))?;
        self.dirty = false;
        assert!(self.durable <= self.written, "what is durable was written");
        self.durable = self.written;
        self.claimed = self.claimed_written;
        self.kept_durable = self.kept_written;
        // Each frame of this sync was written after the one before, and tells so.
        self.provable_end = self.durable_end;
        self.durable_end = (self.current.sequence, self.current.offset);
        Ok(())
    }

    /// Switches to the next segment if `bytes` more don't fit. A frame longer than a segment goes to an empty one, which grows.
    fn make_room(&mut self, bytes: u64) -> Result<(), StorageError> {
        let empty = self.current.offset == SECTOR_BYTES as u64;
        if empty || self.current.offset + bytes <= self.options.segment_bytes {
            return Ok(());
        }
        if self.dirty {
            self.sync_current()?;
        }
        while !matches!(self.preparation, Preparation::Ready(_)) {
            self.prepare_now()?;
        }
        let Preparation::Ready(next) = core::mem::replace(&mut self.preparation, Preparation::None) else {
            unreachable!("the loop above ends with a prepared segment")
        };
        self.enter(next);
        Ok(())
    }

    fn enter(&mut self, next: Prepared<D::File>) {
        assert_eq!(next.sequence, self.current.sequence + 1, "segments follow each other");
        assert_eq!(self.durable, self.written, "the segment before is durable");
        self.segments.push_back(Segment { sequence: next.sequence, last: self.written });
        self.current = Current {
            file: next.file,
            sequence: next.sequence,
            salt: next.salt,
            offset: SECTOR_BYTES as u64,
        };
    }

    /// The oldest segment, if a durable frame says that it is no longer needed.
    pub(crate) fn droppable(&self) -> Option<u64> {
        let oldest = self.segments.front().expect("there is always a current segment");
        let dropped = oldest.sequence != self.current.sequence && oldest.last < self.kept_durable;
        dropped.then_some(oldest.sequence)
    }

    fn current_error(&self, operation: &'static str, source: io::Error) -> StorageError {
        StorageError::io(operation, self.disk.describe(&segment_name(self.current.sequence)), source)
    }
}
