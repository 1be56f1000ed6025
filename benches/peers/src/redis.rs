//! Redis on this machine: one server, or a primary with one replica.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::generator::{Connection, Wire};
use crate::process::{self, Folder, Server, loopback};
use crate::resp::Owned;

const START_MAX: Duration = Duration::from_secs(20);

/// Running servers: the primary first. Ended when dropped, with their data.
#[derive(Debug)]
pub(crate) struct Servers {
    processes: Vec<Server>,
    base_port: u16,
    _folder: Folder,
}

impl Servers {
    /// Starts a primary and `replicas` (0 or 1) replicas; `append_only` writes and syncs the append-only file before every answer.
    ///
    /// # Errors
    /// If Redis is not installed, or does not come up.
    pub(crate) async fn start(folder: Folder, replicas: u16, append_only: bool) -> Result<Servers, Failure> {
        process::require("redis-server", "redis-server")?;
        let offsets: Vec<u16> = (0..=replicas).collect();
        let base_port = process::free_ports(&offsets)?;
        let mut servers = Servers { processes: Vec::new(), base_port, _folder: folder };
        for at in 0..=replicas {
            let server = servers.start_one(at, append_only)?;
            servers.processes.push(server);
        }
        servers.wait(replicas).await?;
        Ok(servers)
    }

    fn start_one(&self, at: u16, append_only: bool) -> Result<Server, Failure> {
        let data = self._folder.path().join(format!("redis{at}"));
        std::fs::create_dir_all(&data).map_err(Failure::io("the folder of redis-server"))?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &(self.base_port + at).to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--daemonize", "no", "--dir"]).arg(&data);
        command.args(["--appendonly", if append_only { "yes" } else { "no" }, "--appendfsync", "always"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        if at > 0 {
            command.args(["--replicaof", &format!("127.0.0.1 {}", self.base_port)]);
        }
        Server::start(command, self._folder.path().join(format!("redis{at}.log")), false)
    }

    async fn wait(&mut self, replicas: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + START_MAX;
        let wanted = if replicas == 0 { "redis_version".to_string() } else { String::from("state=online") };
        loop {
            for process in &mut self.processes {
                process.check_running("redis-server")?;
            }
            if let Ok(text) = self.info().await
                && text.contains(&wanted)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                let words = self.processes[0].last_words();
                return Err(Failure::server("redis-server", format!("does not serve: {words}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn info(&self) -> Result<String, Failure> {
        let Connection::Resp(mut connection) = Connection::dial(Wire::Resp, loopback(self.base_port)).await?
        else {
            unreachable!("dialled RESP");
        };
        match connection.call(&[b"INFO"]).await? {
            Owned::Bulk(Some(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
            other => Err(Failure::server("redis-server", format!("INFO: {other:?}"))),
        }
    }

    /// Its version.
    pub(crate) async fn version(&self) -> Result<String, Failure> {
        let info = self.info().await?;
        let line = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(line.unwrap_or("?").trim().to_string())
    }

    /// Where clients reach the primary.
    pub(crate) fn address(&self) -> SocketAddr {
        loopback(self.base_port)
    }

    /// All process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Server::pid).collect()
    }
}
