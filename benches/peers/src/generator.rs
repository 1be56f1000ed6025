//! The load: a closed loop of clients in one thread, the same for every system.
//!
//! Each client has one connection and one outstanding request (or one outstanding batch, with pipelining), draws its keys from a seed of
//! its own, and starts its next request when the answer to the last has arrived. Answers of the warm-up are not counted; an answer
//! counts if it arrives while the measurement runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::net::TcpStream;

use crate::error::Failure;
use crate::process;
use crate::resp::Refused;
use crate::{echo, grpc, resp};

/// Keys that are drawn from.
pub(crate) const KEYS: usize = 10_000;
/// Longest latency that is told apart, nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// One in so many requests may be refused before a figure is worth nothing.
const REFUSED_ONE_IN: u64 = 100;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Op {
    /// Write a value.
    Set,
    /// Write values, then wait until one replica has them: once per batch.
    SetWait,
    /// Read a value.
    Get,
    /// Add one.
    Incr,
}

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    /// The Redis protocol.
    Resp,
    /// etcd's.
    Grpc,
    /// Whatever is sent comes back.
    Echo,
}

/// One batch of requests.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// What.
    pub(crate) op: Op,
    /// On which keys.
    pub(crate) keys: &'a [Key],
    /// The value to write; when reading, one as long as what must be found.
    pub(crate) value: &'a Bytes,
}

/// A key, of fixed length so that all requests are of one size.
pub(crate) type Key = [u8; 10];

/// The key with this number, in the key space of `kind` (counters are not strings, so they stand apart).
pub(crate) fn key(kind: u8, number: u64) -> Key {
    let mut key = [b'0'; 10];
    key[0] = kind;
    let mut rest = number;
    for digit in key[1..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    assert!(rest == 0, "keys have nine digits");
    key
}

/// A value of this many bytes.
pub(crate) fn value(bytes: usize) -> Bytes {
    Bytes::from((0..bytes).map(|at| b'a' + u8::try_from(at % 26).expect("a letter")).collect::<Vec<u8>>())
}

/// A connection of any kind.
#[derive(Debug)]
pub(crate) enum Connection {
    /// The Redis protocol.
    Resp(resp::Connection),
    /// etcd's.
    Grpc(grpc::Connection),
    /// Echo.
    Echo(echo::Connection),
}

impl Connection {
    /// Connects.
    pub(crate) async fn dial(wire: Wire, address: SocketAddr) -> Result<Connection, Failure> {
        let stream =
            TcpStream::connect(address).await.map_err(Failure::io(format!("connecting to {address}")))?;
        stream.set_nodelay(true).map_err(Failure::io("TCP_NODELAY"))?;
        Ok(match wire {
            Wire::Resp => Connection::Resp(resp::Connection::new(stream)),
            Wire::Grpc => Connection::Grpc(grpc::Connection::new(stream, address).await?),
            Wire::Echo => Connection::Echo(echo::Connection::new(stream)),
        })
    }

    /// Sends a batch and waits for all its answers.
    pub(crate) async fn batch(&mut self, request: &Request<'_>) -> Result<Refused, Failure> {
        match self {
            Connection::Resp(connection) => connection.batch(request).await,
            Connection::Grpc(connection) => connection.batch(request).await,
            Connection::Echo(connection) => connection.batch(request).await,
        }
    }
}

/// One measurement to be made.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What is asked.
    pub(crate) op: Op,
    /// Clients, each with one connection.
    pub(crate) clients: usize,
    /// Requests in one batch.
    pub(crate) pipelining: usize,
    /// Length of values, bytes.
    pub(crate) value_bytes: usize,
    /// Decides the keys.
    pub(crate) seed: u64,
    /// Runs uncounted for this long first.
    pub(crate) warm_up: Duration,
    /// Then counted for this long.
    pub(crate) measured: Duration,
}

/// What a measurement gave.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Sample {
    /// Operations per second.
    pub(crate) ops_per_s: f64,
    /// Median latency of a request (of a batch, with pipelining), microseconds.
    pub(crate) p50_us: f64,
    /// And the 99th percentile.
    pub(crate) p99_us: f64,
    /// Processor time of all server processes per operation, microseconds.
    pub(crate) server_cpu_us: f64,
    /// Processor time of the generator per operation, microseconds.
    pub(crate) generator_cpu_us: f64,
    /// Requests that were refused while it ran.
    pub(crate) refused: u64,
}

/// A measurement in which nobody was answered goes on, up to so many times as long.
const STRETCH_MAX: usize = 10;

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const ENDED: u8 = 2;

/// What all clients share.
struct Shared {
    phase: AtomicU8,
    tally: Mutex<Tally>,
}

struct Tally {
    latencies_ns: Histogram<u64>,
    operations: u64,
    refused: u64,
    refusal: Option<String>,
}

/// Runs a load against `addresses`, its clients spread evenly over them, and measures the processes `pids` meanwhile.
///
/// # Errors
/// If a connection breaks, or more than one request in a hundred is refused.
pub(crate) async fn run(
    load: &Load,
    wire: Wire,
    addresses: &[SocketAddr],
    pids: &[u32],
) -> Result<Sample, Failure> {
    assert!(load.clients > 0 && load.pipelining > 0, "someone must ask for something");
    assert!(!addresses.is_empty(), "someone must be asked");
    let latencies_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("fixed bounds are valid");
    let tally = Tally { latencies_ns, operations: 0, refused: 0, refusal: None };
    let shared = Arc::new(Shared { phase: AtomicU8::new(WARMING), tally: Mutex::new(tally) });
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..load.clients {
        let connection = Connection::dial(wire, addresses[client % addresses.len()]).await?;
        tasks.spawn(ask(connection, load.clone(), client as u64, Arc::clone(&shared)));
    }
    let timed = async {
        tokio::time::sleep(load.warm_up).await;
        let before = Processors::now(pids);
        shared.phase.store(COUNTING, Ordering::Relaxed);
        for _ in 0..STRETCH_MAX {
            tokio::time::sleep(load.measured).await;
            if shared.tally.lock().expect("no client panicked").operations > 0 {
                break;
            }
        }
        shared.phase.store(ENDED, Ordering::Relaxed);
        before.until(&Processors::now(pids))
    };
    // A client ends before the time is over only by a failure.
    let (elapsed, server, generator) = tokio::select! {
        times = timed => times,
        Some(ended) = tasks.join_next() => {
            ended.expect("clients do not panic")?;
            unreachable!("a client without failure goes on until the phase ends");
        }
    };
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients do not panic")?;
    }
    let tally = shared.tally.lock().expect("no client panicked");
    sample(&tally, elapsed, server, generator)
}

async fn ask(
    mut connection: Connection,
    load: Load,
    client: u64,
    shared: Arc<Shared>,
) -> Result<(), Failure> {
    let kind = if load.op == Op::Incr { b'n' } else { b'k' };
    let value = value(load.value_bytes);
    let mut random = Random::new(load.seed ^ client.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut keys = vec![key(kind, 0); load.pipelining];
    let mut start = Instant::now();
    while shared.phase.load(Ordering::Relaxed) != ENDED {
        for slot in &mut keys {
            *slot = key(kind, random.below(KEYS as u64));
        }
        let refused = connection.batch(&Request { op: load.op, keys: &keys, value: &value }).await?;
        let finish = Instant::now();
        if shared.phase.load(Ordering::Relaxed) == COUNTING {
            let mut tally = shared.tally.lock().expect("no client panicked");
            let latency_ns = u64::try_from((finish - start).as_nanos()).unwrap_or(LATENCY_NS_MAX);
            tally.latencies_ns.saturating_record(latency_ns);
            tally.operations += load.pipelining as u64 - refused.count.min(load.pipelining as u64);
            tally.refused += refused.count;
            if tally.refusal.is_none() {
                tally.refusal = refused.first;
            }
        }
        start = finish;
    }
    Ok(())
}

fn sample(
    tally: &Tally,
    elapsed: Duration,
    server: Duration,
    generator: Duration,
) -> Result<Sample, Failure> {
    if tally.operations == 0 || tally.refused > tally.operations / REFUSED_ONE_IN {
        let first = tally.refusal.as_deref().unwrap_or("no answer in time");
        return Err(Failure::Wrong(format!(
            "{} requests answered, {} refused: {first}",
            tally.operations, tally.refused
        )));
    }
    let operations = tally.operations as f64;
    let per_operation_us = |time: Duration| time.as_secs_f64() * 1e6 / operations;
    let quantile_us = |quantile| tally.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sample {
        ops_per_s: operations / elapsed.as_secs_f64(),
        p50_us: quantile_us(0.5),
        p99_us: quantile_us(0.99),
        server_cpu_us: per_operation_us(server),
        generator_cpu_us: per_operation_us(generator),
        refused: tally.refused,
    })
}

/// Time and processor time so far.
struct Processors {
    at: Instant,
    servers: Duration,
    generator: Duration,
}

impl Processors {
    fn now(pids: &[u32]) -> Processors {
        let servers = pids.iter().filter_map(|pid| process::cpu_time(*pid)).sum();
        let generator = process::cpu_time(std::process::id()).expect("we are running");
        Processors { at: Instant::now(), servers, generator }
    }

    /// Elapsed time, the servers' processor time, ours.
    fn until(&self, later: &Processors) -> (Duration, Duration, Duration) {
        let servers = later.servers.saturating_sub(self.servers);
        (later.at - self.at, servers, later.generator.saturating_sub(self.generator))
    }
}

/// Writes every key once, so that each read finds a value of the right length.
///
/// # Errors
/// If a connection breaks or a write is refused.
pub(crate) async fn fill(wire: Wire, address: SocketAddr, value_bytes: usize) -> Result<(), Failure> {
    const CLIENTS: usize = 64;
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        tasks.spawn(async move {
            let mut connection = Connection::dial(wire, address).await?;
            let value = value(value_bytes);
            for number in (client..KEYS).step_by(CLIENTS) {
                let keys = [key(b'k', number as u64)];
                let request = Request { op: Op::Set, keys: &keys, value: &value };
                if let Some(why) = connection.batch(&request).await?.first {
                    return Err(Failure::Wrong(format!("filling was refused: {why}")));
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients do not panic")?;
    }
    Ok(())
}

/// SplitMix64: a good enough generator for keys in four lines.
pub(crate) struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_length_and_differ() {
        assert_eq!(&key(b'k', 7), b"k000000007");
        assert_eq!(&key(b'n', 123_456_789), b"n123456789");
    }

    #[test]
    fn random_keys_reach_the_whole_space() {
        let mut random = Random::new(1);
        let mut seen = [false; 100];
        for _ in 0..2_000 {
            seen[usize::try_from(random.below(100)).unwrap()] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
