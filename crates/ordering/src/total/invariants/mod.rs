//! What must hold over all members at once; for simulators and tests.

mod one_order;

use alloc::string::String;

use keypact_protocol::{Delivery, NodeId};

use one_order::OneOrder;

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
pub struct TotalInvariants {
    one_order: OneOrder,
}

impl TotalInvariants {
    /// Looks at what a member has just delivered. O(deliveries).
    ///
    /// # Errors
    /// [`Violation`], the first.
    pub fn check(&mut self, node: NodeId, delivered: &[Delivery]) -> Result<(), Violation> {
        self.one_order.check(node, delivered)
    }
}
