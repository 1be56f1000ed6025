//! What can go wrong while measuring. Every failure ends the run; nothing is measured around it.

use std::io;
use std::path::Path;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file, socket or process could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that a comparison needs is not installed.
    #[error(
        "`{program}` is not in the path: install Debian's package `{package}` (apt-get install {package})"
    )]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// A server did not come up, or said something unexpected.
    #[error("{system}: {what}")]
    Server {
        /// Which.
        system: String,
        /// What happened.
        what: String,
    },
    /// The wire carried something that is not the protocol.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The options contradict each other.
    #[error("{0}")]
    Usage(String),
    /// Acknowledged data was not found again, or a run's checks failed.
    #[error("{0}")]
    Wrong(String),
    /// Ctrl-C or a termination signal.
    #[error("interrupted; all processes started here were ended")]
    Interrupted,
}

impl Failure {
    /// Wraps what the system said with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let what = what.into();
        move |source| Failure::Io { what, source }
    }

    /// A server's failure.
    pub(crate) fn server(system: &str, what: impl Into<String>) -> Failure {
        Failure::Server { system: String::from(system), what: what.into() }
    }
}

/// A path as part of a message.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
