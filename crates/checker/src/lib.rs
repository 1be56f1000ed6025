//! Histories in, verdicts out.
//!
//! A [`History`] says what clients asked and what they were told. [`linearizable`] decides whether one copy of the data,
//! used by one client at a time, could have given these answers, and if not, shows a few operations that prove it.
//! Histories are read in our own format and in those of Jepsen, Knossos and Porcupine ([`format`](mod@format)).
//!
//! A [`DeliveryHistory`] says who broadcast what, and who delivered what in which order; [`delivery`] decides whether that is FIFO, causal or
//! total order.

pub mod delivery;
pub mod durability;
pub mod error;
pub mod format;
pub mod history;
pub mod linearizable;
pub mod list_append;
pub mod model;
mod prune;
pub mod render;
pub mod report;
mod search;
#[cfg(test)]
mod tests;
pub mod witness;

pub use delivery::{
    DeliveryHistory, DeliveryOrder, DeliveryReport, DeliveryViolation, check_delivery, check_delivery_file,
    read_delivery, write_delivery,
};
pub use durability::{LostWrite, lost_writes};
pub use error::{CheckError, HistoryError, Problem};
pub use format::{FailedCas, Format, ReadOptions, read_file, read_text};
pub use history::{Answer, Call, History, Moment, Operation, Outcome, Recorder, Value};
pub use linearizable::{Checked, LimitReached, Limits, Verdict, Violation, check, check_model};
pub use list_append::{
    Anomaly, ListChecked, ListOutcome, ListReport, ListTransaction, MicroOperation, check_list,
    check_list_file,
};
pub use model::ModelKind;
pub use report::{Initial, Options, Report, Row, check_expected, check_file, check_history};
