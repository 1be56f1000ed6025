//! What a node can say about itself and the cluster.

use keypact_coordination::raft::{self, Raft, Seat};
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

/// A member of a group as the answering node knows it.
#[derive(Clone, Debug, Serialize)]
pub struct SeatStatus {
    /// The node.
    pub node: u64,
    /// Under which life of its folder.
    pub incarnation: u64,
    /// `voter`, `learner`, `joining` or `leaving`.
    pub seat: &'static str,
    /// On the leader: how many entries it lacks. 0 for the leader itself.
    pub missing: Option<u64>,
}

/// One node as another sees it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Which life of its folder belongs to the cluster.
    pub incarnation: u64,
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
    /// Its members by the last configuration in this node's log, by node.
    pub members: Vec<SeatStatus>,
}

/// A life of a node's folder that was removed, and all before.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GoneStatus {
    /// The node.
    pub node: u64,
    /// The last of its lives that is over.
    pub incarnation: u64,
}

/// A node's answer to "how are you".
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The node that answers.
    pub node: u64,
    /// Which life of its folder answers.
    pub incarnation: u64,
    /// Whether that life was removed from the cluster.
    pub removed: bool,
    /// All nodes of the cluster, as far as this one knows.
    pub nodes: Vec<NodeStatus>,
    /// Nodes that were removed.
    pub gone: Vec<GoneStatus>,
    /// Nodes that ask this one to be admitted, and that the cluster does not know.
    pub asking: Vec<u64>,
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
        let groups = self.replicas.iter().map(|replica| GroupStatus {
            name: String::from(if replica.group == CATALOG { "catalog" } else { "default" }),
            term: replica.raft.term(),
            leader: replica.raft.leader().map(|id| id.0),
            commit: replica.raft.commit_index(),
            applied: replica.applied_index(),
            lag: lag(replica),
            tail_bytes: replica.raft.tail().len_bytes() as u64,
            members: seats(&replica.raft),
        });
        let gone = self.roster().gone().iter();
        Status {
            cluster: self.config.cluster.clone(),
            node: self.config.id.0,
            incarnation: self.config.incarnation.0,
            removed: self.is_gone(),
            nodes: self.node_rows(),
            gone: gone.map(|&(node, incarnation)| GoneStatus { node, incarnation }).collect(),
            asking: self.asking().iter().map(|member| member.id).collect(),
            groups: groups.collect(),
            keys: self.partition().len() as u64,
            memory_bytes: self.partition().memory_bytes(),
        }
    }

    /// All nodes that it knows; and itself, though it may not be one of them.
    fn node_rows(&self) -> Vec<NodeStatus> {
        let default = &self.replicas[DEFAULT_AT];
        let leader = default.raft.leader();
        let own = self.config.members.iter().filter(|member| member.node_id() == self.config.id);
        let own = own.filter(|_| self.roster().node(self.config.id).is_none());
        let rows = self.roster().nodes().iter().chain(own).map(|member| {
            let id = member.node_id();
            NodeStatus {
                id: member.id,
                incarnation: member.incarnation,
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
        let mut rows: Vec<NodeStatus> = rows.collect();
        rows.sort_by_key(|row| row.id);
        assert!(rows.windows(2).all(|pair| pair[0].id < pair[1].id), "a node stands once");
        rows
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

fn seats(raft: &Raft) -> Vec<SeatStatus> {
    let leads = raft.role() == raft::Role::Leader;
    let missing = |node| {
        let own = (leads && node == raft.config().id).then_some(0);
        own.or_else(|| raft.peers().find(|peer| peer.id == node).map(|peer| behind(raft, peer.matched)))
    };
    let rows = raft.membership().members().iter().map(|member| SeatStatus {
        node: member.id.0,
        incarnation: member.incarnation.0,
        seat: match member.seat {
            Seat::Voter => "voter",
            Seat::Learner => "learner",
            Seat::Joining => "joining",
            Seat::Leaving => "leaving",
        },
        missing: missing(member.id),
    });
    rows.collect()
}

fn behind(raft: &Raft, matched: u64) -> u64 {
    raft.last().index.saturating_sub(matched)
}

fn lag(replica: &Replica) -> u64 {
    let last = replica.raft.last().index;
    let slowest = replica.raft.peers().map(|peer| peer.matched).min();
    match slowest.filter(|_| replica.leads()) {
        Some(matched) => last.saturating_sub(matched),
        None => replica.raft.commit_index().saturating_sub(replica.applied_index()),
    }
}
