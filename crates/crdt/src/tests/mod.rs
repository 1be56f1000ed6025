//! Laws that every type keeps, and what each type means.

mod laws;

use keypact_ordering::clock::ReplicaId;

use crate::{Lattice, OrMap, Tally};

/// Any order of deltas ends equal; on the way a gap may show what no complete history would.
#[test]
fn a_counter_in_a_map_shows_too_much_while_a_delta_between_two_is_missing() {
    let mut writer: OrMap<u64, Tally> = OrMap::default();
    let add = |by| writer.update(7, ReplicaId(1 << 16), |tally, event| tally.add(by, event));
    let [first, second, third] = [1, 2, 4].map(add);
    let mut reader: OrMap<u64, Tally> = OrMap::default();
    let shows = [third, first, second].map(|delta| {
        reader.apply(delta);
        reader.get(&7).map_or(0, Tally::value)
    });
    assert_eq!(shows, [7, 8, 7]);
}
