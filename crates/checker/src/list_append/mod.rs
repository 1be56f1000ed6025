//! Transactions over lists: is there one order of whole transactions, in keeping with real time, that explains all that was read?
//!
//! Every element is appended once, so a list tells its own history: who wrote what before whom. From that come dependencies between
//! transactions, and a cycle of dependencies is a proof that no such order exists. The method is Elle's (Kingsbury and Alvaro 2020); the names are
//! Adya's (1999) where he has them.
//!
//! | edge | means |
//! |---|---|
//! | `ww` | the later one appended next after the earlier one |
//! | `wr` | the later one read a list that ends with what the earlier one appended |
//! | `rw` | the earlier one read a list that does not have what the later one appended next |
//! | `rt` | the earlier one had returned before the later one was invoked |
//!
//! | anomaly | what it is |
//! |---|---|
//! | `unwritten-read` | an element that nobody appended |
//! | `duplicate-elements` | an element twice in a list |
//! | `incompatible-order` | two reads of a key of which neither begins the other |
//! | `internal` | a transaction does not see what it did or saw itself |
//! | `G1a` | an element of a transaction that was not applied |
//! | `dirty-update` | the same, with an applied transaction's element after it |
//! | `G1b` | a list that ends in the middle of what another transaction appended |
//! | `G0` | a cycle of `ww` |
//! | `G1c` | of `ww` and `wr` |
//! | `G-single` | with one `rw` |
//! | `G-nonadjacent` | with several `rw`, none next to another |
//! | `G2-item` | with several `rw` |
//! | `.. -realtime` | the same, only with `rt` |

mod cycles;
mod graph;
mod parse;
mod report;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;

use crate::history::{Moment, Value};

pub use graph::{Edge, EdgeKind};
pub use parse::{read_list_file, read_list_text, write_list_jsonl};
pub use report::{ListReport, check_list_file};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MicroOperation {
    /// Adds an element to the end of a key's list.
    Append {
        /// The key.
        key: Arc<str>,
        /// The element; each is appended to a key at most once in a history.
        element: Value,
    },
    /// Reads a key's list.
    Read {
        /// The key.
        key: Arc<str>,
        /// What was read; `None` if that is not known.
        list: Option<Vec<Value>>,
    },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOutcome {
    /// Applied.
    Committed,
    /// Not applied, and never will be.
    Aborted,
    /// Not known.
    Unknown,
}

/// One transaction: what was asked, or, if it committed, what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTransaction {
    /// The client.
    pub process: u64,
    /// What it did, in order.
    pub operations: Vec<MicroOperation>,
    /// How it ended.
    pub outcome: ListOutcome,
    /// When it was asked.
    pub invoked: Moment,
    /// When the client was told, if it was.
    pub returned: Option<Moment>,
}

/// One thing that is wrong, with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name; see the table at the head of this module.
    pub name: &'static str,
    /// The transactions that prove it, by their place in the history; of a cycle, in its order.
    pub transactions: Vec<usize>,
    /// The cycle: the edge from each of `transactions` to the next, the last one back to the first. Empty if it is no cycle.
    pub cycle: Vec<Edge>,
    /// The proof, for people.
    pub text: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChecked {
    /// Transactions that were certainly applied.
    pub committed: usize,
    /// Of unknown outcome.
    pub unknown: usize,
    /// Not applied.
    pub aborted: usize,
    /// Keys.
    pub keys: usize,
    /// Dependencies between transactions.
    pub edges: usize,
    /// What is wrong; empty if the history is strictly serializable. At most one of each name and key, or cycle.
    pub anomalies: Vec<Anomaly>,
}

/// Checks a history; O(n log n) in operations and elements read if nothing is wrong. `transactions` are in the order of their invocations.
///
/// # Errors
/// [`ListProblem`] if the history can't be judged: an element was appended to one key twice.
pub fn check_list(transactions: &[ListTransaction]) -> Result<ListChecked, ListProblem> {
    let mut anomalies = Vec::new();
    let versions = versions::Versions::new(transactions, &mut anomalies)?;
    let graph = graph::Graph::new(transactions, &versions);
    cycles::find(transactions, &graph, &mut anomalies);
    let count = |outcome| transactions.iter().filter(|t| t.outcome == outcome).count();
    Ok(ListChecked {
        committed: count(ListOutcome::Committed),
        unknown: count(ListOutcome::Unknown),
        aborted: count(ListOutcome::Aborted),
        keys: versions.keys(),
        edges: graph.len(),
        anomalies,
    })
}

/// A history that can't be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{element} is appended to {key:?} twice (lines {} and {}): elements must be unique", lines.0, lines.1)]
pub struct ListProblem {
    /// The key.
    pub key: String,
    /// The element.
    pub element: String,
    /// Lines of the two transactions; 0 if there is no file.
    pub lines: (u32, u32),
}

/// A transaction in a line: `T3 (process 1, line 7): append x 3, r x [1 2]`.
pub(crate) fn described(index: usize, transaction: &ListTransaction) -> String {
    let operations: Vec<String> = transaction
        .operations
        .iter()
        .map(|operation| match operation {
            MicroOperation::Append { key, element } => format!("append {key} {element}"),
            MicroOperation::Read { key, list: None } => format!("r {key} ?"),
            MicroOperation::Read { key, list: Some(list) } => format!("r {key} {}", shown(list)),
        })
        .collect();
    let line = match transaction.invoked.line {
        0 => String::new(),
        line => format!(", line {line}"),
    };
    format!("T{index} (process {}{line}): {}", transaction.process, operations.join(", "))
}

/// A list, its middle left out if it is long.
fn shown(list: &[Value]) -> String {
    const ENDS: usize = 6;
    let text = |part: &[Value]| part.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if list.len() <= 2 * ENDS + 1 {
        return format!("[{}]", text(list));
    }
    format!("[{} .. {}]", text(&list[..ENDS]), text(&list[list.len() - ENDS..]))
}
