//! Commands on strings.

mod options;

use bytes::Bytes;
use keypact_resp::{Arguments, ErrorReply, Value};

use crate::expire::{Clock, Expiry};
use crate::integer::integer_or_error;
use crate::partition::{Reply, View, Write, argument};
use crate::store::slot::Slot;
pub(crate) use options::SYNTAX;
use options::{Accepts, Condition, Options};

pub(crate) const TOO_LONG: ErrorReply =
    ErrorReply::fixed("ERR", "string exceeds maximum allowed size (proto-max-bulk-len)");
const BAD_OFFSET: ErrorReply = ErrorReply::fixed("ERR", "offset is out of range");

impl Write<'_> {
    /// Refuses values over the limit.
    pub(crate) fn check_length(&self, bytes: usize) -> Result<(), ErrorReply> {
        if bytes > self.store.limits.max_value_bytes as usize { Err(TOO_LONG) } else { Ok(()) }
    }

    /// Sets the key at argument `key` to the value at argument `value`, whatever was there; a deadline that has already
    /// passed leaves no key. The value's length is checked.
    fn set_argument(&mut self, arguments: &Arguments, key: usize, value: usize, deadline: Option<u64>) {
        let (name, bytes) = (argument(arguments, key), argument(arguments, value));
        let at = self.store.locate(name);
        if deadline.is_some_and(|deadline| deadline <= self.stamp_ms) {
            self.store.remove(at, name);
            return;
        }
        let (key_at, key_bytes) = arguments.spans[key];
        let adjacent = key_at + key_bytes == arguments.spans[value].0;
        let slot = match adjacent {
            true => Slot::in_buffer(at.tag, &arguments.buffer, key_at as usize, name, bytes, deadline),
            false => Slot::new(at.tag, name, bytes, deadline),
        };
        self.store.put(at, slot);
    }

    fn value(&self, key: &[u8]) -> Option<Bytes> {
        self.store.visible(self.store.locate(key), key, self.stamp_ms).map(Slot::value)
    }

    fn exists(&self, key: &[u8]) -> bool {
        self.store.visible(self.store.locate(key), key, self.stamp_ms).is_some()
    }
}

/// A value, or the null that stands for none.
fn bulk_or_null(value: Option<Bytes>) -> Value {
    value.map_or(Value::Null, Value::Bulk)
}

pub(crate) fn get(view: &View<'_>, arguments: &Arguments) -> Reply {
    Ok(bulk_or_null(view.value(argument(arguments, 1))))
}

pub(crate) fn mget(view: &View<'_>, arguments: &Arguments) -> Reply {
    Ok(Value::Array(arguments.iter().skip(1).map(|key| bulk_or_null(view.value(key))).collect()))
}

pub(crate) fn strlen(view: &View<'_>, arguments: &Arguments) -> Reply {
    let key = argument(arguments, 1);
    let slot = view.store.visible(view.store.locate(key), key, view.at_ms);
    Ok(Value::Integer(slot.map_or(0, |slot| slot.value_slice().len() as i64)))
}

/// `GETRANGE` and `SUBSTR`: both ends included, negative ones counted from the end.
pub(crate) fn getrange(view: &View<'_>, arguments: &Arguments) -> Reply {
    let start = integer_or_error(argument(arguments, 2))?;
    let end = integer_or_error(argument(arguments, 3))?;
    let value = view.value(argument(arguments, 1)).unwrap_or_default();
    let length = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Ok(Value::Bulk(Bytes::new()));
    }
    let absolute = |position: i64| if position < 0 { (length + position).max(0) } else { position };
    let (first, last) = (absolute(start), absolute(end).min(length - 1));
    if first > last {
        return Ok(Value::Bulk(Bytes::new()));
    }
    Ok(Value::Bulk(value.slice(first as usize..=last as usize)))
}

pub(crate) fn set(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    // The plain form is nearly all of the traffic.
    if arguments.len() == 3 {
        write.check_length(argument(arguments, 2).len())?;
        write.set_argument(arguments, 1, 2, None);
        return Ok(Value::ok());
    }
    let options = Options::parse(arguments, 3, Accepts::Set)?;
    let deadline = match options.expiry {
        Expiry::At(clock, index) => {
            Some(clock.positive_deadline(argument(arguments, index), write.stamp_ms, "set")?)
        }
        Expiry::Untouched | Expiry::Persist => None,
    };
    write.check_length(argument(arguments, 2).len())?;
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    let before = write.store.visible(at, key, write.stamp_ms);
    let answer = options.get.then(|| bulk_or_null(before.map(Slot::value)));
    let refused = match options.condition {
        Condition::Always => false,
        Condition::Missing => before.is_some(),
        Condition::Present => before.is_none(),
    };
    if refused {
        return Ok(answer.unwrap_or(Value::Null));
    }
    let kept = if options.keep_ttl { before.and_then(Slot::deadline) } else { None };
    write.set_argument(arguments, 1, 2, deadline.or(kept));
    Ok(answer.unwrap_or(Value::ok()))
}

pub(crate) fn setnx(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    write.check_length(argument(arguments, 2).len())?;
    if write.exists(argument(arguments, 1)) {
        return Ok(Value::Integer(0));
    }
    write.set_argument(arguments, 1, 2, None);
    Ok(Value::Integer(1))
}

pub(crate) fn setex(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    set_with_expiry(write, arguments, Clock::SECONDS, "setex")
}

pub(crate) fn psetex(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    set_with_expiry(write, arguments, Clock::MILLISECONDS, "psetex")
}

fn set_with_expiry(write: &mut Write<'_>, arguments: &Arguments, clock: Clock, name: &str) -> Reply {
    let deadline = clock.positive_deadline(argument(arguments, 2), write.stamp_ms, name)?;
    write.check_length(argument(arguments, 3).len())?;
    write.set_argument(arguments, 1, 3, Some(deadline));
    Ok(Value::ok())
}

pub(crate) fn getset(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    write.check_length(argument(arguments, 2).len())?;
    let before = write.value(argument(arguments, 1));
    write.set_argument(arguments, 1, 2, None);
    Ok(bulk_or_null(before))
}

pub(crate) fn getdel(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let key = argument(arguments, 1);
    let before = write.value(key);
    if before.is_some() {
        write.store.remove(write.store.locate(key), key);
    }
    Ok(bulk_or_null(before))
}

pub(crate) fn getex(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let options = Options::parse(arguments, 2, Accepts::GetEx)?;
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    let Some(value) = write.store.visible(at, key, write.stamp_ms).map(Slot::value) else {
        return Ok(Value::Null);
    };
    match options.expiry {
        Expiry::Untouched => {}
        Expiry::Persist => write.store.set_deadline(at, key, None),
        Expiry::At(clock, index) => {
            let deadline = clock.positive_deadline(argument(arguments, index), write.stamp_ms, "getex")?;
            write.expire_at(at, key, deadline as i64);
        }
    }
    Ok(Value::Bulk(value))
}

/// Key and value pairs; the name counts, so their number with it is odd.
fn check_pairs(write: &Write<'_>, arguments: &Arguments, name: &str) -> Result<(), ErrorReply> {
    if arguments.len().is_multiple_of(2) {
        return Err(ErrorReply::err(format!("wrong number of arguments for '{name}' command")));
    }
    arguments.iter().skip(2).step_by(2).try_for_each(|value| write.check_length(value.len()))
}

fn set_pairs(write: &mut Write<'_>, arguments: &Arguments) {
    for key in (1..arguments.len()).step_by(2) {
        write.set_argument(arguments, key, key + 1, None);
    }
}

pub(crate) fn mset(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    check_pairs(write, arguments, "mset")?;
    set_pairs(write, arguments);
    Ok(Value::ok())
}

pub(crate) fn msetnx(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    check_pairs(write, arguments, "msetnx")?;
    if arguments.iter().skip(1).step_by(2).any(|key| write.exists(key)) {
        return Ok(Value::Integer(0));
    }
    set_pairs(write, arguments);
    Ok(Value::Integer(1))
}

/// Appends in a new allocation: O(new length), as replies may still hold the old value.
pub(crate) fn append(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let (key, tail) = (argument(arguments, 1), argument(arguments, 2));
    let at = write.store.locate(key);
    let before = write.store.visible(at, key, write.stamp_ms);
    let head = before.map_or(&[][..], Slot::value_slice);
    let length = head.len() + tail.len();
    write.check_length(length)?;
    let slot = Slot::of_parts(at.tag, key, &[head, tail], before.and_then(Slot::deadline));
    write.store.put(at, slot);
    Ok(Value::Integer(length as i64))
}

pub(crate) fn setrange(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let offset = integer_or_error(argument(arguments, 2))?;
    let offset = usize::try_from(offset).map_err(|_| BAD_OFFSET)?;
    let (key, patch) = (argument(arguments, 1), argument(arguments, 3));
    let at = write.store.locate(key);
    let before = write.store.visible(at, key, write.stamp_ms);
    let old = before.map_or(&[][..], Slot::value_slice);
    if patch.is_empty() {
        return Ok(Value::Integer(old.len() as i64));
    }
    let end = offset.saturating_add(patch.len());
    write.check_length(end)?;
    let head = &old[..offset.min(old.len())];
    let tail = old.get(end..).unwrap_or_default();
    let mut value = Vec::with_capacity(end.max(old.len()));
    value.extend_from_slice(head);
    value.resize(offset, 0);
    value.extend_from_slice(patch);
    value.extend_from_slice(tail);
    let slot = Slot::new(at.tag, key, &value, before.and_then(Slot::deadline));
    write.store.put(at, slot);
    Ok(Value::Integer(value.len() as i64))
}
