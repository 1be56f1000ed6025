//! Operations that can't matter, left out before the search.
//!
//! **Nothing asked, nothing told.** A completed operation that is possible in every state and writes nothing (a read whose
//! answer says nothing) fits anywhere. An unknown read is never needed.
//!
//! **Invisible.** Let w be an operation of unknown outcome that, whenever it changes anything, leaves the one state v. If
//! every other operation of the key either overwrites every state, or is completed and impossible in v, or is unknown
//! and changes nothing in v, then w can be left out. Proof: take a linearization with w. What follows w, up to the next
//! overwrite or the end, runs in v: no completed operation can be there, and the unknown ones there change nothing and can
//! be left out. So w is followed by an overwrite or by nothing; without w every other operation sees the state it saw.
//! Two that leave the same state are judged alike: each is an overwrite, or changes nothing, after the other.
//! The converse holds because w may be left out of any linearization. Each removal can make others possible: repeat.
//!
//! For a register: an unknown write of a value that nobody read, that no compare-and-set expects, where no
//! compare-and-set failed (a failure is possible in v, so it may be w that explains it).

use std::collections::HashMap;

use crate::model::{Footprint, Model};
use crate::search::{FixedState, Span};

/// Indices, in order, of the operations that can matter. O(n · u) for u different effects of unknown operations.
pub(crate) fn that_matter<M: Model>(model: &M, spans: &[Span<M::Op>]) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..spans.len()).filter(|&index| !is_idle(model, &spans[index])).collect();
    loop {
        let mut verdicts: HashMap<M::State, bool, FixedState> = HashMap::default();
        let mut invisible = |index: usize| {
            let span = &spans[index];
            span.returned.is_none()
                && model.leaves(&span.op).is_some_and(|left| {
                    *verdicts
                        .entry(left)
                        .or_insert_with_key(|left| is_invisible(model, spans, &kept, index, left))
                })
        };
        // All at once: what one needs of all others stays true when some of them are gone.
        let rest: Vec<usize> = kept.iter().copied().filter(|&index| !invisible(index)).collect();
        if rest.len() == kept.len() {
            return kept;
        }
        kept = rest;
    }
}

fn is_idle<M: Model>(model: &M, span: &Span<M::Op>) -> bool {
    match span.returned {
        None => model.read_only(&span.op),
        Some(_) => model.footprint(&span.op) == Footprint::Values { needs: None, writes: None },
    }
}

fn is_invisible<M: Model>(
    model: &M,
    spans: &[Span<M::Op>],
    kept: &[usize],
    index: usize,
    left: &M::State,
) -> bool {
    kept.iter().filter(|&&other| other != index).all(|&other| {
        let span = &spans[other];
        model.overwrites(&span.op)
            || match (span.returned, model.step(left, &span.op)) {
                (_, None) => true,
                (None, Some(next)) => next == *left,
                (Some(_), Some(_)) => false,
            }
    })
}
