//! One command: its row of the table and its arguments; and its bytes in the log and on the wire.
//!
//! ```text
//! offset 0  id     u16            of the table
//!        2  count  u32            arguments, the name not included
//!        6  ends   u32 x count    where each argument ends, counted from the first argument's first byte
//!           the arguments, one after the other
//! ```
//! All numbers are little-endian. The name itself is not sent: after decoding, argument 0 is empty.

use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keypact_resp::{Arguments, ErrorReply, Span};
use smallvec::SmallVec;

use crate::table::{self, CommandId, Flags, Spec};

const HEADER_BYTES: usize = 6;
/// As much of the arguments as an error about an unknown command repeats.
const MAX_ECHO_BYTES: usize = 128;

/// A command whose name is known and whose number of arguments is right.
#[derive(Clone)]
pub struct Command {
    spec: &'static Spec,
    arguments: Arguments,
}

impl Command {
    /// Finds the command of these arguments. Allocates nothing unless it fails.
    ///
    /// # Errors
    /// As Redis says it: no such command or subcommand, or a wrong number of arguments.
    #[inline]
    pub fn parse(arguments: Arguments) -> Result<Command, ErrorReply> {
        let name = arguments.get(0).unwrap_or_default();
        let Some(mut spec) = table::find(name) else { return Err(unknown(name, &arguments)) };
        if !spec.takes(arguments.len()) {
            return Err(wrong_arity(spec));
        }
        if let Some(sub) = arguments.get(1)
            && spec.flags.contains(Flags::CONTAINER)
        {
            spec = table::find_subcommand(spec.name, sub).ok_or_else(|| unknown_sub(spec, sub))?;
            if !spec.takes(arguments.len()) {
                return Err(wrong_arity(spec));
            }
        }
        Ok(Command { spec, arguments })
    }

    /// Its number in the table.
    #[inline]
    pub fn id(&self) -> CommandId {
        self.spec.id
    }

    /// Its row of the table.
    #[inline]
    pub fn spec(&self) -> &'static Spec {
        self.spec
    }

    /// Its arguments. Argument 0 is the name as the client wrote it, or empty after [`Command::decode`].
    #[inline]
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// Argument `index`, counted from the name.
    #[inline]
    pub fn argument(&self, index: usize) -> Option<&[u8]> {
        self.arguments.get(index)
    }

    /// Its keys, in order, one named twice comes twice.
    #[inline]
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let indices = self.spec.key_indices(self.arguments.len());
        indices.map(|index| self.arguments.get(index).expect("key indices are below the count"))
    }

    /// How many bytes [`Command::encode`] adds. O(arguments).
    pub fn encoded_len(&self) -> usize {
        let count = self.arguments.len().saturating_sub(1);
        let bytes: usize = self.arguments.iter().skip(1).map(<[u8]>::len).sum();
        HEADER_BYTES + 4 * count + bytes
    }

    /// Appends its bytes to `out`.
    ///
    /// # Panics
    /// If all arguments together have 4 GiB or more; the parser's limits are far below.
    pub fn encode(&self, out: &mut BytesMut) {
        let length = self.encoded_len();
        let before = out.len();
        out.reserve(length);
        out.put_u16_le(self.spec.id.0);
        out.put_u32_le(u32::try_from(self.arguments.len().saturating_sub(1)).expect("bounded by the parser"));
        let mut end = 0u32;
        for argument in self.arguments.iter().skip(1) {
            let argument_bytes = u32::try_from(argument.len()).expect("a command has less than 4 GiB");
            end = end.checked_add(argument_bytes).expect("a command has less than 4 GiB");
            out.put_u32_le(end);
        }
        for argument in self.arguments.iter().skip(1) {
            out.extend_from_slice(argument);
        }
        assert!(out.len() - before == length, "encoded_len tells what encode writes");
    }

    /// Reads a whole command, sharing `bytes`. O(arguments).
    ///
    /// # Errors
    /// [`DecodeError`] on anything that [`Command::encode`] can't have written.
    pub fn decode(bytes: Bytes) -> Result<Command, DecodeError> {
        let mut header = bytes.get(..HEADER_BYTES).ok_or(DecodeError::CutOff)?;
        let id = CommandId(header.get_u16_le());
        let count = header.get_u32_le() as usize;
        let spec = table::by_id(id).ok_or(DecodeError::UnknownCommand(id.0))?;
        if bytes.len() > u32::MAX as usize {
            return Err(DecodeError::TooBig);
        }
        // Checked before anything is allocated by it.
        let room = (bytes.len() - HEADER_BYTES) / 4;
        if count > room {
            return Err(DecodeError::CutOff);
        }
        if !spec.takes(count + 1) {
            return Err(DecodeError::WrongArity(id.0));
        }
        let start = HEADER_BYTES + 4 * count;
        let mut spans: SmallVec<[Span; 6]> = SmallVec::with_capacity(count + 1);
        spans.push((0, 0));
        let mut from = start;
        for mut field in bytes[HEADER_BYTES..start].chunks_exact(4) {
            let to = start + field.get_u32_le() as usize;
            if to < from || to > bytes.len() {
                return Err(DecodeError::BadOffset);
            }
            spans.push((from as u32, (to - from) as u32));
            from = to;
        }
        if from != bytes.len() {
            return Err(DecodeError::BadOffset);
        }
        Ok(Command { spec, arguments: Arguments { buffer: bytes, spans } })
    }
}

impl PartialEq for Command {
    /// Without the name as it was written, which is not kept.
    fn eq(&self, other: &Command) -> bool {
        self.spec.id == other.spec.id
            && self.arguments.len() == other.arguments.len()
            && self.arguments.iter().skip(1).eq(other.arguments.iter().skip(1))
    }
}

impl Eq for Command {}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec.name)?;
        for argument in self.arguments.iter().skip(1) {
            write!(f, " \"{}\"", argument[..argument.len().min(64)].escape_ascii())?;
        }
        Ok(())
    }
}

/// Bytes that are no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// They end too early.
    CutOff,
    /// They have 4 GiB or more.
    TooBig,
    /// No command has this number; a newer version may know it.
    UnknownCommand(u16),
    /// This command takes another number of arguments.
    WrongArity(u16),
    /// The arguments overlap or do not fill the bytes.
    BadOffset,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::CutOff => f.write_str("command is cut off"),
            DecodeError::TooBig => f.write_str("command has 4 GiB or more"),
            DecodeError::UnknownCommand(id) => write!(f, "no command has number {id}"),
            DecodeError::WrongArity(id) => write!(f, "command {id} takes another number of arguments"),
            DecodeError::BadOffset => f.write_str("arguments overlap or do not fill the command"),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cold]
fn unknown(name: &[u8], arguments: &Arguments) -> ErrorReply {
    let mut text = format!("unknown command '{}', with args beginning with: ", printed(name, MAX_ECHO_BYTES));
    let mut echoed = 0;
    for argument in arguments.iter().skip(1) {
        if echoed >= MAX_ECHO_BYTES {
            break;
        }
        let shown = printed(argument, MAX_ECHO_BYTES - echoed);
        // Quotes and space count, as they do in Redis.
        echoed += shown.len() + 3;
        text.push('\'');
        text.push_str(&shown);
        text.push_str("' ");
    }
    ErrorReply::err(text)
}

#[cold]
fn unknown_sub(spec: &Spec, sub: &[u8]) -> ErrorReply {
    let container = spec.name.to_ascii_uppercase();
    ErrorReply::err(format!("unknown subcommand '{}'. Try {container} HELP.", printed(sub, MAX_ECHO_BYTES)))
}

#[cold]
fn wrong_arity(spec: &Spec) -> ErrorReply {
    ErrorReply::err(format!("wrong number of arguments for '{}' command", spec.name))
}

/// At most `limit` bytes of client text, up to a zero byte, where C strings end.
fn printed(text: &[u8], limit: usize) -> String {
    let end = text.iter().take(limit).position(|&byte| byte == 0).unwrap_or(text.len().min(limit));
    String::from_utf8_lossy(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests;
