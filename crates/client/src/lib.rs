//! Rust client: one blocking connection to one node, and what an answer means for the command that was sent.
//!
//! Every command has one of three outcomes, never two: see [`Outcome`]. Routing, tokens and retries come with `recovery`.

mod connection;
mod error;
mod outcome;
#[cfg(test)]
mod tests;

pub use connection::{Connection, PIPELINE_LIMIT, Timeouts};
pub use error::ClientError;
pub use outcome::Outcome;

pub use keypact_resp::{ErrorReply, Value};
