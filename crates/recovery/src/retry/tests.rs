//! Laws of the formula, and the order of reasons to give up.

use super::*;
use crate::MILLISECOND_NS;

/// The textbook's formula in 128 bits, by doubling.
fn formula(base: u64, max: u64, attempt: u32) -> u64 {
    let mut exponential = u128::from(base);
    for _ in 0..attempt.min(200) {
        exponential = (exponential * 2).min(u128::MAX / 4);
    }
    exponential.min(u128::from(max)) as u64
}

#[test]
fn the_formula_is_exact_at_every_attempt() {
    for base in [0, 1, 3, 1 << 20, 100_000_000, u64::MAX / 2, u64::MAX] {
        for max in [0, 1, 10_000_000_000, u64::MAX] {
            for attempt in (0..200).chain([u32::MAX - 1, u32::MAX]) {
                let expected = formula(base, max, attempt);
                assert_eq!(capped_exponential(base, max, attempt), expected, "{base} {max} {attempt}");
            }
        }
    }
}

#[test]
fn draws_reach_both_ends_and_nothing_else() {
    assert_eq!(draw(5, 7, 0), 5);
    assert_eq!(draw(5, 7, u64::MAX), 7);
    assert_eq!(draw(5, 5, 12_345), 5);
    assert_eq!(draw(0, u64::MAX, u64::MAX), u64::MAX);
}

/// (jitter, random, waits before the first four retries in milliseconds) with a base of 100 and at most 400.
#[test]
fn jitters_by_the_book() {
    let rows: [(Jitter, u64, [u64; 4]); 7] = [
        (Jitter::Added { jitter_ns: 50 * MILLISECOND_NS }, 0, [100, 200, 400, 400]),
        (Jitter::Added { jitter_ns: 50 * MILLISECOND_NS }, u64::MAX, [150, 250, 450, 450]),
        (Jitter::Full, 0, [0, 0, 0, 0]),
        (Jitter::Full, u64::MAX, [100, 200, 400, 400]),
        (Jitter::Equal, 0, [50, 100, 200, 200]),
        (Jitter::Decorrelated, 0, [100, 100, 100, 100]),
        (Jitter::Decorrelated, u64::MAX, [300, 400, 400, 400]),
    ];
    for (jitter, random, waits_ms) in rows {
        let policy = Policy {
            base_ns: 100 * MILLISECOND_NS,
            max_ns: 400 * MILLISECOND_NS,
            jitter,
            ..Policy::default()
        };
        let mut retry = policy.begin(false, 0);
        for wait_ms in waits_ms {
            let granted = retry.failed(Failure::NotApplied, None, 0, random);
            assert_eq!(granted, Ok(wait_ms * MILLISECOND_NS), "{jitter:?}");
        }
    }
}

#[test]
fn only_what_is_safe_is_tried_again() {
    let policy = Policy { retries_max: 1, ..Policy::default() };
    let first = |token, failure| policy.begin(token, 0).failed(failure, None, 0, 0);
    assert!(first(false, Failure::NotApplied).is_ok());
    assert!(first(true, Failure::Uncertain).is_ok());
    assert_eq!(first(false, Failure::Uncertain), Err(GiveUp::UncertainWithoutToken));
    assert_eq!(first(true, Failure::Permanent), Err(GiveUp::Permanent));
    let mut retry = policy.begin(true, 0);
    assert!(retry.failed(Failure::Uncertain, None, 0, 0).is_ok());
    assert_eq!(retry.failed(Failure::NotApplied, None, 0, 0), Err(GiveUp::Retries));
}

#[test]
fn a_wait_past_the_deadline_is_not_begun_and_costs_nothing() {
    let jitter = Jitter::Added { jitter_ns: 0 };
    let policy = Policy { base_ns: 100, max_ns: 100, jitter, retries_max: 9, deadline_ns: Some(250) };
    let mut budget = Budget::new(BudgetConfig { ratio_ppm: 1_000_000, minimum_per_s: 0, capacity: 5 }, 0);
    let mut retry = policy.begin(false, 1_000);
    budget.first_try();
    budget.first_try();
    assert_eq!(retry.failed(Failure::NotApplied, Some(&mut budget), 1_000, 0), Ok(100));
    assert_eq!(retry.failed(Failure::NotApplied, Some(&mut budget), 1_151, 0), Err(GiveUp::Deadline));
    assert_eq!(budget.level(), 1);
    assert_eq!(retry.failed(Failure::NotApplied, Some(&mut budget), 1_150, 0), Ok(100));
    assert_eq!(retry.failed(Failure::NotApplied, Some(&mut budget), 1_150, 0), Err(GiveUp::Budget));
}

#[test]
fn without_deadline_and_budget_nobody_looks_at_the_clock() {
    let clock = || -> u64 { panic!("the clock was read") };
    let mut retry = Policy::default().begin(false, clock);
    assert!(retry.failed(Failure::NotApplied, None, clock, 0).is_ok());
}

#[test]
fn a_budget_at_total_failure_lets_through_a_fifth_and_the_minimum() {
    let mut budget = Budget::new(BudgetConfig::default(), 0);
    let (mut sent, mut now_ns) = (0u64, 0);
    for _ in 0..100_000 {
        budget.first_try();
        sent += 1;
        for _ in 0..3 {
            sent += u64::from(budget.withdraw(now_ns));
        }
        now_ns += MILLISECOND_NS;
    }
    // 100 s: one retry per second beside the fifth.
    assert!(sent <= 120_000 + 100, "{sent}");
    assert!(sent >= 120_000 + 98, "{sent}");
}

#[test]
fn a_budget_saves_up_to_its_capacity_and_time_pays_to_the_millionth() {
    let config = BudgetConfig { ratio_ppm: 0, minimum_per_s: 3, capacity: 2 };
    let mut budget = Budget::new(config, 5);
    assert!(!budget.withdraw(5));
    // A third of a second a retry, however often it is asked meanwhile.
    let granted = (0..=1_000_000).step_by(7).filter(|us| budget.withdraw(5 + us * 1_000)).count();
    assert_eq!(granted, 2);
    assert!(budget.withdraw(5 + 1_000_001_000));
    let later_ns = 3_600_000_000_000;
    assert!(budget.withdraw(later_ns) && budget.withdraw(later_ns));
    assert!(!budget.withdraw(later_ns), "only two were saved up");
    assert!(!budget.withdraw(0), "a clock that goes back pays nothing");
}

#[test]
fn a_policy_that_can_not_be_is_named() {
    let policy = Policy { base_ns: 2, max_ns: 1, ..Policy::default() };
    assert_eq!(policy.check(), Err(PolicyError::MaxBelowBase));
    assert_eq!(Policy::default().check(), Ok(()));
}
