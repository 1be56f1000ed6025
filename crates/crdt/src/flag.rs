//! Flags: one bit that several may set and clear at once.

use keypact_ordering::clock::ReplicaId;

use crate::causal::{Causal, CausalDelta, DotSet, DotStore, Event};
use crate::delegate::delegate_store;

/// The store of an [`EnableWinsFlag`]: enabled while a dot lives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EnableWins(DotSet);

/// The store of a [`DisableWinsFlag`]: disabled while a dot lives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DisableWins(DotSet);

delegate_store!(EnableWins);
delegate_store!(DisableWins);

impl EnableWins {
    /// Whether the flag is up. Down at first.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.0.is_bottom()
    }

    /// The delta that puts it up.
    #[must_use]
    pub fn enable(&self, event: &mut Event) -> EnableWins {
        EnableWins(self.0.renew(event))
    }

    /// The delta that takes it down, as far as it was seen up.
    #[must_use]
    pub fn disable(&self, event: &mut Event) -> EnableWins {
        EnableWins(self.0.clear(event))
    }
}

impl DisableWins {
    /// Whether the flag is up. Up at first.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_bottom()
    }

    /// The delta that puts it up, as far as it was seen down.
    #[must_use]
    pub fn enable(&self, event: &mut Event) -> DisableWins {
        DisableWins(self.0.clear(event))
    }

    /// The delta that takes it down.
    #[must_use]
    pub fn disable(&self, event: &mut Event) -> DisableWins {
        DisableWins(self.0.renew(event))
    }
}

/// A flag, down at first. Of concurrent settings *enable* wins.
pub type EnableWinsFlag = Causal<EnableWins>;

/// A flag, up at first. Of concurrent settings *disable* wins.
pub type DisableWinsFlag = Causal<DisableWins>;

impl EnableWinsFlag {
    /// Whether the flag is up.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.store().is_enabled()
    }

    /// Puts it up.
    pub fn enable(&mut self, replica: ReplicaId) -> CausalDelta<EnableWins> {
        let delta = self.mutate(replica, EnableWins::enable);
        assert!(self.is_enabled(), "nothing takes it down at the same time here");
        delta
    }

    /// Takes it down. The delta is empty if it is down already.
    pub fn disable(&mut self, replica: ReplicaId) -> CausalDelta<EnableWins> {
        let delta = self.mutate(replica, EnableWins::disable);
        assert!(!self.is_enabled(), "all that was seen is superseded");
        delta
    }
}

impl DisableWinsFlag {
    /// Whether the flag is up.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.store().is_enabled()
    }

    /// Puts it up. The delta is empty if it is up already.
    pub fn enable(&mut self, replica: ReplicaId) -> CausalDelta<DisableWins> {
        let delta = self.mutate(replica, DisableWins::enable);
        assert!(self.is_enabled(), "all that was seen is superseded");
        delta
    }

    /// Takes it down.
    pub fn disable(&mut self, replica: ReplicaId) -> CausalDelta<DisableWins> {
        let delta = self.mutate(replica, DisableWins::disable);
        assert!(!self.is_enabled(), "nothing puts it up at the same time here");
        delta
    }
}
