//! What a member writes to its log, what its checkpoints say of themselves, and the names of entries.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Wire};

use crate::clock::varint;
use crate::envelope::{nothing_left, put_bytes, take_bytes};

/// No epoch or position is larger; decoders refuse what is, so that no number from outside can overflow.
pub const COUNT_MAX: u64 = 1 << 62;

/// The name of an entry: who sequenced it, and where. Ordered by the epoch first. 0 and 0: before all entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Viewstamp {
    /// The epoch in which it was sequenced.
    pub epoch: u64,
    /// Its place in the one order, from 1.
    pub position: u64,
}

impl Viewstamp {
    /// Before all entries.
    pub const ZERO: Viewstamp = Viewstamp { epoch: 0, position: 0 };

    pub(super) fn put(self, out: &mut Vec<u8>) {
        assert!(self.epoch.max(self.position) <= COUNT_MAX, "what is written can be read back");
        varint::put(self.epoch, out);
        varint::put(self.position, out);
    }

    pub(super) fn take(bytes: &mut Bytes) -> Result<Viewstamp, DecodeError> {
        let (epoch, position) = (take_number(bytes)?, take_number(bytes)?);
        if (epoch == 0) != (position == 0) {
            return Err(DecodeError::new("a viewstamp, both parts above 0 or none"));
        }
        Ok(Viewstamp { epoch, position })
    }
}

impl fmt::Debug for Viewstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.position, self.epoch)
    }
}

impl fmt::Display for Viewstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A number that can still be counted on from.
pub(super) fn take_number(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    match varint::take(bytes)? {
        number if number <= COUNT_MAX => Ok(number),
        _ => Err(DecodeError::new("a number of at most 2^62")),
    }
}

/// A command in its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub at: Viewstamp,
    /// Unix milliseconds; never smaller than the entry before.
    pub stamp_ms: u64,
    /// The command; empty in the entry with which a sequencer opens its epoch.
    pub command: Bytes,
}

impl Entry {
    /// Bytes of the encoding, at most.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        4 * varint::BYTES_MAX + self.command.len()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        assert!(self.at > Viewstamp::ZERO, "entries are counted from 1");
        self.at.put(out);
        varint::put(self.stamp_ms, out);
        put_bytes(&self.command, out);
    }

    pub(super) fn take(bytes: &mut Bytes) -> Result<Entry, DecodeError> {
        let at = Viewstamp::take(bytes)?;
        if at == Viewstamp::ZERO {
            return Err(DecodeError::new("an entry counted from 1"));
        }
        Ok(Entry { at, stamp_ms: take_number(bytes)?, command: take_bytes(bytes)? })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.command.is_empty() {
            write!(f, "{} opens", self.at)
        } else {
            write!(f, "{} {:?}", self.at, self.command)
        }
    }
}

/// What a member must not forget: it obeys no older epoch, and in this one nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The newest epoch that it knows.
    pub epoch: u64,
    /// Its sequencer. If that is this member, and it does not sequence, it did in an earlier life, and never will again in this epoch.
    pub sequencer: Option<NodeId>,
}

/// A record of a member's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An entry. It replaces everything from its place on.
    Entry(Entry),
    /// The newest one counts.
    HardState(HardState),
    /// A snapshot up to here takes the place of all before. It counts if the checkpoint is that one.
    Reset {
        /// The last entry that the snapshot covers.
        at: Viewstamp,
    },
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Entry(entry) => {
                out.push(0);
                entry.put(out);
            }
            Record::HardState(HardState { epoch, sequencer }) => {
                out.push(1);
                varint::put(*epoch, out);
                varint::put(sequencer.map_or(0, |node| node.0), out);
            }
            Record::Reset { at } => {
                out.push(2);
                at.put(out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        let record = match varint::take(&mut bytes)? {
            0 => Record::Entry(Entry::take(&mut bytes)?),
            1 => {
                let epoch = take_number(&mut bytes)?;
                let node = varint::take(&mut bytes)?;
                Record::HardState(HardState { epoch, sequencer: (node > 0).then_some(NodeId(node)) })
            }
            2 => Record::Reset { at: Viewstamp::take(&mut bytes)? },
            _ => return Err(DecodeError::new("a kind of sequencer record")),
        };
        nothing_left(&bytes)?;
        Ok(record)
    }
}

/// What a checkpoint covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) at: Viewstamp,
    pub(super) stamp_ms: u64,
}

impl Wire for Meta {
    fn encode(&self, out: &mut Vec<u8>) {
        self.at.put(out);
        varint::put(self.stamp_ms, out);
    }

    fn decode(mut bytes: Bytes) -> Result<Meta, DecodeError> {
        let meta = Meta { at: Viewstamp::take(&mut bytes)?, stamp_ms: take_number(&mut bytes)? };
        nothing_left(&bytes)?;
        Ok(meta)
    }
}

impl Meta {
    pub(super) fn to_bytes(self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}
