//! Retry and circuit breaker beside backon, recloser and failsafe, in process, on one thread.
//!
//! What is measured is what the library adds to a call: the operation itself returns a number that the compiler can't foresee. Waits are
//! zero on both sides, so that a retry costs what deciding about it costs. Breakers stand behind handles that threads could share, with a
//! window of 100 calls, on all sides; failsafe has no such window and keeps its own, over time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use failsafe::CircuitBreaker as _;
use keypact_recovery::circuit_breaker::{Config, SharedBreaker, WindowKind};
use keypact_recovery::retry::{Failure as Class, Jitter, Policy};
use keypact_recovery::tokio::{Retrying, retry};
use recloser::Recloser;

use crate::compare::Spread;
use crate::error::Failure;

/// Calls between two looks at the clock.
const CALLS: u64 = 1_000;
/// Retries of a call that fails.
const RETRIES: u32 = 3;

/// One kind of call, both sides.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// Which.
    pub(crate) call: &'static str,
    /// Whose is beside it.
    pub(crate) peer: &'static str,
    /// Nanoseconds a call, ours.
    pub(crate) ours_ns: Option<Spread>,
    /// And theirs.
    pub(crate) theirs_ns: Option<Spread>,
    /// Ours divided by theirs, round by round.
    pub(crate) ratio: Option<Spread>,
    /// Rounds.
    pub(crate) rounds: usize,
}

/// Nanoseconds a call of what makes [`CALLS`] calls.
fn time(measured: Duration, mut calls: impl FnMut()) -> f64 {
    calls();
    let start = Instant::now();
    let mut made = 0;
    loop {
        calls();
        made += CALLS;
        let elapsed = start.elapsed();
        if elapsed >= measured {
            return elapsed.as_nanos() as f64 / made as f64;
        }
    }
}

/// Measures both sides of one kind of call in turn, the order turned round in every second round.
fn beside(
    call: &'static str,
    peer: &'static str,
    rounds: usize,
    measured: Duration,
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(),
) -> Cost {
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let mut pair = (0.0, 0.0);
        for turn in [round % 2, (round + 1) % 2] {
            if turn == 0 {
                pair.0 = time(measured, &mut ours);
            } else {
                pair.1 = time(measured, &mut theirs);
            }
        }
        eprintln!("round {} {call}: {:.1} ns beside {peer} {:.1} ns", round + 1, pair.0, pair.1);
        pairs.push(pair);
    }
    Cost {
        call,
        peer,
        ours_ns: Spread::of(pairs.iter().map(|pair| pair.0)),
        theirs_ns: Spread::of(pairs.iter().map(|pair| pair.1)),
        ratio: Spread::of(pairs.iter().map(|pair| pair.0 / pair.1)),
        rounds,
    }
}

/// A result that the compiler does not foresee.
fn operation(fails: bool) -> Result<u64, u64> {
    let number = black_box(7);
    if black_box(fails) { Err(number) } else { Ok(number) }
}

/// All of it.
///
/// # Errors
/// If a side refuses its settings.
pub(crate) async fn measure(rounds: usize, measured: Duration) -> Result<Vec<Cost>, Failure> {
    let mut costs = Vec::new();
    for (call, fails) in [("retry, success at once", false), ("retry, three retries", true)] {
        costs.push(retries(call, fails, rounds, measured));
        tokio::task::yield_now().await;
    }
    for (call, fails) in [("closed breaker, success", false), ("closed breaker, error", true)] {
        costs.push(beside_recloser(call, fails, rounds, measured)?);
        costs.push(beside_failsafe(call, fails, rounds, measured)?);
        tokio::task::yield_now().await;
    }
    costs.extend(open(rounds, measured)?);
    Ok(costs)
}

/// A small generator, as backon has one: xorshift on a thread's own state.
fn random() -> u64 {
    thread_local!(static STATE: std::cell::Cell<u64> = const { std::cell::Cell::new(0x9e37_79b9_7f4a_7c15) });
    STATE.with(|state| {
        let mut bits = state.get();
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        state.set(bits);
        bits
    })
}

/// Polls a future that never waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("nothing here waits"),
    }
}

fn retries(call: &'static str, fails: bool, rounds: usize, measured: Duration) -> Cost {
    let policy =
        Policy { base_ns: 0, max_ns: 0, jitter: Jitter::Full, retries_max: RETRIES, deadline_ns: None };
    let ours = || {
        for _ in 0..CALLS {
            let retrying = Retrying { policy: &policy, budget: None, token: false, random };
            let result = run(retry(retrying, || async { operation(fails) }, |_| Class::NotApplied));
            let _ = black_box(result.is_ok());
        }
    };
    let builder = ExponentialBuilder::new()
        .with_min_delay(Duration::ZERO)
        .with_max_delay(Duration::ZERO)
        .with_max_times(RETRIES as usize)
        .with_jitter();
    let theirs = || {
        for _ in 0..CALLS {
            let future = Retryable::retry(|| async { operation(fails) }, builder)
                .sleep(|_: Duration| std::future::ready(()));
            let _ = black_box(run(future.into_future()).is_ok());
        }
    };
    beside(call, "backon", rounds, measured, ours, theirs)
}

fn ours() -> Result<SharedBreaker, Failure> {
    let config = Config {
        // Never opens by itself, so that errors are measured while closed.
        error_rate_percent: 100,
        window: WindowKind::Count { calls: 100 },
        minimum_calls: 100,
        cool_down_ns: 3_600_000_000_000,
        ..Config::default()
    };
    SharedBreaker::new(config).map_err(|error| Failure::Wrong(error.to_string()))
}

/// Errors come with a success after each, so that nobody opens.
fn calls(fails: bool, mut call: impl FnMut(bool)) {
    for number in 0..CALLS {
        call(fails && number % 4 == 0);
    }
}

fn beside_recloser(
    call: &'static str,
    fails: bool,
    rounds: usize,
    measured: Duration,
) -> Result<Cost, Failure> {
    let breaker = ours()?;
    let recloser = Recloser::custom()
        .error_rate(0.99)
        .closed_len(100)
        .half_open_len(1)
        .open_wait(Duration::from_secs(3_600))
        .build();
    let ours = || calls(fails, |fails| drop(black_box(breaker.call(|| operation(fails)))));
    let theirs = || calls(fails, |fails| drop(black_box(recloser.call(|| operation(fails)))));
    Ok(beside(call, "recloser", rounds, measured, ours, theirs))
}

fn failsafe_breaker(rate: f64) -> impl failsafe::CircuitBreaker {
    let backoff = failsafe::backoff::constant(Duration::from_secs(3_600));
    let window = Duration::from_secs(30);
    let policy = failsafe::failure_policy::success_rate_over_time_window(rate, 100, window, backoff);
    failsafe::Config::new().failure_policy(policy).build()
}

fn beside_failsafe(
    call: &'static str,
    fails: bool,
    rounds: usize,
    measured: Duration,
) -> Result<Cost, Failure> {
    let breaker = ours()?;
    let failsafe = failsafe_breaker(0.01);
    let ours = || calls(fails, |fails| drop(black_box(breaker.call(|| operation(fails)))));
    let theirs = || calls(fails, |fails| drop(black_box(failsafe.call(|| operation(fails)))));
    Ok(beside(call, "failsafe", rounds, measured, ours, theirs))
}

/// Open breakers: what a rejection costs.
fn open(rounds: usize, measured: Duration) -> Result<Vec<Cost>, Failure> {
    let breaker = ours()?;
    breaker.with(|breaker, now_ns| breaker.force_open(now_ns));
    let recloser =
        Recloser::custom().error_rate(0.5).closed_len(10).open_wait(Duration::from_secs(3_600)).build();
    // Its rate is taken over finished stretches of time; failures in a row need none.
    let backoff = failsafe::backoff::constant(Duration::from_secs(3_600));
    let policy = failsafe::failure_policy::consecutive_failures(3, backoff);
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    for _ in 0..1_000 {
        let _ = recloser.call(|| operation(true));
        let _ = failsafe.call(|| operation(true));
    }
    let lets_through = [
        ("keypact-recovery", breaker.call(|| operation(false)).is_ok()),
        ("recloser", recloser.call(|| operation(false)).is_ok()),
        ("failsafe", failsafe.call(|| operation(false)).is_ok()),
    ];
    if let Some((name, _)) = lets_through.iter().find(|(_, through)| *through) {
        return Err(Failure::Wrong(format!("{name} is open and lets a call through")));
    }
    let name = "open breaker, rejection";
    let ours = || calls(false, |fails| drop(black_box(breaker.call(|| operation(fails)))));
    let theirs = || calls(false, |fails| drop(black_box(recloser.call(|| operation(fails)))));
    let beside_recloser = beside(name, "recloser", rounds, measured, ours, theirs);
    let theirs = || calls(false, |fails| drop(black_box(failsafe.call(|| operation(fails)))));
    Ok(vec![beside_recloser, beside(name, "failsafe", rounds, measured, ours, theirs)])
}
