//! Doubles as text.

use core::fmt::{self, Write};

/// Longest text: `-2.2250738585072014e-308` has 24 bytes, and so has the longest without an exponent.
const MAX_TEXT_BYTES: usize = 32;

/// A double as Redis writes it, without an allocation: the layout of C's `%.17g` (exponent from `1e+17` and below
/// `1e-04`, whole numbers without `.0`, `inf`, `-inf`, `nan`), but with the fewest digits that read back the same,
/// as Redis does since 7.2.
#[derive(Clone, Copy)]
pub struct DoubleText {
    bytes: [u8; MAX_TEXT_BYTES],
    length: usize,
}

impl DoubleText {
    /// The text of `value`.
    pub fn new(value: f64) -> Self {
        let mut text = Self { bytes: [0; MAX_TEXT_BYTES], length: 0 };
        if value.is_nan() {
            text.push(b"nan");
        } else if value.is_infinite() {
            text.push(if value > 0.0 { b"inf" } else { b"-inf" });
        } else {
            text.finite(value);
        }
        assert!(text.length > 0, "a number has a text");
        text
    }

    /// The text, ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        assert!(self.length + bytes.len() <= MAX_TEXT_BYTES, "the longest text fits");
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn zeros(&mut self, count: usize) {
        self.push(&[b'0'; MAX_TEXT_BYTES][..count]);
    }

    fn finite(&mut self, value: f64) {
        // `d.ddde-xx` with the fewest digits; only where they go is decided here.
        let mut scientific = Self { bytes: [0; MAX_TEXT_BYTES], length: 0 };
        write!(scientific, "{:e}", value.abs()).expect("the shortest digits of a double fit");
        let text = scientific.as_bytes();
        let mark = text.iter().position(|&byte| byte == b'e').expect("{:e} writes an exponent");
        let exponent = crate::number::integer(&text[mark + 1..]).expect("an exponent is a number");

        let mut digits = [0; MAX_TEXT_BYTES];
        let mut count = 0;
        for &digit in text[..mark].iter().filter(|byte| byte.is_ascii_digit()) {
            digits[count] = digit;
            count += 1;
        }
        assert!((1..=17).contains(&count), "a double needs at most 17 digits");
        if value.is_sign_negative() {
            self.push(b"-");
        }
        self.lay_out(&digits[..count], exponent);
    }

    /// Writes `digits` with the point behind the first one moved by `exponent` places.
    fn lay_out(&mut self, digits: &[u8], exponent: i64) {
        assert!((-324..=308).contains(&exponent), "the exponent of a double");
        if !(-4..17).contains(&exponent) {
            self.push(&digits[..1]);
            self.fraction(&digits[1..]);
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(self, "e{sign}{:02}", exponent.unsigned_abs()).expect("checked against the longest text");
        } else if exponent < 0 {
            self.push(b"0.");
            self.zeros(exponent.unsigned_abs() as usize - 1);
            self.push(digits);
        } else {
            let whole = exponent as usize + 1;
            self.push(&digits[..whole.min(digits.len())]);
            self.zeros(whole.saturating_sub(digits.len()));
            self.fraction(digits.get(whole..).unwrap_or_default());
        }
    }

    fn fraction(&mut self, digits: &[u8]) {
        if !digits.is_empty() {
            self.push(b".");
            self.push(digits);
        }
    }
}

impl Write for DoubleText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.length + text.len() > MAX_TEXT_BYTES {
            return Err(fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).expect("only ASCII is pushed"))
    }
}
