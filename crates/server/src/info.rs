//! `INFO`, `CLIENT INFO` and `CONFIG GET`.

use std::fmt::Write;

use bytes::Bytes;
use keypact_node::{GroupStatus, Role, Status};
use keypact_resp::{Arguments, Value, Version};

use crate::batch::Core;
use crate::clock;
use crate::commands::REDIS_VERSION;
use crate::connection::Connection;

/// One line about a connection, as Redis writes it.
pub(crate) fn client_line(connection: &Connection, now_ns: u64) -> String {
    let age = now_ns.saturating_sub(connection.since_ns) / 1_000_000_000;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={age} idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd=client|info user=default redir=-1 resp={} lib-name={} lib-ver={} in-flight={}\n",
        connection.number,
        connection.address,
        connection.local_address,
        text(&connection.name),
        connection.out_bytes(),
        if connection.version == Version::Resp3 { 3 } else { 2 },
        text(&connection.library.0),
        text(&connection.library.1),
        connection.in_flight(),
    )
}

/// Settings that clients and tools look for, by name. What can't be set has the value that describes what is done.
fn settings(core: &Core) -> Vec<(&'static str, String)> {
    let config = core.node.config();
    vec![
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", core.limits.connections.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("proto-max-bulk-len", config.value_limit_bytes.to_string()),
        ("save", String::new()),
        ("tcp-keepalive", "0".to_owned()),
        ("timeout", "0".to_owned()),
        ("cluster-enabled", "no".to_owned()),
        ("keypact-cluster", config.cluster.clone()),
        ("keypact-node", config.id.0.to_string()),
        ("keypact-reads", config.reads.name().to_owned()),
        ("keypact-heartbeat-ms", config.heartbeat_ms.to_string()),
        ("keypact-election-timeout-ms", config.election_timeout_ms.to_string()),
    ]
}

/// `CONFIG GET pattern ...`
pub(crate) fn config_get(core: &Core, arguments: &Arguments) -> Value {
    let patterns: Vec<Vec<u8>> = arguments.iter().skip(2).map(<[u8]>::to_ascii_lowercase).collect();
    let found =
        settings(core).into_iter().filter(|(name, _)| patterns.iter().any(|p| matches(p, name.as_bytes())));
    Value::Map(found.map(|(name, value)| (Value::bulk(name.as_bytes()), Value::bulk(value))).collect())
}

/// Whether `text` fits a pattern of `*` and `?`. O(pattern x text).
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if the last `*` takes one byte more.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, taken)) = retry else { return false };
                retry = Some((star, taken + 1));
                p = star + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

type Section = fn(&Core, &Status, &mut String) -> std::fmt::Result;

/// All sections, in the order in which they are shown.
const SECTIONS: [(&str, Section); 7] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("stats", stats),
    ("replication", replication),
    ("keyspace", keyspace),
    ("keypact", keypact),
];

/// `INFO [section ...]`
pub(crate) fn info(core: &Core, arguments: &Arguments) -> String {
    let wanted: Vec<Vec<u8>> = arguments.iter().skip(1).map(<[u8]>::to_ascii_lowercase).collect();
    let takes_all =
        wanted.is_empty() || wanted.iter().any(|w| matches!(&w[..], b"all" | b"default" | b"everything"));
    let status = core.node.status();
    let mut out = String::new();
    for (name, section) in SECTIONS {
        if !takes_all && !wanted.iter().any(|w| w == name.as_bytes()) {
            continue;
        }
        let separator = if out.is_empty() { "" } else { "\r\n" };
        let title = name[..1].to_ascii_uppercase() + &name[1..];
        write!(out, "{separator}# {title}\r\n")
            .and_then(|()| section(core, &status, &mut out))
            .expect("a string takes any text");
    }
    out
}

fn server(core: &Core, status: &Status, out: &mut String) -> std::fmt::Result {
    let up_seconds = clock::now_ns().saturating_sub(core.started_ns) / 1_000_000_000;
    let port = status.nodes.iter().find(|n| n.id == status.node).and_then(|n| n.resp.rsplit_once(':'));
    write!(
        out,
        "redis_version:{REDIS_VERSION}\r\nkeypact_version:{}\r\nredis_mode:standalone\r\nos:{}\r\narch_bits:{}\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{up_seconds}\r\nuptime_in_days:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        usize::BITS,
        std::process::id(),
        port.map_or("0", |(_, port)| port),
        up_seconds / 86_400,
    )
}

fn clients(core: &Core, _: &Status, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:0\r\n",
        core.world.connections.len(),
        core.limits.connections
    )
}

fn memory(_: &Core, status: &Status, out: &mut String) -> std::fmt::Result {
    let tails: u64 = status.groups.iter().map(|g| g.tail_bytes).sum();
    write!(
        out,
        "used_memory:{}\r\nused_memory_dataset:{}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nlog_tail_bytes:{tails}\r\n",
        status.memory_bytes + tails,
        status.memory_bytes,
    )
}

fn stats(core: &Core, _: &Status, out: &mut String) -> std::fmt::Result {
    let links = &core.world.links.figures;
    write!(
        out,
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\nrejected_connections:{}\r\nlog_syncs:{}\r\npeer_bytes_sent:{}\r\npeer_bytes_received:{}\r\n",
        core.world.connections.accepted,
        core.world.figures.commands.iter().sum::<u64>(),
        core.world.connections.refused,
        core.log.figures().sync_us.count(),
        links.bytes_out,
        links.bytes_in,
    )
}

fn replication(core: &Core, status: &Status, out: &mut String) -> std::fmt::Result {
    // Every node takes writes and passes them on, so to a client each is a master.
    let group = status.groups.iter().find(|g| g.name == "default");
    write!(
        out,
        "role:master\r\nconnected_slaves:0\r\nmaster_repl_offset:{}\r\nkeypact_role:{}\r\n",
        group.map_or(0, |g| g.applied),
        own_role(core, status),
    )
}

fn own_role(_: &Core, status: &Status) -> &'static str {
    match status.nodes.iter().find(|n| n.id == status.node).map(|n| n.role) {
        Some(Role::Leader) => "leader",
        Some(Role::Candidate) => "candidate",
        _ => "follower",
    }
}

fn keyspace(_: &Core, status: &Status, out: &mut String) -> std::fmt::Result {
    match status.keys {
        0 => Ok(()),
        keys => write!(out, "db0:keys={keys},expires=0,avg_ttl=0\r\n"),
    }
}

fn keypact(core: &Core, status: &Status, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "cluster:{}\r\nnode:{}\r\nmembers:{}\r\nlog_durable_lsn:{}\r\n",
        status.cluster,
        status.node,
        status.nodes.len(),
        core.log.durable().0
    )?;
    for GroupStatus { name, term, leader, commit, applied, lag, .. } in &status.groups {
        let leader = leader.unwrap_or(0);
        write!(
            out,
            "group_{name}:term={term},leader={leader},commit={commit},applied={applied},lag={lag}\r\n"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        let table = [
            ("*", "", true),
            ("*", "anything", true),
            ("save", "save", true),
            ("save", "saved", false),
            ("s?ve", "save", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXcXb", false),
            ("**", "x", true),
            ("", "x", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
