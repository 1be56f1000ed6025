//! A node's configuration file: TOML; what is unknown or of the wrong type is refused with file, line and column.

use std::fs;
use std::path::{Path, PathBuf};

use keypact_node::{NodeConfig, Reads};
use keypact_server::{Bind, Limits, Settings};
use serde::{Deserialize, Deserializer, de};

use crate::failure::Failure;

/// The variable that goes before `password` and `password_file`.
pub(crate) const PASSWORD_VARIABLE: &str = "KEYPACT_PASSWORD";

/// Longest password, bytes.
const PASSWORD_BYTES_MAX: usize = 512;

/// One node's file, as written. Paths in it are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: u64,
    dir: PathBuf,
    #[serde(default, deserialize_with = "address")]
    resp: Option<String>,
    #[serde(default, deserialize_with = "address")]
    peer: Option<String>,
    #[serde(default, deserialize_with = "address")]
    http: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "reads")]
    reads: Option<Reads>,
    #[serde(default)]
    timeouts: TimeoutTable,
    #[serde(default)]
    limits: LimitTable,
}

/// Declares a table of optional numbers, and how each goes into the settings.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty => $($place:ident).+;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name { $($key: Option<$kind>,)* }

        impl $name {
            #[cfg(test)]
            const KEYS: &[&str] = &[$(stringify!($key)),*];

            fn apply(&self, settings: &mut Settings) {
                $(if let Some(value) = self.$key { settings.$($place).+ = value; })*
            }
        }
    };
}

numbers! {
    /// How long what may take.
    TimeoutTable {
        heartbeat_ms: u64 => node.heartbeat_ms;
        election_timeout_ms: u64 => node.election_timeout_ms;
        election_jitter_ms: u64 => node.election_jitter_ms;
        drift_bound_ppm: u64 => node.drift_bound_ppm;
        clock_skew_bound_ms: u64 => node.clock_skew_bound_ms;
        disk_hang_ms: u64 => node.disk_hang_ms;
        hold_ms: u64 => node.hold_ms;
        forward_timeout_ms: u64 => node.forward_timeout_ms;
        handshake_ms: u64 => limits.handshake_ms;
    }
}

numbers! {
    /// How much of what.
    LimitTable {
        connections: usize => limits.connections;
        session_limit: usize => node.session_limit;
        keys_at_once: usize => node.keys_at_once;
        value_limit_bytes: usize => node.value_limit_bytes;
        checkpoint_after_bytes: usize => node.checkpoint_after_bytes;
        tail_limit_bytes: usize => node.tail_limit_bytes;
        in_flight: usize => limits.in_flight;
        in_flight_bytes: usize => limits.in_flight_bytes;
        output_bytes: usize => limits.output_bytes;
        output_bytes_max: usize => limits.output_bytes_max;
        control_bytes: usize => limits.control_bytes;
        bulk_bytes: usize => limits.bulk_bytes;
        frame_bytes: usize => limits.frame_bytes;
        handshakes: usize => limits.handshakes;
        checkpoint_bytes_per_second: u64 => limits.checkpoint_bytes_per_second;
        segment_bytes: u64 => limits.segment_bytes;
        log_bytes: u64 => limits.log_bytes;
    }
}

/// A configuration that was read.
#[derive(Debug)]
pub(crate) struct Config {
    /// The node's id, to be compared with the folder's.
    pub(crate) id: u64,
    /// What the server must be told.
    pub(crate) settings: Settings,
}

/// Reads a configuration file, and the password that it leads to.
///
/// # Errors
/// The file can't be read; it is no TOML; a key is unknown, missing, or of the wrong type, with line and column; the password can't be read.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::cannot(format!("cannot read {}: {error}", path.display())))?;
    parse(path, &text, std::env::var(PASSWORD_VARIABLE).ok())
}

/// As [`load`], from text, and with the password variable as given.
fn parse(path: &Path, text: &str, variable: Option<String>) -> Result<Config, Failure> {
    let file: File = toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        Failure::cannot(format!("{}:{line}:{column}: {message}", path.display()))
    })?;
    let beside = |file: &Path| path.parent().unwrap_or(Path::new("")).join(file);
    let password = password(path, &file, variable, beside)?;
    let mut settings = Settings::new(beside(&file.dir));
    settings.bind = Bind { resp: file.resp, peer: file.peer, http: file.http, listeners: None };
    settings.password = password;
    if let Some(reads) = file.reads {
        settings.node.reads = reads;
    }
    file.timeouts.apply(&mut settings);
    file.limits.apply(&mut settings);
    Ok(Config { id: file.id, settings })
}

fn password(
    path: &Path,
    file: &File,
    variable: Option<String>,
    beside: impl Fn(&Path) -> PathBuf,
) -> Result<Option<String>, Failure> {
    let bad = |what: String| Failure::cannot(format!("{}: {what}", path.display()));
    let (password, source) = match (variable, &file.password, &file.password_file) {
        (_, Some(_), Some(_)) => {
            return Err(bad("password and password_file are both there: leave one out".to_owned()));
        }
        (Some(variable), _, _) => (variable, PASSWORD_VARIABLE.to_owned()),
        (None, Some(password), None) => (password.clone(), "password".to_owned()),
        (None, None, Some(named)) => {
            let named = beside(named);
            let text = fs::read_to_string(&named).map_err(|error| {
                bad(format!("cannot read the password file {}: {error}", named.display()))
            })?;
            (text.trim_end_matches(['\r', '\n']).to_owned(), named.display().to_string())
        }
        (None, None, None) => return Ok(None),
    };
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(bad(format!("the password in {source} must have 1 to {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(Some(password))
}

/// Line and column (in characters) of a byte offset, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(Some(text)),
        _ => Err(de::Error::custom(format!("{text:?} is not of the form host:port"))),
    }
}

fn reads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reads>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || de::Error::custom(format!("{text:?}: reads are \"lease\", \"read-index\" or \"stale\""));
    Reads::from_name(&text).map(Some).ok_or_else(wrong)
}

/// What a new node's file says.
pub(crate) struct Template<'a> {
    /// The node's id.
    pub(crate) id: u64,
    /// The cluster's name.
    pub(crate) cluster: &'a str,
    /// Addresses: clients, peers, admin HTTP.
    pub(crate) addresses: [&'a str; 3],
    /// How reads are answered.
    pub(crate) reads: Reads,
    /// The password, where one is needed.
    pub(crate) password: Option<&'a str>,
}

impl Template<'_> {
    /// The text of the file. All defaults are in it, as comments.
    pub(crate) fn text(&self) -> String {
        let Template { id, cluster, addresses: [resp, peer, http], reads, password } = self;
        let password = match password {
            Some(password) => format!("password = {}", toml::Value::from(*password)),
            None => "# password = \"...\"".to_owned(),
        };
        let reads = reads.name();
        format!(
            "# Node {id} of cluster {cluster}, for `keypact serve --config THIS_FILE`. Paths are relative to this file.
# Who the node is (cluster, id, members, the secret between peers) was written once into `dir` and can't be changed here.

id = {id}
# Its log, checkpoints and identity.
dir = \"data\"

# Where to listen. Other members and clients know the node by the addresses that `init` was told.
resp = \"{resp}\"
peer = \"{peer}\"
http = \"{http}\"

# What clients must say in AUTH. Needed where an address can be reached from other machines.
# Or: password_file = \"FILE\"; and the variable {PASSWORD_VARIABLE} goes before both.
{password}

# Reads: \"lease\" (linearizable while clocks keep to drift_bound_ppm; the faster of these two), \"read-index\" (linearizable
# whatever clocks do; each batch of reads asks a majority), \"stale\" (what the node that is asked has applied).
reads = \"{reads}\"

{}",
            defaults()
        )
    }
}

/// The tables of numbers, all as comments.
fn defaults() -> String {
    let node = NodeConfig::new(keypact_protocol::NodeId(1), Vec::new());
    let limits = Limits::default();
    format!(
        "# What follows are the defaults.

[timeouts]
# heartbeat_ms = {heartbeat_ms}
# election_timeout_ms = {election_timeout_ms}      # a follower that heard nothing for so long, and up to the jitter more, asks for votes
# election_jitter_ms = {election_jitter_ms}
# drift_bound_ppm = {drift_bound_ppm}      # how far two nodes' monotonic clocks may run apart, parts per million
# clock_skew_bound_ms = {clock_skew_bound_ms}     # a leader's wall clock counts only so far beyond what a majority of clocks say
# disk_hang_ms = {disk_hang_ms}           # a write that takes longer makes a leader step down
# hold_ms = {hold_ms}                # a command waits so long for a leader before it is refused
# forward_timeout_ms = {forward_timeout_ms}     # and so long for the leader's answer before its outcome is called uncertain
# handshake_ms = {handshake_ms}

[limits]
# connections = {connections}
# session_limit = {session_limit}             # commands of one connection under way or waiting
# keys_at_once = {keys_at_once}             # keys that KEYS looks at before the node does something else
# value_limit_bytes = {value_limit_bytes}
# checkpoint_after_bytes = {checkpoint_after_bytes}
# tail_limit_bytes = {tail_limit_bytes}
# checkpoint_bytes_per_second = {checkpoint_bytes_per_second}
# segment_bytes = {segment_bytes}
# log_bytes = {log_bytes}
# in_flight = {in_flight}
# in_flight_bytes = {in_flight_bytes}
# output_bytes = {output_bytes}            # unsent replies: not read beyond the first, closed beyond the second
# output_bytes_max = {output_bytes_max}
# control_bytes = {control_bytes}           # unsent messages to a peer
# bulk_bytes = {bulk_bytes}
# frame_bytes = {frame_bytes}
# handshakes = {handshakes}
",
        heartbeat_ms = node.heartbeat_ms,
        election_timeout_ms = node.election_timeout_ms,
        election_jitter_ms = node.election_jitter_ms,
        drift_bound_ppm = node.drift_bound_ppm,
        clock_skew_bound_ms = node.clock_skew_bound_ms,
        disk_hang_ms = node.disk_hang_ms,
        hold_ms = node.hold_ms,
        forward_timeout_ms = node.forward_timeout_ms,
        handshake_ms = limits.handshake_ms,
        connections = limits.connections,
        session_limit = node.session_limit,
        keys_at_once = node.keys_at_once,
        value_limit_bytes = node.value_limit_bytes,
        checkpoint_after_bytes = node.checkpoint_after_bytes,
        tail_limit_bytes = node.tail_limit_bytes,
        checkpoint_bytes_per_second = limits.checkpoint_bytes_per_second,
        segment_bytes = limits.segment_bytes,
        log_bytes = limits.log_bytes,
        in_flight = limits.in_flight,
        in_flight_bytes = limits.in_flight_bytes,
        output_bytes = limits.output_bytes,
        output_bytes_max = limits.output_bytes_max,
        control_bytes = limits.control_bytes,
        bulk_bytes = limits.bulk_bytes,
        frame_bytes = limits.frame_bytes,
        handshakes = limits.handshakes,
    )
}

#[cfg(test)]
mod tests;
