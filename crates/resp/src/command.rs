//! What clients send: arrays of bulk strings, and inline commands.

use bytes::{Buf, BytesMut};
use core::mem;
use memchr::memchr;
use smallvec::SmallVec;

#[cfg(test)]
use crate::number::MAX_EXAMINED_BYTES;
use crate::number::{LengthError, length_line};
use crate::{Arguments, Limits, ProtocolError, Span, inline};

/// Bytes of the shortest argument, `$0\r\n\r\n`: what has arrived bounds the arguments in it.
const MIN_ARGUMENT_BYTES: usize = 6;

/// Below this the connection's own growth is good enough.
const RESERVE_FROM_BYTES: usize = 4096;

/// Finds commands in a growing buffer.
///
/// On an incomplete command it keeps the arguments found so far, relative to the start of the buffer; only the line
/// with a length, at most 34 bytes, is read again. So any split of a stream costs time linear in its bytes.
///
/// Limits take effect at the next length read: a server that raises them after `AUTH` has to do so before it asks
/// for the next command.
#[derive(Debug)]
pub struct CommandParser {
    limits: Limits,
    state: State,
    /// Bytes at the start of the input that are dealt with; 0 between commands.
    position: usize,
    /// Arguments still to come.
    missing: usize,
    spans: SmallVec<[Span; 6]>,
    #[cfg(test)]
    examined: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    /// At the `$` of an argument.
    Header,
    /// At the first byte of an argument of this length.
    Bulk(usize),
    Failed(ProtocolError),
}

impl CommandParser {
    /// A parser at the start of a stream.
    ///
    /// # Panics
    /// If the limits contradict each other (see [`Limits`]).
    pub fn new(limits: Limits) -> Self {
        limits.assert_valid();
        Self {
            limits,
            state: State::Start,
            position: 0,
            missing: 0,
            spans: SmallVec::new(),
            #[cfg(test)]
            examined: 0,
        }
    }

    /// Replaces the limits.
    ///
    /// # Panics
    /// If the limits contradict each other (see [`Limits`]).
    pub fn set_limits(&mut self, limits: Limits) {
        limits.assert_valid();
        self.limits = limits;
    }

    /// The next command, taken off the front of `input`; `None` if more bytes are needed.
    ///
    /// Between calls bytes may be added to `input`, but none removed. A command in an array shares the memory of
    /// `input`; an inline command is copied. Room for a large argument that is on its way is reserved in `input`,
    /// at most as much as has arrived. Empty lines and empty arrays are skipped.
    ///
    /// # Errors
    /// [`ProtocolError`]: final, and returned again by each later call.
    #[inline]
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Arguments>, ProtocolError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
            self.spans = SmallVec::new();
        }
        result
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Arguments>, ProtocolError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        assert!(self.position <= input.len(), "bytes of a command in progress were removed from the input");
        while let State::Start = self.state {
            match input.first() {
                None => return Ok(None),
                Some(b'*') => {
                    if !self.array_header(input)? {
                        return Ok(None);
                    }
                }
                Some(_) => match self.inline(input)? {
                    Line::Incomplete => return Ok(None),
                    Line::Blank => {}
                    Line::Command(arguments) => return Ok(Some(arguments)),
                },
            }
        }
        if !self.bulks(input)? {
            self.reserve(input);
            return Ok(None);
        }
        Ok(Some(self.finish(input)))
    }

    /// Reads `*<count>\r\n`; false if it is not whole.
    fn array_header(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        assert!(self.position == 0 && self.spans.is_empty(), "a command starts afresh");
        self.examine(input.len());
        let Some((count, used)) = length_line(&input[1..]).map_err(LengthError::of_count)? else {
            return Ok(false);
        };
        if count <= 0 {
            input.advance(1 + used);
            return Ok(true);
        }
        self.missing = match usize::try_from(count) {
            Ok(count) if count <= self.limits.max_arguments => count,
            _ => return Err(self.limits.too_many_arguments()),
        };
        assert!(self.missing > 0, "a command without arguments is skipped");
        self.position = 1 + used;
        assert!(self.position <= input.len(), "the header lies in the input");
        self.spans.reserve(self.missing.min((input.len() - self.position) / MIN_ARGUMENT_BYTES));
        self.state = State::Header;
        Ok(true)
    }

    /// Reads arguments until none is missing; false if the input ends before that.
    fn bulks(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let length = match self.state {
                State::Bulk(length) => length,
                _ => {
                    self.examine(input.len() - self.position);
                    match self.bulk_header(&input[self.position..])? {
                        None => return Ok(false),
                        Some(length) => length,
                    }
                }
            };
            let end = self.position + length;
            match input.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ExpectedLineEnd),
                None => {
                    self.state = State::Bulk(length);
                    return Ok(false);
                }
            }
            self.spans.push((self.position as u32, length as u32));
            self.position = end + 2;
            self.missing -= 1;
            self.state = State::Header;
        }
        Ok(true)
    }

    /// Reads `$<length>\r\n` at the start of `rest` and moves past it.
    #[inline]
    fn bulk_header(&mut self, rest: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match rest.first() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        let Some((length, used)) = length_line(&rest[1..]).map_err(LengthError::of_bulk)? else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if length > self.limits.max_bulk_bytes {
            return Err(self.limits.too_long_bulk());
        }
        self.position += 1 + used;
        if self.position + length + 2 > self.limits.max_command_bytes {
            return Err(ProtocolError::TooBig);
        }
        assert!(length <= u32::MAX as usize, "argument lengths have 32 bits");
        Ok(Some(length))
    }

    fn finish(&mut self, input: &mut BytesMut) -> Arguments {
        assert!(self.position <= u32::MAX as usize, "argument offsets have 32 bits");
        assert!(self.missing == 0 && !self.spans.is_empty(), "only a whole command is taken off the input");
        let buffer = input.split_to(self.position).freeze();
        self.position = 0;
        self.state = State::Start;
        let arguments = Arguments { buffer, spans: mem::take(&mut self.spans) };
        arguments.assert_invariants();
        arguments
    }

    /// Makes room for the rest of a large argument, at most doubling the input: who announces much and sends
    /// nothing gets nothing.
    fn reserve(&self, input: &mut BytesMut) {
        if let State::Bulk(length) = self.state {
            let needed = self.position + length + 2 - input.len();
            if needed > RESERVE_FROM_BYTES {
                input.reserve(needed.min(input.len()));
            }
        }
    }

    fn inline(&mut self, input: &mut BytesMut) -> Result<Line, ProtocolError> {
        assert!(self.missing == 0 && self.spans.is_empty(), "a line is no part of an array");
        let max = self.limits.max_inline_bytes;
        // The limits may have been lowered while the line was arriving.
        let seen = &input[self.position..input.len().min(max + 2).max(self.position)];
        let found = memchr(b'\n', seen);
        #[cfg(test)]
        {
            self.examined += found.map_or(seen.len(), |found| found + 1);
        }
        let Some(end) = found.map(|found| self.position + found) else {
            if input.len() >= max + 2 {
                return Err(ProtocolError::TooBigInlineRequest);
            }
            self.position = input.len();
            return Ok(Line::Incomplete);
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        if line.len() > max {
            return Err(ProtocolError::TooBigInlineRequest);
        }
        let arguments = inline::split(line)?;
        self.position = 0;
        input.advance(end + 1);
        let Some(arguments) = arguments else {
            return Ok(Line::Blank);
        };
        if inline::is_http(&arguments) {
            return Err(ProtocolError::HttpRequest);
        }
        if arguments.len() > self.limits.max_arguments {
            return Err(self.limits.too_many_arguments());
        }
        arguments.assert_invariants();
        Ok(Line::Command(arguments))
    }

    /// Accounts for one reading of a line with a length, so that tests can show that work is linear.
    #[inline]
    fn examine(&mut self, available: usize) {
        #[cfg(test)]
        {
            self.examined += available.min(MAX_EXAMINED_BYTES + 1);
        }
        #[cfg(not(test))]
        let _ = available;
    }
}

enum Line {
    Incomplete,
    Blank,
    Command(Arguments),
}

#[cfg(test)]
mod tests;
