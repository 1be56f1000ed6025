//! Where keys lie on a ring, what a join moves, and the plan of it: `cargo run -p keypact-partitioning --example ring`.

use std::error::Error;

use keypact_partitioning::Member;
use keypact_partitioning::placement::{Plan, Throttle};
use keypact_partitioning::ring::{Point, Ring, RingConfig, RingTable};
use keypact_protocol::NodeId;

fn main() -> Result<(), Box<dyn Error>> {
    // Four nodes on four hosts in two zones.
    let members: Vec<Member> =
        (1..=4).map(|id| Member::alone(NodeId(id)).at(id as u32 % 2, id as u32)).collect();
    let ring = Ring::of(RingConfig::default(), &members)?;
    let table = RingTable::new(&ring).ok_or("an empty ring")?;
    for key in ["cart:1", "cart:2", "cart:3"] {
        let point = Point::of(key.as_bytes());
        let list = ring.preference(point, 3);
        println!("{key}: {}, replicas {:?} in {} zones", table.owner(point), list.nodes, list.zones);
    }
    let mut larger = ring.clone();
    larger.join(Member::alone(NodeId(5)).at(0, 5))?;
    let moved = ring.moved(&larger, NodeId(5));
    println!(
        "n5 joins: {:.1} % of the keys move, {:.1} % between others",
        moved.share * 100.0,
        moved.elsewhere * 100.0
    );

    let map = ring.map(1, 1)?;
    let plan = Plan::between(&map, &larger.map(1, 1)?, |_| 1 << 20);
    let run = plan.dry_run(&map, &Throttle::default())?;
    println!("{} steps, {} bytes, at least {} ms", run.steps, run.bytes, run.least_ms);
    Ok(())
}
