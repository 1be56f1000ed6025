//! The textbook's claims about the patterns, each measured: what is claimed, what was seen, and what a control shows in which the claim should
//! fail.
//!
//! A claim is one file here with its text and how it is measured; [`CLAIMS`] is the list. Verdicts come from figures, never from the text: a
//! claim that does not hold is reported so. What is not measured is listed in [`NOT_HERE`] with the reason.
//!
//! Simulated measurements run whole protocols on simulated nodes with a price for every input, message and byte (`COSTS` in `world.rs`); so ratios
//! between two runs mean something, absolute figures do not. In-process measurements (nanoseconds of a lookup) run on this machine.

mod bare;
mod broadcasts;
mod cap;
mod claim;
mod finding;
mod html;
mod list;
mod load;
mod partition;
mod peers;
mod transactions;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Instant;

use keypact_simulator::{Report, Scenario, run_seeds};
use serde::Serialize;

pub use cap::{CapEnd, CapReport, CapRow, Side, cap};
pub use finding::{Control, Figure, Finding, Line, Plot, Verdict};
pub use html::html;
pub use list::{CLAIMS, NOT_HERE};

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// How many seeds each simulated figure is taken from.
    pub seeds: u64,
    /// The first of them.
    pub first_seed: u64,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { seeds: 5, first_seed: 1 }
    }
}

impl Effort {
    /// The seeds.
    pub fn seeds(self) -> impl Iterator<Item = u64> {
        self.first_seed..self.first_seed.saturating_add(self.seeds)
    }

    /// Whole seeds of a scenario, with all its faults: so many for each of these. How many, and what came of them.
    fn whole_seeds(self, scenario: &impl Scenario, for_each: u64) -> (u64, Report) {
        let seeds = self.seeds.saturating_mul(for_each);
        (seeds, run_seeds(scenario, self.first_seed, seeds, 1, |_| ControlFlow::Continue(())))
    }
}

/// One claim of the textbook.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its number, 1 to 53.
    pub number: u8,
    /// The part of the subject.
    pub part: &'static str,
    /// What is claimed.
    pub text: &'static str,
    /// What is done and measured.
    pub how: &'static str,
    /// Measures it.
    pub measure: fn(Effort) -> Finding,
}

/// A claim that is not measured here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct NotHere {
    /// Its number.
    pub number: u8,
    /// What is claimed.
    pub claim: &'static str,
    /// Why it is not measured here.
    pub why: &'static str,
}

/// A claim with what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its number.
    pub number: u8,
    /// The part of the subject.
    pub part: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// What was done and measured.
    pub how: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The first seed.
    pub first_seed: u64,
    /// Wall seconds.
    pub seconds: f64,
    /// The command that repeats it.
    pub command: String,
}

/// What `keypact lab claims --json` prints. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimsReport {
    /// What was measured.
    pub claims: Vec<Measured>,
    /// What is not.
    pub not_here: Vec<NotHere>,
}

/// A claim that can't be measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// There is no claim with this number.
    Unknown(u8),
    /// It is not measured here.
    NotHere(NotHere),
    /// No seed at all.
    NoSeeds,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Unknown(number) => {
                write!(f, "no claim has the number {number}; `keypact lab claims --list` shows all")
            }
            ClaimError::NotHere(claim) => {
                write!(f, "claim {} is not measured here: {}", claim.number, claim.why)
            }
            ClaimError::NoSeeds => f.write_str("at least one seed is needed"),
        }
    }
}

impl std::error::Error for ClaimError {}

/// Measures the claims with these numbers, in order; all of them if there are none. `each` sees every one as it is done.
///
/// # Errors
/// [`ClaimError`], before anything is measured.
pub fn claims(
    numbers: &[u8],
    effort: Effort,
    mut each: impl FnMut(&Measured),
) -> Result<ClaimsReport, ClaimError> {
    if effort.seeds == 0 {
        return Err(ClaimError::NoSeeds);
    }
    let wanted: BTreeSet<u8> = numbers.iter().copied().collect();
    for number in &wanted {
        if !CLAIMS.iter().any(|claim| claim.number == *number) {
            let not_here = NOT_HERE.iter().find(|claim| claim.number == *number);
            return Err(not_here.map_or(ClaimError::Unknown(*number), |claim| ClaimError::NotHere(*claim)));
        }
    }
    let mut measured = Vec::new();
    for claim in CLAIMS.iter().filter(|claim| wanted.is_empty() || wanted.contains(&claim.number)) {
        let one = measure(claim, effort);
        each(&one);
        measured.push(one);
    }
    Ok(ClaimsReport { claims: measured, not_here: NOT_HERE.to_vec() })
}

fn measure(claim: &Claim, effort: Effort) -> Measured {
    let begun = Instant::now();
    let finding = (claim.measure)(effort);
    let Effort { seeds, first_seed } = effort;
    let command = if effort == Effort::default() {
        format!("keypact lab claims {}", claim.number)
    } else {
        format!("keypact lab claims {} --seeds {seeds} --first-seed {first_seed}", claim.number)
    };
    Measured {
        number: claim.number,
        part: claim.part,
        claim: claim.text,
        how: claim.how,
        finding,
        first_seed,
        seconds: begun.elapsed().as_secs_f64(),
        command,
    }
}

#[cfg(test)]
mod tests;
