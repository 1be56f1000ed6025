//! The keypact binary.
//!
//! One file per command in `cmd`; what several of them need stands beside this file:
//! `config` (a node's TOML), `cluster` (folders of nodes), `ports`, `fleet` (node processes), `probe` (asking nodes how they are),
//! `load` (clients that record what they were told), `signals`, `output`, `failure` (exit codes).

mod cluster;
mod cmd;
mod config;
mod failure;
mod fleet;
mod load;
mod output;
mod ports;
mod probe;
mod random;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const AFTER: &str = "\
Try it:
  keypact up                         three nodes on this machine
  redis-cli -p 7001 set greeting hello
  keypact status                     who leads
  keypact demo                       kills the leader under load and checks that nothing was lost

Exit codes: 0 done; 1 checked and it does not hold; 2 could not be done (usage, configuration, a taken port).";

/// A data store that speaks the Redis protocol; what was acknowledged is on a majority of disks.
#[derive(Parser)]
#[command(name = "keypact", version, after_help = AFTER, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(cmd::up::Up),
    Status(cmd::status::Status),
    Node(cmd::node::Node),
    Demo(cmd::demo::Demo),
    Sim(cmd::sim::Sim),
    Lab(cmd::lab::Lab),
    Init(cmd::init::Init),
    Serve(cmd::serve::Serve),
    Check(cmd::check::Check),
    Completions(cmd::completions::Completions),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(up) => up.run(),
        Command::Status(status) => status.run(),
        Command::Node(node) => node.run(),
        Command::Demo(demo) => demo.run(),
        Command::Sim(sim) => sim.run(),
        Command::Lab(lab) => lab.run(),
        Command::Init(init) => init.run(),
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::Completions(completions) => completions.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            assert!(failure.code != 0, "a failure does not exit as success");
            if !failure.text.is_empty() {
                output::note(format!("error: {}", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// The command line, for completions.
fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    /// What a terminal shows if nobody says how wide it is.
    const WIDTH: usize = 100;

    #[test]
    fn the_command_line_is_consistent() {
        super::command_line().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        let whole = super::command_line();
        let inner = || whole.get_subcommands().flat_map(clap::Command::get_subcommands);
        for command in whole.get_subcommands().chain(inner()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("keypact "), "{} has no example in its help", command.get_name());
        }
        assert!(inner().count() >= 6, "commands of `node` and `lab` are looked at");
    }

    /// Whoever prints the help breaks lines where the terminal ends; a text that is broken already comes out ragged.
    #[test]
    fn help_is_not_broken_into_lines_by_hand() {
        let whole = super::command_line();
        let inner = || whole.get_subcommands().flat_map(clap::Command::get_subcommands);
        for command in whole.get_subcommands().chain(inner()).chain([&whole]) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().filter(|line| line.len() > WIDTH) {
                assert!(!line.starts_with(' '), "{}: an example is too long: {line}", command.get_name());
                assert!(
                    line.ends_with(['.', ';', ':', ')']),
                    "{}: broken by hand: {line}",
                    command.get_name()
                );
            }
        }
    }
}
