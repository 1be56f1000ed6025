//! From a history that is not linearizable to a few operations that show it.
//!
//! Not every part of a wrong history that is wrong by itself is evidence: without its write, a correct read is wrong too.
//! We only leave out what a linearizable history can always spare, so that the witness proves the whole history wrong:
//!
//! - **What came later.** Everything after the first return that can't be explained; what was not yet answered by then
//!   counts as unknown. The beginning of a linearization, up to the last operation answered, explains the beginning.
//! - **Other keys** (locality).
//! - **What can't matter**, as argued in `prune`.
//! - **Reads**, failed compare-and-sets: they change nothing, so a linearization stays one without them.
//! - **Values.** If every operation is possible in exactly one state, or in all, and leaves one state, or the one it
//!   found: group the values, such that the values an operation needs and writes are in one group. All operations of a
//!   group can be left out together. In a linearization each operation that needs v comes after one that wrote v (or
//!   after none, for the initial value) with no other write between; that is still so without the others.
//!
//! Writes are never left out for any other reason.

use std::collections::HashMap;

use crate::history::Operation;
use crate::linearizable::{Partition, search_pruned};
use crate::model::{Footprint, Model};
use crate::prune;
use crate::search::{Budget, FixedState, Found, Span};

/// A small part of a history that is wrong by itself, and therefore proves the whole wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its operations, by invocation.
    pub operations: Vec<WitnessOperation>,
    /// Whether no more can be left out (by the rules of this module); else the limits ended the shrinking.
    pub minimal: bool,
}

/// An operation of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessOperation {
    /// The operation as recorded.
    pub operation: Operation,
    /// Whether its answer belongs to the witness. If not, it was not known yet, or never.
    pub answered: bool,
}

/// Steps that shrinking may take: it is for people, who wait.
const SHRINK_STEPS: u64 = 20_000_000;

type Part<Op> = Vec<(usize, Span<Op>)>;

/// The witness for what had been told up to the return at `position`, which is not linearizable.
pub(crate) fn shrink<M: Model>(
    model: &M,
    partition: &Partition<'_, M>,
    position: u64,
    budget: &mut Budget,
) -> Witness {
    let (part, minimal) = budget.within(SHRINK_STEPS, |budget| {
        let mut shrinking = Shrinking { model, budget, exhausted: false };
        let part = shrinking.all(partition.until(position));
        (part, !shrinking.exhausted)
    });
    let operation = |(index, span): (usize, Span<M::Op>)| WitnessOperation {
        operation: partition.operations[index].clone(),
        answered: span.returned.is_some(),
    };
    Witness { operations: part.into_iter().map(operation).collect(), minimal }
}

struct Shrinking<'a, M: Model> {
    model: &'a M,
    budget: &'a mut Budget,
    exhausted: bool,
}

impl<M: Model> Shrinking<'_, M> {
    fn all(&mut self, part: Part<M::Op>) -> Part<M::Op> {
        let mut part = self.without_idle(part);
        loop {
            let before = part.len();
            let groups = value_groups(self.model, &part);
            part = self.without_groups(part, groups);
            let reads = part.iter().map(|(_, span)| self.model.read_only(&span.op).then_some(()));
            // Each read is a group of its own.
            let reads = reads.enumerate().map(|(place, read)| read.map(|()| place)).collect();
            part = self.without_groups(part, reads);
            part = self.without_idle(part);
            if part.len() == before || self.exhausted {
                return part;
            }
        }
    }

    fn without_idle(&self, part: Part<M::Op>) -> Part<M::Op> {
        let spans: Vec<Span<M::Op>> = part.iter().map(|(_, span)| span.clone()).collect();
        let kept = prune::that_matter(self.model, &spans);
        kept.into_iter().map(|place| part[place].clone()).collect()
    }

    /// Leaves out as many groups as it can, halves first, then quarters, down to single ones. `groups` gives the group of
    /// each operation; those without one stay.
    fn without_groups(&mut self, mut part: Part<M::Op>, mut groups: Vec<Option<usize>>) -> Part<M::Op> {
        assert_eq!(part.len(), groups.len(), "every operation has a group or none");
        let mut chunk = distinct(&groups).len();
        while chunk > 0 && !self.exhausted {
            let names = distinct(&groups);
            for leave_out in names.chunks(chunk) {
                let stays = |group: &Option<usize>| {
                    group.is_none_or(|group| leave_out.binary_search(&group).is_err())
                };
                let smaller: Part<M::Op> = (part.iter().zip(&groups))
                    .filter(|(_, group)| stays(group))
                    .map(|(entry, _)| entry.clone())
                    .collect();
                if self.is_wrong(&smaller) {
                    part = smaller;
                    groups.retain(stays);
                }
            }
            chunk /= 2;
        }
        part
    }

    fn is_wrong(&mut self, part: &Part<M::Op>) -> bool {
        if self.exhausted {
            return false;
        }
        let spans: Vec<Span<M::Op>> = part.iter().map(|(_, span)| span.clone()).collect();
        match search_pruned(self.model, &spans, self.budget) {
            Found::Stuck { .. } => true,
            Found::Linearization(_) => false,
            Found::Exhausted(_) => {
                self.exhausted = true;
                false
            }
        }
    }
}

fn distinct(groups: &[Option<usize>]) -> Vec<usize> {
    let mut names: Vec<usize> = groups.iter().flatten().copied().collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The group of values of each operation; no groups at all if one operation has to do with more than single values.
fn value_groups<M: Model>(model: &M, part: &Part<M::Op>) -> Vec<Option<usize>> {
    let mut numbers: HashMap<M::State, usize, FixedState> = HashMap::default();
    let mut parent: Vec<usize> = Vec::new();
    let mut places = Vec::with_capacity(part.len());
    for (_, span) in part {
        let Footprint::Values { needs, writes } = model.footprint(&span.op) else {
            return vec![None; part.len()];
        };
        let mut place = None;
        for value in [needs, writes].into_iter().flatten() {
            let number = *numbers.entry(value).or_insert_with(|| {
                parent.push(parent.len());
                parent.len() - 1
            });
            if let Some(other) = place.replace(number) {
                let (one, two) = (root(&parent, other), root(&parent, number));
                parent[one.max(two)] = one.min(two);
            }
        }
        places.push(place);
    }
    places.into_iter().map(|place| place.map(|number| root(&parent, number))).collect()
}

fn root(parent: &[usize], mut number: usize) -> usize {
    while parent[number] != number {
        number = parent[number];
    }
    number
}
