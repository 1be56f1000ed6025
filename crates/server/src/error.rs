//! Why a node does not start, or stopped. Each text says what to do.

use std::io;

use keypact_node::{ConfigError, StartError};
use keypact_storage::StorageError;

/// Why [`crate::run`] or [`crate::init`] gave up. Unless said otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings contradict each other.
    #[error("the settings don't fit together: {0}")]
    Config(#[from] ConfigError),
    /// A bound contradicts another, or what the disk or the protocol can do.
    #[error("the limits don't fit together: {what}")]
    Limits {
        /// Which, and what would be right.
        what: &'static str,
    },
    /// Built with known bugs in it, for the simulator.
    #[error("this program was built with planted bugs (feature `plant`): it serves no data")]
    Planted,
    /// An address is neither `ip:port` nor a name that means one here.
    #[error(
        "cannot tell which address {address} ({use_for}) is: {source}; write ip:port, or host:port with a name that this machine can resolve"
    )]
    Address {
        /// As it was given.
        address: String,
        /// What was to listen there.
        use_for: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else has the port.
    #[error(
        "cannot listen on {address} ({use_for}): {source}; stop what uses that port, or choose another one"
    )]
    Bind {
        /// The address.
        address: String,
        /// What was to listen there.
        use_for: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The loopback rule.
    #[error(
        "{address} ({use_for}) can be reached from other machines, and {missing}: set one, or bind to 127.0.0.1"
    )]
    Exposed {
        /// The address.
        address: String,
        /// What was to listen there.
        use_for: &'static str,
        /// What is missing for that.
        missing: &'static str,
    },
    /// The folder was never initialised.
    #[error(
        "{folder} holds no node: run `keypact init` (or `keypact up`), which makes one; a node never forms a cluster by itself"
    )]
    NotInitialised {
        /// The folder.
        folder: String,
    },
    /// The folder's identity can't be read as one.
    #[error(
        "the identity in {folder} makes no sense ({what}): restore the file, or let this node join again with an empty folder"
    )]
    Identity {
        /// The folder.
        folder: String,
        /// What is wrong.
        what: String,
    },
    /// The disk. Damage names file and offset; a failed write or sync ended the node without any further acknowledgement.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// What the disk kept makes no sense.
    #[error(
        "the log in {folder} can't be replayed: {source}; keep a copy of the folder and report this, or let this node join again with an empty one"
    )]
    Recovery {
        /// The folder.
        folder: String,
        /// What contradicts what.
        source: StartError,
    },
    /// The operating system refused a thread, a clock or the runtime.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A task of the node panicked: a bug.
    #[error(
        "the {task} task panicked, which is a bug: this node stops; what it acknowledged is on disk; please report what was printed above"
    )]
    Panicked {
        /// Which.
        task: &'static str,
    },
}

impl ServeError {
    /// Exit code for a process that ends with this: 2 for what the operator can set right before the next start, 3 for the disk,
    /// 70 (`EX_SOFTWARE`) for a bug.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Storage(StorageError::Locked { .. }) => 2,
            ServeError::Storage(_) | ServeError::Recovery { .. } | ServeError::Identity { .. } => 3,
            ServeError::Panicked { .. } => 70,
            _ => 2,
        }
    }
}
