//! Partitioners beside each other: how even they spread keys, what moves when a node joins or leaves, what a lookup and a build cost.
//!
//! All sides are measured in each round, in an order that turns round every second time. Started by `cargo xtask peers partitioning`.

mod sides;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use sides::{OurRing, OurSlots, Side, TOKENS};

const NODES: [u32; 3] = [10, 100, 1_000];
/// Keys over which spread and movement are counted.
const KEYS: usize = 1_000_000;
/// Keys that are looked up again and again: with what they touch they stay in the cache.
const HOT_KEYS: usize = 64;
const HOT_LOOKUPS: usize = 2_000_000;
/// Lookups between two sweeps of the caches.
const COLD_BATCH: usize = 256;
const COLD_BATCHES: usize = 40;
/// More than a processor's last cache, mostly.
const SWEEP_BYTES: usize = 64 << 20;

/// What was measured of one side with so many nodes.
struct Row {
    side: &'static str,
    nodes: u32,
    max_to_mean: f64,
    join: f64,
    leave: f64,
    hot_ns: Vec<f64>,
    cold_ns: Vec<f64>,
    build_us: Vec<f64>,
}

/// Keys, and what sweeps the caches.
struct Bench {
    keys: &'static [String],
    sweep: Vec<u64>,
}

impl Bench {
    fn even<S: Side>(&self, nodes: u32) -> Row {
        let side = S::build(nodes);
        let owners: Vec<u32> = self.keys.iter().map(|key| side.owner(key)).collect();
        let mut counts = vec![0u64; nodes as usize + 1];
        owners.iter().for_each(|owner| counts[*owner as usize] += 1);
        let most = counts.iter().max().copied().unwrap_or(0);
        let moved = |after: &S| {
            let moved = self.keys.iter().zip(&owners).filter(|(key, owner)| after.owner(key) != **owner);
            moved.count() as f64 / KEYS as f64
        };
        let join = moved(&S::build(nodes).join(nodes));
        let leave = moved(&side.leave(nodes));
        let max_to_mean = most as f64 * f64::from(nodes) / KEYS as f64;
        Row {
            side: S::NAME,
            nodes,
            max_to_mean,
            join,
            leave,
            hot_ns: vec![],
            cold_ns: vec![],
            build_us: vec![],
        }
    }

    fn time<S: Side>(&mut self, row: &mut Row) {
        let begun = Instant::now();
        let side = S::build(row.nodes);
        row.build_us.push(begun.elapsed().as_secs_f64() * 1e6);
        let hot = &self.keys[..HOT_KEYS];
        let begun = Instant::now();
        for at in 0..HOT_LOOKUPS {
            black_box(side.owner(black_box(&hot[at % HOT_KEYS])));
        }
        row.hot_ns.push(begun.elapsed().as_secs_f64() * 1e9 / HOT_LOOKUPS as f64);
        let mut cold_ns = 0;
        for batch in 0..COLD_BATCHES {
            for number in &mut self.sweep {
                *number = number.wrapping_add(1);
            }
            // The key itself is read before: what is measured is the table.
            let keys = &self.keys[batch * COLD_BATCH..(batch + 1) * COLD_BATCH];
            black_box(keys.iter().map(|key| key.as_bytes()[4]).map(u64::from).sum::<u64>());
            let begun = Instant::now();
            for key in keys {
                black_box(side.owner(black_box(key)));
            }
            cold_ns += begun.elapsed().as_nanos();
        }
        row.cold_ns.push(cold_ns as f64 / (COLD_BATCH * COLD_BATCHES) as f64);
    }
}

/// A side, as functions: so that sides stand in a list.
type Entry = (fn(&Bench, u32) -> Row, fn(&mut Bench, &mut Row));

fn entry<S: Side>() -> Entry {
    (Bench::even::<S>, Bench::time::<S>)
}

fn sides() -> [Entry; 8] {
    [
        entry::<OurRing<true>>(),
        entry::<OurRing<false>>(),
        entry::<OurSlots>(),
        entry::<hashring::HashRing<sides::Virtual>>(),
        entry::<conhash::ConsistentHash<sides::Named>>(),
        entry::<sides::Jump>(),
        entry::<anchorhash::AnchorHash<&'static str, u32, _>>(),
        entry::<maglev::Maglev<u32>>(),
    ]
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn measure(rounds: usize) -> Vec<Row> {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    // For the whole run: some crates want keys that outlive them.
    let mut bench = Bench { keys: Vec::leak(keys), sweep: vec![0; SWEEP_BYTES / 8] };
    let mut rows = Vec::new();
    for nodes in NODES {
        let mut here: Vec<(Row, Entry)> =
            sides().into_iter().map(|entry| (entry.0(&bench, nodes), entry)).collect();
        for round in 0..rounds {
            eprintln!("{nodes} nodes, round {}", round + 1);
            here.iter_mut().for_each(|(row, entry)| entry.1(&mut bench, row));
            here.reverse();
        }
        if rounds % 2 == 1 {
            here.reverse();
        }
        rows.extend(here.into_iter().map(|(row, _)| row));
    }
    rows
}

/// What is wanted, and what was measured: name, at most, measured.
fn targets(rows: &[Row]) -> Vec<(String, f64, f64)> {
    let of = |side: &str, nodes: u32| rows.iter().find(|row| row.side == side && row.nodes == nodes);
    let mut targets = Vec::new();
    for nodes in NODES {
        let (Some(ours), Some(theirs)) = (of("keypact ring", nodes), of("hashring", nodes)) else { continue };
        targets.push((
            format!("{nodes} nodes, hot lookup ns, as hashring"),
            median(&theirs.hot_ns),
            median(&ours.hot_ns),
        ));
        targets.push((
            format!("{nodes} nodes, cold lookup ns, as hashring"),
            median(&theirs.cold_ns),
            median(&ours.cold_ns),
        ));
        targets.push((
            format!("{nodes} nodes, share moved on join, 1.05/N"),
            1.05 / f64::from(nodes),
            ours.join,
        ));
        if nodes == 1_000 {
            targets.push((format!("{nodes} nodes x {TOKENS}, max/mean"), 1.10, ours.max_to_mean));
        }
    }
    targets
}

fn as_json(rows: &[Row], rounds: usize) -> Value {
    let row = |row: &Row| {
        json!({
            "side": row.side, "nodes": row.nodes, "max_to_mean": row.max_to_mean, "moved_on_join": row.join,
            "moved_on_leave": row.leave, "one_over_n": 1.0 / f64::from(row.nodes), "hot_ns": median(&row.hot_ns),
            "cold_ns": median(&row.cold_ns), "build_us": median(&row.build_us),
            "each_round": { "hot_ns": row.hot_ns, "cold_ns": row.cold_ns, "build_us": row.build_us },
        })
    };
    let target = |(name, wanted, measured): (String, f64, f64)| json!({ "name": name, "wanted_at_most": wanted, "measured": measured, "met": measured <= wanted });
    json!({
        "peer": "partitioning",
        "settings": { "rounds": rounds, "keys": KEYS, "tokens": TOKENS },
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "targets": targets(rows).into_iter().map(target).collect::<Vec<_>>(),
    })
}

fn print(rows: &[Row]) {
    println!("{KEYS} keys; {TOKENS} tokens a node where there are tokens; medians over the rounds");
    println!(
        "| nodes | side | max/mean | moved on join | moved on leave | 1/N | hot ns | cold ns | build us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {:.3} | {:.5} | {:.5} | {:.5} | {:.1} | {:.1} | {:.0} |",
            row.nodes,
            row.side,
            row.max_to_mean,
            row.join,
            row.leave,
            1.0 / f64::from(row.nodes),
            median(&row.hot_ns),
            median(&row.cold_ns),
            median(&row.build_us)
        );
    }
    println!();
    for (name, wanted, measured) in targets(rows) {
        let met = if measured <= wanted { "met" } else { "MISSED" };
        println!("{met}: {name}: at most {wanted:.5}, measured {measured:.5}");
    }
}

fn main() -> ExitCode {
    let (mut rounds, mut wants_json) = (5, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), argument == "--rounds") {
            ("--json", _) => wants_json = true,
            (_, true) => {
                match arguments.next().and_then(|text| text.parse().ok()).filter(|rounds| *rounds > 0) {
                    Some(number) => rounds = number,
                    None => return usage(),
                }
            }
            _ => return usage(),
        }
    }
    let rows = measure(rounds);
    if wants_json {
        println!("{:#}", as_json(&rows, rounds));
    } else {
        print(&rows);
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: [--rounds N] [--json]");
    ExitCode::FAILURE
}
