//! What a member writes to its node's log.
//!
//! ```text
//! kind 0  entry   the entry's own bytes
//!      1  life    copy u64, start u64
//! ```
//! All numbers are little-endian. No epoch is written: a restarted member has no part in any epoch until the catalog names its new life.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::Entry;
use keypact_protocol::{DecodeError, Wire};

use super::Life;

const ENTRY: u8 = 0;
const LIFE: u8 = 1;

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An entry at its index; whatever stood there and behind is void.
    Entry(Entry),
    /// The life that begins; written anew when the log before is dropped.
    Life(Life),
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Entry(entry) => {
                out.push(ENTRY);
                out.extend_from_slice(entry.bytes());
            }
            Record::Life(life) => {
                assert!(life.copy > 0 && life.start > 0, "only a life that was begun is written");
                out.push(LIFE);
                out.extend_from_slice(&life.copy.to_le_bytes());
                out.extend_from_slice(&life.start.to_le_bytes());
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a chain record"));
        }
        match bytes.split_to(1)[0] {
            ENTRY => {
                let entry = Entry::take(&mut bytes)?;
                if !bytes.is_empty() {
                    return Err(DecodeError::new("the end of an entry record"));
                }
                Ok(Record::Entry(entry))
            }
            LIFE => {
                let body: &[u8; 16] =
                    bytes.as_ref().try_into().map_err(|_| DecodeError::new("a life record"))?;
                let life = Life { copy: u64_at(body, 0), start: u64_at(body, 8) };
                if life.copy == 0 || life.start == 0 {
                    return Err(DecodeError::new("a life that was begun"));
                }
                Ok(Record::Life(life))
            }
            _ => Err(DecodeError::new("a chain record's kind")),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    assert!(at + 8 <= bytes.len(), "records have the length that their kind has");
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
