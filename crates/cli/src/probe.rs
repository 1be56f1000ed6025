//! Asking nodes how they are, each by itself: `KEYPACT STATUS` on the clients' port.

use std::thread;
use std::time::Duration;

use keypact_client::{Connection, Timeouts, Value};
use serde::{Deserialize, Serialize};

/// One node's own answer; fields that nobody here reads are left out.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// Who answers.
    pub(crate) node: u64,
    /// All members.
    pub(crate) nodes: Vec<Member>,
    /// All groups, as it sees them.
    pub(crate) groups: Vec<Group>,
}

/// A member as another sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) id: u64,
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
}

/// The group of keyspace `default`, whose leader people ask for.
pub(crate) const DEFAULT_GROUP: &str = "default";

impl Answer {
    /// This node's own word on its part in `default`.
    pub(crate) fn role(&self) -> Option<&str> {
        self.nodes.iter().find(|member| member.id == self.node).map(|member| member.role.as_str())
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
        let timeouts = Timeouts { connect: self.patience, answer: self.patience };
        let mut connection = Connection::open(address, timeouts).map_err(|error| error.to_string())?;
        if let Some(password) = &self.password {
            connection.auth(password).map_err(|error| error.to_string())?;
        }
        match connection.call(&[b"KEYPACT", b"STATUS"]).map_err(|error| error.to_string())? {
            Value::Bulk(json) => {
                serde_json::from_slice(&json).map_err(|error| format!("no status of a Keypact node: {error}"))
            }
            Value::Error(reply) => Err(reply.to_string()),
            _ => Err(String::from("no status of a Keypact node")),
        }
    }

    /// Asks several nodes at the same time; answers in the order of the addresses.
    pub(crate) fn ask_all(&self, addresses: &[String]) -> Vec<Result<Answer, String>> {
        thread::scope(|scope| {
            let asked: Vec<_> =
                addresses.iter().map(|address| scope.spawn(move || self.ask(address))).collect();
            let told = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(String::from("asking it failed, which is a bug")))
            };
            asked.into_iter().map(told).collect()
        })
    }
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
            role: if id == node { role.to_owned() } else { "follower".to_owned() },
        };
        let group = |name: &str| Group { name: name.to_owned(), term, leader, commit: 9, applied: 9, lag: 0 };
        Answer {
            cluster: "c".to_owned(),
            node,
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
}
