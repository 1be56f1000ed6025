//! `keypact up` with real processes: what a newcomer does, and what goes wrong around it.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use keypact_client::{Outcome, Value};
use support::{Folder, LIMIT, Up, bulk, connect, eventually, free_port, keypact, lives, run, signal, text};

/// Any node answers any key; status tells the truth; Ctrl-C stops all; the data is there again, and is not formed anew.
#[test]
fn a_cluster_serves_stops_and_serves_again() {
    let folder = Folder::new("up");
    let dir = folder.path("data");
    let port = free_port();
    let up = Up::start(&dir, port, &[]);
    assert_eq!(up.connect(0).call(&[b"SET", b"greeting", b"hello"]).unwrap(), Value::ok());
    for index in 0..3 {
        assert_eq!(up.connect(index).call(&[b"GET", b"greeting"]).unwrap(), bulk("hello"), "node {index}");
    }
    check_status(&up);

    let pids: Vec<u32> = (0..3).map(|index| up.pid(index)).collect();
    let said = up.stop();
    assert!(said.contains("All nodes stopped"), "{said}");
    assert!(pids.iter().all(|pid| !lives(*pid)), "{pids:?}");
    let log = std::fs::read_to_string(dir.join("node-1/node.log")).unwrap();
    assert!(log.contains("node 1 stopped as asked"), "{log}");

    for (arguments, said) in [
        (["--nodes", "5"], "holds a cluster of 3 nodes, not of 5"),
        (["--port", "9"], "not at port 9"),
        (["--reads", "stale"], "--reads is for a new cluster"),
    ] {
        let output = keypact().arg("up").arg("--dir").arg(&dir).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }

    let up = Up::start(&dir, port, &[]);
    assert_eq!(up.connect(2).call(&[b"GET", b"greeting"]).unwrap(), bulk("hello"));
    up.stop();
}

fn check_status(up: &Up) {
    let status = up.status(1).expect("status prints JSON");
    assert_eq!(status["cluster"], "keypact");
    let nodes = status["nodes"].as_array().expect("a list");
    assert_eq!(nodes.len(), 3);
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!((&node["id"], &node["alive"]), (&(index + 1).into(), &true.into()));
        for (name, offset) in [("resp", 0), ("peer", 100), ("http", 200)] {
            let expected = format!("127.0.0.1:{}", usize::from(up.port) + offset + index);
            assert_eq!(node[name], expected.as_str());
        }
    }
    let leaders = nodes.iter().filter(|node| node["role"] == "leader").count();
    assert_eq!(leaders, 1, "{status}");
    let names: Vec<&str> = status["groups"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|g| g["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["catalog", "default"]);
    for group in status["groups"].as_array().expect("a list") {
        for number in ["term", "leader", "commit", "applied", "lag"] {
            assert!(group[number].is_u64(), "{number}: {group}");
        }
    }
    let table = text(&run(&["status", "--port", &up.port.to_string()]).stdout);
    assert!(table.contains("leader") && table.contains("default"), "{table}");
}

/// The leader is killed while clients write through all nodes: it is started again, and every acknowledged write is there.
#[test]
fn a_killed_leader_loses_nothing_that_was_acknowledged() {
    let folder = Folder::new("kill");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    let stop = AtomicBool::new(false);
    let leader = up.leader();
    let acknowledged: Vec<Vec<String>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6u16)
            .map(|writer| {
                let (up, stop) = (&up, &stop);
                scope.spawn(move || write_until(up.port, writer, stop))
            })
            .collect();
        eventually("some keys are written", || count(&up, leader) > 50);
        signal(up.pid(leader), rustix::process::Signal::KILL);
        eventually("the killed node is alive again, and one leads", || {
            up.status(0).is_some_and(|status| {
                let nodes = status["nodes"].as_array().unwrap();
                nodes.iter().all(|node| node["alive"] == true)
                    && nodes.iter().any(|node| node["role"] == "leader")
            })
        });
        let before = count(&up, leader);
        eventually("writes go on", || count(&up, leader) > before + 50);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let keys: BTreeSet<String> = acknowledged.into_iter().flatten().collect();
    assert!(keys.len() > 100, "{}", keys.len());
    for index in 0..3 {
        let mut connection = up.connect(index);
        let lost: Vec<&String> = keys
            .iter()
            .filter(|key| connection.call(&[b"GET", key.as_bytes()]).unwrap() != bulk(key))
            .collect();
        assert!(lost.is_empty(), "lost of {}, as node {index} sees it: {lost:?}", keys.len());
    }
    let said = up.stop();
    assert!(said.contains("SIGKILL") && said.contains("was started again"), "{said}");
}

/// Keys in the store as any node but `index` tells.
fn count(up: &Up, index: usize) -> i64 {
    match up.connect((index as u16 + 1) % 3).call(&[b"DBSIZE"]) {
        Ok(Value::Integer(count)) => count,
        _ => 0,
    }
}

/// Writes keys of its own, moving on to the next node when one is gone; what was acknowledged.
fn write_until(port: u16, writer: u16, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut node = writer % 3;
    let mut connection = connect(port + node);
    let deadline = Instant::now() + LIMIT;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) || Instant::now() > deadline {
            break;
        }
        let key = format!("k-{writer}-{number}");
        let result = connection.call(&[b"SET", key.as_bytes(), key.as_bytes()]);
        if Outcome::of_call(&result) == Outcome::Applied {
            acknowledged.push(key);
        }
        if result.is_err() {
            // The next node that accepts; at most one of three is down.
            let next = (1..=3).map(|step| (node + step) % 3).find_map(|node| {
                let timeouts = keypact_client::Timeouts::default();
                keypact_client::Connection::open(&format!("127.0.0.1:{}", port + node), timeouts)
                    .ok()
                    .map(|c| (node, c))
            });
            (node, connection) = next.expect("a majority lives");
        }
    }
    acknowledged
}

/// Guards against orphans: whatever ends `up`, its nodes end too, and cleanly.
#[test]
fn when_up_is_killed_its_nodes_stop() {
    let folder = Folder::new("orphans");
    let mut up = Up::start(&folder.path("data"), free_port(), &["--no-restart"]);
    let pids: Vec<u32> = (0..3).map(|index| up.pid(index)).collect();
    assert!(pids.iter().all(|pid| lives(*pid)));
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    eventually("all nodes are gone", || pids.iter().all(|pid| !lives(*pid)));
    for node in 1..=3 {
        let log = std::fs::read_to_string(folder.path("data").join(format!("node-{node}/node.log"))).unwrap();
        assert!(log.contains(&format!("node {node} stopped as asked")), "{log}");
    }
}

/// With `--no-restart` a dead node stays dead, and `status` says so, whichever node it is asked at.
#[test]
fn without_restart_a_killed_node_stays_down() {
    let folder = Folder::new("no-restart");
    let up = Up::start(&folder.path("data"), free_port(), &["--no-restart"]);
    signal(up.pid(0), rustix::process::Signal::KILL);
    eventually("the others have a leader", || {
        up.status(1)
            .is_some_and(|status| status["nodes"].as_array().unwrap().iter().any(|n| n["role"] == "leader"))
    });
    let status = up.status(0).expect("status finds a neighbour");
    assert_eq!(status["nodes"][0]["alive"], false, "{status}");
    assert!(status["nodes"][0]["role"].is_null(), "{status}");
    let output = run(&["status", "--port", &up.port.to_string()]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("--port {}", up.port + 1)), "{said}");
    assert!(!lives(up.pid(0)));
    up.stop();
}

/// A node that can't be started for a while, its log being in the way here, is tried again and again, and takes nobody else with it.
#[test]
fn a_node_that_can_not_be_started_now_is_started_later() {
    let folder = Folder::new("later");
    let up = Up::start(&folder.path("data"), free_port(), &[]);
    let log = folder.path("data").join("node-2/node.log");
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    signal(up.pid(1), rustix::process::Signal::KILL);
    let mut client = up.connect(0);
    let began = Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(1) {
        eventually("the others serve", || client.call(&[b"SET", b"k", b"v"]).ok() == Some(Value::ok()));
    }
    std::fs::remove_dir(&log).unwrap();
    eventually("all are alive again", || {
        up.status(0).is_some_and(|status| {
            status["nodes"].as_array().unwrap().iter().all(|node| node["alive"] == true)
        })
    });
    let said = up.stop();
    let failed = said.matches("cannot start node 2").count();
    assert!(failed >= 2 && said.contains("starting it again in 200 ms"), "{failed}: {said}");
}

/// A taken port is named with its use, before anything is made.
#[test]
fn a_taken_port_is_refused_before_anything_starts() {
    let folder = Folder::new("taken");
    let port = free_port();
    for (offset, of) in [(1, "clients of node 2"), (102, "peers of node 3"), (200, "admin HTTP of node 1")] {
        let _taken = TcpListener::bind(("127.0.0.1", port + offset)).unwrap();
        let dir = folder.path("data");
        let output =
            keypact().arg("up").arg("--port").arg(port.to_string()).arg("--dir").arg(&dir).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains(&format!("port {} ", port + offset)) && said.contains(of), "{said}");
        assert!(!dir.exists(), "nothing was made");
    }
}

/// A node that can't start ends `up`, with what the node said; nothing is left running.
#[test]
fn folders_that_do_not_fit_are_refused() {
    let folder = Folder::new("folders");
    let dir = folder.path("data");
    let up_in = |arguments: &[&str]| {
        let output =
            keypact().arg("up").arg("--dir").arg(&dir).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("letter.txt"), "dear").unwrap();
    let (code, said) = up_in(&[]);
    assert!(code == Some(2) && said.contains("not made by `keypact up`"), "{said}");
    std::fs::remove_file(dir.join("letter.txt")).unwrap();

    let port = free_port();
    Up::start(&dir, port, &[]).stop();
    let config = dir.join("node-2/keypact.toml");
    let right = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, right.replace("id = 2", "id = 2\ncolour = \"red\"")).unwrap();
    let (code, said) = up_in(&[]);
    assert!(
        code == Some(2) && said.contains("unknown field `colour`") && said.contains("keypact.toml:"),
        "{said}"
    );
    std::fs::write(&config, right).unwrap();

    let format = dir.join("node-1/data/format");
    let right = std::fs::read(&format).unwrap();
    std::fs::write(&format, &right[..right.len() - 1]).unwrap();
    let (code, said) = up_in(&[]);
    assert!(code == Some(2) && said.contains("format"), "{said}");
    std::fs::write(&format, right).unwrap();

    // Nobody knows which lives of it were there: an older copy would have forgotten its votes.
    std::fs::rename(dir.join("node-3"), folder.path("elsewhere")).unwrap();
    std::fs::remove_file(dir.join("lives")).unwrap();
    let (code, said) = up_in(&[]);
    assert!(
        code == Some(2) && said.contains("node-3 is missing") && said.contains("never an older copy"),
        "{said}"
    );
}
