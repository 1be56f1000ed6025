//! With other people's clients. Those that are programs of their own are ignored here and run by `cargo xtask verify`.

mod support;

use std::process::Command;

use redis::Commands;
use support::{Folder, Up, free_port, text};

/// redis-rs: connects, and its typed commands get what they expect, from every node.
#[test]
fn redis_rs_works() {
    let folder = Folder::new("redis-rs");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    for index in 0..3 {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", up.port + index)).unwrap();
        let mut connection = client.get_connection().unwrap();
        let key = format!("key-{index}");
        let () = connection.set(&key, "value").unwrap();
        let value: String = connection.get(&key).unwrap();
        assert_eq!(value, "value");
        let number: i64 = connection.incr("counter", 2).unwrap();
        assert_eq!(number, 2 * (i64::from(index) + 1));
        let (first, all): (bool, Vec<Option<String>>) = redis::pipe()
            .cmd("EXISTS")
            .arg(&key)
            .cmd("MGET")
            .arg(&[&key, "absent"])
            .query(&mut connection)
            .unwrap();
        assert_eq!((first, all), (true, vec![Some("value".to_owned()), None]));
        let error = connection.incr::<_, _, i64>(&key, 1).unwrap_err();
        assert!(error.to_string().contains("not an integer"), "{error}");
    }
    up.stop();
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout).trim_end().to_owned()
}

#[test]
#[ignore = "needs redis-tools"]
fn redis_cli_works() {
    let folder = Folder::new("redis-cli");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    let (first, last) = (up.port.to_string(), (up.port + 2).to_string());
    let rows: [(&str, &[&str], &str); 8] = [
        (&first, &["set", "greeting", "hello"], "OK"),
        (&last, &["get", "greeting"], "hello"),
        (&last, &["-3", "get", "greeting"], "hello"),
        (&last, &["append", "greeting", " world"], "11"),
        (&first, &["get", "greeting"], "hello world"),
        (&first, &["expire", "greeting", "100"], "1"),
        (&last, &["--scan", "--pattern", "greet*"], "greeting"),
        (&first, &["del", "greeting"], "1"),
    ];
    for (port, arguments, expected) in rows {
        let said = output("redis-cli", &[&["-p", port], arguments].concat());
        assert_eq!(said, expected, "{arguments:?}");
    }
    up.stop();
}

#[test]
#[ignore = "needs redis-tools"]
fn redis_benchmark_works() {
    let folder = Folder::new("redis-benchmark");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    let port = up.port.to_string();
    for pipeline in ["1", "16"] {
        let said = output(
            "redis-benchmark",
            &["-p", &port, "-t", "set,get,incr", "-n", "3000", "-c", "20", "-P", pipeline, "--csv"],
        );
        for name in ["SET", "GET", "INCR"] {
            assert!(said.contains(&format!("\"{name}\"")), "{said}");
        }
        assert!(!said.contains("Error") && !said.contains("ERR"), "{said}");
    }
    up.stop();
}

const PYTHON: &str = r#"
import sys, redis
for protocol in (2, 3):
    try:
        client = redis.Redis(port=int(sys.argv[1]), decode_responses=True, protocol=protocol)
    except TypeError:
        # Older ones speak RESP2 only.
        client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
    assert client.ping()
    assert client.set("py", "1", ex=100)
    assert client.get("py") == "1"
    assert client.incr("py") == 2
    assert client.mget("py", "absent") == ["2", None]
    assert 0 < client.ttl("py") <= 100
    with client.pipeline(transaction=False) as pipe:
        assert pipe.set("a", "x").append("a", "y").get("a").execute() == [True, 2, "xy"]
    assert client.delete("py", "a") == 2
    assert "redis_version" in client.info()
    try:
        client.set("s", "text"); client.incr("s"); raise SystemExit("incr of text worked")
    except redis.ResponseError as error:
        assert "not an integer" in str(error), error
print("done")
"#;

#[test]
#[ignore = "needs python3-redis"]
fn redis_py_works() {
    let python = std::env::var("KEYPACT_TEST_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let folder = Folder::new("redis-py");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    assert_eq!(output(&python, &["-c", PYTHON, &up.port.to_string()]), "done");
    up.stop();
}
