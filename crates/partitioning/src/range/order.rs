//! How keys are ordered.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::DecodeError;

use crate::codec;
use crate::slice::Position;

/// What a keyspace's keys are ordered by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyOrder {
    /// Their bytes.
    Bytes,
    /// The decimal number behind their last `:`, as a 64-bit signed integer; equal numbers by all bytes. Keys without such a number come
    /// first, by their bytes.
    Integer,
}

impl KeyOrder {
    /// The key's place.
    #[must_use]
    pub fn position(self, key: &[u8]) -> RangeKey {
        RangeKey { number: self.number(key), bytes: key.to_vec() }
    }

    /// The number that orders the key; `None`: bytes do.
    #[must_use]
    #[inline]
    pub fn number(self, key: &[u8]) -> Option<i64> {
        match self {
            KeyOrder::Bytes => None,
            KeyOrder::Integer => trailing_integer(key),
        }
    }

    /// A split point as a person gives it: a key, or for [`KeyOrder::Integer`] a number, which then lies before all keys of that number.
    #[must_use]
    pub fn split_point(self, text: &[u8]) -> RangeKey {
        match self {
            KeyOrder::Bytes => RangeKey { number: None, bytes: text.to_vec() },
            KeyOrder::Integer => match integer(text) {
                Some(number) => RangeKey { number: Some(number), bytes: Vec::new() },
                None => self.position(text),
            },
        }
    }
}

/// The number behind the last `:`; `None` if there is none, or it has no place in 64 bits.
fn trailing_integer(key: &[u8]) -> Option<i64> {
    let colon = key.iter().rposition(|byte| *byte == b':')?;
    integer(&key[colon + 1..])
}

/// `-?[0-9]+` within 64 bits. No `+`, no blanks: one number is written in one way, but for leading zeros.
fn integer(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match text.split_first()? {
        (b'-', digits) => (digits, true),
        _ => (text, false),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number: i64 = 0;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        // Downwards: the negative side reaches one further.
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if is_negative { Some(number) } else { number.checked_neg() }
}

/// A key's place in the order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangeKey {
    /// First by this; `None` is before every number.
    number: Option<i64>,
    /// Then by this.
    bytes: Vec<u8>,
}

impl RangeKey {
    pub(super) fn first_of_all() -> RangeKey {
        RangeKey { number: None, bytes: Vec::new() }
    }

    /// The number that orders it, if one does.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        self.number
    }

    /// The key, or for a split point by number nothing.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Compares with a key in parts, so that a lookup allocates nothing.
    #[inline]
    pub(super) fn is_at_or_before(&self, number: Option<i64>, bytes: &[u8]) -> bool {
        match self.number.cmp(&number) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => self.bytes.as_slice() <= bytes,
        }
    }
}

impl Position for RangeKey {
    fn first() -> RangeKey {
        RangeKey::first_of_all()
    }

    /// The same bytes and a zero: no key lies between. There is no greatest key.
    fn next(&self) -> Option<RangeKey> {
        let mut bytes = self.bytes.clone();
        bytes.push(0);
        Some(RangeKey { number: self.number, bytes })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.number.is_some()));
        if let Some(number) = self.number {
            out.extend_from_slice(&number.to_le_bytes());
        }
        codec::push_len(self.bytes.len(), out);
        out.extend_from_slice(&self.bytes);
    }

    fn decode(bytes: &mut Bytes) -> Result<RangeKey, DecodeError> {
        let number = match codec::byte(bytes)? {
            0 => None,
            1 => Some(codec::u64(bytes)?.cast_signed()),
            _ => return Err(DecodeError::new("whether a key has a number")),
        };
        let len = codec::len(bytes)?;
        Ok(RangeKey { number, bytes: bytes.split_to(len).to_vec() })
    }
}

impl fmt::Debug for RangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.bytes.is_empty()) {
            (None, true) => f.write_str("start"),
            (Some(number), true) => write!(f, "#{number}"),
            (_, false) => write!(f, "{}", self.bytes.escape_ascii()),
        }
    }
}
