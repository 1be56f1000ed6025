//! Reading the log back after a stop of any kind: replays what is valid, cuts a torn tail, and tells damage from it.
//!
//! The scan goes frame by frame until one is not what it should be. Let `e` be the record that is expected there. If any
//! frame header behind that place, in this segment or a later one, tells that a record at or after `e` was durable, then
//! bytes that were once confirmed are gone: damage. Otherwise nothing behind that place was ever confirmed: a torn tail, and
//! it is cut. What is then undecidable: damage to the last synced frame when no frame was written after it; that is why an
//! idle or closing log writes an empty frame ([`Wal::note_durable`]).
//!
//! Cutting erases every frame header behind the cut before anything new is written, so that no stale frame can ever follow
//! a new one; a crash in between leaves fewer stale headers, which change no decision, because each tells a durable record
//! before `e`. Stale bodies without their header are harmless: a new header binds its bodies by their checksums.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use keypact_protocol::{GroupId, Lsn, Plant, planted};

use crate::batch::Appender;
use crate::disk::{Disk, File, read_full};
use crate::error::{Damage, StorageError};
use crate::layout::{FORMAT_VERSION, SECTOR_BYTES, SegmentHeader, SegmentHeaderError};
use crate::scan::{End, Sighting, Tail, scan_segment, sight};
use crate::segments::{Preparation, Prepared, Spares, fill, promote, segment_name, segment_sequence};
use crate::small::{read_small, write_small};
use crate::wal::{Current, Segment, Start, Wal, WalOptions};

/// Says that the log was made once, so that a log whose files are all gone is not taken for a new one.
pub(crate) const MARKER: &str = "log.created";
const COPY_BYTES: usize = 1 << 20;

/// One record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub group: GroupId,
    /// Its number.
    pub lsn: Lsn,
    /// Head and payload. A slice of its frame's buffer of at most about 1 MiB, which it keeps alive.
    pub body: Bytes,
    /// How many of the body's last bytes are the payload; 0 if the body was not split.
    pub payload_bytes: usize,
    /// The payload's [`crate::checksum`], verified.
    pub payload_checksum: u64,
}

impl Record {
    /// The body without its payload.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.body.slice(..self.body.len() - self.payload_bytes)
    }

    /// The payload, of which the checksum was given at append.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.body.slice(self.body.len() - self.payload_bytes..)
    }
}

/// A log that was read back, ready for more.
#[derive(Debug)]
pub struct Recovered<D: Disk> {
    /// The log, for its own thread.
    pub wal: Wal<D>,
    /// What numbers the next records, for the node's thread.
    pub appender: Appender,
    /// What was found.
    pub report: RecoveryReport,
}

/// What recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// How many records were read.
    pub records: u64,
    /// The first of them; what comes next if there was none.
    pub first: Lsn,
    /// The last of them; all are durable now.
    pub last: Lsn,
    /// Bytes of a torn tail that were cut; none of it was ever confirmed.
    pub cut_bytes: u64,
    /// Whether the log was made just now.
    pub created: bool,
}

impl<D: Disk> Wal<D> {
    /// Reads the log of this folder, passing each record in order to `replay`; makes the log if the folder never had one.
    /// Trust the records only when this returns `Ok`. O(bytes of the log); a frame's memory is all it needs at a time.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if what was confirmed can't be read; then nothing on disk was changed.
    pub fn recover(
        disk: D,
        options: WalOptions,
        mut replay: impl FnMut(Record),
    ) -> Result<Recovered<D>, StorageError> {
        options.assert_sane();
        let names = disk.list().map_err(|e| StorageError::io("list", disk.describe(""), e))?;
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| segment_sequence(name)).collect();
        sequences.sort_unstable();
        let existed = read_small(&disk, MARKER)?.is_some();
        if sequences.is_empty() {
            if existed || options.had_log {
                let what = "the log was made, but all of its files are missing";
                return Err(StorageError::damaged(disk.describe("wal-*.log"), 0, what));
            }
            if options.durable_at_least > Lsn::ZERO {
                let what =
                    format!("records up to {} were confirmed, but there is no log", options.durable_at_least);
                return Err(StorageError::damaged(disk.describe("wal-*.log"), 0, what));
            }
            return create(disk, options, &names);
        }
        let mut recovery = Recovery { disk: &disk, options, report: RecoveryReport::default() };
        let found = recovery.read(&sequences, &mut replay)?;
        let report = recovery.report;
        let spares = adopt_spares(&disk, &names)?;
        if !existed {
            write_small(&disk, MARKER, &FORMAT_VERSION.to_le_bytes())?;
        }
        repair(disk, options, found, spares, report)
    }
}

fn adopt_spares<D: Disk>(disk: &D, names: &[String]) -> Result<Spares, StorageError> {
    let (spares, surplus) = Spares::adopt(names);
    for name in surplus {
        disk.remove(&name).map_err(|e| StorageError::io("remove", disk.describe(&name), e))?;
    }
    Ok(spares)
}

/// Makes a log of one zero-filled segment.
fn create<D: Disk>(disk: D, options: WalOptions, names: &[String]) -> Result<Recovered<D>, StorageError> {
    let mut spares = adopt_spares(&disk, names)?;
    let spare = spares.new_name();
    let error = |operation| {
        let name = disk.describe(&spare);
        move |e: io::Error| StorageError::io(operation, name, e)
    };
    let file = disk.create(&spare).map_err(error("create"))?;
    file.reserve(options.segment_bytes).map_err(error("reserve room for"))?;
    fill(&file, SECTOR_BYTES as u64, options.segment_bytes).map_err(error("fill"))?;
    let Prepared { file, sequence, salt } = promote(&disk, &spare, file, 1, options.seed)?;
    write_small(&disk, MARKER, &FORMAT_VERSION.to_le_bytes())?;
    let first = Lsn::ZERO.next();
    let wal = Wal::start(Start {
        disk,
        options,
        current: Current { file, sequence, salt, offset: SECTOR_BYTES as u64 },
        segments: VecDeque::from([Segment { sequence, last: Lsn::ZERO }]),
        preparation: Preparation::None,
        spares,
        last: Lsn::ZERO,
        claimed: Lsn::ZERO,
        kept_from: first,
    });
    let report = RecoveryReport { first, created: true, ..RecoveryReport::default() };
    Ok(Recovered { wal, appender: Appender::new(first, options.frame_bytes_max), report })
}

/// One segment's file, opened and its header read.
pub(crate) struct Opened<F> {
    pub(crate) file: F,
    pub(crate) header: SegmentHeader,
    pub(crate) name: String,
}

/// What the scan decided, before anything is changed.
struct Found<F> {
    /// The segment that gets the next frame.
    current: Opened<F>,
    tail: Tail,
    segments: VecDeque<Segment>,
    /// Segments after `current`, lowest first, and whether each has frames to be erased.
    later: Vec<(Opened<F>, bool)>,
    /// Behind the cut: end of the last frame header that was seen in `current`.
    stale_end: u64,
    claimed: Lsn,
    kept_from: Lsn,
    /// What comes next.
    expected: Lsn,
}

struct Recovery<'d, D: Disk> {
    disk: &'d D,
    options: WalOptions,
    report: RecoveryReport,
}

impl<D: Disk> Recovery<'_, D> {
    fn read(
        &mut self,
        sequences: &[u64],
        replay: &mut impl FnMut(Record),
    ) -> Result<Found<D::File>, StorageError> {
        self.refuse_gaps(sequences)?;
        let mut opened = Vec::with_capacity(sequences.len());
        for &sequence in sequences {
            opened.push(self.open(sequence)?);
        }
        // Of a log that was never dropped from, the first record is 1; otherwise the first frame says what it is.
        let mut tail = Tail::new((sequences[0] == 1).then_some(Lsn(1)));
        let mut segments = VecDeque::new();
        let mut later = opened.into_iter();
        let mut current = later.next().expect("there is a segment");
        loop {
            let end = self.scan(&current, &mut tail, replay)?;
            segments.push_back(Segment { sequence: current.header.sequence, last: tail.last() });
            if later.len() == 0 {
                return self.decide(current, end, tail, segments, Vec::new());
            }
            let next = &later.as_slice()[0];
            if !self.goes_on(next, tail.expected)? {
                return self.decide(current, end, tail, segments, later.collect());
            }
            current = later.next().expect("it was just looked at");
            tail.enter_segment();
        }
    }

    fn refuse_gaps(&self, sequences: &[u64]) -> Result<(), StorageError> {
        for pair in sequences.windows(2) {
            if pair[1] != pair[0] + 1 {
                let missing = segment_name(pair[0] + 1);
                return Err(StorageError::damaged(self.disk.describe(&missing), 0, "the file is missing"));
            }
        }
        Ok(())
    }

    fn open(&self, sequence: u64) -> Result<Opened<D::File>, StorageError> {
        let name = segment_name(sequence);
        let described = self.disk.describe(&name);
        let file = self.disk.open(&name).map_err(|e| StorageError::io("open", described.clone(), e))?;
        let mut sector = [0; SECTOR_BYTES];
        let read =
            read_full(&file, 0, &mut sector).map_err(|e| StorageError::io("read", described.clone(), e))?;
        match SegmentHeader::decode(&sector[..read]) {
            Ok(header) if header.sequence == sequence => Ok(Opened { file, header, name: described }),
            Ok(header) => {
                let what = format!("it is segment {:x} of the log, under another's name", header.sequence);
                Err(StorageError::damaged(described, 0, what))
            }
            Err(SegmentHeaderError::Damaged) => {
                Err(StorageError::damaged(described, 0, "the segment's header is not what was written"))
            }
            Err(SegmentHeaderError::Version(found)) => {
                Err(StorageError::Version { file: described, found, supported: FORMAT_VERSION })
            }
        }
    }

    fn scan(
        &mut self,
        segment: &Opened<D::File>,
        tail: &mut Tail,
        replay: &mut impl FnMut(Record),
    ) -> Result<End, StorageError> {
        let report = &mut self.report;
        scan_segment(segment, tail, &mut |record| {
            report.records += 1;
            replay(record);
        })
        .map_err(|e| StorageError::io("read", segment.name.clone(), e))
    }

    /// Whether the segment's first frame continues the log.
    fn goes_on(&self, next: &Opened<D::File>, expected: Option<Lsn>) -> Result<bool, StorageError> {
        let mut sector = [0; SECTOR_BYTES];
        let read = read_full(&next.file, SECTOR_BYTES as u64, &mut sector)
            .map_err(|e| StorageError::io("read", next.name.clone(), e))?;
        let header = crate::layout::FrameHeader::decode(&sector[..read], next.header.salt);
        Ok(header.is_some_and(|h| Some(h.first) == expected && h.offset == SECTOR_BYTES as u64))
    }

    fn sight(&self, segment: &Opened<D::File>, from: u64) -> Result<Sighting, StorageError> {
        sight(segment, from).map_err(|e| StorageError::io("read", segment.name.clone(), e))
    }

    /// The scan ended in `current`: a torn tail, or damage?
    fn decide(
        &mut self,
        current: Opened<D::File>,
        end: End,
        tail: Tail,
        segments: VecDeque<Segment>,
        later: Vec<Opened<D::File>>,
    ) -> Result<Found<D::File>, StorageError> {
        let behind = self.sight(&current, tail.offset)?;
        let mut known_durable = behind.durable.max(self.options.durable_at_least);
        let mut later_seen = Vec::with_capacity(later.len());
        for segment in later {
            let seen = self.sight(&segment, SECTOR_BYTES as u64)?;
            known_durable = known_durable.max(seen.durable);
            later_seen.push((segment, seen.end > 0));
        }
        // The oldest of several segments is kept only if a durable frame in it, or behind it, says so.
        let Some(expected) = tail.expected else {
            let what = "the oldest segment's first frame can't be read";
            return Err(StorageError::damaged(current.name, tail.offset, what));
        };
        if known_durable >= expected && !planted(Plant::DamageTakenForTornTail) {
            return Err(StorageError::Damaged(Box::new(Damage {
                file: current.name,
                offset: tail.offset,
                lost: Some((expected, known_durable)),
                what: end.to_string(),
            })));
        }
        let first = tail.first.unwrap_or(expected);
        if first > tail.kept_from.max(Lsn(1)) {
            let what = format!("files before it are missing: records from {} on are needed", tail.kept_from);
            return Err(StorageError::damaged(current.name, 0, what));
        }
        self.report.first = first;
        self.report.last = tail.last();
        self.report.cut_bytes = behind.end.saturating_sub(tail.offset);
        Ok(Found {
            current,
            segments,
            later: later_seen,
            stale_end: behind.end,
            claimed: tail.claimed,
            kept_from: tail.kept_from.max(Lsn(1)),
            expected,
            tail,
        })
    }
}

/// Makes what was found durable, erases what was cut, and starts the log.
fn repair<D: Disk>(
    disk: D,
    options: WalOptions,
    found: Found<D::File>,
    spares: Spares,
    report: RecoveryReport,
) -> Result<Recovered<D>, StorageError> {
    let Found { current, tail, segments, later, stale_end, claimed, kept_from, expected } = found;
    let failed = |operation, name: &str| {
        let name = name.to_owned();
        move |e: io::Error| StorageError::io(operation, name, e)
    };
    let next = erase_later(&disk, later)?;
    // Whatever a killed process left in the page cache is readable but perhaps not on disk, and after a failed sync the
    // system believes it is: so it is written once more.
    rewrite(&current.file, tail.unproven_from, tail.offset).map_err(failed("rewrite", &current.name))?;
    erase(&current.file, tail.offset, stale_end).map_err(failed("erase the torn end of", &current.name))?;
    current.file.sync().map_err(failed("sync", &current.name))?;
    disk.sync_directory().map_err(failed("sync the folder of", &current.name))?;
    let preparation = match next {
        Some(Opened { file, header, .. }) => {
            Preparation::Ready(Prepared { file, sequence: header.sequence, salt: header.salt })
        }
        None => Preparation::None,
    };
    let SegmentHeader { sequence, salt } = current.header;
    let mut wal = Wal::start(Start {
        disk,
        options,
        current: Current { file: current.file, sequence, salt, offset: tail.offset },
        segments,
        preparation,
        spares,
        last: tail.last(),
        claimed,
        kept_from,
    });
    assert_eq!(wal.written().next(), expected, "the log goes on where the scan ended");
    wal.note_durable()?;
    wal.sync()?;
    Ok(Recovered { appender: Appender::new(expected, options.frame_bytes_max), wal, report })
}

/// Removes the segments behind a cut, the last first so that there is never a gap; one without frames is kept as the next.
fn erase_later<D: Disk>(
    disk: &D,
    mut later: Vec<(Opened<D::File>, bool)>,
) -> Result<Option<Opened<D::File>>, StorageError> {
    while let Some((segment, has_frames)) = later.pop() {
        if later.is_empty() && !has_frames {
            return Ok(Some(segment));
        }
        let name = segment_name(segment.header.sequence);
        disk.remove(&name).map_err(|e| StorageError::io("remove", segment.name.clone(), e))?;
        disk.sync_directory().map_err(|e| StorageError::io("sync the folder of", segment.name, e))?;
    }
    Ok(None)
}

fn rewrite(file: &impl File, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = from;
    while at < to {
        let want = usize::try_from((to - at).min(COPY_BYTES as u64)).expect("at most 1 MiB");
        let read = read_full(file, at, &mut buffer[..want])?;
        // A file can end within the last frame's padding, which nobody needs.
        if read == 0 {
            break;
        }
        file.write_at(at, &buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

fn erase(file: &impl File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; COPY_BYTES];
    let mut at = from;
    while at < to {
        let piece = usize::try_from((to - at).min(COPY_BYTES as u64)).expect("at most 1 MiB");
        file.write_at(at, &zeros[..piece])?;
        at += piece as u64;
    }
    Ok(())
}
