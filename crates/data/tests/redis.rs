//! The same stories against a real `redis-server` 7.0, which must be installed: shows that the replies are Redis' own.
//! `cargo test -p keypact-data --test redis -- --ignored`; with UPDATE=1 writes its replies into the stories.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a process and a socket to compare with; the crate itself has neither"
)]

mod story;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use keypact_data::{describe, table};
use keypact_resp::{Arguments, Limits, Value, ValueParser, encode_command};

/// A server of its own, behind a socket in the file system: a port that was free a moment ago may be another test's by now, or the caller's own.
struct Redis {
    process: Child,
    socket: PathBuf,
    stream: UnixStream,
    parser: ValueParser,
    buffer: BytesMut,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().expect("our child");
        self.process.wait().expect("our child");
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Redis {
    fn start() -> Redis {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("keypact-redis-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let socket = std::env::temp_dir().join(name);
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--proto-max-bulk-len", "1mb"])
            .arg("--unixsocket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            assert!(process.try_wait().expect("our child").is_none(), "redis-server ended");
            std::thread::yield_now();
        };
        Redis {
            process,
            socket,
            stream,
            parser: ValueParser::new(Limits::default()),
            buffer: BytesMut::new(),
        }
    }

    fn answer(&mut self, parts: &[&[u8]]) -> Value {
        let mut out = BytesMut::new();
        encode_command(parts, &mut out);
        self.stream.write_all(&out).expect("connected");
        loop {
            if let Some(value) = self.parser.next(&mut self.buffer).expect("RESP") {
                return value;
            }
            let mut chunk = [0; 65_536];
            let count = self.stream.read(&mut chunk).expect("connected");
            assert!(count > 0, "redis-server closed the connection");
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    fn now_ms(&mut self) -> u64 {
        let Value::Array(items) = self.answer(&[b"TIME"]) else { panic!("TIME gives two numbers") };
        let number = |index: usize| -> u64 {
            String::from_utf8_lossy(items[index].as_bytes().unwrap_or_default()).parse().expect("a number")
        };
        number(0) * 1000 + number(1) / 1000
    }

    /// Waits until its clock has moved on by more than `time_ms`.
    fn advance(&mut self, time_ms: u64) {
        let until = self.now_ms() + time_ms + 1;
        while self.now_ms() <= until {
            std::thread::yield_now();
        }
    }
}

#[test]
#[ignore = "needs redis-server 7.0"]
fn stories_are_told_by_redis() {
    let redis = std::cell::RefCell::new(Redis::start());
    let mut failed = Vec::new();
    for path in story::files() {
        redis.borrow_mut().answer(&[b"FLUSHALL"]);
        let advance = |time| redis.borrow_mut().advance(time);
        let answer = |parts: &[&[u8]], differs: bool| (!differs).then(|| redis.borrow_mut().answer(parts));
        failed.extend(story::run(&path, advance, answer));
    }
    assert!(failed.is_empty(), "{} replies differ\n{}", failed.len(), failed.join("\n"));
}

/// Every row of a partition's command, and of the node's that exist there, as `COMMAND INFO` tells it; but for the free
/// text in key specifications.
#[test]
#[ignore = "needs redis-server 7.0"]
fn command_info_is_that_of_redis() {
    let mut redis = Redis::start();
    let mut compared = 0;
    for spec in table::TABLE {
        let parts: [&[u8]; 3] = [b"COMMAND", b"INFO", spec.name.as_bytes()];
        let theirs = redis.answer(&parts);
        let Value::Array(rows) = &theirs else { panic!("rows") };
        let ours = describe::info(&Arguments::from_parts(&parts));
        let known = !rows[0].is_null();
        assert!(
            known || spec.since.starts_with("7.2") || spec.since == "0.1.0",
            "{} is a command",
            spec.name
        );
        if !known {
            continue;
        }
        assert_eq!(told(&ours), told(&theirs), "{}", spec.name);
        compared += 1;
    }
    assert!(compared > 50);
}

/// The rows as text, without notes and subcommands.
fn told(rows: &Value) -> String {
    let Value::Array(rows) = rows else { panic!("rows") };
    let Value::Array(row) = &rows[0] else { panic!("a row") };
    let mut row = row[..9].to_vec();
    if let Value::Array(specifications) = &mut row[8]
        && let Some(Value::Array(fields)) = specifications.first_mut()
        && fields.first().and_then(Value::as_bytes) == Some(b"notes")
    {
        fields.drain(..2);
    }
    story::render(&Value::Array(row), false)
}
