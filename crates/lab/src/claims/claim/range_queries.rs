//! Claims 15 and 20.

use std::collections::BTreeSet;

use keypact_partitioning::Slice;
use keypact_partitioning::hash::SlotTable;
use keypact_partitioning::range::{KeyOrder, RangeMap, Scan};
use keypact_protocol::NodeId;
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::world::nodes;
use crate::claims::{Claim, Effort};

pub(in crate::claims) const RANGE: Claim = Claim {
    number: 15,
    part: "partitioning",
    text: "Range queries are efficient on ranges",
    how: "16 ranges of 1,000 keys each; queries for 10 to 3,000 keys in a row at random places: partitions asked beside partitions that have such \
          keys; control: the same queries on 16 hash partitions",
    measure: range,
};

pub(in crate::claims) const HASH: Claim = Claim {
    number: 20,
    part: "partitioning",
    text: "A range query on hash partitions asks all of them",
    how: "the queries of claim 15 on 16 hash partitions: a partition must be asked if a string between the two ends can be its key, \
          which is tried with 1,000 strings; counted are also those that have one; control: 16 ranges",
    measure: hash,
};

const PARTITIONS: usize = 16;
const KEYS: u64 = 16_000;
const QUERIES: usize = 200;
const LENGTHS: [u64; 4] = [10, 100, 1_000, 3_000];

fn key(number: u64) -> Vec<u8> {
    format!("k:{number:05}").into_bytes()
}

/// Strings drawn between the ends of a query, to see which partitions may have such keys.
const DRAWN: usize = 1_000;

/// Partitions asked, and those that have keys of the query: means over all queries of each length.
struct Asked {
    ranges: Vec<(f64, f64)>,
    hashes: Vec<(f64, f64)>,
}

fn ask(effort: Effort) -> Asked {
    let per_partition = KEYS / PARTITIONS as u64;
    let points: Vec<_> =
        (1..PARTITIONS as u64).map(|at| KeyOrder::Bytes.split_point(&key(at * per_partition))).collect();
    let owners = nodes(PARTITIONS).into_iter().map(|node| vec![node]).collect();
    let ranges = RangeMap::new(KeyOrder::Bytes, &points, owners).expect("split points rise");
    let slots = SlotTable::even(&nodes(PARTITIONS)).expect("fewer nodes than slots");
    let mut asked = Asked { ranges: Vec::new(), hashes: Vec::new() };
    for length in LENGTHS {
        let mut sums = [0usize; 4];
        for seed in effort.seeds() {
            let mut random = Random::new(seed);
            for _ in 0..QUERIES {
                let low = random.below(KEYS - length);
                let position = |number: u64| KeyOrder::Bytes.split_point(&key(number));
                let slice = Slice::new(position(low), Some(position(low + length))).expect("not empty");
                let mut scan = Scan::new(slice);
                while let Some(leg) = scan.next(ranges.map()) {
                    scan.answered(&leg);
                }
                let have = |owner: &dyn Fn(&[u8]) -> NodeId| {
                    (low..low + length).map(|number| owner(&key(number))).collect::<BTreeSet<_>>().len()
                };
                // Any string between two keys may be a key: who of the hash partitions can be left out?
                let mut may_have = BTreeSet::new();
                for _ in 0..DRAWN {
                    let mut between = key(low + random.below(length));
                    between.extend_from_slice(format!(":{}", random.bits()).as_bytes());
                    may_have.insert(slots.find(&between).owner());
                }
                sums[0] += scan.legs() as usize;
                sums[3] += may_have.len();
                sums[1] += have(&|key| ranges.find(key).owner());
                sums[2] += have(&|key| slots.find(key).owner());
            }
        }
        let mean = |sum: usize| sum as f64 / (QUERIES as u64 * effort.seeds) as f64;
        asked.ranges.push((mean(sums[0]), mean(sums[1])));
        asked.hashes.push((mean(sums[3]), mean(sums[2])));
    }
    asked
}

fn figures(rows: &[(f64, f64)]) -> Vec<Figure> {
    let both = |(length, (asked, have)): (&u64, &(f64, f64))| {
        [
            Figure::new(format!("{length} keys: partitions asked"), *asked, "partitions"),
            Figure::new(format!("{length} keys: partitions that have some"), *have, "partitions"),
        ]
    };
    LENGTHS.iter().zip(rows).flat_map(both).collect()
}

fn range(effort: Effort) -> Finding {
    let asked = ask(effort);
    let exact = asked.ranges.iter().all(|(asked, have)| asked == have);
    Finding {
        verdict: Verdict::of(exact),
        because: format!(
            "a query for 100 keys asks {:.2} of 16 partitions, those that have them and no other",
            asked.ranges[1].0
        ),
        figures: figures(&asked.ranges),
        control: Control {
            what: "16 hash partitions".into(),
            figures: figures(&asked.hashes),
            differs: asked.hashes[0].0 > asked.ranges[0].0 * 2.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds,
    }
}

fn hash(effort: Effort) -> Finding {
    let asked = ask(effort);
    Finding {
        verdict: Verdict::of(asked.hashes.iter().all(|(asked, _)| *asked == PARTITIONS as f64)),
        because: format!(
            "a query for ten keys in a row must ask {:.2} of 16, though these lie on {:.1} of them",
            asked.hashes[0].0, asked.hashes[0].1
        ),
        figures: figures(&asked.hashes),
        control: Control {
            what: "16 ranges".into(),
            figures: figures(&asked.ranges),
            differs: asked.ranges[0].0 < PARTITIONS as f64 / 2.0,
        },
        plots: Vec::new(),
        seeds: effort.seeds,
    }
}
