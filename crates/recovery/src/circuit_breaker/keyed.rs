//! Many breakers, one for each key: a node, an address, a method.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::breaker::{CircuitBreaker, Outcome, Permit, Rejected};
use super::config::{Config, ConfigError};
use crate::Now;

/// Breakers by key, at most so many.
///
/// When a new key finds no place, a closed breaker that was not used lately gives way; with it goes its window, and nothing else. Open and
/// half-open ones, and those about to open, stay: forgetting them would let calls through that must not be. O(log n) a call; a search for a
/// place looks at each breaker at most twice.
#[derive(Clone, Debug)]
pub struct Breakers<K> {
    config: Config,
    keys_max: usize,
    places: BTreeMap<K, usize>,
    slots: Vec<Slot<K>>,
    /// Where the next search for a place begins (the "clock" algorithm).
    hand: usize,
    evicted: u64,
}

#[derive(Clone, Debug)]
struct Slot<K> {
    key: K,
    breaker: CircuitBreaker,
    /// Which key's life this is; permits of an evicted breaker are void.
    life: u64,
    used: bool,
}

/// A permit of one of many breakers.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the call's outcome has to be recorded"]
pub struct KeyedPermit {
    slot: usize,
    life: u64,
    permit: Permit,
}

/// A call that was not let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRefused {
    /// By its breaker.
    Rejected(Rejected),
    /// There are too many keys, and every other breaker is needed.
    Full,
}

impl fmt::Display for KeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRefused::Rejected(rejected) => rejected.fmt(f),
            KeyRefused::Full => f.write_str("no circuit breaker is free for another key: not asked"),
        }
    }
}

impl core::error::Error for KeyRefused {}

impl<K: Ord + Clone> Breakers<K> {
    /// No breaker yet; each will have these settings.
    ///
    /// # Errors
    /// [`ConfigError`] if no breaker can have them.
    ///
    /// # Panics
    /// If `keys_max` is 0.
    pub fn new(config: Config, keys_max: usize) -> Result<Breakers<K>, ConfigError> {
        assert!(keys_max > 0, "there is room for one key");
        config.check()?;
        Ok(Breakers { config, keys_max, places: BTreeMap::new(), slots: Vec::new(), hand: 0, evicted: 0 })
    }

    /// May this key's service be called now?
    ///
    /// # Errors
    /// [`KeyRefused`]: the call must not be made.
    pub fn admit(&mut self, key: &K, now: impl Now) -> Result<KeyedPermit, KeyRefused> {
        let at = match self.places.get(key) {
            Some(at) => *at,
            None => self.make_room(key).ok_or(KeyRefused::Full)?,
        };
        let slot = &mut self.slots[at];
        assert!(slot.key == *key, "a key's place is its own");
        slot.used = true;
        let permit = slot.breaker.admit(now).map_err(KeyRefused::Rejected)?;
        Ok(KeyedPermit { slot: at, life: slot.life, permit })
    }

    /// A call has ended. If its breaker has given way to another since, nothing happens.
    pub fn record(&mut self, permit: KeyedPermit, outcome: Outcome, now: impl Now) {
        assert!(permit.slot < self.slots.len(), "slots are never given up");
        let slot = &mut self.slots[permit.slot];
        assert!(permit.life <= slot.life, "a permit is of one of these breakers");
        if permit.life == slot.life {
            slot.breaker.record(permit.permit, outcome, now);
        }
    }

    fn make_room(&mut self, key: &K) -> Option<usize> {
        assert!(!self.places.contains_key(key), "room is made for a key that has none");
        let breaker = CircuitBreaker::new(self.config).expect("the settings were checked");
        let at = if self.slots.len() < self.keys_max {
            self.slots.push(Slot { key: key.clone(), breaker, life: 0, used: true });
            self.slots.len() - 1
        } else {
            let at = self.find_dispensable()?;
            let slot = &mut self.slots[at];
            self.places.remove(&slot.key).expect("a slot's key has its place");
            *slot = Slot { key: key.clone(), breaker, life: slot.life + 1, used: true };
            self.evicted += 1;
            at
        };
        self.places.insert(key.clone(), at);
        assert!(self.places.len() == self.slots.len(), "one place for each key");
        assert!(self.slots.len() <= self.keys_max, "keys are bounded");
        Some(at)
    }

    fn find_dispensable(&mut self) -> Option<usize> {
        assert!(self.slots.len() == self.keys_max, "nobody gives way while there is room");
        for _ in 0..2 * self.slots.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if slot.breaker.is_dispensable() && !core::mem::take(&mut slot.used) {
                return Some(at);
            }
        }
        None
    }

    /// This key's breaker, if it has one now.
    #[must_use]
    pub fn breaker(&self, key: &K) -> Option<&CircuitBreaker> {
        self.places.get(key).map(|at| &self.slots[*at].breaker)
    }

    /// The same, to take its events.
    pub fn breaker_mut(&mut self, key: &K) -> Option<&mut CircuitBreaker> {
        self.places.get(key).map(|at| &mut self.slots[*at].breaker)
    }

    /// All keys that have a breaker now, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.places.keys()
    }

    /// How many breakers have given way.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}
