//! Which cells are measured against which system, and what is wanted of them.

use std::path::Path;

use crate::compare::{Cell, Placement, Row, Samples, Settings, Side, System};
use crate::error::Failure;
use crate::generator::{Op, Sample, Wire};
use crate::process::loopback;
use crate::{compare, echo, etcd, generator, keypact, redis};

/// One side as it is explained to the reader.
pub(crate) type Explained = (&'static str, String);

/// Rows of a comparison, and what its sides are.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Name and durability of each side.
    pub(crate) sides: Vec<Explained>,
    /// All rows.
    pub(crate) rows: Vec<Row>,
}

const LEASE: &str = "keypact-lease";
const READ_INDEX: &str = "keypact-read-index";
const ETCD: &str = "etcd";

async fn ours(
    binary: &Path,
    settings: &Settings,
    name: &str,
    nodes: u16,
    reads: &str,
) -> Result<System, Failure> {
    let folder = settings.folder(name)?;
    Ok(System::Keypact(keypact::Cluster::start(binary, folder, nodes, reads).await?))
}

/// Three nodes of ours, with either way of reading, beside three members of etcd. All clusters are new in each round and for each length of
/// values: etcd's own reads become slower as its store grows. Reads come first, on a store of 10,000 keys written once.
///
/// # Errors
/// If a system does not start, or refuses requests.
pub(crate) async fn etcd(settings: &Settings) -> Result<Comparison, Failure> {
    let mut samples = Samples::default();
    let mut version = String::new();
    for round in 0..settings.rounds {
        for value_bytes in settings.values.iter().copied() {
            let cluster = etcd::Cluster::start(settings.folder(ETCD)?).await?;
            version = cluster.version().await?;
            let peer = System::Etcd(cluster);
            let (mut lease, mut read_index) = (None, None);
            if let Some(binary) = &settings.keypact {
                lease = Some(ours(binary, settings, LEASE, 3, "lease").await?);
                read_index = Some(ours(binary, settings, READ_INDEX, 3, "read-index").await?);
            }
            for op in [Op::Get, Op::Set].into_iter().filter(|op| settings.ops.contains(op)) {
                if op == Op::Set {
                    read_index = None;
                }
                let systems =
                    [(LEASE, lease.as_ref()), (ETCD, Some(&peer)), (READ_INDEX, read_index.as_ref())];
                let running = systems.into_iter().filter_map(|(name, system)| Some((name, system?)));
                let sides: Vec<Side<'_>> =
                    running.map(|(name, system)| Side { name, system, wait: false }).collect();
                for side in sides.iter().filter(|_| op == Op::Get) {
                    side.system.fill(value_bytes).await?;
                }
                for cell in plain_cells(settings, op, value_bytes) {
                    samples.measure(settings, cell, &sides, round).await?;
                }
            }
        }
    }
    let mut rows = samples.rows("set", Op::Set, LEASE, ETCD);
    rows.extend(samples.rows("get-lease", Op::Get, LEASE, ETCD));
    rows.extend(samples.rows("get-read-index", Op::Get, READ_INDEX, ETCD));
    let sides = vec![
        (
            LEASE,
            String::from("3 nodes, fdatasync on a majority before the answer; reads linearizable by lease"),
        ),
        (READ_INDEX, String::from("3 nodes, the same; reads linearizable by read-index")),
        (
            ETCD,
            format!(
                "etcd {version}, 3 members, fdatasync on a majority before the answer; put, linearizable range"
            ),
        ),
    ];
    Ok(Comparison { sides, rows })
}

fn plain_cells(settings: &Settings, op: Op, value_bytes: usize) -> Vec<Cell> {
    let placed = |placement: &Placement| {
        let placement = *placement;
        settings.clients.iter().map(move |clients| Cell {
            op,
            value_bytes,
            placement,
            pipelining: 1,
            clients: *clients,
        })
    };
    settings.placements.iter().flat_map(placed).collect()
}

const THREE: &str = "keypact-3";
const ONE: &str = "keypact-1";
const AOF: &str = "redis-aof";
const REPLICA: &str = "redis-aof-replica";
const WAIT: &str = "redis-aof-replica-wait";
const MEMORY: &str = "redis-memory";
/// Clients with pipelining, as redis-benchmark has them.
const PIPELINING_CLIENTS: usize = 50;
const PIPELINING_VALUE_BYTES: usize = 64;

/// Three nodes and one node of ours beside four ways to run Redis. All are new in each round and for each length of values.
///
/// # Errors
/// If a system does not start, or refuses requests.
pub(crate) async fn redis(settings: &Settings) -> Result<Comparison, Failure> {
    let mut samples = Samples::default();
    let mut version = String::new();
    for round in 0..settings.rounds {
        for value_bytes in settings.values.iter().copied() {
            let aof = redis::Servers::start(settings.folder(AOF)?, 0, true).await?;
            version = aof.version().await?;
            let aof = System::Redis(aof);
            let replica = System::Redis(redis::Servers::start(settings.folder(REPLICA)?, 1, true).await?);
            let memory = System::Redis(redis::Servers::start(settings.folder(MEMORY)?, 0, false).await?);
            let (mut three, mut one) = (None, None);
            if let Some(binary) = &settings.keypact {
                three = Some(ours(binary, settings, THREE, 3, "lease").await?);
                one = Some(ours(binary, settings, ONE, 1, "lease").await?);
            }
            let systems = [
                (THREE, three.as_ref()),
                (REPLICA, Some(&replica)),
                (WAIT, Some(&replica)),
                (AOF, Some(&aof)),
                (ONE, one.as_ref()),
                (MEMORY, Some(&memory)),
            ];
            let running = systems.into_iter().filter_map(|(name, system)| Some((name, system?)));
            let sides: Vec<Side<'_>> =
                running.map(|(name, system)| Side { name, system, wait: name == WAIT }).collect();
            for side in sides.iter().filter(|side| !side.wait) {
                side.system.fill(value_bytes).await?;
            }
            for cell in redis_cells(settings, value_bytes) {
                samples.measure(settings, cell, &sides, round).await?;
            }
        }
    }
    let pairs = [(THREE, WAIT), (THREE, REPLICA), (THREE, AOF), (ONE, AOF), (ONE, MEMORY)];
    let ops = [("set", Op::Set), ("get", Op::Get), ("incr", Op::Incr)];
    let rows = pairs.into_iter().flat_map(|(ours, theirs)| {
        ops.into_iter().flat_map(|(name, op)| samples.rows(name, op, ours, theirs)).collect::<Vec<Row>>()
    });
    Ok(Comparison { rows: rows.collect(), sides: redis_sides(&version) })
}

fn redis_sides(version: &str) -> Vec<Explained> {
    let redis = |what: &str| format!("Redis {version}, {what}");
    vec![
        (
            THREE,
            String::from("3 nodes, fdatasync on a majority before the answer; reads linearizable by lease"),
        ),
        (ONE, String::from("1 node, fdatasync before the answer; lost with its disk")),
        (
            WAIT,
            redis(
                "AOF always, one replica with AOF always, WAIT 1 0 after each batch: on two disks or nearly so (WAIT does not wait for the replica's fsync)",
            ),
        ),
        (
            REPLICA,
            redis(
                "AOF always, one asynchronous replica: acknowledged writes are lost if the primary's disk is",
            ),
        ),
        (AOF, redis("AOF always, alone: lost with its disk")),
        (MEMORY, redis("no persistence: lost with the process")),
    ]
}

fn redis_cells(settings: &Settings, value_bytes: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    for op in [Op::Set, Op::Get, Op::Incr].into_iter().filter(|op| settings.ops.contains(op)) {
        // A counter has no length; it is measured once.
        if op == Op::Incr && settings.values.first() != Some(&value_bytes) {
            continue;
        }
        let cell =
            |clients, pipelining| Cell { op, value_bytes, placement: Placement::Leader, pipelining, clients };
        cells.extend(settings.clients.iter().map(|clients| cell(*clients, 1)));
        if value_bytes == PIPELINING_VALUE_BYTES {
            cells.extend(settings.pipelining.iter().map(|depth| cell(PIPELINING_CLIENTS, *depth)));
        }
    }
    cells.dedup();
    cells
}

/// The generator against a server that only sends back what it gets: messages as long as a `SET`.
///
/// # Errors
/// If the server does not start.
pub(crate) async fn echo(settings: &Settings) -> Result<Vec<(Cell, Sample)>, Failure> {
    let folder = settings.folder("echo")?;
    let (mut server, port) = echo::start(&folder)?;
    wait_for(&mut server, port).await?;
    let pids = [server.pid()];
    let mut figures = Vec::new();
    for value_bytes in settings.values.iter().copied() {
        for clients in settings.clients.iter().copied() {
            let load = generator::Load {
                op: Op::Set,
                clients,
                pipelining: 1,
                value_bytes,
                seed: settings.seed,
                warm_up: settings.warm_up,
                measured: settings.measured,
            };
            let mut samples = Vec::new();
            for _ in 0..settings.rounds {
                samples.push(generator::run(&load, Wire::Echo, &[loopback(port)], &pids).await?);
            }
            let median = compare::Summary::alone(&samples).expect("at least one round").0;
            let cell =
                Cell { op: Op::Set, value_bytes, placement: Placement::Leader, pipelining: 1, clients };
            figures.push((cell, median));
        }
    }
    Ok(figures)
}

async fn wait_for(server: &mut crate::process::Server, port: u16) -> Result<(), Failure> {
    for _ in 0..500 {
        server.check_running("the echo server")?;
        if generator::Connection::dial(Wire::Echo, loopback(port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(Failure::server("the echo server", "does not listen"))
}
