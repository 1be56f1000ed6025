//! The options of `SET` and `GETEX`.

use keypact_resp::{Arguments, ErrorReply};

use crate::expire::{Clock, Expiry};
use crate::partition::argument;

pub(crate) const SYNTAX: ErrorReply = ErrorReply::fixed("ERR", "syntax error");

/// Whose options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    Set,
    GetEx,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Missing,
    Present,
}

pub(super) struct Options {
    pub(super) condition: Condition,
    pub(super) get: bool,
    pub(super) keep_ttl: bool,
    pub(super) expiry: Expiry,
}

impl Options {
    /// Reads the arguments from `from` on. Options that exclude each other are a syntax error; the same one twice is
    /// not, and the last counts.
    pub(super) fn parse(arguments: &Arguments, from: usize, accepts: Accepts) -> Result<Options, ErrorReply> {
        let mut options =
            Options { condition: Condition::Always, get: false, keep_ttl: false, expiry: Expiry::Untouched };
        let mut index = from;
        while index < arguments.len() {
            let option = argument(arguments, index);
            if accepts == Accepts::Set && options.take_of_set(option)? {
                index += 1;
            } else if accepts == Accepts::GetEx && option.eq_ignore_ascii_case(b"persist") {
                if matches!(options.expiry, Expiry::At(..)) {
                    return Err(SYNTAX);
                }
                options.expiry = Expiry::Persist;
                index += 1;
            } else {
                options.take_expiry(option, index + 1, arguments.len())?;
                index += 2;
            }
        }
        Ok(options)
    }

    /// Takes one of the options that only `SET` has; whether it was one.
    fn take_of_set(&mut self, option: &[u8]) -> Result<bool, ErrorReply> {
        if option.eq_ignore_ascii_case(b"nx") {
            self.condition = self.condition.or(Condition::Missing)?;
        } else if option.eq_ignore_ascii_case(b"xx") {
            self.condition = self.condition.or(Condition::Present)?;
        } else if option.eq_ignore_ascii_case(b"get") {
            self.get = true;
        } else if option.eq_ignore_ascii_case(b"keepttl") {
            if self.expiry != Expiry::Untouched {
                return Err(SYNTAX);
            }
            self.keep_ttl = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes an expiry, whose number is at `value`.
    fn take_expiry(&mut self, option: &[u8], value: usize, count: usize) -> Result<(), ErrorReply> {
        let clock = Clock::of_option(option).filter(|_| value < count && !self.keep_ttl).ok_or(SYNTAX)?;
        match self.expiry {
            Expiry::Persist => return Err(SYNTAX),
            Expiry::At(before, _) if before != clock => return Err(SYNTAX),
            Expiry::At(..) | Expiry::Untouched => self.expiry = Expiry::At(clock, value),
        }
        Ok(())
    }
}

impl Condition {
    fn or(self, other: Condition) -> Result<Condition, ErrorReply> {
        if self == Condition::Always || self == other { Ok(other) } else { Err(SYNTAX) }
    }
}
