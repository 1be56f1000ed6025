//! What a parent gives to a replica, and what it is given back.

use core::fmt::Debug;

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_crdt::{Lattice, OrSet, PnCounter};
use keypact_ordering::clock::{HybridStamp, ReplicaId, varint};
use keypact_protocol::{DecodeError, Refusal, Wire};

use super::view::{end, take_byte};

/// Under which name and when a command is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    /// Who counts the event.
    pub replica: ReplicaId,
    /// Above all stamps that were seen here, as far as they were believed.
    pub stamp: HybridStamp,
    /// For commands that choose at random.
    pub seed: u64,
}

/// A lattice that carries out commands. They are carried out where they are given, once; what travels is what they did.
///
/// Whatever changes something must be an event ([`Delta::events`](keypact_crdt::Delta::events)): by their events peers know what they lack. A
/// [`keypact_crdt::LwwRegister`] by itself has none; under a key of an [`keypact_crdt::OrMap`] it has ([`keypact_crdt::Latest`]).
pub trait Replicated: Lattice {
    /// Carries out a command as one mutation under the writer's name; returns its delta, empty if nothing changed.
    ///
    /// # Errors
    /// Why it can't be carried out. The state has not changed.
    ///
    /// [`super::Gossip`] panics if a delta that is not empty has no event.
    fn carry_out(&mut self, command: Bytes, writer: Writer) -> Result<Self::Delta, Refusal>;

    /// Begins anew with nothing: the replica re-enters under another identity. For types that keep something beside the state.
    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A set of byte strings: `+milk` adds, `-milk` removes. All else is refused as too large.
impl Replicated for OrSet<Bytes> {
    fn carry_out(&mut self, mut command: Bytes, writer: Writer) -> Result<Self::Delta, Refusal> {
        if command.is_empty() {
            return Err(Refusal::TooLarge);
        }
        match command.split_to(1)[0] {
            b'+' => Ok(self.add(command, writer.replica)),
            b'-' => Ok(self.remove(&command, writer.replica)),
            _ => Err(Refusal::TooLarge),
        }
    }
}

/// A counter: eight bytes, lowest first, are added. All else is refused as too large.
impl Replicated for PnCounter {
    fn carry_out(&mut self, command: Bytes, writer: Writer) -> Result<Self::Delta, Refusal> {
        let by = command.as_ref().try_into().map(i64::from_le_bytes).map_err(|_| Refusal::TooLarge)?;
        self.add(by, writer.replica).map_err(|_| Refusal::TooLarge)
    }
}

/// What a [`keypact_protocol::Delivery`] says. A parent that keeps a copy of the state does the same to it ([`Change::apply_to`]); one that
/// reads [`super::Gossip::state`] need not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Join this delta.
    Join(Bytes),
    /// Begin anew with nothing: this replica re-enters the group under another identity.
    Reset,
    /// Drop the names of this identity's events.
    Forget(ReplicaId),
}

impl Change {
    /// Does to a copy what was done to the state.
    ///
    /// # Errors
    /// The delta is none of this type; the copy has not changed.
    pub fn apply_to<L: Lattice>(&self, copy: &mut L) -> Result<(), DecodeError> {
        match self {
            Change::Join(delta) => {
                copy.apply(L::Delta::decode(delta.clone())?);
            }
            Change::Reset => {
                *copy = L::default();
                assert!(copy.version().is_empty(), "a default state has seen nothing");
            }
            Change::Forget(replica) => copy.forget(*replica),
        }
        Ok(())
    }
}

impl Wire for Change {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Change::Join(delta) => {
                out.push(0);
                out.extend_from_slice(delta);
            }
            Change::Reset => out.push(1),
            Change::Forget(replica) => {
                out.push(2);
                varint::put(replica.0, out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Change, DecodeError> {
        let change = match take_byte(&mut bytes)? {
            0 => return Ok(Change::Join(bytes)),
            1 => Change::Reset,
            2 => Change::Forget(ReplicaId(varint::take(&mut bytes)?)),
            _ => return Err(DecodeError::new("a change's kind")),
        };
        end(&bytes)?;
        Ok(change)
    }
}
