//! What the event tables in `interaction/circuit-breaker` do not say.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

fn breaker(config: Config) -> CircuitBreaker {
    CircuitBreaker::new(config).expect("the settings hold")
}

fn small() -> Config {
    Config {
        window: WindowKind::Count { calls: 4 },
        minimum_calls: 2,
        cool_down_ns: 100,
        probe_timeout_ns: 50,
        ..Config::default()
    }
}

fn call(breaker: &mut CircuitBreaker, outcome: Outcome, now_ns: u64) -> bool {
    let Ok(permit) = breaker.admit(now_ns) else { return false };
    breaker.record(permit, outcome, now_ns);
    breaker.assert_invariants();
    true
}

#[test]
fn settings_that_no_breaker_can_have() {
    let rows = [
        (Config { error_rate_percent: 0, ..small() }, ConfigError::Threshold),
        (Config { slow_rate_percent: 101, ..small() }, ConfigError::Threshold),
        (Config { window: WindowKind::Count { calls: 0 }, ..small() }, ConfigError::Window),
        (Config { window: WindowKind::Count { calls: 65_537 }, ..small() }, ConfigError::Window),
        (Config { window: WindowKind::Time { buckets: 3, bucket_ns: 0 }, ..small() }, ConfigError::Window),
        (Config { minimum_calls: 0, ..small() }, ConfigError::MinimumCalls),
        (Config { minimum_calls: 5, ..small() }, ConfigError::MinimumCalls),
        (Config { probes: 0, ..small() }, ConfigError::Probes),
    ];
    for (config, error) in rows {
        assert_eq!(CircuitBreaker::new(config).err(), Some(error));
    }
}

#[test]
fn closed_and_uninterested_in_durations_it_reads_no_clock() {
    let clock = || -> u64 { panic!("the clock was read") };
    let mut breaker = breaker(small());
    for _ in 0..10 {
        let permit = breaker.admit(clock).expect("it is closed");
        breaker.record(permit, Outcome::Success, clock);
    }
    let permit = breaker.admit(clock).expect("it is closed");
    breaker.record(permit, Outcome::Error, clock);
    assert_eq!(breaker.rates(0), Rates { calls: 4, errors: 1, slow: 0 });
}

/// An old call that fails while the breaker is half-open must not end the probing.
#[test]
fn results_of_an_earlier_state_count_for_nothing() {
    let mut breaker = breaker(small());
    let old = breaker.admit(0).expect("closed");
    let older = breaker.admit(0).expect("closed");
    call(&mut breaker, Outcome::Error, 1);
    call(&mut breaker, Outcome::Error, 1);
    assert_eq!(breaker.state(), State::Open);
    breaker.record(old, Outcome::Success, 2);
    let probe = breaker.admit(101).expect("the cool-down is over");
    breaker.record(older, Outcome::Error, 102);
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.record(probe, Outcome::Success, 103);
    assert_eq!((breaker.state(), breaker.counts().late), (State::Closed, 2));
}

#[test]
fn a_probe_that_never_answers_does_not_hold_it_half_open() {
    let mut breaker = breaker(small());
    breaker.force_open(0);
    let probe = breaker.admit(100).expect("the cool-down is over");
    assert_eq!(breaker.admit(149), Err(Rejected { state: State::HalfOpen, retry_after_ns: 1 }));
    assert_eq!(breaker.admit(150), Err(Rejected { state: State::Open, retry_after_ns: 100 }));
    breaker.record(probe, Outcome::Success, 160);
    assert_eq!(breaker.state(), State::Open);
    assert!(call(&mut breaker, Outcome::Success, 250));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn events_tell_the_story_and_are_bounded() {
    let mut breaker = breaker(Config { duration_ns: 10, events_max: 3, ..small() });
    for now_ns in [1, 2, 5, 12] {
        call(&mut breaker, Outcome::Error, now_ns);
    }
    assert!(call(&mut breaker, Outcome::Success, 112));
    let mut told = Vec::new();
    while let Some(event) = breaker.take_event() {
        told.push(match event {
            Event::Changed { from, to, why, at_ns, .. } => (from, to, Some(why), at_ns),
            Event::AboveThreshold { at_ns, .. } | Event::BelowThreshold { at_ns, .. } => {
                (State::Closed, State::Closed, None, at_ns)
            }
        });
    }
    let expected = vec![
        (State::Closed, State::Open, Some(Why::Errors), 12),
        (State::Open, State::HalfOpen, Some(Why::CooledDown), 112),
        (State::HalfOpen, State::Closed, Some(Why::ProbesSucceeded), 112),
    ];
    assert_eq!(told, expected);
    assert_eq!(breaker.counts().events_lost, 1, "that the rate was reached");
}

#[test]
fn keys_are_bounded_and_open_breakers_stay() {
    let mut breakers = Breakers::new(small(), 2).expect("the settings hold");
    let fail = |breakers: &mut Breakers<&'static str>, key, now_ns: u64| {
        let permit = breakers.admit(&key, now_ns).expect("let through");
        breakers.record(permit, Outcome::Error, now_ns);
    };
    fail(&mut breakers, "a", 0);
    fail(&mut breakers, "a", 0);
    fail(&mut breakers, "b", 0);
    let late = breakers.admit(&"b", 0).expect("closed");
    fail(&mut breakers, "c", 0);
    assert_eq!(breakers.keys().copied().collect::<Vec<_>>(), ["a", "c"], "b gave way, a is open");
    breakers.record(late, Outcome::Error, 0);
    assert_eq!(breakers.breaker_mut(&"c").map(|c| c.rates(0).calls), Some(1), "b's call is not c's");
    fail(&mut breakers, "c", 0);
    assert_eq!(breakers.admit(&"d", 0).err(), Some(KeyRefused::Full), "both are open");
    assert_eq!(breakers.evicted(), 1);
}

#[cfg(feature = "std")]
#[test]
fn threads_share_one_and_a_lost_permit_is_ignored() {
    let config = Config { cool_down_ns: 60_000_000_000, ..small() };
    let breaker = SharedBreaker::new(config).expect("the settings hold");
    drop(breaker.admit().expect("closed"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1))));
        }
    });
    let counts = breaker.with(|breaker, _| breaker.counts());
    assert_eq!((counts.successes, counts.ignored), (4_000, 1));
    for _ in 0..2 {
        assert_eq!(breaker.call(|| Err::<(), _>("no")), Err(Called::Failed("no")));
    }
    assert!(matches!(breaker.call(|| Ok::<_, ()>(1)), Err(Called::Rejected(_))));
}
