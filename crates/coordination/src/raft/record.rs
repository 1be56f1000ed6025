//! What a member writes to its node's log.
//!
//! ```text
//! kind 0  entry        the entry's own bytes
//!      1  hard state   term u64, voted 0 or 1 u8, for whom u64
//!      2  reset        index u64, term u64, stamp u64
//! ```
//! All numbers are little-endian.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Position};
use keypact_protocol::{DecodeError, NodeId, Wire};

const ENTRY: u8 = 0;
const HARD_STATE: u8 = 1;
const RESET: u8 = 2;

/// What a member must not forget besides its log (figure 2 of the paper: "persistent state").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The newest term that it knows.
    pub term: u64,
    /// For whom it voted in that term.
    pub voted_for: Option<NodeId>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An entry at its index; whatever stood there and behind is void.
    Entry(Entry),
    /// The new term and vote.
    HardState(HardState),
    /// The whole log is void: a snapshot took its place, durable before this record was written.
    Reset {
        /// The snapshot's last entry.
        position: Position,
        /// Its stamp, Unix milliseconds.
        stamp_ms: u64,
    },
}

/// What an entry's record has before the part of which the checksum is known: the kind, the entry's length and its checksum.
const ENTRY_HEAD_BYTES: usize = 13;

impl Record {
    /// The record's bytes, as [`Wire::encode`] writes them, in two parts, and the checksum that is known of the second (XXH3, 64 bits, no
    /// seed). `None` for records without entries. O(1).
    #[must_use]
    pub fn hashed(&self) -> Option<([u8; ENTRY_HEAD_BYTES], &[u8], u64)> {
        let Record::Entry(entry) = self else { return None };
        let (before, payload, checksum) = entry.hashed();
        let mut head = [ENTRY; ENTRY_HEAD_BYTES];
        head[1..].copy_from_slice(before);
        Some((head, payload, checksum))
    }
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Entry(entry) => {
                out.push(ENTRY);
                out.extend_from_slice(entry.bytes());
            }
            Record::HardState(hard) => {
                out.push(HARD_STATE);
                out.extend_from_slice(&hard.term.to_le_bytes());
                out.push(u8::from(hard.voted_for.is_some()));
                out.extend_from_slice(&hard.voted_for.unwrap_or_default().0.to_le_bytes());
            }
            Record::Reset { position, stamp_ms } => {
                out.push(RESET);
                out.extend_from_slice(&position.index.to_le_bytes());
                out.extend_from_slice(&position.term.to_le_bytes());
                out.extend_from_slice(&stamp_ms.to_le_bytes());
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a Raft record"));
        }
        let kind = bytes.split_to(1)[0];
        match kind {
            ENTRY => {
                let entry = Entry::take(&mut bytes)?;
                if bytes.is_empty() {
                    Ok(Record::Entry(entry))
                } else {
                    Err(DecodeError::new("the end of an entry record"))
                }
            }
            HARD_STATE => hard_state(&bytes),
            RESET => {
                let body: &[u8; 24] =
                    bytes.as_ref().try_into().map_err(|_| DecodeError::new("a reset record"))?;
                let position = Position { index: u64_at(body, 0), term: u64_at(body, 8) };
                Ok(Record::Reset { position, stamp_ms: u64_at(body, 16) })
            }
            _ => Err(DecodeError::new("a Raft record's kind")),
        }
    }
}

fn hard_state(bytes: &[u8]) -> Result<Record, DecodeError> {
    let body: &[u8; 17] = bytes.try_into().map_err(|_| DecodeError::new("a hard state record"))?;
    let voter = u64_at(body, 9);
    let voted_for = match (body[8], voter) {
        (0, 0) => None,
        (1, _) => Some(NodeId(voter)),
        _ => return Err(DecodeError::new("a hard state's vote")),
    };
    Ok(Record::HardState(HardState { term: u64_at(body, 0), voted_for }))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
