//! A plan, written to a file, read again, tried, and carried out: `cargo run -p keypact-partitioning --example range`.

use std::error::Error;
use std::{env, fs, process};

use bytes::Bytes;
use keypact_partitioning::Slice;
use keypact_partitioning::placement::{Executor, Plan, Throttle};
use keypact_partitioning::range::{KeyOrder, RangeKey, RangeMap};
use keypact_protocol::{NodeId, Wire};

fn main() -> Result<(), Box<dyn Error>> {
    let order = KeyOrder::Integer;
    let points = [order.split_point(b"1000"), order.split_point(b"2000")];
    let [n1, n2, n3] = [1, 2, 3].map(NodeId);
    let map = RangeMap::new(order, &points, vec![vec![n1], vec![n1], vec![n2]])?;
    println!("user:1500 is at {}", map.find(b"user:1500").owner());

    // Wanted: the middle slice at a third node. 5 MB of keys, say.
    let mut wanted = map.map().clone();
    let middle = Slice::new(points[0].clone(), Some(points[1].clone())).ok_or("an empty slice")?;
    wanted.assign(&middle, &[n1], &[n3])?;
    let plan = Plan::between(map.map(), &wanted, |_| 5 << 20);

    let path = env::temp_dir().join(format!("keypact-plan-{}", process::id()));
    let mut bytes = Vec::new();
    plan.encode(&mut bytes);
    fs::write(&path, &bytes)?;
    let plan = Plan::<RangeKey>::decode(Bytes::from(fs::read(&path)?))?;
    fs::remove_file(&path)?;

    let throttle = Throttle { bytes_per_s: 1 << 20, ..Throttle::default() };
    let run = plan.dry_run(map.map(), &throttle)?;
    println!("{} copies, {} bytes, at least {} ms", run.copies, run.bytes, run.least_ms);
    plan.steps.iter().for_each(|step| println!("  {step}"));

    let mut executor = Executor::new(map.map().clone(), throttle);
    executor.begin(1, plan)?;
    // Here the records would go to a log, and nodes would copy. See `docs/protocols/range.md` for who says what.
    while let Some((id, _record)) = executor.start_next(0) {
        executor.switch(id)?;
        println!("step {id} is switched: version {}", executor.map().version());
    }
    println!("user:1500 is at {}", executor.map().find(&order.position(b"user:1500")).owner());
    Ok(())
}
