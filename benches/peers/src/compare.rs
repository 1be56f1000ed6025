//! Rounds, cells and rows: every side is measured in turn, and ratios are made within a round.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Failure;
use crate::generator::{self, Load, Op, Sample, Wire};
use crate::process::Folder;
use crate::{etcd, keypact, redis};

/// What all comparisons are told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Rounds; in each every side is measured once.
    pub(crate) rounds: usize,
    /// How long a cell is counted.
    pub(crate) measured: Duration,
    /// How long it runs uncounted before.
    pub(crate) warm_up: Duration,
    /// Numbers of clients.
    pub(crate) clients: Vec<usize>,
    /// Lengths of values, bytes.
    pub(crate) values: Vec<usize>,
    /// Which commands.
    pub(crate) ops: Vec<Op>,
    /// Where connections go.
    pub(crate) placements: Vec<Placement>,
    /// Requests in a batch, for Redis.
    pub(crate) pipelining: Vec<usize>,
    /// Decides the keys.
    pub(crate) seed: u64,
    /// Our binary; without it only the peer is measured.
    pub(crate) keypact: Option<PathBuf>,
    /// Where data goes.
    pub(crate) folder: PathBuf,
    /// How many leaders of ours are killed.
    pub(crate) failovers: usize,
    /// How long the writer waits for an answer before it asks another node.
    pub(crate) attempt: Duration,
}

impl Settings {
    /// A new folder for one server's data.
    pub(crate) fn folder(&self, name: &str) -> Result<Folder, Failure> {
        Folder::create(&self.folder, name)
    }
}

/// Where the clients' connections go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Placement {
    /// All at the leader.
    Leader,
    /// Evenly over the nodes.
    Spread,
}

/// A running system.
#[derive(Debug)]
pub(crate) enum System {
    /// Ours.
    Keypact(keypact::Cluster),
    /// Three members of etcd.
    Etcd(etcd::Cluster),
    /// Redis, with or without a replica.
    Redis(redis::Servers),
}

impl System {
    /// What it speaks.
    pub(crate) fn wire(&self) -> Wire {
        match self {
            System::Keypact(_) | System::Redis(_) => Wire::Resp,
            System::Etcd(_) => Wire::Grpc,
        }
    }

    /// All addresses that take requests.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            System::Keypact(cluster) => cluster.addresses(),
            System::Etcd(cluster) => cluster.addresses(),
            System::Redis(servers) => vec![servers.address()],
        }
    }

    /// All its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match self {
            System::Keypact(cluster) => cluster.pids(),
            System::Etcd(cluster) => cluster.pids(),
            System::Redis(servers) => servers.pids(),
        }
    }

    /// Which of the addresses leads now.
    pub(crate) async fn leader(&self) -> Result<usize, Failure> {
        match self {
            System::Keypact(cluster) => cluster.leader().await,
            System::Etcd(cluster) => Ok(cluster.leader().await?.0),
            System::Redis(_) => Ok(0),
        }
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        match self {
            System::Keypact(cluster) => cluster.kill(at),
            System::Etcd(cluster) => cluster.kill(at),
            System::Redis(_) => unreachable!("a lone primary has nobody to take over"),
        }
    }

    /// Writes every key once.
    pub(crate) async fn fill(&self, value_bytes: usize) -> Result<(), Failure> {
        let leader = self.addresses()[self.leader().await?];
        generator::fill(self.wire(), leader, value_bytes).await
    }
}

/// One place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Cell {
    /// What is asked.
    pub(crate) op: Op,
    /// Length of values, bytes.
    pub(crate) value_bytes: usize,
    /// Where connections go.
    pub(crate) placement: Placement,
    /// Requests in a batch.
    pub(crate) pipelining: usize,
    /// Clients.
    pub(crate) clients: usize,
}

/// A system under a name; `wait` adds Redis' `WAIT 1 0` to each batch of writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    /// Its name in rows.
    pub(crate) name: &'static str,
    /// Which system.
    pub(crate) system: &'a System,
    /// See above.
    pub(crate) wait: bool,
}

/// All samples of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(Cell, &'static str, usize, Sample)>);

impl Samples {
    /// Measures a cell on all sides, one after the other; every second round in the opposite order.
    ///
    /// # Errors
    /// If a side fails.
    pub(crate) async fn measure(
        &mut self,
        settings: &Settings,
        cell: Cell,
        sides: &[Side<'_>],
        round: usize,
    ) -> Result<(), Failure> {
        let mut sides: Vec<&Side<'_>> =
            sides.iter().filter(|side| !side.wait || cell.op == Op::Set).collect();
        if round % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let sample = one(settings, cell, side)
                .await
                .map_err(|failure| Failure::Wrong(format!("{} {}: {failure}", side.name, describe(cell))))?;
            eprintln!(
                "round {} {} {}: {:.0}/s, p50 {:.0} us, p99 {:.0} us, server {:.1} us/op",
                round + 1,
                side.name,
                describe(cell),
                sample.ops_per_s,
                sample.p50_us,
                sample.p99_us,
                sample.server_cpu_us
            );
            self.0.push((cell, side.name, round, sample));
        }
        Ok(())
    }

    /// The row that sets `ours` beside `theirs`, in the order of the cells; a side that was not measured is left empty.
    pub(crate) fn rows(
        &self,
        op: &'static str,
        which: Op,
        ours: &'static str,
        theirs: &'static str,
    ) -> Vec<Row> {
        let mut cells: Vec<Cell> =
            self.0.iter().map(|sample| sample.0).filter(|cell| cell.op == which).collect();
        cells.sort_unstable();
        cells.dedup();
        let row = |cell: Cell| {
            let (ours_samples, theirs_samples) = (self.of(cell, ours), self.of(cell, theirs));
            let rounds: Vec<(f64, f64)> = ours_samples
                .iter()
                .zip(&theirs_samples)
                .map(|(ours, theirs)| (ours.ops_per_s, theirs.ops_per_s))
                .collect();
            let ratio = Spread::of(rounds.iter().map(|(ours, theirs)| ours / theirs));
            Row {
                op,
                cell,
                ours_name: ours,
                theirs_name: theirs,
                ours: Summary::of(&ours_samples),
                theirs: Summary::of(&theirs_samples),
                ratio,
                rounds,
            }
        };
        cells.into_iter().map(row).filter(|row| row.theirs.is_some()).collect()
    }

    fn of(&self, cell: Cell, side: &str) -> Vec<Sample> {
        let matching = self.0.iter().filter(|sample| sample.0 == cell && sample.1 == side);
        matching.map(|sample| sample.3).collect()
    }
}

async fn one(settings: &Settings, cell: Cell, side: &Side<'_>) -> Result<Sample, Failure> {
    let addresses = side.system.addresses();
    let targets = match cell.placement {
        Placement::Leader => vec![addresses[side.system.leader().await?]],
        Placement::Spread => addresses,
    };
    let load = Load {
        op: if side.wait { Op::SetWait } else { cell.op },
        clients: cell.clients,
        pipelining: cell.pipelining,
        value_bytes: cell.value_bytes,
        seed: settings.seed,
        warm_up: settings.warm_up,
        measured: settings.measured,
    };
    generator::run(&load, side.system.wire(), &targets, &side.system.pids()).await
}

fn describe(cell: Cell) -> String {
    let Cell { op, value_bytes, placement, pipelining, clients } = cell;
    format!("{op:?} {value_bytes} B, {clients} clients x {pipelining}, {placement:?}").to_lowercase()
}

/// A figure over the rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    /// The middle one; between the two middle ones if they are even in number.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Some(Spread { median, min, max })
    }
}

/// Medians over the rounds, of one side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Summary(pub(crate) Sample);

impl Summary {
    fn of(samples: &[Sample]) -> Option<Summary> {
        let median = |figure: fn(&Sample) -> f64| Some(Spread::of(samples.iter().map(figure))?.median);
        Some(Summary(Sample {
            ops_per_s: median(|sample| sample.ops_per_s)?,
            p50_us: median(|sample| sample.p50_us)?,
            p99_us: median(|sample| sample.p99_us)?,
            server_cpu_us: median(|sample| sample.server_cpu_us)?,
            generator_cpu_us: median(|sample| sample.generator_cpu_us)?,
            refused: samples.iter().map(|sample| sample.refused).sum(),
        }))
    }

    /// Medians of samples that stand for themselves, such as the echo's.
    pub(crate) fn alone(samples: &[Sample]) -> Option<Summary> {
        Summary::of(samples)
    }
}

/// Two sides of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The command, with how reads are answered.
    pub(crate) op: &'static str,
    /// Which cell.
    pub(crate) cell: Cell,
    /// Our side's name.
    pub(crate) ours_name: &'static str,
    /// The other's.
    pub(crate) theirs_name: &'static str,
    /// Ours.
    pub(crate) ours: Option<Summary>,
    /// The other's.
    pub(crate) theirs: Option<Summary>,
    /// Ours divided by theirs, round by round.
    pub(crate) ratio: Option<Spread>,
    /// Operations per second, ours and theirs, round by round.
    pub(crate) rounds: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_have_a_middle_and_two_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).unwrap().median, 2.5);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        let cell =
            Cell { op: Op::Set, value_bytes: 64, placement: Placement::Leader, pipelining: 1, clients: 1 };
        let sample = |ops_per_s| Sample { ops_per_s, ..Sample::default() };
        // The machine ran at half its speed in the second round: no ratio shows it.
        let samples = Samples(vec![
            (cell, "ours", 0, sample(20.0)),
            (cell, "theirs", 0, sample(10.0)),
            (cell, "theirs", 1, sample(5.0)),
            (cell, "ours", 1, sample(10.0)),
        ]);
        let rows = samples.rows("set", Op::Set, "ours", "theirs");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ratio, Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
        assert!(samples.rows("get", Op::Get, "ours", "theirs").is_empty());
    }
}
