//! Keypact measured beside other systems on this machine. Started by `cargo xtask peers`; see README.md.

mod compare;
mod echo;
mod error;
mod etcd;
mod failover;
mod floor;
mod generator;
mod grpc;
mod keypact;
mod process;
mod raft;
mod recovery;
mod redis;
mod report;
mod resp;
mod systems;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use compare::{Placement, Settings};
use error::Failure;
use generator::Op;
use process::Folder;
use report::Report;

#[derive(Parser)]
#[command(about = "Keypact measured beside other systems on this machine, in alternating rounds.")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Three nodes beside three members of etcd: SET and put, GET and linearizable range, killed leaders.
    Etcd(Options),
    /// Three nodes and one node beside Redis with and without an append-only file, replica and WAIT.
    Redis(Options),
    /// The Raft core beside raft-rs, in process.
    RaftRs(Options),
    /// Retries beside backon, circuit breakers beside recloser and failsafe, in process.
    Recovery(Options),
    /// The echo that the generator is measured against.
    #[command(hide = true)]
    EchoServer {
        /// Where it listens.
        #[arg(long)]
        port: u16,
    },
}

#[derive(Args)]
struct Options {
    /// The `keypact` binary. Without it only the peer is measured.
    #[arg(long)]
    keypact: Option<PathBuf>,
    /// How often every side is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each cell is counted. etcd: 3, Redis and raft-rs: 1.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// How long each cell runs uncounted before that.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: f64,
    /// Numbers of clients. etcd and Redis: 1,16,64,256; raft-rs: 1,64,1024,4096.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: Vec<u32>,
    /// Lengths of values, bytes.
    #[arg(long, value_delimiter = ',', default_value = "64,1024", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    values: Vec<u32>,
    /// Commands; etcd has no INCR.
    #[arg(long, value_delimiter = ',', default_value = "set,get,incr")]
    ops: Vec<OpName>,
    /// Where connections go.
    #[arg(long, value_delimiter = ',', default_value = "leader,spread")]
    placements: Vec<PlacementName>,
    /// Requests in a batch, Redis only, with 50 clients and 64-byte values.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pipelining: Vec<u32>,
    /// Parts of the run.
    #[arg(long, value_delimiter = ',', default_value = "throughput,failover,echo,floor")]
    only: Vec<Part>,
    /// How many leaders of ours are killed; of etcd, half as many.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    failovers: u32,
    /// How long the writer waits for an answer before it asks the next node, milliseconds; of killed leaders only.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    attempt_ms: u64,
    /// Decides the keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where data goes: on the disk to be measured. Default: a new folder beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum OpName {
    Set,
    Get,
    Incr,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlacementName {
    Leader,
    Spread,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Throughput,
    Failover,
    Echo,
    Floor,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err(String::from("seconds from 0.05 to 600 are wanted")),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime.map_err(Failure::io("the generator's runtime")) {
        Ok(runtime) => runtime.block_on(async {
            // Whatever was started lives in the measuring future, and ends with it.
            tokio::select! {
                ended = run(&arguments.what) => ended,
                interrupted = interrupted() => interrupted,
            }
        }),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::io("SIGTERM"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::io("SIGHUP"))?;
    tokio::select! {
        listening = tokio::signal::ctrl_c() => listening.map_err(Failure::io("SIGINT"))?,
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Err(Failure::Interrupted)
}

async fn run(what: &What) -> Result<(), Failure> {
    let (options, report) = match what {
        What::EchoServer { port } => return echo::serve(*port).await,
        What::Etcd(options) => (options, etcd_report(options).await?),
        What::Redis(options) => (options, redis_report(options).await?),
        What::RaftRs(options) => (options, raft_report(options).await?),
        What::Recovery(options) => (options, recovery_report(options).await?),
    };
    if options.json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

const CLIENTS: [usize; 4] = [1, 16, 64, 256];

impl Options {
    fn has(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    fn clients_or(&self, default: &[usize]) -> Vec<usize> {
        if self.clients.is_empty() { default.to_vec() } else { sizes(&self.clients) }
    }

    fn settings(&self, seconds: f64, folder: &Folder) -> Result<Settings, Failure> {
        let binary = self.keypact.as_ref().map(|path| path.canonicalize()).transpose();
        Ok(Settings {
            rounds: self.rounds as usize,
            measured: Duration::from_secs_f64(self.seconds.unwrap_or(seconds)),
            warm_up: Duration::from_secs_f64(self.warm_up),
            clients: self.clients_or(&CLIENTS),
            values: sizes(&self.values),
            ops: self.ops.iter().map(|op| op.op()).collect(),
            placements: self.placements.iter().map(|placement| placement.placement()).collect(),
            pipelining: sizes(&self.pipelining),
            seed: self.seed,
            keypact: binary.map_err(Failure::io("the keypact binary"))?,
            folder: folder.path().to_path_buf(),
            failovers: self.failovers as usize,
            attempt: Duration::from_millis(self.attempt_ms),
        })
    }

    /// A folder of this process's own, on the disk of the build unless told otherwise: there is room, and the same disk for both sides.
    fn folder(&self) -> Result<Folder, Failure> {
        let this = std::env::current_exe().map_err(Failure::io("the path of this program"))?;
        let beside = this.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        let parent = self.dir.clone().unwrap_or(beside);
        Folder::create(&parent, &format!("keypact-peers-{}", std::process::id()))
    }
}

fn sizes(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().map(|number| *number as usize).collect()
}

impl OpName {
    fn op(self) -> Op {
        match self {
            OpName::Set => Op::Set,
            OpName::Get => Op::Get,
            OpName::Incr => Op::Incr,
        }
    }
}

impl PlacementName {
    fn placement(self) -> Placement {
        match self {
            PlacementName::Leader => Placement::Leader,
            PlacementName::Spread => Placement::Spread,
        }
    }
}

async fn etcd_report(options: &Options) -> Result<Report, Failure> {
    process::require("etcd", "etcd-server")?;
    let folder = options.folder()?;
    let settings = options.settings(3.0, &folder)?;
    let mut report = Report { peer: "etcd", settings: described(&settings), ..Report::default() };
    base(options, &settings, &mut report).await?;
    if options.has(Part::Throughput) {
        let comparison = systems::etcd(&settings).await?;
        report.rows = comparison.rows;
        report.sides = comparison.sides;
    }
    if options.has(Part::Failover) {
        report.failovers = Some(failover::measure(&settings).await?);
    }
    report.targets = targets::etcd(&report.rows, &settings.values, report.failovers.as_ref());
    Ok(report)
}

async fn redis_report(options: &Options) -> Result<Report, Failure> {
    process::require("redis-server", "redis-server")?;
    let folder = options.folder()?;
    let settings = options.settings(1.0, &folder)?;
    let mut report = Report { peer: "redis", settings: described(&settings), ..Report::default() };
    base(options, &settings, &mut report).await?;
    if options.has(Part::Throughput) {
        let comparison = systems::redis(&settings).await?;
        report.rows = comparison.rows;
        report.sides = comparison.sides;
    }
    Ok(report)
}

async fn raft_report(options: &Options) -> Result<Report, Failure> {
    let clients = options.clients_or(&raft::CLIENTS);
    let measured = Duration::from_secs_f64(options.seconds.unwrap_or(1.0));
    let warm_up = Duration::from_secs_f64(options.warm_up);
    let rounds = options.rounds as usize;
    let proposals = raft::measure(&clients, rounds, warm_up, measured).await?;
    let ratios: Vec<(usize, f64)> =
        proposals.iter().filter_map(|row| Some((row.clients, row.ratio?.median))).collect();
    Ok(Report {
        peer: "raft-rs",
        settings: vec![("rounds", json!(rounds)), ("seconds", json!(measured.as_secs_f64()))],
        targets: targets::raft_rs(&ratios),
        proposals,
        ..Report::default()
    })
}

async fn recovery_report(options: &Options) -> Result<Report, Failure> {
    let measured = Duration::from_secs_f64(options.seconds.unwrap_or(0.2));
    let rounds = options.rounds as usize;
    let costs = recovery::measure(rounds, measured).await?;
    Ok(Report {
        peer: "recovery",
        settings: vec![("rounds", json!(rounds)), ("seconds", json!(measured.as_secs_f64()))],
        targets: targets::recovery(&costs),
        costs,
        ..Report::default()
    })
}

/// What stands beside every comparison of servers.
async fn base(options: &Options, settings: &Settings, report: &mut Report) -> Result<(), Failure> {
    if options.has(Part::Floor) {
        report.floor = Some(floor::measure(&settings.folder, settings.measured)?);
    }
    if options.has(Part::Echo) {
        report.echo = Some(systems::echo(settings).await?);
    }
    Ok(())
}

fn described(settings: &Settings) -> Vec<(&'static str, serde_json::Value)> {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    vec![
        ("rounds", json!(settings.rounds)),
        ("seconds", json!(settings.measured.as_secs_f64())),
        ("warm_up_seconds", json!(settings.warm_up.as_secs_f64())),
        ("keys", json!(generator::KEYS)),
        ("seed", json!(settings.seed)),
        ("processors", json!(processors)),
    ]
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
