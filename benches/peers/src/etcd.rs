//! Three members of etcd on this machine.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::generator::{Connection, Wire};
use crate::process::{self, Folder, Server, loopback};

const MEMBERS: u16 = 3;
/// Peers' ports come this far behind clients'.
const PEER_OFFSET: u16 = 10;
const START_MAX: Duration = Duration::from_secs(30);

/// A running cluster. Ended when dropped, with its data.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Dropped before the folder, in which they write.
    members: Vec<Server>,
    base_port: u16,
    _folder: Folder,
}

impl Cluster {
    /// Starts three members with etcd's own settings on an empty folder, and waits for a leader.
    ///
    /// # Errors
    /// If etcd is not installed or does not come up.
    pub(crate) async fn start(folder: Folder) -> Result<Cluster, Failure> {
        process::require("etcd", "etcd-server")?;
        let offsets: Vec<u16> = (0..MEMBERS).chain(PEER_OFFSET..PEER_OFFSET + MEMBERS).collect();
        let base_port = process::free_ports(&offsets)?;
        let peers: Vec<String> =
            (0..MEMBERS).map(|at| format!("n{at}={}", url(base_port + PEER_OFFSET + at))).collect();
        let mut cluster = Cluster { members: Vec::new(), base_port, _folder: folder };
        for at in 0..MEMBERS {
            let server = cluster.start_member(at, &peers.join(","))?;
            cluster.members.push(server);
        }
        cluster.wait().await?;
        Ok(cluster)
    }

    fn start_member(&self, at: u16, cluster: &str) -> Result<Server, Failure> {
        let name = format!("n{at}");
        let client = url(self.base_port + at);
        let peer = url(self.base_port + PEER_OFFSET + at);
        let mut command = Command::new("etcd");
        // etcd takes settings from variables named ETCD_*, which must not come from whoever runs us.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--name").arg(&name);
        command.arg("--data-dir").arg(self._folder.path().join(&name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", cluster, "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        Server::start(command, self._folder.path().join(format!("{name}.log")), false)
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if self.all_agree().await {
                return Ok(());
            }
            for member in &mut self.members {
                member.check_running("etcd")?;
            }
            if Instant::now() > deadline {
                return Err(Failure::server("etcd", format!("no leader: {}", self.members[0].last_words())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn all_agree(&self) -> bool {
        let Ok(leader) = self.leader().await else { return false };
        for address in self.addresses() {
            if !matches!(status(address).await, Ok(status) if status.leader == leader.1) {
                return false;
            }
        }
        true
    }

    /// Where clients reach the members.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (0..MEMBERS).map(|at| loopback(self.base_port + at)).collect()
    }

    /// The members' process ids, in the order of the addresses.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Server::pid).collect()
    }

    /// Which member leads, counted from 0, and its id.
    pub(crate) async fn leader(&self) -> Result<(usize, u64), Failure> {
        for (at, address) in self.addresses().into_iter().enumerate() {
            if let Ok(status) = status(address).await
                && status.leader != 0
                && status.leader == status.member
            {
                return Ok((at, status.member));
            }
        }
        Err(Failure::server("etcd", "no member leads"))
    }

    /// etcd's version, as the first member gives it.
    pub(crate) async fn version(&self) -> Result<String, Failure> {
        Ok(status(loopback(self.base_port)).await?.version)
    }

    /// Kills a member with SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        self.members[at].kill();
    }
}

async fn status(address: SocketAddr) -> Result<crate::grpc::Status, Failure> {
    match Connection::dial(Wire::Grpc, address).await? {
        Connection::Grpc(mut connection) => connection.status().await,
        other => unreachable!("dialled gRPC, got {other:?}"),
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
