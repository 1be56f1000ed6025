//! The machine.

use alloc::collections::VecDeque;
use core::fmt;

use super::config::{Config, ConfigError, WindowKind};
use super::event::{Event, Why};
use super::window::{Rates, Window};
use crate::Now;
use crate::plant::{Plant, planted};

/// A breaker's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Calls go through, and are counted.
    Closed,
    /// None does.
    Open,
    /// A few do, to find out.
    HalfOpen,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        })
    }
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// It did not.
    Error,
    /// This says nothing about the service.
    Ignored,
}

/// The right to make one call. Give it back with [`CircuitBreaker::record`]; one that is dropped instead is a probe that never answers.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the call's outcome has to be recorded"]
pub struct Permit {
    generation: u64,
    /// 0 if nobody looks at durations.
    begun_ns: u64,
}

impl Permit {
    #[cfg(feature = "std")]
    pub(super) fn closed(generation: u64) -> Permit {
        Permit { generation, begun_ns: 0 }
    }
}

/// A call that was not let through: it had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// [`State::Open`], or [`State::HalfOpen`] with all probes under way.
    pub state: State,
    /// After so long it is worth asking again, nanoseconds: the rest of the cool-down, or of the probes' time.
    pub retry_after_ns: u64,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "circuit breaker is {}: not asked; try again in {} ms",
            self.state,
            self.retry_after_ns / 1_000_000
        )
    }
}

impl core::error::Error for Rejected {}

/// Calls since the breaker was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Let through outside the closed state.
    pub probes: u64,
    /// Not let through.
    pub rejected: u64,
    /// Ended well.
    pub successes: u64,
    /// Ended with an error.
    pub errors: u64,
    /// Of both, slow.
    pub slow: u64,
    /// Ignored or cancelled.
    pub ignored: u64,
    /// Ended after the state in which they began.
    pub late: u64,
    /// Times it opened.
    pub opened: u64,
    /// Events thrown away because nobody took them.
    pub events_lost: u64,
}

/// What is known in each state.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Since when a rate has been at or above its threshold, without a break.
    Closed { above_since_ns: Option<u64> },
    /// Until when.
    Open { until_ns: u64 },
    /// Probes let through, what came back, and until when the last one must.
    HalfOpen { admitted: u32, results: Rates, until_ns: u64 },
}

/// One circuit breaker. A pure value: it neither calls nor reads a clock.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    config: Config,
    phase: Phase,
    window: Window,
    /// How often the state has changed; tells whose calls still count.
    generation: u64,
    counts: Counts,
    events: VecDeque<Event>,
    /// Calls that ended with a result that counts: those that are no errors are successes.
    ended: u64,
    /// Durations, or a window of time. Never changes.
    looks_at_time: bool,
    /// The generation, as long as nobody looks at time, it is closed and no rate is too high; else [`NOT_CALM`].
    calm: u64,
}

/// No breaker changes its state so often.
const NOT_CALM: u64 = u64::MAX;

/// What a call in the calm has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Calm {
    /// Nothing else.
    Goes,
    /// A rate is too high now, and has to be judged.
    Ends,
}

impl CircuitBreaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`ConfigError`] if no breaker can have these settings.
    pub fn new(config: Config) -> Result<CircuitBreaker, ConfigError> {
        config.check()?;
        let looks_at_time = config.slow_call_ns.is_some() || matches!(config.window, WindowKind::Time { .. });
        Ok(CircuitBreaker {
            config,
            phase: Phase::Closed { above_since_ns: None },
            window: Window::new(config.window),
            generation: 0,
            counts: Counts::default(),
            events: VecDeque::new(),
            ended: 0,
            looks_at_time,
            calm: if looks_at_time { NOT_CALM } else { 0 },
        })
    }

    /// May a call be made now? Closed, the time is asked for only if durations are looked at.
    ///
    /// # Errors
    /// [`Rejected`]: the call must not be made.
    #[inline]
    pub fn admit(&mut self, now: impl Now) -> Result<Permit, Rejected> {
        if let Phase::Closed { .. } = self.phase {
            let begun_ns = if self.config.slow_call_ns.is_some() { now.now_ns() } else { 0 };
            return Ok(Permit { generation: self.generation, begun_ns });
        }
        self.admit_probe(now.now_ns())
    }

    fn admit_probe(&mut self, now_ns: u64) -> Result<Permit, Rejected> {
        if let Phase::Open { until_ns } = self.phase
            && now_ns >= until_ns
        {
            let until_ns = now_ns.saturating_add(self.config.probe_timeout_ns);
            let half_open = Phase::HalfOpen { admitted: 0, results: Rates::default(), until_ns };
            self.change(half_open, Why::CooledDown, now_ns, Rates::default());
        }
        assert!(self.state() != State::Closed, "a closed breaker admits without asking");
        if let Phase::HalfOpen { admitted, results, until_ns } = self.phase
            && now_ns >= until_ns
            && admitted > results.calls
        {
            self.open(Why::ProbesTimedOut, now_ns, results);
        }
        let probes = self.config.probes;
        match &mut self.phase {
            Phase::HalfOpen { admitted, until_ns, .. } => {
                if *admitted >= probes && !planted(Plant::HalfOpenAdmitsAll) {
                    let retry_after_ns = until_ns.saturating_sub(now_ns);
                    self.counts.rejected += 1;
                    return Err(Rejected { state: State::HalfOpen, retry_after_ns });
                }
                *admitted += 1;
                // Few callers may take long to make all probes; only one that does not answer is a reason to stop waiting.
                *until_ns = now_ns.saturating_add(self.config.probe_timeout_ns);
                self.counts.probes += 1;
                Ok(Permit { generation: self.generation, begun_ns: now_ns })
            }
            Phase::Open { until_ns } => {
                self.counts.rejected += 1;
                Err(Rejected { state: State::Open, retry_after_ns: *until_ns - now_ns })
            }
            Phase::Closed { .. } => unreachable!("a closed breaker admits before it comes here"),
        }
    }

    /// A call has ended. In the closed state the time is asked for only if durations, a time window or the rates need it.
    #[inline]
    pub fn record(&mut self, permit: Permit, outcome: Outcome, now: impl Now) {
        match self.record_calm(&permit, outcome) {
            Some(Calm::Goes) => {}
            Some(Calm::Ends) => self.judge(now.now_ns()),
            None => self.record_otherwise(permit, outcome, now),
        }
    }

    /// What nearly every call comes to: closed, no rate too high, over a window of calls, and nobody looks at durations. `None`: it is
    /// otherwise, and nothing was done.
    #[inline]
    pub(super) fn record_calm(&mut self, permit: &Permit, outcome: Outcome) -> Option<Calm> {
        if permit.generation != self.calm || outcome == Outcome::Ignored {
            return None;
        }
        let error = outcome == Outcome::Error;
        self.ended += 1;
        self.counts.errors += u64::from(error);
        let calls = self.window.add_call(error, false);
        // A success lowers the rate, or leaves it; it can only be the one with which there are enough.
        let may_be_high = error || calls == self.config.minimum_calls;
        Some(if may_be_high && self.too_high().is_some() { Calm::Ends } else { Calm::Goes })
    }

    fn record_otherwise(&mut self, permit: Permit, outcome: Outcome, now: impl Now) {
        if permit.generation != self.generation {
            assert!(permit.generation < self.generation, "a permit is of this breaker");
            self.counts.late += 1;
            return;
        }
        if outcome == Outcome::Ignored {
            return self.ignore();
        }
        let error = outcome == Outcome::Error;
        let Phase::Closed { above_since_ns } = self.phase else {
            return self.record_probe(permit, error, now.now_ns());
        };
        assert!(
            above_since_ns.is_some() || self.looks_at_time,
            "calls that need no time come here only while a rate is too high"
        );
        let now_ns = now.now_ns();
        let slow = self.is_slow(&permit, now_ns);
        self.count(error, slow);
        self.advance(now_ns);
        self.window.add(now_ns, error, slow);
        self.judge(now_ns);
    }

    /// A call was not made after all, or given up by its caller: as if it had never been let through.
    pub fn cancel(&mut self, permit: Permit) {
        self.record(permit, Outcome::Ignored, 0);
    }

    fn ignore(&mut self) {
        self.counts.ignored += 1;
        if let Phase::HalfOpen { admitted, .. } = &mut self.phase {
            assert!(*admitted > 0, "a probe comes back to where it left");
            *admitted -= 1;
        }
    }

    #[inline]
    fn is_slow(&self, permit: &Permit, now_ns: u64) -> bool {
        self.config.slow_call_ns.is_some_and(|slow_ns| now_ns.saturating_sub(permit.begun_ns) > slow_ns)
    }

    #[inline]
    fn count(&mut self, error: bool, slow: bool) {
        self.ended += 1;
        self.counts.errors += u64::from(error);
        self.counts.slow += u64::from(slow);
    }

    /// Which rate is at or above its threshold.
    #[inline]
    fn too_high(&self) -> Option<Why> {
        let rates = self.window.rates();
        if rates.calls < self.config.minimum_calls { None } else { self.too_high_in(rates) }
    }

    #[inline]
    fn too_high_in(&self, rates: Rates) -> Option<Why> {
        if rates.errors_reach(self.config.error_rate_percent) {
            return Some(Why::Errors);
        }
        let looks = self.config.slow_call_ns.is_some();
        (looks && rates.slowness_reaches(self.config.slow_rate_percent)).then_some(Why::Slowness)
    }

    /// Time goes on. A rate that falls because calls leave the window ends the period above the threshold, also if nobody is there to see it:
    /// else one error before a silence and one after it would be a rate that was too high all the while.
    #[inline]
    fn advance(&mut self, now_ns: u64) {
        while self.window.step(now_ns) {
            if self.above_since_ns().is_some() && self.too_high().is_none() {
                self.fall_below(now_ns);
            }
        }
    }

    fn fall_below(&mut self, now_ns: u64) {
        assert!(self.above_since_ns().is_some(), "only what was above falls below");
        self.enter(Phase::Closed { above_since_ns: None });
        self.tell(Event::BelowThreshold { at_ns: now_ns, rates: self.window.rates() });
    }

    /// A result came in while closed: opens if a rate has been too high for the duration.
    pub(super) fn judge(&mut self, now_ns: u64) {
        let why = self.too_high();
        let Phase::Closed { above_since_ns } = self.phase else {
            unreachable!("only a closed breaker judges its window");
        };
        let rates = self.window.rates();
        let Some(why) = why else {
            if above_since_ns.is_some() {
                self.fall_below(now_ns);
            }
            return;
        };
        let since_ns = match above_since_ns {
            Some(since_ns) => since_ns,
            None => {
                self.enter(Phase::Closed { above_since_ns: Some(now_ns) });
                if self.config.duration_ns > 0 {
                    self.tell(Event::AboveThreshold { at_ns: now_ns, rates });
                }
                now_ns
            }
        };
        assert!(rates.calls >= self.config.minimum_calls, "too few calls have no rate");
        if now_ns.saturating_sub(since_ns) >= self.config.duration_ns {
            self.open(why, now_ns, rates);
        }
    }

    fn record_probe(&mut self, permit: Permit, error: bool, now_ns: u64) {
        let slow = self.is_slow(&permit, now_ns);
        self.count(error, slow);
        let probes = self.config.probes;
        let Phase::HalfOpen { admitted, results, .. } = &mut self.phase else {
            unreachable!("an open breaker has let nobody through");
        };
        results.add(error, slow);
        assert!(results.calls <= *admitted, "what comes back was let through");
        let results = *results;
        if results.calls < probes {
            return;
        }
        if self.too_high_in(results).is_some() || planted(Plant::ProbeSuccessLeavesOpen) {
            return self.open(Why::ProbesFailed, now_ns, results);
        }
        self.change(Phase::Closed { above_since_ns: None }, Why::ProbesSucceeded, now_ns, results);
    }

    fn open(&mut self, why: Why, now_ns: u64, rates: Rates) {
        let until_ns = now_ns.saturating_add(self.config.cool_down_ns);
        self.counts.opened += 1;
        self.change(Phase::Open { until_ns }, why, now_ns, rates);
        assert!(self.window.rates().calls == 0, "an open breaker has no results");
    }

    fn change(&mut self, phase: Phase, why: Why, at_ns: u64, rates: Rates) {
        let from = self.state();
        self.generation += 1;
        self.enter(phase);
        self.window.clear();
        let to = self.state();
        assert!(from != to || why == Why::Told, "a change changes something");
        self.tell(Event::Changed { from, to, why, at_ns, rates });
        self.assert_invariants();
    }

    fn enter(&mut self, phase: Phase) {
        assert!(self.generation < NOT_CALM, "generations are counted from 0");
        self.phase = phase;
        let calm = matches!(phase, Phase::Closed { above_since_ns: None }) && !self.looks_at_time;
        self.calm = if calm { self.generation } else { NOT_CALM };
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.config.events_max {
            self.counts.events_lost += 1;
            if self.events.pop_front().is_none() {
                return;
            }
        }
        self.events.push_back(event);
        assert!(self.events.len() <= self.config.events_max, "events are bounded");
    }

    /// Opens it by hand, for one cool-down: the service is known to be away.
    pub fn force_open(&mut self, now_ns: u64) {
        let rates = self.window.rates();
        self.open(Why::Told, now_ns, rates);
    }

    /// Closes it by hand, and forgets all results.
    pub fn reset(&mut self, now_ns: u64) {
        let rates = self.window.rates();
        self.change(Phase::Closed { above_since_ns: None }, Why::Told, now_ns, rates);
    }

    /// Its state as of the last call. An open breaker becomes half-open with the first call after the cool-down, not by itself.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// The window's calls as of now; half-open, the probes' results. A rate counts only from [`Config::minimum_calls`] on.
    #[must_use]
    pub fn rates(&mut self, now_ns: u64) -> Rates {
        self.advance(now_ns);
        match self.phase {
            Phase::HalfOpen { results, .. } => results,
            Phase::Closed { .. } | Phase::Open { .. } => self.window.rates(),
        }
    }

    /// Since when a rate has been at or above its threshold, nanoseconds.
    #[must_use]
    pub fn above_since_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Closed { above_since_ns } => above_since_ns,
            Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// The oldest event that nobody has taken yet.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Calls so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        assert!(self.counts.errors <= self.ended, "an error is a call that ended");
        Counts { successes: self.ended - self.counts.errors, ..self.counts }
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generation in which a call needs no permission but this number: closed, and nobody looks at durations.
    #[cfg(feature = "std")]
    pub(super) fn calm_generation(&self) -> Option<u64> {
        let calm = self.state() == State::Closed && self.config.slow_call_ns.is_none();
        calm.then_some(self.generation)
    }

    /// Whether nothing would be lost with it but a window: closed, and not about to open.
    pub(super) fn is_dispensable(&self) -> bool {
        matches!(self.phase, Phase::Closed { above_since_ns: None })
    }

    /// What must hold after every call.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        self.window.assert_invariants();
        let calm = matches!(self.phase, Phase::Closed { above_since_ns: None }) && !self.looks_at_time;
        assert!(self.calm == if calm { self.generation } else { NOT_CALM }, "the calm is as the state says");
        assert!(
            self.counts.errors <= self.ended && self.counts.slow <= self.ended,
            "of the calls that ended"
        );
        assert!(self.events.len() <= self.config.events_max, "events are bounded");
        if let Phase::HalfOpen { admitted, results, .. } = self.phase {
            assert!(admitted <= self.config.probes || planted(Plant::HalfOpenAdmitsAll), "probes only");
            assert!(results.calls <= admitted, "what came back was let through");
            assert!(results.calls < self.config.probes, "all results decide at once");
        }
    }
}
