//! Tests that need programs of others: they are `#[ignore]`d in `cargo test`, and run here, where an absent program is a failure. `etcd` is asked for
//! too: no test uses it, but `cargo xtask peers etcd` does, and should not be the first to miss it.

use std::path::PathBuf;

use super::{Context, passed_tests};
use crate::process::{Failure, Task, none_found};
use crate::repository::Repository;

/// Tells the tests which Python has the `redis` module.
const PYTHON_VARIABLE: &str = "KEYPACT_TEST_PYTHON";

/// A program that some test needs: how to ask for its version, and what brings it on Debian.
struct Program {
    name: &'static str,
    version: &'static str,
    package: &'static str,
}

const PROGRAMS: [Program; 4] = [
    Program { name: "redis-cli", version: "--version", package: "redis-tools" },
    Program { name: "redis-benchmark", version: "--version", package: "redis-tools" },
    Program { name: "redis-server", version: "--version", package: "redis-server" },
    Program { name: "etcd", version: "--version", package: "etcd-server" },
];

/// Looks for the programs, then runs the tests that are marked as needing them.
pub(super) fn check(context: &Context) -> Result<String, Failure> {
    let repository = context.repository;
    let mut missing = Vec::new();
    for program in &PROGRAMS {
        match Task::new(repository, program.name).argument(program.version).output() {
            Ok(version) => println!("  {}: {}", program.name, version.lines().next().unwrap_or_default()),
            Err(_) => {
                missing.push(format!("{} is missing: apt-get install {}", program.name, program.package))
            }
        }
    }
    let python = python_with_redis(repository);
    match &python {
        Some((path, version)) => println!("  redis-py: {version} in {}", path.display()),
        None => missing.push(format!(
            "no Python has the `redis` module: apt-get install python3-redis, or name one in {PYTHON_VARIABLE}"
        )),
    }
    none_found(missing)?;
    let (python, _) = python.expect("a missing one was reported");
    let tests = [
        Task::cargo(repository, ["test", "-p", "keypact-cli", "--release", "--", "--ignored"]),
        Task::cargo(repository, ["test", "-p", "keypact-data", "--test", "redis", "--", "--ignored"]),
    ];
    let mut passed = 0;
    for task in tests {
        passed += passed_tests(task.variable(PYTHON_VARIABLE, &python))?;
    }
    Ok(format!("{passed} tests"))
}

/// The first of the named one, the system's and the path's that imports the module; with the module's version.
fn python_with_redis(repository: &Repository) -> Option<(PathBuf, String)> {
    let named = std::env::var_os(PYTHON_VARIABLE).map(PathBuf::from);
    let candidates = match named {
        Some(named) => vec![named],
        None => vec![PathBuf::from("/usr/bin/python3"), PathBuf::from("python3")],
    };
    candidates.into_iter().find_map(|python| {
        let question = "import sys\ntry:\n    import redis\nexcept ImportError:\n    sys.exit(1)\nprint(redis.__version__)";
        let version = Task::new(repository, &python).arguments(["-c", question]).output().ok()?;
        Some((python, version.trim().to_string()))
    })
}
