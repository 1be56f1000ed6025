//! `keypact up`: a whole cluster on this machine, watched.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use clap::Args;
use keypact_node::Reads;
use serde::Serialize;

use crate::cluster::{self, Found, Place, Plan};
use crate::cmd::init::parse_reads;
use crate::failure::Failure;
use crate::fleet::{Event, Fleet};
use crate::output::{note, say, say_json, table};
use crate::ports::{self, NODES_MAX};
use crate::probe::Answer;
use crate::signals;
use watch::Watch;

mod watch;

const AFTER: &str = "\
Examples:
  keypact up                                  three nodes; clients on 7001, 7002, 7003
  keypact up --nodes 5 --dir five --port 7601
  keypact up --no-restart                     a node that you kill stays down

The first start forms the cluster in the folder; later starts go on with its data, ports and number of nodes.
Peers listen 100 above the clients' port, the admin HTTP 200 above. Ctrl-C stops all nodes cleanly.
A node whose folder is lost gets an empty one, and gets everything from the others before it votes again. `keypact node` adds and removes.
With KEYPACT_PASSWORD set, clients must say that password.";

/// Said when those that are left do not serve.
const TOO_FEW: &str = "
The nodes whose folders are left may be too few to decide anything. Put back the missing folders as their nodes left them, and never an
older copy: that has forgotten votes and writes it confirmed. If too many are lost for good, delete the folder to begin anew without data.";

const PORT: u16 = 7001;
const NODES: u16 = 3;

/// Start a cluster on this machine and watch it
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Up {
    /// How many nodes a new cluster gets [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,
    /// The cluster's folder
    #[arg(long, default_value = "./keypact-data", value_name = "DIR")]
    dir: PathBuf,
    /// Clients' port of node 1 in a new cluster; the others follow [default: 7001]
    #[arg(long)]
    port: Option<u16>,
    /// How a new cluster answers reads: lease, read-index or stale [default: lease]
    #[arg(long, value_parser = parse_reads)]
    reads: Option<Reads>,
    /// Leave a node that ends alone, instead of starting it again
    #[arg(long)]
    no_restart: bool,
    /// Say what serves as one line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

impl Up {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (sender, events) = channel();
        let signals = sender.clone();
        signals::watch(move |name| {
            // Nobody listens once the command has ended by itself.
            let _ = signals.send(Event::Signal(name));
        })?;
        let Found { mut places, missing } = self.prepare()?;
        let absent: Vec<u64> = missing.iter().map(|place| place.member.id).collect();
        places.extend(missing);
        places.sort_by_key(|place| place.member.id);
        let mut fleet = Fleet::new(places, sender)?;
        let nodes = fleet.places().len();
        for index in 0..nodes {
            if absent.contains(&fleet.place(index).member.id) {
                self.say_absent(fleet.place(index));
            } else {
                fleet.start(index)?;
            }
        }
        let answers = match fleet.wait_until_serving(&events) {
            Ok(answers) => answers,
            Err(mut failure) => {
                fleet.stop(&events);
                if !absent.is_empty() && failure.code != Failure::interrupted().code {
                    failure.text.push_str(TOO_FEW);
                }
                return Err(failure);
            }
        };
        self.announce(&fleet, &answers)?;
        let result = Watch::new(&mut fleet, &events, &self.dir, self.no_restart).run();
        fleet.stop(&events);
        result?;
        note(format!(
            "All nodes stopped; the data is in {}. Start again with the same command.",
            self.dir.display()
        ));
        Ok(())
    }

    /// A founder's folder is missing.
    fn say_absent(&self, place: &Place) {
        let then = match self.no_restart {
            true => "with --no-restart it stays down",
            false => "it gets an empty one once the others serve",
        };
        note(format!("node {}: {} is missing; {then}", place.member.id, place.folder.display()));
    }

    /// The nodes' folders, made if nothing is there; and nothing is made if a port is taken.
    fn prepare(&self) -> Result<Found, Failure> {
        if cluster::is_empty(&self.dir)? {
            let members =
                ports::members("127.0.0.1", self.port.unwrap_or(PORT), self.nodes.unwrap_or(NODES))?;
            ports::check_free(&members, "Stop what uses it, or choose other ports with --port.")?;
            let reads = self.reads.unwrap_or(Reads::Lease);
            let plan = Plan { name: "keypact", members: &members, reads, password: None };
            return Ok(Found { places: cluster::form(&self.dir, &plan)?, missing: Vec::new() });
        }
        let found = cluster::open(&self.dir)?;
        let mut places: Vec<&Place> = found.places.iter().chain(&found.missing).collect();
        places.sort_by_key(|place| place.member.id);
        self.fits(&places)?;
        // Of a missing folder too: its node may run yet, on files that have lost their names.
        let members: Vec<_> = places.iter().map(|place| place.member.clone()).collect();
        ports::check_free(&members, "Stop what uses it: the cluster in this folder keeps its ports.")?;
        Ok(found)
    }

    /// What was asked for must be what the folder holds.
    fn fits(&self, places: &[&Place]) -> Result<(), Failure> {
        let shown = self.dir.display();
        if let Some(nodes) = self.nodes.filter(|nodes| usize::from(*nodes) != places.len()) {
            return Err(Failure::cannot(format!(
                "{shown} holds a cluster of {} nodes, not of {nodes}: leave out --nodes, or choose another folder with --dir",
                places.len()
            )));
        }
        let resp = &places[0].member.resp;
        if let Some(port) = self.port.filter(|port| !resp.ends_with(&format!(":{port}"))) {
            return Err(Failure::cannot(format!(
                "{shown} holds a cluster whose node 1 is at {resp}, not at port {port}; its nodes know each other by the addresses with which it was formed, so these stay: leave out --port, or choose another folder with --dir"
            )));
        }
        if self.reads.is_some() {
            return Err(Failure::cannot(format!(
                "--reads is for a new cluster; for the one in {shown} change `reads` in each node's {}",
                places[0].config().file_name().unwrap_or_default().display()
            )));
        }
        Ok(())
    }

    fn announce(&self, fleet: &Fleet, answers: &[Answer]) -> Result<(), Failure> {
        let nodes: Vec<Started<'_>> = fleet
            .places()
            .enumerate()
            .map(|(index, place)| {
                Started::new(
                    fleet.pid(index),
                    place,
                    answers.iter().find(|answer| answer.node == place.member.id),
                )
            })
            .collect();
        if self.json {
            return say_json(
                &serde_json::json!({ "cluster": answers[0].cluster, "dir": self.dir, "nodes": nodes }),
            );
        }
        let rows: Vec<Vec<String>> = nodes.iter().map(Started::row).collect();
        say(table(&["node", "process", "RESP", "peer", "HTTP", "role"], &["node", "process"], &rows));
        self.say_what_next(&nodes);
        Ok(())
    }

    fn say_what_next(&self, nodes: &[Started<'_>]) {
        let port = |node: &Started<'_>| node.resp.rsplit(':').next().unwrap_or_default().to_owned();
        let (first, last) = (port(&nodes[0]), port(&nodes[nodes.len() - 1]));
        let binary = std::env::args().next().unwrap_or_else(|| "keypact".to_owned());
        say("\nTry:");
        say(format!("  redis-cli -p {first} set greeting hello"));
        say(format!("  redis-cli -p {last} get greeting          any node answers any key"));
        if let Some(leader) = nodes.iter().find(|node| node.role == "leader")
            && let Some(pid) = leader.pid
        {
            say(format!(
                "  kill -9 {pid}                            the leader; nothing acknowledged is lost"
            ));
        }
        say(format!("  {binary} status --port {first}"));
        say(format!("Data and logs are in {}. Ctrl-C stops all nodes.", self.dir.display()));
    }
}

/// The answer of whoever knows the most recent catalog.
fn newest_catalog(answers: &[Answer]) -> Option<&Answer> {
    answers.iter().max_by_key(|answer| answer.group("catalog").map_or(0, |group| group.applied))
}

/// A node that serves.
#[derive(Serialize)]
struct Started<'a> {
    id: u64,
    pid: Option<u32>,
    resp: &'a str,
    peer: &'a str,
    http: &'a str,
    role: &'a str,
    dir: &'a Path,
    log: PathBuf,
}

impl<'a> Started<'a> {
    fn new(pid: Option<u32>, place: &'a Place, answer: Option<&'a Answer>) -> Started<'a> {
        let role = answer.and_then(Answer::role).unwrap_or("unknown");
        let member = &place.member;
        let (resp, peer, http) = (member.resp.as_str(), member.peer.as_str(), member.http.as_str());
        Started { id: member.id, pid, resp, peer, http, role, dir: &place.folder, log: place.log() }
    }

    fn row(&self) -> Vec<String> {
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let (resp, peer, http) =
            (self.resp.to_owned(), self.peer.to_owned(), format!("http://{}", self.http));
        vec![self.id.to_string(), pid, resp, peer, http, self.role.to_owned()]
    }
}
