//! How a node comes to be: from its settings and what its disk kept.

use bytes::Bytes;
use core::fmt;

use keypact_coordination::raft::{self, Raft};
use keypact_data::{Loader, Partition};
use keypact_protocol::{
    Gate, GroupId, Incarnation, Lsn, NodeId, Plant, Protocol, Recover, RecoveryError, Wire, planted,
};
use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::config::{ConfigError, NodeConfig};
use crate::node::Node;
use crate::replica::{Machine, Replica};
use crate::{CATALOG, GROUPS, Member};

/// Why a node can't start. Nothing was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The settings don't fit together.
    Config(ConfigError),
    /// A checkpoint does not say what it should.
    Checkpoint {
        /// Whose.
        group: GroupId,
        /// What is wrong with it.
        what: String,
    },
    /// A log record does not say what it should.
    Record {
        /// Its place.
        lsn: Lsn,
        /// What is wrong with it.
        what: String,
    },
    /// The log and the checkpoint contradict each other.
    Recovery(RecoveryError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "configuration: {error}"),
            StartError::Checkpoint { group, what } => write!(f, "checkpoint of {group}: {what}"),
            StartError::Record { lsn, what } => write!(f, "log record {lsn}: {what}"),
            StartError::Recovery(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

enum State {
    Nothing,
    Catalog(Option<Catalog>),
    Loading(Box<Loader>),
    Ready(Machine),
}

struct GroupRecovery {
    meta: Option<Bytes>,
    state: State,
    raft: Option<<Raft as Protocol>::Recovery>,
}

/// Builds a node: for each group its checkpoint, if there is one; then all log records in order; then [`NodeRecovery::finish`].
pub struct NodeRecovery {
    config: NodeConfig,
    seed: u64,
    groups: BTreeMap<GroupId, GroupRecovery>,
}

impl fmt::Debug for NodeRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeRecovery of {}", self.config.id)
    }
}

impl NodeRecovery {
    /// Begins. All randomness of this life comes from `seed`, which must differ in every life.
    ///
    /// # Errors
    /// [`StartError::Config`] if the settings don't fit together.
    pub fn begin(config: NodeConfig, seed: u64) -> Result<NodeRecovery, StartError> {
        config.validate().map_err(StartError::Config)?;
        let groups = GROUPS
            .into_iter()
            .map(|group| (group, GroupRecovery { meta: None, state: State::Nothing, raft: None }))
            .collect();
        Ok(NodeRecovery { config, seed, groups })
    }

    /// A group's newest checkpoint, whose chunks follow. Checkpoints come before all records.
    ///
    /// # Errors
    /// [`StartError::Checkpoint`] for a group that this version does not know, or a second checkpoint.
    pub fn checkpoint(&mut self, group: GroupId, meta: Bytes) -> Result<(), StartError> {
        let recovery = self.group(group)?;
        if recovery.meta.is_some() || recovery.raft.is_some() {
            return Err(StartError::Checkpoint {
                group,
                what: String::from("it comes twice, or after records"),
            });
        }
        recovery.meta = Some(meta);
        recovery.state =
            if group == CATALOG { State::Catalog(None) } else { State::Loading(Box::new(Loader::new())) };
        Ok(())
    }

    /// The next chunk of the group's checkpoint.
    ///
    /// # Errors
    /// [`StartError::Checkpoint`] if it can't be understood.
    pub fn checkpoint_chunk(&mut self, group: GroupId, chunk: Bytes) -> Result<(), StartError> {
        let bad = |what: String| StartError::Checkpoint { group, what };
        match &mut self.group(group)?.state {
            State::Catalog(catalog) => {
                *catalog = Some(Catalog::from_chunk(&chunk).map_err(|error| bad(error.to_string()))?);
            }
            State::Loading(loader) => loader.chunk(chunk).map_err(|error| bad(error.to_string()))?,
            State::Nothing | State::Ready(_) => {
                return Err(bad(String::from("a chunk comes outside a checkpoint")));
            }
        }
        Ok(())
    }

    /// The group's checkpoint is complete.
    ///
    /// # Errors
    /// [`StartError::Checkpoint`] if it is not.
    pub fn checkpoint_end(&mut self, group: GroupId) -> Result<(), StartError> {
        let bad = |what: String| StartError::Checkpoint { group, what };
        let recovery = self.group(group)?;
        recovery.state = match core::mem::replace(&mut recovery.state, State::Nothing) {
            State::Catalog(Some(catalog)) => State::Ready(Machine::Catalog(catalog)),
            State::Loading(loader) => {
                let partition = loader.finish().map_err(|error| bad(error.to_string()))?;
                State::Ready(Machine::Data(Box::new(partition)))
            }
            _ => return Err(bad(String::from("it ends before it is complete"))),
        };
        Ok(())
    }

    /// The next log record.
    ///
    /// # Errors
    /// [`StartError`] if it can't be understood or contradicts what came before.
    pub fn replay(&mut self, lsn: Lsn, group: GroupId, body: Bytes) -> Result<(), StartError> {
        let bad = |what: String| StartError::Record { lsn, what };
        if !self.groups.contains_key(&group) {
            return Err(bad(format!("group {group} is not known to this version")));
        }
        let record = raft::Record::decode(body).map_err(|error| bad(error.to_string()))?;
        self.raft(group)?.replay(lsn, record).map_err(StartError::Recovery)
    }

    /// Ends recovery. The log is durable up to `durable`.
    ///
    /// # Errors
    /// [`StartError`] if a checkpoint is not complete.
    pub fn finish(mut self, durable: Lsn) -> Result<Node, StartError> {
        let mut replicas = Vec::new();
        for group in GROUPS {
            self.raft(group)?;
            let recovery = self.groups.remove(&group).expect("all groups were there from the start");
            let machine = match recovery.state {
                State::Ready(machine) => machine,
                State::Nothing if group == CATALOG => Machine::Catalog(Catalog::default()),
                State::Nothing => Machine::Data(Box::new(Partition::new(self.config.hash_key))),
                State::Catalog(_) | State::Loading(_) => {
                    return Err(StartError::Checkpoint { group, what: String::from("it is not complete") });
                }
            };
            let raft = recovery.raft.expect("just begun").finish();
            replicas.push(Replica {
                group,
                raft,
                gate: Gate::new(durable),
                machine,
                touched: false,
                needs_from: Lsn::ZERO,
                checkpoint: None,
                install: None,
                stale_first_chunks: 0,
                reads_at: BTreeMap::new(),
            });
        }
        let life = self.seed;
        Ok(Node::new(self.config, replicas, life, durable))
    }

    fn group(&mut self, group: GroupId) -> Result<&mut GroupRecovery, StartError> {
        let unknown =
            StartError::Checkpoint { group, what: String::from("the group is not known to this version") };
        self.groups.get_mut(&group).ok_or(unknown)
    }

    fn raft(&mut self, group: GroupId) -> Result<&mut <Raft as Protocol>::Recovery, StartError> {
        // Each group draws from a seed of its own, or all would ask for votes at the same moments.
        let seed = self.seed ^ group.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let config = group_config(&self.config);
        let recovery = self.group(group)?;
        if recovery.raft.is_none() {
            let begun = Raft::begin(config, recovery.meta.clone(), seed).map_err(StartError::Recovery)?;
            recovery.raft = Some(begun);
        }
        Ok(recovery.raft.as_mut().expect("just begun"))
    }
}

/// The settings of a node's Raft groups.
pub(crate) fn group_config(node: &NodeConfig) -> raft::Config {
    // Who joins learns from a leader who the members are, and has no vote before that.
    let forgets_loss = planted(Plant::LostFolderFounds) && node.incarnation > Incarnation(1);
    let founders = node.members.iter().filter(|_| node.founder || forgets_loss);
    let life = |m: &Member| Incarnation(if forgets_loss { 1 } else { m.incarnation });
    let members = founders.map(|m| (NodeId(m.id), life(m))).collect();
    let mut config = raft::Config::new(node.id, members);
    config.incarnation = if forgets_loss { Incarnation(1) } else { node.incarnation };
    config.heartbeat_ms = node.heartbeat_ms;
    config.election_timeout_ms = node.election_timeout_ms;
    config.election_jitter_ms = node.election_jitter_ms;
    config.drift_bound_ppm = node.drift_bound_ppm;
    config.disk_hang_ms = node.disk_hang_ms;
    config.tail_limit_bytes = node.tail_limit_bytes;
    config.checkpoint_after_bytes = node.checkpoint_after_bytes;
    config.max_command_bytes = node.value_limit_bytes.saturating_add(64 * 1024);
    config
}
