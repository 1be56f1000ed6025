//! Log matching: if two logs hold an entry of the same index and term, they are equal up to there (paper, 5.3).
//!
//! By induction it is enough that equal (index, term) means the same entry, with an entry of the same term before it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::{Step, Violation, checksum};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    term: u64,
    prev_term: u64,
    checksum: u64,
}

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    /// By index: the first entry seen there. Index 0 is never used.
    first: Vec<Option<Row>>,
    /// By index and term: entries seen there later. Few, since only changes of leader make them.
    others: BTreeMap<(u64, u64), Row>,
}

impl LogMatching {
    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let tail = step.raft.tail();
        let Some(slots) = tail.slots_from(step.fresh_from) else { return Ok(()) };
        let mut prev_term = tail.term_at(step.fresh_from - 1).unwrap_or_default();
        for slot in slots {
            let entry = &slot.entry;
            let row = Row { term: entry.term(), prev_term, checksum: checksum(entry) };
            let known = self.known(entry.index(), row);
            if known != row {
                return Err(Violation {
                    property: "log matching",
                    detail: format!("{} holds {entry:?} as {row:?}, another {known:?}", step.id),
                });
            }
            prev_term = row.term;
        }
        Ok(())
    }

    /// What was first seen at this index and term; `row` if nothing was.
    fn known(&mut self, index: u64, row: Row) -> Row {
        let place = usize::try_from(index).expect("logs in a simulation are short");
        if self.first.len() <= place {
            self.first.resize(place + 1, None);
        }
        match &mut self.first[place] {
            Some(first) if first.term == row.term => *first,
            Some(_) => *self.others.entry((index, row.term)).or_insert(row),
            empty => *empty.insert(row),
        }
    }
}
