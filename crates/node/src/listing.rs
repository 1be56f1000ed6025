//! `KEYS` over many keys: it sees the state of its moment, and is answered after several slices, between which the node does all else.
//!
//! A slice is a few milliseconds, so a leader's heartbeats leave in time however many keys there are. Only the answer is put together in
//! one go, by whoever encodes it.

use keypact_data::{Command, ListingId, is_listing};
use keypact_protocol::Context;

use crate::answers::{lost_read_error, overloaded_error};
use crate::node::{DEFAULT_AT, Node};
use crate::outside::Outside;
use crate::peer::Resolution;
use crate::pending::Place;
use crate::replica::Machine;
use crate::timers::TimerKey;

/// Between two slices, nanoseconds.
const SLICE_GAP_NS: u64 = 100_000;

impl Node {
    /// Whether a read is to be answered in slices.
    pub(crate) fn lists_in_slices(&self, command: &Command) -> bool {
        is_listing(command) && self.replicas[DEFAULT_AT].partition().len() > self.config.keys_at_once
    }

    /// Takes hold of the moment at which this `KEYS` reads.
    pub(crate) fn begin_listing(&mut self, place: Place, command: &Command, out: &mut impl Outside) {
        let Machine::Data(partition) = &mut self.replicas[DEFAULT_AT].machine else {
            unreachable!("clients' commands are routed to groups that hold data")
        };
        match partition.begin_listing(partition.applied_stamp_ms(), command) {
            Some(id) => {
                let before = self.listings.insert(id, place);
                assert!(before.is_none(), "each listing has its own id");
            }
            None => {
                self.counters.overloaded += 1;
                self.answer(place, Resolution::Value(overloaded_error()), out);
            }
        }
    }

    /// A slice of the oldest listing, and its answer if that was the last.
    pub(crate) fn list_more(&mut self, out: &mut impl Outside) {
        let Machine::Data(partition) = &mut self.replicas[DEFAULT_AT].machine else { return };
        let Some((id, value)) = partition.go_on_listing(self.config.keys_at_once) else { return };
        let place = self.listings.remove(&id).expect("a listing has somebody who asked");
        self.counters.reads_answered += 1;
        self.counters.listings += 1;
        self.answer(place, Resolution::Value(value), out);
    }

    /// Sets a timer while a listing is under way.
    pub(crate) fn arm_listings(&mut self, context: Context) {
        assert!(
            self.listings.is_empty() != self.partition().is_listing(),
            "each listing of the partition is known here"
        );
        if !self.listings.is_empty() && !self.timers.is_set(TimerKey::List) {
            self.timers.set(TimerKey::List, context.now_ns + SLICE_GAP_NS);
        }
    }

    /// The state is replaced by a peer's snapshot: what was listed of it is gone, and asked again it would be answered behind its place.
    pub(crate) fn lose_listings(&mut self, out: &mut impl Outside) {
        let lost: Vec<(ListingId, Place)> = core::mem::take(&mut self.listings).into_iter().collect();
        for (_, place) in lost {
            self.counters.no_quorum += 1;
            self.answer(place, Resolution::Value(lost_read_error()), out);
        }
    }
}
