//! Fixed little-endian fields and length-prefixed bytes: what messages, records and tables are made of on the wire.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use keypact_protocol::{DecodeError, GroupId};

use super::message::{Attempt, Lock, Mode, TransactionId, Work};

/// The longest list that is read: participants, locks, table entries.
pub(super) const LIST_MAX: usize = 1 << 20;
/// The shortest encoding of a lock, bytes: a list can't be longer than its bytes allow.
const LOCK_BYTES_MIN: usize = 5;

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("lengths are limited where work comes in");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    assert!(length <= LIST_MAX, "lists are limited where they grow");
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

pub(super) fn put_option(bytes: Option<&Bytes>, out: &mut Vec<u8>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(bytes, out);
    }
}

pub(super) fn put_groups(groups: &[GroupId], out: &mut Vec<u8>) {
    put_length(groups.len(), out);
    for group in groups {
        out.extend_from_slice(&group.0.to_le_bytes());
    }
}

pub(super) fn put_transaction(transaction: TransactionId, out: &mut Vec<u8>) {
    out.extend_from_slice(&transaction.coordinator.0.to_le_bytes());
    out.extend_from_slice(&transaction.epoch.to_le_bytes());
    out.extend_from_slice(&transaction.number.to_le_bytes());
}

pub(super) fn put_attempt(attempt: Attempt, out: &mut Vec<u8>) {
    put_transaction(attempt.transaction, out);
    out.extend_from_slice(&attempt.number.to_le_bytes());
}

pub(super) fn put_work(work: &Work, out: &mut Vec<u8>) {
    put_length(work.locks.len(), out);
    for lock in &work.locks {
        out.push(u8::from(lock.mode == Mode::Exclusive));
        put_bytes(&lock.key, out);
    }
    put_bytes(&work.operations, out);
}

/// Reads fields from the front; every method fails where the bytes end too soon.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::new("a byte"))
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::new("a truth value")),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.0.try_get_u32_le().map_err(|_| DecodeError::new("a 32-bit number"))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64_le().map_err(|_| DecodeError::new("a 64-bit number"))
    }

    /// An epoch or transaction number, bounded so that no later sum overflows.
    pub(super) fn count(&mut self) -> Result<u64, DecodeError> {
        let count = self.u64()?;
        if count < 1 << 62 { Ok(count) } else { Err(DecodeError::new("a count below 2^62")) }
    }

    /// The length of a list whose elements take at least `least_bytes` each.
    pub(super) fn length(&mut self, least_bytes: usize) -> Result<usize, DecodeError> {
        let length = self.u32()? as usize;
        if length <= LIST_MAX && length <= self.0.len() / least_bytes {
            Ok(length)
        } else {
            Err(DecodeError::new("a list that the bytes can hold"))
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(DecodeError::new("as many bytes as were announced"));
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn option(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.bool()? { self.bytes().map(Some) } else { Ok(None) }
    }

    pub(super) fn groups(&mut self) -> Result<Vec<GroupId>, DecodeError> {
        let length = self.length(8)?;
        (0..length).map(|_| self.u64().map(GroupId)).collect()
    }

    pub(super) fn transaction(&mut self) -> Result<TransactionId, DecodeError> {
        Ok(TransactionId { coordinator: GroupId(self.u64()?), epoch: self.count()?, number: self.count()? })
    }

    pub(super) fn attempt(&mut self) -> Result<Attempt, DecodeError> {
        Ok(Attempt { transaction: self.transaction()?, number: self.u32()? })
    }

    pub(super) fn work(&mut self) -> Result<Work, DecodeError> {
        let length = self.length(LOCK_BYTES_MIN)?;
        let mut locks = Vec::with_capacity(length);
        for _ in 0..length {
            let mode = if self.bool()? { Mode::Exclusive } else { Mode::Shared };
            locks.push(Lock { key: self.bytes()?, mode });
        }
        Ok(Work { locks, operations: self.bytes()? })
    }

    /// Nothing may be left.
    pub(super) fn end<T>(self, value: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(value) } else { Err(DecodeError::new("the end")) }
    }
}
