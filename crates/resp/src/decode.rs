//! Bytes to values: the client's side.

use alloc::vec::Vec;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

#[cfg(test)]
use crate::number::MAX_EXAMINED_BYTES;
use crate::number::{LengthError, integer, length_line};
use crate::{ErrorReply, Limits, MAX_DEPTH, ProtocolError, Value};

/// Elements that the count of an outermost aggregate may reserve at once.
const MAX_RESERVED_ELEMENTS: usize = 1024;

/// The same for an aggregate in another: the same bytes may not reserve room at every depth.
const MAX_RESERVED_NESTED_ELEMENTS: usize = 8;

/// Bytes of the shortest element, `_\r\n`.
const MIN_ELEMENT_BYTES: usize = 3;

/// Below this the connection's own growth is good enough.
const RESERVE_FROM_BYTES: usize = 4096;

/// Finds replies in a growing buffer.
///
/// It takes each part of a reply off the buffer as soon as it is whole and keeps open aggregates on a stack of at
/// most [`MAX_DEPTH`], so nothing is read twice but a line with a length (34 bytes). An element takes a constant
/// times its bytes in memory (`_\r\n` becomes one [`Value`]); [`Limits::max_command_bytes`] bounds the whole.
#[derive(Debug)]
pub struct ValueParser {
    limits: Limits,
    stack: Vec<Frame>,
    /// A string whose length has been read.
    blob: Option<(Blob, usize)>,
    /// Bytes at the start of the input without a line end.
    scanned: usize,
    /// Bytes of the present reply already taken off the input.
    consumed: usize,
    failure: Option<ProtocolError>,
    #[cfg(test)]
    examined: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Blob {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Aggregate {
    Array,
    Map,
    Set,
    Push,
    Attribute,
}

#[derive(Debug)]
struct Frame {
    kind: Aggregate,
    missing: usize,
    items: Vec<Value>,
}

enum Element {
    Incomplete,
    /// An aggregate was opened, or an empty attribute skipped.
    Opened,
    Whole(Value),
}

impl ValueParser {
    /// A parser at the start of a stream.
    ///
    /// # Panics
    /// If the limits contradict each other (see [`Limits`]).
    pub fn new(limits: Limits) -> Self {
        limits.assert_valid();
        Self {
            limits,
            stack: Vec::new(),
            blob: None,
            scanned: 0,
            consumed: 0,
            failure: None,
            #[cfg(test)]
            examined: 0,
        }
    }

    /// The next reply or push, taken off the front of `input`; `None` if more bytes are needed.
    ///
    /// Between calls bytes may be added to `input`, but none removed. Strings share the memory of `input`.
    /// Attributes are skipped.
    ///
    /// # Errors
    /// [`ProtocolError`]: final, and returned again by each later call.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        let result = self.advance(input);
        if let Err(error) = result {
            self.failure = Some(error);
            self.stack = Vec::new();
        }
        assert!(self.stack.len() <= MAX_DEPTH, "aggregates nest to a limit");
        result
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        loop {
            match self.element(input)? {
                Element::Incomplete => return Ok(None),
                Element::Opened => {}
                Element::Whole(value) => {
                    if let Some(reply) = self.place(value) {
                        assert!(self.stack.is_empty() && self.blob.is_none(), "a reply leaves nothing open");
                        self.consumed = 0;
                        return Ok(Some(reply));
                    }
                }
            }
        }
    }

    /// Puts a value where it belongs and closes what it completes; the whole reply once nothing is open.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        while let Some(frame) = self.stack.last_mut() {
            assert!(frame.missing > 0, "a complete aggregate is closed at once");
            frame.missing -= 1;
            if frame.kind != Aggregate::Attribute {
                frame.items.push(value);
            }
            if frame.missing > 0 {
                return None;
            }
            let frame = self.stack.pop().expect("it was just the last one");
            if frame.kind == Aggregate::Attribute {
                return None;
            }
            value = close(frame.kind, frame.items);
        }
        Some(value)
    }

    fn element(&mut self, input: &mut BytesMut) -> Result<Element, ProtocolError> {
        if let Some((kind, length)) = self.blob {
            return self.blob(kind, length, input);
        }
        let Some(&kind) = input.first() else {
            return Ok(Element::Incomplete);
        };
        match kind {
            b'$' => self.blob_header(Blob::Bulk, input),
            b'!' => self.blob_header(Blob::Error, input),
            b'=' => self.blob_header(Blob::Verbatim, input),
            b'*' => self.aggregate(Aggregate::Array, input),
            b'%' => self.aggregate(Aggregate::Map, input),
            b'~' => self.aggregate(Aggregate::Set, input),
            b'>' => self.aggregate(Aggregate::Push, input),
            b'|' => self.aggregate(Aggregate::Attribute, input),
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => match self.line(input)? {
                None => Ok(Element::Incomplete),
                Some(text) => scalar(kind, text).map(Element::Whole),
            },
            b';' | b'.' => Err(ProtocolError::Streamed),
            other => Err(ProtocolError::UnknownType(other)),
        }
    }

    /// Takes a line off the input and returns it without type byte and line end.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, ProtocolError> {
        // The type byte, the text, CR LF.
        let max = self.limits.max_inline_bytes + 3;
        assert!(self.scanned <= input.len(), "bytes of a line in progress were removed from the input");
        let seen = &input[self.scanned..input.len().min(max).max(self.scanned)];
        let found = memchr(b'\n', seen);
        #[cfg(test)]
        {
            self.examined += found.map_or(seen.len(), |found| found + 1);
        }
        let Some(end) = found.map(|found| self.scanned + found) else {
            if input.len() >= max {
                return Err(ProtocolError::TooBigLine);
            }
            self.scanned = input.len();
            return Ok(None);
        };
        // A CR elsewhere would be a line end to some readers and text to others.
        if memchr(b'\r', &input[..end]) != Some(end - 1) {
            return Err(ProtocolError::ExpectedLineEnd);
        }
        assert!(end >= 2, "the type byte comes before CR LF");
        self.scanned = 0;
        self.consume(end + 1)?;
        let mut line = input.split_to(end + 1).freeze();
        line.truncate(end - 1);
        line.advance(1);
        Ok(Some(line))
    }

    fn blob_header(&mut self, kind: Blob, input: &mut BytesMut) -> Result<Element, ProtocolError> {
        #[cfg(test)]
        {
            self.examined += input.len().min(MAX_EXAMINED_BYTES + 1);
        }
        if input.get(1) == Some(&b'?') {
            return Err(ProtocolError::Streamed);
        }
        let Some((length, used)) = length_line(&input[1..]).map_err(LengthError::of_bulk)? else {
            return Ok(Element::Incomplete);
        };
        if length == -1 && kind == Blob::Bulk {
            self.consume(1 + used)?;
            input.advance(1 + used);
            return Ok(Element::Whole(Value::Null));
        }
        let length = usize::try_from(length).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if length > self.limits.max_bulk_bytes {
            return Err(ProtocolError::InvalidBulkLength);
        }
        assert!(self.blob.is_none(), "strings do not nest");
        self.consume(1 + used + length + 2)?;
        input.advance(1 + used);
        self.blob = Some((kind, length));
        self.blob(kind, length, input)
    }

    fn blob(&mut self, kind: Blob, length: usize, input: &mut BytesMut) -> Result<Element, ProtocolError> {
        match input.get(length..length + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(ProtocolError::ExpectedLineEnd),
            None => {
                let needed = length + 2 - input.len();
                if needed > RESERVE_FROM_BYTES {
                    input.reserve(needed.min(input.len()));
                }
                return Ok(Element::Incomplete);
            }
        }
        assert!(length <= self.consumed, "the string was accounted for with its header");
        let bytes = input.split_to(length).freeze();
        input.advance(2);
        self.blob = None;
        Ok(Element::Whole(match kind {
            Blob::Bulk => Value::Bulk(bytes),
            Blob::Error => Value::Error(ErrorReply::from_text(&bytes)),
            Blob::Verbatim => verbatim(bytes)?,
        }))
    }

    fn aggregate(&mut self, kind: Aggregate, input: &mut BytesMut) -> Result<Element, ProtocolError> {
        #[cfg(test)]
        {
            self.examined += input.len().min(MAX_EXAMINED_BYTES + 1);
        }
        if input.get(1) == Some(&b'?') {
            return Err(ProtocolError::Streamed);
        }
        let Some((count, used)) = length_line(&input[1..]).map_err(LengthError::of_count)? else {
            return Ok(Element::Incomplete);
        };
        self.consume(1 + used)?;
        input.advance(1 + used);
        if count == -1 && kind == Aggregate::Array {
            return Ok(Element::Whole(Value::NullArray));
        }
        let count = usize::try_from(count).map_err(|_| ProtocolError::InvalidMultibulkLength)?;
        let per_entry = if matches!(kind, Aggregate::Map | Aggregate::Attribute) { 2 } else { 1 };
        let missing = match count.checked_mul(per_entry) {
            Some(missing) if missing <= self.limits.max_arguments => missing,
            _ => return Err(ProtocolError::InvalidMultibulkLength),
        };
        if self.stack.len() >= MAX_DEPTH {
            return Err(ProtocolError::TooDeep);
        }
        if missing > 0 {
            let bound =
                if self.stack.is_empty() { MAX_RESERVED_ELEMENTS } else { MAX_RESERVED_NESTED_ELEMENTS };
            let reserved = missing.min(input.len() / MIN_ELEMENT_BYTES).min(bound);
            assert!(reserved <= missing, "room for what was announced at most");
            self.stack.push(Frame { kind, missing, items: Vec::with_capacity(reserved) });
            return Ok(Element::Opened);
        }
        match kind {
            Aggregate::Attribute => Ok(Element::Opened),
            _ => Ok(Element::Whole(close(kind, Vec::new()))),
        }
    }

    /// Accounts for bytes of the present reply.
    fn consume(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        self.consumed += bytes;
        if self.consumed > self.limits.max_command_bytes {
            return Err(ProtocolError::TooBig);
        }
        Ok(())
    }
}

fn close(kind: Aggregate, items: Vec<Value>) -> Value {
    match kind {
        Aggregate::Array => Value::Array(items),
        Aggregate::Set => Value::Set(items),
        Aggregate::Push => Value::Push(items),
        Aggregate::Map => {
            assert!(items.len().is_multiple_of(2), "a map has a value for each key");
            let mut pairs = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Value::Map(pairs)
        }
        Aggregate::Attribute => unreachable!("attributes are skipped before they could be closed"),
    }
}

fn scalar(kind: u8, text: Bytes) -> Result<Value, ProtocolError> {
    match kind {
        b'+' => Ok(match &text[..] {
            b"OK" => Value::Simple("OK"),
            b"PONG" => Value::Simple("PONG"),
            _ => Value::Status(text),
        }),
        b'-' => Ok(Value::Error(ErrorReply::from_text(&text))),
        b':' => integer(&text).map(Value::Integer).ok_or(ProtocolError::InvalidInteger),
        b',' => double(&text).map(Value::Double).ok_or(ProtocolError::InvalidDouble),
        b'#' => match &text[..] {
            b"t" => Ok(Value::Boolean(true)),
            b"f" => Ok(Value::Boolean(false)),
            _ => Err(ProtocolError::InvalidBoolean),
        },
        b'_' if text.is_empty() => Ok(Value::Null),
        b'_' => Err(ProtocolError::InvalidNull),
        b'(' => {
            let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(&text);
            match !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
                true => Ok(Value::BigNumber(text)),
                false => Err(ProtocolError::InvalidBigNumber),
            }
        }
        _ => unreachable!("only types of one line come here"),
    }
}

fn double(text: &[u8]) -> Option<f64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn verbatim(mut bytes: Bytes) -> Result<Value, ProtocolError> {
    match bytes[..] {
        [a, b, c, b':', ..] => {
            bytes.advance(4);
            Ok(Value::Verbatim { format: [a, b, c], text: bytes })
        }
        _ => Err(ProtocolError::InvalidVerbatim),
    }
}

#[cfg(test)]
mod tests;
