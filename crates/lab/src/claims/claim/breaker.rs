//! Claims 45 to 48.

use keypact_recovery::circuit_breaker::{CircuitBreaker, Config, Outcome, State, WindowKind};
use keypact_recovery::{MILLISECOND_NS, SECOND_NS};
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Verdict, percentile};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const OPENS: Claim = Claim {
    number: 45,
    part: "recovery",
    text: "A breaker opens when the error rate exceeds the threshold for a duration",
    how: "a service whose calls fail at 80 % from a moment on, threshold 50 % over the last second, for 2 s, a call every 10 ms: time from that \
          moment to the opening; control: bursts of errors that are shorter than the duration",
    measure: opens,
};

pub(in crate::claims) const COOLS: Claim = Claim {
    number: 46,
    part: "recovery",
    text: "An open breaker is half-open after the cool-down",
    how: "an open breaker with a cool-down of 5 s, asked every 10 ms: when the first call is let through; control: a cool-down of 1 s",
    measure: cools,
};

pub(in crate::claims) const CLOSES: Claim = Claim {
    number: 47,
    part: "recovery",
    text: "A half-open breaker closes when the probe succeeds",
    how: "after the cool-down one probe is let through and succeeds; state and calls let through afterwards; control: the probe fails",
    measure: closes,
};

pub(in crate::claims) const REOPENS: Claim = Claim {
    number: 48,
    part: "recovery",
    text: "A half-open breaker opens when the probe fails",
    how: "after the cool-down one probe is let through and fails; state and calls let through afterwards; control: the probe succeeds",
    measure: reopens,
};

const EVERY_NS: u64 = 10 * MILLISECOND_NS;
const COOL_DOWN_NS: u64 = 5 * SECOND_NS;

fn breaker(cool_down_ns: u64) -> CircuitBreaker {
    let config = Config {
        error_rate_percent: 50,
        window: WindowKind::Time { buckets: 10, bucket_ns: SECOND_NS / 10 },
        minimum_calls: 10,
        duration_ns: 2 * SECOND_NS,
        cool_down_ns,
        probes: 1,
        ..Config::default()
    };
    CircuitBreaker::new(config).expect("sensible settings")
}

fn outcome(fails: bool) -> Outcome {
    if fails { Outcome::Error } else { Outcome::Success }
}

/// Calls every 10 ms until the breaker opens or the time is over; when it opened.
fn call_until_open(
    breaker: &mut CircuitBreaker,
    from_ns: u64,
    until_ns: u64,
    mut fails: impl FnMut(u64) -> bool,
) -> Option<u64> {
    let mut now_ns = from_ns;
    while now_ns < until_ns {
        match breaker.admit(now_ns) {
            Ok(permit) => breaker.record(permit, outcome(fails(now_ns)), now_ns),
            Err(_) => return Some(now_ns),
        }
        if breaker.state() == State::Open {
            return Some(now_ns);
        }
        now_ns += EVERY_NS;
    }
    None
}

fn opens(effort: Effort) -> Finding {
    const ILL_NS: u64 = 10 * SECOND_NS;
    let mut took: Vec<f64> = Vec::new();
    let (mut runs, mut bursts_opened) = (0u64, 0u64);
    for seed in effort.first_seed..effort.first_seed.saturating_add(effort.seeds * 20) {
        let mut random = Random::new(seed);
        runs += 1;
        let ill = |now_ns: u64| random.chance(if now_ns < ILL_NS { 20_000 } else { 800_000 });
        let opened = call_until_open(&mut breaker(COOL_DOWN_NS), 0, 60 * SECOND_NS, ill);
        took.extend(opened.filter(|at_ns| *at_ns >= ILL_NS).map(|at_ns| (at_ns - ILL_NS) as f64 / 1e6));
        // Ill for one second in four.
        let bursts = |now_ns: u64| {
            random.chance(if (now_ns / SECOND_NS).is_multiple_of(4) { 800_000 } else { 20_000 })
        };
        bursts_opened +=
            u64::from(call_until_open(&mut breaker(COOL_DOWN_NS), 0, 60 * SECOND_NS, bursts).is_some());
    }
    let all = took.len() as u64 == runs;
    let (least, most) = (percentile(&took, 0.0), percentile(&took, 1.0));
    Finding {
        verdict: Verdict::of(all && least >= 2_000.0),
        because: format!(
            "it opened in {} of {runs} runs, never sooner than {least:.0} ms after the errors began: until the rate of the last second is above \
             the threshold, and 2 s more",
            took.len()
        ),
        figures: vec![
            Figure::new("opened", took.len() as f64, "runs"),
            Figure::new("soonest", least, "ms"),
            Figure::new("median", percentile(&took, 0.5), "ms"),
            Figure::new("latest", most, "ms"),
        ],
        control: Control {
            what: "one second of errors in four".into(),
            figures: vec![Figure::new("opened", bursts_opened as f64, "runs")],
            differs: bursts_opened == 0,
        },
        plots: Vec::new(),
        seeds: runs,
    }
}

/// A breaker that has just opened, and when.
fn opened(cool_down_ns: u64) -> (CircuitBreaker, u64) {
    let mut breaker = breaker(cool_down_ns);
    let at_ns = call_until_open(&mut breaker, 0, 60 * SECOND_NS, |_| true).expect("it opens when all fails");
    (breaker, at_ns)
}

/// When the first call is let through after the opening, milliseconds; the states just before and after it; and calls refused until then.
fn first_let_through(cool_down_ns: u64) -> (f64, State, State, u64) {
    let (mut breaker, opened_ns) = opened(cool_down_ns);
    let mut refused = 0;
    let mut now_ns = opened_ns + EVERY_NS;
    loop {
        let before = breaker.state();
        if breaker.admit(now_ns).is_ok() {
            return ((now_ns - opened_ns) as f64 / 1e6, before, breaker.state(), refused);
        }
        refused += 1;
        now_ns += EVERY_NS;
        assert!(now_ns < opened_ns + 60 * SECOND_NS, "a breaker does not stay open for ever");
    }
}

fn cools(_effort: Effort) -> Finding {
    let (first_ms, before, after, refused) = first_let_through(COOL_DOWN_NS);
    let (other_ms, _, _, _) = first_let_through(SECOND_NS);
    let cool_down_ms = COOL_DOWN_NS as f64 / 1e6;
    let in_time = (cool_down_ms..cool_down_ms + 10.1).contains(&first_ms);
    Finding {
        verdict: Verdict::of(after == State::HalfOpen && in_time),
        because: format!(
            "the first call is let through {first_ms:.0} ms after it opened; just before that call it was {before}, after it {after}"
        ),
        figures: vec![
            Figure::new("first call let through", first_ms, "ms"),
            Figure::new("cool-down", cool_down_ms, "ms"),
            Figure::new("calls refused until then", refused as f64, "calls"),
        ],
        control: Control {
            what: "a cool-down of 1 s".into(),
            figures: vec![Figure::new("first call let through", other_ms, "ms")],
            differs: (1_000.0..1_010.1).contains(&other_ms),
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

/// The state after one probe with this outcome, and how many of the next ten calls are let through.
fn after_probe(fails: bool) -> (State, u64) {
    let (mut breaker, opened_ns) = opened(COOL_DOWN_NS);
    let mut now_ns = opened_ns + COOL_DOWN_NS;
    let probe = breaker.admit(now_ns).expect("the cool-down is over");
    assert!(breaker.admit(now_ns).is_err(), "one probe at a time");
    now_ns += EVERY_NS;
    breaker.record(probe, outcome(fails), now_ns);
    let state = breaker.state();
    let let_through = (0..10).filter(|_| {
        now_ns += EVERY_NS;
        breaker.admit(now_ns).is_ok()
    });
    (state, let_through.count() as u64)
}

fn probed(fails: bool, wanted: State, let_through: u64) -> Finding {
    let ((state, through), (other, other_through)) = (after_probe(fails), after_probe(!fails));
    let figures = |state: State, through: u64| {
        vec![Figure::new(format!("of ten calls afterwards, {state}: let through"), through as f64, "calls")]
    };
    Finding {
        verdict: Verdict::of(state == wanted && through == let_through),
        because: format!(
            "the breaker is {state} after its one probe has {}",
            if fails { "failed" } else { "succeeded" }
        ),
        figures: figures(state, through),
        control: Control {
            what: format!("the probe {}", if fails { "succeeds" } else { "fails" }),
            figures: figures(other, other_through),
            differs: other != state && other_through != through,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

fn closes(_effort: Effort) -> Finding {
    probed(false, State::Closed, 10)
}

fn reopens(_effort: Effort) -> Finding {
    probed(true, State::Open, 0)
}
