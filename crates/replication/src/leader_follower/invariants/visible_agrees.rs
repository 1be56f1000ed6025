//! What was visible at one member is the same at every other: with acknowledgements, nothing visible is ever replaced.

use alloc::format;
use alloc::vec::Vec;

use super::{Step, Violation, checksum};

#[derive(Debug, Default)]
pub(super) struct VisibleAgrees {
    /// Epoch and checksum of the visible entry at index `i + 1`.
    visible: Vec<(u64, u64)>,
}

impl VisibleAgrees {
    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let tail = step.member.tail();
        let seen = if step.before.same_life { step.before.commit } else { 0 };
        for index in seen.max(tail.base().index) + 1..=step.member.commit_index() {
            let slot = tail.slot(index).expect("what is visible is in the tail or checkpoint");
            let entry = (slot.entry.term(), checksum(&slot.entry));
            let place = usize::try_from(index - 1).expect("few entries");
            match self.visible.get(place) {
                Some(first) if *first != entry => {
                    let detail = format!(
                        "at {index} {} shows an entry of epoch {}, not {}",
                        step.id, entry.0, first.0
                    );
                    return Err(Violation { property: "visible-is-kept", detail });
                }
                Some(_) => {}
                None if place == self.visible.len() => self.visible.push(entry),
                None => {
                    let detail = format!("{} shows index {index} before anyone the one before", step.id);
                    return Err(Violation { property: "visible-is-kept", detail });
                }
            }
        }
        Ok(())
    }
}
