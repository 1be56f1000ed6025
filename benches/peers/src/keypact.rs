//! Nodes of Keypact on this machine, as `keypact up` starts them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::Failure;
use crate::generator::{Connection, Wire};
use crate::process::{self, Folder, Server, loopback};
use crate::resp::Owned;

const START_MAX: Duration = Duration::from_secs(30);
/// `keypact up` puts peers on port + 100 and its admin HTTP on port + 200.
const BLOCKS: [u16; 3] = [0, 100, 200];

/// A running cluster. Ended when dropped, with its data.
#[derive(Debug)]
pub(crate) struct Cluster {
    up: Server,
    pids: Vec<u32>,
    base_port: u16,
    _folder: Folder,
}

impl Cluster {
    /// Starts `nodes` nodes whose default keyspace answers reads by `reads` (`lease` or `read-index`), and waits until they serve.
    /// A node that is killed stays down.
    ///
    /// # Errors
    /// If they do not come up; the message holds what they said.
    pub(crate) async fn start(
        binary: &Path,
        folder: Folder,
        nodes: u16,
        reads: &str,
    ) -> Result<Cluster, Failure> {
        let offsets: Vec<u16> =
            BLOCKS.iter().flat_map(|block| (0..nodes).map(move |at| block + at)).collect();
        let base_port = process::free_ports(&offsets)?;
        let mut command = Command::new(binary);
        command.args(["up", "--no-restart", "--nodes", &nodes.to_string(), "--reads", reads]);
        command.args(["--port", &base_port.to_string(), "--dir"]).arg(folder.path().join("data"));
        let up = Server::start(command, folder.path().join("up.log"), true)?;
        let mut cluster = Cluster { up, pids: Vec::new(), base_port, _folder: folder };
        cluster.wait(nodes).await?;
        Ok(cluster)
    }

    async fn wait(&mut self, nodes: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + START_MAX;
        loop {
            self.up.check_running("keypact up")?;
            let children = process::children(self.up.pid());
            self.pids =
                (0..nodes).filter_map(|at| process::listener(&children, self.base_port + at)).collect();
            if self.pids.len() == usize::from(nodes) && self.leader().await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let words = self.up.last_words();
                return Err(Failure::server("keypact up", format!("does not serve: {words}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where clients reach the nodes.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.pids.len())
            .map(|at| loopback(self.base_port + u16::try_from(at).expect("few nodes")))
            .collect()
    }

    /// The nodes' process ids, in the order of the addresses.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    /// Which node leads the default keyspace, counted from 0.
    pub(crate) async fn leader(&self) -> Result<usize, Failure> {
        for address in self.addresses() {
            if let Ok(Some(leader)) = leader_by(address).await
                && let Some(at) = self.addresses().iter().position(|address| *address == leader)
            {
                return Ok(at);
            }
        }
        Err(Failure::server("keypact", "no node leads"))
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&self, at: usize) {
        process::signal(self.pids[at], Signal::KILL);
    }
}

/// The leader's address, as the node at `address` knows it, if it says so of itself or of another.
async fn leader_by(address: SocketAddr) -> Result<Option<SocketAddr>, Failure> {
    let Connection::Resp(mut connection) = Connection::dial(Wire::Resp, address).await? else {
        unreachable!("dialled RESP");
    };
    match connection.call(&[b"KEYPACT", b"STATUS"]).await? {
        Owned::Bulk(Some(json)) => leader_in(&json),
        other => Err(Failure::server("keypact", format!("KEYPACT STATUS: {other:?}"))),
    }
}

/// Reads `nodes[].role` and `nodes[].resp` of a status.
fn leader_in(json: &[u8]) -> Result<Option<SocketAddr>, Failure> {
    let status: serde_json::Value =
        serde_json::from_slice(json).map_err(|_| Failure::Malformed("KEYPACT STATUS"))?;
    let nodes = status["nodes"].as_array().ok_or(Failure::Malformed("KEYPACT STATUS without nodes"))?;
    let leads = |node: &&serde_json::Value| node["role"] == "leader" && node["alive"] == true;
    Ok(nodes.iter().find(leads).and_then(|node| node["resp"].as_str()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_read_from_a_status() {
        let json = br#"{"nodes":[{"resp":"127.0.0.1:1","alive":true,"role":"follower"},
            {"resp":"127.0.0.1:2","alive":true,"role":"leader"}]}"#;
        assert_eq!(leader_in(json).unwrap(), Some(loopback(2)));
        assert_eq!(leader_in(br#"{"nodes":[]}"#).unwrap(), None);
        assert!(leader_in(b"{}").is_err());
    }
}
