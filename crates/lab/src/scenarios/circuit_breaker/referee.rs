//! Judges one breaker by what it let through and what came back. It keeps every result since the breaker closed, and counts anew each time.

use keypact_recovery::circuit_breaker::{Config, Outcome, State, WindowKind};
use keypact_simulator::Violation;

use super::super::failing_service::Reached;

/// A call that was let through: when, and in which period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    at_ns: u64,
    period: u64,
}

#[derive(Clone, Copy, Debug)]
struct Result {
    at_ns: u64,
    error: bool,
    slow: bool,
}

/// Holds one breaker to its settings.
#[derive(Debug)]
pub(super) struct Referee {
    config: Config,
    /// Counts changes of state.
    period: u64,
    /// Results of this period.
    results: Vec<Result>,
    /// Probes let through in this period, less those given back.
    probes: u32,
    /// When the last of them was.
    probe_ns: u64,
    /// When this period began.
    since_ns: u64,
    /// Since when a rate has been too high.
    above_since_ns: Option<u64>,
    violation: Option<Violation>,
    reached: Reached,
}

impl Referee {
    pub(super) fn new(config: Config, reached: Reached) -> Referee {
        Referee {
            config,
            period: 0,
            results: Vec::new(),
            probes: 0,
            probe_ns: 0,
            since_ns: 0,
            above_since_ns: None,
            violation: None,
            reached,
        }
    }

    fn object(&mut self, property: &'static str, detail: String) {
        self.violation.get_or_insert_with(|| Violation::new(property, detail));
    }

    pub(super) fn verdict(&self) -> std::result::Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Calls, errors and slow calls of the last of these calls or buckets.
    fn counted(&self, results: &[Result], now_ns: u64) -> (u64, u64, u64) {
        let counts = |result: &&Result| match self.config.window {
            WindowKind::Count { .. } => true,
            WindowKind::Time { buckets, bucket_ns } => {
                now_ns / bucket_ns - result.at_ns / bucket_ns < u64::from(buckets)
            }
        };
        let last = match self.config.window {
            WindowKind::Count { calls } => results.len().saturating_sub(calls as usize),
            WindowKind::Time { .. } => 0,
        };
        let counted: Vec<&Result> = results[last..].iter().filter(counts).collect();
        let errors = counted.iter().filter(|result| result.error).count();
        let slow = counted.iter().filter(|result| result.slow).count();
        (counted.len() as u64, errors as u64, slow as u64)
    }

    /// Whether errors, or slow calls, are too many.
    fn too_many(&self, (calls, errors, slow): (u64, u64, u64)) -> (bool, bool) {
        let percent = |of: u64| 100.0 * of as f64 / calls.max(1) as f64;
        let errors = percent(errors) >= f64::from(self.config.error_rate_percent);
        let looks = self.config.slow_call_ns.is_some();
        (errors, looks && percent(slow) >= f64::from(self.config.slow_rate_percent))
    }

    fn change(&mut self, now_ns: u64) {
        self.period += 1;
        self.results.clear();
        self.probes = 0;
        self.since_ns = now_ns;
        self.above_since_ns = None;
    }

    /// A call was let through.
    pub(super) fn admitted(&mut self, now_ns: u64, before: State, after: State) -> Seen {
        let open_for_ns = now_ns - self.since_ns;
        if before != after {
            if (before, after) != (State::Open, State::HalfOpen) {
                self.object("no-other-change", format!("{before} to {after} by letting a call through"));
            }
            if open_for_ns < self.config.cool_down_ns {
                self.object("open-until-cooled-down", format!("half-open after {open_for_ns} ns"));
            }
            self.change(now_ns);
        }
        if after == State::Open {
            self.object("open-lets-nothing-through", format!("{open_for_ns} ns after it opened"));
        }
        if after == State::HalfOpen {
            self.probes += 1;
            self.probe_ns = now_ns;
            if self.probes > self.config.probes {
                let detail = format!("{} calls, {} probes allowed", self.probes, self.config.probes);
                self.object("probes-only", detail);
            }
        }
        Seen { at_ns: now_ns, period: self.period }
    }

    /// A call was not.
    pub(super) fn rejected(&mut self, now_ns: u64, before: State, after: State) {
        if before == State::Closed || after == State::Closed {
            self.object("closed-lets-through", format!("rejected when {before}, then {after}"));
        }
        if (before, after) == (State::HalfOpen, State::Open) {
            self.reached.add("probes-timed-out");
            let waited_ns = now_ns - self.probe_ns;
            if waited_ns < self.config.probe_timeout_ns || self.probes as usize == self.results.len() {
                self.object(
                    "probes-have-their-time",
                    format!("{waited_ns} ns after the last of {}", self.probes),
                );
            }
            return self.change(now_ns);
        }
        if before != after {
            self.object("no-other-change", format!("{before} to {after} by rejecting a call"));
        }
        let open_for_ns = now_ns - self.since_ns;
        if after == State::Open && open_for_ns >= self.config.cool_down_ns {
            self.object("half-open-after-cool-down", format!("rejected {open_for_ns} ns after it opened"));
        }
        if after == State::HalfOpen && self.probes < self.config.probes {
            self.object("probes-are-let-through", format!("rejected with {} under way", self.probes));
        }
    }

    /// A call has ended.
    pub(super) fn recorded(
        &mut self,
        now_ns: u64,
        seen: Seen,
        outcome: Outcome,
        before: State,
        after: State,
    ) {
        if seen.period != self.period || outcome == Outcome::Ignored {
            if seen.period != self.period {
                self.reached.add("late");
            } else {
                self.reached.add("ignored");
                self.probes -= u32::from(before == State::HalfOpen);
            }
            if before != after {
                self.object("no-other-change", format!("{before} to {after} by what does not count"));
            }
            return;
        }
        let slow = self.config.slow_call_ns.is_some_and(|slow_ns| now_ns - seen.at_ns > slow_ns);
        self.results.push(Result { at_ns: now_ns, error: outcome == Outcome::Error, slow });
        match before {
            State::Closed => self.recorded_closed(now_ns, after),
            State::HalfOpen => self.recorded_probe(now_ns, after),
            State::Open => self.object("open-lets-nothing-through", String::from("a result of its own time")),
        }
    }

    /// Whether so many are enough for a rate, and one is too high.
    fn above(&self, counted: (u64, u64, u64)) -> bool {
        let (errors, slow) = self.too_many(counted);
        counted.0 >= u64::from(self.config.minimum_calls) && (errors || slow)
    }

    /// Whether no rate was too high at some time between the last two results, because calls had left the window.
    fn dipped(&self, now_ns: u64) -> bool {
        let WindowKind::Time { buckets, bucket_ns } = self.config.window else { return false };
        let (_, earlier) = self.results.split_last().expect("a result has come in");
        let Some(last) = earlier.last() else { return true };
        let from = last.at_ns / bucket_ns + 1;
        // With so many buckets gone, nothing is left.
        let to = (now_ns / bucket_ns).min(from + u64::from(buckets));
        (from..=to).any(|bucket| !self.above(self.counted(earlier, bucket * bucket_ns)))
    }

    fn recorded_closed(&mut self, now_ns: u64, after: State) {
        let counted = self.counted(&self.results, now_ns);
        let (errors, slow) = self.too_many(counted);
        if self.above_since_ns.is_some() && self.dipped(now_ns) {
            self.reached.add("dipped-in-silence");
            self.above_since_ns = None;
        }
        if self.above(counted) {
            self.above_since_ns.get_or_insert(now_ns);
        } else {
            self.above_since_ns = None;
        }
        let above_ns = self.above_since_ns.map(|since_ns| now_ns - since_ns);
        let must_open = above_ns.is_some_and(|above_ns| above_ns >= self.config.duration_ns);
        let expected = if must_open { State::Open } else { State::Closed };
        if after != expected {
            let property = if must_open { "opens-in-time" } else { "opens-with-cause-only" };
            let (calls, errors, slow) = counted;
            let detail =
                format!("{after}: of {calls} calls {errors} failed and {slow} were slow, {above_ns:?}");
            self.object(property, detail);
        }
        if after != State::Closed {
            self.reached.add("opened");
            if self.config.duration_ns > 0 {
                self.reached.add("opened-after-duration");
            }
            if slow && !errors {
                self.reached.add("opened-by-slowness");
            }
            self.change(now_ns);
        }
    }

    fn recorded_probe(&mut self, now_ns: u64, after: State) {
        let calls = self.results.len() as u64;
        let expected = if calls < u64::from(self.config.probes) {
            State::HalfOpen
        } else {
            let errors = self.results.iter().filter(|result| result.error).count() as u64;
            let slow = self.results.iter().filter(|result| result.slow).count() as u64;
            let (errors, slow) = self.too_many((calls, errors, slow));
            if errors || slow { State::Open } else { State::Closed }
        };
        if after != expected {
            let property = if expected == State::Closed { "closes-again" } else { "probes-decide" };
            self.object(property, format!("{after} after {calls} probes, not {expected}"));
        }
        if after != State::HalfOpen {
            self.reached.add(if after == State::Closed { "closed-again" } else { "probe-failed" });
            self.change(now_ns);
        }
    }
}
