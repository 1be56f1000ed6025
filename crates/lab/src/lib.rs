//! Scenarios: what is run in the simulator, and which checker judges it; and the planted bugs that show that they would find one.
//!
//! [`run`] is all that `keypact sim` needs: a scenario's name and seeds in, a [`SimReport`] out.

mod beyond_scenario;
mod judge;
mod leader_follower_scenario;
mod node_clients;
mod node_process;
mod node_scenario;
mod node_watch;
mod pace;
mod plants;
mod raft_scenario;
mod sim;
mod watch;

pub use beyond_scenario::BeyondScenario;
pub use leader_follower_scenario::{
    LeaderFollowerClients, LeaderFollowerScenario, LeaderFollowerWatch, Seat, SeatConfig,
};
pub use node_clients::{NodeClients, NodeWorkload};
pub use node_process::{NodeDisk, NodeProcess, NodeReply, NodeRequest, NodeSetup};
pub use node_scenario::NodeScenario;
pub use node_watch::NodeWatch;
pub use plants::{PLANTS_BUILT_IN, PlantInfo, plants};
pub use raft_scenario::RaftScenario;
pub use sim::{
    Operations, Options, Progress, ScenarioInfo, SimError, SimReport, SimViolation, run, scenarios,
};
pub use watch::{RAFT_SOMETIMES, RaftWatch};
