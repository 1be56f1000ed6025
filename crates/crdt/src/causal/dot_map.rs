//! Stores by key.

use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt::Debug;
use core::mem;

use alloc::collections::BTreeMap;
use alloc::collections::btree_map;
use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::DecodeError;

use super::{DotStore, Event, Sides};
use crate::codec::{Codec, Reader};

/// A store by key, all under one context: what lies in a map has no context of its own, however deep.
///
/// A key is there as long as a dot lives under it. Only in deltas a key can be without: it says that dots under it were removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DotMap<K, S> {
    entries: BTreeMap<K, S>,
}

impl<K, S> Default for DotMap<K, S> {
    fn default() -> DotMap<K, S> {
        DotMap { entries: BTreeMap::new() }
    }
}

impl<K: Ord + Clone + Debug + Codec, S: DotStore> DotMap<K, S> {
    /// What lies under a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&S>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Keys with what lies under them, in order.
    pub fn iter(&self) -> btree_map::Iter<'_, K, S> {
        self.entries.iter()
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The delta of a mutation under `key`: `mutate` is given what lies there, or an empty store, and makes the delta of that.
    #[must_use]
    pub fn update(
        &self,
        key: K,
        event: &mut Event,
        mutate: impl FnOnce(&S, &mut Event) -> S,
    ) -> DotMap<K, S> {
        let inner = match self.entries.get(&key) {
            Some(held) => mutate(held, event),
            None => mutate(&S::default(), event),
        };
        DotMap { entries: BTreeMap::from([(key, inner)]) }
    }

    /// The delta that removes all that is seen under `key`. What others put there meanwhile stays.
    #[must_use]
    pub fn remove<Q: Ord + ?Sized>(&self, key: &Q, event: &mut Event) -> DotMap<K, S>
    where
        K: Borrow<Q>,
    {
        let mut delta = DotMap::default();
        if let Some((key, held)) = self.entries.get_key_value(key) {
            event.supersede(held);
            delta.entries.insert(key.clone(), held.emptied());
        }
        assert!(delta.len() <= 1, "one key is removed");
        delta
    }

    /// The delta that removes all that is seen under all keys.
    #[must_use]
    pub fn clear(&self, event: &mut Event) -> DotMap<K, S> {
        event.supersede(self);
        self.emptied()
    }

    /// Joins key by key what `other` lists, and passes over the rest. O(keys of `other` · log keys).
    fn join_listed(&mut self, other: DotMap<K, S>, sides: &Sides<'_>) -> bool {
        let mut changed = false;
        let most = self.entries.len() + other.entries.len();
        for (key, mut theirs) in other.entries {
            match self.entries.entry(key) {
                btree_map::Entry::Occupied(mut held) => {
                    changed |= held.get_mut().join(theirs, sides);
                    if held.get().is_bottom() && !sides.hints {
                        held.remove();
                    }
                }
                btree_map::Entry::Vacant(place) => {
                    theirs.drop_seen(sides.ours, sides.hints);
                    if !theirs.is_bottom() {
                        changed = true;
                        place.insert(theirs);
                    } else if sides.hints {
                        place.insert(theirs);
                    }
                }
            }
        }
        assert!(self.entries.len() <= most, "keys come from one side or the other");
        changed
    }

    /// Joins all keys of both, in order. O(keys of both).
    fn join_all(&mut self, other: DotMap<K, S>, sides: &Sides<'_>) -> bool {
        let mut joined: Vec<(K, S)> = Vec::with_capacity(self.entries.len() + other.entries.len());
        let mut changed = false;
        let mut mine = mem::take(&mut self.entries).into_iter().peekable();
        let mut theirs = other.entries.into_iter().peekable();
        loop {
            let order = match (mine.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let (key, store) = match order {
                Ordering::Less => {
                    let (key, mut store) = mine.next().expect("it was peeked at");
                    changed |= store.drop_seen(sides.theirs, sides.hints);
                    (key, store)
                }
                Ordering::Greater => {
                    let (key, mut store) = theirs.next().expect("it was peeked at");
                    store.drop_seen(sides.ours, sides.hints);
                    changed |= !store.is_bottom();
                    (key, store)
                }
                Ordering::Equal => {
                    let (key, mut store) = mine.next().expect("it was peeked at");
                    let (_, other) = theirs.next().expect("it was peeked at");
                    changed |= store.join(other, sides);
                    (key, store)
                }
            };
            if sides.hints || !store.is_bottom() {
                joined.push((key, store));
            }
        }
        let count = joined.len();
        self.entries = joined.into_iter().collect();
        assert!(self.entries.len() == count, "both were in order, so each key came once");
        changed
    }
}

impl<K: Ord + Clone + Debug + Codec, S: DotStore> DotStore for DotMap<K, S> {
    #[inline]
    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn for_each_dot(&self, visit: &mut dyn FnMut(Dot)) {
        self.entries.values().for_each(|store| store.for_each_dot(visit));
    }

    fn join(&mut self, other: DotMap<K, S>, sides: &Sides<'_>) -> bool {
        if sides.whole { self.join_all(other, sides) } else { self.join_listed(other, sides) }
    }

    fn drop_seen(&mut self, seen: &DotContext, hints: bool) -> bool {
        let mut changed = false;
        self.entries.retain(|_, store| {
            changed |= store.drop_seen(seen, hints);
            hints || !store.is_bottom()
        });
        changed
    }

    fn emptied(&self) -> DotMap<K, S> {
        let emptied = self.entries.iter().map(|(key, store)| (key.clone(), store.emptied()));
        let entries: BTreeMap<K, S> = emptied.collect();
        assert!(entries.len() == self.entries.len(), "every key is told");
        DotMap { entries }
    }

    fn unseen(&self, seen: &DotContext) -> DotMap<K, S> {
        let parts = self.entries.iter().map(|(key, store)| (key, store.unseen(seen)));
        let entries = parts.filter(|(_, part)| !part.is_bottom());
        let entries: BTreeMap<K, S> = entries.map(|(key, part)| (key.clone(), part)).collect();
        assert!(entries.len() <= self.entries.len(), "a part");
        DotMap { entries }
    }

    fn split(self, bytes_max: usize, part: &mut dyn FnMut(DotMap<K, S>)) {
        // The count takes at most five bytes for any map that fits into memory.
        let (mut gathered, mut bytes) = (DotMap::default(), 5);
        for (key, store) in self.entries {
            let key_len = key.encoded_len();
            let len = key_len + store.encoded_len();
            if bytes + len > bytes_max && !gathered.entries.is_empty() {
                part(mem::take(&mut gathered));
                bytes = 5;
            }
            if bytes + len <= bytes_max {
                gathered.entries.insert(key, store);
                bytes += len;
            } else {
                let inner_max = bytes_max.saturating_sub(5 + key_len).max(1);
                store.split(inner_max, &mut |inner| {
                    part(DotMap { entries: BTreeMap::from([(key.clone(), inner)]) });
                });
            }
        }
        if !gathered.entries.is_empty() {
            part(gathered);
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        (self.entries.len() as u64).put(out);
        for (key, store) in &self.entries {
            key.put(out);
            store.put(out);
        }
    }

    fn take(input: &mut Reader, hints: bool) -> Result<DotMap<K, S>, DecodeError> {
        let count = input.count(1)?;
        input.nested(|input| {
            let mut entries: Vec<(K, S)> = Vec::new();
            for _ in 0..count {
                let key = K::take(input)?;
                if entries.last().is_some_and(|before| before.0 >= key) {
                    return Err(DecodeError::new("keys in order"));
                }
                let store = S::take(input, hints)?;
                if store.is_bottom() && !hints {
                    return Err(DecodeError::new("keys with dots"));
                }
                entries.push((key, store));
            }
            assert!(entries.len() == count, "all were read");
            Ok(DotMap { entries: entries.into_iter().collect() })
        })
    }

    fn encoded_len(&self) -> usize {
        let entries = self.entries.iter().map(|(key, store)| key.encoded_len() + store.encoded_len());
        (self.entries.len() as u64).encoded_len() + entries.sum::<usize>()
    }
}
