//! Inline commands: one line typed by a person, with Redis' quoting rules.

use bytes::BytesMut;
use smallvec::SmallVec;

use crate::{Arguments, ProtocolError};

/// Splits `line` (without its line end) into arguments; `None` if it is blank.
///
/// - `"..."` knows `\n \r \t \b \a`, `\xHH`, and any other escaped byte as itself; `'...'` knows only `\'`.
/// - A quote may open within a word (`a"b c"` is one argument), but after it closes a space or the end must follow.
/// - A NUL byte is a byte like any other. (Redis waits for more until the line is too long.)
pub(crate) fn split(line: &[u8]) -> Result<Option<Arguments>, ProtocolError> {
    let mut words = Words { rest: line, buffer: BytesMut::with_capacity(line.len()) };
    let mut spans = SmallVec::new();
    while words.skip_blanks() {
        let start = words.buffer.len();
        let left = words.rest.len();
        words.word()?;
        assert!(words.rest.len() < left, "each word takes a byte at least, so the loop ends");
        spans.push((start as u32, (words.buffer.len() - start) as u32));
    }
    assert!(words.buffer.len() <= line.len(), "unquoting never makes a line longer");
    if spans.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arguments { buffer: words.buffer.freeze(), spans }))
}

/// Whether a browser sent this: the first line of an HTTP request with a body, or a header that each request has.
pub(crate) fn is_http(arguments: &Arguments) -> bool {
    let name = arguments.get(0).unwrap_or_default();
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

struct Words<'a> {
    rest: &'a [u8],
    buffer: BytesMut,
}

impl Words<'_> {
    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn push(&mut self, byte: u8) {
        self.buffer.extend_from_slice(&[byte]);
    }

    /// Whether a word follows.
    fn skip_blanks(&mut self) -> bool {
        while self.rest.first().is_some_and(|&byte| is_blank(byte)) {
            self.rest = &self.rest[1..];
        }
        !self.rest.is_empty()
    }

    fn word(&mut self) -> Result<(), ProtocolError> {
        while let Some(byte) = self.take() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => return Ok(()),
                b'"' => return self.double_quoted(),
                b'\'' => return self.single_quoted(),
                _ => self.push(byte),
            }
        }
        Ok(())
    }

    fn double_quoted(&mut self) -> Result<(), ProtocolError> {
        loop {
            match self.take().ok_or(ProtocolError::UnbalancedQuotes)? {
                b'"' => return self.after_quote(),
                b'\\' => {
                    let byte = self.escape().ok_or(ProtocolError::UnbalancedQuotes)?;
                    self.push(byte);
                }
                byte => self.push(byte),
            }
        }
    }

    fn single_quoted(&mut self) -> Result<(), ProtocolError> {
        loop {
            match self.take().ok_or(ProtocolError::UnbalancedQuotes)? {
                b'\'' => return self.after_quote(),
                b'\\' if self.rest.first() == Some(&b'\'') => {
                    self.rest = &self.rest[1..];
                    self.push(b'\'');
                }
                byte => self.push(byte),
            }
        }
    }

    fn after_quote(&self) -> Result<(), ProtocolError> {
        if self.rest.first().is_none_or(|&byte| is_blank(byte)) {
            Ok(())
        } else {
            Err(ProtocolError::UnbalancedQuotes)
        }
    }

    /// The byte that an escape stands for; the backslash is already taken.
    fn escape(&mut self) -> Option<u8> {
        if let [b'x', high, low, rest @ ..] = self.rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.rest = rest;
            return Some(high * 16 + low);
        }
        Some(match self.take()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'a' => 0x07,
            byte => byte,
        })
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
