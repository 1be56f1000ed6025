//! A little randomness, for passwords and for choosing ports: from the system's generator.

use std::fs::File;
use std::io::{self, Read};

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn number() -> io::Result<u64> {
    bytes::<8>().map(u64::from_le_bytes)
}

/// 160 random bits as text that needs no quotes anywhere.
pub(crate) fn password() -> io::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    Ok(bytes::<32>()?.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}
