//! RESP2 and RESP3: the Redis protocol, both directions, without I/O.
//!
//! ```text
//! client bytes -> CommandParser -> Arguments ...... server side
//!                                  Value -> encode -> bytes
//! client side ... encode_command -> bytes;  bytes -> ValueParser -> Value
//! ```
//!
//! Both parsers take a growing [`bytes::BytesMut`], answer `Ok(None)` while something is missing, and go on from
//! where they stopped: the work over any split of a stream is linear in its bytes. What they allocate is bounded
//! by what has arrived, never by a length that the peer merely announced; [`Limits`] bounds the rest.
//! A [`ProtocolError`] is final: each later call returns it again, and the connection has to be closed.
//!
//! Sources: the RESP specification (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), and for
//! error texts and limits the behaviour of Redis 7.0.
#![no_std]

extern crate alloc;

mod arguments;
mod command;
mod decode;
mod double;
mod encode;
mod error;
mod inline;
mod limits;
mod number;
mod value;

pub use arguments::{Arguments, Span};
pub use command::CommandParser;
pub use decode::ValueParser;
pub use double::DoubleText;
pub use encode::{Version, encode_bulk, encode_command};
pub use error::ProtocolError;
pub use limits::{Limits, MAX_DEPTH};
pub use value::{Bulks, ErrorReply, Value};
