//! The Raft core beside raft-rs, in process: three nodes in memory, one thread, closed-loop clients at the leader.
//!
//! Both are driven by the same loop. A pass visits the leader, then its two followers; a visited node takes all messages and proposals
//! that wait for it, and only then is its outcome collected and its log, which is memory, said to be durable. Messages are handed over as
//! values, so neither side pays for encoding.

mod ours;
mod theirs;

use std::time::{Duration, Instant};

use crate::compare::Spread;
use crate::error::Failure;

/// Numbers of clients.
pub(crate) const CLIENTS: [usize; 4] = [1, 64, 1_024, 4_096];
const NODES: usize = 3;
const COMMAND_BYTES: usize = 64;
/// The clock that ends a measurement is read once in so many passes.
const PASSES_PER_LOOK: usize = 64;
/// Passes without any commit after which a cluster is stuck.
const IDLE_PASSES_MAX: usize = 1_000_000;

/// One number of clients, both sides.
#[derive(Clone, Debug)]
pub(crate) struct Proposals {
    /// Clients, each with one outstanding proposal.
    pub(crate) clients: usize,
    /// Length of a command, bytes.
    pub(crate) command_bytes: usize,
    /// Committed proposals per second, ours.
    pub(crate) ours: Option<Spread>,
    /// And raft-rs'.
    pub(crate) theirs: Option<Spread>,
    /// Ours divided by theirs, round by round.
    pub(crate) ratio: Option<Spread>,
    /// Rounds.
    pub(crate) rounds: usize,
}

/// A cluster of three nodes with a leader.
trait Cluster {
    /// Gives the leader a proposal of each of these clients, lets each node go on once, and adds to `committed` the clients whose
    /// proposals the leader would now answer.
    fn pass(&mut self, proposals: &[u32], committed: &mut Vec<u32>) -> Result<(), Failure>;
}

/// A client's command: its number, and filling.
fn command(client: u32) -> [u8; COMMAND_BYTES] {
    let mut command = [b'.'; COMMAND_BYTES];
    command[..4].copy_from_slice(&client.to_le_bytes());
    command
}

/// The client whose command this is; `None` for entries that a protocol makes for itself.
fn client_of(command: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*command.first_chunk()?))
}

/// Measures both sides in turn, the order turned round in every second round.
///
/// # Errors
/// If one of them gets stuck.
pub(crate) async fn measure(
    clients: &[usize],
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
) -> Result<Vec<Proposals>, Failure> {
    let mut rows = Vec::new();
    for clients in clients.iter().copied() {
        let mut pairs = Vec::new();
        for round in 0..rounds {
            let mut pair = (0.0, 0.0);
            for turn in [round % 2, (round + 1) % 2] {
                if turn == 0 {
                    pair.0 = drive(&mut ours::Nodes::start()?, clients, warm_up, measured)?;
                } else {
                    pair.1 = drive(&mut theirs::Nodes::start()?, clients, warm_up, measured)?;
                }
                // Lets Ctrl-C be seen.
                tokio::task::yield_now().await;
            }
            eprintln!("round {} {clients} clients: {:.0}/s beside {:.0}/s", round + 1, pair.0, pair.1);
            pairs.push(pair);
        }
        rows.push(Proposals {
            clients,
            command_bytes: COMMAND_BYTES,
            ours: Spread::of(pairs.iter().map(|pair| pair.0)),
            theirs: Spread::of(pairs.iter().map(|pair| pair.1)),
            ratio: Spread::of(pairs.iter().map(|pair| pair.0 / pair.1)),
            rounds,
        });
    }
    Ok(rows)
}

/// Committed proposals per second of a closed loop.
fn drive(
    cluster: &mut impl Cluster,
    clients: usize,
    warm_up: Duration,
    measured: Duration,
) -> Result<f64, Failure> {
    let clients = u32::try_from(clients).expect("few clients");
    let mut waiting: Vec<u32> = (0..clients).collect();
    count(cluster, &mut waiting, warm_up)?;
    let (committed, elapsed) = count(cluster, &mut waiting, measured)?;
    Ok(committed as f64 / elapsed.as_secs_f64())
}

/// `waiting` are the clients whose proposals come next.
fn count(
    cluster: &mut impl Cluster,
    waiting: &mut Vec<u32>,
    time: Duration,
) -> Result<(u64, Duration), Failure> {
    let mut committed_now = Vec::with_capacity(waiting.len());
    let mut committed = 0;
    let mut idle = 0;
    let start = Instant::now();
    loop {
        for _ in 0..PASSES_PER_LOOK {
            committed_now.clear();
            cluster.pass(waiting, &mut committed_now)?;
            std::mem::swap(waiting, &mut committed_now);
            committed += waiting.len() as u64;
            idle = if waiting.is_empty() { idle + 1 } else { 0 };
            if idle > IDLE_PASSES_MAX {
                return Err(Failure::Wrong(String::from("the cluster commits nothing any more")));
            }
        }
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok((committed, elapsed));
        }
    }
}
