//! Three `keypact serve` processes whose lives the test decides: unlike under `up`, who is killed stays down until it is started.

use std::fs::{File, OpenOptions, read_to_string};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use keypact_client::{Connection, Timeouts, Value};
use rustix::process::Signal;
use serde_json::Value as Json;

use super::{Folder, connect, eventually, free_port, keypact, run, signal, text};

/// A cluster of three made by `init`, with its settings changed before the first start.
pub struct Nodes {
    pub folder: Folder,
    pub port: u16,
    children: [Option<Child>; 3],
}

impl Nodes {
    /// Forms a cluster and starts all. `settings` are keys of `keypact.toml` that are there as comments, with other values.
    pub fn start(name: &str, settings: &[(&str, u64)]) -> Nodes {
        let folder = Folder::new(name);
        let port = free_port();
        let members: Vec<String> = (0..3).map(|node| format!("127.0.0.1:{}", port + node)).collect();
        let out = folder.path("cluster");
        let made = run(&["init", "--nodes", &members.join(","), "--out", out.to_str().expect("UTF-8")]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let mut nodes = Nodes { folder, port, children: [None, None, None] };
        for index in 0..3 {
            for (key, value) in settings {
                nodes.set(index, key, &value.to_string());
            }
            nodes.begin(index);
        }
        eventually("all serve", || (0..3).all(|index| nodes.knows_leader(index)));
        nodes
    }

    fn home(&self, index: usize) -> PathBuf {
        self.folder.path("cluster").join(format!("node-{}", index + 1))
    }

    /// Its log, checkpoints and identity.
    pub fn data(&self, index: usize) -> PathBuf {
        self.home(index).join("data")
    }

    /// What it said on standard error in all its lives.
    pub fn said(&self, index: usize) -> String {
        read_to_string(self.home(index).join("node.log")).expect("its log can be read")
    }

    /// Changes a setting in a node's file, for its next start.
    pub fn set(&self, index: usize, key: &str, value: &str) {
        let file = self.home(index).join("keypact.toml");
        let before = read_to_string(&file).expect("written by init");
        let is_it = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert_eq!(before.lines().filter(is_it).count(), 1, "{key} is a setting");
        let lines = before.lines().map(|line| match is_it(&line) {
            true => format!("{key} = {value}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).expect("it can be written");
    }

    /// Starts a node that is down.
    pub fn begin(&mut self, index: usize) {
        assert!(self.children[index].is_none(), "node {} runs", index + 1);
        let log = OpenOptions::new().create(true).append(true).open(self.home(index).join("node.log"));
        let log: File = log.expect("its log can be written");
        let mut command = keypact();
        command
            .arg("serve")
            .arg("--stop-with-stdin")
            .arg("--config")
            .arg(self.home(index).join("keypact.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.children[index] = Some(command.spawn().expect("the binary runs"));
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.children[index].take().expect("only who runs is killed");
        child.kill().expect("it is there");
        child.wait().expect("it ends");
    }

    /// SIGSTOP or SIGCONT.
    pub fn send(&self, index: usize, which: Signal) {
        signal(self.children[index].as_ref().expect("it runs").id(), which);
    }

    /// Where clients reach the nodes.
    pub fn addresses(&self) -> Vec<String> {
        (0..3).map(|index| format!("127.0.0.1:{}", self.port + index)).collect()
    }

    /// A connection to a node that runs.
    pub fn connect(&self, index: usize) -> Connection {
        connect(self.port + index as u16)
    }

    /// What a node says of itself; `None` if it does not answer soon.
    pub fn status(&self, index: usize) -> Option<Json> {
        let patience = Duration::from_millis(500);
        let timeouts = Timeouts { connect: patience, answer: patience };
        let mut connection = Connection::open(&self.addresses()[index], timeouts).ok()?;
        match connection.call(&[b"KEYPACT", b"STATUS"]).ok()? {
            Value::Bulk(json) => serde_json::from_slice(&json).ok(),
            _ => None,
        }
    }

    /// A number of group `default` in a node's own status.
    pub fn group(&self, index: usize, field: &str) -> Option<u64> {
        let status = self.status(index)?;
        let groups = status["groups"].as_array()?;
        groups.iter().find(|group| group["name"] == "default")?[field].as_u64()
    }

    /// Whether this node answers and knows a leader.
    pub fn knows_leader(&self, index: usize) -> bool {
        self.group(index, "leader").is_some_and(|leader| leader > 0)
    }

    /// Place of the leader by the word of those asked, once one of them says that it leads itself.
    pub fn leader_among(&self, asked: &[usize]) -> usize {
        let mut leader = None;
        eventually("one of them leads", || {
            leader =
                asked.iter().copied().find(|index| self.group(*index, "leader") == Some(*index as u64 + 1));
            leader.is_some()
        });
        leader.expect("just seen")
    }

    /// A figure of a node's `/metrics`, by its name without `keypact_`; 0 if the node does not answer.
    pub fn metric(&self, index: usize, name: &str) -> u64 {
        let address = ("127.0.0.1", self.port + 200 + index as u16);
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = asked.unwrap_or_default();
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("keypact_{name} ")));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Files of a node's folder whose names begin and end so.
    pub fn files(&self, index: usize, begin: &str, end: &str) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.data(index)).expect("the folder is there");
        let paths = listed.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let fits = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(begin) && name.ends_with(end)
        };
        paths.filter(fits).collect()
    }

    /// Ends all, cleanly; each has to say so.
    pub fn stop(mut self) {
        for index in 0..3 {
            let Some(mut child) = self.children[index].take() else { continue };
            drop(child.stdin.take());
            assert!(child.wait().expect("it ends").success(), "node {}: {}", index + 1, self.said(index));
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // One that was stopped by a signal dies of this too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
