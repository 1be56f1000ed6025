//! One entry: key, value and deadline.

use bytes::Bytes;

use super::{content_hash, spread};

/// Longer values are not copied when they are applied, if they make up most of their entry.
const MAX_COPIED_BYTES: usize = 1024;

/// Key and value, one after the other in one shared allocation.
#[derive(Clone)]
pub(crate) struct Slot {
    data: Bytes,
    /// Unix milliseconds; 0: lives on.
    deadline_ms: u64,
    tag: u32,
    key_bytes: u32,
}

const _: () = assert!(size_of::<Slot>() == 48);

impl Slot {
    /// Copies key and value into one allocation of their own.
    pub(crate) fn new(tag: u32, key: &[u8], value: &[u8], deadline: Option<u64>) -> Slot {
        Slot::of_parts(tag, key, &[value], deadline)
    }

    /// The same for a value in parts.
    pub(crate) fn of_parts(tag: u32, key: &[u8], parts: &[&[u8]], deadline: Option<u64>) -> Slot {
        let value_bytes: usize = parts.iter().map(|part| part.len()).sum();
        // Exact, so that making `Bytes` of it allocates nothing more.
        let mut data = Vec::with_capacity(key.len() + value_bytes);
        data.extend_from_slice(key);
        for part in parts {
            data.extend_from_slice(part);
        }
        Slot::of_data(tag, Bytes::from(data), key.len(), deadline)
    }

    /// Key and value that lie next to each other in the entry's `buffer`, at `key_at`: shared if the value is long and
    /// most of the buffer, or else copied, so that no small value keeps a big buffer alive.
    pub(crate) fn in_buffer(
        tag: u32,
        buffer: &Bytes,
        key_at: usize,
        key: &[u8],
        value: &[u8],
        deadline: Option<u64>,
    ) -> Slot {
        if value.len() <= MAX_COPIED_BYTES || value.len() < buffer.len() / 2 {
            return Slot::new(tag, key, value, deadline);
        }
        let data = buffer.slice(key_at..key_at + key.len() + value.len());
        assert!(data[..key.len()] == *key, "the key lies in front of the value");
        Slot::of_data(tag, data, key.len(), deadline)
    }

    pub(crate) fn of_data(tag: u32, data: Bytes, key_bytes: usize, deadline: Option<u64>) -> Slot {
        assert!(key_bytes <= data.len(), "the key lies in the data");
        let mut slot = Slot {
            data,
            deadline_ms: 0,
            tag,
            key_bytes: u32::try_from(key_bytes).expect("an argument has less than 4 GiB"),
        };
        slot.set_deadline(deadline);
        slot
    }

    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }

    /// What the table is told to be its hash.
    pub(crate) fn table_hash(&self) -> u64 {
        spread(self.tag)
    }

    #[inline]
    pub(crate) fn is(&self, tag: u32, key: &[u8]) -> bool {
        self.tag == tag && self.key() == key
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.data[..self.key_bytes as usize]
    }

    /// The key, sharing the allocation.
    pub(crate) fn key_bytes(&self) -> Bytes {
        self.data.slice(..self.key_bytes as usize)
    }

    /// The value, sharing the allocation.
    #[inline]
    pub(crate) fn value(&self) -> Bytes {
        self.data.slice(self.key_bytes as usize..)
    }

    #[inline]
    pub(crate) fn value_slice(&self) -> &[u8] {
        &self.data[self.key_bytes as usize..]
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.deadline_ms != 0).then_some(self.deadline_ms)
    }

    pub(crate) fn set_deadline(&mut self, deadline: Option<u64>) {
        assert!(deadline != Some(0), "0 stands for no deadline");
        self.deadline_ms = deadline.unwrap_or(0);
    }

    /// A key is gone at its deadline.
    #[inline]
    pub(crate) fn is_visible(&self, at_ms: u64) -> bool {
        self.deadline_ms == 0 || at_ms < self.deadline_ms
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    pub(crate) fn content_hash(&self) -> u64 {
        content_hash(self.key(), self.value_slice(), self.deadline())
    }
}
