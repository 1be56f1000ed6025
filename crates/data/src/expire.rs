//! Commands on expiry, and how their numbers become deadlines.

use keypact_resp::{Arguments, ErrorReply, Value};

use crate::integer::integer_or_error;
use crate::partition::{Reply, View, Write, argument};
use crate::store::Location;
use crate::store::slot::Slot;

/// What `SET` and `GETEX` are to do with a key's deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Untouched,
    Persist,
    /// To be read with this clock from the argument at this index.
    At(Clock, usize),
}

/// How a client's number means a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    seconds: bool,
    relative: bool,
}

impl Clock {
    pub(crate) const SECONDS: Clock = Clock { seconds: true, relative: true };
    pub(crate) const MILLISECONDS: Clock = Clock { seconds: false, relative: true };
    const UNIX_SECONDS: Clock = Clock { seconds: true, relative: false };
    const UNIX_MILLISECONDS: Clock = Clock { seconds: false, relative: false };

    /// The clock of `EX`, `PX`, `EXAT` or `PXAT`.
    pub(crate) fn of_option(option: &[u8]) -> Option<Clock> {
        let clocks = [
            (&b"ex"[..], Clock::SECONDS),
            (b"px", Clock::MILLISECONDS),
            (b"exat", Clock::UNIX_SECONDS),
            (b"pxat", Clock::UNIX_MILLISECONDS),
        ];
        clocks.iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|&(_, clock)| clock)
    }

    /// The Unix time in milliseconds that `number` means at `stamp_ms`, unless it leaves 64 bits.
    fn milliseconds(self, number: i64, stamp_ms: u64) -> Option<i64> {
        let number = if self.seconds { number.checked_mul(1000)? } else { number };
        if self.relative { number.checked_add(i64::try_from(stamp_ms).ok()?) } else { Some(number) }
    }

    /// The deadline where only positive numbers make sense: `SET`, `SETEX`, `PSETEX`, `GETEX`.
    pub(crate) fn positive_deadline(self, text: &[u8], stamp_ms: u64, name: &str) -> Result<u64, ErrorReply> {
        let number = integer_or_error(text)?;
        let deadline = if number > 0 { self.milliseconds(number, stamp_ms) } else { None };
        deadline.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid_time(name))
    }
}

#[cold]
fn invalid_time(name: &str) -> ErrorReply {
    ErrorReply::err(format!("invalid expire time in '{name}' command"))
}

impl Write<'_> {
    /// Gives an entry that is there a deadline; one that has passed deletes it.
    pub(crate) fn expire_at(&mut self, at: Location, key: &[u8], deadline: i64) {
        match u64::try_from(deadline) {
            Ok(deadline) if deadline > self.stamp_ms => self.store.set_deadline(at, key, Some(deadline)),
            _ => {
                self.store.remove(at, key);
            }
        }
    }
}

/// The conditions after `EXPIRE key seconds`.
#[derive(Default)]
struct Conditions {
    missing: bool,
    present: bool,
    greater: bool,
    less: bool,
}

impl Conditions {
    fn parse(arguments: &Arguments) -> Result<Conditions, ErrorReply> {
        let mut conditions = Conditions::default();
        for option in arguments.iter().skip(3) {
            let known = [
                (&b"nx"[..], &mut conditions.missing),
                (b"xx", &mut conditions.present),
                (b"gt", &mut conditions.greater),
                (b"lt", &mut conditions.less),
            ];
            match known.into_iter().find(|(name, _)| option.eq_ignore_ascii_case(name)) {
                Some((_, condition)) => *condition = true,
                None => return Err(unsupported(option)),
            }
        }
        let Conditions { missing, present, greater, less } = conditions;
        if missing && (present || greater || less) {
            return Err(ErrorReply::err("NX and XX, GT or LT options at the same time are not compatible"));
        }
        if greater && less {
            return Err(ErrorReply::err("GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether a key with deadline `before` may get `after`. A key that lives on counts as one with an infinite deadline.
    fn allow(&self, before: Option<u64>, after: i64) -> bool {
        let greater = before.is_some_and(|before| i128::from(after) > i128::from(before));
        let less = before.is_none_or(|before| i128::from(after) < i128::from(before));
        (!self.missing || before.is_none())
            && (!self.present || before.is_some())
            && (!self.greater || greater)
            && (!self.less || less)
    }
}

#[cold]
fn unsupported(option: &[u8]) -> ErrorReply {
    let end = option.iter().position(|&byte| byte == 0).unwrap_or(option.len());
    ErrorReply::err(format!("Unsupported option {}", String::from_utf8_lossy(&option[..end])))
}

pub(crate) fn expire(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    change(write, arguments, Clock::SECONDS, "expire")
}

pub(crate) fn pexpire(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    change(write, arguments, Clock::MILLISECONDS, "pexpire")
}

pub(crate) fn expireat(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    change(write, arguments, Clock::UNIX_SECONDS, "expireat")
}

pub(crate) fn pexpireat(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    change(write, arguments, Clock::UNIX_MILLISECONDS, "pexpireat")
}

fn change(write: &mut Write<'_>, arguments: &Arguments, clock: Clock, name: &str) -> Reply {
    let conditions = Conditions::parse(arguments)?;
    let number = integer_or_error(argument(arguments, 2))?;
    let deadline = clock.milliseconds(number, write.stamp_ms).ok_or_else(|| invalid_time(name))?;
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    let Some(before) = write.store.visible(at, key, write.stamp_ms).map(Slot::deadline) else {
        return Ok(Value::Integer(0));
    };
    if !conditions.allow(before, deadline) {
        return Ok(Value::Integer(0));
    }
    write.expire_at(at, key, deadline);
    Ok(Value::Integer(1))
}

pub(crate) fn persist(write: &mut Write<'_>, arguments: &Arguments) -> Reply {
    let key = argument(arguments, 1);
    let at = write.store.locate(key);
    if write.store.visible(at, key, write.stamp_ms).and_then(Slot::deadline).is_none() {
        return Ok(Value::Integer(0));
    }
    write.store.set_deadline(at, key, None);
    Ok(Value::Integer(1))
}

pub(crate) fn ttl(view: &View<'_>, arguments: &Arguments) -> Reply {
    // Rounded to the nearest second.
    Ok(remaining(view, arguments, |deadline| (deadline - view.at_ms + 500) / 1000))
}

pub(crate) fn pttl(view: &View<'_>, arguments: &Arguments) -> Reply {
    Ok(remaining(view, arguments, |deadline| deadline - view.at_ms))
}

pub(crate) fn expiretime(view: &View<'_>, arguments: &Arguments) -> Reply {
    Ok(remaining(view, arguments, |deadline| (deadline + 500) / 1000))
}

pub(crate) fn pexpiretime(view: &View<'_>, arguments: &Arguments) -> Reply {
    Ok(remaining(view, arguments, |deadline| deadline))
}

/// -2: no such key; -1: it lives on.
fn remaining(view: &View<'_>, arguments: &Arguments, show: impl Fn(u64) -> u64) -> Value {
    let key = argument(arguments, 1);
    let slot = view.store.visible(view.store.locate(key), key, view.at_ms);
    Value::Integer(match slot.map(Slot::deadline) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => show(deadline) as i64,
    })
}
