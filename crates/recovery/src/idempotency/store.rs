//! Where records last.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;

use super::record::Record;

/// A log of records. Positions count records from 1, over the store's whole life in memory.
///
/// After an error the store must not be used any more, unless [`Store::is_intact`]: nobody knows what it holds. Open it again.
pub trait Store {
    /// What can go wrong.
    type Error: fmt::Debug;

    /// Appends one record, which need not be durable yet. Returns its position.
    ///
    /// # Errors
    /// It may be there or not.
    fn append(&mut self, record: &Record) -> Result<u64, Self::Error>;

    /// Makes what was appended durable, as far as it can at once. Returns the position up to which it is.
    ///
    /// # Errors
    /// What was appended since the last one may be there or not.
    fn sync(&mut self) -> Result<u64, Self::Error>;

    /// Puts these records in place of all others: after a crash, all of the old ones are there or all of the new.
    ///
    /// # Errors
    /// One of the two is there.
    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<(), Self::Error>;

    /// Whether the call that failed so has changed nothing, now or after a crash, and the store may be used further.
    fn is_intact(error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Bytes that it holds; grows until [`Store::replace`].
    fn bytes(&self) -> u64;
}

/// The error of a store that has none.
pub type Never = Infallible;

/// A store in memory: lasts as long as its value. For tests, caches, and services whose effects are in memory too.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: Vec<Vec<u8>>,
    position: u64,
    bytes: u64,
}

impl MemoryStore {
    /// What it holds, in order, to recover from.
    ///
    /// # Panics
    /// Never: only encoded records are in it.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.records.iter().map(|bytes| Record::decode(bytes).expect("only encoded records are in it"))
    }

    fn push(&mut self, record: &Record) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert!(!bytes.is_empty(), "a record has bytes");
        self.bytes += bytes.len() as u64;
        self.records.push(bytes);
    }
}

impl Store for MemoryStore {
    type Error = Never;

    fn append(&mut self, record: &Record) -> Result<u64, Never> {
        let before = self.bytes;
        self.push(record);
        assert!(self.bytes > before, "it grows until it is replaced");
        self.position += 1;
        Ok(self.position)
    }

    fn sync(&mut self) -> Result<u64, Never> {
        Ok(self.position)
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<(), Never> {
        self.records.clear();
        self.bytes = 0;
        for record in records {
            self.push(&record);
        }
        assert!(!self.records.is_empty(), "a log begins with what it is compacted to");
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
