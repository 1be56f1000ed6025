//! The repository stands alone: no path or address that means something on one machine only, in its files or messages.

use std::collections::BTreeSet;
use std::path::Path;

use super::Context;
use crate::process::{Failure, Task, none_found};
use crate::repository::Repository;

/// First parts of absolute paths that only one machine or build service has. What every Linux has (`/dev`, `/etc`, `/tmp`) may be named.
const FOREIGN_ROOTS: [&str; 9] =
    ["root", "home", "Users", "work", "workspace", "workspaces", "builds", "mnt", "opt"];

/// Cargo's own registry, as a lockfile names it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What a line is judged by.
struct Machine {
    /// Paths of this machine, which must not be written down.
    paths: Vec<String>,
    /// Names of all files and folders of the repository: a path upwards must lead to one of them.
    names: BTreeSet<String>,
}

impl Machine {
    fn this(repository: &Repository, files: &str) -> Machine {
        let mut paths = vec![repository.root.to_string_lossy().into_owned()];
        if !repository.target.starts_with(&repository.root) {
            paths.push(repository.target.to_string_lossy().into_owned());
        }
        // A path of one part could as well be a route: `/health`.
        paths.retain(|path| Path::new(path).components().count() > 2);
        let names = files.split(['\0', '/']).map(str::to_string).collect();
        Machine { paths, names }
    }

    /// What is wrong with one line; `None` if nothing.
    fn wrong(&self, line: &str) -> Option<String> {
        if let Some(root) = FOREIGN_ROOTS.iter().find(|root| names_path(line, &format!("/{root}"))) {
            return Some(format!("a path in /{root}"));
        }
        if self.paths.iter().any(|path| names_path(line, path)) {
            return Some("a path of this machine".to_string());
        }
        if let Some(path) = relative_paths(line).find(|path| !self.is_ours(path)) {
            return Some(format!("`{path}`, which the repository does not have"));
        }
        if line.contains("registry+") && !line.contains(REGISTRY) && !line.contains("REGISTRY") {
            return Some("a registry other than crates.io".to_string());
        }
        hosts(line).find(|host| is_private(host)).map(|host| format!("the address {host}"))
    }

    /// Whether what stands behind a relative path's `..`s has a name that the repository knows. From which folder the path
    /// is meant, a line does not say.
    fn is_ours(&self, path: &str) -> bool {
        let first = path.split('/').find(|part| *part != "..").unwrap_or_default().trim_end_matches('.');
        first.is_empty() || self.names.contains(first)
    }
}

/// Checks all text files that are tracked, or would be, and all messages of commits.
pub(super) fn check(context: &Context) -> Result<String, Failure> {
    let repository = context.repository;
    let mut found = Vec::new();
    let listed = Task::new(repository, "git")
        .arguments(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()?;
    let machine = Machine::this(repository, &listed);
    let mut files = 0;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // Files deleted but not yet committed, and binary ones, have no lines to read.
        let Ok(text) = std::fs::read_to_string(repository.root.join(name)) else { continue };
        files += 1;
        for (index, line) in text.lines().enumerate() {
            if let Some(wrong) = machine.wrong(line) {
                found.push(format!("{name}:{}: {wrong}", index + 1));
            }
        }
    }
    let log = Task::new(repository, "git").arguments(["log", "--format=%x00%h%n%B"]).output()?;
    let mut messages = 0;
    for message in log.split('\0').filter(|message| !message.is_empty()) {
        messages += 1;
        let (commit, text) = message.split_once('\n').unwrap_or((message, ""));
        found.extend(
            text.lines().filter_map(|line| Some(format!("commit {commit}: {}", machine.wrong(line)?))),
        );
    }
    none_found(found)?;
    Ok(format!("{files} files, {messages} messages"))
}

fn is_path_character(character: char) -> bool {
    character.is_alphanumeric()
        || matches!(character, '_' | '-' | '.' | '/' | '}' | '*' | '~' | ')' | ']' | '$')
}

/// Whether `line` has `path` as a whole path or the beginning of one: not as the end of a longer one, as in `src/main`.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        !before.is_some_and(is_path_character) && after == Some('/')
    })
}

/// Every path of a line that begins upwards.
fn relative_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("../").filter_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(is_path_character) {
            return None;
        }
        let length = line[at..].find(|c: char| !(c.is_alphanumeric() || "_-./".contains(c)));
        Some(&line[at..at + length.unwrap_or(line.len() - at)])
    })
}

/// Hosts of the web addresses in a line, without port.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let behind =
        |scheme: &'static str| line.match_indices(scheme).map(move |(at, _)| &line[at + scheme.len()..]);
    behind("http://").chain(behind("https://")).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "-._[]".contains(c))).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Hosts that only one network knows. Loopback is everyone's own.
fn is_private(host: &str) -> bool {
    let private_names = [".internal", ".local", ".lan", ".corp", ".intra"];
    let private_nets = ["10.", "192.168.", "172.16.", "172.17.", "169.254."];
    private_names.iter().any(|end| host.ends_with(end))
        || private_nets.iter().any(|start| host.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_machine_is_named() {
        let names = BTreeSet::from(["data".to_string(), "README.md".to_string()]);
        let machine = Machine { paths: vec!["/srv/build/keypact".to_string()], names };
        // Put together here, so that this file passes its own check.
        let (up, root) = ("..", "/root");
        let rows = [
            ("cd /tmp && ls /etc/redis".to_string(), None),
            ("cd crates/work/src".to_string(), None),
            (format!("let x = a{root}/b;"), None),
            (format!("see {root}/notes.md"), Some("a path in /root")),
            (format!("\"{root}/x\""), Some("a path in /root")),
            (format!("({}/x)", "/home"), Some("a path in /home")),
            ("GET /health or /work".to_string(), None),
            ("at /srv/build/keypact/target".to_string(), Some("a path of this machine")),
            (
                format!("{up}/beside/notes.md"),
                Some("`{up}/beside/notes.md`, which the repository does not have"),
            ),
            (format!("`{up}/{up}/beside`"), Some("`{up}/{up}/beside`, which the repository does not have")),
            (format!("{up}/data/clippy.toml, {up}/{up}/README.md."), None),
            (format!("join(\"{up}/{up}\"), {up}/ and a{up}/b, [x {up}]"), None),
            ("http://127.0.0.1:7201/health, http://[::1]:80".to_string(), None),
            ("https://docs.rs/x http://localhost:1".to_string(), None),
            (format!("http://{}.0.0.7:8080/simple", 10), Some("the address 10.0.0.7")),
            (format!("https://crates.mirror.{}/x", "internal"), Some("the address crates.mirror.internal")),
            (format!("source = \"{REGISTRY}\""), None),
            (
                format!("source = \"{}+https://elsewhere.example/x\"", "registry"),
                Some("a registry other than crates.io"),
            ),
        ];
        for (line, wrong) in rows {
            let wrong = wrong.map(|wrong| wrong.replace("{up}", up));
            assert_eq!(machine.wrong(&line), wrong, "{line}");
        }
    }
}
