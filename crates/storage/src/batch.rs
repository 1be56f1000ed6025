//! Gathering records on the node's own thread, without any input or output.

use core::ops::Range;

use keypact_protocol::{GroupId, Lsn};

use crate::layout::{
    FRAME_HEADER_BYTES, FrameHeader, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RecordHeader, SECTOR_BYTES,
    body_checksum, chain_checksum, checksum, padded,
};

/// Buffers up to this size are kept for reuse; larger ones, grown by a burst, are given back.
const KEPT_BUFFER_BYTES: usize = 4 << 20;
/// Empty batches kept for reuse.
const KEPT_BATCHES: usize = 4;

/// Records that were gathered, as the bytes that will be written: one or more frames, each written and synced on its own.
///
/// Headers are complete but for what only the log's thread knows: salt, place, and the LSN known durable.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    frames: Vec<Frame>,
    /// Frames before this one are written.
    next_frame: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Where in the buffer, header first, without the padding.
    pub(crate) bytes: Range<usize>,
    pub(crate) first: Lsn,
    pub(crate) count: u32,
}

impl Batch {
    /// Whether nothing remains to be written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.next_frame == self.frames.len()
    }

    /// Whether it holds no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many bytes it takes on disk, padding included.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The last record in it, if any.
    #[must_use]
    pub fn last_lsn(&self) -> Option<Lsn> {
        self.frames.last().map(|f| Lsn(f.first.0 + u64::from(f.count) - 1))
    }

    /// The next frame to be written, and its bytes with the padding.
    pub(crate) fn frame_to_write(&mut self) -> Option<(Frame, &mut [u8])> {
        let frame = self.frames.get(self.next_frame)?.clone();
        let end = frame.bytes.start + padded(frame.bytes.len());
        Some((frame.clone(), &mut self.buffer[frame.bytes.start..end]))
    }

    pub(crate) fn frame_written(&mut self) {
        assert!(self.next_frame < self.frames.len(), "a frame can't be written twice");
        self.next_frame += 1;
    }

    fn close_frame(&mut self) {
        let Some(frame) = self.frames.last() else { return };
        assert_eq!(frame.bytes.end, self.buffer.len(), "only the last frame grows");
        assert!(frame.count > 0, "an empty frame was gathered");
        self.buffer.resize(padded(self.buffer.len()), 0);
    }

    fn clear(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        self.frames.clear();
        self.next_frame = 0;
    }
}

/// Numbers records and gathers them into the next [`Batch`]. Lives on the node's thread; never touches the disk. It never
/// refuses a record: the node keeps [`Appender::len_bytes`] within its own limit by proposing no more.
#[derive(Debug)]
pub struct Appender {
    next: Lsn,
    frame_bytes_max: usize,
    batch: Batch,
    spare: Vec<Batch>,
}

impl Appender {
    /// Numbers from `next` on. A frame takes no more records once it has `frame_bytes_max` bytes; a single larger record
    /// gets a frame of its own. [`crate::Recovered::appender`] makes the one that fits a log.
    #[must_use]
    pub fn new(next: Lsn, frame_bytes_max: usize) -> Self {
        assert!(next > Lsn::ZERO, "the first record is 1");
        assert!(frame_bytes_max >= SECTOR_BYTES, "a frame holds at least a sector");
        Self { next, frame_bytes_max, batch: Batch::default(), spare: Vec::new() }
    }

    /// Appends a record whose body is `parts` one after the other. O(bytes): one copy and one hash.
    ///
    /// # Panics
    /// If the body is longer than [`RECORD_BYTES_MAX`]; whoever accepts values keeps them smaller.
    pub fn push(&mut self, group: GroupId, parts: &[&[u8]]) -> Lsn {
        self.push_with(group, |buffer| parts.iter().for_each(|part| buffer.extend_from_slice(part)))
    }

    /// Appends a record whose body `encode` writes to the end of the buffer that it is given; it must not touch what is
    /// there already. O(bytes): one hash.
    ///
    /// # Panics
    /// If the body is longer than [`RECORD_BYTES_MAX`], or `encode` shortened the buffer.
    pub fn push_with(&mut self, group: GroupId, encode: impl FnOnce(&mut Vec<u8>)) -> Lsn {
        let at = self.begin_record();
        encode(&mut self.batch.buffer);
        let body = at + RECORD_HEADER_BYTES;
        assert!(self.batch.buffer.len() >= body, "the encoder shortened the buffer");
        let sum = body_checksum(&self.batch.buffer[body..], checksum(&[]));
        self.end_record(at, group, 0, sum)
    }

    /// Appends a record whose body is `head` and then `payload`, of which the [`checksum`] is known already, so that an
    /// entry is hashed once on its way through node, log and wire. O(bytes): one copy, and a hash of the head.
    ///
    /// # Panics
    /// If the body is longer than [`RECORD_BYTES_MAX`]; in debug builds, if the checksum is not the payload's.
    pub fn push_with_checksum(
        &mut self,
        group: GroupId,
        head: &[u8],
        payload: &[u8],
        payload_checksum: u64,
    ) -> Lsn {
        debug_assert_eq!(
            payload_checksum,
            checksum(payload),
            "a wrong checksum would be taken for damage later"
        );
        let at = self.begin_record();
        self.batch.buffer.extend_from_slice(head);
        self.batch.buffer.extend_from_slice(payload);
        self.end_record(at, group, payload.len(), body_checksum(head, payload_checksum))
    }

    /// The number that the next record will have.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Whether nothing was gathered since the last [`Appender::take`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// How many bytes were gathered since the last [`Appender::take`].
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.batch.len_bytes()
    }

    /// Hands over what was gathered, and starts an empty batch, recycled if there is one. O(1).
    #[must_use]
    pub fn take(&mut self) -> Batch {
        self.batch.close_frame();
        core::mem::replace(&mut self.batch, self.spare.pop().unwrap_or_default())
    }

    /// Takes a written batch back, to reuse its memory.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        if self.spare.len() < KEPT_BATCHES {
            self.spare.push(batch);
        }
    }

    /// Makes room for a record's header, in a new frame if the last is full; returns where.
    fn begin_record(&mut self) -> usize {
        let full = self.batch.frames.last().is_none_or(|f| f.bytes.len() >= self.frame_bytes_max);
        if full {
            self.begin_frame();
        }
        let at = self.batch.buffer.len();
        self.batch.buffer.resize(at + RECORD_HEADER_BYTES, 0);
        at
    }

    fn begin_frame(&mut self) {
        self.batch.close_frame();
        let start = self.batch.buffer.len();
        assert_eq!(start % SECTOR_BYTES, 0, "frames start at a sector");
        self.batch.buffer.resize(start + FRAME_HEADER_BYTES, 0);
        self.batch.frames.push(Frame {
            bytes: start..start + FRAME_HEADER_BYTES,
            first: self.next,
            count: 0,
        });
    }

    fn end_record(&mut self, at: usize, group: GroupId, payload_bytes: usize, body_checksum: u64) -> Lsn {
        let lsn = self.next;
        let end = self.batch.buffer.len();
        let body_bytes = end - at - RECORD_HEADER_BYTES;
        assert!(body_bytes <= RECORD_BYTES_MAX, "a record of {body_bytes} bytes is over the limit");
        let header = RecordHeader {
            body_bytes: u32::try_from(body_bytes).expect("below the limit"),
            payload_bytes: u32::try_from(payload_bytes).expect("below the limit"),
            group,
            lsn,
            body_checksum,
        };
        header.encode(&mut self.batch.buffer[at..at + RECORD_HEADER_BYTES]);
        self.grow_frame(at, end);
        self.next = lsn.next();
        lsn
    }

    /// Counts the record in the last frame; or, if it made a frame that had others too long, moves it to one of its own.
    fn grow_frame(&mut self, at: usize, end: usize) {
        let max = self.frame_bytes_max;
        let frame = self.batch.frames.last_mut().expect("a record was begun in a frame");
        if frame.count > 0 && end - frame.bytes.start > max {
            let record = self.batch.buffer.split_off(at);
            self.begin_frame();
            self.batch.buffer.extend_from_slice(&record);
        }
        let end = self.batch.buffer.len();
        let frame = self.batch.frames.last_mut().expect("a record was begun in a frame");
        frame.bytes.end = end;
        frame.count += 1;
    }
}

/// Completes a gathered frame for its place in a segment.
pub(crate) fn seal_frame(bytes: &mut [u8], mut header: FrameHeader, salt: u64) {
    let mut at = FRAME_HEADER_BYTES;
    header.records_checksum = 0;
    for _ in 0..header.count {
        let record = &mut bytes[at..at + RECORD_HEADER_BYTES];
        at += RECORD_HEADER_BYTES + RecordHeader::seal(record, salt);
        header.records_checksum = chain_checksum(header.records_checksum, record);
    }
    assert_eq!(at, header.bytes as usize, "records fill their frame");
    header.encode(salt, &mut bytes[..FRAME_HEADER_BYTES]);
}
