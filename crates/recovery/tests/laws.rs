//! Laws that hold for all settings and all orders of events.

use keypact_recovery::circuit_breaker::{CircuitBreaker, Config, Outcome, State, WindowKind};
use keypact_recovery::idempotency::{
    self, Begun, Fingerprint, Ledger, MemoryStore, Once, Record, Ticket, Token,
};
use keypact_recovery::retry::{Budget, BudgetConfig, Failure, Jitter, Policy};
use proptest::collection::vec;
use proptest::prelude::*;

fn jitters() -> impl Strategy<Value = Jitter> {
    let added = any::<u64>().prop_map(|jitter_ns| Jitter::Added { jitter_ns });
    prop_oneof![added, Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)]
}

proptest! {
    /// No wait is longer than the cap and its jitter; with added and equal jitter none is shorter than the one before, but for chance.
    #[test]
    fn waits_stay_in_their_bounds(base_ns: u64, more: u64, jitter in jitters(), randoms in vec(any::<u64>(), 1..200)) {
        let max_ns = base_ns.saturating_add(more);
        let policy = Policy { base_ns, max_ns, jitter, retries_max: u32::MAX, deadline_ns: None };
        let mut retry = policy.begin(false, 0);
        for (attempt, random) in randoms.into_iter().enumerate() {
            let wait_ns = retry.failed(Failure::NotApplied, None, 0, random).expect("it may be tried again");
            let doubled = (0..attempt).fold(u128::from(base_ns), |wait, _| (wait * 2).min(u128::from(max_ns)));
            let exponential_ns = doubled.min(u128::from(max_ns)) as u64;
            let (low, high) = match jitter {
                Jitter::Added { jitter_ns } => (exponential_ns, exponential_ns.saturating_add(jitter_ns)),
                Jitter::Full => (0, exponential_ns),
                Jitter::Equal => (exponential_ns / 2, exponential_ns),
                Jitter::Decorrelated => (base_ns, max_ns),
            };
            prop_assert!((low..=high).contains(&wait_ns), "attempt {}: {} not in {}..={}", attempt, wait_ns, low, high);
        }
    }

    /// Whatever order first tries, retries and time come in: never more than the ratio and the minimum.
    #[test]
    fn a_budget_is_never_exceeded(
        ratio_ppm in 0..2_000_000u32, minimum_per_s in 0..50u32, capacity in 1..50u32,
        steps in vec((0..20u64, 0..5u64, 0..300_000_000u64), 1..100),
    ) {
        let mut budget = Budget::new(BudgetConfig { ratio_ppm, minimum_per_s, capacity }, 0);
        let (mut first_tries, mut retries, mut now_ns) = (0u128, 0u128, 0);
        for (first, wanted, later_ns) in steps {
            (0..first).for_each(|_| budget.first_try());
            now_ns += later_ns;
            first_tries += u128::from(first);
            retries += (0..wanted).filter(|_| budget.withdraw(now_ns)).count() as u128;
            let allowed = first_tries * u128::from(ratio_ppm) + u128::from(now_ns) * u128::from(minimum_per_s) / 1_000;
            prop_assert!(retries * 1_000_000 <= allowed);
            prop_assert!(budget.level() <= u64::from(capacity));
        }
    }

    /// A window's rates are those of the last calls, counted anew.
    #[test]
    fn a_window_counts_its_last_calls(calls in 1..70u32, outcomes in vec(any::<bool>(), 1..300)) {
        let config = Config {
            window: WindowKind::Count { calls }, minimum_calls: calls, error_rate_percent: 100, duration_ns: u64::MAX,
            ..Config::default()
        };
        let mut breaker = CircuitBreaker::new(config).expect("the settings hold");
        for (at, error) in outcomes.iter().enumerate() {
            let permit = breaker.admit(0).expect("it stays closed");
            breaker.record(permit, if *error { Outcome::Error } else { Outcome::Success }, 0);
            let last = &outcomes[(at + 1).saturating_sub(calls as usize)..=at];
            let rates = breaker.rates(0);
            prop_assert_eq!(rates.calls as usize, last.len());
            prop_assert_eq!(rates.errors as usize, last.iter().filter(|error| **error).count());
        }
    }

    /// Half-open, however calls begin, end, are ignored or never come back: no more under way than there are probes.
    #[test]
    fn probes_are_bounded(probes in 1..5u32, steps in vec((0..4u8, any::<prop::sample::Index>(), 0..60u64), 1..200)) {
        let config = Config {
            window: WindowKind::Count { calls: 3 }, minimum_calls: 1, cool_down_ns: 100, probe_timeout_ns: 200, probes,
            ..Config::default()
        };
        let mut breaker = CircuitBreaker::new(config).expect("the settings hold");
        let (mut now_ns, mut out, mut probing) = (0, Vec::new(), 0u32);
        for (step, index, later_ns) in steps {
            now_ns += later_ns;
            let before = breaker.state();
            if step == 0 || out.is_empty() {
                let admitted = breaker.admit(now_ns);
                if breaker.state() != before {
                    probing = 0;
                }
                if let Ok(permit) = admitted {
                    prop_assert_ne!(breaker.state(), State::Open);
                    let period = breaker.counts().opened;
                    probing += u32::from(breaker.state() == State::HalfOpen);
                    out.push((permit, period, breaker.state()));
                }
            } else {
                let (permit, period, state) = out.swap_remove(index.index(out.len()));
                let outcome = [Outcome::Success, Outcome::Error, Outcome::Ignored][usize::from(step) - 1];
                let counts = (breaker.counts().opened, breaker.state()) == (period, state);
                breaker.record(permit, outcome, now_ns);
                probing -= u32::from(counts && state == State::HalfOpen && outcome == Outcome::Ignored);
                if breaker.state() != before {
                    probing = 0;
                }
            }
            prop_assert!(probing <= probes);
            breaker.assert_invariants();
        }
    }

    /// Whatever is asked, repeated, lost and forgotten: every effect once, and recovery finds what was there.
    #[test]
    fn an_effect_happens_once(
        answers_max in 1..6usize, steps in vec((0..12u64, 0..3u8, 0..4u8), 1..120),
    ) {
        let config = idempotency::Config { answers_max, skew_max_ms: 1_000, retention_ms: 1_000_000, ..Default::default() };
        let mut once: Once<MemoryStore, ()> = Once::recover(config, MemoryStore::default(), [], |_| {});
        let mut effects: Vec<u8> = Vec::new();
        for (made, kind, step) in steps {
            if step == 3 {
                let records: Vec<Record> = once.store_ref().records().collect();
                once = Once::recover(config, once.store_ref().clone(), records, |_| {});
                continue;
            }
            let ticket = Ticket::Free(Token::new(made, 1));
            let answer = [None, Some(Vec::new()), Some(vec![made as u8])][usize::from(kind)].clone();
            if once.begin(ticket, Fingerprint(u128::from(made)), (), 0) == Ok(Begun::New) {
                once.commit(Some(ticket), answer, vec![made as u8]).expect("memory does not fail");
                prop_assert!(!effects.contains(&(made as u8)), "{} had its effect twice", made);
                effects.push(made as u8);
            }
            once.ledger().assert_invariants();
        }
    }

    /// Bytes that come from outside are refused or read, and never panic; what is read is written back alike.
    #[test]
    fn records_survive_any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::decode(&bytes) {
            let mut again = Vec::new();
            record.encode(&mut again);
            prop_assert_eq!(Record::decode(&again), Ok(record));
        }
    }
}

#[test]
fn a_ledger_that_never_saw_a_token_says_so() {
    let mut ledger: Ledger<()> = Ledger::new(idempotency::Config::default());
    let ticket = Ticket::Free(Token::new(1_000, 7));
    assert_eq!(ledger.begin(ticket, Fingerprint(1), (), 1_000), Ok(Begun::New));
}
