//! What one member has committed is what every other commits there: one history, never taken back.

use alloc::format;
use alloc::vec::Vec;

use super::{Step, Violation, checksum};

#[derive(Debug, Default)]
pub(super) struct OneHistory {
    /// Epoch and checksum of the committed entry at index `i + 1`.
    committed: Vec<(u64, u64)>,
    /// In which epoch the one was who showed it first.
    shown_in: Vec<u64>,
}

impl OneHistory {
    /// How many entries were ever committed.
    pub(super) fn len(&self) -> u64 {
        self.committed.len() as u64
    }

    /// The last entry that was committed in this epoch or an earlier one.
    pub(super) fn end_at(&self, epoch: u64) -> u64 {
        self.shown_in.iter().rposition(|shown_in| *shown_in <= epoch).map_or(0, |at| at as u64 + 1)
    }

    /// The epoch of the committed entry at `index`.
    pub(super) fn epoch_at(&self, index: u64) -> Option<u64> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.committed.get(at).map(|(epoch, _)| *epoch)
    }

    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let tail = step.member.tail();
        let seen = if step.before.same_life { step.before.commit } else { 0 };
        for index in seen.max(tail.base().index) + 1..=step.now.commit {
            let slot = tail.slot(index).expect("what is committed is in the tail or checkpoint");
            let entry = (slot.entry.term(), checksum(&slot.entry));
            let at = usize::try_from(index - 1).expect("few entries");
            match self.committed.get(at) {
                Some(first) if *first != entry => {
                    let detail = format!(
                        "at {index} {} commits an entry of epoch {}, not {}",
                        step.id, entry.0, first.0
                    );
                    return Err(Violation { property: "one-history", detail });
                }
                Some(_) => {}
                None if at == self.committed.len() => {
                    self.committed.push(entry);
                    self.shown_in.push(step.now.epoch);
                    assert_eq!(self.committed.len(), self.shown_in.len(), "both are of each entry");
                }
                None => {
                    let detail = format!("{} commits {index} before anyone the one before", step.id);
                    return Err(Violation { property: "one-history", detail });
                }
            }
        }
        Ok(())
    }
}
