//! Commands on their way into a log: encoded once, with room in front for the header that the protocol adds.

use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Room left in front of a command, in bytes. A log entry's header fills exactly this.
pub const HEADROOM_BYTES: usize = 45;

/// An encoded command with [`HEADROOM_BYTES`] of room in front.
#[derive(Clone)]
pub struct Draft {
    bytes: BytesMut,
}

impl Draft {
    /// A draft of its own, for tests and small internal commands. Hot paths use a [`DraftArena`].
    #[must_use]
    pub fn copy_of(command: &[u8]) -> Draft {
        let mut bytes = BytesMut::with_capacity(HEADROOM_BYTES + command.len());
        bytes.put_bytes(0, HEADROOM_BYTES);
        bytes.put_slice(command);
        Draft { bytes }
    }

    /// Length of the command alone, in bytes.
    #[must_use]
    pub fn command_len(&self) -> usize {
        self.bytes.len() - HEADROOM_BYTES
    }

    /// The command alone.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        &self.bytes[HEADROOM_BYTES..]
    }

    /// Fills the room in front and seals the whole. `header` sees header and command.
    #[must_use]
    pub fn seal(mut self, header: impl FnOnce(&mut [u8])) -> Bytes {
        header(&mut self.bytes);
        self.bytes.freeze()
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} bytes)", self.command_len())
    }
}

/// One growing buffer from which drafts are split off, so that a command costs no allocation of its own.
#[derive(Debug, Default)]
pub struct DraftArena {
    buffer: BytesMut,
}

/// How much is taken from the allocator at a time.
const ARENA_BYTES: usize = 64 * 1024;

impl DraftArena {
    /// Encodes a command. `len_hint` is its expected length in bytes; `encode` may write more or less.
    pub fn draft(&mut self, len_hint: usize, encode: impl FnOnce(&mut BytesMut)) -> Draft {
        assert!(self.buffer.is_empty(), "the draft before this one was split off");
        let need = HEADROOM_BYTES + len_hint;
        if self.buffer.capacity() < need {
            self.buffer.reserve(need.max(ARENA_BYTES));
        }
        self.buffer.put_bytes(0, HEADROOM_BYTES);
        encode(&mut self.buffer);
        assert!(self.buffer.len() >= HEADROOM_BYTES, "the encoder only appends");
        Draft { bytes: self.buffer.split() }
    }
}
