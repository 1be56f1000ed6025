//! Nodes in threads of the test, on ephemeral loopback ports and temporary folders, and a small client that speaks RESP.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use keypact_node::Member;
use keypact_resp::{CommandParser, Limits as RespLimits, Value, ValueParser, encode_command};
use keypact_server::{Identity, Listeners, ServeError, Served, Settings, Shutdown, init, run};

/// Longer than anything here takes, also on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("keypact-server-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn listeners() -> Listeners {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    Listeners { resp: bind(), peer: bind(), http: bind() }
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("it is bound").to_string()
}

/// Settings of a test's node: small files, short waits.
pub(crate) fn settings(folder: PathBuf) -> Settings {
    let mut settings = Settings::new(folder);
    settings.limits.segment_bytes = 1 << 20;
    settings
}

/// One node: its folder outlives its runs.
pub(crate) struct TestNode {
    pub(crate) member: Member,
    pub(crate) folder: PathBuf,
    listeners: Option<Listeners>,
    running: Option<(Shutdown, JoinHandle<Result<Served, ServeError>>)>,
}

impl TestNode {
    /// Starts it, with changes to its settings.
    pub(crate) fn start_with(&mut self, change: impl FnOnce(&mut Settings)) {
        assert!(self.running.is_none(), "it runs already");
        let mut settings = settings(self.folder.clone());
        // After a stop the same ports are bound again: the other members know them.
        settings.bind.listeners = self.listeners.take();
        change(&mut settings);
        let shutdown = Shutdown::new();
        let asked = shutdown.clone();
        let thread = std::thread::spawn(move || run(settings, &asked));
        self.running = Some((shutdown, thread));
    }

    pub(crate) fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// Stops it and returns how it ended.
    pub(crate) fn stop(&mut self) -> Result<Served, ServeError> {
        let (shutdown, thread) = self.running.take().expect("it was started");
        shutdown.stop();
        thread.join().expect("the node does not panic")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.member.resp)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some((shutdown, thread)) = self.running.take() {
            shutdown.stop();
            let _ = thread.join();
        }
    }
}

/// A cluster of nodes that are not started yet. `change` sees the identities before they are written.
pub(crate) fn cluster_with(root: &Folder, nodes: u64, change: impl Fn(&mut Identity)) -> Vec<TestNode> {
    let bound: Vec<Listeners> = (0..nodes).map(|_| listeners()).collect();
    let members: Vec<Member> = bound
        .iter()
        .zip(1..)
        .map(|(l, id)| Member {
            id,
            incarnation: 1,
            resp: address(&l.resp),
            peer: address(&l.peer),
            http: address(&l.http),
        })
        .collect();
    let identities = Identity::of_new_cluster("test", &members);
    identities
        .into_iter()
        .zip(bound)
        .zip(members)
        .map(|((mut identity, listeners), member)| {
            change(&mut identity);
            let folder = root.path().join(format!("node-{}", member.id));
            init(&folder, &identity).expect("an empty folder can be initialised");
            TestNode { member, folder, listeners: Some(listeners), running: None }
        })
        .collect()
}

/// A cluster that runs.
pub(crate) fn cluster(root: &Folder, nodes: u64) -> Vec<TestNode> {
    let mut cluster = cluster_with(root, nodes, |_| {});
    cluster.iter_mut().for_each(TestNode::start);
    cluster
}

/// A client.
pub(crate) struct Client {
    stream: TcpStream,
    input: BytesMut,
    parser: ValueParser,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Client {
        let mut last = None;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match TcpStream::connect(address) {
                Ok(stream) => return Client::over(stream),
                Err(error) => last = Some(error),
            }
            std::thread::yield_now();
        }
        panic!("nobody listens on {address}: {last:?}");
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Client { stream, input: BytesMut::new(), parser: ValueParser::new(RespLimits::default()) }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// Sends commands, each a text that is split as inline commands are.
    pub(crate) fn send(&mut self, commands: &[&str]) {
        let mut bytes = BytesMut::new();
        for command in commands {
            let mut line = BytesMut::from(format!("{command}\r\n").as_bytes());
            let arguments = CommandParser::new(RespLimits::default())
                .next(&mut line)
                .expect("the test's command is well formed")
                .expect("and whole");
            let parts: Vec<&[u8]> = arguments.iter().collect();
            encode_command(&parts, &mut bytes);
        }
        self.send_bytes(&bytes);
    }

    /// The next reply; `None` if the connection was closed.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(value) = self.parser.next(&mut self.input).expect("the node speaks RESP") {
                return Some(value);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> Value {
        self.send(&[command]);
        self.receive().unwrap_or_else(|| panic!("the connection was closed instead of answering {command}"))
    }

    /// Asks until the answer is no `CLUSTERDOWN`, `TRYAGAIN` or `UNCERTAIN`: only for commands that may run twice.
    pub(crate) fn ask_until_served(&mut self, command: &str) -> Value {
        until(|| {
            let value = self.ask(command);
            let is_transient = matches!(&value, Value::Error(e) if ["CLUSTERDOWN", "TRYAGAIN", "UNCERTAIN"].contains(&&*e.code));
            (!is_transient).then_some(value)
        })
    }

    pub(crate) fn close_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    }
}

/// Repeats until there is a result.
pub(crate) fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "what was waited for did not happen");
        std::thread::yield_now();
    }
}

/// `GET path`: status and body.
pub(crate) fn http(address: &str, path: &str) -> (u16, String) {
    let mut client = Client::connect(address);
    client.send_bytes(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let mut text = String::new();
    client.stream.read_to_string(&mut text).expect("the answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a head has a status");
    (status, body.to_owned())
}

/// A node's own figure, once it is there.
pub(crate) fn metric(node: &TestNode, name: &str) -> Option<f64> {
    let (status, body) = http(&node.member.http, "/metrics");
    assert_eq!(status, 200, "{body}");
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

pub(crate) fn error_code(value: &Value) -> &str {
    match value {
        Value::Error(error) => &error.code,
        _ => "",
    }
}

pub(crate) fn bulk(text: &str) -> Value {
    Value::bulk(text.as_bytes().to_vec())
}
