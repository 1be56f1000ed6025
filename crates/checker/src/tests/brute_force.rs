//! The definition of linearizability, tried out: every order of every choice of unknown operations.

use crate::model::Model;
use crate::search::Span;

/// Whether some order explains the operations. Factorial: for a handful.
pub(super) fn linearizable<M: Model>(model: &M, spans: &[Span<M::Op>]) -> bool {
    assert!(spans.len() <= 10, "brute force is for small histories");
    extend(model, spans, &mut vec![false; spans.len()], &model.initial())
}

fn extend<M: Model>(model: &M, spans: &[Span<M::Op>], taken: &mut [bool], state: &M::State) -> bool {
    if spans.iter().zip(&*taken).all(|(span, taken)| *taken || span.returned.is_none()) {
        return true;
    }
    for next in 0..spans.len() {
        let must_wait = |(span, taken): (&Span<M::Op>, &bool)| {
            !taken && span.returned.is_some_and(|returned| returned < spans[next].invoked)
        };
        if taken[next] || spans.iter().zip(&*taken).any(must_wait) {
            continue;
        }
        if let Some(after) = model.step(state, &spans[next].op) {
            taken[next] = true;
            if extend(model, spans, taken, &after) {
                return true;
            }
            taken[next] = false;
        }
    }
    false
}
