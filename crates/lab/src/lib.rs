//! Scenarios: what is run in the simulator, and which checker judges it; and the planted bugs that show that they would find one.
//!
//! [`run`] is all that `keypact sim` needs: a scenario's name and seeds in, a [`SimReport`] out.

pub mod claims;
mod node_clients;
mod node_operator;
mod node_process;
mod node_watch;
mod plants;
mod scenarios;
mod sim;
mod stamps;
mod watch;

pub use node_clients::{NodeClients, NodeWorkload};
pub use node_process::{NodeDisk, NodeProcess, NodeReply, NodeRequest, NodeSetup};
pub use node_watch::NodeWatch;
pub use plants::{PLANTS_BUILT_IN, PlantInfo, plants};
pub use scenarios::{
    Assigner, BeyondScenario, BoardClients, BoardWatch, BoardWork, BreakerClients, BroadcastClients,
    BroadcastWork, Catalog, CausalScenario, CausalWatch, ChainCatalog, ChainScenario, ChainSeat, ChainWatch,
    CircuitBreakerScenario, CrdtScenario, Directed, DirectedConfig, DirectedRecovering, DirectedTimer,
    EffectWatch, Enveloped, FifoScenario, FifoWatch, IdempotencyScenario, Inbox, LeaderFollowerClients,
    LeaderFollowerScenario, LeaderFollowerSeat, LeaderFollowerWatch, Member, MemberConfig, MemberMessage,
    MemberRecord, MemberRecovering, MemberTimer, MemberWatch, NodeScenario, Note, Opened, Opens,
    RaftScenario, Reached, Replica, ReplicaConfig, ReplicaDisk, RetryClients, RetryScenario, ScenarioInfo,
    Seat, SeatConfig, SeatRecord, SeatRecovering, SeatTimer, Service, TokenClients, Views, Way, Wishes,
    scenarios,
};
pub use sim::{Operations, Options, Progress, SimError, SimReport, SimViolation, run};
pub use watch::{RAFT_SOMETIMES, RaftWatch};
