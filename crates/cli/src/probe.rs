//! Asking nodes how they are, each by itself: `KEYPACT STATUS` on the clients' port.

use std::collections::BTreeMap;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use keypact_client::{Connection, Timeouts, Value};
use serde::{Deserialize, Serialize};

use crate::config::PASSWORD_VARIABLE;
use crate::failure::Failure;
use crate::output::note;

/// If a node does not answer, those whose ports are at most so far away are asked.
const NEIGHBOURS: u16 = 2;

/// A command that asks again and again says once whom it could not ask, and once whom it asks in its place.
static NOT_ASKED: Once = Once::new();
static ASKED_INSTEAD: Once = Once::new();

/// One node's own answer; fields that nobody here reads are left out.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// Who answers.
    pub(crate) node: u64,
    /// All nodes of the cluster.
    pub(crate) nodes: Vec<Member>,
    /// Nodes that were removed.
    pub(crate) gone: Vec<Gone>,
    /// Nodes that ask to be let in, and that the cluster does not know.
    pub(crate) asking: Vec<u64>,
    /// All groups, as it sees them.
    pub(crate) groups: Vec<Group>,
}

/// A member as another sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) id: u64,
    /// Which life of its folder.
    pub(crate) incarnation: u64,
    /// Where clients reach it.
    pub(crate) resp: String,
    /// Where peers reach it.
    pub(crate) peer: String,
    /// Its admin HTTP.
    pub(crate) http: String,
    /// Its part in group `default`: its own word only in its own answer.
    pub(crate) role: String,
}

/// A group as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// `catalog`, or the keyspace's name.
    pub(crate) name: String,
    /// The term.
    pub(crate) term: u64,
    /// The leader, if one is known.
    pub(crate) leader: Option<u64>,
    /// Index up to which the log is committed.
    pub(crate) commit: u64,
    /// Index up to which it is applied there.
    pub(crate) applied: u64,
    /// On the leader: how many entries the slowest member lacks.
    pub(crate) lag: u64,
    /// Its members, by the last configuration in the log there.
    pub(crate) members: Vec<Seat>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// The node.
    pub(crate) node: u64,
    /// Under which life of its folder.
    pub(crate) incarnation: u64,
    /// `voter`, `learner`, `joining` or `leaving`.
    pub(crate) seat: String,
    /// As the leader sees it: how many entries it lacks.
    pub(crate) missing: Option<u64>,
}

/// A life of a node's folder that was removed, and all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    /// The node.
    pub(crate) node: u64,
    /// The last of its lives that is over.
    pub(crate) incarnation: u64,
}

/// The group of keyspace `default`, whose leader people ask for.
pub(crate) const DEFAULT_GROUP: &str = "default";

impl Answer {
    /// This node's own word on its part in `default`.
    pub(crate) fn role(&self) -> Option<&str> {
        self.nodes.iter().find(|member| member.id == self.node).map(|member| member.role.as_str())
    }

    /// Whether this life of a node's folder was removed.
    pub(crate) fn is_gone(&self, node: u64, incarnation: u64) -> bool {
        self.gone.iter().any(|gone| gone.node == node && incarnation <= gone.incarnation)
    }

    /// The first life under which this node may come, as far as this answer tells.
    pub(crate) fn next_life(&self, node: u64) -> u64 {
        let gone = self.gone.iter().filter(|gone| gone.node == node).map(|gone| gone.incarnation);
        let there = self.nodes.iter().filter(|member| member.id == node).map(|member| member.incarnation);
        gone.chain(there).max().unwrap_or(0) + 1
    }

    /// A group by its name.
    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }
}

/// How to ask.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// What to say in `AUTH`.
    pub(crate) password: Option<String>,
    /// How long a node may take to accept, and to answer.
    pub(crate) patience: Duration,
}

impl Asking {
    /// Asks one node.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(crate) fn ask(&self, address: &str) -> Result<Answer, String> {
        let mut connection = self.open(address)?;
        match connection.call(&[b"KEYPACT", b"STATUS"]).map_err(|error| error.to_string())? {
            Value::Bulk(json) => {
                serde_json::from_slice(&json).map_err(|error| format!("no status of a Keypact node: {error}"))
            }
            Value::Error(reply) => Err(reply.to_string()),
            _ => Err(String::from("no status of a Keypact node")),
        }
    }

    /// A connection on which commands can be called.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) fn open(&self, address: &str) -> Result<Connection, String> {
        let timeouts = Timeouts { connect: self.patience, answer: self.patience };
        let mut connection = Connection::open(address, timeouts).map_err(|error| error.to_string())?;
        if let Some(password) = &self.password {
            connection.auth(password).map_err(|error| error.to_string())?;
        }
        Ok(connection)
    }

    /// The answer of the node at `host:port`, or else of one whose port is near.
    ///
    /// # Errors
    /// None of them answers, or the first one wants another password: its neighbours would, too.
    pub(crate) fn ask_near(&self, host: &str, port: u16) -> Result<Answer, Failure> {
        let address = |port: u16| format!("{host}:{port}");
        let error = match self.ask(&address(port)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if wants_password(&error) {
            return Err(Failure::wrong(format!(
                "{} wants another password ({error}): {PASSWORD_VARIABLE} or --password must say what `password` in the node's keypact.toml says, or nothing if that says nothing",
                address(port)
            )));
        }
        NOT_ASKED.call_once(|| note(format!("{} does not answer: {error}", address(port))));
        let near = |distance: u16| [port.checked_add(distance), port.checked_sub(distance)];
        let ports = (1..=NEIGHBOURS).flat_map(near).flatten().filter(|port| *port > 0);
        let addresses: Vec<String> = ports.map(address).collect();
        for (address, answer) in addresses.iter().zip(self.ask_all(&addresses)) {
            if let Ok(answer) = answer {
                let port = address.rsplit(':').next().unwrap_or(address);
                ASKED_INSTEAD.call_once(|| {
                    note(format!("asked {address} instead (node {}): --port {port}", answer.node));
                });
                return Ok(answer);
            }
        }
        Err(Failure::wrong(format!(
            "no node answers at {}, nor at the neighbouring ports: is the cluster up? Say where with --host and --port",
            address(port)
        )))
    }

    /// What all nodes say that `first` knows of, itself included; each must be the one that is expected there.
    pub(crate) fn ask_cluster(&self, first: &Answer) -> BTreeMap<u64, Result<Answer, String>> {
        let others = || first.nodes.iter().filter(|node| node.id != first.node);
        let addresses: Vec<String> = others().map(|node| node.resp.clone()).collect();
        let mut answers: BTreeMap<u64, Result<Answer, String>> = BTreeMap::new();
        for (node, answer) in others().zip(self.ask_all(&addresses)) {
            answers.insert(node.id, answer.and_then(|answer| expected(answer, node.id, &first.cluster)));
        }
        answers.insert(first.node, Ok(first.clone()));
        answers
    }

    /// Asks several nodes at the same time; answers in the order of the addresses.
    pub(crate) fn ask_all(&self, addresses: &[String]) -> Vec<Result<Answer, String>> {
        thread::scope(|scope| {
            let asked: Vec<_> = addresses
                .iter()
                .map(|address| thread::Builder::new().spawn_scoped(scope, move || self.ask(address)))
                .collect();
            let told = |thread: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match thread {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|_| Err(String::from("asking it failed, which is a bug")))
                }
                Err(error) => Err(format!("no thread to ask it: {error}")),
            };
            asked.into_iter().map(told).collect()
        })
    }
}

/// A group as its leader sees it; without one, as the node with the newest term and commit does.
pub(crate) fn best_view<'a>(name: &str, told: &[&'a Answer]) -> Option<&'a Group> {
    let views = told.iter().filter_map(|answer| answer.group(name).map(|group| (answer.node, group)));
    views
        .max_by_key(|(node, group)| (group.term, group.leader == Some(*node), group.commit))
        .map(|(_, group)| group)
}

/// Whether all of these nodes serve: each answers and knows, for every group, the same leader.
pub(crate) fn all_serve(answers: &[Result<Answer, String>]) -> bool {
    let leader_of = |answer: &Answer, name: &str| answer.group(name).and_then(|group| group.leader);
    let Some(Ok(first)) = answers.first() else { return false };
    let agreed = |answer: &Result<Answer, String>| {
        answer.as_ref().is_ok_and(|answer| {
            first
                .groups
                .iter()
                .all(|group| group.leader.is_some() && leader_of(answer, &group.name) == group.leader)
        })
    };
    !first.groups.is_empty() && answers.iter().all(agreed)
}

/// Whether a node was reached, and did not answer for want of the right password, or because it has none.
fn wants_password(error: &str) -> bool {
    ["NOAUTH ", "WRONGPASS ", "ERR AUTH "].iter().any(|reply| error.contains(reply))
}

/// At a member's address there must be that member.
fn expected(answer: Answer, id: u64, cluster: &str) -> Result<Answer, String> {
    match answer.node == id && answer.cluster == cluster {
        true => Ok(answer),
        false => Err(format!("node {} of cluster {} answers there", answer.node, answer.cluster)),
    }
}

/// The leader of `default`: the node that says so of itself; of two, the one with the higher term.
pub(crate) fn leader<'a>(answers: impl Iterator<Item = &'a Answer>) -> Option<&'a Answer> {
    let leads = |answer: &&Answer| answer.role() == Some("leader");
    answers.filter(leads).max_by_key(|answer| answer.group(DEFAULT_GROUP).map_or(0, |group| group.term))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node's answer in a cluster of three.
    pub(crate) fn answer(node: u64, role: &str, term: u64, leader: Option<u64>) -> Answer {
        let member = |id| Member {
            id,
            resp: format!("127.0.0.1:{}", 7000 + id),
            peer: format!("127.0.0.1:{}", 7100 + id),
            http: format!("127.0.0.1:{}", 7200 + id),
            incarnation: 1,
            role: if id == node { role.to_owned() } else { "follower".to_owned() },
        };
        let seat = |node| Seat { node, incarnation: 1, seat: "voter".to_owned(), missing: None };
        let group = |name: &str| Group {
            name: name.to_owned(),
            term,
            leader,
            commit: 9,
            applied: 9,
            lag: 0,
            members: (1..=3).map(seat).collect(),
        };
        Answer {
            cluster: "c".to_owned(),
            node,
            gone: Vec::new(),
            asking: Vec::new(),
            nodes: (1..=3).map(member).collect(),
            groups: vec![group("catalog"), group(DEFAULT_GROUP)],
        }
    }

    #[test]
    fn all_serve_once_they_agree_on_a_leader() {
        let (one, two) = (answer(1, "leader", 2, Some(1)), answer(2, "follower", 2, Some(1)));
        assert!(all_serve(&[Ok(one.clone()), Ok(two.clone())]));
        assert!(!all_serve(&[Ok(one.clone()), Ok(answer(2, "follower", 1, None))]));
        assert!(!all_serve(&[Ok(one.clone()), Ok(answer(2, "leader", 3, Some(2)))]));
        assert!(!all_serve(&[Ok(one), Err("gone".to_owned())]));
        assert!(!all_serve(&[]));
    }

    #[test]
    fn of_two_leaders_the_one_with_the_higher_term_counts() {
        let (old, new) = (answer(1, "leader", 2, Some(1)), answer(3, "leader", 5, Some(3)));
        assert_eq!(leader([&old, &new].into_iter()).map(|answer| answer.node), Some(3));
        assert_eq!(leader([&new, &old].into_iter()).map(|answer| answer.node), Some(3));
        assert!(leader([&answer(2, "follower", 5, Some(3))].into_iter()).is_none());
    }

    #[test]
    fn a_stranger_at_a_members_address_is_not_that_member() {
        assert!(expected(answer(2, "follower", 1, None), 2, "c").is_ok());
        assert!(
            expected(answer(2, "follower", 1, None), 3, "c").unwrap_err().contains("node 2 of cluster c")
        );
        assert!(expected(answer(2, "follower", 1, None), 2, "other").is_err());
    }
}
