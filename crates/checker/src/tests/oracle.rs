//! The verdict, the first unexplained operation and the witness, compared with brute force on small histories.

use super::brute_force;
use super::generate::{Random, Shape, linearizable, spoil};
use crate::history::{Answer, History, Outcome, Value};
use crate::linearizable::{Limits, Verdict, check_model, search_pruned};
use crate::model::{Counter, Kv, Model, ModelKind, Register};
use crate::search::{Budget, Found, Shortcuts, Span, assert_linearization, search};
use crate::witness::parts_that_can_go;

/// A model without any hints.
pub(super) struct Plain<'a, M>(pub(super) &'a M);

impl<M: Model> Model for Plain<'_, M> {
    type State = M::State;
    type Op = M::Op;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn initial(&self) -> M::State {
        self.0.initial()
    }

    fn operation(&self, call: &crate::Call, answer: Option<&Answer>) -> Result<M::Op, String> {
        self.0.operation(call, answer)
    }

    fn step(&self, state: &M::State, op: &M::Op) -> Option<M::State> {
        self.0.step(state, op)
    }
}

pub(super) fn unlimited() -> Budget {
    Budget { steps: u64::MAX, deadline: None, memory_bytes: usize::MAX, steps_spent: 0 }
}

/// The operations of the only key, as known right after the event at `position`.
pub(super) fn spans_until<M: Model>(model: &M, history: &History, position: u64) -> Vec<Span<M::Op>> {
    let mut spans = Vec::new();
    for operation in &history.operations {
        let invoked = operation.invoked.position;
        if operation.outcome == Outcome::Failed || invoked > position {
            continue;
        }
        let returned =
            operation.returned.map(|moment| moment.position).filter(|&returned| returned <= position);
        let (op, returned) = match (&operation.outcome, returned) {
            (Outcome::Ok(answer), Some(returned)) => {
                (model.operation(&operation.call, Some(answer)), Some(returned))
            }
            _ => (model.operation(&operation.call, None), None),
        };
        spans.push(Span { op: op.unwrap(), invoked, returned });
    }
    spans
}

fn decided(found: &Found) -> bool {
    match found {
        Found::Linearization(_) => true,
        Found::Stuck { .. } => false,
        Found::Exhausted(_) => panic!("nothing is limited"),
    }
}

/// Compares everything on one history; tells whether it is linearizable.
fn compare<M: Model>(model: &M, history: &History, name: &str) -> bool {
    let spans = spans_until(model, history, u64::MAX);
    let truth = brute_force::linearizable(model, &spans);
    for bits in 0..16 {
        let [eager_reads, unknown, clusters, twins] = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
        let shortcuts = Shortcuts { eager_reads, unknown, clusters, twins };
        let found = search(model, &spans, shortcuts, &mut unlimited());
        if let Found::Linearization(order) = &found {
            assert_linearization(model, &spans, order);
        }
        assert_eq!(decided(&found), truth, "{name}, {shortcuts:?}: {history:#?}");
    }
    assert_eq!(
        decided(&search_pruned(model, &spans, &mut unlimited())),
        truth,
        "{name}, pruned: {history:#?}"
    );
    let plain = search_pruned(&Plain(model), &spans, &mut unlimited());
    assert_eq!(decided(&plain), truth, "{name}, without hints: {history:#?}");
    let checked = check_model(history, model, &Limits::steps(u64::MAX)).unwrap();
    match &checked.verdict {
        Verdict::Linearizable => {
            assert!(truth);
            for rest in parts_that_can_go(model, &spans) {
                assert!(
                    brute_force::linearizable(model, &rest),
                    "{name}: unsound witness rule: {rest:#?} of {spans:#?}"
                );
            }
        }
        Verdict::NotLinearizable(violation) => {
            assert!(!truth);
            let returned = violation.operation.returned.unwrap().position;
            assert!(
                !brute_force::linearizable(model, &spans_until(model, history, returned)),
                "{name}: too early"
            );
            let before = spans_until(model, history, returned - 1);
            assert!(brute_force::linearizable(model, &before), "{name}: an earlier one can't be explained");
            assert!(violation.witness.minimal && violation.exact);
            let witness: Vec<Span<M::Op>> = (violation.witness.operations.iter())
                .map(|entry| {
                    let operation = &entry.operation;
                    let told = match &operation.outcome {
                        Outcome::Ok(answer) if entry.answered => Some(answer),
                        _ => None,
                    };
                    let op = model.operation(&operation.call, told).unwrap();
                    let returned =
                        operation.returned.filter(|_| entry.answered).map(|moment| moment.position);
                    Span { op, invoked: operation.invoked.position, returned }
                })
                .collect();
            assert!(
                !brute_force::linearizable(model, &witness),
                "{name}: the witness proves nothing: {violation:#?}"
            );
            assert!(!crate::render::violation(violation).is_empty());
        }
        Verdict::Undecided { .. } => panic!("nothing is limited"),
    }
    truth
}

/// Small histories of one key, of a correct server and with spoilt answers; returns how many were (not) linearizable.
fn compare_many(kind: &ModelKind, rounds: u64) -> (u64, u64) {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..rounds {
        let mut random = Random(seed * 977 + 13);
        let shape = Shape {
            model: kind.clone(),
            operations: 3 + random.below(5) as usize,
            processes: 2 + random.below(3),
            keys: 1,
            unknown_one_in: [0, 2, 3, 5][random.below(4) as usize],
            failed_one_in: [0, 6][random.below(2) as usize],
            values: 1 + random.below(4),
            reads_one_in: 2 + random.below(3),
        };
        let initial = if *kind == ModelKind::Counter { Value::Integer(0) } else { Value::Nil };
        let mut history = linearizable(&shape, &initial, &mut random);
        let spoilt = random.below(4);
        for _ in 0..spoilt {
            spoil(&mut history, &mut random);
        }
        let name = format!("{} seed {seed}", kind.name());
        let truth = match kind {
            ModelKind::Register => compare(&Register { initial, compare_and_set: false }, &history, &name),
            ModelKind::CasRegister => compare(&Register { initial, compare_and_set: true }, &history, &name),
            ModelKind::Counter => compare(&Counter { initial: 0 }, &history, &name),
            ModelKind::Kv => compare(&Kv { initial }, &history, &name),
        };
        assert!(truth || spoilt > 0, "{name}: the history of a correct server is refused");
        *(if truth { &mut right } else { &mut wrong }) += 1;
    }
    (right, wrong)
}

const ROUNDS: u64 = if cfg!(debug_assertions) { 4_000 } else { 100_000 };

fn both_verdicts_occur(kind: &ModelKind) {
    let (right, wrong) = compare_many(kind, ROUNDS);
    assert!(right > ROUNDS / 5, "{right} linearizable histories are too few to compare");
    assert!(wrong > ROUNDS / 20, "{wrong} wrong histories are too few to compare");
}

#[test]
fn register_agrees_with_brute_force() {
    both_verdicts_occur(&ModelKind::Register);
}

#[test]
fn cas_register_agrees_with_brute_force() {
    both_verdicts_occur(&ModelKind::CasRegister);
}

#[test]
fn counter_agrees_with_brute_force() {
    both_verdicts_occur(&ModelKind::Counter);
}

#[test]
fn kv_agrees_with_brute_force() {
    both_verdicts_occur(&ModelKind::Kv);
}
