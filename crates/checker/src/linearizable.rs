//! Is a history linearizable? (Herlihy and Wing, 1990.) Each key by itself, which their locality theorem allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{HistoryError, Problem};
use crate::history::{Answer, History, Operation, Outcome, Value};
use crate::model::{Counter, Kv, Model, ModelKind, Register};
use crate::prune;
use crate::search::{Budget, Exhausted, Found, Shortcuts, Span, assert_linearization, search};
use crate::witness::{self, Witness};

/// What a check may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the search. The same history with the same steps gives the same verdict on every machine.
    pub steps: Option<u64>,
    /// Wall time.
    pub time: Option<Duration>,
    /// Bytes that the search of one key may remember, by estimate.
    pub memory_bytes: usize,
}

impl Default for Limits {
    /// A minute, 1 GiB, any number of steps.
    fn default() -> Limits {
        Limits { steps: None, time: Some(Duration::from_secs(60)), memory_bytes: 1 << 30 }
    }
}

impl Limits {
    /// Only a number of steps: for simulations, where nothing may depend on the machine.
    pub fn steps(steps: u64) -> Limits {
        Limits { steps: Some(steps), time: None, ..Limits::default() }
    }

    fn budget(&self) -> Budget {
        Budget {
            steps: self.steps.unwrap_or(u64::MAX),
            deadline: self.time.and_then(|time| Instant::now().checked_add(time)),
            memory_bytes: self.memory_bytes,
            steps_spent: 0,
        }
    }
}

/// Why a history remained undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitReached {
    /// [`Limits::steps`].
    Steps,
    /// [`Limits::time`].
    Time,
    /// [`Limits::memory_bytes`].
    Memory,
}

/// The verdict on a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains all answers.
    Linearizable,
    /// There is none.
    NotLinearizable(Box<Violation>),
    /// A limit was reached before either was shown for this key.
    Undecided {
        /// The first such key.
        key: Arc<str>,
        /// Which limit.
        why: LimitReached,
    },
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key.
    pub key: Arc<str>,
    /// The first operation that can't be explained: up to its return there is no order that explains all answers, up
    /// to any return before it there is one.
    pub operation: Operation,
    /// Whether `operation` is known to be the first one. If not, the search for an earlier one was cut short.
    pub exact: bool,
    /// An order that explains everything told before that return. What was not told by then may be missing from it.
    pub explained: Vec<Operation>,
    /// The initial value, as people write it.
    pub initial: String,
    /// A small part of the history that is wrong by itself.
    pub witness: Witness,
}

/// A verdict and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The verdict.
    pub verdict: Verdict,
    /// Operations in the history, without those that failed.
    pub operations: usize,
    /// Of those, how many have an unknown outcome.
    pub unknown: usize,
    /// Keys.
    pub keys: usize,
    /// Steps of all searches.
    pub steps: u64,
}

/// Checks a history against a model that holds `initial` at first (under every key).
///
/// Keys that are hard are tried again after all others, with what is left of the limits. So an easy violation is found
/// although another key can't be decided.
///
/// # Errors
/// The first operation that the model does not have, or an initial value that it can't hold (line 0).
pub fn check(
    history: &History,
    kind: &ModelKind,
    initial: &Value,
    limits: &Limits,
) -> Result<Checked, HistoryError> {
    let initial = initial.clone();
    match kind {
        ModelKind::Register => check_model(history, &Register { initial, compare_and_set: false }, limits),
        ModelKind::CasRegister => check_model(history, &Register { initial, compare_and_set: true }, limits),
        ModelKind::Kv => check_model(history, &Kv { initial }, limits),
        ModelKind::Counter => {
            let initial = match initial {
                Value::Integer(number) => number,
                Value::Nil => 0,
                Value::Text(text) => {
                    let (field, found, wanted) = ("initial value", format!("{text:?}"), "a number");
                    return Err(HistoryError::at(0, 0, Problem::BadField { field, found, wanted }));
                }
            };
            check_model(history, &Counter { initial }, limits)
        }
    }
}

/// Checks a history against any model. See [`check`].
///
/// # Errors
/// The first operation that the model does not have.
pub fn check_model<M: Model>(history: &History, model: &M, limits: &Limits) -> Result<Checked, HistoryError> {
    let keys = history.by_key();
    let mut checked =
        Checked { verdict: Verdict::Linearizable, operations: 0, unknown: 0, keys: keys.len(), steps: 0 };
    let mut partitions = BTreeMap::new();
    for (key, operations) in keys {
        checked.operations += operations.len();
        checked.unknown +=
            operations.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
        partitions.insert(key, Partition::new(model, operations)?);
    }
    let mut budget = limits.budget();
    checked.verdict = check_partitions(model, &partitions, &mut budget);
    checked.steps = budget.steps_spent;
    Ok(checked)
}

/// Steps for one beginning of a history, when the first operation that can't be explained is looked for.
const STEPS_PER_PREFIX: u64 = 500_000;

/// What a key gets in the first round: more than any key needs that is not hard.
fn first_round_steps(operations: usize) -> u64 {
    20_000 + 200 * operations as u64
}

fn check_partitions<M: Model>(
    model: &M,
    partitions: &BTreeMap<Arc<str>, Partition<'_, M>>,
    budget: &mut Budget,
) -> Verdict {
    let mut hard = Vec::new();
    for (key, partition) in partitions {
        let steps = first_round_steps(partition.operations.len());
        match budget.within(steps, |budget| partition.search(model, budget)) {
            Found::Linearization(_) => {}
            Found::Stuck { at } => return partition.violation(model, key, at, budget),
            Found::Exhausted(_) => hard.push((key, partition)),
        }
    }
    let mut undecided = None;
    for (key, partition) in hard {
        match partition.search(model, budget) {
            Found::Linearization(_) => {}
            Found::Stuck { at } => return partition.violation(model, key, at, budget),
            Found::Exhausted(why) => {
                let why = match why {
                    Exhausted::Steps => LimitReached::Steps,
                    Exhausted::Time => LimitReached::Time,
                    Exhausted::Memory => LimitReached::Memory,
                };
                undecided.get_or_insert(Verdict::Undecided { key: Arc::clone(key), why });
            }
        }
    }
    undecided.unwrap_or(Verdict::Linearizable)
}

/// The operations of one key.
pub(crate) struct Partition<'a, M: Model> {
    pub(crate) operations: Vec<&'a Operation>,
    /// Each with its answer.
    spans: Vec<Span<M::Op>>,
    /// Each as if its answer were not known.
    unanswered: Vec<M::Op>,
}

impl<'a, M: Model> Partition<'a, M> {
    fn new(model: &M, operations: Vec<&'a Operation>) -> Result<Partition<'a, M>, HistoryError> {
        let mut spans = Vec::with_capacity(operations.len());
        let mut unanswered = Vec::with_capacity(operations.len());
        for operation in &operations {
            let told = told(operation);
            let refused = |what: String| {
                let line = operation.invoked.line;
                let problem = Problem::NotInModel { model: model.name(), operation: what };
                HistoryError::at(line, u32::from(line > 0), problem)
            };
            let op = model.operation(&operation.call, told.map(|(answer, _)| answer)).map_err(refused)?;
            unanswered.push(model.operation(&operation.call, None).map_err(refused)?);
            let returned = told.map(|(_, position)| position);
            spans.push(Span { op, invoked: operation.invoked.position, returned });
        }
        Ok(Partition { operations, spans, unanswered })
    }

    fn search(&self, model: &M, budget: &mut Budget) -> Found {
        search_pruned(model, &self.spans, budget)
    }

    /// What had been asked and told right after the event at `position`.
    pub(crate) fn until(&self, position: u64) -> Vec<(usize, Span<M::Op>)> {
        let invoked = self.spans.iter().enumerate().filter(|(_, span)| span.invoked <= position);
        let cut = |(index, span): (usize, &Span<M::Op>)| match span.returned {
            Some(returned) if returned <= position => (index, span.clone()),
            _ => {
                let op = self.unanswered[index].clone();
                (index, Span { op, invoked: span.invoked, returned: None })
            }
        };
        invoked.map(cut).collect()
    }

    fn search_until(&self, model: &M, position: u64, budget: &mut Budget) -> Found {
        let spans: Vec<Span<M::Op>> = self.until(position).into_iter().map(|(_, span)| span).collect();
        search_pruned(model, &spans, budget)
    }

    fn violation(&self, model: &M, key: &Arc<str>, stuck_at: usize, spent: &mut Budget) -> Verdict {
        let mut budget = spent.to_explain();
        let (first, exact) = self.first_unexplained(model, stuck_at, &mut budget);
        let returned = self.spans[first].returned.expect("only what returned needs an explanation");
        // Nothing happens at the return itself but that the answer is known: the position before will do.
        let explained = match self.search_until(model, returned - 1, &mut budget) {
            Found::Linearization(order) => order,
            Found::Stuck { .. } | Found::Exhausted(_) => Vec::new(),
        };
        let witness = witness::shrink(model, self, returned, &mut budget);
        spent.steps_spent = budget.steps_spent;
        Verdict::NotLinearizable(Box::new(Violation {
            key: Arc::clone(key),
            operation: self.operations[first].clone(),
            exact,
            explained: explained.into_iter().map(|index| self.operations[index].clone()).collect(),
            initial: model.initial().to_string(),
            witness,
        }))
    }

    /// The first operation, by return, up to which the history can't be explained.
    ///
    /// The search was stuck at a return knowing all later answers, so every shorter history can be explained: it is a
    /// lower bound. Any part of a linearizable history up to some point is linearizable, so from there we can bisect.
    /// A part that can't be decided is taken for linearizable; then the second result is `false`.
    fn first_unexplained(&self, model: &M, stuck_at: usize, budget: &mut Budget) -> (usize, bool) {
        let mut returns: Vec<(u64, usize)> =
            self.spans.iter().enumerate().filter_map(|(index, span)| Some((span.returned?, index))).collect();
        returns.sort_unstable();
        let stuck = self.spans[stuck_at].returned.expect("the search is stuck at returns only");
        let mut low = returns.partition_point(|&(position, _)| position < stuck);
        let mut high = returns.len() - 1;
        let (mut stride, mut exact) = (0, true);
        // Mostly it is the very return, or one soon after: gallop, then bisect.
        while low < high {
            let probe = (low + stride).min(low + (high - low) / 2);
            let position = returns[probe].0;
            match budget.within(STEPS_PER_PREFIX, |budget| self.search_until(model, position, budget)) {
                Found::Stuck { .. } => high = probe,
                Found::Linearization(_) => low = probe + 1,
                Found::Exhausted(_) => (low, exact) = (probe + 1, false),
            }
            stride = stride * 2 + 1;
        }
        (returns[high].1, exact)
    }
}

/// The answer of an operation and the position of its return, if its outcome is known.
fn told(operation: &Operation) -> Option<(&Answer, u64)> {
    match (&operation.outcome, operation.returned) {
        (Outcome::Ok(answer), Some(returned)) => Some((answer, returned.position)),
        (Outcome::Ok(_), None) => unreachable!("an outcome is known from the return on"),
        (Outcome::Unknown, _) => None,
        (Outcome::Failed, _) => unreachable!("failed operations are left out"),
    }
}

/// Searches among the operations that matter; a linearization found is checked. Indices are those of `spans`.
pub(crate) fn search_pruned<M: Model>(model: &M, spans: &[Span<M::Op>], budget: &mut Budget) -> Found {
    let kept = prune::that_matter(model, spans);
    let fewer: Vec<Span<M::Op>> = kept.iter().map(|&index| spans[index].clone()).collect();
    match search(model, &fewer, Shortcuts::ALL, budget) {
        Found::Linearization(order) => {
            assert_linearization(model, &fewer, &order);
            Found::Linearization(order.into_iter().map(|index| kept[index]).collect())
        }
        Found::Stuck { at } => Found::Stuck { at: kept[at] },
        Found::Exhausted(why) => Found::Exhausted(why),
    }
}
