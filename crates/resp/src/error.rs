//! Why a byte stream is not RESP.

use core::fmt;

use crate::{ErrorReply, Value};

/// The peer broke the protocol. Final: the connection has to be closed, after [`ProtocolError::reply`] on a server.
///
/// `Display` gives Redis' own text where Redis has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The count of an aggregate is not a number or over the limit.
    InvalidMultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    UnauthenticatedMultibulkLength,
    /// No line end where a count has to end.
    TooBigMultibulkCount,
    /// An argument does not begin with `$`, but with this byte.
    ExpectedBulk(u8),
    /// The length of a bulk is not a number, negative or over the limit.
    InvalidBulkLength,
    /// A longer argument than a client may send before it has authenticated.
    UnauthenticatedBulkLength,
    /// No line end where the length of a bulk has to end.
    TooBigBulkCount,
    /// An inline command without an end within the limit.
    TooBigInlineRequest,
    /// Quotes of an inline command that do not close, or close before something else than a space.
    UnbalancedQuotes,
    /// CR without LF, or a bulk that does not end where its length says.
    ExpectedLineEnd,
    /// A whole command or reply over the limit.
    TooBig,
    /// The peer speaks HTTP (`POST ..` or `Host: ..`): probably a browser made to send commands to us.
    /// To be closed without an answer.
    HttpRequest,
    /// A reply begins with this byte, which no type has.
    UnknownType(u8),
    /// A streamed aggregate or string (`*?`, `$?`, `;`, `.`), which Redis never sends.
    Streamed,
    /// A simple string, error or number without an end within the limit.
    TooBigLine,
    /// Aggregates nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep,
    /// `:` without a 64-bit integer.
    InvalidInteger,
    /// `,` without a number.
    InvalidDouble,
    /// `#` without `t` or `f`.
    InvalidBoolean,
    /// `_` with something behind it.
    InvalidNull,
    /// `(` without decimal digits.
    InvalidBigNumber,
    /// `=` without a format of three bytes and a colon.
    InvalidVerbatim,
}

impl ProtocolError {
    /// What a server says before it closes the connection; `None`: it closes without a word.
    pub fn reply(&self) -> Option<Value> {
        if *self == Self::HttpRequest {
            return None;
        }
        Some(Value::Error(ErrorReply::err(alloc::format!("{self}"))))
    }

    fn detail(&self) -> &'static str {
        match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigMultibulkCount => "too big mbulk count string",
            Self::ExpectedBulk(_) => "expected '$', got",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::TooBigInlineRequest => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::ExpectedLineEnd => "expected a line end",
            Self::TooBig => "too big request or reply",
            Self::HttpRequest => "HTTP instead of RESP",
            Self::UnknownType(_) => "unknown type",
            Self::Streamed => "streamed types are not supported",
            Self::TooBigLine => "too big line",
            Self::TooDeep => "nested too deep",
            Self::InvalidInteger => "invalid integer",
            Self::InvalidDouble => "invalid double",
            Self::InvalidBoolean => "invalid boolean",
            Self::InvalidNull => "invalid null",
            Self::InvalidBigNumber => "invalid big number",
            Self::InvalidVerbatim => "invalid verbatim string",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.detail())?;
        match self {
            Self::ExpectedBulk(byte) | Self::UnknownType(byte) => {
                write!(f, " '{}'", core::ascii::escape_default(*byte))
            }
            _ => Ok(()),
        }
    }
}

impl core::error::Error for ProtocolError {}
