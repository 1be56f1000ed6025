//! What one peer may make us hold.

use crate::ProtocolError;

/// How deep arrays, maps, sets, pushes and attributes may nest, in both directions.
pub const MAX_DEPTH: usize = 32;

/// Bounds on one command, or on one reply when given to a [`ValueParser`](crate::ValueParser).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of a command; elements of one aggregate in a reply (a map pair counts as two).
    pub max_arguments: usize,
    /// Length of one bulk string, in bytes.
    pub max_bulk_bytes: usize,
    /// Length of an inline command, or of a simple string, error or number in a reply, in bytes without the line end.
    pub max_inline_bytes: usize,
    /// Length of a whole command or reply with its framing, in bytes; at most `u32::MAX`, as offsets have 32 bits.
    pub max_command_bytes: usize,
    /// Whether the peer has authenticated; it only chooses the text of the errors, as Redis does.
    pub authenticated: bool,
}

impl Limits {
    /// What a client may send before `AUTH`: 10 arguments of 16 KiB, as in Redis.
    pub const fn before_authentication() -> Self {
        Self {
            max_arguments: 10,
            max_bulk_bytes: 16 * 1024,
            max_inline_bytes: 64 * 1024,
            max_command_bytes: 11 * 16 * 1024,
            authenticated: false,
        }
    }

    pub(crate) fn too_many_arguments(&self) -> ProtocolError {
        match self.authenticated {
            true => ProtocolError::InvalidMultibulkLength,
            false => ProtocolError::UnauthenticatedMultibulkLength,
        }
    }

    pub(crate) fn too_long_bulk(&self) -> ProtocolError {
        match self.authenticated {
            true => ProtocolError::InvalidBulkLength,
            false => ProtocolError::UnauthenticatedBulkLength,
        }
    }

    pub(crate) fn assert_valid(&self) {
        assert!(self.max_command_bytes <= u32::MAX as usize, "argument offsets have 32 bits");
        assert!(self.max_inline_bytes <= self.max_command_bytes, "an inline command is a command");
        assert!(self.max_arguments > 0, "a command has a name");
    }
}

impl Default for Limits {
    /// 1,048,576 arguments, 16 MiB in one bulk, 64 KiB inline, 64 MiB in all.
    fn default() -> Self {
        Self {
            max_arguments: 1024 * 1024,
            max_bulk_bytes: 16 * 1024 * 1024,
            max_inline_bytes: 64 * 1024,
            max_command_bytes: 64 * 1024 * 1024,
            authenticated: true,
        }
    }
}
