//! What `keypact check --model fifo | causal | total` prints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::{DeliveryOrder, DeliveryViolation, check_delivery, read_delivery};
use crate::error::CheckError;

/// The result of checking one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeliveryReport {
    /// The file.
    pub path: PathBuf,
    /// The order's name.
    pub model: &'static str,
    /// `in-order`, or `not-in-order`.
    pub verdict: &'static str,
    /// Processes that took part.
    pub processes: usize,
    /// Messages named.
    pub messages: usize,
    /// Deliveries of all processes.
    pub deliveries: usize,
    /// Whether the history says that nothing is under way any more. If not, agreement was not judged.
    pub at_rest: bool,
    /// Wall time, milliseconds, without reading.
    pub elapsed_ms: f64,
    /// The first property that does not hold, with the events that prove it.
    pub violation: Option<DeliveryViolation>,
}

impl DeliveryReport {
    /// Whether the order and all that it includes hold.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.violation.is_none()
    }
}

/// Checks a file in the format of [`read_delivery`].
///
/// # Errors
/// The file can't be read, or is malformed.
pub fn check_delivery_file(path: &Path, order: DeliveryOrder) -> Result<DeliveryReport, CheckError> {
    let in_file = |source| CheckError::File { path: path.to_path_buf(), source };
    let text = std::fs::read_to_string(path).map_err(in_file)?;
    let history = read_delivery(&text).map_err(|error| CheckError::History(error.in_file(path)))?;
    let start = Instant::now();
    let violation = check_delivery(&history, order).err();
    Ok(DeliveryReport {
        path: path.to_path_buf(),
        model: order.name(),
        verdict: if violation.is_none() { "in-order" } else { "not-in-order" },
        processes: history.processes.len(),
        messages: history.messages(),
        deliveries: history.deliveries(),
        at_rest: history.at_rest,
        elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
        violation,
    })
}
