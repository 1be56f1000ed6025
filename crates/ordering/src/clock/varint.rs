//! Integers in as few bytes as they need: seven bits a byte, lowest first, the top bit set on all but the last (LEB128).
//!
//! Each number has one encoding: a last byte of zero after others is refused, so equal values have equal bytes.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use keypact_protocol::DecodeError;

/// Bytes that the largest number takes.
pub const BYTES_MAX: usize = 10;

/// Appends `value`, 1 to [`BYTES_MAX`] bytes.
pub fn put(mut value: u64, out: &mut Vec<u8>) {
    let end = out.len() + len(value);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    assert!(out.len() == end, "the length is known before");
}

/// How many bytes [`put`] writes.
#[must_use]
pub const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    let bytes = bits.div_ceil(7);
    assert!(bytes >= 1 && bytes <= BYTES_MAX, "64 bits are ten groups of seven");
    bytes
}

/// Reads a number from the front of `bytes`.
///
/// # Errors
/// The bytes end too early, the number is above 2^64 - 1, or it is longer than it needs to be. `bytes` is unchanged then.
pub fn take(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for (place, &byte) in bytes.iter().enumerate() {
        if place >= BYTES_MAX || (place == BYTES_MAX - 1 && byte > 1) {
            return Err(DecodeError::new("an integer below 2^64"));
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            if byte == 0 && place > 0 {
                return Err(DecodeError::new("an integer without idle bytes"));
            }
            bytes.advance(place + 1);
            assert!(len(value) == place + 1, "each number has one encoding");
            return Ok(value);
        }
    }
    Err(DecodeError::new("a whole integer"))
}

/// Reads how many items follow, each of at least `item_bytes_min` bytes: a count that the rest can't hold is refused before anything is
/// allocated for it.
///
/// # Errors
/// As [`take`], and for a count that is too large.
pub fn take_count(bytes: &mut Bytes, item_bytes_min: usize) -> Result<usize, DecodeError> {
    assert!(item_bytes_min > 0, "items without bytes would make any count believable");
    let count = take(bytes)?;
    match usize::try_from(count) {
        Ok(count) if count <= bytes.len() / item_bytes_min => Ok(count),
        _ => Err(DecodeError::new("a count that the rest can hold")),
    }
}
