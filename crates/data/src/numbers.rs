//! Commands that count. They keep the key's deadline.

use keypact_resp::{Arguments, ErrorReply, Value};

use crate::extended::Extended;
use crate::integer::{NOT_AN_INTEGER, integer, integer_or_error};
use crate::partition::{Reply, Write, argument};
use crate::store::slot::Slot;

const OVERFLOW: ErrorReply = ErrorReply::fixed("ERR", "increment or decrement would overflow");
const DECREMENT_OVERFLOW: ErrorReply = ErrorReply::fixed("ERR", "decrement would overflow");
const NOT_A_FLOAT: ErrorReply = ErrorReply::fixed("ERR", "value is not a valid float");
const NOT_FINITE: ErrorReply = ErrorReply::fixed("ERR", "increment would produce NaN or Infinity");

pub(crate) fn incr(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    add(write, arguments, 1)
}

pub(crate) fn decr(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    add(write, arguments, -1)
}

pub(crate) fn incrby(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let increment = integer_or_error(argument(arguments, 2))?;
    add(write, arguments, increment)
}

pub(crate) fn decrby(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let decrement = integer_or_error(argument(arguments, 2))?;
    add(write, arguments, decrement.checked_neg().ok_or(DECREMENT_OVERFLOW)?)
}

fn add(write: &mut Write<'_>, arguments: &Arguments, increment: i64) -> Reply {
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    let before = write.store.visible(at, key, write.stamp_ms);
    let number = match before {
        Some(slot) => integer(slot.value_slice()).ok_or(NOT_AN_INTEGER)?,
        None => 0,
    };
    let sum = number.checked_add(increment).ok_or(OVERFLOW)?;
    let mut text = itoa::Buffer::new();
    let slot = Slot::new(at.tag, key, text.format(sum).as_bytes(), before.and_then(Slot::deadline));
    write.store.put(at, slot);
    Ok(Value::Integer(sum))
}

/// Adds as Redis does on x86-64, in 80-bit floating point, and writes 17 decimals without trailing zeros.
pub(crate) fn incrbyfloat(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    let before = write.store.visible(at, key, write.stamp_ms);
    let number = match before {
        Some(slot) => Extended::parse(slot.value_slice()).ok_or(NOT_A_FLOAT)?,
        None => Extended::ZERO,
    };
    let increment = Extended::parse(argument(arguments, 2)).ok_or(NOT_A_FLOAT)?;
    let sum = number.add(increment).ok_or(NOT_FINITE)?;
    let text = sum.to_text();
    let slot = Slot::new(at.tag, key, text.as_bytes(), before.and_then(Slot::deadline));
    write.store.put(at, slot);
    Ok(Value::bulk(text))
}
