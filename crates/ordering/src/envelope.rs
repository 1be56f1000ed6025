//! A broadcast message with its name, and what it comes after.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, Wire};

use crate::clock::{Dot, VectorClock, varint};

/// Streams that a member knows at most, and that a message may come after.
pub(crate) const STREAMS_LIMIT: usize = 4_096;

/// One message, as it travels, as it is kept, and as it is delivered: the command of a delivery is an envelope's encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its name: which of whose messages, counted from 1 without gaps.
    pub dot: Dot,
    /// What had been delivered at its sender, others' messages only; empty where the order is FIFO.
    pub after: VectorClock,
    /// The command, as it was proposed.
    pub body: Bytes,
}

impl Envelope {
    /// Bytes of the encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let name = varint::len(self.dot.replica.0) + varint::len(self.dot.counter);
        name + self.after.encoded_len() + varint::len(self.body.len() as u64) + self.body.len()
    }

    /// Reads an envelope from the front of `bytes`, which its body shares.
    ///
    /// # Errors
    /// Bytes that [`Wire::encode`] does not write; more than 4,096 streams that it comes after.
    pub fn take(bytes: &mut Bytes) -> Result<Envelope, DecodeError> {
        let dot = Dot::take(bytes)?;
        let after = VectorClock::take_of_events(bytes, STREAMS_LIMIT)?;
        if after.get(dot.replica) > 0 {
            return Err(DecodeError::new("an envelope that comes after others' messages only"));
        }
        let body = take_bytes(bytes)?;
        Ok(Envelope { dot, after, body })
    }

    /// The encoding, as a delivery carries it.
    #[must_use]
    pub fn to_command(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode(&mut out);
        assert!(out.len() == self.encoded_len(), "the length is known before");
        Bytes::from(out)
    }
}

impl Wire for Envelope {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.after.get(self.dot.replica) == 0, "the sender's own messages are counted by the dot");
        self.dot.put(out);
        self.after.encode(out);
        put_bytes(&self.body, out);
    }

    fn decode(mut bytes: Bytes) -> Result<Envelope, DecodeError> {
        let envelope = Envelope::take(&mut bytes)?;
        nothing_left(&bytes)?;
        Ok(envelope)
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dot)?;
        if !self.after.is_empty() {
            write!(f, " after {}", self.after)?;
        }
        write!(f, " {:?}", self.body)
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    varint::put(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads back [`put_bytes`], without a copy.
pub(crate) fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = varint::take_count(bytes, 1)?;
    Ok(bytes.split_to(len))
}

/// Refuses bytes behind a value.
pub(crate) fn nothing_left(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("nothing behind the value")) }
}
