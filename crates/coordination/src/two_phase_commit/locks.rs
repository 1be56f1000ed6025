//! Locks by key, no-wait: whoever does not get all of them at once gets none, so there are no queues and no deadlocks.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::message::{Lock, Mode, TransactionId};

/// Who holds a key.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Holder {
    /// These share it; never empty, each once, in order.
    Shared(Vec<TransactionId>),
    /// This one has it alone.
    Exclusive(TransactionId),
}

/// The keys that are locked at one participant's leader.
///
/// Invariant: `held` lists for each transaction exactly the keys at which it stands in `keys`.
#[derive(Clone, Default, Debug)]
pub struct Locks {
    keys: BTreeMap<Bytes, Holder>,
    held: BTreeMap<TransactionId, Vec<Bytes>>,
}

impl Locks {
    /// Who stands in the way of this lock, other than `owner` itself. O(log keys).
    #[must_use]
    pub fn conflict(&self, owner: Option<TransactionId>, key: &[u8], mode: Mode) -> Option<TransactionId> {
        match (self.keys.get(key)?, mode) {
            (Holder::Exclusive(holder), _) => (Some(*holder) != owner).then_some(*holder),
            (Holder::Shared(_), Mode::Shared) => None,
            (Holder::Shared(holders), Mode::Exclusive) => {
                holders.iter().copied().find(|holder| Some(*holder) != owner)
            }
        }
    }

    /// Takes all locks, or none and says who stands in the way. A transaction that holds some already keeps them. O(locks log keys).
    ///
    /// # Errors
    /// The holder of the first lock that can't be had; nothing has changed.
    pub fn take(&mut self, owner: TransactionId, locks: &[Lock]) -> Result<(), TransactionId> {
        self.take_over(owner, locks, |_, _| false)
    }

    /// The same, but a lock that stands in the way is passed over if `ignores` says so. Only for a planted bug.
    pub(super) fn take_over(
        &mut self,
        owner: TransactionId,
        locks: &[Lock],
        ignores: impl Fn(&Lock, TransactionId) -> bool,
    ) -> Result<(), TransactionId> {
        for lock in locks {
            if let Some(holder) = self.conflict(Some(owner), &lock.key, lock.mode)
                && !ignores(lock, holder)
            {
                return Err(holder);
            }
        }
        for lock in locks {
            if self.conflict(Some(owner), &lock.key, lock.mode).is_none() {
                self.take_one(owner, lock);
            }
        }
        Ok(())
    }

    fn take_one(&mut self, owner: TransactionId, lock: &Lock) {
        let held = self.held.entry(owner).or_default();
        match self.keys.get_mut(&lock.key) {
            None => {
                let holder = match lock.mode {
                    Mode::Shared => Holder::Shared(alloc::vec![owner]),
                    Mode::Exclusive => Holder::Exclusive(owner),
                };
                self.keys.insert(lock.key.clone(), holder);
                held.push(lock.key.clone());
            }
            Some(Holder::Exclusive(holder)) => assert!(*holder == owner, "conflicts were ruled out"),
            Some(Holder::Shared(holders)) if lock.mode == Mode::Shared => {
                if let Err(place) = holders.binary_search(&owner) {
                    holders.insert(place, owner);
                    held.push(lock.key.clone());
                }
            }
            Some(holder @ Holder::Shared(_)) => {
                assert!(
                    *holder == Holder::Shared(alloc::vec![owner]),
                    "only one's own shared lock is raised"
                );
                *holder = Holder::Exclusive(owner);
            }
        }
    }

    /// Lets go of everything that a transaction holds; nothing happens if it holds nothing. O(its locks log keys).
    pub fn release(&mut self, owner: TransactionId) {
        let before = self.keys.len();
        for key in self.held.remove(&owner).unwrap_or_default() {
            match self.keys.get_mut(&key).expect("what is held stands at its key") {
                Holder::Shared(holders) if holders.len() > 1 => {
                    let place = holders.binary_search(&owner).expect("a holder stands at its key");
                    let removed = holders.remove(place);
                    assert!(removed == owner, "only the holder lets go");
                }
                Holder::Shared(holders) => {
                    assert!(holders[0] == owner, "the last holder lets go");
                    self.keys.remove(&key);
                }
                Holder::Exclusive(holder) => {
                    assert!(*holder == owner, "only the holder lets go");
                    self.keys.remove(&key);
                }
            }
        }
        assert!(self.keys.len() <= before, "letting go locks nothing");
        debug_assert!(!self.held.contains_key(&owner), "it holds nothing any more");
    }

    /// Keys that are locked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Transactions that hold any.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.held.len()
    }

    /// Panics if the two sides contradict each other. O(locks): for tests.
    pub fn assert_whole(&self) {
        let by_key: usize = self
            .keys
            .values()
            .map(|holder| match holder {
                Holder::Shared(holders) => {
                    assert!(!holders.is_empty(), "a shared lock has holders");
                    assert!(holders.windows(2).all(|two| two[0] < two[1]), "each once, in order");
                    holders.len()
                }
                Holder::Exclusive(_) => 1,
            })
            .sum();
        let by_owner: usize = self.held.values().map(Vec::len).sum();
        assert!(by_key == by_owner, "both sides list the same locks");
    }
}
