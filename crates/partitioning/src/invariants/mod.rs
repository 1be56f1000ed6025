//! What must hold over all nodes at once: for simulators, which see everything. They share no table with what they judge.

mod distinct_hosts;
mod moved_once;
mod one_owner;

use alloc::string::String;

pub use distinct_hosts::DistinctHosts;
pub use moved_once::MovedOnce;
pub use one_owner::OneOwner;

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvariantViolation {
    /// Which, in kebab case.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}
