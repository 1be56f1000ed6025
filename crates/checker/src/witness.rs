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
//! - **The past.** Let w be a write that overwrites every state, such that each completed operation that overlaps it does
//!   so too. All that returned before w was invoked can be left out together: of what is left, a linearization has before
//!   w only operations that are possible in every state, and unknown ones, which may be left out because what they did is
//!   overwritten unseen; and after w the state is that of before. From then on w stays, so that nobody has to wonder what
//!   was there before.
//!
//! Writes are never left out for any other reason. A test takes linearizable histories and checks that each of these
//! leaves them linearizable.

use std::collections::HashMap;

use crate::history::Operation;
use crate::linearizable::{Partition, search_pruned};
use crate::model::{Footprint, Model};
use crate::prune;
use crate::search::{Budget, Exhausted, FixedState, Found, Span};

/// A small part of a history that is wrong by itself, and therefore proves the whole wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its operations, by invocation.
    pub operations: Vec<WitnessOperation>,
    /// Whether no more can be left out (by the rules of this module); else the limits ended the shrinking.
    pub minimal: bool,
    /// Whether what came before was left out, so that the initial value says nothing.
    pub past_left_out: bool,
}

/// An operation of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessOperation {
    /// The operation as recorded.
    pub operation: Operation,
    /// Whether its answer belongs to the witness. If not, it was not known yet, or never.
    pub answered: bool,
}

/// Steps for one part: one that is hard to judge must not keep us from trying others.
const STEPS_PER_PART: u64 = 1_000_000;

type Part<Op> = Vec<(usize, Span<Op>)>;

/// The witness for what had been told up to the return at `position`, which is not linearizable.
pub(crate) fn shrink<M: Model>(
    model: &M,
    partition: &Partition<'_, M>,
    position: u64,
    budget: &mut Budget,
) -> Witness {
    let mut shrinking = Shrinking { model, budget, minimal: true, exhausted: false, fresh_start: None };
    let part = shrinking.all(partition.until(position));
    let (minimal, past_left_out) = (shrinking.minimal, shrinking.fresh_start.is_some());
    let operation = |(index, span): (usize, Span<M::Op>)| WitnessOperation {
        operation: partition.operations[index].clone(),
        answered: span.returned.is_some(),
    };
    Witness { operations: part.into_iter().map(operation).collect(), minimal, past_left_out }
}

struct Shrinking<'a, M: Model> {
    model: &'a M,
    budget: &'a mut Budget,
    /// Whether every part could be judged.
    minimal: bool,
    exhausted: bool,
    /// Invocation of the write before which everything was left out.
    fresh_start: Option<u64>,
}

impl<M: Model> Shrinking<'_, M> {
    fn all(&mut self, part: Part<M::Op>) -> Part<M::Op> {
        let mut part = self.without_idle(part);
        loop {
            let before = part.len();
            part = self.without_past(part);
            let groups = self.spare_groups(&part);
            part = self.without_groups(part, groups);
            let reads = reads(self.model, &part);
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

    /// Leaves out what came before the last write that allows it.
    fn without_past(&mut self, part: Part<M::Op>) -> Part<M::Op> {
        for start in fresh_starts(self.model, &part).into_iter().rev() {
            let suffix: Part<M::Op> =
                part.iter().filter(|(_, span)| !is_past(span, start)).cloned().collect();
            if suffix.len() < part.len() && self.is_wrong(&suffix) {
                self.fresh_start = Some(start);
                return suffix;
            }
        }
        part
    }

    /// Groups of values, but for the one of the write that everything starts with.
    fn spare_groups(&self, part: &Part<M::Op>) -> Vec<Option<usize>> {
        let groups = value_groups(self.model, part);
        let first = part.iter().position(|(_, span)| Some(span.invoked) == self.fresh_start);
        let needed = first.and_then(|first| groups[first]);
        groups.into_iter().map(|group| group.filter(|_| group != needed)).collect()
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
        let judged = |budget: &mut Budget| search_pruned(self.model, &spans, budget);
        match self.budget.within(STEPS_PER_PART, judged) {
            Found::Stuck { .. } => true,
            Found::Linearization(_) => false,
            Found::Exhausted(why) => {
                self.minimal = false;
                self.exhausted = why != Exhausted::Steps || self.budget.steps == 0;
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

/// Each read, or what else changes nothing, is a group of its own.
fn reads<M: Model>(model: &M, part: &Part<M::Op>) -> Vec<Option<usize>> {
    part.iter().enumerate().map(|(place, (_, span))| model.read_only(&span.op).then_some(place)).collect()
}

/// Whether this returned before the event at `start`.
fn is_past<Op>(span: &Span<Op>, start: u64) -> bool {
    span.returned.is_some_and(|returned| returned < start)
}

/// The invocations before which everything can be left out, in order. O(n log n).
fn fresh_starts<M: Model>(model: &M, part: &Part<M::Op>) -> Vec<u64> {
    // Operations that may depend on what was there, as intervals whose union no fresh start may touch.
    let mut dependent: Vec<(u64, u64)> = Vec::new();
    let mut writes = Vec::new();
    for (_, span) in part {
        match span.returned {
            Some(returned) if model.overwrites(&span.op) => writes.push((span.invoked, returned)),
            Some(returned) => dependent.push((span.invoked, returned)),
            None => {}
        }
    }
    dependent.sort_unstable();
    // The latest return among the first so many of them: those invoked before a write returns overlap it unless all
    // of them return before it is invoked.
    let mut latest = 0;
    let latest_return: Vec<u64> = (dependent.iter())
        .map(|&(_, returned)| {
            latest = latest.max(returned);
            latest
        })
        .collect();
    writes.sort_unstable();
    let alone = |&(invoked, returned): &(u64, u64)| {
        let before = dependent.partition_point(|&(other, _)| other < returned);
        before == 0 || latest_return[before - 1] < invoked
    };
    writes.into_iter().filter(alone).map(|(invoked, _)| invoked).collect()
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

/// Every part of `part` that may be left out by one of the rules: for the test of their soundness.
#[cfg(test)]
pub(crate) fn parts_that_can_go<M: Model>(model: &M, spans: &[Span<M::Op>]) -> Vec<Vec<Span<M::Op>>> {
    let part: Part<M::Op> = spans.iter().cloned().enumerate().collect();
    let mut rests = Vec::new();
    for groups in [value_groups(model, &part), reads(model, &part)] {
        for group in distinct(&groups) {
            let rest = part.iter().zip(&groups).filter(|(_, of)| **of != Some(group));
            rests.push(rest.map(|((_, span), _)| span.clone()).collect());
        }
    }
    for start in fresh_starts(model, &part) {
        rests.push(spans.iter().filter(|span| !is_past(span, start)).cloned().collect());
    }
    rests
}
