//! What the pure crates get from others: that they build alone, and that nothing brings them a source of chance.

use std::fs;

use super::Context;
use crate::process::{Failure, Task, none_found};
use crate::repository::Package;

/// Crates that must behave the same in every process, with std or without.
const DETERMINISTIC: [&str; 11] = [
    "protocol",
    "log",
    "ordering",
    "partitioning",
    "crdt",
    "replication",
    "coordination",
    "recovery",
    "resp",
    "data",
    "node",
];

/// A package (any, if empty feature) that these crates must not get, and why.
struct Ban {
    package: &'static str,
    /// The feature that is banned; empty: the package itself.
    feature: &'static str,
    reason: &'static str,
}

const BANS: [Ban; 6] = [
    Ban { package: "hashbrown", feature: "default-hasher", reason: "seeds itself from addresses" },
    Ban { package: "rand", feature: "thread_rng", reason: "global randomness" },
    Ban { package: "rand", feature: "sys_rng", reason: "the operating system's randomness" },
    Ban { package: "rand_core", feature: "os_rng", reason: "the operating system's randomness" },
    Ban { package: "getrandom", feature: "", reason: "the operating system's randomness" },
    Ban { package: "tokio", feature: "", reason: "an executor decides an order" },
];

/// Checks the features which each deterministic crate gets, each resolved by itself.
pub(super) fn features(context: &Context) -> Result<String, Failure> {
    let mut found = Vec::new();
    let mut seen = 0;
    for package in deterministic(context) {
        let arguments = ["tree", "--quiet", "--edges", "normal,no-proc-macro", "--prefix", "none"];
        let tree = Task::cargo(context.repository, arguments)
            .arguments(["--format", "{p} [{f}]", "-p", &package.name])
            .output()?;
        let banned = banned_in(&tree);
        found.extend(banned.into_iter().map(|what| format!("{}: {what}", package.bare_name())));
        seen += 1;
    }
    none_found(found)?;
    Ok(format!("{seen} crates"))
}

/// Checks that each no_std crate builds by itself: in a workspace build another crate may bring the feature that it forgot.
pub(super) fn alone(context: &Context) -> Result<String, Failure> {
    let mut built = 0;
    for package in deterministic(context) {
        if !is_no_std(package)? {
            continue;
        }
        Task::cargo(context.repository, ["check", "--quiet", "-p", &package.name]).run()?;
        built += 1;
    }
    if built == 0 {
        return Err(Failure::found("no crate is no_std"));
    }
    Ok(format!("{built} crates"))
}

fn deterministic<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Package> {
    DETERMINISTIC.iter().filter_map(|name| context.repository.package(name))
}

fn is_no_std(package: &Package) -> Result<bool, Failure> {
    let path = package.folder().join("src/lib.rs");
    let source = fs::read_to_string(&path).map_err(|source| Failure::File { path, source })?;
    Ok(source.lines().any(|line| line.trim() == "#![no_std]"))
}

/// Bans that lines of `name version (source) [feature,feature] (*)` break.
fn banned_in(tree: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in tree.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let features =
            line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
        for ban in BANS.iter().filter(|ban| ban.package == name) {
            let breaks = ban.feature.is_empty() || features.split(',').any(|feature| feature == ban.feature);
            let what =
                if ban.feature.is_empty() { name.to_string() } else { format!("{name}/{}", ban.feature) };
            let what = format!("gets {what}: {}", ban.reason);
            if breaks && !found.contains(&what) {
                found.push(what);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_features_are_named_once() {
        let rows = [
            ("hashbrown v0.17.1 []", ""),
            ("hashbrown v0.17.1 [allocator-api2,inline-more] (*)", ""),
            (
                "hashbrown v0.17.1 [default-hasher,foldhash]",
                "gets hashbrown/default-hasher: seeds itself from addresses",
            ),
            (
                "hashbrown v0.1.0 [default-hasher] (*)\nhashbrown v0.17.1 [default-hasher]",
                "gets hashbrown/default-hasher: seeds itself from addresses",
            ),
            ("not-hashbrown v1.0.0 [default-hasher]", ""),
            ("getrandom v0.4.0 []", "gets getrandom: the operating system's randomness"),
            (
                "keypact-data v0.1.0 (/somewhere/data) [default]\nrand v0.10.4 [thread_rng]",
                "gets rand/thread_rng: global randomness",
            ),
        ];
        for (tree, found) in rows {
            assert_eq!(banned_in(tree).join("\n"), found, "{tree}");
        }
    }
}
