//! The list is sound and whole, reports are whole, and equal seeds give equal figures (of one claim: all others would take too long here).

use std::collections::BTreeSet;

use super::{CLAIMS, ClaimError, Effort, NOT_HERE, claims, html};

/// The textbook has so many.
const TEXTBOOK: u8 = 53;

#[test]
fn numbers_are_the_textbooks_and_stand_once() {
    let mut seen = BTreeSet::new();
    for number in CLAIMS.iter().map(|claim| claim.number).chain(NOT_HERE.iter().map(|claim| claim.number)) {
        assert!((1..=TEXTBOOK).contains(&number), "{number}");
        assert!(seen.insert(number), "{number} stands twice");
    }
    assert_eq!(seen.len(), usize::from(TEXTBOOK), "every claim is measured, or it is said why not");
    assert_eq!(CLAIMS.len(), usize::from(TEXTBOOK), "all of them are measured at present");
    assert!(CLAIMS.is_sorted_by_key(|claim| claim.number), "in order");
}

#[test]
fn what_can_not_be_measured_is_refused_before_anything_is() {
    let never = |_: &_| panic!("nothing may be measured");
    let unknown = claims(&[1, 99], Effort::default(), never).map(|_| ());
    assert_eq!(unknown, Err(ClaimError::Unknown(99)));
    let none = claims(&[], Effort { seeds: 0, first_seed: 1 }, never).map(|_| ());
    assert_eq!(none, Err(ClaimError::NoSeeds));
}

#[test]
fn equal_seeds_give_equal_figures_and_a_whole_page() {
    let effort = Effort { seeds: 1, first_seed: 7 };
    let run = || claims(&[3], effort, |_| {}).expect("claim 3 is measured here");
    let (one, two) = (run(), run());
    assert_eq!(one.claims[0].finding, two.claims[0].finding);
    assert!(one.claims[0].finding.control.differs, "{:?}", one.claims[0].finding);
    let page = html(&one);
    for wanted in ["uPlot", "keypact lab claims 3 --seeds 1 --first-seed 7", "\"verdict\":\"holds\""] {
        assert!(page.contains(wanted), "the page lacks {wanted}");
    }
    for left in ["/*STYLE*/", "/*UPLOT*/", "/*DATA*/"] {
        assert!(!page.contains(left), "{left} was not replaced");
    }
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "the page needs no network");
}
