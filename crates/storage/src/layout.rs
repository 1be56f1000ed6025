//! The log's bytes: segment, frame and record headers. See the crate's documentation for the tables.

use keypact_protocol::{GroupId, Lsn};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a disk writes as a whole or not at all, bytes. Frames start at multiples of it.
pub const SECTOR_BYTES: usize = 512;
/// Version of the log's and the folder's format.
pub const FORMAT_VERSION: u32 = 1;
/// Length of a frame's header, bytes.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;
/// Length of a record's header, bytes.
pub(crate) const RECORD_HEADER_BYTES: usize = 40;
/// Largest body of one record, bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"KEYPACTL";
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"kpF1");

/// The checksum that storage uses for bytes: XXH3, 64 bits, no seed. O(bytes).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The body's checksum, of its head and the checksum of its payload, so that a payload hashed before is not hashed again.
pub(crate) fn body_checksum(head: &[u8], payload_checksum: u64) -> u64 {
    xxh3_64_with_seed(head, payload_checksum)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(SECTOR_BYTES)
}

/// First sector of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
}

/// Why a segment's first sector can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentHeaderError {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut bytes, 8, FORMAT_VERSION);
        put_u64(&mut bytes, 16, self.sequence);
        put_u64(&mut bytes, 24, self.salt);
        let sum = xxh3_64(&bytes[..56]);
        put_u64(&mut bytes, 56, sum);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SegmentHeaderError> {
        // Magic and checksum stay where they are in every version, so that a flipped bit in the version is not taken for one.
        if bytes.len() < 64 || bytes[..8] != SEGMENT_MAGIC || u64_at(bytes, 56) != xxh3_64(&bytes[..56]) {
            return Err(SegmentHeaderError::Damaged);
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => Ok(Self { sequence: u64_at(bytes, 16), salt: u64_at(bytes, 24) }),
            other => Err(SegmentHeaderError::Version(other)),
        }
    }
}

/// Head of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameHeader {
    /// Header and records, without the padding.
    pub(crate) bytes: u32,
    pub(crate) count: u32,
    pub(crate) first: Lsn,
    /// Known durable when this frame was written; always before `first`.
    pub(crate) durable: Lsn,
    /// Records before this one are no longer needed.
    pub(crate) kept_from: Lsn,
    /// Of all record headers, and so of all bodies: a stale body never fits a new header.
    pub(crate) records_checksum: u64,
    /// Where in the segment this frame was meant to be.
    pub(crate) offset: u64,
}

impl FrameHeader {
    pub(crate) fn encode(self, salt: u64, into: &mut [u8]) {
        assert!(self.durable < self.first, "a frame can't claim its own records durable");
        into[..FRAME_HEADER_BYTES].fill(0);
        put_u32(into, 0, FRAME_MAGIC);
        put_u32(into, 4, self.bytes);
        put_u32(into, 8, self.count);
        put_u64(into, 16, self.first.0);
        put_u64(into, 24, self.durable.0);
        put_u64(into, 32, self.kept_from.0);
        put_u64(into, 40, self.records_checksum);
        put_u64(into, 48, self.offset);
        let sum = xxh3_64_with_seed(&into[..56], salt);
        put_u64(into, 56, sum);
    }

    /// The header at the start of `bytes`, if it was written under this salt.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        if bytes.len() < FRAME_HEADER_BYTES || u32_at(bytes, 0) != FRAME_MAGIC {
            return None;
        }
        if u64_at(bytes, 56) != xxh3_64_with_seed(&bytes[..56], salt) {
            return None;
        }
        let header = Self {
            bytes: u32_at(bytes, 4),
            count: u32_at(bytes, 8),
            first: Lsn(u64_at(bytes, 16)),
            durable: Lsn(u64_at(bytes, 24)),
            kept_from: Lsn(u64_at(bytes, 32)),
            records_checksum: u64_at(bytes, 40),
            offset: u64_at(bytes, 48),
        };
        let sane = header.bytes as usize >= FRAME_HEADER_BYTES
            && header.durable < header.first
            && header.first.0.checked_add(u64::from(header.count)).is_some();
        sane.then_some(header)
    }

    /// The last record of this frame; the one before `first` if the frame is empty.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count) - 1)
    }

    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(self.bytes as usize) as u64
    }
}

/// Adds one sealed record header to the checksum of those before it in its frame.
pub(crate) fn chain_checksum(before: u64, record_header: &[u8]) -> u64 {
    xxh3_64_with_seed(&record_header[..RECORD_HEADER_BYTES], before)
}

/// Head of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHeader {
    pub(crate) body_bytes: u32,
    /// How many of the body's last bytes are the payload.
    pub(crate) payload_bytes: u32,
    pub(crate) group: GroupId,
    pub(crate) lsn: Lsn,
    pub(crate) body_checksum: u64,
}

impl RecordHeader {
    /// Everything but the salted checksum, which the log's thread adds with [`RecordHeader::seal`].
    pub(crate) fn encode(self, into: &mut [u8]) {
        assert!(self.payload_bytes <= self.body_bytes);
        put_u32(into, 0, self.body_bytes);
        put_u32(into, 4, self.payload_bytes);
        put_u64(into, 8, self.group.0);
        put_u64(into, 16, self.lsn.0);
        put_u64(into, 24, self.body_checksum);
        put_u64(into, 32, 0);
    }

    /// Adds the salted checksum to an encoded header; returns the length of the body that follows.
    /// (The salt makes a record's header of another use of this file invalid.)
    pub(crate) fn seal(bytes: &mut [u8], salt: u64) -> usize {
        let sum = xxh3_64_with_seed(&bytes[..32], salt);
        put_u64(bytes, 32, sum);
        u32_at(bytes, 0) as usize
    }

    /// The header at the start of `bytes`, whatever its checksum says.
    pub(crate) fn decode_unchecked(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let header = Self {
            body_bytes: u32_at(bytes, 0),
            payload_bytes: u32_at(bytes, 4),
            group: GroupId(u64_at(bytes, 8)),
            lsn: Lsn(u64_at(bytes, 16)),
            body_checksum: u64_at(bytes, 24),
        };
        (header.payload_bytes <= header.body_bytes).then_some(header)
    }

    /// The header at the start of `bytes`, if it was written under this salt.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let header = Self::decode_unchecked(bytes)?;
        (u64_at(bytes, 32) == xxh3_64_with_seed(&bytes[..32], salt)).then_some(header)
    }
}
