//! A dotted context is a set of dots, whatever order they come in.

extern crate std;

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::dot;
use crate::clock::{Dot, DotContext, ReplicaId, Span, VectorClock};

type Model = BTreeSet<Dot>;

fn dots() -> impl Strategy<Value = Vec<Dot>> {
    // Few replicas and small counters, so that spans grow, touch and join.
    prop::collection::vec((0_u64..4, 1_u64..14).prop_map(|(replica, counter)| dot(replica, counter)), 0..40)
}

fn both(dots: &[Dot]) -> (DotContext, Model) {
    (dots.iter().copied().collect(), dots.iter().copied().collect())
}

fn same(context: &DotContext, model: &Model) {
    assert!(context.dots().eq(model.iter().copied()), "{context} is not {model:?}");
    assert_eq!(context.dot_count(), model.len() as u64);
    // Equal sets are equal values: built in order there is one way to write them.
    assert_eq!(context, &model.iter().copied().collect::<DotContext>());
}

proptest! {
    #[test]
    fn inserts_as_a_set_does(dots in dots()) {
        same(&dots.iter().copied().collect(), &dots.iter().copied().collect());
        let (mut context, mut model) = (DotContext::new(), Model::new());
        for dot in dots {
            prop_assert_eq!(context.contains(dot), model.contains(&dot));
            prop_assert_eq!(context.insert(dot), model.insert(dot));
            same(&context, &model);
        }
        for replica in 0..4 {
            let max = model.iter().filter(|dot| dot.replica == ReplicaId(replica)).map(|dot| dot.counter).max();
            prop_assert_eq!(context.max(ReplicaId(replica)), max.unwrap_or(0));
        }
    }

    #[test]
    fn spans_insert_all_their_dots(spans in prop::collection::vec((0_u64..3, 1_u64..20, 0_u64..8), 0..20)) {
        let (mut context, mut model) = (DotContext::new(), Model::new());
        for (replica, first, more) in spans {
            let span = Span { replica: ReplicaId(replica), first, last: first + more };
            let before = model.len();
            model.extend((first..=first + more).map(|counter| dot(replica, counter)));
            prop_assert_eq!(context.insert_span(span), model.len() > before);
            same(&context, &model);
        }
    }

    #[test]
    fn two_contexts_as_two_sets(left in dots(), right in dots()) {
        let ((a, a_model), (b, b_model)) = (both(&left), both(&right));
        same(&a.union(&b), &(&a_model | &b_model));
        same(&a.difference(&b), &(&a_model - &b_model));
        same(&a.intersection(&b), &(&a_model & &b_model));
        prop_assert_eq!(a.contains_all(&b), a_model.is_superset(&b_model));
        prop_assert_eq!(a.meets(&b), !a_model.is_disjoint(&b_model));
    }

    #[test]
    fn merging_is_a_join(left in dots(), middle in dots(), right in dots()) {
        let ((a, _), (b, _), (c, _)) = (both(&left), both(&middle), both(&right));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(&a.union(&a), &a);
        prop_assert!(a.union(&b).contains_all(&a));
    }

    #[test]
    fn a_vector_and_what_is_beyond_gaps_make_the_whole(dots in dots()) {
        let (context, _) = both(&dots);
        let mut whole = DotContext::from(&context.vector());
        prop_assert!(whole.is_compact());
        for span in context.beyond_gaps() {
            whole.insert_span(span);
        }
        prop_assert_eq!(&whole, &context);
        prop_assert_eq!(context.is_compact(), context.beyond_gaps().next().is_none());
    }
}

#[test]
fn counts_its_own_events_after_the_largest() {
    let mut context = DotContext::new();
    assert_eq!(context.next(ReplicaId(7)), dot(7, 1));
    assert_eq!(context.next(ReplicaId(7)), dot(7, 2));
    context.insert(dot(7, 9));
    assert_eq!(context.next(ReplicaId(7)), dot(7, 10), "a number above a gap is never given again");
}

#[test]
fn the_largest_counter_is_an_event_like_any_other() {
    let top = dot(1, u64::MAX);
    let mut context = DotContext::from_iter([top]);
    assert!(context.contains(top) && !context.insert(top));
    context.insert_span(Span { replica: ReplicaId(1), first: 1, last: u64::MAX });
    assert_eq!((context.span_count(), context.dot_count()), (1, u64::MAX));
    assert_eq!(context.difference(&DotContext::from_iter([top])).max(ReplicaId(1)), u64::MAX - 1);
    assert!(DotContext::from_iter([top]).difference(&context).is_empty());
}

#[test]
#[should_panic(expected = "2^64 events")]
fn a_counter_that_is_used_up_stops() {
    DotContext::from_iter([dot(1, u64::MAX)]).next(ReplicaId(1));
}

#[test]
fn a_vector_is_a_context_without_gaps() {
    let clock: VectorClock = [(ReplicaId(1), 3), (ReplicaId(5), 1)].into_iter().collect();
    let context = DotContext::from(&clock);
    assert_eq!(context.vector(), clock);
    assert_eq!(context.span_count(), 2);
}
