//! Two logs that have entries of the same epoch at the same index have the same entry there, and the same epoch before it.

use alloc::collections::BTreeMap;
use alloc::format;

use super::{Step, Violation, checksum};

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    /// (epoch, index) of every entry ever seen: its checksum, and the epoch before it.
    entries: BTreeMap<(u64, u64), (u64, u64)>,
}

impl LogMatching {
    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let tail = step.member.tail();
        let Some(slots) = tail.slots_from(step.fresh_from) else { return Ok(()) };
        for slot in slots {
            let (epoch, index) = (slot.entry.term(), slot.entry.index());
            let before = tail.term_at(index - 1).expect("the tail has no gaps");
            assert!(epoch >= before && index > 0, "epochs never fall along a log");
            let seen = (checksum(&slot.entry), before);
            if *self.entries.entry((epoch, index)).or_insert(seen) != seen {
                let detail = format!("{} has another entry {index} of epoch {epoch}", step.id);
                return Err(Violation { property: "log-matching", detail });
            }
        }
        Ok(())
    }
}
