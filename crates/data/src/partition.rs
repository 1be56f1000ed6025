//! One partition: the state that replicas agree on, and the two ways in.

use core::cell::Cell;

use bytes::Bytes;
use keypact_resp::{Arguments, ErrorReply, Value};

use crate::command::Command;
use crate::store::Store;
use crate::store::listing::ListingId;
use crate::store::snapshot::SnapshotMeta;
use crate::table::{self, Flags, Handler};

/// What handlers return. An error changes nothing.
pub(crate) type Reply = Result<Value, ErrorReply>;

/// Expired keys that one applied command removes on its way.
const EXPIRED_PER_APPLY: usize = 16;
/// Expired keys that one tick removes.
const EXPIRED_PER_SKIP: usize = 256;
/// Entries of a flushed keyspace that one applied command frees.
const FREED_PER_APPLY: usize = 64;
/// Expired keys that `DBSIZE` is willing to leave out; beyond, they are counted until they are removed.
const MAX_EXPIRED_COUNTED: usize = 65_536;

/// What commands may make a partition hold. Part of its state, as it decides which commands fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Length of one value, in bytes; at most [`Limits::MAX_VALUE_BYTES`].
    pub max_value_bytes: u32,
}

impl Limits {
    /// The most that can be set: 512 MiB.
    pub const MAX_VALUE_BYTES: u32 = 512 * 1024 * 1024;
}

impl Default for Limits {
    /// Values of 16 MiB.
    fn default() -> Limits {
        Limits { max_value_bytes: 16 * 1024 * 1024 }
    }
}

/// Keys and values of one partition, at one index of its log.
///
/// Equal entries in equal order give equal state, wherever and whenever they are applied; so does loading a snapshot
/// and going on. A key with a deadline is gone for whoever asks at or after it, whether or not it was removed yet.
pub struct Partition {
    pub(crate) store: Store,
    pub(crate) applied_index: u64,
    pub(crate) applied_stamp_ms: u64,
    /// How many random choices reads have made. No part of the state.
    draws: Cell<u64>,
    /// What the snapshot before the last one said it had applied, for a planted bug.
    #[cfg(feature = "plant")]
    pub(crate) earlier_snapshot_index: u64,
}

impl Partition {
    /// An empty partition that has applied nothing. `hash_key` is drawn when the partition is created, and the same on
    /// all its replicas.
    pub fn new(hash_key: [u8; 16]) -> Partition {
        Partition::with_limits(hash_key, Limits::default())
    }

    /// The same with other limits, which must be the same on all replicas.
    ///
    /// # Panics
    /// If the limits are above what can be.
    pub fn with_limits(hash_key: [u8; 16], limits: Limits) -> Partition {
        assert!(limits.max_value_bytes <= Limits::MAX_VALUE_BYTES, "no value is longer than 512 MiB");
        Partition::restored(Store::new(hash_key, limits), 0, 0)
    }

    pub(crate) fn restored(store: Store, applied_index: u64, applied_stamp_ms: u64) -> Partition {
        Partition {
            store,
            applied_index,
            applied_stamp_ms,
            draws: Cell::new(0),
            #[cfg(feature = "plant")]
            earlier_snapshot_index: 0,
        }
    }

    /// Applies the entry at `index`. `stamp_ms` is the entry's Unix time, `seed` its source of chance.
    ///
    /// A command that fails changes nothing but index and stamp. Removes some expired keys first.
    ///
    /// # Panics
    /// If the index does not rise or the stamp falls: the log would be broken. If the command is the node's own.
    pub fn apply(&mut self, index: u64, stamp_ms: u64, seed: u64, command: &Command) -> Value {
        self.advance(index, stamp_ms, EXPIRED_PER_APPLY);
        self.store.free(FREED_PER_APPLY);
        match command.spec().handler {
            Handler::Write(handler) => {
                let mut write = Write { store: &mut self.store, stamp_ms, seed };
                table::reply(handler(&mut write, command.arguments()))
            }
            Handler::Read(_) => self.read(stamp_ms, command),
            Handler::Node => panic!("{:?} belongs to the node, not to a log", command.spec()),
        }
    }

    /// Takes note of an entry without a command: a no-op, or a tick that moves time on.
    ///
    /// # Panics
    /// As [`Partition::apply`].
    pub fn skip(&mut self, index: u64, stamp_ms: u64) {
        self.advance(index, stamp_ms, EXPIRED_PER_SKIP);
        self.store.free(FREED_PER_APPLY);
    }

    /// Answers a read as of `at_ms`: a strong read takes wall time (see [`Partition::read_meets_deadline`]), a stale one
    /// [`Partition::applied_stamp_ms`]. Allocates nothing for `GET`.
    ///
    /// # Panics
    /// If the command is not a read.
    #[inline]
    pub fn read(&self, at_ms: u64, command: &Command) -> Value {
        let Handler::Read(handler) = command.spec().handler else {
            panic!("{:?} is not a read", command.spec());
        };
        let view = View { store: &self.store, at_ms, applied_index: self.applied_index, draws: &self.draws };
        table::reply(handler(&view, command.arguments()))
    }

    /// Begins to answer a `KEYS` as of `at_ms` and of this moment, in slices ([`Partition::go_on_listing`]), whatever is
    /// written meanwhile. `None` if four are under way: each keeps what writes change.
    ///
    /// # Panics
    /// If the command is another one ([`is_listing`]).
    pub fn begin_listing(&mut self, at_ms: u64, command: &Command) -> Option<ListingId> {
        assert!(is_listing(command), "{:?} lists no keys", command.spec());
        self.store.begin_listing(argument(command.arguments(), 1), at_ms)
    }

    /// Goes on with the oldest listing, until it has looked at so many `entries` and the rest of a bucket; its answer if
    /// it has all. `FLUSHALL` makes listings read what is left in one go.
    pub fn go_on_listing(&mut self, entries: usize) -> Option<(ListingId, Value)> {
        self.store.go_on_listing(entries)
    }

    /// Whether a listing is under way. O(1).
    pub fn is_listing(&self) -> bool {
        self.store.is_listing()
    }

    /// Whether a deadline of a key that this read touches lies after the applied stamp, at or before `wall_ms`. A strong
    /// read must then first commit a tick, or a reader whose clock is behind could see the key again.
    /// O(log n) if nothing expires up to `wall_ms`, which is nearly always.
    pub fn read_meets_deadline(&self, command: &Command, wall_ms: u64) -> bool {
        let Some(after) = self.applied_stamp_ms.checked_add(1) else { return false };
        if after > wall_ms || !self.store.deadlines.any_in(after, wall_ms) {
            return false;
        }
        if command.spec().flags.contains(Flags::KEYSPACE) {
            return true;
        }
        command
            .keys()
            .any(|key| self.store.deadline_of(key).is_some_and(|at| (after..=wall_ms).contains(&at)))
    }

    /// Whether some key, removed or not, has a deadline at or before `at_ms`. O(1) in practice.
    pub fn has_deadline_at_or_before(&self, at_ms: u64) -> bool {
        self.next_deadline_ms().is_some_and(|deadline| deadline <= at_ms)
    }

    /// The earliest deadline among keys that are not yet removed. The node commits a tick when it has passed and nothing
    /// else is proposed; each tick removes up to 256 expired keys.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.store.deadlines.first()
    }

    /// Index of the last applied entry; 0 before the first.
    #[inline]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Stamp of the last applied entry.
    #[inline]
    pub fn applied_stamp_ms(&self) -> u64 {
        self.applied_stamp_ms
    }

    /// Number of keys, with those that have expired but are not yet removed.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.store.len() == 0
    }

    /// Roughly what keys, values and their tables take, in bytes. O(1). The same on all replicas.
    pub fn memory_bytes(&self) -> u64 {
        self.store.memory_bytes()
    }

    /// A hash of all keys, values and deadlines, whatever their order. O(n) in bytes. Index and stamp are not in it.
    pub fn state_hash(&self) -> u64 {
        self.store.state_hash()
    }

    /// Takes the place of another state: that one's memory is freed bit by bit, as after `FLUSHALL`. At once it would stop
    /// the world for about a second with two million keys.
    pub fn replace(&mut self, old: Partition) {
        self.store.replace(old.store);
    }

    /// Frees up to `entries` entries of what `FLUSHALL` has thrown away; whether there are more. `apply` does this too;
    /// an idle node may call it.
    pub fn reclaim(&mut self, entries: usize) -> bool {
        self.store.free(entries)
    }

    /// Whether [`Partition::reclaim`] has something to free. O(1).
    pub fn has_discarded(&self) -> bool {
        self.store.has_discarded()
    }

    /// Starts a snapshot of the state as it is now. Reads and writes go on; what they change is kept aside until it has
    /// been encoded.
    ///
    /// # Panics
    /// If one is already under way.
    pub fn begin_snapshot(&mut self) -> SnapshotMeta {
        let meta = SnapshotMeta {
            applied_index: self.snapshot_index(),
            applied_stamp_ms: self.applied_stamp_ms,
            hash_key: self.store.hash_key,
            limits: self.store.limits,
        };
        self.store.begin_snapshot(meta);
        meta
    }

    /// The next chunk of the snapshot, at most `max_bytes` (and at most [`crate::MAX_CHUNK_BYTES`]) long; `None` after
    /// the last one, or if there is no snapshot. Encodes whole buckets, one at a time, until there is enough.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Option<Bytes> {
        self.store.next_chunk(max_bytes)
    }

    /// Gives the snapshot up.
    pub fn abort_snapshot(&mut self) {
        self.store.abort_snapshot();
    }

    /// Whether a snapshot is under way.
    pub fn in_snapshot(&self) -> bool {
        self.store.in_snapshot()
    }

    /// Checks what must hold between the parts of the state. O(n): for tests and simulators.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn assert_invariants(&self) {
        self.store.assert_invariants();
    }

    #[cfg(not(feature = "plant"))]
    fn snapshot_index(&mut self) -> u64 {
        self.applied_index
    }

    /// With the bug planted, the index of the snapshot before: newer data under an older index.
    #[cfg(feature = "plant")]
    fn snapshot_index(&mut self) -> u64 {
        let earlier = core::mem::replace(&mut self.earlier_snapshot_index, self.applied_index);
        match keypact_protocol::planted(keypact_protocol::Plant::AppliedIndexNotStored) {
            true => earlier,
            false => self.applied_index,
        }
    }

    fn advance(&mut self, index: u64, stamp_ms: u64, expired: usize) {
        assert!(index > self.applied_index, "an entry is applied once: {index} after {}", self.applied_index);
        assert!(
            stamp_ms >= self.applied_stamp_ms,
            "stamps never fall: {stamp_ms} after {}",
            self.applied_stamp_ms
        );
        self.applied_index = index;
        self.applied_stamp_ms = stamp_ms;
        self.store.remove_expired(stamp_ms, expired);
    }
}

/// Whether this is the command that [`Partition::begin_listing`] answers.
pub fn is_listing(command: &Command) -> bool {
    command.spec().name == "keys"
}

/// What a read sees.
pub(crate) struct View<'a> {
    pub(crate) store: &'a Store,
    pub(crate) at_ms: u64,
    applied_index: u64,
    draws: &'a Cell<u64>,
}

impl View<'_> {
    /// The value of a key that is there.
    #[inline]
    pub(crate) fn value(&self, key: &[u8]) -> Option<Bytes> {
        self.store.visible(self.store.locate(key), key, self.at_ms).map(|slot| slot.value())
    }

    /// A number that the state, the time and the count of such draws decide.
    pub(crate) fn draw(&self) -> u64 {
        let count = self.draws.get();
        self.draws.set(count.wrapping_add(1));
        let mut seed = [0; 24];
        seed[..8].copy_from_slice(&self.at_ms.to_le_bytes());
        seed[8..16].copy_from_slice(&self.applied_index.to_le_bytes());
        seed[16..].copy_from_slice(&count.to_le_bytes());
        self.store.hash(&seed)
    }

    /// Keys that are there, as `DBSIZE` counts them.
    pub(crate) fn count(&self) -> usize {
        let expired = self.store.deadlines.count_until(self.at_ms, MAX_EXPIRED_COUNTED);
        self.store.len() - expired
    }
}

/// What a write works on.
pub(crate) struct Write<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) stamp_ms: u64,
    /// For commands that choose at random; none of today's does.
    #[expect(dead_code, reason = "the entry's seed has its place before the first command that uses it")]
    pub(crate) seed: u64,
}

/// A reply's arguments by index: [`Command`] has checked how many there are.
#[inline]
pub(crate) fn argument(arguments: &Arguments, index: usize) -> &[u8] {
    arguments.get(index).expect("the table's arity holds for every Command")
}

#[cfg(test)]
mod tests;
