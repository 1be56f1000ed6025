//! One log entry, and its bytes.
//!
//! ```text
//! offset  0  length   u32   of all that follows this field, bytes
//!         4  checksum u64   XXH3-64 of all that follows this field
//!        12  term     u64   or epoch
//!        20  index    u64
//!        28  stamp    u64   Unix milliseconds
//!        36  seed     u64
//!        44  kind     u8
//!        45  command        length - 41 bytes
//! ```
//! All numbers are little-endian.

use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Draft, HEADROOM_BYTES};
use xxhash_rust::xxh3::xxh3_64;

const CHECKSUM_AT: usize = 4;
const TERM_AT: usize = 12;
const INDEX_AT: usize = 20;
const STAMP_AT: usize = 28;
const SEED_AT: usize = 36;
const KIND_AT: usize = 44;

/// What an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A command of the parent.
    Command = 0,
    /// Nothing: a new leader's first entry, which lets it commit what came before.
    Noop = 1,
    /// The group's membership from here on.
    Membership = 2,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, DecodeError> {
        match byte {
            0 => Ok(Kind::Command),
            1 => Ok(Kind::Noop),
            2 => Ok(Kind::Membership),
            _ => Err(DecodeError::new("entry kind")),
        }
    }
}

/// What stands in front of an entry's command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryHeader {
    /// Term (Raft) or epoch (leader-follower, chain) in which it was made.
    pub term: u64,
    /// Its place in the group's log, counted from 1.
    pub index: u64,
    /// Unix milliseconds, never smaller than the entry before.
    pub stamp_ms: u64,
    /// For commands that choose at random.
    pub seed: u64,
    /// What it is for.
    pub kind: Kind,
}

/// One entry: its header, decoded, and all its bytes, shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    header: EntryHeader,
    bytes: Bytes,
}

impl Entry {
    /// Makes an entry of a draft: fills the room in front of the command. O(command length), for the checksum.
    #[must_use]
    pub fn seal(draft: Draft, header: EntryHeader) -> Entry {
        let bytes = draft.seal(|all| {
            let length = u32::try_from(all.len() - 4).expect("commands are bounded far below 4 GiB");
            all[..4].copy_from_slice(&length.to_le_bytes());
            all[TERM_AT..INDEX_AT].copy_from_slice(&header.term.to_le_bytes());
            all[INDEX_AT..STAMP_AT].copy_from_slice(&header.index.to_le_bytes());
            all[STAMP_AT..SEED_AT].copy_from_slice(&header.stamp_ms.to_le_bytes());
            all[SEED_AT..KIND_AT].copy_from_slice(&header.seed.to_le_bytes());
            all[KIND_AT] = header.kind as u8;
            let checksum = xxh3_64(&all[TERM_AT..]);
            all[CHECKSUM_AT..TERM_AT].copy_from_slice(&checksum.to_le_bytes());
        });
        Entry { header, bytes }
    }

    /// Takes the first entry off `bytes` and verifies its checksum. O(its length).
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, damaged or of an unknown kind; `bytes` is then unchanged.
    pub fn take(bytes: &mut Bytes) -> Result<Entry, DecodeError> {
        if bytes.len() < HEADROOM_BYTES {
            return Err(DecodeError::new("a whole entry header"));
        }
        let length = u32_at(bytes, 0) as usize;
        if length < HEADROOM_BYTES - 4 || bytes.len() - 4 < length {
            return Err(DecodeError::new("a whole entry"));
        }
        if xxh3_64(&bytes[TERM_AT..4 + length]) != u64_at(bytes, CHECKSUM_AT) {
            return Err(DecodeError::new("an entry with a right checksum"));
        }
        let header = EntryHeader {
            term: u64_at(bytes, TERM_AT),
            index: u64_at(bytes, INDEX_AT),
            stamp_ms: u64_at(bytes, STAMP_AT),
            seed: u64_at(bytes, SEED_AT),
            kind: Kind::from_byte(bytes[KIND_AT])?,
        };
        Ok(Entry { header, bytes: bytes.split_to(4 + length) })
    }

    /// Its header.
    #[must_use]
    #[inline]
    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// Its term.
    #[must_use]
    #[inline]
    pub fn term(&self) -> u64 {
        self.header.term
    }

    /// Its index.
    #[must_use]
    #[inline]
    pub fn index(&self) -> u64 {
        self.header.index
    }

    /// All its bytes, as they stand on the wire and in the log.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All its bytes in two parts, and the checksum that is known of the second (XXH3, 64 bits, no seed): whoever stores or sends the entry
    /// with a checksum of that kind need not hash it again. O(1).
    #[must_use]
    #[inline]
    pub fn hashed(&self) -> (&[u8], &[u8], u64) {
        let (head, payload) = self.bytes.split_at(TERM_AT);
        (head, payload, u64_at(head, CHECKSUM_AT))
    }

    /// The command, sharing the entry's bytes.
    #[must_use]
    #[inline]
    pub fn command(&self) -> Bytes {
        self.bytes.slice(HEADROOM_BYTES..)
    }

    /// Length in bytes, header and all.
    #[must_use]
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.header.kind {
            Kind::Command => "",
            Kind::Noop => " noop",
            Kind::Membership => " membership",
        };
        write!(f, "{}@{}{}", self.header.index, self.header.term, what)?;
        if self.header.kind == Kind::Command {
            write!(f, " {:?}", self.bytes.slice(HEADROOM_BYTES..))?;
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
