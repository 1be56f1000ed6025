//! What members, the sequencer and the catalog say to each other.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, SnapshotChunk, Wire};

use super::record::{Entry, Viewstamp, take_number};
use crate::clock::varint;
use crate::envelope::{nothing_left, put_bytes, take_bytes};

/// A message, and the epoch in which it was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender's epoch.
    pub epoch: u64,
    /// What it says.
    pub body: Body,
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Catalog to one member: you are this epoch's sequencer. Said to nobody else in this epoch.
    Assign,
    /// Sequencer to catalog: I am at work.
    Working {
        /// Up to here a majority holds everything.
        committed: u64,
    },
    /// Sequencer to members: obey no older epoch from now on, and tell me what you hold.
    Collect,
    /// The answer; durable.
    Holds {
        /// The last entry.
        last: Viewstamp,
    },
    /// Sequencer to the member that holds most: send me what comes after this position.
    Fetch {
        /// The position.
        after: u64,
    },
    /// The answer.
    Fetched {
        /// The entry before the first.
        prev: Viewstamp,
        /// Entries, as many as one message carries.
        entries: Vec<Entry>,
    },
    /// The answer, if what is wanted is no longer in the log.
    Compacted {
        /// The last position in its checkpoint.
        base: u64,
    },
    /// Sequencer to members: this is the order.
    Order {
        /// The entry before the first.
        prev: Viewstamp,
        /// Entries; none: a heartbeat.
        entries: Vec<Entry>,
        /// Up to here a majority holds everything.
        committed: u64,
    },
    /// The answer: everything up to here is as the sequencer has it, and durable.
    Accept {
        /// The position.
        held: u64,
    },
    /// The answer, if the entry before the first is not there.
    Gap {
        /// Up to here it may be: try after this.
        last: u64,
    },
    /// Sequencer to a member that needs what is no longer in the log: a piece of the checkpoint.
    Snapshot {
        /// The piece.
        chunk: SnapshotChunk,
    },
    /// The answer: this piece next.
    WantChunk {
        /// Of the snapshot up to this position.
        position: u64,
        /// The piece, from 0.
        chunk: u32,
    },
}

fn put_entries(entries: &[Entry], out: &mut Vec<u8>) {
    let follow = entries.windows(2).all(|pair| pair[1].at.position == pair[0].at.position + 1);
    assert!(follow, "entries stand one behind the other");
    varint::put(entries.len() as u64, out);
    for entry in entries {
        entry.put(out);
    }
}

/// Entries that follow each other: positions without gaps, epochs that never fall.
fn take_entries(prev: Viewstamp, bytes: &mut Bytes) -> Result<Vec<Entry>, DecodeError> {
    let count = varint::take_count(bytes, 4)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    let mut before = prev;
    for _ in 0..count {
        let entry = Entry::take(bytes)?;
        if entry.at.position != before.position + 1 || entry.at.epoch < before.epoch {
            return Err(DecodeError::new("entries one after the other"));
        }
        before = entry.at;
        entries.push(entry);
    }
    assert!(entries.len() == count, "all were read");
    Ok(entries)
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.epoch, out);
        let numbered = |kind: u8, number: u64, out: &mut Vec<u8>| {
            out.push(kind);
            varint::put(number, out);
        };
        match &self.body {
            Body::Assign => out.push(0),
            Body::Working { committed } => numbered(1, *committed, out),
            Body::Collect => out.push(2),
            Body::Holds { last } => {
                out.push(3);
                last.put(out);
            }
            Body::Fetch { after } => numbered(4, *after, out),
            Body::Fetched { prev, entries } => {
                out.push(5);
                prev.put(out);
                put_entries(entries, out);
            }
            Body::Compacted { base } => numbered(6, *base, out),
            Body::Order { prev, entries, committed } => {
                out.push(7);
                prev.put(out);
                put_entries(entries, out);
                varint::put(*committed, out);
            }
            Body::Accept { held } => numbered(8, *held, out),
            Body::Gap { last } => numbered(9, *last, out),
            Body::Snapshot { chunk } => {
                numbered(10, u64::from(chunk.chunk), out);
                out.push(u8::from(chunk.last));
                put_bytes(&chunk.meta, out);
                put_bytes(&chunk.bytes, out);
            }
            Body::WantChunk { position, chunk } => {
                numbered(11, *position, out);
                varint::put(u64::from(*chunk), out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Message, DecodeError> {
        let bytes = &mut bytes;
        let epoch = take_number(bytes)?;
        let body = match varint::take(bytes)? {
            0 => Body::Assign,
            1 => Body::Working { committed: take_number(bytes)? },
            2 => Body::Collect,
            3 => Body::Holds { last: Viewstamp::take(bytes)? },
            4 => Body::Fetch { after: take_number(bytes)? },
            5 => {
                let prev = Viewstamp::take(bytes)?;
                Body::Fetched { prev, entries: take_entries(prev, bytes)? }
            }
            6 => Body::Compacted { base: take_number(bytes)? },
            7 => {
                let prev = Viewstamp::take(bytes)?;
                let entries = take_entries(prev, bytes)?;
                Body::Order { prev, entries, committed: take_number(bytes)? }
            }
            8 => Body::Accept { held: take_number(bytes)? },
            9 => Body::Gap { last: take_number(bytes)? },
            10 => {
                let chunk = take_chunk_number(bytes)?;
                let last = match varint::take(bytes)? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::new("whether it is the last piece")),
                };
                let (meta, bytes) = (take_bytes(bytes)?, take_bytes(bytes)?);
                Body::Snapshot { chunk: SnapshotChunk { meta, chunk, bytes, last } }
            }
            11 => Body::WantChunk { position: take_number(bytes)?, chunk: take_chunk_number(bytes)? },
            _ => return Err(DecodeError::new("a kind of sequencer message")),
        };
        nothing_left(bytes)?;
        Ok(Message { epoch, body })
    }
}

fn take_chunk_number(bytes: &mut Bytes) -> Result<u32, DecodeError> {
    match u32::try_from(varint::take(bytes)?) {
        Ok(chunk) if chunk < u32::MAX => Ok(chunk),
        _ => Err(DecodeError::new("a piece's number below 2^32 - 1")),
    }
}
