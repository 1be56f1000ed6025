//! The checker's verdict on one seed's history.

use keypact_checker::{History, Limits, ModelKind, Value, Verdict, Violation as Witness, check};
use keypact_simulator::Violation;

/// Steps that the checker may take for one seed. Steps, not time: nothing may depend on the machine.
const CHECK_STEPS: u64 = 300_000;

/// Has the checker judge what clients were told; returns how many histories were judged, 0 if this one was too hard for the steps allowed.
pub(crate) fn check_history(history: &History, kind: &ModelKind, initial: &Value) -> Result<u64, Violation> {
    let checked = check(history, kind, initial, &Limits::steps(CHECK_STEPS))
        .map_err(|error| Violation::new("history", error.to_string()))?;
    match checked.verdict {
        Verdict::Linearizable => Ok(1),
        Verdict::Undecided { .. } => Ok(0),
        Verdict::NotLinearizable(witness) => Err(Violation::new("linearizable", explain(&witness))),
    }
}

fn explain(witness: &Witness) -> String {
    format!("key {}: {:?} can't be explained", witness.key, witness.operation)
}
