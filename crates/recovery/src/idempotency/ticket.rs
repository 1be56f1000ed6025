//! What names one operation.

use core::fmt;
use core::str::FromStr;

/// An idempotency key: chosen by the client, fixed for one operation. The upper 48 bits are the Unix milliseconds at which it was made, the
/// rest is random: a UUID version 7 (or a ULID) is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u128);

/// Bits below the time.
const RANDOM_BITS: u32 = 80;

impl Token {
    /// A token made now. `random`: bits drawn anew for each; the lower 80 are used.
    #[must_use]
    pub fn new(issued_ms: u64, random: u128) -> Token {
        let random = random & ((1 << RANDOM_BITS) - 1);
        Token((u128::from(issued_ms) << RANDOM_BITS) | random)
    }

    /// When it was made, by the client's clock, Unix milliseconds.
    #[must_use]
    pub fn issued_ms(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64
    }
}

impl fmt::Display for Token {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenError;

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token is 32 hexadecimal digits, with or without the dashes of a UUID")
    }
}

impl core::error::Error for TokenError {}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let (mut value, mut digits) = (0u128, 0);
        for (at, character) in text.char_indices() {
            if character == '-' && matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            let digit = character.to_digit(16).ok_or(TokenError)?;
            if digits == 32 {
                return Err(TokenError);
            }
            value = value << 4 | u128::from(digit);
            digits += 1;
        }
        if digits == 32 { Ok(Token(value)) } else { Err(TokenError) }
    }
}

/// What identifies an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ticket {
    /// By a token that the client made.
    Free(Token),
    /// By its place in a session.
    Sequenced {
        /// As [`super::Ledger::open`] gave it.
        session: u64,
        /// Counted from 1 by the client, without gaps.
        sequence: u64,
    },
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ticket::Free(token) => token.fmt(f),
            Ticket::Sequenced { session, sequence } => write!(f, "s{session}.{sequence}"),
        }
    }
}

/// A digest of what is asked, to notice a ticket that is used for something else. It guards against mistakes, not against forgers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// The fingerprint of these parts, in this order (FNV-1a, 128 bits, each part after its length). O(bytes).
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Fingerprint {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        let mut take = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
            }
        };
        for part in parts {
            // Else ("a", "bc") and ("ab", "c") would be one.
            take(&(part.len() as u64).to_le_bytes());
            take(part);
        }
        Fingerprint(hash)
    }
}
