//! What total order needs of a log.

use core::fmt::Debug;

use keypact_protocol::{NodeId, Protocol};

use super::sequencer::Sequencer;

/// A log that all members deliver alike: whoever implements it says that `Core` keeps this contract.
///
/// 1. All members deliver the same commands at the same indexes, counted from 1 without gaps, or take a snapshot of them.
/// 2. What was delivered anywhere is delivered everywhere in the end, and nothing else takes its place.
/// 3. A command that was proposed stands in the log once at most for each time that it was proposed; never, if it was refused.
/// 4. A proposal that is neither refused at once nor answered by [`Uncertain`](keypact_protocol::Reply::Uncertain) later is delivered in the end.
/// 5. An empty command is the log's own.
///
/// Chandra & Toueg (1996) call it repeated consensus. The node wires it to Raft.
pub trait ReplicatedLog: Debug + 'static {
    /// The protocol that keeps the log.
    type Core: Protocol + Debug;

    /// Who takes proposals, as far as this member knows: itself, if it does.
    fn leader(core: &Self::Core) -> Option<NodeId>;
}

/// The log by sequencer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BySequencer;

impl ReplicatedLog for BySequencer {
    type Core = Sequencer;

    fn leader(core: &Sequencer) -> Option<NodeId> {
        core.sequencer()
    }
}
