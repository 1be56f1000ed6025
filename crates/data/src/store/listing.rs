//! `KEYS` over more keys than can be looked at in one go.
//!
//! A listing is of the moment at which it began, whatever is written meanwhile. It goes on in slices, between which the
//! node does all else; so ten million keys depose no leader.

use keypact_resp::{Bulks, Value};

use super::before::Before;
use super::slot::Slot;
use super::{BUCKETS, Bucket, Location};
use crate::glob;

/// One partition has at most so many listings under way: each keeps what writes change meanwhile.
pub(crate) const MAX_LISTINGS: usize = 4;

/// Names a listing of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListingId(u64);

pub(super) struct Listing {
    id: ListingId,
    pattern: Box<[u8]>,
    at_ms: u64,
    before: Before,
    found: Bulks,
}

impl Listing {
    /// Reads the next bucket; how many entries it looked at.
    fn read_next(&mut self, live: &[Bucket]) -> usize {
        let bucket = self.before.next_bucket();
        let aside = self.before.read_next();
        let mut looked_at = 0;
        let mut listed: Vec<&Slot> = aside
            .entries(&live[bucket])
            .inspect(|_| looked_at += 1)
            .filter(|slot| is_listed(slot, self.at_ms, &self.pattern))
            .collect();
        listed.sort_unstable_by(|a, b| (a.tag(), a.key()).cmp(&(b.tag(), b.key())));
        for slot in listed {
            self.found.push(slot.key());
        }
        looked_at
    }

    fn is_finished(&self) -> bool {
        self.before.next_bucket() == BUCKETS
    }
}

/// Whether `KEYS pattern` at `at_ms` names this entry.
pub(crate) fn is_listed(slot: &Slot, at_ms: u64, pattern: &[u8]) -> bool {
    slot.is_visible(at_ms) && (pattern == b"*" || glob::matches(pattern, slot.key()))
}

/// All listings under way, the oldest first.
#[derive(Default)]
pub(super) struct Listings {
    all: Vec<Listing>,
    begun: u64,
}

impl Listings {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A listing of this moment; `None` if [`MAX_LISTINGS`] are under way.
    pub(super) fn begin(&mut self, pattern: &[u8], at_ms: u64) -> Option<ListingId> {
        if self.all.len() >= MAX_LISTINGS {
            return None;
        }
        self.begun += 1;
        let id = ListingId(self.begun);
        self.all.push(Listing {
            id,
            pattern: pattern.into(),
            at_ms,
            before: Before::now(),
            found: Bulks::default(),
        });
        Some(id)
    }

    /// Goes on with the oldest until it has looked at `entries` more, and the rest of a bucket; its keys once it has all.
    pub(super) fn go_on(&mut self, entries: usize, live: &[Bucket]) -> Option<(ListingId, Value)> {
        let listing = self.all.first_mut()?;
        let mut looked_at = 0;
        while looked_at < entries && !listing.is_finished() {
            looked_at += listing.read_next(live);
        }
        listing.is_finished().then(|| {
            let listing = self.all.remove(0);
            (listing.id, Value::Bulks(listing.found))
        })
    }

    /// Reads all that is left of all: the buckets are about to go.
    pub(super) fn read_all(&mut self, live: &[Bucket]) {
        for listing in &mut self.all {
            while !listing.is_finished() {
                listing.read_next(live);
            }
        }
    }

    pub(super) fn preserve(&mut self, at: Location, slot: &Slot) {
        for listing in &mut self.all {
            listing.before.preserve(at, slot.clone());
        }
    }

    pub(super) fn preserve_absence(&mut self, at: Location, slot: &Slot) {
        for listing in &mut self.all {
            listing.before.preserve_absence(at, slot.key_bytes());
        }
    }
}
