//! What a node must be told.

use core::fmt;

use keypact_protocol::{Incarnation, NodeId};

use crate::roster::NODES_MAX;

const HOUR_MS: u64 = 3_600_000;

/// How a keyspace answers reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// Linearizable by the leader's lease, within the stated drift bound of the nodes' monotonic clocks; confirmed with a majority beyond it.
    Lease,
    /// Linearizable whatever the clocks do: each batch of reads is confirmed with a majority.
    ReadIndex,
    /// Whatever the node that is asked has applied.
    Stale,
}

impl Reads {
    /// Its name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reads::Lease => "lease",
            Reads::ReadIndex => "read-index",
            Reads::Stale => "stale",
        }
    }

    /// The level with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Reads> {
        [Reads::Lease, Reads::ReadIndex, Reads::Stale].into_iter().find(|reads| reads.name() == name)
    }
}

/// One member of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its id, from 1.
    pub id: u64,
    /// Which life of its folder.
    pub incarnation: u64,
    /// Where clients reach it, `host:port`.
    pub resp: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Its admin HTTP, `host:port`.
    pub http: String,
}

impl Member {
    /// Its id as a type of its own.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.id)
    }
}

/// All that a node must be told. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node.
    pub id: NodeId,
    /// Which life of its folder.
    pub incarnation: Incarnation,
    /// The cluster's name for itself, given at `init`.
    pub cluster: String,
    /// Key of the hash by which `default`'s keys are put into buckets, created with the cluster.
    pub hash_key: [u8; 16],
    /// Whether it was there when the cluster was formed, with all of `members`. If not it joins, with an empty folder, and the catalog says
    /// whether it belongs.
    pub founder: bool,
    /// The founders; of a node that joins: itself, and those whom it asks. This node is among them.
    pub members: Vec<Member>,
    /// How keyspace `default` answers reads.
    pub reads: Reads,
    /// A leader says so this often.
    pub heartbeat_ms: u64,
    /// A follower that heard nothing for this long, and up to `election_jitter_ms` more, asks for votes.
    pub election_timeout_ms: u64,
    /// See `election_timeout_ms`.
    pub election_jitter_ms: u64,
    /// How far two nodes' monotonic clocks may part, parts per million of the time passed. Leases are shortened by it.
    pub drift_bound_ppm: u64,
    /// How far what a node takes for wall time may be from what a majority of the members' clocks have reached. A leader whose clock is
    /// further off stamps entries at this distance.
    pub clock_skew_bound_ms: u64,
    /// A write to disk that takes longer than this makes a leader step down.
    pub disk_hang_ms: u64,
    /// How long a command waits for a leader before it is refused.
    pub hold_ms: u64,
    /// How long a forwarded command waits for its answer before its outcome is called uncertain.
    pub forward_timeout_ms: u64,
    /// Commands of one connection that may be under way or waiting.
    pub session_limit: usize,
    /// `KEYS` looks at so many keys in one go, and the rest of a bucket; then the node does what else there is to do.
    pub keys_at_once: usize,
    /// Largest value, bytes.
    pub value_limit_bytes: usize,
    /// A group writes a checkpoint when its log since the last is longer than this.
    pub checkpoint_after_bytes: usize,
    /// And refuses proposals when it is longer than this.
    pub tail_limit_bytes: usize,
}

impl NodeConfig {
    /// The default settings for a node of this cluster.
    #[must_use]
    pub fn new(id: NodeId, members: Vec<Member>) -> NodeConfig {
        let incarnation = members.iter().find(|m| m.id == id.0).map_or(0, |m| m.incarnation);
        NodeConfig {
            id,
            incarnation: Incarnation(incarnation),
            cluster: String::from("keypact"),
            hash_key: [0; 16],
            founder: true,
            members,
            reads: Reads::Lease,
            heartbeat_ms: 50,
            election_timeout_ms: 300,
            election_jitter_ms: 200,
            drift_bound_ppm: 20_000,
            clock_skew_bound_ms: 500,
            disk_hang_ms: 2_000,
            hold_ms: 3_000,
            forward_timeout_ms: 3_000,
            session_limit: 4_096,
            keys_at_once: 4_096,
            value_limit_bytes: 16 << 20,
            checkpoint_after_bytes: 64 << 20,
            tail_limit_bytes: 256 << 20,
        }
    }

    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let me = self.members.iter().filter(|m| m.id == self.id.0).count();
        let mut ids: Vec<u64> = self.members.iter().map(|m| m.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mine = self.members.iter().find(|m| m.id == self.id.0).map(|m| m.incarnation);
        let times_ms = [
            self.heartbeat_ms,
            self.election_timeout_ms,
            self.election_jitter_ms,
            self.clock_skew_bound_ms,
            self.disk_hang_ms,
            self.hold_ms,
            self.forward_timeout_ms,
        ];
        let checks = [
            (me == 1, "the node itself must be among the members, once"),
            (ids.len() == self.members.len(), "each member needs an id of its own"),
            (ids.first() != Some(&0), "members' ids count from 1"),
            (
                mine == Some(self.incarnation.0),
                "the node's incarnation must be the one that the members know",
            ),
            (
                self.members.len() <= NODES_MAX || !self.founder,
                "at most 7 members: each write waits for a majority of them",
            ),
            (self.members.len() <= 2 * NODES_MAX, "at most 14 nodes to ask"),
            (times_ms.iter().all(|ms| *ms <= HOUR_MS), "no time may be longer than an hour"),
            (self.heartbeat_ms > 0, "heartbeat_ms must be at least 1"),
            (
                self.election_timeout_ms >= 3 * self.heartbeat_ms,
                "election_timeout_ms must be at least 3 x heartbeat_ms",
            ),
            (
                self.election_jitter_ms > 0,
                "election_jitter_ms must be at least 1, or candidates split the vote for ever",
            ),
            (self.drift_bound_ppm < 500_000, "drift_bound_ppm must be under 500000"),
            (
                self.clock_skew_bound_ms > 0,
                "clock_skew_bound_ms must be at least 1: clocks are never quite equal",
            ),
            (self.disk_hang_ms > 0, "disk_hang_ms must be at least 1"),
            (self.hold_ms > 0, "hold_ms must be at least 1"),
            (self.forward_timeout_ms > 0, "forward_timeout_ms must be at least 1"),
            (self.session_limit > 0, "session_limit must be at least 1"),
            (self.keys_at_once > 0, "keys_at_once must be at least 1"),
            (self.value_limit_bytes > 0, "value_limit_bytes must be at least 1"),
            (self.checkpoint_after_bytes > 0, "checkpoint_after_bytes must be at least 1"),
            (
                self.checkpoint_after_bytes <= self.tail_limit_bytes / 2,
                "checkpoint_after_bytes must be at most half of tail_limit_bytes",
            ),
            (
                self.value_limit_bytes.saturating_add(64 * 1024) <= self.tail_limit_bytes / 2,
                "value_limit_bytes and 64 KiB must be at most half of tail_limit_bytes",
            ),
        ];
        if let Some((_, what)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(ConfigError { what });
        }
        crate::recovery::group_config(self).validate().map_err(|error| ConfigError { what: error.what() })
    }
}

/// Settings that don't fit together. Nothing was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Which, and what would be right.
    pub what: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl core::error::Error for ConfigError {}
