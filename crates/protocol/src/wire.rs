//! How messages and records become bytes.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

/// Something that travels between nodes or to the disk.
pub trait Wire: Sized {
    /// Appends the encoding to `out`. Nothing before its present end is touched.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads back what [`Wire::encode`] wrote; `bytes` is exactly that. Payloads share `bytes`, they are not copied.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Wire::encode`] could not have written; never panics.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError>;
}

/// Bytes that no encoder of ours wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// What was expected.
    pub what: &'static str,
}

impl DecodeError {
    /// An error that names what was expected.
    #[must_use]
    pub const fn new(what: &'static str) -> DecodeError {
        DecodeError { what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't decode {}", self.what)
    }
}

impl core::error::Error for DecodeError {}
