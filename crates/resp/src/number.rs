//! Numbers in text, and the line that holds the length of what follows.

use crate::ProtocolError;

/// Bytes that a count may take before its line end: a 64-bit number has 20, the rest is room for the error to be
/// "not a number" rather than "no line end".
const MAX_LENGTH_LINE_BYTES: usize = 32;

/// Bytes that one reading of such a line looks at: the longest one, CR and LF.
#[cfg(test)]
pub(crate) const MAX_EXAMINED_BYTES: usize = MAX_LENGTH_LINE_BYTES + 2;

/// Why a line with a length could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthError {
    TooLong,
    NotANumber,
    NoLineFeed,
}

impl LengthError {
    /// As the error of an aggregate's count.
    pub(crate) fn of_count(self) -> ProtocolError {
        match self {
            Self::TooLong => ProtocolError::TooBigMultibulkCount,
            Self::NotANumber => ProtocolError::InvalidMultibulkLength,
            Self::NoLineFeed => ProtocolError::ExpectedLineEnd,
        }
    }

    /// As the error of a string's length.
    pub(crate) fn of_bulk(self) -> ProtocolError {
        match self {
            Self::TooLong => ProtocolError::TooBigBulkCount,
            Self::NotANumber => ProtocolError::InvalidBulkLength,
            Self::NoLineFeed => ProtocolError::ExpectedLineEnd,
        }
    }
}

/// Reads `<number>\r\n` at the start of `bytes`: the number and the bytes used, or `None` if the line is not whole.
///
/// Looks at no more than 34 bytes, so reading a line again when more of it has arrived costs a constant.
pub(crate) fn length_line(bytes: &[u8]) -> Result<Option<(i64, usize)>, LengthError> {
    let mut number = 0i64;
    // Nearly every length has 1 to 9 digits and is there as a whole.
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        match byte {
            b'0'..=b'9' if at < 9 && (at == 0 || number != 0) => {
                number = number * 10 + i64::from(byte - b'0')
            }
            b'\r' if at > 0 && bytes.get(at + 1) == Some(&b'\n') => return Ok(Some((number, at + 2))),
            _ => break,
        }
    }
    unusual_length_line(bytes)
}

#[cold]
fn unusual_length_line(bytes: &[u8]) -> Result<Option<(i64, usize)>, LengthError> {
    let head = &bytes[..bytes.len().min(MAX_LENGTH_LINE_BYTES + 1)];
    let Some(end) = head.iter().position(|&byte| byte == b'\r') else {
        return if head.len() > MAX_LENGTH_LINE_BYTES { Err(LengthError::TooLong) } else { Ok(None) };
    };
    assert!(end <= MAX_LENGTH_LINE_BYTES, "the search was bounded");
    match bytes.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => match canonical(&head[..end]) {
            Some(number) => Ok(Some((number, end + 2))),
            None => Err(LengthError::NotANumber),
        },
        Some(_) => Err(LengthError::NoLineFeed),
    }
}

/// A number as Redis' `string2ll` takes it: no plus sign, no leading zero, no `-0`.
fn canonical(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" if digits.len() < text.len() => None,
        [b'0', _, ..] | [b'+', ..] => None,
        _ => integer(text),
    }
}

/// A 64-bit integer with an optional sign, as after `:`.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Counted downwards, as i64 reaches one further there.
    let mut number = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}
