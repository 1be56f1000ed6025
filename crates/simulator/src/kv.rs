//! A machine whose histories can be judged: registers, counters and lists under small numbers.

mod clients;
mod order;

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keypact_protocol::{DecodeError, Delivery};

use crate::{StateMachine, TraceHash};

pub use clients::{KvClients, KvOperation, KvOutcome, KvWork, Workload};

/// A key. Which kind of value it holds is up to who uses it: one kind for each key.
pub type Key = u16;

/// A write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvCommand {
    /// Sets a register.
    Set {
        /// Which.
        key: Key,
        /// To what.
        value: i64,
    },
    /// Sets a register if it holds `expected`; a register that was never set holds 0.
    CompareAndSet {
        /// Which.
        key: Key,
        /// What it must hold.
        expected: i64,
        /// What it then holds.
        value: i64,
    },
    /// Adds one to a counter, which begins at 0.
    Increment {
        /// Which.
        key: Key,
    },
    /// Appends to a list.
    Append {
        /// Which.
        key: Key,
        /// What; unique in the whole run.
        element: u64,
    },
}

impl KvCommand {
    /// The key it writes.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            KvCommand::Set { key, .. }
            | KvCommand::CompareAndSet { key, .. }
            | KvCommand::Increment { key }
            | KvCommand::Append { key, .. } => *key,
        }
    }
}

/// What a client is told of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvAnswer {
    /// A register or counter holds this.
    Number(i64),
    /// A compare-and-set has set, or not.
    Swapped(bool),
    /// A list has so many elements, with this digest.
    List {
        /// How many.
        length: u64,
        /// See [`digest_of`].
        digest: u64,
    },
}

/// The digest of a list's elements, in order.
#[must_use]
pub fn digest_of(elements: &[u64]) -> u64 {
    let mut hash = TraceHash::default();
    for element in elements {
        hash.add(*element);
    }
    hash.value()
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Number(i64),
    List(Vec<u64>, TraceHash),
}

impl Value {
    fn answer(&self) -> KvAnswer {
        match self {
            Value::Number(number) => KvAnswer::Number(*number),
            Value::List(elements, hash) => {
                KvAnswer::List { length: elements.len() as u64, digest: hash.value() }
            }
        }
    }

    fn digest(&self, key: Key) -> u64 {
        let mut hash = TraceHash::default();
        hash.add(u64::from(key));
        match self {
            Value::Number(number) => hash.add(*number as u64),
            Value::List(elements, list) => {
                hash.add(elements.len() as u64);
                hash.add(list.value());
            }
        }
        hash.value()
    }
}

/// The machine.
///
/// Invariant: `digest` is the wrapping sum of all values' digests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kv {
    values: BTreeMap<Key, Value>,
    digest: u64,
}

impl Kv {
    /// The elements of a list; none if it is not there.
    #[must_use]
    pub fn list(&self, key: Key) -> &[u64] {
        match self.values.get(&key) {
            Some(Value::List(elements, _)) => elements,
            _ => &[],
        }
    }

    /// What a register or counter holds; 0 if it is not there.
    #[must_use]
    pub fn number(&self, key: Key) -> i64 {
        match self.values.get(&key) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    fn change(&mut self, command: KvCommand) -> KvAnswer {
        let key = command.key();
        let value = self.values.entry(key).or_insert_with(|| match command {
            KvCommand::Append { .. } => Value::List(Vec::new(), TraceHash::default()),
            _ => Value::Number(0),
        });
        self.digest = self.digest.wrapping_sub(if is_fresh(value) { 0 } else { value.digest(key) });
        let answer = match (value, command) {
            (Value::Number(number), KvCommand::Set { value, .. }) => {
                *number = value;
                KvAnswer::Number(value)
            }
            (Value::Number(number), KvCommand::CompareAndSet { expected, value, .. }) => {
                let swapped = *number == expected;
                *number = if swapped { value } else { *number };
                KvAnswer::Swapped(swapped)
            }
            (Value::Number(number), KvCommand::Increment { .. }) => {
                *number += 1;
                KvAnswer::Number(*number)
            }
            (Value::List(elements, hash), KvCommand::Append { element, .. }) => {
                elements.push(element);
                hash.add(element);
                KvAnswer::List { length: elements.len() as u64, digest: hash.value() }
            }
            (held, command) => unreachable!("{command:?} on {held:?}: a key has one kind"),
        };
        let value = &self.values[&key];
        self.digest = self.digest.wrapping_add(if is_fresh(value) { 0 } else { value.digest(key) });
        answer
    }
}

/// A value that is as if it were not there adds nothing to the digest.
fn is_fresh(value: &Value) -> bool {
    match value {
        Value::Number(number) => *number == 0,
        Value::List(elements, _) => elements.is_empty(),
    }
}

impl StateMachine for Kv {
    type Command = KvCommand;
    type Query = Key;
    type Answer = KvAnswer;

    fn encode(command: &KvCommand, out: &mut BytesMut) {
        let (kind, first, second) = match *command {
            KvCommand::Set { value, .. } => (0, value, 0),
            KvCommand::CompareAndSet { expected, value, .. } => (1, expected, value),
            KvCommand::Increment { .. } => (2, 0, 0),
            KvCommand::Append { element, .. } => (3, element as i64, 0),
        };
        out.put_u8(kind);
        out.put_u16_le(command.key());
        out.put_i64_le(first);
        out.put_i64_le(second);
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<KvAnswer, DecodeError> {
        Ok(self.change(decode_command(&delivery.command)?))
    }

    fn read(&self, key: &Key) -> KvAnswer {
        self.values.get(key).map_or(KvAnswer::Number(0), Value::answer)
    }

    fn key_of(key: &Key) -> Option<u64> {
        Some(u64::from(*key))
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.put_u32_le(self.values.len() as u32);
        for (key, value) in &self.values {
            out.put_u16_le(*key);
            match value {
                Value::Number(number) => {
                    out.put_u8(0);
                    out.put_i64_le(*number);
                }
                Value::List(elements, _) => {
                    out.put_u8(1);
                    out.put_u32_le(elements.len() as u32);
                    for element in elements {
                        out.put_u64_le(*element);
                    }
                }
            }
        }
    }

    fn load(mut bytes: Bytes) -> Result<Kv, DecodeError> {
        let bad = |_| DecodeError::new("the state of a kv machine");
        let mut kv = Kv::default();
        for _ in 0..bytes.try_get_u32_le().map_err(bad)? {
            let key = bytes.try_get_u16_le().map_err(bad)?;
            let value = match bytes.try_get_u8().map_err(bad)? {
                0 => Value::Number(bytes.try_get_i64_le().map_err(bad)?),
                1 => {
                    let (mut elements, mut hash) = (Vec::new(), TraceHash::default());
                    for _ in 0..bytes.try_get_u32_le().map_err(bad)? {
                        let element = bytes.try_get_u64_le().map_err(bad)?;
                        elements.push(element);
                        hash.add(element);
                    }
                    Value::List(elements, hash)
                }
                _ => return Err(DecodeError::new("a kind of value")),
            };
            if !is_fresh(&value) {
                kv.digest = kv.digest.wrapping_add(value.digest(key));
            }
            kv.values.insert(key, value);
        }
        if bytes.has_remaining() {
            return Err(DecodeError::new("nothing after the state of a kv machine"));
        }
        Ok(kv)
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

/// Which key an encoded [`KvCommand`] writes, as [`StateMachine::key_of`] names it: for protocols that look at keys.
pub fn key_of_command(command: &[u8], mark: &mut dyn FnMut(u64)) {
    if let Ok(command) = decode_command(command) {
        mark(u64::from(command.key()));
    }
}

fn decode_command(mut bytes: &[u8]) -> Result<KvCommand, DecodeError> {
    if bytes.len() != 19 {
        return Err(DecodeError::new("a kv command of 19 bytes"));
    }
    let kind = bytes.get_u8();
    let key = bytes.get_u16_le();
    let (first, second) = (bytes.get_i64_le(), bytes.get_i64_le());
    match kind {
        0 => Ok(KvCommand::Set { key, value: first }),
        1 => Ok(KvCommand::CompareAndSet { key, expected: first, value: second }),
        2 => Ok(KvCommand::Increment { key }),
        3 => Ok(KvCommand::Append { key, element: first as u64 }),
        _ => Err(DecodeError::new("a kind of kv command")),
    }
}
