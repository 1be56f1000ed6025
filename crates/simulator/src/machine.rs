//! What a protocol alone replicates in the simulator: a small deterministic state machine.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use keypact_protocol::{DecodeError, Delivery};

use crate::Applied;

/// A state machine. Equal deliveries in equal order give equal states and answers.
pub trait StateMachine: Default + Clone + PartialEq + Debug {
    /// What clients write.
    type Command: Clone + Debug;
    /// What clients read.
    type Query: Clone + Debug;
    /// What they are told.
    type Answer: Clone + Debug + PartialEq;

    /// Appends a command's encoding.
    fn encode(command: &Self::Command, out: &mut BytesMut);

    /// Applies a command in its order. The index is the caller's business.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no command; the state is unchanged.
    fn apply(&mut self, delivery: &Delivery) -> Result<Self::Answer, DecodeError>;

    /// What the last [`StateMachine::apply`] was worth, in commands: its price is so many times [`crate::Costs::work_ns`]. More than one where
    /// one delivery does what several commands did.
    fn work(&self) -> u64 {
        1
    }

    /// Answers from the present state.
    fn read(&self, query: &Self::Query) -> Self::Answer;

    /// A digest of the one key that a query reads, if it reads one.
    fn key_of(query: &Self::Query) -> Option<u64> {
        let _ = query;
        None
    }

    /// Appends the whole state. O(state).
    fn save(&self, out: &mut Vec<u8>);

    /// Reads back what [`StateMachine::save`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no state.
    fn load(bytes: Bytes) -> Result<Self, DecodeError>;

    /// A digest of the state; equal states have equal digests. O(1): kept up by [`StateMachine::apply`].
    fn digest(&self) -> u64;

    /// What must be equal on all processes in the end; `index` is that of the last command applied. Overridden where processes deliver in
    /// different orders.
    fn compared(&self, index: u64) -> Applied {
        Applied { index, digest: self.digest() }
    }
}
