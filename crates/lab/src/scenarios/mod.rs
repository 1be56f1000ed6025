//! The scenarios, one file each, and the list of them.
//!
//! A new one is a file here, a line in [`ENTRIES`], and nothing else: `keypact sim`, the tests and `cargo xtask verify` read the list.

mod beyond;
mod broadcast;
mod causal;
mod chain;
mod circuit_breaker;
mod crdt;
mod failing_service;
mod fifo;
mod gossip;
mod hash;
mod idempotency;
mod judge;
mod leader_follower;
mod node;
mod pace;
pub(crate) mod partitioning;
mod raft;
mod range;
mod retry;
mod ring;
mod seat;
mod total;
mod two_phase_commit;

use std::ops::Range;

use crate::sim::{Options, SimReport, run_scenario};

pub use beyond::BeyondScenario;
pub use broadcast::{
    BroadcastClients, BroadcastWork, Directed, DirectedConfig, DirectedRecovering, DirectedTimer, Enveloped,
    Inbox, Note, Opened, Opens, Views,
};
pub use causal::{CausalScenario, CausalWatch};
pub(crate) use chain::CatalogConfig as ChainCatalogConfig;
pub use chain::{ChainCatalog, ChainScenario, ChainSeat, ChainWatch};
pub use circuit_breaker::{BreakerClients, CircuitBreakerScenario};
pub use crdt::{BoardClients, BoardWatch, BoardWork, CrdtScenario, Replica, ReplicaConfig, ReplicaDisk};
pub use failing_service::{EffectWatch, Reached, Service};
pub use fifo::{FifoScenario, FifoWatch};
use gossip::GossipScenario;
use hash::HashScenario;
pub use idempotency::{IdempotencyScenario, TokenClients};
pub(crate) use leader_follower::AssignerConfig;
pub use leader_follower::{
    Assigner, LeaderFollowerClients, LeaderFollowerScenario, LeaderFollowerSeat, LeaderFollowerWatch,
};
pub use node::NodeScenario;
pub use raft::{
    Member, MemberConfig, MemberMessage, MemberRecord, MemberRecovering, MemberTimer, MemberWatch,
    RaftScenario,
};
use range::RangeScenario;
pub use retry::{RetryClients, RetryScenario};
use ring::RingScenario;
pub use seat::{Catalog, Seat, SeatConfig, SeatRecord, SeatRecovering, SeatTimer, Way, Wishes};
pub(crate) use total::{Appointer, AppointerConfig, RaftLog};
use total::{RaftKind, SequencerKind, TotalScenario};
pub(crate) use two_phase_commit::{
    LedgerConfig, ListOperation, MachineConfig, MachineDisk, MachineProcess,
    ReplicaConfig as TransactionReplicaConfig, Reply as TransactionReply, Request as TransactionRequest,
    Role, TwoPhaseCommitScenario,
};

/// A scenario, for a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScenarioInfo {
    /// Its name on the command line.
    pub name: &'static str,
    /// What runs, one line.
    pub about: &'static str,
}

/// A scenario that can be run.
pub(crate) struct Entry {
    pub(crate) info: ScenarioInfo,
    pub(crate) run: fn(Range<u64>, Options<'_>) -> SimReport,
}

const fn entry(
    name: &'static str,
    about: &'static str,
    run: fn(Range<u64>, Options<'_>) -> SimReport,
) -> Entry {
    Entry { info: ScenarioInfo { name, about }, run }
}

/// All of them.
pub(crate) static ENTRIES: &[Entry] = &[
    entry("raft", "the protocol alone, with all its invariants", |seeds, options| {
        run_scenario(&RaftScenario::default(), seeds, options)
    }),
    entry("node", "whole nodes with clients, on simulated disks", |seeds, options| {
        run_scenario(&NodeScenario, seeds, options)
    }),
    entry(
        "leader-follower",
        "leader-follower alone, with a small catalog that changes leaders",
        |seeds, options| run_scenario(&LeaderFollowerScenario, seeds, options),
    ),
    entry("chain", "chain replication alone, with a small catalog that resplices it", |seeds, options| {
        run_scenario(&ChainScenario, seeds, options)
    }),
    entry(
        "gossip",
        "replicas that all take writes, with a small catalog; they leave, come back, lose their disks",
        |seeds, options| run_scenario(&GossipScenario, seeds, options),
    ),
    entry("range", "ordered slices split, merge and move under crashes; range queries", |seeds, options| {
        run_scenario(&RangeScenario, seeds, options)
    }),
    entry("hash", "slots move under crashes; keys with one tag stay together", |seeds, options| {
        run_scenario(&HashScenario, seeds, options)
    }),
    entry("ring", "nodes join and leave a ring under crashes", |seeds, options| {
        run_scenario(&RingScenario, seeds, options)
    }),
    entry("fifo", "a broadcast group: each sender's messages in their order", |seeds, options| {
        run_scenario(&FifoScenario, seeds, options)
    }),
    entry("causal", "a broadcast group whose members change: nothing before its causes", |seeds, options| {
        run_scenario(&CausalScenario, seeds, options)
    }),
    entry("total", "one order for all, by a sequencer whom a small catalog replaces", |seeds, options| {
        run_scenario(&TotalScenario::<SequencerKind>::default(), seeds, options)
    }),
    entry("total-raft", "one order for all, over Raft", |seeds, options| {
        run_scenario(&TotalScenario::<RaftKind>::default(), seeds, options)
    }),
    entry(
        "beyond",
        "whole nodes under more faults than they must bear: none may serve wrong data",
        |seeds, options| run_scenario(&BeyondScenario, seeds, options),
    ),
    entry(
        "two-phase-commit",
        "coordinators and participants, each over a replicated log, with transactions over lists",
        |seeds, options| run_scenario(&TwoPhaseCommitScenario, seeds, options),
    ),
    entry(
        "idempotency",
        "tokens and sessions, before a service that crashes between effect and answer",
        |seeds, options| run_scenario(&IdempotencyScenario, seeds, options),
    ),
    entry(
        "retry",
        "policy, jitter and budget, before a service that fails in many ways",
        |seeds, options| run_scenario(&RetryScenario, seeds, options),
    ),
    entry(
        "circuit-breaker",
        "a breaker for each service, while services fail, are slow, fall silent and crash",
        |seeds, options| run_scenario(&CircuitBreakerScenario, seeds, options),
    ),
    entry("crdt", "conflict-free types on replicas that anybody may change at any time", |seeds, options| {
        run_scenario(&CrdtScenario, seeds, options)
    }),
];

/// All scenarios.
pub fn scenarios() -> impl Iterator<Item = ScenarioInfo> {
    ENTRIES.iter().map(|entry| entry.info)
}
