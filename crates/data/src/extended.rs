//! 80-bit floating point, as x86-64 has it: what `INCRBYFLOAT` computes with in Redis.
//!
//! Read, add and write round to nearest, ties to even, from exact intermediate results, so that text in and text out are
//! those of C's `strtold`, `+` and `%.17Lf` there.

mod natural;

use core::cmp::Ordering;

use natural::Natural;

/// Longer text is no number, for Redis.
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;
const MANTISSA_BITS: i32 = 64;
/// Weight of the lowest bit of the smallest numbers, and the first power of two that is too great.
const LOWEST_BIT: i32 = -16_445;
const OVERFLOW_AT: i32 = 16_384;
/// Decimals that are written.
const DECIMALS: usize = 17;
/// Decimal exponents beyond this overflow or vanish whatever the digits are.
const MAX_DECIMAL_EXPONENT: i64 = 1_000_000;

/// A number, mantissa x 2^exponent. The mantissa's highest bit is set, but for zero and the very smallest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
    infinite: bool,
}

impl Extended {
    pub(crate) const ZERO: Extended = Extended { negative: false, mantissa: 0, exponent: 0, infinite: false };

    /// Reads decimal or hexadecimal text, `inf` or `infinity`, all of it. `None` for anything else, `nan`, and what is too
    /// great or too small for the format.
    pub(crate) fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended { negative, infinite: true, ..Extended::ZERO });
        }
        let number = match rest {
            [b'0', b'x' | b'X', digits @ ..] => hexadecimal(negative, digits)?,
            digits => decimal(negative, digits)?,
        };
        // What is not zero may not become infinite or zero on the way.
        (!number.infinite).then_some(number)
    }

    /// The sum, unless it is infinite or undefined.
    pub(crate) fn add(self, other: Extended) -> Option<Extended> {
        if self.infinite || other.infinite {
            return None;
        }
        let (a, b) = (self.normalized(), other.normalized());
        if a.mantissa == 0 || b.mantissa == 0 {
            let only = if a.mantissa == 0 { b } else { a };
            return Some(Extended {
                negative: only.negative && (only.mantissa != 0 || a.negative == b.negative),
                ..only
            });
        }
        let (a, b) = match (a.exponent, a.mantissa).cmp(&(b.exponent, b.mantissa)) {
            Ordering::Less => (b, a),
            Ordering::Equal | Ordering::Greater => (a, b),
        };
        // 63 bits below the greater one's mantissa; what of the smaller one lies lower only says "and a bit more".
        let distance = (a.exponent - b.exponent) as u32;
        let great = u128::from(a.mantissa) << 63;
        let whole = u128::from(b.mantissa) << 63;
        let small = whole.checked_shr(distance).unwrap_or(0);
        let more = small.checked_shl(distance).unwrap_or(0) != whole;
        let sum = match a.negative == b.negative {
            true => great + small,
            false => great - small - u128::from(more),
        };
        if sum == 0 {
            return Some(Extended::ZERO);
        }
        let sum = round(a.negative, sum, more, a.exponent - 63);
        (!sum.infinite).then_some(sum)
    }

    /// With 17 decimals, without trailing zeros. O(exponent squared), at most 4,933 digits before the point.
    pub(crate) fn to_text(self) -> String {
        assert!(!self.infinite, "only finite numbers are stored");
        let digits = match u32::try_from(self.exponent) {
            Ok(up) => Natural::from(self.mantissa).shifted_left(up).to_decimal(),
            Err(_) => return self.fraction_text(),
        };
        if self.negative && self.mantissa != 0 { format!("-{digits}") } else { digits }
    }

    /// The text of a number with bits behind the point.
    fn fraction_text(self) -> String {
        let down = self.exponent.unsigned_abs();
        // 64 bits and 57 bits fit.
        let scaled = u128::from(self.mantissa) * 10u128.pow(DECIMALS as u32);
        let rounded = if down < 128 { round_off(scaled, down as i32, false) } else { 0 };
        let (whole, decimals) =
            (rounded / 10u128.pow(DECIMALS as u32), rounded % 10u128.pow(DECIMALS as u32));
        let sign = if self.negative && rounded != 0 { "-" } else { "" };
        let text = format!("{sign}{whole}.{decimals:0DECIMALS$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    fn normalized(self) -> Extended {
        let up = if self.mantissa == 0 { 0 } else { self.mantissa.leading_zeros() };
        Extended { mantissa: self.mantissa << up, exponent: self.exponent - up as i32, ..self }
    }
}

/// The number `bits` x 2^`exponent`, and a bit more than that if `more`, rounded to the format.
///
/// With `more`, `bits` has at least 66 significant ones, so that the rest can't matter but for a tie.
fn round(negative: bool, bits: u128, more: bool, exponent: i32) -> Extended {
    let width = (128 - bits.leading_zeros()) as i32;
    assert!(bits != 0 && (!more || width > MANTISSA_BITS + 1), "there are bits to round");
    let drop = (width - MANTISSA_BITS).max(LOWEST_BIT - exponent).max(0);
    let mut mantissa = if drop < 128 { round_off(bits, drop, more) } else { 0 };
    let mut exponent = exponent + drop;
    if mantissa > u128::from(u64::MAX) {
        // Rounded up to the next power of two: the low bit is zero.
        mantissa >>= 1;
        exponent += 1;
    }
    let infinite = 128 - mantissa.leading_zeros() as i32 + exponent > OVERFLOW_AT;
    let mantissa = u64::try_from(mantissa).expect("64 bits are left");
    Extended { negative, mantissa, exponent, infinite }
}

/// Drops `drop` low bits: to nearest, ties to even. `more` says that there was something below them.
fn round_off(bits: u128, drop: i32, more: bool) -> u128 {
    assert!((0..128).contains(&drop), "the shift is within the word");
    if drop == 0 {
        return bits;
    }
    let kept = bits >> drop;
    let lost = bits & ((1 << drop) - 1);
    let half = 1 << (drop - 1);
    let up = lost > half || (lost == half && (more || kept & 1 == 1));
    kept + u128::from(up)
}

/// Splits `digits[.digits]` off: the digits without the point, how many were behind it, and the rest. `None` without digits.
fn mantissa_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64, &[u8])> {
    let count = |text: &[u8]| text.iter().take_while(|byte| is_digit(byte)).count();
    let (whole, rest) = text.split_at(count(text));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(count(rest)),
        rest => (&[][..], rest),
    };
    let digits = [whole, fraction].concat();
    (!digits.is_empty()).then_some((digits, fraction.len() as i64, rest))
}

/// Reads `e[+-]digits` with one of the marks, or nothing, up to the end.
fn exponent(text: &[u8], marks: [u8; 2]) -> Option<i64> {
    let Some((mark, rest)) = text.split_first() else { return Some(0) };
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !marks.contains(mark) || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(MAX_DECIMAL_EXPONENT));
    Some(if negative { -value } else { value })
}

fn decimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (digits, behind_point, rest) = mantissa_digits(text, u8::is_ascii_digit)?;
    let power = exponent(rest, [b'e', b'E'])? - behind_point;
    let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = &digits[leading..];
    if digits.is_empty() {
        return Some(Extended { negative, ..Extended::ZERO });
    }
    // Far outside of 10^-4951 .. 10^4932.
    let magnitude = digits.len() as i64 + power;
    if !(-4_960..=4_940).contains(&magnitude) {
        return None;
    }
    let number = Natural::from_decimal(digits);
    let scale = Natural::power_of_ten(power.unsigned_abs() as u32);
    let (bits, more, exponent) =
        if power >= 0 { number.times(&scale).top_bits() } else { number.quotient_bits(&scale) };
    let number = round(negative, bits, more, exponent);
    (number.mantissa != 0).then_some(number)
}

fn hexadecimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (digits, behind_point, rest) = mantissa_digits(text, u8::is_ascii_hexdigit)?;
    let power = exponent(rest, [b'p', b'P'])?;
    let (mut bits, mut more, mut dropped) = (0u128, false, 0i64);
    for digit in digits {
        let digit = char::from(digit).to_digit(16).expect("only hexadecimal digits were taken");
        if bits >> 120 == 0 {
            bits = bits << 4 | u128::from(digit);
        } else {
            more |= digit != 0;
            dropped += 1;
        }
    }
    if bits == 0 {
        return Some(Extended { negative, ..Extended::ZERO });
    }
    let exponent = power + 4 * (dropped - behind_point);
    let number = round(negative, bits, more, i32::try_from(exponent).ok()?);
    (number.mantissa != 0).then_some(number)
}

#[cfg(test)]
mod tests;
