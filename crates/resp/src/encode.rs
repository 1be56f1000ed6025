//! Values and commands to bytes.

use bytes::{BufMut, BytesMut};

use crate::{DoubleText, MAX_DEPTH, Value};

/// The protocol version of a connection. RESP2 until the client says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Five types.
    #[default]
    Resp2,
    /// Also maps, sets, doubles, booleans, big numbers, verbatim strings and pushes.
    Resp3,
}

/// Type byte, 20 digits with sign, CR LF.
const MAX_HEADER_BYTES: usize = 23;

impl Value {
    /// Appends this reply to `out`. What RESP2 lacks is mapped as Redis does (see each variant).
    ///
    /// Line ends within errors, simple strings and big numbers are written as spaces. Nothing is allocated beyond
    /// the growth of `out`.
    ///
    /// # Panics
    /// If aggregates nest deeper than [`MAX_DEPTH`]; no decoder would take it.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        match self {
            Self::Simple("OK") => out.extend_from_slice(b"+OK\r\n"),
            Self::Bulk(bytes) => encode_bulk(bytes, out),
            Self::Integer(number) => header(b':', *number, out),
            _ => self.encode_at(0, version, out),
        }
    }

    fn encode_at(&self, depth: usize, version: Version, out: &mut BytesMut) {
        let resp3 = version == Version::Resp3;
        match self {
            Self::Simple(text) => line(b"+", text.as_bytes(), out),
            Self::Status(text) => line(b"+", text, out),
            Self::Error(error) if error.message.is_empty() => line(b"-", error.code.as_bytes(), out),
            Self::Error(error) => {
                out.put_u8(b'-');
                one_line(error.code.as_bytes(), out);
                line(b" ", error.message.as_bytes(), out);
            }
            Self::Integer(number) => header(b':', *number, out),
            Self::Bulk(bytes) => encode_bulk(bytes, out),
            Self::Null | Self::NullArray if resp3 => out.extend_from_slice(b"_\r\n"),
            Self::Null => out.extend_from_slice(b"$-1\r\n"),
            Self::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Array(items) => elements(b'*', items, depth, version, out),
            Self::Bulks(bulks) => {
                header(b'*', bulks.len(), out);
                out.extend_from_slice(bulks.text());
            }
            Self::Set(items) => elements(if resp3 { b'~' } else { b'*' }, items, depth, version, out),
            Self::Push(items) => elements(if resp3 { b'>' } else { b'*' }, items, depth, version, out),
            Self::Map(pairs) => map(pairs, depth, version, out),
            Self::Double(number) if resp3 => line(b",", DoubleText::new(*number).as_bytes(), out),
            Self::Double(number) => encode_bulk(DoubleText::new(*number).as_bytes(), out),
            Self::Boolean(truth) if resp3 => {
                out.extend_from_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" })
            }
            Self::Boolean(truth) => header(b':', i64::from(*truth), out),
            Self::BigNumber(digits) if resp3 => line(b"(", digits, out),
            Self::BigNumber(digits) => encode_bulk(digits, out),
            Self::Verbatim { format, text } if resp3 => {
                header(b'=', text.len() + 4, out);
                out.extend_from_slice(format);
                out.put_u8(b':');
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Self::Verbatim { text, .. } => encode_bulk(text, out),
        }
    }
}

/// Appends `bytes` as a bulk string.
#[inline]
pub fn encode_bulk(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(MAX_HEADER_BYTES + bytes.len() + 2);
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a command as clients send it: an array of bulk strings.
///
/// # Panics
/// If there are no arguments: a server would skip that, and the reply never come.
pub fn encode_command(arguments: &[&[u8]], out: &mut BytesMut) {
    assert!(!arguments.is_empty(), "a command has a name");
    let total: usize = arguments.iter().map(|argument| MAX_HEADER_BYTES + argument.len() + 2).sum();
    out.reserve(MAX_HEADER_BYTES + total);
    header(b'*', arguments.len(), out);
    for argument in arguments {
        encode_bulk(argument, out);
    }
}

fn elements(kind: u8, items: &[Value], depth: usize, version: Version, out: &mut BytesMut) {
    assert!(depth < MAX_DEPTH, "a reply nests deeper than {MAX_DEPTH}");
    header(kind, items.len(), out);
    for item in items {
        item.encode_at(depth + 1, version, out);
    }
}

fn map(pairs: &[(Value, Value)], depth: usize, version: Version, out: &mut BytesMut) {
    assert!(depth < MAX_DEPTH, "a reply nests deeper than {MAX_DEPTH}");
    match version {
        Version::Resp2 => header(b'*', pairs.len() * 2, out),
        Version::Resp3 => header(b'%', pairs.len(), out),
    }
    for (key, value) in pairs {
        key.encode_at(depth + 1, version, out);
        value.encode_at(depth + 1, version, out);
    }
}

/// Appends `<kind><number>\r\n`.
#[inline]
pub(crate) fn header(kind: u8, number: impl itoa::Integer, out: &mut BytesMut) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    assert!(digits.len() + 3 <= MAX_HEADER_BYTES, "a 64-bit number");
    let mut text = [0; MAX_HEADER_BYTES];
    text[0] = kind;
    text[1..=digits.len()].copy_from_slice(digits);
    text[digits.len() + 1..][..2].copy_from_slice(b"\r\n");
    out.extend_from_slice(&text[..digits.len() + 3]);
}

fn line(prefix: &[u8], text: &[u8], out: &mut BytesMut) {
    out.reserve(prefix.len() + text.len() + 2);
    out.extend_from_slice(prefix);
    one_line(text, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends `text` with spaces for its line ends: they would let a key or a message forge the next reply.
fn one_line(text: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(text);
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'\r', b'\n', &out[at..]) {
        at += found;
        out[at] = b' ';
    }
    assert!(out.len() == start + text.len(), "line ends are replaced, not removed");
}
