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
