//! Scenarios: what is run in the simulator, and which checker judges it.

mod node_clients;
mod node_process;
mod node_scenario;

pub use node_clients::{NodeClients, NodeWorkload};
pub use node_scenario::NodeScenario;
pub use node_process::{NodeDisk, NodeProcess, NodeReply, NodeRequest, NodeSetup};
