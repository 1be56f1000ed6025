//! Real processes for tests: the binary, clusters of it, and waiting on conditions.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own, and uses its part")]

pub mod nodes;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use keypact_client::{Connection, Timeouts, Value};
use serde_json::Value as Json;

/// No wait in these tests is longer; on a busy machine things take their time.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The binary under test.
pub fn keypact() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keypact"));
    command.env_remove("KEYPACT_PASSWORD").env_remove("KEYPACT_LOG").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Output {
    keypact().args(arguments).output().expect("the binary runs")
}

/// What it wrote, for assertions about words.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("keypact-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A port from which a cluster of up to five can take all it needs: below what the system hands out, above what `demo` chooses.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 150) as u16;
    for _ in 0..160 {
        let port = 31_300 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 160 * 7;
        let needed = (0..5).flat_map(|node| [port + node, port + 100 + node, port + 200 + node]);
        if needed.map(|port| TcpListener::bind(("127.0.0.1", port))).all(|bound| bound.is_ok()) {
            return port;
        }
    }
    panic!("no free ports");
}

/// A connection to a node of this machine.
pub fn connect(port: u16) -> Connection {
    let timeouts = Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(20) };
    Connection::open(&format!("127.0.0.1:{port}"), timeouts).expect("the node accepts")
}

/// Whether a process of this id is there (and no zombie).
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a process id")).expect("not 0");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// A running `keypact up --json`.
pub struct Up {
    pub child: Child,
    /// What it said once all served.
    pub json: Json,
    pub port: u16,
    out: BufReader<ChildStdout>,
}

impl Up {
    /// Starts a cluster of three and waits until it serves.
    pub fn start(dir: &Path, port: u16, more: &[&str]) -> Up {
        let mut command = keypact();
        command.arg("up").arg("--json").arg("--dir").arg(dir).args(more).process_group(0);
        if std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none()) {
            command.args(["--port", &port.to_string()]);
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("its output can be read");
        if line.is_empty() {
            let mut said = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut said);
            panic!("up ended: {:?}: {said}", child.wait());
        }
        let json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Up { child, json, port, out }
    }

    /// Node `index` (from 0) as `up` announced it.
    pub fn node(&self, index: usize) -> &Json {
        &self.json["nodes"][index]
    }

    /// The process of node `index` at the start.
    pub fn pid(&self, index: usize) -> u32 {
        self.node(index)["pid"].as_u64().expect("a process id") as u32
    }

    /// A connection to node `index`.
    pub fn connect(&self, index: u16) -> Connection {
        connect(self.port + index)
    }

    /// `keypact status --json` of this cluster, asked at node `index`; `None` if it prints none.
    pub fn status(&self, index: u16) -> Option<Json> {
        let port = (self.port + index).to_string();
        serde_json::from_slice(&run(&["status", "--json", "--port", &port]).stdout).ok()
    }

    /// Place of the leader of `default`, once there is one.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        eventually("one node leads", || {
            let nodes = (0..3).find_map(|index| self.status(index)).map(|status| status["nodes"].clone());
            leader =
                nodes.and_then(|nodes| nodes.as_array()?.iter().position(|node| node["role"] == "leader"));
            leader.is_some()
        });
        leader.expect("just seen")
    }

    /// Ctrl-C; what it said on standard error.
    pub fn stop(mut self) -> String {
        signal(self.child.id(), rustix::process::Signal::INT);
        let mut said = String::new();
        let _ = self.child.stderr.take().expect("piped").read_to_string(&mut said);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its nodes stop by themselves once it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bulk reply.
pub fn bulk(text: &str) -> Value {
    Value::bulk(text.as_bytes().to_vec())
}
