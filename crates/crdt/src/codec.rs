//! How keys and values become bytes.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{Dot, HybridStamp, ReplicaId, varint};
use keypact_protocol::DecodeError;

/// How deep maps may lie in maps. Decoders refuse more, so that no message can exhaust the stack.
pub const NESTING_MAX: u32 = 16;

/// What is left to read of a message.
#[derive(Debug)]
pub struct Reader {
    pub(crate) bytes: Bytes,
    nesting_left: u32,
}

impl Reader {
    /// Reads `bytes` from the front.
    #[must_use]
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes, nesting_left: NESTING_MAX }
    }

    /// The end: nothing may be left.
    ///
    /// # Errors
    /// Something is.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("nothing behind a state")) }
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        if self.bytes.is_empty() {
            return Err(DecodeError::new("one more byte"));
        }
        let byte = self.bytes.split_to(1);
        assert!(byte.len() == 1, "there was one more");
        Ok(byte[0])
    }

    /// How many items follow, of at least `item_bytes_min` bytes each.
    ///
    /// # Errors
    /// More than the rest can hold.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = varint::take_count(&mut self.bytes, item_bytes_min)?;
        assert!(count * item_bytes_min <= self.bytes.len(), "so many can follow");
        Ok(count)
    }

    /// Reads something that lies one level deeper.
    ///
    /// # Errors
    /// That of `read`, or more than [`NESTING_MAX`] levels.
    pub fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.nesting_left = self.nesting_left.checked_sub(1).ok_or(DecodeError::new("maps less deep"))?;
        let value = read(self);
        self.nesting_left += 1;
        assert!(self.nesting_left <= NESTING_MAX, "levels are left as often as entered");
        value
    }
}

/// A key or value that can travel. Equal values have equal bytes.
pub trait Codec: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads what [`Codec::put`] wrote from the front.
    ///
    /// # Errors
    /// Bytes that [`Codec::put`] does not write.
    fn take(input: &mut Reader) -> Result<Self, DecodeError>;

    /// Bytes that [`Codec::put`] writes.
    fn encoded_len(&self) -> usize;
}

impl Codec for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put(*self, out);
    }

    fn take(input: &mut Reader) -> Result<u64, DecodeError> {
        varint::take(&mut input.bytes)
    }

    fn encoded_len(&self) -> usize {
        varint::len(*self)
    }
}

/// Small numbers of either sign take few bytes: 0, -1, 1, -2 become 0, 1, 2, 3.
impl Codec for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put(zigzag(*self), out);
    }

    fn take(input: &mut Reader) -> Result<i64, DecodeError> {
        let folded = varint::take(&mut input.bytes)?;
        let value = (folded >> 1) as i64 ^ -((folded & 1) as i64);
        assert!(zigzag(value) == folded, "unfolding undoes folding");
        Ok(value)
    }

    fn encoded_len(&self) -> usize {
        varint::len(zigzag(*self))
    }
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The length, then the bytes. Read back they share the message's memory.
impl Codec for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put(self.len() as u64, out);
        out.extend_from_slice(self);
    }

    fn take(input: &mut Reader) -> Result<Bytes, DecodeError> {
        let len = input.count(1)?;
        let bytes = input.bytes.split_to(len);
        assert!(bytes.len() == len, "a count is at most what is left");
        Ok(bytes)
    }

    fn encoded_len(&self) -> usize {
        varint::len(self.len() as u64) + self.len()
    }
}

impl Codec for String {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put(self.len() as u64, out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut Reader) -> Result<String, DecodeError> {
        let bytes = Bytes::take(input)?;
        String::from_utf8(bytes.into()).map_err(|_| DecodeError::new("text in UTF-8"))
    }

    fn encoded_len(&self) -> usize {
        varint::len(self.len() as u64) + self.len()
    }
}

impl Codec for Dot {
    fn put(&self, out: &mut Vec<u8>) {
        Dot::put(*self, out);
    }

    fn take(input: &mut Reader) -> Result<Dot, DecodeError> {
        Dot::take(&mut input.bytes)
    }

    fn encoded_len(&self) -> usize {
        varint::len(self.replica.0) + varint::len(self.counter)
    }
}

impl Codec for ReplicaId {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put(self.0, out);
    }

    fn take(input: &mut Reader) -> Result<ReplicaId, DecodeError> {
        varint::take(&mut input.bytes).map(ReplicaId)
    }

    fn encoded_len(&self) -> usize {
        varint::len(self.0)
    }
}

impl Codec for HybridStamp {
    fn put(&self, out: &mut Vec<u8>) {
        HybridStamp::put(*self, out);
    }

    fn take(input: &mut Reader) -> Result<HybridStamp, DecodeError> {
        HybridStamp::take(&mut input.bytes)
    }

    fn encoded_len(&self) -> usize {
        varint::len(self.wall_ms) + varint::len(u64::from(self.count))
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Reader) -> Result<(A, B), DecodeError> {
        Ok((A::take(input)?, B::take(input)?))
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len() + self.1.encoded_len()
    }
}
