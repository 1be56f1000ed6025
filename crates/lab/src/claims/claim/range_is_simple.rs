//! Claims 14 and 26.

use keypact_partitioning::range::{KeyOrder, RangeMap};
use keypact_partitioning::ring::{Point, RingTable, Tokens};
use keypact_protocol::NodeId;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::partition::{keys, ns_per_lookup, ring};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const RANGE: Claim = Claim {
    number: 14,
    part: "partitioning",
    text: "Range partitioning is simple",
    how: "100 nodes with one range each, beside a ring of 100 nodes with 128 tokens each: entries of the map, bytes of it, ns of a lookup on \
          this machine; control: the ring",
    measure: range,
};

pub(in crate::claims) const RING: Claim = Claim {
    number: 26,
    part: "partitioning",
    text: "Consistent hashing is the more complex algorithm",
    how: "a ring of 100 nodes with 128 tokens each, beside 100 ranges: tokens, bytes of the table, ns of a lookup on this machine; control: the \
          ranges",
    measure: circle,
};

const NODES: u64 = 100;

struct Costs {
    entries: f64,
    bytes: f64,
    ns: f64,
}

impl Costs {
    fn figures(&self, what: &str) -> Vec<Figure> {
        vec![
            Figure::new(format!("{what}: entries"), self.entries, ""),
            Figure::new(format!("{what}: bytes"), self.bytes, "bytes"),
            Figure::new(format!("{what}: a lookup"), self.ns, "ns"),
        ]
    }
}

fn both() -> (Costs, Costs) {
    let keys = keys(100_000);
    let mut sorted = keys.clone();
    sorted.sort();
    let every = sorted.len() / NODES as usize;
    let points: Vec<_> =
        (1..NODES as usize).map(|at| KeyOrder::Bytes.split_point(&sorted[at * every])).collect();
    let owners = (1..=NODES).map(|node| vec![NodeId(node)]).collect();
    let ranges = RangeMap::new(KeyOrder::Bytes, &points, owners).expect("split points rise");
    let bytes: usize = points.iter().map(|point| point.bytes().len() + size_of::<NodeId>()).sum();
    let range = Costs {
        entries: NODES as f64,
        bytes: (bytes + size_of::<NodeId>()) as f64,
        ns: ns_per_lookup(&keys, |key| ranges.find(key).owner().0),
    };
    let ring = ring(NODES, 128, Tokens::Random, 1);
    let table = RingTable::new(&ring).expect("a ring with nodes");
    let circle = Costs {
        entries: ring.len() as f64,
        bytes: table.memory_bytes() as f64,
        ns: ns_per_lookup(&keys, |key| table.owner(Point::of(key)).0),
    };
    (range, circle)
}

fn range(_effort: Effort) -> Finding {
    let (range, circle) = both();
    Finding {
        verdict: Verdict::of(range.entries * 10.0 < circle.entries && range.bytes * 10.0 < circle.bytes),
        because: format!(
            "its map has {} entries where the ring's has {}; the ring's lookup takes {:.0} ns, a search among split points {:.0} ns",
            range.entries, circle.entries, circle.ns, range.ns
        ),
        figures: range.figures("ranges"),
        control: Control {
            what: "a ring with 128 tokens for each node".into(),
            figures: circle.figures("ring"),
            differs: circle.entries > range.entries,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

fn circle(_effort: Effort) -> Finding {
    let (range, circle) = both();
    let larger = circle.bytes > range.bytes * 10.0;
    // By more than two runs on one machine differ.
    let slower = circle.ns > range.ns * 1.2;
    Finding {
        verdict: match (larger, slower) {
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::HoldsOnlyIf,
            (false, _) => Verdict::DoesNotHold,
        },
        because: format!(
            "its table is {} as that of the ranges, and its lookup {}",
            if larger { "more than ten times as large" } else { "not ten times as large" },
            if slower {
                "slower"
            } else {
                "not slower: more complex only if space and building are what is meant"
            }
        ),
        figures: circle.figures("ring"),
        control: Control {
            what: "100 ranges".into(),
            figures: range.figures("ranges"),
            differs: range.bytes < circle.bytes,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}
