//! The multi-value register.

use core::fmt::Debug;

use keypact_ordering::clock::ReplicaId;

use crate::causal::{Causal, CausalDelta, DotFunction};
use crate::codec::Codec;

/// A register that keeps all values that were written concurrently, until someone who has seen them writes again.
pub type MvRegister<V> = Causal<DotFunction<V>>;

impl<V: Clone + PartialEq + Debug + Codec> MvRegister<V> {
    /// The values, by the dots that wrote them; none before the first write.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.store().entries().map(|(_, value)| value)
    }

    /// Writes a value in place of all that are seen.
    pub fn assign(&mut self, value: V, replica: ReplicaId) -> CausalDelta<DotFunction<V>> {
        let delta = self.mutate(replica, |store, event| store.replace_all(value, event));
        assert!(self.values().len() == 1, "who writes has seen all that is here");
        delta
    }

    /// Removes all values that are seen.
    pub fn clear(&mut self, replica: ReplicaId) -> CausalDelta<DotFunction<V>> {
        let delta = self.mutate(replica, DotFunction::clear);
        assert!(self.values().len() == 0, "who clears has seen all that is here");
        delta
    }
}
