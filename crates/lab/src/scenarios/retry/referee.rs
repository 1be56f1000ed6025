//! Judges what clients did about failures. It sees tries, failures and times; it knows the textbook, and calls nothing of the policy.

use std::collections::BTreeMap;

use keypact_recovery::retry::{BudgetConfig, Failure, GiveUp, Jitter, Policy};
use keypact_simulator::{SECOND_NS, Violation};

use super::super::failing_service::Reached;

/// What is known of one operation.
#[derive(Debug)]
struct Known {
    begun_ns: u64,
    token: bool,
    tries: u32,
    /// The last failure, and when.
    failure: Option<(Failure, u64)>,
    /// The last wait, for decorrelated jitter.
    waited_ns: Option<u64>,
}

/// Holds the clients to their policy.
#[derive(Debug)]
pub(super) struct Referee {
    policy: Policy,
    budget: Option<BudgetConfig>,
    known: BTreeMap<u64, Known>,
    first_tries: u64,
    retries: u64,
    /// Retries that clients were granted; some have not begun yet, some never will.
    granted: u64,
    /// First tries and granted retries when the budget last refused one, and when: from there on what it must hold can be counted.
    refused: (u64, u64, u64),
    /// Since when nothing but failures came, and how many.
    failing: Option<(u64, u32)>,
    violation: Option<Violation>,
    reached: Reached,
}

impl Referee {
    pub(super) fn new(policy: Policy, budget: Option<BudgetConfig>, reached: Reached) -> Referee {
        Referee {
            policy,
            budget,
            known: BTreeMap::new(),
            first_tries: 0,
            retries: 0,
            granted: 0,
            refused: (0, 0, 0),
            failing: None,
            violation: None,
            reached,
        }
    }

    fn object(&mut self, property: &'static str, detail: String) {
        self.violation.get_or_insert_with(|| Violation::new(property, detail));
    }

    pub(super) fn verdict(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(super) fn begun(&mut self, now_ns: u64, number: u64, token: bool) {
        self.first_tries += 1;
        let known = Known { begun_ns: now_ns, token, tries: 0, failure: None, waited_ns: None };
        self.known.insert(number, known);
    }

    /// The service is asked.
    pub(super) fn tried(&mut self, now_ns: u64, number: u64, attempt: u32) {
        let known = self.known.get_mut(&number).expect("what is tried was begun");
        known.tries += 1;
        let (token, begun_ns) = (known.token, known.begun_ns);
        let Some((failure, failed_ns)) = known.failure.take() else { return };
        let wait_ns = now_ns - failed_ns;
        let previous_ns = known.waited_ns.replace(wait_ns);
        self.retries += 1;
        if attempt >= 64 {
            self.reached.add("attempt-64");
        }
        match failure {
            Failure::Permanent => {
                self.object("permanent-is-final", format!("operation {number} was tried again"));
            }
            Failure::Uncertain if !token => {
                let detail = format!("operation {number} may have been applied, and was tried again");
                self.object("uncertain-needs-a-token", detail);
            }
            Failure::Uncertain => self.reached.add("retried-uncertain"),
            Failure::NotApplied => {}
        }
        if self.policy.deadline_ns.is_some_and(|deadline_ns| now_ns > begun_ns + deadline_ns) {
            self.object("nothing-after-the-deadline", format!("operation {number}, {}", now_ns - begun_ns));
        }
        if attempt > self.policy.retries_max {
            self.object("retries-are-limited", format!("operation {number}, try {attempt}"));
        }
        self.check_wait(number, attempt - 1, wait_ns, previous_ns);
        self.check_budget(now_ns);
    }

    /// `min(max, base * 2^attempt)` with jitter, in 128 bits and by repeated doubling.
    fn check_wait(&mut self, number: u64, attempt: u32, wait_ns: u64, previous_ns: Option<u64>) {
        let Policy { base_ns, max_ns, jitter, .. } = self.policy;
        let (base, max) = (u128::from(base_ns), u128::from(max_ns));
        let mut exponential = base;
        for _ in 0..attempt {
            exponential = (exponential * 2).min(max);
        }
        exponential = exponential.min(max);
        let (low, high) = match jitter {
            Jitter::Added { jitter_ns } => (exponential, exponential + u128::from(jitter_ns)),
            Jitter::Full => (0, exponential),
            Jitter::Equal => (exponential / 2, exponential),
            Jitter::Decorrelated => {
                let previous = previous_ns.map_or(base, u128::from);
                (base.min(max), (previous * 3).max(base).min(max))
            }
        };
        if !(low..=high).contains(&u128::from(wait_ns)) {
            let detail = format!("operation {number}, retry {attempt}: {wait_ns} ns, not {low}..={high}");
            self.object("waits-by-the-formula", detail);
        }
    }

    fn check_budget(&mut self, now_ns: u64) {
        let Some(budget) = self.budget else { return };
        let allowed = u128::from(self.first_tries) * u128::from(budget.ratio_ppm)
            + u128::from(now_ns) * u128::from(budget.minimum_per_s) / 1_000;
        if u128::from(self.retries) * 1_000_000 > allowed {
            let detail =
                format!("{} first tries, {} retries after {now_ns} ns", self.first_tries, self.retries);
            self.object("amplification", detail);
        }
    }

    pub(super) fn failed(&mut self, now_ns: u64, number: u64, failure: Failure) {
        let known = self.known.get_mut(&number).expect("what failed was begun");
        known.failure = Some((failure, now_ns));
        let (since_ns, count) = self.failing.get_or_insert((now_ns, 0));
        *count += 1;
        if *count >= 20 && now_ns - *since_ns >= SECOND_NS / 2 {
            self.reached.add("total-failure");
        }
    }

    pub(super) fn granted(&mut self) {
        self.granted += 1;
    }

    pub(super) fn succeeded(&mut self) {
        self.failing = None;
    }

    /// A client gave an operation up.
    pub(super) fn gave_up(&mut self, now_ns: u64, why: GiveUp) {
        if why != GiveUp::Budget {
            return;
        }
        let Some(budget) = self.budget else {
            return self.object("budget-refuses", String::from("there is no budget"));
        };
        // Whatever it held at the last refusal: this much went in since then, and this much out.
        let (first_tries, granted, at_ns) = self.refused;
        let paid_in = u128::from(self.first_tries - first_tries) * u128::from(budget.ratio_ppm)
            + u128::from(now_ns - at_ns) * u128::from(budget.minimum_per_s) / 1_000;
        let taken_out = u128::from(self.granted - granted) * 1_000_000;
        let level = paid_in.min(u128::from(budget.capacity) * 1_000_000);
        // One millionth may be lost in each rounding, of which there is one for each retry that is granted or refused.
        if level >= taken_out + 1_000_000 + u128::from(self.granted - granted) + 2 {
            let detail = format!("refused although {level} went in and at most {taken_out} out");
            self.object("budget-grants-what-it-has", detail);
        }
        self.refused = (self.first_tries, self.granted, now_ns);
    }
}
