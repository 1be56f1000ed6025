//! The bug that can be planted here: newer data under an older applied index. Guards against it being planted in vain.
#![cfg(feature = "plant")]

use keypact_data::{Command, Loader, Partition};
use keypact_protocol::{Plant, switch_on};
use keypact_resp::{Arguments, Value};

#[test]
fn an_older_index_makes_entries_count_twice() {
    let incr = Command::parse(Arguments::from_parts(&[b"INCR", b"a"])).unwrap();
    let restored = |plant| {
        let mut partition = Partition::new([0; 16]);
        switch_on(plant);
        for index in 1..=3 {
            partition.apply(index, 1, 0, &incr);
        }
        partition.begin_snapshot();
        let mut loader = Loader::new();
        while let Some(chunk) = partition.next_chunk(1_000) {
            loader.chunk(chunk).unwrap();
        }
        switch_on(None);
        let mut copy = loader.finish().unwrap();
        // A restarting node applies what comes after the index in the data.
        for index in copy.applied_index() + 1..=3 {
            copy.apply(index, 1, 0, &incr);
        }
        copy.read(1, &Command::parse(Arguments::from_parts(&[b"GET", b"a"])).unwrap())
    };
    assert_eq!(restored(None), Value::bulk("3"));
    assert_eq!(restored(Some(Plant::AppliedIndexNotStored)), Value::bulk("6"));
}
