//! One whole node: catalog, routing, replicas.
//!
//! A [`Node`] drives protocols and is driven by a server (sockets, disks) or by the simulator. It takes one [`NodeInput`] at a time and writes
//! what shall happen to an [`Outside`]; it has no clock, socket, thread or file of its own (`clippy.toml` holds it to that).
//!
//! The way of a `SET`, in the order of the files:
//!
//! 1. [`Node::handle`] (`node.rs`) takes the command of a client's connection;
//! 2. `session.rs` gives it its place in that connection's numbered stream, `routing.rs` decides: here, or forward to the leader;
//! 3. `replica.rs` proposes it to the partition's group, whose messages and log records leave through its gate (`scope.rs`);
//! 4. once the group commits, `replica.rs` applies it to the data, and `answers.rs` gives the reply to the connection, or to the node that
//!    forwarded it.
//!
//! How nodes come and go is told in `members.rs`.
//!
//! Invariant: a reply "applied" leaves only after the command was delivered by its group; "not applied" only if it never entered a log.

mod answers;
mod catalog;
mod checkpoint;
mod clocks;
mod config;
mod idle;
mod listing;
mod members;
mod node;
mod outside;
mod peer;
mod pending;
mod recovery;
mod remote;
mod replica;
mod roster;
mod routing;
mod scope;
mod session;
mod status;
mod sweep;
mod timers;
mod value;

pub use catalog::{Catalog, CatalogCommand, Keyspace};
pub use config::{ConfigError, Member, NodeConfig, Reads};
pub use members::{Order, OrderRefusal};
pub use node::Node;
pub use outside::{NodeInput, Outside, SessionId, Traffic};
pub use peer::{Forward, ForwardReply, PeerMessage, Resolution};
pub use recovery::{NodeRecovery, StartError};
pub use replica::Counters;
pub use roster::{GONE_MAX, NODES_MAX, Roster};
pub use status::{GoneStatus, GroupStatus, NodeStatus, Role, SeatStatus, Status};

use keypact_protocol::GroupId;

/// The group that holds the catalog.
pub const CATALOG: GroupId = GroupId(1);
/// The group of keyspace `default`'s one partition.
pub const DEFAULT: GroupId = GroupId(2);
/// All groups of a node, for now.
pub const GROUPS: [GroupId; 2] = [CATALOG, DEFAULT];

#[cfg(test)]
mod tests;
