//! Lists and counters tell their own order: an operation's answer says its place. So whether a history of one key is linearizable is
//! decided by one sweep.

use crate::Violation;

/// An operation on one key: a write that made the key this long (`is_write`), or a read that saw it so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub(super) position: u64,
    pub(super) is_write: bool,
    pub(super) invoked_ns: u64,
    /// `u64::MAX` if it never returned.
    pub(super) returned_ns: u64,
    pub(super) client: u32,
}

/// Whether there is a moment for each operation between its call and its return, such that all happen in the order of their places.
/// O(n log n). Greedy: each takes the earliest moment that it can; that is right, because taking a later one helps nobody.
pub(super) fn check(key: u16, placed: &mut [Placed]) -> Result<(), Violation> {
    placed.sort_by_key(|op| (op.position, !op.is_write, op.invoked_ns));
    for pair in placed.windows(2) {
        if pair[0].is_write && pair[1].is_write && pair[0].position == pair[1].position {
            let detail = format!("key {key}: two writes have place {}: {pair:?}", pair[0].position);
            return Err(Violation::new("linearizable", detail));
        }
    }
    let mut latest: Option<&Placed> = None;
    for op in placed.iter() {
        if let Some(earlier) = latest
            && op.returned_ns < earlier.invoked_ns
        {
            let detail = format!("key {key}: {op:?} had returned before {earlier:?} was called");
            return Err(Violation::new("linearizable", detail));
        }
        if latest.is_none_or(|earlier| earlier.invoked_ns < op.invoked_ns) {
            latest = Some(op);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Placed, check};

    fn op(position: u64, is_write: bool, invoked_ns: u64, returned_ns: u64) -> Placed {
        Placed { position, is_write, invoked_ns, returned_ns, client: 0 }
    }

    #[test]
    fn order_of_one_key() {
        let forever = u64::MAX;
        let cases = [
            ("writes one after the other", vec![op(1, true, 0, 1), op(2, true, 2, 3)], true),
            ("writes against their order", vec![op(2, true, 0, 1), op(1, true, 2, 3)], false),
            ("the same, but at once", vec![op(2, true, 0, 3), op(1, true, 2, 3)], true),
            ("a read that misses a finished write", vec![op(1, true, 0, 1), op(0, false, 2, 3)], false),
            ("a read that misses one under way", vec![op(1, true, 0, 3), op(0, false, 2, 3)], true),
            ("a read of what is not yet asked", vec![op(1, false, 0, 1), op(1, true, 2, 3)], false),
            ("reads that go back", vec![op(1, true, 0, 9), op(1, false, 1, 2), op(0, false, 3, 4)], false),
            ("a write that never returned", vec![op(1, true, 0, forever), op(2, true, 1, 2)], true),
            ("two writes at one place", vec![op(1, true, 0, 9), op(1, true, 0, 9)], false),
        ];
        for (name, mut placed, right) in cases {
            assert_eq!(check(0, &mut placed).is_ok(), right, "{name}");
        }
    }
}
