//! What the scenarios of message orders share: clients that broadcast, a parent that counts, and a recorder for the checker.

mod clients;
mod directed;
mod inbox;
mod recorder;

pub use clients::{BroadcastClients, BroadcastWork};
pub use directed::{Directed, DirectedConfig, DirectedRecovering, DirectedTimer, Views};
pub use inbox::{Enveloped, Inbox, Note, Opened, Opens};
pub(crate) use recorder::Recorder;
