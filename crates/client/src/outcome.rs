//! Applied, not applied, uncertain.

use keypact_resp::Value;

use crate::ClientError;

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect, once.
    Applied,
    /// It did not take effect and never will: it may be sent again.
    NotApplied,
    /// It may take effect, once, at any time from now, or never. Only what may safely happen twice may be sent again.
    Uncertain,
}

/// The code of an error reply that says: may or may not have been applied.
const UNCERTAIN: &str = "UNCERTAIN";

impl Outcome {
    /// What a reply says. Every error but `UNCERTAIN` is a refusal: no server says one after a command took effect.
    #[must_use]
    pub fn of(reply: &Value) -> Outcome {
        match reply {
            Value::Error(error) if error.code == UNCERTAIN => Outcome::Uncertain,
            Value::Error(_) => Outcome::NotApplied,
            _ => Outcome::Applied,
        }
    }

    /// What the end of a call says.
    #[must_use]
    pub fn of_call(result: &Result<Value, ClientError>) -> Outcome {
        match result {
            Ok(reply) => Outcome::of(reply),
            Err(error) => error.outcome(),
        }
    }

    /// Whether a refusal is one that passes by itself (`CLUSTERDOWN`, `TRYAGAIN`): the same command may be taken later.
    #[must_use]
    pub fn passes_by_itself(reply: &Value) -> bool {
        matches!(reply, Value::Error(error) if matches!(&*error.code, "CLUSTERDOWN" | "TRYAGAIN" | "LOADING"))
    }
}
