//! What must hold over all members at once; for simulators and tests. One file each.

mod one_entry;
mod one_sequencer;

use alloc::string::String;

use keypact_protocol::NodeId;

use super::Sequencer;
use one_entry::OneEntry;
use one_sequencer::OneSequencer;

/// A rule that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// For a person to read.
    pub detail: String,
}

/// All of them, with what they remember.
#[derive(Debug, Default)]
pub struct SequencerInvariants {
    one_entry: OneEntry,
    one_sequencer: OneSequencer,
}

impl SequencerInvariants {
    /// Looks at a member after each of its steps. O(entries committed since the last look).
    ///
    /// # Errors
    /// [`Violation`], the first.
    pub fn check(&mut self, node: NodeId, member: &Sequencer) -> Result<(), Violation> {
        self.one_sequencer.check(node, member)?;
        self.one_entry.check(node, member)
    }
}
