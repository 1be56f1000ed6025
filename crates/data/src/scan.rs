//! Commands over all keys of a partition. Their order is that of buckets, tags and keys: the contents decide it, so
//! replicas agree, and a cursor stays good whatever is written in between.

use keypact_resp::{Arguments, ErrorReply, Value};

use crate::integer::integer_or_error;
use crate::partition::{Reply, View, argument};
use crate::store::listing::is_listed;
use crate::store::slot::Slot;
use crate::store::{BUCKETS, Location};
use crate::strings::SYNTAX;

/// A cursor of one partition is below 2 to the power of this; the bits above are the node's, for the partition.
pub const CURSOR_BITS: u32 = 42;

const DEFAULT_COUNT: usize = 10;
/// However many a client asks for, one call looks at no more than these and the rest of one bucket.
const MAX_COUNT: usize = 65_536;
/// Random picks that may hit an expired key before the first visible one is taken.
const MAX_DRAWS: usize = 100;

const INVALID_CURSOR: ErrorReply = ErrorReply::fixed("ERR", "invalid cursor");

pub(crate) fn keys(view: &View<'_>, arguments: &Arguments) -> Reply {
    let pattern = argument(arguments, 1);
    let mut found = Vec::new();
    for bucket in 0..BUCKETS {
        found.extend(
            sorted(view, bucket, 0).into_iter().filter(|slot| wanted(view, slot, pattern)).map(key_reply),
        );
    }
    Ok(Value::Array(found))
}

fn key_reply(slot: &Slot) -> Value {
    Value::Bulk(slot.key_bytes())
}

fn wanted(view: &View<'_>, slot: &Slot, pattern: &[u8]) -> bool {
    is_listed(slot, view.at_ms, pattern)
}

/// Entries of a bucket from `tag` on, in order.
fn sorted<'a>(view: &View<'a>, bucket: usize, tag: u32) -> Vec<&'a Slot> {
    let mut slots: Vec<&Slot> = view.store.bucket(bucket).iter().filter(|slot| slot.tag() >= tag).collect();
    slots.sort_unstable_by(|a, b| (a.tag(), a.key()).cmp(&(b.tag(), b.key())));
    slots
}

struct ScanOptions<'a> {
    pattern: &'a [u8],
    count: usize,
    /// Whether strings, the only type so far, are asked for.
    strings: bool,
}

impl<'a> ScanOptions<'a> {
    fn parse(arguments: &'a Arguments) -> Result<ScanOptions<'a>, ErrorReply> {
        let mut options = ScanOptions { pattern: b"*", count: DEFAULT_COUNT, strings: true };
        let mut index = 2;
        while index < arguments.len() {
            let option = argument(arguments, index);
            let value = arguments.get(index + 1).ok_or(SYNTAX)?;
            if option.eq_ignore_ascii_case(b"count") {
                let count = integer_or_error(value)?;
                if count < 1 {
                    return Err(SYNTAX);
                }
                options.count = usize::try_from(count).unwrap_or(MAX_COUNT).min(MAX_COUNT);
            } else if option.eq_ignore_ascii_case(b"match") {
                options.pattern = value;
            } else if option.eq_ignore_ascii_case(b"type") {
                options.strings = value.eq_ignore_ascii_case(b"string");
            } else {
                return Err(SYNTAX);
            }
            index += 2;
        }
        Ok(options)
    }
}

/// Looks at `COUNT` entries from the cursor on, a few more if tags are equal. Whoever is there from the first call to the
/// last is listed, once.
pub(crate) fn scan(view: &View<'_>, arguments: &Arguments) -> Reply {
    let cursor = cursor(argument(arguments, 1)).ok_or(INVALID_CURSOR)?;
    let options = ScanOptions::parse(arguments)?;
    let mut found = Vec::new();
    let mut next = 0;
    if cursor < 1 << CURSOR_BITS {
        let mut left = options.count;
        let start = Location::of_rank(cursor);
        for bucket in usize::from(start.bucket)..BUCKETS {
            let tag = if bucket == usize::from(start.bucket) { start.tag } else { 0 };
            let slots = sorted(view, bucket, tag);
            // Entries with equal tags stay together, as a cursor can't tell them apart.
            let cut = slots.len().min(left);
            let end = cut
                + slots[cut..]
                    .iter()
                    .take_while(|slot| cut > 0 && slot.tag() == slots[cut - 1].tag())
                    .count();
            let listed =
                slots[..end].iter().filter(|slot| options.strings && wanted(view, slot, options.pattern));
            found.extend(listed.map(|slot| key_reply(slot)));
            left -= cut;
            if let Some(rest) = slots.get(end) {
                next = Location { bucket: bucket as u16, tag: rest.tag() }.rank();
                break;
            }
            if left == 0 && bucket + 1 < BUCKETS {
                next = Location { bucket: bucket as u16 + 1, tag: 0 }.rank();
                break;
            }
        }
    }
    Ok(Value::Array(vec![Value::bulk(next.to_string()), Value::Array(found)]))
}

/// A cursor as `strtoul` reads it, without leading space.
fn cursor(text: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with('+') {
        return None;
    }
    // `strtoul` of nothing at all is 0.
    if text.is_empty() {
        return Some(0);
    }
    let number: u64 = digits.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

pub(crate) fn randomkey(view: &View<'_>, _: &Arguments) -> Reply {
    let total = view.store.len();
    if total == 0 {
        return Ok(Value::Null);
    }
    for _ in 0..MAX_DRAWS {
        let slot = at_rank(view, (view.draw() % total as u64) as usize);
        if slot.is_visible(view.at_ms) {
            return Ok(key_reply(slot));
        }
    }
    // Nearly all have expired: the first that has not.
    let first = (0..BUCKETS)
        .find_map(|bucket| sorted(view, bucket, 0).into_iter().find(|slot| slot.is_visible(view.at_ms)));
    Ok(first.map_or(Value::Null, key_reply))
}

/// The entry with `rank` others before it. O(buckets + entries of its bucket).
fn at_rank<'a>(view: &View<'a>, mut rank: usize) -> &'a Slot {
    for bucket in 0..BUCKETS {
        let len = view.store.bucket(bucket).len();
        if rank < len {
            let mut slots: Vec<&Slot> = view.store.bucket(bucket).iter().collect();
            let by_order = |a: &&Slot, b: &&Slot| (a.tag(), a.key()).cmp(&(b.tag(), b.key()));
            return slots.select_nth_unstable_by(rank, by_order).1;
        }
        rank -= len;
    }
    unreachable!("a rank is below the number of entries");
}
