//! Keys in buckets, their deadlines, and what the two weigh.
//!
//! A key's place is decided by a keyed stable hash: [`BUCKETS`] buckets, and within one a 32-bit tag. Each bucket is a
//! hash table that grows alone, so that growth stops the world for one bucket's length at most. Key and value lie in
//! one allocation behind a 48-byte slot.
//!
//! Memory with 16-byte keys and 64-byte values, in an allocator with 16-byte steps: 96 bytes for key and value, 56 to 112
//! for the slot at a load between 7/8 and 7/16, and 32 more once the value has been read (the shared count that lets a
//! reply hold the value without a copy): 170 bytes a key on average, 200 after a read. A deadline adds about 30.

mod before;
mod deadlines;
pub(crate) mod listing;
pub(crate) mod load;
pub(crate) mod slot;
pub(crate) mod snapshot;

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use keypact_resp::Value;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xxhash_rust::xxh3::{xxh3_64_with_secret, xxh3_64_with_seed};

use crate::partition::Limits;
use deadlines::Deadlines;
use listing::{ListingId, Listings};
use slot::Slot;
use snapshot::Snapshot;

/// Buckets of a partition. With ten million keys a bucket has ten thousand, and grows in about a tenth of a millisecond.
pub(crate) const BUCKETS: usize = 1024;
/// What a slot takes in its table at average load, what an allocation takes beside its bytes, and what rounding adds.
const ENTRY_BYTES: u64 = 96;
/// What a deadline takes in its index.
const DEADLINE_BYTES: u64 = 32;
/// XXH3 wants at least 136 bytes of secret.
const SECRET_BYTES: usize = 192;

pub(crate) type Bucket = HashTable<Slot>;

/// Where a key belongs. Orders keys the same way on every replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Location {
    pub(crate) bucket: u16,
    pub(crate) tag: u32,
}

impl Location {
    /// As one number below 2^42.
    pub(crate) fn rank(self) -> u64 {
        u64::from(self.bucket) << 32 | u64::from(self.tag)
    }

    pub(crate) fn of_rank(rank: u64) -> Location {
        let bucket = rank >> 32;
        assert!(bucket < BUCKETS as u64, "a rank is below 2^42");
        Location { bucket: bucket as u16, tag: rank as u32 }
    }
}

pub(crate) struct Store {
    pub(crate) hash_key: [u8; 16],
    pub(crate) limits: Limits,
    secret: Box<[u8; SECRET_BYTES]>,
    buckets: Box<[Bucket]>,
    pub(crate) deadlines: Deadlines,
    len: usize,
    /// Bytes of keys and values.
    payload_bytes: u64,
    snapshot: Option<Box<Snapshot>>,
    listings: Listings,
    /// Flushed, waiting to be freed bit by bit.
    discarded: Vec<Bucket>,
    freeing: Option<hashbrown::hash_table::IntoIter<Slot>>,
}

impl Store {
    pub(crate) fn new(hash_key: [u8; 16], limits: Limits) -> Store {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&hash_key);
        let mut secret = Box::new([0; SECRET_BYTES]);
        ChaCha8Rng::from_seed(seed).fill_bytes(secret.as_mut_slice());
        Store {
            hash_key,
            limits,
            secret,
            buckets: empty_buckets().into_boxed_slice(),
            deadlines: Deadlines::default(),
            len: 0,
            payload_bytes: 0,
            snapshot: None,
            listings: Listings::default(),
            discarded: Vec::new(),
            freeing: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.payload_bytes + self.len as u64 * ENTRY_BYTES + self.deadlines.len() as u64 * DEADLINE_BYTES
    }

    /// The keyed hash of these bytes.
    #[inline]
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_secret(bytes, self.secret.as_slice())
    }

    #[inline]
    pub(crate) fn locate(&self, key: &[u8]) -> Location {
        let hash = self.hash(key);
        Location { bucket: (hash >> 32) as u16 % BUCKETS as u16, tag: hash as u32 }
    }

    /// The entry of `key`, expired or not.
    #[inline]
    fn find(&self, at: Location, key: &[u8]) -> Option<&Slot> {
        self.buckets[usize::from(at.bucket)].find(spread(at.tag), |slot| slot.is(at.tag, key))
    }

    /// The entry of `key` for whoever asks at `at_ms`.
    #[inline]
    pub(crate) fn visible(&self, at: Location, key: &[u8], at_ms: u64) -> Option<&Slot> {
        self.find(at, key).filter(|slot| slot.is_visible(at_ms))
    }

    pub(crate) fn deadline_of(&self, key: &[u8]) -> Option<u64> {
        self.find(self.locate(key), key)?.deadline()
    }

    /// Puts an entry at its key, in the place of any before it.
    pub(crate) fn put(&mut self, at: Location, slot: Slot) {
        assert!(slot.tag() == at.tag, "the slot is of this location");
        self.payload_bytes += slot.payload_bytes();
        if let Some(deadline) = slot.deadline() {
            self.deadlines.insert(deadline, at);
        }
        let table = &mut self.buckets[usize::from(at.bucket)];
        let old = match table.entry(spread(at.tag), |other| other.is(at.tag, slot.key()), Slot::table_hash) {
            Entry::Occupied(mut entry) => Some(core::mem::replace(entry.get_mut(), slot)),
            Entry::Vacant(entry) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.preserve_absence(at, slot.key_bytes());
                }
                self.listings.preserve_absence(at, &slot);
                entry.insert(slot);
                self.len += 1;
                None
            }
        };
        if let Some(old) = old {
            self.retire(at, old);
        }
    }

    /// Takes the entry of `key` out; whether there was one, expired or not.
    pub(crate) fn remove(&mut self, at: Location, key: &[u8]) -> bool {
        let table = &mut self.buckets[usize::from(at.bucket)];
        let Ok(entry) = table.find_entry(spread(at.tag), |slot| slot.is(at.tag, key)) else { return false };
        let (old, _) = entry.remove();
        self.len -= 1;
        self.retire(at, old);
        true
    }

    /// Changes only the deadline of an entry that is there.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn set_deadline(&mut self, at: Location, key: &[u8], deadline: Option<u64>) {
        let table = &mut self.buckets[usize::from(at.bucket)];
        let slot = table
            .find_mut(spread(at.tag), |slot| slot.is(at.tag, key))
            .expect("the caller has just seen the entry");
        self.listings.preserve(at, slot);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.preserve(at, slot.clone());
        }
        if let Some(before) = slot.deadline() {
            self.deadlines.remove(before, at);
        }
        slot.set_deadline(deadline);
        if let Some(deadline) = deadline {
            self.deadlines.insert(deadline, at);
        }
    }

    /// Accounts for an entry that has just left its bucket.
    fn retire(&mut self, at: Location, old: Slot) {
        self.payload_bytes -= old.payload_bytes();
        if let Some(deadline) = old.deadline() {
            self.deadlines.remove(deadline, at);
        }
        self.listings.preserve(at, &old);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.preserve(at, old);
        }
    }

    /// Removes up to `limit` entries that have expired at `stamp_ms`, earliest deadline first, ties by location: an order
    /// that only the contents decide.
    pub(crate) fn remove_expired(&mut self, stamp_ms: u64, limit: usize) {
        for _ in 0..limit {
            let Some((deadline, at)) = self.deadlines.first_until(stamp_ms) else { return };
            let table = &mut self.buckets[usize::from(at.bucket)];
            let key = table
                .iter_hash(spread(at.tag))
                .filter(|slot| slot.tag() == at.tag && slot.deadline() == Some(deadline))
                .map(Slot::key_bytes)
                // Equal tags and deadlines are rare, but then the key decides.
                .min()
                .expect("the index names an entry");
            let removed = self.remove(at, &key);
            assert!(removed, "the index names an entry");
        }
    }

    /// Removes everything. O(buckets): the memory is freed later, by [`Store::free`]. If listings are under way they read
    /// the rest at once.
    pub(crate) fn clear(&mut self) {
        self.listings.read_all(&self.buckets);
        let flushed = core::mem::replace(&mut self.buckets, empty_buckets().into_boxed_slice());
        let rest = match &mut self.snapshot {
            Some(snapshot) => snapshot.take_over(flushed.into_vec()),
            None => flushed.into_vec(),
        };
        self.discarded.extend(rest.into_iter().filter(|bucket| !bucket.is_empty()));
        self.deadlines.clear();
        self.len = 0;
        self.payload_bytes = 0;
    }

    /// Takes over the memory of the store that this one replaces, to be freed later, by [`Store::free`]. O(buckets).
    pub(crate) fn replace(&mut self, mut old: Store) {
        old.abort_snapshot();
        old.deadlines.clear();
        self.deadlines.take_discarded(&mut old.deadlines);
        self.discarded.extend(old.buckets.into_vec().into_iter().filter(|bucket| !bucket.is_empty()));
        self.discarded.append(&mut old.discarded);
        if self.freeing.is_none() {
            self.freeing = old.freeing;
        }
    }

    /// Frees up to `limit` discarded entries; whether there are more.
    pub(crate) fn free(&mut self, limit: usize) -> bool {
        let more_deadlines = self.deadlines.free(limit);
        if self.freeing.is_none() && self.discarded.is_empty() {
            return more_deadlines;
        }
        for _ in 0..limit {
            if self.freeing.as_mut().is_some_and(|entries| entries.next().is_some()) {
                continue;
            }
            self.freeing = self.discarded.pop().map(HashTable::into_iter);
            if self.freeing.is_none() {
                return more_deadlines;
            }
        }
        true
    }

    pub(crate) fn has_discarded(&self) -> bool {
        self.freeing.is_some() || !self.discarded.is_empty() || self.deadlines.has_discarded()
    }

    pub(crate) fn bucket(&self, index: usize) -> &Bucket {
        &self.buckets[index]
    }

    pub(crate) fn state_hash(&self) -> u64 {
        let entries = self.buckets.iter().flat_map(Bucket::iter);
        entries.fold(0, |sum, slot| sum.wrapping_add(slot.content_hash()))
    }

    pub(crate) fn begin_listing(&mut self, pattern: &[u8], at_ms: u64) -> Option<ListingId> {
        self.listings.begin(pattern, at_ms)
    }

    pub(crate) fn go_on_listing(&mut self, entries: usize) -> Option<(ListingId, Value)> {
        self.listings.go_on(entries, &self.buckets)
    }

    pub(crate) fn is_listing(&self) -> bool {
        !self.listings.is_empty()
    }

    pub(crate) fn begin_snapshot(&mut self, meta: snapshot::SnapshotMeta) {
        assert!(self.snapshot.is_none(), "one snapshot at a time");
        self.snapshot = Some(Box::new(Snapshot::new(meta, self.len)));
    }

    pub(crate) fn next_chunk(&mut self, max_bytes: usize) -> Option<Bytes> {
        let snapshot = self.snapshot.as_mut()?;
        let chunk = snapshot.next_chunk(max_bytes, &self.buckets, &mut self.discarded);
        if snapshot.is_finished() {
            self.snapshot = None;
        }
        Some(chunk)
    }

    pub(crate) fn abort_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.discarded.extend(snapshot.into_buckets());
        }
    }

    pub(crate) fn in_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(crate) fn assert_invariants(&self) {
        let (mut len, mut payload_bytes, mut with_deadline) = (0, 0, 0);
        for (index, bucket) in self.buckets.iter().enumerate() {
            for slot in bucket {
                let at = self.locate(slot.key());
                assert!(usize::from(at.bucket) == index, "an entry is in its key's bucket");
                assert!(slot.tag() == at.tag, "an entry has its key's tag");
                assert!(self.find(at, slot.key()).is_some(), "an entry can be found");
                if let Some(deadline) = slot.deadline() {
                    assert!(self.deadlines.contains(deadline, at), "a deadline is in the index");
                    with_deadline += 1;
                }
                len += 1;
                payload_bytes += slot.payload_bytes();
            }
        }
        assert!(len == self.len, "len is the number of entries");
        assert!(payload_bytes == self.payload_bytes, "payload_bytes is the sum over entries");
        assert!(with_deadline == self.deadlines.len(), "the index has no deadline of a missing entry");
    }
}

fn empty_buckets() -> Vec<Bucket> {
    (0..BUCKETS).map(|_| HashTable::new()).collect()
}

/// A tag as the 64-bit hash that tables want: they take the place from the low bits and a 7-bit mark from the high ones.
#[inline]
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

/// Spreads a key's, value's and deadline's hash; summed up by [`Store::state_hash`].
fn content_hash(key: &[u8], value: &[u8], deadline: Option<u64>) -> u64 {
    let seed = xxh3_64_with_seed(key, deadline.map_or(0, |at| at.wrapping_add(1)));
    xxh3_64_with_seed(value, seed)
}
