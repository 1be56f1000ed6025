//! Claim 16.

use keypact_partitioning::hash::SlotTable;
use keypact_partitioning::placement::{Unit, even_out};
use keypact_partitioning::range::{KeyOrder, LoadSample, RangeKey, RangeMap};
use keypact_partitioning::{Assigned, Map, Member};
use keypact_protocol::NodeId;
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict, median};
use crate::claims::world::nodes;
use crate::claims::{Claim, Effort};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 16,
    part: "partitioning",
    text: "Range has hotspots",
    how: "16 nodes with one of 16 even ranges each, 100,000 keys, 10,000 requests a period: for the next new key (sequential), by Zipf's law with \
          popular keys side by side, and by the same law with them scattered. The busiest node's requests beside the mean, in periods 21 to 40; \
          splits off, or on (a range with more than half of a node's mean is split in the middle of its load, then ranges are spread by load). \
          Control: the same requests on 16 nodes by hash slots",
    measure,
};

const NODES: usize = 16;
const KEYS: u64 = 100_000;
const REQUESTS: u64 = 10_000;
const PERIODS: u64 = 40;
/// Periods before this one are not counted.
const COUNTED_FROM: u64 = 20;
/// The exponent of Zipf's law, as benchmarks of key-value stores have it.
const EXPONENT: f64 = 0.99;
/// More than this times the mean is a hotspot.
const HOT: f64 = 2.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Sequential,
    ZipfAdjacent,
    ZipfScattered,
}

const WORKS: [(Work, &str); 3] = [
    (Work::Sequential, "sequential"),
    (Work::ZipfAdjacent, "zipf, popular keys side by side"),
    (Work::ZipfScattered, "zipf, scattered"),
];

/// Draws keys' numbers.
struct Requests {
    work: Work,
    random: Random,
    next: u64,
    /// By rank, how likely it or a more popular key is.
    cumulative: Vec<f64>,
}

impl Requests {
    fn new(work: Work, seed: u64) -> Requests {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=KEYS)
            .map(|rank| {
                sum += (rank as f64).powf(-EXPONENT);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|up_to| *up_to /= sum);
        Requests { work, random: Random::new(seed), next: KEYS, cumulative }
    }

    fn draw(&mut self) -> u64 {
        if self.work == Work::Sequential {
            self.next += 1;
            return self.next;
        }
        let at = self.random.below(1 << 53) as f64 / (1u64 << 53) as f64;
        let rank = self.cumulative.partition_point(|up_to| *up_to < at) as u64;
        match self.work {
            Work::ZipfAdjacent => rank,
            // A factor without a divisor in common with the number of keys: each rank has its own key.
            _ => rank * 62_989 % KEYS,
        }
    }
}

/// By period, the busiest node's requests beside the mean.
fn peaks(
    work: Work,
    seed: u64,
    mut node_of: impl FnMut(&[u8]) -> NodeId,
    mut after: impl FnMut(),
) -> Vec<f64> {
    let mut requests = Requests::new(work, seed);
    (0..PERIODS)
        .map(|_| {
            let mut counts = [0u64; NODES];
            for _ in 0..REQUESTS {
                let key = format!("k:{}", requests.draw()).into_bytes();
                counts[node_of(&key).0 as usize - 1] += 1;
            }
            after();
            *counts.iter().max().expect("16 nodes") as f64 * NODES as f64 / REQUESTS as f64
        })
        .collect()
}

fn even_ranges() -> RangeMap {
    let points: Vec<RangeKey> = (1..NODES as u64)
        .map(|at| KeyOrder::Integer.split_point((at * KEYS / NODES as u64).to_string().as_bytes()))
        .collect();
    let owners = nodes(NODES).into_iter().map(|node| vec![node]).collect();
    RangeMap::new(KeyOrder::Integer, &points, owners).expect("split points rise")
}

/// Ranges as they change: what each was asked in this period.
struct Ranges {
    map: RangeMap,
    samples: Vec<LoadSample>,
    splits: bool,
}

impl Ranges {
    fn new(splits: bool) -> Ranges {
        Ranges { map: even_ranges(), samples: vec![LoadSample::new(256); NODES], splits }
    }

    fn serve(&mut self, key: &[u8]) -> NodeId {
        let position = KeyOrder::Integer.position(key);
        let at = self.map.map().index_by(|low| *low <= position);
        self.samples[at].request(|| position);
        self.map.map().parts()[at].owner()
    }

    /// A period is over: busy ranges split, then all are spread by what they were asked.
    fn rebalance(&mut self) {
        if !self.splits {
            return self.samples.iter_mut().for_each(LoadSample::restart);
        }
        let busy = REQUESTS / NODES as u64 / 2;
        let mut sizes: Vec<(RangeKey, u64)> = Vec::new();
        let mut points = Vec::new();
        for (part, sample) in self.map.map().parts().iter().zip(&self.samples) {
            let point = sample.split_point(&part.slice).filter(|_| sample.requests() > busy);
            // Each half is taken to have half of the load; one too small to matter weighs something all the same.
            let share = 1 + sample.requests() / if point.is_some() { 2 } else { 1 };
            sizes.push((part.slice.low().clone(), share));
            if let Some(point) = point {
                sizes.push((point.clone(), share));
                points.push(point);
            }
        }
        for point in points {
            self.map.map_mut().split(&point).expect("a point within its range");
        }
        let map = self.map.map();
        assert!(map.parts().len() == sizes.len(), "each range has a size");
        let unit = |(part, (_, size)): (&Assigned<RangeKey>, &(RangeKey, u64))| Unit {
            size: *size,
            replicas: part.replicas.clone(),
        };
        let units: Vec<Unit> = map.parts().iter().zip(&sizes).map(unit).collect();
        let members: Vec<Member> = nodes(NODES).into_iter().map(Member::alone).collect();
        let placed = even_out(&units, &members, 1, 10, 64).expect("as many hosts as nodes");
        let parts = map.parts().iter().zip(placed);
        let parts: Vec<_> =
            parts.map(|(part, replicas)| Assigned { slice: part.slice.clone(), replicas }).collect();
        self.samples = vec![LoadSample::new(256); parts.len()];
        *self.map.map_mut() = Map::new(map.version(), parts).expect("the same ranges");
    }
}

fn by_ranges(work: Work, splits: bool, seed: u64) -> Vec<f64> {
    let ranges = std::cell::RefCell::new(Ranges::new(splits));
    peaks(work, seed, |key| ranges.borrow_mut().serve(key), || ranges.borrow_mut().rebalance())
}

fn by_slots(work: Work, seed: u64) -> Vec<f64> {
    let slots = SlotTable::even(&nodes(NODES)).expect("fewer nodes than slots");
    peaks(work, seed, |key| slots.find(key).owner(), || ())
}

/// The median over seeds of the median over the counted periods.
fn typical(effort: Effort, run: impl Fn(u64) -> Vec<f64>) -> f64 {
    median(&effort.seeds().map(|seed| median(&run(seed)[COUNTED_FROM as usize..])).collect::<Vec<_>>())
}

fn measure(effort: Effort) -> Finding {
    let row = |(work, name): (Work, &'static str)| {
        let off = typical(effort, |seed| by_ranges(work, false, seed));
        let on = typical(effort, |seed| by_ranges(work, true, seed));
        (name, off, on, typical(effort, |seed| by_slots(work, seed)))
    };
    let rows = WORKS.map(row);
    let hot_without = rows.iter().filter(|(_, off, ..)| *off > HOT).count();
    let cooled: Vec<&str> =
        rows.iter().filter(|(_, off, on, _)| *off > HOT && *on <= HOT).map(|row| row.0).collect();
    let figures = rows.iter().flat_map(|(name, off, on, _)| {
        [
            Figure::new(format!("{name}: busiest / mean, splits off"), *off, ""),
            Figure::new(format!("{name}: busiest / mean, splits on"), *on, ""),
        ]
    });
    let listed = |names: &[&str]| if names.is_empty() { "none".into() } else { names.join("; ") };
    Finding {
        verdict: match (hot_without, cooled.len()) {
            (0, _) => Verdict::DoesNotHold,
            (_, 0) if hot_without == rows.len() => Verdict::Holds,
            _ => Verdict::HoldsOnlyIf,
        },
        because: format!(
            "without splits {hot_without} of 3 loads make a node more than twice as busy as the mean; splits by load cool: {}",
            listed(&cooled)
        ),
        figures: figures.collect(),
        control: Control {
            what: "the same requests by hash slots".into(),
            figures: rows
                .iter()
                .map(|(name, .., slots)| Figure::new(format!("{name}: busiest / mean"), *slots, ""))
                .collect(),
            differs: rows[0].3 < rows[0].1 / 2.0,
        },
        plots: vec![Plot {
            title: "Busiest node / mean, sequential keys".into(),
            x: "period".into(),
            y: "busiest / mean".into(),
            xs: (1..=PERIODS).map(|period| period as f64).collect(),
            lines: vec![
                Line::new("ranges", by_ranges(Work::Sequential, false, effort.first_seed)),
                Line::new("ranges that split", by_ranges(Work::Sequential, true, effort.first_seed)),
                Line::new("hash slots (control)", by_slots(Work::Sequential, effort.first_seed)),
            ],
        }],
        seeds: effort.seeds,
    }
}
