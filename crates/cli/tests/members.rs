//! Nodes that come, go, and lose their folders, with real processes under load.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use keypact_client::{Connection, Outcome, Timeouts, Value};
use serde_json::Value as Json;
use support::{Folder, LIMIT, Up, bulk, eventually, free_port, keypact, lives, signal, text};

/// `keypact node WORDS` of this cluster, asked at node `index`.
fn node(up: &Up, dir: &Path, index: u16, words: &[&str]) -> Output {
    let port = (up.port + index).to_string();
    let mut command = keypact();
    command.arg("node").args(words).args(["--port", &port]);
    if words[0] == "add" {
        command.arg("--dir").arg(dir);
    }
    command.output().expect("the binary runs")
}

fn list(up: &Up, dir: &Path, index: u16) -> Option<Json> {
    serde_json::from_slice(&node(up, dir, index, &["list", "--json"]).stdout).ok()
}

/// Whether exactly these nodes, under these lives, vote in both groups and answer.
fn is_made_of(list: &Json, expected: &[(u64, u64)]) -> bool {
    let rows = list["nodes"].as_array().expect("a list");
    let seen: Vec<(u64, u64)> = rows
        .iter()
        .filter(|row| row["alive"] == true)
        .filter(|row| ["catalog", "default"].iter().all(|group| row["groups"][group]["seat"] == "voter"))
        .filter_map(|row| Some((row["id"].as_u64()?, row["incarnation"].as_u64()?)))
        .collect();
    seen == expected && rows.len() == expected.len()
}

fn leader_of(list: &Json, group: &str) -> Option<u64> {
    let rows = list["nodes"].as_array()?;
    rows.iter().find(|row| row["groups"][group]["leads"] == true)?["id"].as_u64()
}

/// Whether node `index` takes node `id` for alive.
fn hears(up: &Up, index: u16, id: u64) -> bool {
    let Ok(Value::Bulk(json)) = up.connect(index).call(&[b"KEYPACT", b"STATUS"]) else { return true };
    let status: Json = serde_json::from_slice(&json).expect("a status is JSON");
    let nodes = status["nodes"].as_array().expect("a list");
    nodes.iter().any(|node| node["id"] == id && node["alive"] == true)
}

/// Writes keys of its own through the nodes at these ports, moving on when one is gone; what was acknowledged.
fn write_until(ports: &[u16], writer: usize, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let (mut at, mut connection): (usize, Option<Connection>) = (writer, None);
    let deadline = Instant::now() + LIMIT;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) || Instant::now() > deadline {
            break;
        }
        let Some(open) = connection.as_mut() else {
            at += 1;
            let address = format!("127.0.0.1:{}", ports[at % ports.len()]);
            connection = Connection::open(&address, Timeouts::default()).ok();
            continue;
        };
        let key = format!("k-{writer}-{number}");
        let result = open.call(&[b"SET", key.as_bytes(), key.as_bytes()]);
        match Outcome::of_call(&result) {
            Outcome::Applied => acknowledged.push(key),
            // Refused by a node that can't serve: another may.
            _ => connection = None,
        }
    }
    acknowledged
}

/// Runs `story` while clients write, and then looks for each acknowledged key at each of the nodes that shall be there.
fn under_load(ports: &[u16], readers: &[u16], story: impl FnOnce(&dyn Fn())) {
    let stop = AtomicBool::new(false);
    let written = |port: u16| match Connection::open(&format!("127.0.0.1:{port}"), Timeouts::default()) {
        Ok(mut connection) => match connection.call(&[b"DBSIZE"]) {
            Ok(Value::Integer(count)) => count,
            _ => -1,
        },
        Err(_) => -1,
    };
    let acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let stop = &stop;
                scope.spawn(move || write_until(ports, writer, stop))
            })
            .collect();
        let writes_go_on = || {
            let before = readers.iter().map(|port| written(*port)).max().expect("some reader");
            eventually("writes go on", || readers.iter().any(|port| written(*port) > before + 50));
        };
        writes_go_on();
        story(&writes_go_on);
        writes_go_on();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().expect("writers don't panic")).collect()
    });
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    for port in readers {
        let timeouts = Timeouts::default();
        let mut connection = Connection::open(&format!("127.0.0.1:{port}"), timeouts).expect("it serves");
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|key| connection.call(&[b"GET", key.as_bytes()]).ok() != Some(bulk(key)))
            .collect();
        assert!(lost.is_empty(), "lost of {}, as {port} sees it: {lost:?}", acknowledged.len());
    }
}

/// A leader's folder is deleted with its process, then a follower's under its running process: three healthy nodes again, each time by
/// themselves, and nothing that was acknowledged is lost.
#[test]
fn a_lost_folder_ends_in_three_healthy_nodes() {
    let folder = Folder::new("lost-folder");
    let dir = folder.path("data");
    let up = Up::start(&dir, free_port(), &[]);
    let ports: Vec<u16> = (0..3).map(|index| up.port + index).collect();
    let leader = up.leader();
    let follower = (leader + 1) % 3;
    let mut life = [1, 1, 1];
    under_load(&ports, &ports, |writes_go_on| {
        for (index, killed) in [(leader, true), (follower, false)] {
            let pid = up.pid(index);
            if killed {
                signal(pid, rustix::process::Signal::KILL);
            }
            fs::remove_dir_all(dir.join(format!("node-{}", index + 1))).expect("the folder is there");
            life[index] += 1;
            let expected: Vec<(u64, u64)> = (1..).zip(life).collect();
            let other = u16::try_from((index + 1) % 3).expect("three");
            eventually("three healthy nodes", || {
                list(&up, &dir, other).is_some_and(|list| is_made_of(&list, &expected))
            });
            assert!(!lives(pid), "nothing runs on a folder that is gone");
            writes_go_on();
        }
    });
    let status = up.status(0).expect("status prints JSON");
    let seats: Vec<&Json> = status["nodes"].as_array().expect("a list").iter().map(|n| &n["seat"]).collect();
    assert_eq!(seats, ["voter", "voter", "voter"]);
    let said = up.stop();
    assert!(
        said.contains("its folder is gone") && said.contains("with an empty folder, as life 2"),
        "{said}"
    );

    // What came back is a member like any other after a start of all.
    let up = Up::start(&dir, up_port(&dir), &[]);
    eventually("all serve again", || {
        let expected: Vec<(u64, u64)> = (1..).zip(life).collect();
        list(&up, &dir, 0).is_some_and(|list| is_made_of(&list, &expected))
    });
    up.stop();
}

/// A founder's folder is deleted while nothing runs, twice, the second time with what was put aside of the first in the way; then an added
/// node's. The others start, and each founder comes back under a life that was never there; of the added node it is said that it is missing.
#[test]
fn a_folder_that_is_missing_at_the_start_comes_back_under_its_next_life() {
    let folder = Folder::new("missing");
    let dir = folder.path("data");
    let up = Up::start(&dir, free_port(), &[]);
    let port = up.port;
    let mut client = up.connect(0);
    eventually("it is written", || client.call(&[b"SET", b"k", b"v"]).ok() == Some(Value::ok()));
    up.stop();
    for (life, left) in [(2, false), (3, true)] {
        let gone = dir.join("node-2");
        if left {
            // Its data is all that is lost, but for a log without an identity.
            for name in ["identity", "format"] {
                fs::remove_file(gone.join("data").join(name)).expect("it is there");
            }
            fs::create_dir_all(dir.join("lost-node-2-life-2/x")).expect("it can be made");
        } else {
            fs::remove_dir_all(&gone).expect("the folder is there");
        }
        let mut up = Up::start(&dir, port, &[]);
        up.port = port;
        let expected = [(1, 1), (2, life), (3, 1)];
        eventually("three healthy nodes", || {
            list(&up, &dir, 0).is_some_and(|list| is_made_of(&list, &expected))
        });
        let mut client = up.connect(1);
        eventually("it has the data", || client.call(&[b"GET", b"k"]).ok() == Some(bulk("v")));
        let said = up.stop();
        assert!(said.contains(&format!("with an empty folder, as life {life} of it")), "{said}");
        assert_eq!(dir.join("lost-node-2-life-2-2").is_dir(), left, "{said}");
    }

    let mut up = Up::start(&dir, port, &[]);
    up.port = port;
    // At another address of this machine, with node 1's port.
    let at = format!("127.0.0.2:{}", up.port);
    let taken = TcpListener::bind(&at).expect("nobody is there yet");
    let refused = node(&up, &dir, 0, &["add", "--at", &at]);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains(&at), "{refused:?}");
    drop(taken);
    let added = node(&up, &dir, 0, &["add", "--at", &at]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let mut client = Connection::open(&at, Timeouts::default()).expect("it serves there");
    assert_eq!(client.call(&[b"GET", b"k"]).ok(), Some(bulk("v")));
    up.stop();
    fs::remove_dir_all(dir.join("node-4")).expect("the folder is there");
    let mut up = Up::start(&dir, port, &[]);
    up.port = port;
    // It is said a while later: a folder may come.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let removed = node(&up, &dir, 0, &["remove", "4"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let said = up.stop();
    assert!(said.contains("node 4") && said.contains("has no folder in"), "{said}");
}

/// The clients' port of node 1 in a cluster's folder.
fn up_port(dir: &Path) -> u16 {
    let text = fs::read_to_string(dir.join("node-1/keypact.toml")).expect("node 1 has its file");
    let line = text.lines().find(|line| line.starts_with("resp = ")).expect("it says where");
    line.trim_end_matches('"').rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// A fourth comes and is handed leadership, a founder goes; after a start of all it is still so.
#[test]
fn a_fourth_node_comes_leads_and_a_founder_goes() {
    let folder = Folder::new("fourth");
    let dir = folder.path("data");
    let up = Up::start(&dir, free_port(), &[]);
    let ports: Vec<u16> = (0..4).map(|index| up.port + index).collect();
    under_load(&ports[1..], &ports[1..], |writes_go_on| {
        let added = node(&up, &dir, 0, &["add"]);
        assert!(added.status.success(), "{}", text(&added.stderr));
        assert!(text(&added.stdout).contains("node 4 votes in all groups"), "{}", text(&added.stdout));
        let four = [(1, 1), (2, 1), (3, 1), (4, 1)];
        eventually("four nodes", || list(&up, &dir, 1).is_some_and(|list| is_made_of(&list, &four)));

        let handed = node(&up, &dir, 1, &["transfer", "4", "--json"]);
        assert!(handed.status.success(), "{}", text(&handed.stderr));
        let view: Json = serde_json::from_slice(&handed.stdout).expect("it prints JSON");
        assert_eq!((leader_of(&view, "catalog"), leader_of(&view, "default")), (Some(4), Some(4)));
        writes_go_on();

        let pid = up.pid(0);
        let removed = node(&up, &dir, 2, &["remove", "1"]);
        assert!(removed.status.success(), "{}", text(&removed.stderr));
        let three = [(2, 1), (3, 1), (4, 1)];
        eventually("three nodes", || list(&up, &dir, 1).is_some_and(|list| is_made_of(&list, &three)));
        eventually("the removed node is stopped", || !lives(pid));
        eventually("its folder is put aside", || dir.join("removed-node-1-life-1").is_dir());

        let again = node(&up, &dir, 1, &["add", "--id", "1"]);
        assert!(again.status.success(), "{}", text(&again.stderr));
        let all = [(1, 2), (2, 1), (3, 1), (4, 1)];
        eventually("four again", || list(&up, &dir, 1).is_some_and(|list| is_made_of(&list, &all)));
        let removed = node(&up, &dir, 2, &["remove", "1"]);
        assert!(removed.status.success(), "{}", text(&removed.stderr));
        eventually("three again", || list(&up, &dir, 1).is_some_and(|list| is_made_of(&list, &three)));
    });
    let table = text(&node(&up, &dir, 1, &["list"]).stdout);
    assert!(table.contains("removed: 1 (life 2)"), "{table}");
    up.stop();
    let mut up = Up::start(&dir, free_port(), &[]);
    let first = up.node(0)["resp"].as_str().expect("an address").to_owned();
    assert_eq!(up.node(0)["id"], 2, "{}", up.json);
    up.port = first.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    eventually("the three serve", || {
        list(&up, &dir, 0).is_some_and(|list| is_made_of(&list, &[(2, 1), (3, 1), (4, 1)]))
    });
}

/// Each refusal says why, ends with exit code 1, and changes nothing.
#[test]
fn orders_that_can_not_be_are_refused() {
    let folder = Folder::new("refusals");
    let dir = folder.path("data");
    let up = Up::start(&dir, free_port(), &["--no-restart"]);
    let three = [(1, 1), (2, 1), (3, 1)];
    let refused = |words: &[&str], why: &str| {
        let output = node(&up, &dir, 0, words);
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains(why),
            "{words:?}: {:?} {said}",
            output.status
        );
    };
    refused(&["add", "--id", "2"], "node 2 is a member already");
    refused(&["remove", "9"], "node 9 is no member");
    refused(&["transfer", "9"], "node 9 is no member");
    let taken = format!("127.0.0.1:{}", up.port + 1);
    let output = node(&up, &dir, 0, &["add", "--at", &taken]);
    assert!(output.status.code() == Some(2), "{}", text(&output.stderr));
    let empty = folder.path("elsewhere");
    let output = node(&up, &empty, 0, &["add"]);
    assert!(
        output.status.code() == Some(2) && text(&output.stderr).contains("--dir"),
        "{}",
        text(&output.stderr)
    );
    assert!(list(&up, &dir, 0).is_some_and(|list| is_made_of(&list, &three)));

    let third = up.pid(2);
    signal(third, rustix::process::Signal::KILL);
    eventually("the others lead both groups", || {
        list(&up, &dir, 0).is_some_and(|list| {
            let leaders = [leader_of(&list, "catalog"), leader_of(&list, "default")];
            leaders.iter().all(|leader| matches!(leader, Some(1 | 2)))
        })
    });
    // Who leads must have noticed; before that it takes node 3 for alive.
    eventually("the others miss node 3", || (0..2).all(|index| !hears(&up, index, 3)));
    refused(&["remove", "2"], "would lose quorum: 1 voters alive, 2 needed");
    refused(&["transfer", "3", "--patience", "5"], "has not caught up");
    let removed = node(&up, &dir, 0, &["remove", "3"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    eventually("two nodes", || list(&up, &dir, 0).is_some_and(|list| is_made_of(&list, &[(1, 1), (2, 1)])));
    up.stop();
}
