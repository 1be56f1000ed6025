//! A node on real sockets, disks and clocks.
//!
//! [`init`] makes a folder a node's, [`run`] runs the node in it until it is asked to stop.
//!
//! # Threads
//!
//! | thread | owns | file |
//! |---|---|---|
//! | the caller's | sockets, parsing, protocol, data, replies | `node_thread.rs`, `batch.rs`, `world.rs` |
//! | `log` | the write-ahead log | `log_thread.rs` |
//! | `checkpoint` | checkpoint files | `checkpoint_thread.rs` |
//! | `http` | the admin HTTP | `http.rs` |
//!
//! The way of a client's bytes: `node_thread.rs` reads them, `commands.rs` finds commands, answers its own and puts the others into the
//! inbox, `batch.rs` gives them to the node once all ready sockets were read, `world.rs` takes what the node says, `connection.rs` puts
//! replies into the order of the requests, `batch.rs` writes them out. Peers: `peers.rs`, `handshake.rs`, `link.rs`.
//!
//! Invariant: nothing that waits for the disk leaves before the log's thread has synced it; after an error of the disk nothing leaves at all.

mod batch;
mod checkpoint_thread;
mod clock;
mod commands;
mod connection;
mod error;
mod handshake;
mod http;
mod info;
mod init;
mod link;
mod log_thread;
mod metrics;
mod node_thread;
mod peers;
mod random;
mod report;
mod run;
mod settings;
mod world;

pub use error::ServeError;
pub use init::{Identity, identity_of, init, peek_identity};
pub use run::{Served, run};
pub use settings::{Bind, Limits, Listeners, Settings, Shutdown};
