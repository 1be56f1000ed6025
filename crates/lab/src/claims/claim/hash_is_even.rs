//! Claims 18, 19 and 21.

use std::num::NonZeroU32;

use keypact_partitioning::hash::{Modulo, SlotTable};
use keypact_partitioning::range::{KeyOrder, RangeMap};
use keypact_protocol::NodeId;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::partition::{keys, max_over_mean, ns_per_lookup};
use crate::claims::world::nodes;
use crate::claims::{Claim, Effort};

pub(in crate::claims) const EVEN: Claim = Claim {
    number: 18,
    part: "partitioning",
    text: "Hash partitioning is even",
    how: "1,000,000 keys `k:0` .. on 10 and 100 nodes, by slots and by `hash % n`: keys of the fullest node beside the mean; control: ranges cut \
          at the first digit",
    measure: even,
};

pub(in crate::claims) const FAST: Claim = Claim {
    number: 19,
    part: "partitioning",
    text: "Hash lookup is fast",
    how: "ns of a lookup on this machine, 100 nodes, 100,000 keys: slots and `hash % n`; control: the 100 slices of slots searched one after the other",
    measure: fast,
};

pub(in crate::claims) const MOVES: Claim = Claim {
    number: 21,
    part: "partitioning",
    text: "Hash rebalancing moves nearly everything",
    how: "share of 200,000 keys that change their node when 10 nodes become 11: plain `hash % n`, beside slots of which the new node takes an even \
          share from each; control: the slots",
    measure: moves,
};

fn modulo(count: u32) -> Modulo {
    Modulo::new(NonZeroU32::new(count).expect("some nodes"))
}

/// Keys of each of `count` nodes, those without any too. `owner` counts from 0.
fn loads(keys: &[Vec<u8>], count: usize, owner: impl Fn(&[u8]) -> u64) -> Vec<f64> {
    let mut counts = vec![0.0; count];
    for key in keys {
        counts[owner(key) as usize] += 1.0;
    }
    counts
}

fn even(_effort: Effort) -> Finding {
    let keys = keys(1_000_000);
    let mut figures = Vec::new();
    let mut worst: f64 = 0.0;
    for count in [10, 100] {
        let table = SlotTable::even(&nodes(count)).expect("fewer nodes than slots");
        let slots = max_over_mean(&loads(&keys, count, |key| table.find(key).owner().0 - 1));
        let plain = modulo(count as u32);
        let plain = max_over_mean(&loads(&keys, count, |key| u64::from(plain.index(key))));
        figures.push(Figure::new(format!("{count} nodes, slots: fullest / mean"), slots, ""));
        figures.push(Figure::new(format!("{count} nodes, hash % n: fullest / mean"), plain, ""));
        worst = worst.max(slots).max(plain);
    }
    let digits: Vec<_> =
        (1..10).map(|digit| KeyOrder::Bytes.split_point(format!("k:{digit}").as_bytes())).collect();
    let owners = nodes(10).into_iter().map(|node| vec![node]).collect();
    let ranges = RangeMap::new(KeyOrder::Bytes, &digits, owners).expect("split points rise");
    let ranged = loads(&keys, 10, |key| ranges.find(key).owner().0 - 1);
    let (uneven, least) = (max_over_mean(&ranged), ranged.iter().copied().fold(f64::INFINITY, f64::min));
    Finding {
        verdict: Verdict::of(worst < 1.1),
        because: format!("the fullest node has at most {worst:.3} times the mean"),
        figures,
        control: Control {
            what: "ten ranges cut at the first digit, of which `k:0` is alone in its own".into(),
            figures: vec![
                Figure::new("keys of the emptiest", least, "keys"),
                Figure::new("fullest / mean", uneven, ""),
            ],
            differs: uneven > worst,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

fn fast(_effort: Effort) -> Finding {
    let keys = keys(100_000);
    let table = SlotTable::even(&nodes(100)).expect("fewer nodes than slots");
    let plain = modulo(100);
    let slots_ns = ns_per_lookup(&keys, |key| table.find(key).owner().0);
    let plain_ns = ns_per_lookup(&keys, |key| u64::from(plain.index(key)));
    let slot_of = keypact_partitioning::hash::Slot::of;
    let list_ns = ns_per_lookup(&keys, |key| {
        let slot = slot_of(key);
        let part = table.map().parts().iter().find(|part| part.slice.contains(&slot));
        part.expect("slices cover all slots").owner().0
    });
    Finding {
        verdict: Verdict::of(slots_ns < 200.0),
        because: format!(
            "{slots_ns:.0} ns by slots, {plain_ns:.0} ns by hash % n: far below the 20,000 ns of a round trip on loopback"
        ),
        figures: vec![Figure::new("slots", slots_ns, "ns"), Figure::new("hash % n", plain_ns, "ns")],
        control: Control {
            what: "the same 100 slices, searched one after the other".into(),
            figures: vec![Figure::new("a lookup", list_ns, "ns")],
            differs: list_ns > slots_ns,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

fn moves(_effort: Effort) -> Finding {
    let keys = keys(200_000);
    let (ten, eleven) = (modulo(10), modulo(11));
    let plain =
        keys.iter().filter(|key| ten.index(key) != eleven.index(key)).count() as f64 / keys.len() as f64;
    let before = SlotTable::even(&nodes(10)).expect("fewer nodes than slots");
    // The last eleventh of each node's slots goes to the new one.
    let new = NodeId(11);
    let mut map = before.map().clone();
    for part in before.map().parts() {
        let (low, high) = (part.slice.low().number(), part.slice.high().map_or(16_384, |high| high.number()));
        let cut = high - (high - low) / 11;
        let low = keypact_partitioning::hash::Slot::new(cut).expect("below 16,384");
        let slice = keypact_partitioning::Slice::new(low, part.slice.high().copied()).expect("not empty");
        map.assign(&slice, &part.replicas, &[new]).expect("the slice is its owner's");
    }
    let after = SlotTable::new(map);
    let slots = keys.iter().filter(|key| before.find(key).owner() != after.find(key).owner()).count() as f64
        / keys.len() as f64;
    Finding {
        verdict: match (plain > 0.8, slots > 0.8) {
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOnlyIf,
            (false, _) => Verdict::DoesNotHold,
        },
        because: format!(
            "keys placed by hash % n move by {:.1} %, slots with a map by {:.1} %{}",
            plain * 100.0,
            slots * 100.0,
            if plain > 0.8 && slots <= 0.8 { ": only if they are placed by hash % n" } else { "" }
        ),
        figures: vec![
            Figure::new("hash % n, 10 to 11 nodes: keys moved", plain * 100.0, "%"),
            Figure::new("n / (n + 1)", 10.0 / 11.0 * 100.0, "%"),
        ],
        control: Control {
            what: "slots, of which the new node takes an even share".into(),
            figures: vec![Figure::new("keys moved", slots * 100.0, "%")],
            differs: slots < 0.15,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}
