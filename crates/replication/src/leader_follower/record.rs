//! What a member writes to its node's log.
//!
//! ```text
//! kind 0  entry        the entry's own bytes
//!      1  hard state   epoch u64, led 0 or 1 u8
//!      2  reset        index u64, epoch u64
//! ```
//! All numbers are little-endian.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Position};
use keypact_protocol::{DecodeError, Wire};

const ENTRY: u8 = 0;
const HARD_STATE: u8 = 1;
const RESET: u8 = 2;

/// What a member must not forget besides its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The newest epoch that it knows; all older ones are sealed here.
    pub epoch: u64,
    /// Whether it leads that epoch, or led it in an earlier life.
    pub led: bool,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An entry at its index; whatever stood there and behind is void.
    Entry(Entry),
    /// The new epoch.
    HardState(HardState),
    /// If the checkpoint ends here, all entries written before this record are void: a snapshot takes their place. Written before the
    /// snapshot's last chunk is, because the entries may contradict it without showing it.
    Reset {
        /// The snapshot's last entry.
        position: Position,
    },
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Entry(entry) => {
                out.push(ENTRY);
                out.extend_from_slice(entry.bytes());
            }
            Record::HardState(hard) => {
                assert!(hard.epoch > 0, "epochs are counted from 1");
                out.push(HARD_STATE);
                out.extend_from_slice(&hard.epoch.to_le_bytes());
                out.push(u8::from(hard.led));
            }
            Record::Reset { position } => {
                assert!(position.index > 0, "an empty log needs no snapshot");
                out.push(RESET);
                out.extend_from_slice(&position.index.to_le_bytes());
                out.extend_from_slice(&position.term.to_le_bytes());
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a leader-follower record"));
        }
        match bytes.split_to(1)[0] {
            ENTRY => {
                let entry = Entry::take(&mut bytes)?;
                if !bytes.is_empty() {
                    return Err(DecodeError::new("the end of an entry record"));
                }
                Ok(Record::Entry(entry))
            }
            HARD_STATE => {
                let body: &[u8; 9] =
                    bytes.as_ref().try_into().map_err(|_| DecodeError::new("a hard state record"))?;
                if body[8] > 1 {
                    return Err(DecodeError::new("whether an epoch was led"));
                }
                Ok(Record::HardState(HardState { epoch: u64_at(body, 0), led: body[8] == 1 }))
            }
            RESET => {
                let body: &[u8; 16] =
                    bytes.as_ref().try_into().map_err(|_| DecodeError::new("a reset record"))?;
                Ok(Record::Reset { position: Position { index: u64_at(body, 0), term: u64_at(body, 8) } })
            }
            _ => Err(DecodeError::new("a leader-follower record's kind")),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    assert!(at + 8 <= bytes.len(), "records have the length that their kind has");
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
