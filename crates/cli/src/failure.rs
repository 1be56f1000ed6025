//! How a command ends when it does not succeed.

use std::fmt::Display;

/// What is said on standard error, and the exit code.
///
/// | code | meaning |
/// |---|---|
/// | 0 | done |
/// | 1 | checked, and it does not hold: a history that is not linearizable, a lost write, a violated property, no leader |
/// | 2 | could not be done, nothing was judged: usage, configuration, a taken port, a missing file |
/// | 3 | `serve` only: damage or failure of the disk |
/// | 70 | `serve` only: a bug ended the node |
/// | 130 | stopped by Ctrl-C before it was done |
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code, never 0.
    pub(crate) code: u8,
    /// What happened and what to do; empty if that was said already.
    pub(crate) text: String,
}

impl Failure {
    /// Something was checked, and it does not hold.
    pub(crate) fn wrong(text: impl Display) -> Failure {
        Failure { code: 1, text: text.to_string() }
    }

    /// It could not be done.
    pub(crate) fn cannot(text: impl Display) -> Failure {
        Failure { code: 2, text: text.to_string() }
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Failure {
        Failure { code: 130, text: String::from("stopped before it was done") }
    }
}
