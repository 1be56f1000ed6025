//! What a node can say about itself and the cluster.

use keypact_coordination::raft::{self, Raft};
use serde::Serialize;

use crate::CATALOG;
use crate::node::{DEFAULT_AT, Node};
use crate::replica::Replica;

/// A node's part in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
}

/// One node as another sees it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Where clients reach it.
    pub resp: String,
    /// Where peers reach it.
    pub peer: String,
    /// Its admin HTTP.
    pub http: String,
    /// Whether it was heard lately.
    pub alive: bool,
    /// Its part in group `default`, as the answering node sees it.
    pub role: Role,
}

/// One group as the answering node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct GroupStatus {
    /// `catalog` or the keyspace's name.
    pub name: String,
    /// The term.
    pub term: u64,
    /// The leader's node id, if one is known.
    pub leader: Option<u64>,
    /// Index up to which the log is committed, as far as this node knows.
    pub commit: u64,
    /// Index up to which this node has applied it.
    pub applied: u64,
    /// On the leader: how many entries the slowest member lacks. Elsewhere: how many entries this node has yet to apply.
    pub lag: u64,
    /// Bytes of the log held in memory since the last checkpoint.
    pub tail_bytes: u64,
}

/// A node's answer to "how are you".
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The node that answers.
    pub node: u64,
    /// All members.
    pub nodes: Vec<NodeStatus>,
    /// All groups.
    pub groups: Vec<GroupStatus>,
    /// Keys in `default`, as applied here.
    pub keys: u64,
    /// Bytes of keys and values in `default`, as applied here.
    pub memory_bytes: u64,
}

impl Node {
    /// What this node can say about itself and the cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let default = &self.replicas[DEFAULT_AT];
        let leader = default.raft.leader();
        let nodes = self.config.members.iter().map(|member| {
            let id = member.node_id();
            NodeStatus {
                id: member.id,
                resp: member.resp.clone(),
                peer: member.peer.clone(),
                http: member.http.clone(),
                alive: id == self.config.id || self.reachable.contains(&id),
                role: if id == self.config.id {
                    role(&default.raft)
                } else if leader == Some(id) {
                    Role::Leader
                } else {
                    Role::Follower
                },
            }
        });
        let groups = self.replicas.iter().map(|replica| GroupStatus {
            name: String::from(if replica.group == CATALOG { "catalog" } else { "default" }),
            term: replica.raft.term(),
            leader: replica.raft.leader().map(|id| id.0),
            commit: replica.raft.commit_index(),
            applied: replica.applied_index(),
            lag: lag(replica),
            tail_bytes: replica.raft.tail().len_bytes() as u64,
        });
        Status {
            cluster: self.config.cluster.clone(),
            node: self.config.id.0,
            nodes: nodes.collect(),
            groups: groups.collect(),
            keys: self.partition().len() as u64,
            memory_bytes: self.partition().memory_bytes(),
        }
    }

    /// Commands that wait or are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }
}

fn role(raft: &Raft) -> Role {
    match raft.role() {
        raft::Role::Leader => Role::Leader,
        raft::Role::Follower => Role::Follower,
        raft::Role::PreCandidate | raft::Role::Candidate => Role::Candidate,
    }
}

fn lag(replica: &Replica) -> u64 {
    let last = replica.raft.last().index;
    let slowest = replica.raft.peers().map(|peer| peer.matched).min();
    match slowest.filter(|_| replica.leads()) {
        Some(matched) => last.saturating_sub(matched),
        None => replica.raft.commit_index().saturating_sub(replica.applied_index()),
    }
}
