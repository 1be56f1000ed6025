//! What a node can say about itself and the cluster.

use serde::Serialize;

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
