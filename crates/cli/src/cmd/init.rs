//! `keypact init`: the folders of a new cluster's nodes, to be copied to their hosts.

use std::path::PathBuf;

use clap::Args;
use keypact_node::{Member, Reads};

use crate::cluster::{self, Plan};
use crate::failure::Failure;
use crate::output::say;
use crate::ports::{self, HTTP_OFFSET, NODES_MAX, PEER_OFFSET};
use crate::random;

const AFTER: &str = "\
Examples:
  keypact init --nodes db1:7001,db2:7001,db3:7001 --out cluster
  keypact init --nodes 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --out cluster --name shop

For each node it writes DIR/node-N with its configuration (keypact.toml) and its identity (data). Copy each folder to its host, and \
run `keypact serve --config node-N/keypact.toml` there. The folders hold the secret by which nodes know each other: keep them private.
A cluster is formed once: to form it again, use a new folder.";

/// Write the folders of a new cluster's nodes, for several hosts
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Init {
    /// Where clients will reach each node; peers use the port 100 above, the admin HTTP 200 above
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Folder to write; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The cluster's name
    #[arg(long, default_value = "keypact")]
    name: String,
    /// How reads are answered: lease, read-index or stale
    #[arg(long, default_value = "lease", value_parser = parse_reads)]
    reads: Reads,
}

/// A level of reads from the command line.
pub(crate) fn parse_reads(text: &str) -> Result<Reads, String> {
    Reads::from_name(text).ok_or_else(|| String::from("lease, read-index or stale"))
}

impl Init {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let members = members(&self.nodes)?;
        let password = match members.iter().all(is_loopback) {
            true => None,
            false => Some(
                random::password().map_err(|error| Failure::cannot(format!("no random bytes: {error}")))?,
            ),
        };
        let plan =
            Plan { name: &self.name, members: &members, reads: self.reads, password: password.as_deref() };
        let places = cluster::form(&self.out, &plan)?;
        say(format!("Cluster {} of {} nodes, in {}:", self.name, members.len(), self.out.display()));
        for place in &places {
            say(format!("  {}  node {} at {}", place.folder.display(), place.member.id, place.member.resp));
        }
        let resp = &members[0].resp;
        let (host, port) = resp.rsplit_once(':').expect("members have host and port");
        say("\nWhat to do next:");
        say("  1. Copy each folder to its host (scp -r keeps it as it is). Don't copy one to two hosts.");
        say("  2. There: keypact serve --config node-N/keypact.toml");
        say(format!("  3. Then: redis-cli -u redis://{resp}, or keypact status --host {host} --port {port}"));
        if password.is_some() {
            say(
                "\nClients need the password in keypact.toml, because these addresses can be reached from other machines.",
            );
            say(format!(
                "Between the hosts, open the clients' ports and those {PEER_OFFSET} (peers) and {HTTP_OFFSET} (admin HTTP) above."
            ));
        }
        Ok(())
    }
}

/// Members from `host:port`, with ids from 1.
fn members(nodes: &[String]) -> Result<Vec<Member>, Failure> {
    if nodes.len() > usize::from(NODES_MAX) {
        return Err(Failure::cannot(format!(
            "--nodes: at most {NODES_MAX}, since each write waits for a majority"
        )));
    }
    let mut members = Vec::with_capacity(nodes.len());
    for (id, node) in (1..).zip(nodes) {
        let parts = node.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let (Some((host, _)), Some(port)) = (parts, port) else {
            return Err(Failure::cannot(format!("--nodes: {node:?} is not of the form host:port")));
        };
        if port > u16::MAX - HTTP_OFFSET {
            return Err(Failure::cannot(format!(
                "--nodes: {node}: the port must be at most {}, since the admin HTTP listens {HTTP_OFFSET} above it",
                u16::MAX - HTTP_OFFSET
            )));
        }
        members.push(ports::member(host, port, id));
    }
    ports::check_distinct(&members)?;
    Ok(members)
}

fn is_loopback(member: &Member) -> bool {
    let host = member.resp.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(nodes: &str) -> Result<Vec<Member>, Failure> {
        members(&nodes.split(',').map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn members_are_numbered_in_order() {
        let members = parsed("db1:7001,[::1]:7001").unwrap();
        assert_eq!((members[0].id, members[0].peer.as_str()), (1, "db1:7101"));
        assert_eq!((members[1].id, members[1].http.as_str()), (2, "[::1]:7201"));
        assert!(!is_loopback(&members[0]) && is_loopback(&members[1]));
    }

    #[test]
    fn wrong_addresses_are_refused() {
        let rows = [
            ("db1", "\"db1\" is not of the form host:port"),
            (":7001", "is not of the form host:port"),
            ("db1:0", "is not of the form host:port"),
            ("db1:65400", "must be at most 65335"),
            ("a:7001,a:7001", "a:7001 would be used twice"),
            ("a:1,b:1,c:1,d:1,e:1,f:1,g:1,h:1", "at most 7"),
        ];
        for (nodes, said) in rows {
            let error = parsed(nodes).unwrap_err();
            assert!(error.text.contains(said), "{nodes}: {}", error.text);
        }
    }
}
