//! Guards what is said of orders whose answer got lost, before a leader that is made up: it takes an order, or not, and hangs up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

/// What the leader does with the orders that come, one after another; then it refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Carries it out, and answers nothing.
    Done,
    /// Does nothing, and answers nothing.
    Dropped,
}

struct Leader {
    deeds: Vec<Deed>,
    /// Whether node 2 belongs to the cluster; the order turns it round.
    has_second: bool,
}

impl Leader {
    fn status(&self, address: &str) -> String {
        let node = |id: u64, resp: &str| serde_json::json!({ "id": id, "incarnation": 1, "resp": resp, "peer": "p", "http": "h", "role": "leader" });
        let seat = serde_json::json!([{ "node": 1, "incarnation": 1, "seat": "voter", "missing": 0 }]);
        let group = |name: &str| serde_json::json!({ "name": name, "term": 1, "leader": 1, "commit": 1, "applied": 1, "lag": 0, "members": seat });
        let mut nodes = vec![node(1, address)];
        if self.has_second {
            nodes.push(node(2, "127.0.0.1:1"));
        }
        serde_json::json!({
            "cluster": "c", "node": 1, "nodes": nodes, "gone": [], "asking": [], "groups": [group("catalog"), group("default")],
        })
        .to_string()
    }

    /// Answers one connection's command.
    fn serve(&mut self, stream: &mut TcpStream, address: &str) {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).unwrap_or(0);
        let asked = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let answer = if asked.contains("STATUS") {
            let status = self.status(address);
            format!("${}\r\n{status}\r\n", status.len())
        } else if self.deeds.is_empty() {
            String::from("-REFUSED made up\r\n")
        } else {
            self.has_second ^= self.deeds.remove(0) == Deed::Done;
            return;
        };
        // Whoever asked may have gone.
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// The port of a leader that lives as long as the process.
fn leader(has_second: bool, deeds: &[Deed]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let leader = Arc::new(Mutex::new(Leader { deeds: deeds.to_vec(), has_second }));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            leader.lock().expect("nobody panics").serve(&mut stream, &address.to_string());
        }
    });
    address.port()
}

fn target(port: u16) -> Target {
    Target { port, host: String::from("127.0.0.1"), password: None, json: false }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

#[test]
fn a_removal_whose_answer_got_lost_is_told_as_it_is() {
    let rows: [(bool, &[Deed], Option<u8>, &str); 4] = [
        (true, &[Deed::Done], None, ""),
        (true, &[Deed::Dropped, Deed::Done], None, ""),
        (true, &[], Some(1), "refused: made up"),
        (true, &[Deed::Dropped], Some(2), "whether it was written down before is not known"),
    ];
    for (has_second, deeds, code, text) in rows {
        let remove = Remove { target: target(leader(has_second, deeds)), node: 2, patience: 0 };
        let failure = remove.dismiss(soon()).err();
        assert_eq!(failure.as_ref().map(|failure| failure.code), code, "{failure:?}");
        let said = failure.map(|failure| failure.text).unwrap_or_default();
        assert!(said.contains(text), "{said}");
    }
}

/// The folder stays unless the cluster surely does not await the node.
#[test]
fn an_addition_whose_answer_got_lost_keeps_the_folder() {
    let rows: [(&[Deed], Option<u8>, bool); 3] =
        [(&[Deed::Done], None, true), (&[], Some(1), false), (&[Deed::Dropped], Some(2), true)];
    for (number, (deeds, code, stays)) in rows.into_iter().enumerate() {
        let dir = std::env::temp_dir().join(format!("keypact-node-orders-{}-{number}", std::process::id()));
        let port = leader(false, deeds);
        let members = ports::members("127.0.0.1", port, 1).expect("a port that has others above it");
        let plan =
            cluster::Plan { name: "c", members: &members, reads: keypact_node::Reads::Lease, password: None };
        let places = cluster::form(&dir, &plan).expect("a new folder");
        let member = Member {
            id: 2,
            incarnation: 1,
            resp: String::from("127.0.0.1:1"),
            peer: String::from("p"),
            http: String::from("h"),
        };
        let furnished = cluster::furnish(&places[0].folder, &member, &members).expect("it can be made");
        let add = Add { target: target(port), dir: dir.clone(), at: None, id: Some(2), patience: 0 };
        let failure = add.admit(&member, furnished, soon()).err();
        assert_eq!(failure.as_ref().map(|failure| failure.code), code, "{failure:?}");
        assert_eq!(dir.join("node-2/data/identity").exists(), stays, "{failure:?}");
        std::fs::remove_dir_all(&dir).expect("it is there");
    }
}
