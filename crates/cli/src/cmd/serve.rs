//! `keypact serve`: one node, in this process, until it is asked to stop.

use std::io::Read;
use std::panic;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use clap::Args;
use keypact_server::{ServeError, Shutdown};

use crate::config::{self, Config};
use crate::failure::Failure;
use crate::output::note;
use crate::signals;

const AFTER: &str = "\
Examples:
  keypact serve --config cluster/node-1/keypact.toml
  KEYPACT_LOG=debug keypact serve --config keypact.toml
  KEYPACT_PASSWORD=... keypact serve --config keypact.toml

The folder must have been made by `keypact init`, `keypact up` or `keypact node add`: a node without identity never forms or joins a cluster.
SIGTERM and Ctrl-C stop it cleanly. Exit codes: 0 stopped as asked; 2 configuration, port, folder in use; 3 the disk; 70 a bug.";

/// The variable that says what a node writes into its log.
const LOG_VARIABLE: &str = "KEYPACT_LOG";

/// A node whose standard input closed, and that has not stopped by then, ends without ceremony: whoever started it is gone, and
/// nobody else would.
const ORPHAN_LIMIT: Duration = Duration::from_secs(8);

/// Run one node until it is stopped
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Serve {
    /// The node's configuration, TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop cleanly when standard input closes
    #[arg(long)]
    stop_with_stdin: bool,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if cfg!(feature = "plant") {
            return Err(Failure::cannot(
                "this binary was built with planted bugs, for `keypact sim --plant` only: it does not serve data",
            ));
        }
        let config = config::load(&self.config)?;
        check_identity(&config)?;
        end_on_panic();
        log_to_stderr();
        let shutdown = Shutdown::new();
        stop_on_signals(&shutdown)?;
        if self.stop_with_stdin {
            stop_with_stdin(&shutdown)?;
        }
        let id = config.id;
        match keypact_server::run(config.settings, &shutdown) {
            Ok(served) => {
                note(format!(
                    "node {id} stopped as asked, after {} connections and {} commands",
                    served.connections, served.commands
                ));
                Ok(())
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

fn failure(error: &ServeError) -> Failure {
    Failure { code: error.exit_code(), text: error.to_string() }
}

/// The file and the folder must mean the same node: a folder mounted in another's place would vote twice.
fn check_identity(config: &Config) -> Result<(), Failure> {
    let folder = &config.settings.folder;
    match keypact_server::identity_of(folder).map_err(|error| failure(&error))? {
        Some(identity) if identity.node != config.id => Err(Failure::cannot(format!(
            "the configuration is for node {}, but {} holds node {}: correct `dir` or `id`",
            config.id,
            folder.display(),
            identity.node
        ))),
        // Without identity the server refuses by itself.
        _ => Ok(()),
    }
}

/// A panic is a bug, and what a node has in memory can't be trusted after one: the whole process ends at once.
fn end_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        print(panic);
        note(
            "this node found that it contradicts itself, which is a bug, and stops at once; what it acknowledged is on disk.\n\
             Start it again; if it stops again, keep a copy of its folder. Please report the lines above.",
        );
        process::abort();
    }));
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env(LOG_VARIABLE)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let to_people = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(to_people);
    // Fails only if one was set before, and nobody does.
    let _ = subscriber.try_init();
}

fn stop_on_signals(shutdown: &Shutdown) -> Result<(), Failure> {
    let shutdown = shutdown.clone();
    let asked = std::sync::atomic::AtomicBool::new(false);
    signals::watch(move |name| {
        if asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            note(format!("{name} again: ending at once; what was acknowledged is on disk"));
            process::exit(1);
        }
        shutdown.stop();
    })
}

fn stop_with_stdin(shutdown: &Shutdown) -> Result<(), Failure> {
    let shutdown = shutdown.clone();
    let waiting = move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = [0; 256];
        while matches!(input.read(&mut bytes), Ok(1..)) {}
        shutdown.stop();
        thread::sleep(ORPHAN_LIMIT);
        process::exit(1);
    };
    let started = thread::Builder::new().name("stdin".to_owned()).spawn(waiting);
    started.map(drop).map_err(|error| Failure::cannot(format!("cannot watch standard input: {error}")))
}
