//! Reading one segment: its valid frames in order, and the frame headers behind the point where they end.

use core::fmt;
use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use keypact_protocol::{Lsn, Plant, planted};

use crate::disk::{File, read_full};
use crate::layout::{
    FRAME_HEADER_BYTES, FrameHeader, RECORD_HEADER_BYTES, RecordHeader, SECTOR_BYTES, body_checksum,
    chain_checksum, checksum,
};
use crate::recover::{Opened, Record};

const WINDOW_BYTES: usize = 1 << 20;

/// How far the log is valid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    /// The first record of the log, or what comes first if it has none.
    pub(crate) first: Option<Lsn>,
    /// The record that comes next; unknown before the first frame of a log that was dropped from.
    pub(crate) expected: Option<Lsn>,
    /// Where the next frame should be, in the segment that is being read.
    pub(crate) offset: u64,
    /// The largest durable LSN that a valid frame told.
    pub(crate) claimed: Lsn,
    pub(crate) kept_from: Lsn,
    /// From here on, no later frame tells that the frames of this segment were durable.
    pub(crate) unproven_from: u64,
    unproven: VecDeque<(u64, Lsn)>,
}

impl Tail {
    pub(crate) fn new(expected: Option<Lsn>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// The last valid record.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.expected.map_or(0, |e| e.0 - 1))
    }

    pub(crate) fn enter_segment(&mut self) {
        self.offset = SECTOR_BYTES as u64;
        self.unproven.clear();
        self.unproven_from = self.offset;
    }

    fn accept(&mut self, header: &FrameHeader) {
        assert!(self.expected.is_none_or(|e| e == header.first), "frames follow each other");
        self.first.get_or_insert(header.first);
        self.expected = Some(header.last().next());
        self.claimed = self.claimed.max(header.durable);
        self.kept_from = self.kept_from.max(header.kept_from);
        // An empty frame is proven durable only by a claim of a record behind it.
        self.unproven.push_back((self.offset, header.last().max(header.first)));
        while self.unproven.front().is_some_and(|(_, proof)| *proof <= self.claimed) {
            self.unproven.pop_front();
        }
        self.offset += header.padded_bytes();
        self.unproven_from = self.unproven.front().map_or(self.offset, |(offset, _)| *offset);
    }
}

/// Why the scan of a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The file ends.
    File,
    /// No frame of this segment begins here.
    NoFrame,
    /// A frame begins here that is not the next one.
    Other { expected: Lsn, found: Lsn },
    /// A frame's records are not what was written.
    BadRecord { lsn: Lsn },
    /// The frame goes on behind the end of the file.
    Short,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::File => write!(f, "the file ends early"),
            End::NoFrame => write!(f, "a frame's header is not what was written"),
            End::Other { expected, found } => {
                write!(f, "the frame begins with record {found}, not with {expected}")
            }
            End::BadRecord { lsn } => write!(f, "record {lsn} is not what was written"),
            End::Short => write!(f, "the frame goes on behind the end of the file"),
        }
    }
}

/// A piece of a file in memory.
struct Window<'f, F> {
    file: &'f F,
    start: u64,
    bytes: Vec<u8>,
}

impl<'f, F: File> Window<'f, F> {
    fn new(file: &'f F) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `offset`, fewer only at the end of the file.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside = offset >= self.start && offset + len as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            self.start = offset;
            self.bytes.resize(len.max(WINDOW_BYTES), 0);
            let read = read_full(self.file, offset, &mut self.bytes)?;
            self.bytes.truncate(read);
        }
        let from = usize::try_from(offset - self.start).expect("inside the window");
        Ok(&self.bytes[from..(from + len).min(self.bytes.len())])
    }
}

/// Passes the segment's valid frames' records on, in order, and moves `tail` behind them.
pub(crate) fn scan_segment<F: File>(
    segment: &Opened<F>,
    tail: &mut Tail,
    replay: &mut impl FnMut(Record),
) -> io::Result<End> {
    let salt = segment.header.salt;
    let file_bytes = segment.file.len()?;
    let mut window = Window::new(&segment.file);
    tail.enter_segment();
    loop {
        let head = window.at(tail.offset, FRAME_HEADER_BYTES)?;
        if head.is_empty() {
            return Ok(End::File);
        }
        let Some(header) = FrameHeader::decode(head, salt).filter(|h| h.offset == tail.offset) else {
            return Ok(End::NoFrame);
        };
        if let Some(expected) = tail.expected.filter(|e| *e != header.first) {
            return Ok(End::Other { expected, found: header.first });
        }
        if tail.offset + u64::from(header.bytes) > file_bytes {
            return Ok(End::Short);
        }
        let frame = Bytes::copy_from_slice(window.at(tail.offset, header.bytes as usize)?);
        let bad = bad_record(&frame, &header, salt);
        if let Some(lsn) = bad.filter(|_| !planted(Plant::TornTailAccepted)) {
            return Ok(End::BadRecord { lsn });
        }
        pass_on(&frame, &header, replay);
        tail.accept(&header);
    }
}

/// The frame's first record that is not what was written.
fn bad_record(frame: &[u8], header: &FrameHeader, salt: u64) -> Option<Lsn> {
    let mut at = FRAME_HEADER_BYTES;
    let mut records_checksum = 0;
    for index in 0..u64::from(header.count) {
        let lsn = Lsn(header.first.0 + index);
        let record = RecordHeader::decode(&frame[at..], salt).filter(|r| r.lsn == lsn);
        let Some(record) = record else { return Some(lsn) };
        records_checksum = chain_checksum(records_checksum, &frame[at..]);
        let body = at + RECORD_HEADER_BYTES;
        let end = body + record.body_bytes as usize;
        if end > frame.len() {
            return Some(lsn);
        }
        let (head, payload) = frame[body..end].split_at((record.body_bytes - record.payload_bytes) as usize);
        if body_checksum(head, checksum(payload)) != record.body_checksum {
            return Some(lsn);
        }
        at = end;
    }
    (at != frame.len() || records_checksum != header.records_checksum).then_some(header.first)
}

/// Hands on the records of a frame that was verified (or, with a bug planted, was not).
fn pass_on(frame: &Bytes, header: &FrameHeader, replay: &mut impl FnMut(Record)) {
    let mut at = FRAME_HEADER_BYTES;
    let mut lsn = header.first;
    while let Some(record) = RecordHeader::decode_unchecked(&frame[at..]).filter(|r| r.lsn == lsn) {
        let body = at + RECORD_HEADER_BYTES;
        let end = body + record.body_bytes as usize;
        if end > frame.len() {
            return;
        }
        let body = frame.slice(body..end);
        let payload_bytes = record.payload_bytes as usize;
        let payload_checksum = checksum(&body[body.len() - payload_bytes..]);
        replay(Record { group: record.group, lsn: record.lsn, body, payload_bytes, payload_checksum });
        at = end;
        lsn = lsn.next();
    }
}

/// Frame headers behind a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sighting {
    /// The largest durable LSN that they tell.
    pub(crate) durable: Lsn,
    /// End of the sector of the last one; 0 if there is none.
    pub(crate) end: u64,
}

/// Looks at every sector from `from` on for a frame header of this segment. O(bytes of the segment).
pub(crate) fn sight<F: File>(segment: &Opened<F>, from: u64) -> io::Result<Sighting> {
    let mut sighting = Sighting::default();
    let mut buffer = vec![0; WINDOW_BYTES];
    let mut start = from;
    loop {
        let read = read_full(&segment.file, start, &mut buffer)?;
        for (index, sector) in buffer[..read].chunks(SECTOR_BYTES).enumerate() {
            if let Some(header) = FrameHeader::decode(sector, segment.header.salt) {
                sighting.durable = sighting.durable.max(header.durable);
                sighting.end = start + ((index + 1) * SECTOR_BYTES) as u64;
            }
        }
        if read < buffer.len() {
            return Ok(sighting);
        }
        start += read as u64;
    }
}
