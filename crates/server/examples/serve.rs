//! The smallest program around this crate: one node of a cluster on loopback, with RESP on PORT, peers on PORT+100, HTTP on PORT+200.
//!
//! `cargo run --release -p keypact-server --example serve -- DIR PORT NODES ID` forms the folders of all nodes in an empty DIR, and
//! serves node ID (from 1) until its standard input closes.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};

use keypact_node::Member;
use keypact_server::{Identity, Settings, Shutdown, init, run};

fn folder(root: &Path, id: u64) -> PathBuf {
    root.join(format!("node-{id}"))
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, port, nodes, id] = &arguments[..] else {
        return Err("usage: serve DIR PORT NODES ID".into());
    };
    let (root, port, nodes, id) =
        (PathBuf::from(root), port.parse::<u64>()?, nodes.parse::<u64>()?, id.parse::<u64>()?);
    if !root.exists() {
        let at = |base: u64, id: u64| format!("127.0.0.1:{}", base + id - 1);
        let member = |id| Member {
            id,
            incarnation: 1,
            resp: at(port, id),
            peer: at(port + 100, id),
            http: at(port + 200, id),
        };
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        for identity in Identity::of_new_cluster("example", &members) {
            init(&folder(&root, identity.node), &identity)?;
        }
    }
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.stop();
    });
    let served = run(Settings::new(folder(&root, id)), &shutdown)?;
    println!("{served:?}");
    Ok(())
}
