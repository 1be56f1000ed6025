//! Randomness from the operating system: secrets, nonces, seeds, jitter.

use rustix::rand::{GetRandomFlags, getrandom};

/// `N` bytes that nobody can guess.
///
/// # Panics
/// If the operating system has none to give; nothing safe can be done then.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("the operating system gives no random bytes: {errno}"),
        }
    }
    bytes
}

/// 64 random bits.
pub(crate) fn number() -> u64 {
    u64::from_le_bytes(bytes())
}
