//! One command, as offsets into the bytes that brought it.

use bytes::{Bytes, BytesMut};
use core::fmt;
use smallvec::SmallVec;

/// Offset and length of one argument in [`Arguments::buffer`], in bytes.
pub type Span = (u32, u32);

/// One client command: its name and arguments, all in one shared buffer.
///
/// Equality compares the arguments, not where they lie. Clones and slices share the buffer, and the buffer may
/// share the connection's read buffer: what is kept for long should be copied out.
#[derive(Clone, Default)]
pub struct Arguments {
    /// The bytes, framing included.
    pub buffer: Bytes,
    /// Where each argument lies in `buffer`.
    pub spans: SmallVec<[Span; 6]>,
}

impl Arguments {
    /// Copies `parts` into one new buffer.
    ///
    /// # Panics
    /// If the parts together have more than `u32::MAX` bytes.
    pub fn from_parts(parts: &[&[u8]]) -> Self {
        let total = parts.iter().map(|part| part.len()).sum();
        assert!(total <= u32::MAX as usize, "argument offsets have 32 bits");
        let mut buffer = BytesMut::with_capacity(total);
        let mut spans = SmallVec::with_capacity(parts.len());
        for part in parts {
            spans.push((buffer.len() as u32, part.len() as u32));
            buffer.extend_from_slice(part);
        }
        Self { buffer: buffer.freeze(), spans }
    }

    /// Number of arguments, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is nothing, not even a name. The parser never returns such a command.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`; the command's name is 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let &(offset, length) = self.spans.get(index)?;
        self.buffer.get(offset as usize..offset as usize + length as usize)
    }

    /// Argument `index` as a counted reference to the buffer; nothing is copied.
    ///
    /// # Panics
    /// If there is no such argument.
    pub fn slice(&self, index: usize) -> Bytes {
        assert!(index < self.spans.len(), "argument {index} of {}", self.spans.len());
        let (offset, length) = self.spans[index];
        self.buffer.slice(offset as usize..offset as usize + length as usize)
    }

    /// The arguments in order, the command's name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + DoubleEndedIterator {
        self.spans.iter().map(|&(offset, length)| &self.buffer[offset as usize..][..length as usize])
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(!self.spans.is_empty(), "a command has a name");
        // Spans ascend, so the last one bounds all.
        let &(offset, length) = self.spans.last().expect("just checked");
        assert!(offset as usize + length as usize <= self.buffer.len(), "an argument lies in the buffer");
    }
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Arguments {}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(alloc::string::String::from_utf8_lossy)).finish()
    }
}
