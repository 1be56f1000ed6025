//! Replies.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use bytes::{Buf, Bytes, BytesMut};
use core::fmt;

/// One reply, or a push message. [`Value::encode`](Value::encode) writes it in either version of the protocol.
///
/// `Simple` and `Status` are equal if their texts are: they differ only in who owns the text.
#[derive(Clone, Debug)]
pub enum Value {
    /// `+`: a simple string of the program. The decoder uses it for `OK` and `PONG`.
    Simple(&'static str),
    /// `+`: a simple string that was received or computed. Line ends in it are sent as spaces.
    Status(Bytes),
    /// `-`, and `!` when received.
    Error(ErrorReply),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Bytes),
    /// The missing string: `$-1` in RESP2, `_` in RESP3.
    Null,
    /// The missing array: `*-1` in RESP2, `_` in RESP3.
    NullArray,
    /// `*`
    Array(Vec<Value>),
    /// `*` of bulk strings, encoded already: for lists so long that a value for each element would cost too much. The
    /// decoder never gives it; it is equal to no other variant, not even to the same list as [`Value::Array`].
    Bulks(Bulks),
    /// `%`; a flat array in RESP2.
    Map(Vec<(Value, Value)>),
    /// `~`; an array in RESP2.
    Set(Vec<Value>),
    /// `,`; a bulk in RESP2.
    Double(f64),
    /// `#`; 1 or 0 in RESP2.
    Boolean(bool),
    /// `(`: an integer of any size in decimal digits; a bulk in RESP2.
    BigNumber(Bytes),
    /// `=`; a bulk without the format in RESP2.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text itself.
        text: Bytes,
    },
    /// `>`; an array in RESP2.
    Push(Vec<Value>),
}

/// A list of bulk strings in the form in which it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bulks {
    count: usize,
    /// [`HEAD_BYTES`] that are free for the array's head, then the strings; nothing at all if there are none.
    text: BytesMut,
}

/// The longest head of an array: type byte, 20 digits, CR LF.
const HEAD_BYTES: usize = 23;

impl Bulks {
    /// Adds a string, copying it.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!((self.count == 0) == self.text.is_empty(), "there is room for a head if there is a string");
        if self.text.is_empty() {
            self.text.resize(HEAD_BYTES, 0);
        }
        crate::encode_bulk(bytes, &mut self.text);
        self.count += 1;
    }

    /// A list of so many strings, as another one's [`Bulks::text`] says them.
    pub fn of_text(count: usize, strings: &[u8]) -> Bulks {
        if strings.is_empty() {
            return Bulks { count, text: BytesMut::new() };
        }
        let mut text = BytesMut::with_capacity(HEAD_BYTES + strings.len());
        text.resize(HEAD_BYTES, 0);
        text.extend_from_slice(strings);
        Bulks { count, text }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, encoded one behind the other, without the array's head.
    pub fn text(&self) -> &[u8] {
        self.text.get(HEAD_BYTES..).unwrap_or_default()
    }

    /// The whole reply, without a copy.
    pub fn into_reply(mut self) -> BytesMut {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        crate::encode::header(b'*', self.count, &mut head);
        if self.text.is_empty() {
            return head;
        }
        assert!(self.text.len() > HEAD_BYTES, "strings have bytes");
        assert!(head.len() <= HEAD_BYTES, "no count has more than 20 digits");
        let at = HEAD_BYTES - head.len();
        self.text[at..HEAD_BYTES].copy_from_slice(&head);
        self.text.advance(at);
        self.text
    }
}

impl Value {
    /// `+OK`
    pub const fn ok() -> Self {
        Self::Simple("OK")
    }

    /// A bulk string; from `Bytes` and `&'static [u8]` without a copy.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// An error reply with this code; without an allocation for `&'static str`.
    pub fn error(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(ErrorReply::new(code, message))
    }

    /// Whether it is `+OK`.
    pub fn is_ok(&self) -> bool {
        self.as_status() == Some(b"OK")
    }

    /// Whether it is one of the two nulls, which RESP3 doesn't tell apart.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::NullArray)
    }

    /// The text of a simple string.
    pub fn as_status(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Status(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of a bulk, verbatim or simple string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) | Self::Verbatim { text: bytes, .. } => Some(bytes),
            _ => self.as_status(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Simple(_) | Self::Status(_), _) => self.as_status() == other.as_status(),
            (Self::Error(a), Self::Error(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Bulk(a), Self::Bulk(b)) => a == b,
            (Self::Null, Self::Null) | (Self::NullArray, Self::NullArray) => true,
            (Self::Bulks(a), Self::Bulks(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Array(a), Self::Array(b))
            | (Self::Set(a), Self::Set(b))
            | (Self::Push(a), Self::Push(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a == b,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::BigNumber(a), Self::BigNumber(b)) => a == b,
            (Self::Verbatim { format, text }, Self::Verbatim { format: other_format, text: other_text }) => {
                format == other_format && text == other_text
            }
            _ => false,
        }
    }
}

impl From<ErrorReply> for Value {
    fn from(error: ErrorReply) -> Self {
        Self::Error(error)
    }
}

/// An error as the client sees it: `CODE message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// What programs look at: `ERR`, `WRONGTYPE`, `MOVED` ..
    pub code: Cow<'static, str>,
    /// What people read; may be empty.
    pub message: Cow<'static, str>,
}

impl ErrorReply {
    /// An error with this code; no allocation for `&'static str`.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// An error with the code `ERR`.
    pub fn err(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("ERR", message)
    }

    /// The same for constants.
    pub const fn fixed(code: &'static str, message: &'static str) -> Self {
        Self { code: Cow::Borrowed(code), message: Cow::Borrowed(message) }
    }

    /// Splits received text at the first space. What is not UTF-8 is replaced.
    pub(crate) fn from_text(text: &[u8]) -> Self {
        let text = alloc::string::String::from_utf8_lossy(text);
        match text.split_once(' ') {
            Some((code, message)) => Self::new(Cow::Owned(code.into()), Cow::Owned(message.into())),
            None => Self::new(Cow::Owned(text.into_owned()), ""),
        }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.message)
    }
}

impl core::error::Error for ErrorReply {}
