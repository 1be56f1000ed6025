//! Integers in text, as strictly as Redis reads them.

use keypact_resp::ErrorReply;

pub(crate) const NOT_AN_INTEGER: ErrorReply =
    ErrorReply::fixed("ERR", "value is not an integer or out of range");

/// A 64-bit integer in the one way to write it: no plus, no leading zero, no `-0`, no space.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Nineteen digits fit into a u64.
    let mut number = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

/// The same, or the error that says so.
#[inline]
pub(crate) fn integer_or_error(text: &[u8]) -> Result<i64, ErrorReply> {
    integer(text).ok_or(NOT_AN_INTEGER)
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn only_one_way_to_write_an_integer() {
        let good: &[(&[u8], i64)] = &[
            (b"0", 0),
            (b"7", 7),
            (b"-1", -1),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for &(text, number) in good {
            assert_eq!(integer(text), Some(number));
        }
        let bad: &[&[u8]] = &[
            b"",
            b"-",
            b"-0",
            b"00",
            b"01",
            b"+1",
            b" 1",
            b"1 ",
            b"1.0",
            b"0x1",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"99999999999999999999",
            b"1\0",
        ];
        for text in bad {
            assert_eq!(integer(text), None, "{}", text.escape_ascii());
        }
    }
}
