//! The data of a participant: lists by key.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use keypact_coordination::two_phase_commit::Store;

/// One operation on one list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListOperation {
    /// Tells the list.
    Read {
        /// The key.
        key: u32,
    },
    /// Adds an element, which is greater than 0.
    Append {
        /// The key.
        key: u32,
        /// The element.
        element: u64,
        /// Only if the list has no more than so many.
        at_most: u32,
    },
}

impl ListOperation {
    /// Its key.
    #[must_use]
    pub(crate) fn key(self) -> u32 {
        match self {
            ListOperation::Read { key } | ListOperation::Append { key, .. } => key,
        }
    }
}

/// Encodes operations: 16 bytes each.
#[must_use]
pub(crate) fn encode(operations: &[ListOperation]) -> Bytes {
    let mut bytes = Vec::with_capacity(operations.len() * 16);
    for operation in operations {
        let (key, element, at_most) = match *operation {
            ListOperation::Read { key } => (key, 0, 0),
            ListOperation::Append { key, element, at_most } => (key, element, at_most),
        };
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&element.to_le_bytes());
        bytes.extend_from_slice(&at_most.to_le_bytes());
    }
    Bytes::from(bytes)
}

fn decode(mut bytes: &[u8]) -> Vec<ListOperation> {
    let mut operations = Vec::new();
    while bytes.len() >= 16 {
        let (key, element, at_most) = (bytes.get_u32_le(), bytes.get_u64_le(), bytes.get_u32_le());
        operations.push(match element {
            0 => ListOperation::Read { key },
            element => ListOperation::Append { key, element, at_most },
        });
    }
    assert!(bytes.is_empty(), "operations were encoded above");
    operations
}

/// The lists of an answer, one for each read, in order.
#[must_use]
pub(crate) fn lists(mut answer: Bytes) -> Vec<Vec<u64>> {
    let mut lists = Vec::new();
    while !answer.is_empty() {
        let length = answer.get_u32_le();
        lists.push((0..length).map(|_| answer.get_u64_le()).collect());
    }
    lists
}

/// Lists by key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ListStore {
    lists: BTreeMap<u32, Vec<u64>>,
}

impl ListStore {
    /// A list; empty if nothing was ever appended.
    #[must_use]
    pub(crate) fn list(&self, key: u32) -> &[u64] {
        self.lists.get(&key).map_or(&[], Vec::as_slice)
    }

    fn tell(&self, key: u32, answer: &mut Vec<u8>) {
        let list = self.lists.get(&key).map_or(&[][..], Vec::as_slice);
        answer.extend_from_slice(&(list.len() as u32).to_le_bytes());
        for element in list {
            answer.extend_from_slice(&element.to_le_bytes());
        }
    }
}

impl Store for ListStore {
    fn admits(&self, operations: &[u8]) -> bool {
        decode(operations).into_iter().all(|operation| match operation {
            ListOperation::Read { .. } => true,
            ListOperation::Append { key, at_most, .. } => {
                self.lists.get(&key).map_or(0, Vec::len) <= at_most as usize
            }
        })
    }

    fn read(&self, operations: &[u8]) -> Bytes {
        let mut answer = Vec::new();
        for operation in decode(operations) {
            self.tell(operation.key(), &mut answer);
        }
        Bytes::from(answer)
    }

    fn apply(&mut self, operations: &Bytes) -> Bytes {
        let mut answer = Vec::new();
        for operation in decode(operations) {
            match operation {
                ListOperation::Read { key } => self.tell(key, &mut answer),
                ListOperation::Append { key, element, .. } => {
                    self.lists.entry(key).or_default().push(element);
                }
            }
        }
        Bytes::from(answer)
    }
}
