//! What a member writes, and what a checkpoint says beside the parent's state.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Wire};

use super::message::take_clock;
use super::{Jump, View};
use crate::clock::{VectorClock, varint};
use crate::envelope::{Envelope, nothing_left};

/// A record. Their order is the order of deliveries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Delivered, own messages too. It is also the copy that is kept for others.
    Delivered {
        /// Which delivery of this member, counted from 1.
        index: u64,
        /// Its stamp, Unix milliseconds.
        stamp_ms: u64,
        /// What.
        envelope: Envelope,
    },
    /// It began anew. A checkpoint may cover deliveries after it, so it says itself after which it was.
    Jumped(Jump),
    /// The group is now this.
    View(View),
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Delivered { index, stamp_ms, envelope } => {
                out.push(0);
                varint::put(*index, out);
                varint::put(*stamp_ms, out);
                envelope.encode(out);
            }
            Record::Jumped(Jump { after_index, to }) => {
                out.push(1);
                varint::put(*after_index, out);
                to.encode(out);
            }
            Record::View(view) => {
                out.push(2);
                view.put(out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Record, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a kind of broadcast record"));
        }
        let kind = bytes.split_to(1)[0];
        let record = match kind {
            0 => {
                let (index, stamp_ms) = (varint::take(&mut bytes)?, varint::take(&mut bytes)?);
                if index == 0 {
                    return Err(DecodeError::new("a delivery counted from 1"));
                }
                Record::Delivered { index, stamp_ms, envelope: Envelope::take(&mut bytes)? }
            }
            1 => Record::Jumped(Jump { after_index: varint::take(&mut bytes)?, to: take_clock(&mut bytes)? }),
            2 => Record::View(View::take(&mut bytes)?),
            _ => return Err(DecodeError::new("a kind of broadcast record")),
        };
        nothing_left(&bytes)?;
        Ok(record)
    }
}

/// The protocol's words in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) index: u64,
    pub(super) stamp_ms: u64,
    pub(super) joined: bool,
    pub(super) delivered: VectorClock,
    pub(super) view: View,
}

impl Wire for Meta {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.index, out);
        varint::put(self.stamp_ms, out);
        out.push(u8::from(self.joined));
        self.delivered.encode(out);
        self.view.put(out);
    }

    fn decode(mut bytes: Bytes) -> Result<Meta, DecodeError> {
        let (index, stamp_ms) = (varint::take(&mut bytes)?, varint::take(&mut bytes)?);
        let joined = match if bytes.is_empty() { 2 } else { bytes.split_to(1)[0] } {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::new("whether it has joined")),
        };
        let meta = Meta {
            index,
            stamp_ms,
            joined,
            delivered: take_clock(&mut bytes)?,
            view: View::take(&mut bytes)?,
        };
        nothing_left(&bytes)?;
        Ok(meta)
    }
}
