//! Repository tasks: what is run beside `cargo build` and `cargo test`.

mod bench;
mod process;
mod ratchet;
mod repository;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use process::{Failure, Task};
use repository::{Build, Repository};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Repository tasks.",
    after_help = "Examples:\n  cargo xtask verify             everything that must hold, in one run\n  \
                  cargo xtask verify --only seeds --long\n  cargo xtask fix\n  cargo xtask peers etcd --rounds 5"
)]
struct Arguments {
    #[command(subcommand)]
    task: TaskName,
}

#[derive(Subcommand)]
enum TaskName {
    /// Checks everything that must hold; prints a table, exits 1 if any step failed.
    Verify(verify::Options),
    /// Formats, applies clippy's own repairs, and writes improved style figures down.
    #[command(after_help = "Example:\n  cargo xtask fix")]
    Fix,
    /// Builds the binary with every planted bug in it, for `keypact sim --plant`.
    #[command(after_help = "Example:\n  cargo xtask plant && keypact sim --plant quorum-off-by-one")]
    Plant,
    /// Runs the benches of all crates briefly; prints one table.
    #[command(
        after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench resp    names that contain `resp`"
    )]
    Bench {
        /// Only benchmarks whose name contains this.
        filter: Option<String>,
    },
    /// Measures Keypact beside another system, in alternating rounds on this machine.
    #[command(
        after_help = "Examples:\n  cargo xtask peers etcd\n  cargo xtask peers redis --rounds 9 --json"
    )]
    Peers {
        /// What to measure against.
        peer: Peer,
        /// Prints JSON instead of tables.
        #[arg(long)]
        json: bool,
        /// How often both sides are measured, in turn.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// Further arguments for the measuring program.
        #[arg(last = true)]
        more: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Etcd,
    Redis,
    RaftRs,
    Recovery,
    /// Crates that partition: hashring, conhash, jumphash, anchorhash, maglev. In process.
    Partitioning,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Etcd => "etcd",
            Peer::Redis => "redis",
            Peer::RaftRs => "raft-rs",
            Peer::Recovery => "recovery",
            Peer::Partitioning => "partitioning",
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &TaskName) -> Result<(), Failure> {
    if let TaskName::Verify(options) = task
        && options.list
    {
        return verify::list();
    }
    let repository = Repository::find()?;
    match task {
        TaskName::Verify(options) => verify::verify(&repository, options),
        TaskName::Fix => fix(&repository),
        TaskName::Plant => {
            let binary = repository.keypact(Build::Plant)?;
            println!("{}", binary.display());
            Ok(())
        }
        TaskName::Bench { filter } => bench::bench(&repository, filter.as_deref()),
        TaskName::Peers { peer, json, rounds, more } => peers(&repository, *peer, *json, *rounds, more),
    }
}

fn fix(repository: &Repository) -> Result<(), Failure> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    Task::cargo(repository, clippy).run()?;
    Task::cargo(repository, ["fmt"]).run()?;
    println!("{}", ratchet::write_improved(repository)?);
    Ok(())
}

fn peers(
    repository: &Repository,
    peer: Peer,
    json: bool,
    rounds: u32,
    more: &[String],
) -> Result<(), Failure> {
    if let Peer::Partitioning = peer {
        return peers_in_process(repository, "keypact-peers-partitioning", json, rounds, more);
    }
    let binary = repository.keypact(Build::Dist)?;
    // The measuring program has a lockfile of its own, so that no peer's library reaches our dependency graph.
    let task = Task::cargo(repository, ["run", "--release", "--locked", "--manifest-path"])
        .argument(repository.root.join("benches/peers/Cargo.toml"))
        .argument("--target-dir")
        .argument(repository.target.join("peers"))
        .arguments(["--", peer.name(), "--rounds", &rounds.to_string(), "--keypact"])
        .argument(binary)
        .arguments(json.then_some("--json"))
        .arguments(more);
    task.run()
}

/// A measuring program of its own, which needs no server: it builds in a moment.
fn peers_in_process(
    repository: &Repository,
    package: &str,
    json: bool,
    rounds: u32,
    more: &[String],
) -> Result<(), Failure> {
    let task = Task::cargo(repository, ["run", "--release", "--locked", "--manifest-path"])
        .argument(repository.root.join("benches/peers/Cargo.toml"))
        .argument("--target-dir")
        .argument(repository.target.join("peers"))
        .arguments(["-p", package, "--", "--rounds", &rounds.to_string()])
        .arguments(json.then_some("--json"))
        .arguments(more);
    task.run()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
