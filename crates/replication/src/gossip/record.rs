//! What a replica writes to its log, and into its checkpoints.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{HybridStamp, ReplicaId, varint};
use keypact_protocol::{DecodeError, Incarnation, Wire};

use super::View;
use super::config::PARTS_MAX;
use super::view::{end, put_bytes, take_bool, take_byte, take_bytes};

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A part of a transfer that came before the record that makes it count. It takes an index, too.
    Part {
        /// The delta, encoded.
        delta: Bytes,
    },
    /// A delta was joined, with the parts before it.
    Applied {
        /// The delivery's index; the parts have those before it.
        index: u64,
        /// The clock after it.
        stamp: HybridStamp,
        /// How many parts stand before this record.
        parts: u32,
        /// The delta, encoded.
        delta: Bytes,
    },
    /// This view was entered; what it changes takes the indices after `index`.
    View {
        /// The index before.
        index: u64,
        /// The view.
        view: View,
    },
    /// Under this identity the replica has all that a member must have.
    Serving {
        /// Which.
        replica: ReplicaId,
    },
    /// First in a folder whose disk was lost: which life of the folder it is.
    Folder {
        /// Which.
        folder: Incarnation,
    },
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Part { delta } => {
                out.push(0);
                put_bytes(delta, out);
            }
            Record::Applied { index, stamp, parts, delta } => {
                assert!(*parts < PARTS_MAX, "transfers have a bounded number of parts");
                out.push(1);
                varint::put(*index, out);
                stamp.put(out);
                varint::put(u64::from(*parts), out);
                put_bytes(delta, out);
            }
            Record::View { index, view } => {
                out.push(2);
                varint::put(*index, out);
                view.put(out);
            }
            Record::Serving { replica } => {
                out.push(3);
                varint::put(replica.0, out);
            }
            Record::Folder { folder } => {
                out.push(4);
                varint::put(folder.0, out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        let record = match take_byte(&mut bytes)? {
            0 => Record::Part { delta: take_bytes(&mut bytes)? },
            1 => {
                let (index, stamp) = (varint::take(&mut bytes)?, HybridStamp::take(&mut bytes)?);
                let parts = u32::try_from(varint::take(&mut bytes)?).ok().filter(|parts| *parts < PARTS_MAX);
                let parts = parts.ok_or(DecodeError::new("a bounded number of parts"))?;
                Record::Applied { index, stamp, parts, delta: take_bytes(&mut bytes)? }
            }
            2 => Record::View { index: varint::take(&mut bytes)?, view: View::take(&mut bytes)? },
            3 => Record::Serving { replica: ReplicaId(varint::take(&mut bytes)?) },
            4 => Record::Folder { folder: Incarnation(varint::take(&mut bytes)?) },
            _ => return Err(DecodeError::new("a gossip record's kind")),
        };
        end(&bytes)?;
        Ok(record)
    }
}

/// What a checkpoint says beside the parent's state: all that the log before it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) folder: Incarnation,
    pub(super) view: View,
    pub(super) replica: Option<ReplicaId>,
    pub(super) serving: bool,
    pub(super) stamp: HybridStamp,
    /// The last change that is in `state`.
    pub(super) index: u64,
    /// The last of them, that were not yet given to the parent.
    pub(super) held: Vec<Bytes>,
    pub(super) state: Bytes,
}

impl Wire for Meta {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.held.len() as u64 <= self.index, "what is held has an index");
        assert!(!self.serving || self.replica.is_some(), "who serves has an identity");
        varint::put(self.folder.0, out);
        self.view.put(out);
        out.push(u8::from(self.replica.is_some()));
        self.replica.iter().for_each(|replica| varint::put(replica.0, out));
        out.push(u8::from(self.serving));
        self.stamp.put(out);
        varint::put(self.index, out);
        varint::put(self.held.len() as u64, out);
        self.held.iter().for_each(|change| put_bytes(change, out));
        put_bytes(&self.state, out);
    }

    fn decode(mut bytes: Bytes) -> Result<Meta, DecodeError> {
        let bytes = &mut bytes;
        let folder = Incarnation(varint::take(bytes)?);
        let view = View::take(bytes)?;
        let replica = if take_bool(bytes)? { Some(ReplicaId(varint::take(bytes)?)) } else { None };
        let serving = take_bool(bytes)?;
        let (stamp, index) = (HybridStamp::take(bytes)?, varint::take(bytes)?);
        let count = varint::take_count(bytes, 1)?;
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            held.push(take_bytes(bytes)?);
        }
        if held.len() as u64 > index {
            return Err(DecodeError::new("an index for each change"));
        }
        assert!(held.len() == count, "all were read");
        let state = take_bytes(bytes)?;
        end(bytes)?;
        Ok(Meta { folder, view, replica, serving, stamp, index, held, state })
    }
}
