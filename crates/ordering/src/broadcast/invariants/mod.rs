//! Cluster-wide checks: what must be true of all members of a group together.
//!
//! A simulator keeps one [`BroadcastInvariants`] a group, and gives it each member right after a batch, with what the batch delivered. The
//! checks remember what members showed, so they hold across crashes.

mod clock_never_falls;
mod one_message;

use alloc::string::String;
use core::fmt;

use keypact_protocol::{Delivery, NodeId, Wire};

use super::{Broadcast, Order};
use crate::envelope::Envelope;
use clock_never_falls::ClockNeverFalls;
use one_message::OneMessage;

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// Who and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

impl core::error::Error for Violation {}

/// All checks of one group.
#[derive(Debug, Default)]
pub struct BroadcastInvariants {
    one_message: OneMessage,
    clock_never_falls: ClockNeverFalls,
}

impl BroadcastInvariants {
    /// Looks at a member that has just started, or handled a batch, and at what that delivered. O(what is new).
    ///
    /// # Errors
    /// [`Violation`] names the first property found broken.
    pub fn check<O: Order>(
        &mut self,
        node: NodeId,
        member: &Broadcast<O>,
        delivered: &[Delivery],
    ) -> Result<(), Violation> {
        for delivery in delivered {
            let envelope = Envelope::decode(delivery.command.clone()).map_err(|error| Violation {
                property: "delivers-envelopes",
                detail: alloc::format!("{node}, delivery {}: {error}", delivery.index),
            })?;
            self.one_message.check(node, &envelope)?;
            self.clock_never_falls.delivered(node, envelope.dot);
        }
        self.clock_never_falls.check(node, member.delivered())
    }
}
