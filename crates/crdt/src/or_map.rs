//! Maps and sets in which whoever adds wins over whoever removes without having seen it.

use core::borrow::Borrow;
use core::fmt::Debug;

use keypact_ordering::clock::ReplicaId;

use crate::causal::{Causal, CausalDelta, DotMap, DotSet, DotStore, Event};
use crate::codec::Codec;

/// A map whose values are causal types themselves: registers, counters, flags, sets, maps. One context serves all of it.
///
/// A key is there while anything lives under it. Removing a key removes what was seen under it, and nothing else: a concurrent update
/// keeps the key, with what that update wrote.
pub type OrMap<K, S> = Causal<DotMap<K, S>>;

/// A set: of a concurrent add and remove of one element, the add wins.
pub type OrSet<E> = Causal<DotMap<E, DotSet>>;

impl<K: Ord + Clone + Debug + Codec, S: DotStore> OrMap<K, S> {
    /// What lies under a key. O(log n).
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&S>
    where
        K: Borrow<Q>,
    {
        self.store().get(key)
    }

    /// Whether the key, or element, is there. O(log n).
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.store().get(key).is_some()
    }

    /// All keys, or elements, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.store().iter().map(|(key, _)| key)
    }

    /// How many keys, or elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store().is_empty()
    }

    /// Mutates what lies under a key: `mutate` is given it, or an empty store, and makes its delta.
    pub fn update(
        &mut self,
        key: K,
        replica: ReplicaId,
        mutate: impl FnOnce(&S, &mut Event) -> S,
    ) -> CausalDelta<DotMap<K, S>> {
        let delta = self.mutate(replica, |store, event| store.update(key, event, mutate));
        assert!(delta.store().len() <= 1, "one key is changed, or none");
        delta
    }

    /// Removes what is seen under a key, or an element. The delta is empty if it is not there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, replica: ReplicaId) -> CausalDelta<DotMap<K, S>>
    where
        K: Borrow<Q>,
    {
        let delta = self.mutate(replica, |store, event| store.remove(key, event));
        assert!(!self.contains(key), "all that was seen under the key is superseded");
        delta
    }

    /// Removes all that is seen. The delta lists every key.
    pub fn clear(&mut self, replica: ReplicaId) -> CausalDelta<DotMap<K, S>> {
        let delta = self.mutate(replica, DotMap::clear);
        assert!(self.is_empty(), "all that was seen is superseded");
        delta
    }
}

impl<E: Ord + Clone + Debug + Codec> OrSet<E> {
    /// Adds an element. Also if it is there already: whoever removed it meanwhile shall not have seen this.
    pub fn add(&mut self, element: E, replica: ReplicaId) -> CausalDelta<DotMap<E, DotSet>> {
        let delta = self.update(element, replica, DotSet::renew);
        assert!(delta.store().len() == 1 && !self.is_empty(), "an add always adds a dot");
        delta
    }
}
