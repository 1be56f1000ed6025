//! What can go wrong between us and a node.

use std::fmt;
use std::io;

use keypact_resp::{ErrorReply, ProtocolError};

use crate::Outcome;

/// Why there is no answer. After all but [`ClientError::PipelineFull`], [`ClientError::NothingAsked`] and
/// [`ClientError::Refused`] the connection is of no more use: a late answer could be taken for that to another command.
#[derive(Debug)]
pub enum ClientError {
    /// The address names nothing. Nothing was sent.
    Address {
        /// As it was given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody listens there, or not in time. Nothing was sent.
    Connect {
        /// As it was given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke, or was closed by the node. What was sent may or may not have been applied.
    Lost {
        /// How.
        source: io::Error,
    },
    /// No answer in time. What was sent may or may not have been applied.
    TimedOut,
    /// The node sent what is no reply. What was sent may or may not have been applied.
    Protocol(ProtocolError),
    /// The node refused `AUTH` or a greeting.
    Refused(ErrorReply),
    /// As many commands as allowed wait for their answers already; this one was not sent.
    PipelineFull,
    /// No command waits for an answer.
    NothingAsked,
    /// An earlier error ended this connection; this command was not sent.
    Ended,
}

impl ClientError {
    /// What it means for a command whose [`crate::Connection::call`] ended so.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Lost { .. } | Self::TimedOut | Self::Protocol(_) => Outcome::Uncertain,
            Self::Address { .. }
            | Self::Connect { .. }
            | Self::Refused(_)
            | Self::PipelineFull
            | Self::NothingAsked
            | Self::Ended => Outcome::NotApplied,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, source } => write!(f, "{address} is not an address: {source}"),
            Self::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            Self::Lost { source } => write!(f, "connection lost: {source}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Protocol(error) => write!(f, "no RESP server: {error}"),
            Self::Refused(reply) => write!(f, "refused: {reply}"),
            Self::PipelineFull => f.write_str("too many commands wait for their answers: read some first"),
            Self::NothingAsked => f.write_str("no command waits for an answer"),
            Self::Ended => f.write_str("this connection ended with an earlier error: open another"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { source, .. } | Self::Connect { source, .. } | Self::Lost { source } => {
                Some(source)
            }
            Self::Protocol(error) => Some(error),
            Self::Refused(reply) => Some(reply),
            _ => None,
        }
    }
}
