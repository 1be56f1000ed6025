//! Which crate may use which: fails on an arrow that the layout does not have, on a manifest that plants bugs, and on a pure
//! crate that could reach a clock. A new arrow is decided in `docs/decisions/`, and then written into `ARROWS`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate, and the crates that it may use directly; what those reach, it may use too.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("log", &["protocol"]),
    ("ordering", &["protocol"]),
    ("partitioning", &["protocol"]),
    ("crdt", &["ordering"]),
    ("replication", &["protocol", "ordering", "log", "crdt"]),
    ("coordination", &["protocol", "ordering", "log"]),
    ("recovery", &[]),
    ("resp", &[]),
    ("checker", &[]),
    ("xtask", &[]),
    ("data", &["crdt", "recovery", "ordering", "resp"]),
    ("node", &["data", "replication", "coordination", "partitioning", "ordering", "crdt", "recovery", "log"]),
    ("storage", &["protocol"]),
    ("simulator", &["protocol"]),
    ("server", &["node", "storage", "resp"]),
    ("client", &["recovery", "partitioning", "resp"]),
    ("lab", &["node", "storage", "simulator", "checker"]),
    ("cli", &["server", "client", "lab", "checker"]),
];

/// Crates on which nothing may depend, tests included.
const ENDS: &[&str] = &["server", "cli"];

/// Crates that must not even be able to name a clock, a socket, a file or a thread.
const WITHOUT_STD: &[&str] = &[
    "protocol",
    "log",
    "ordering",
    "partitioning",
    "crdt",
    "replication",
    "coordination",
    "recovery",
    "resp",
];

/// Workspaces beside the main one, whose manifests are held to the same rule about plants.
const OTHER_WORKSPACES: &[&str] = &["benches/peers", "fuzz"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace's folder")
}

fn packages(manifest: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// What `from` may use: the transitive closure of `arrows`.
fn closure<'a>(arrows: &[(&'a str, &[&'a str])], from: &str) -> BTreeSet<&'a str> {
    let direct = |from: &str| arrows.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, to)| to);
    let mut reached = BTreeSet::new();
    let mut open = direct(from).to_vec();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(direct(next));
        }
    }
    reached
}

/// Every edge between our crates which `arrows` does not allow, as a sentence.
fn wrong_edges(packages: &[Value], arrows: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        let Some(from) = text(package, "name").strip_prefix("keypact-") else { continue };
        if !arrows.iter().any(|(name, _)| *name == from) {
            wrong.push(format!("{from} is not in the layout: decide its arrows first"));
            continue;
        }
        let allowed = closure(arrows, from);
        for dependency in list(package, "dependencies") {
            let Some(to) = text(dependency, "name").strip_prefix("keypact-") else { continue };
            let in_tests_only = text(dependency, "kind") == "dev";
            if allowed.contains(to) || (in_tests_only && !ENDS.contains(&to)) {
                continue;
            }
            let kind = if in_tests_only { "dev-dependency" } else { "dependency" };
            wrong.push(format!("{from} -> {to} ({kind}) is no arrow of the layout"));
        }
    }
    wrong
}

/// Every way in which a manifest would switch planted bugs on for whoever builds it.
fn planting(packages: &[Value]) -> Vec<String> {
    let plants = |feature: &str| feature == "plant" || feature.ends_with("/plant");
    let mut wrong = Vec::new();
    for package in packages {
        let name = text(package, "name");
        for dependency in list(package, "dependencies") {
            if list(dependency, "features").filter_map(Value::as_str).any(plants) {
                wrong.push(format!("{name} enables `plant` in its entry for {}", text(dependency, "name")));
            }
        }
        let features = package["features"].as_object().expect("a table of features");
        for (feature, enables) in features.iter().filter(|(feature, _)| *feature != "plant") {
            let enables = enables.as_array().map(Vec::as_slice).unwrap_or_default();
            if enables.iter().filter_map(Value::as_str).any(plants) {
                wrong.push(format!("{name}: feature `{feature}` enables `plant`"));
            }
        }
    }
    wrong
}

/// Why a crate's `lib.rs` does not hold the crate to `no_std`; `None` if it does. A feature `std` of its own may bring std, as long as it is not
/// in the default ones.
fn reason_not_pure(source: &str) -> Option<&'static str> {
    let mut lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    if !lines.clone().take_while(|line| line.starts_with("#![")).any(|line| line == "#![no_std]") {
        return Some("does not start with #![no_std]");
    }
    let mut before = "";
    lines.find_map(|line| {
        let allowed = ["#[cfg(test)]", "#[cfg(feature = \"std\")]"].contains(&before);
        let links_std = line.starts_with("extern crate std") && !allowed;
        before = line;
        links_std.then_some("links std outside its tests")
    })
}

#[test]
fn every_edge_between_crates_is_an_arrow_of_the_layout() {
    let packages = packages(&root().join("Cargo.toml"));
    assert!(packages.len() > 10, "cargo metadata lists {} packages only", packages.len());
    let wrong = wrong_edges(&packages, ARROWS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_layout_has_no_circle() {
    for (name, _) in ARROWS {
        assert!(!closure(ARROWS, name).contains(name), "{name} reaches itself");
    }
}

#[test]
fn no_manifest_switches_planted_bugs_on() {
    let root = root();
    let others = OTHER_WORKSPACES.iter().map(|folder| root.join(folder).join("Cargo.toml"));
    for manifest in others.filter(|manifest| manifest.exists()).chain([root.join("Cargo.toml")]) {
        let wrong = planting(&packages(&manifest));
        assert!(wrong.is_empty(), "{}:\n{}", manifest.display(), wrong.join("\n"));
    }
}

#[test]
fn pure_crates_are_without_std() {
    for name in WITHOUT_STD {
        let file = root().join("crates").join(name).join("src/lib.rs");
        // Later parts of the layout have no folder yet.
        if !root().join("crates").join(name).exists() {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(reason_not_pure(&source), None, "{}", file.display());
    }
    for package in packages(&root().join("Cargo.toml")) {
        let Some(name) = text(&package, "name").strip_prefix("keypact-") else { continue };
        let by_default = default_features(&package);
        assert!(
            !WITHOUT_STD.contains(&name) || !by_default.contains("std"),
            "{name} has std in its default features"
        );
    }
}

/// The features that `default` brings, directly or not.
fn default_features(package: &Value) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![String::from("default")];
    while let Some(next) = open.pop() {
        let brings = list(&package["features"], &next).filter_map(Value::as_str).map(String::from);
        let new: Vec<String> = brings.filter(|feature| reached.insert(feature.clone())).collect();
        open.extend(new);
    }
    reached
}

#[test]
fn crates_with_std_under_bans_have_the_same_bans() {
    let read = |name: &str| {
        let file = root().join("crates").join(name).join("clippy.toml");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    let (data, node) = (read("data"), read("node"));
    assert!(data == node, "crates/data/clippy.toml and crates/node/clippy.toml differ");
    for banned in ["std::time::Instant", "std::collections::HashMap", "std::thread::spawn", "std::env::var"] {
        assert!(data.contains(&format!("\"{banned}")), "{banned} is not banned");
    }
}

/// Guards the guard: each mistake, made on purpose in a small workspace, is named.
#[test]
fn each_kind_of_wrong_manifest_is_named() {
    let arrows: &[(&str, &[&str])] =
        &[("low", &[]), ("middle", &["low"]), ("high", &["middle"]), ("server", &["low"])];
    let package = |name: &str, dependency: Value, features: Value| {
        let dependencies = [dependency];
        serde_json::json!({ "name": name, "dependencies": dependencies, "features": features })
    };
    let on = |name: &str, kind: &str| serde_json::json!({ "name": name, "kind": kind, "features": [] });
    let edges = [
        ("keypact-high", on("keypact-low", "normal"), ""),
        ("keypact-high", on("serde", "normal"), ""),
        ("keypact-low", on("keypact-high", "dev"), ""),
        ("keypact-low", on("keypact-high", "normal"), "low -> high (dependency) is no arrow of the layout"),
        ("keypact-low", on("keypact-high", "build"), "low -> high (dependency) is no arrow of the layout"),
        (
            "keypact-low",
            on("keypact-server", "dev"),
            "low -> server (dev-dependency) is no arrow of the layout",
        ),
        ("keypact-new", on("keypact-low", "normal"), "new is not in the layout: decide its arrows first"),
    ];
    for (from, dependency, wrong) in edges {
        assert_eq!(wrong_edges(&[package(from, dependency, Value::Null)], arrows).join("\n"), wrong);
    }

    let entry = |features: &[&str]| serde_json::json!({ "name": "a", "kind": null, "features": features });
    let plants = [
        (entry(&[]), serde_json::json!({ "plant": ["a/plant"] }), ""),
        (entry(&["plant"]), serde_json::json!({}), "p enables `plant` in its entry for a"),
        (entry(&[]), serde_json::json!({ "default": ["plant"] }), "p: feature `default` enables `plant`"),
        (entry(&[]), serde_json::json!({ "fast": ["a?/plant"] }), "p: feature `fast` enables `plant`"),
    ];
    for (dependency, features, wrong) in plants {
        assert_eq!(planting(&[package("p", dependency, features)]).join("\n"), wrong);
    }
}

#[test]
fn a_crate_that_reaches_std_is_named() {
    let sources = BTreeMap::from([
        ("//! Doc.\n#![no_std]\nextern crate alloc;\n", None),
        ("#![allow(x)]\n#![no_std]\n#[cfg(test)]\nextern crate std;\n", None),
        ("//! Doc.\nmod a;\n", Some("does not start with #![no_std]")),
        ("// #![no_std]\n", Some("does not start with #![no_std]")),
        ("#![no_std]\n#[cfg(feature = \"std\")]\nextern crate std;\n", None),
        ("#![no_std]\nextern crate std;\n", Some("links std outside its tests")),
    ]);
    for (source, reason) in sources {
        assert_eq!(reason_not_pure(source), reason, "{source}");
    }
}
