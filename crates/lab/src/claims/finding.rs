//! What a measurement comes to.

use serde::Serialize;

/// What the figures say of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Verdict {
    /// It holds.
    #[serde(rename = "holds")]
    Holds,
    /// It holds under a condition that the claim does not name.
    #[serde(rename = "holds only if")]
    HoldsOnlyIf,
    /// It does not hold.
    #[serde(rename = "does not hold")]
    DoesNotHold,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::HoldsOnlyIf => "holds only if",
            Verdict::DoesNotHold => "does not hold",
        }
    }

    /// It holds if `holds`, else it does not.
    #[must_use]
    pub fn of(holds: bool) -> Verdict {
        if holds { Verdict::Holds } else { Verdict::DoesNotHold }
    }
}

/// A number with its unit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of which unit; empty for a plain number.
    pub unit: &'static str,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit }
    }
}

/// The same measurement where the claim should fail. If it does not fail there, the measurement shows nothing.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Control {
    /// What is different in it.
    pub what: String,
    /// What was seen.
    pub figures: Vec<Figure>,
    /// Whether it comes out otherwise, as it should.
    pub differs: bool,
}

/// One line of a plot.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// A value for each x; `None` where there is none.
    pub ys: Vec<Option<f64>>,
}

impl Line {
    /// A line without gaps.
    #[must_use]
    pub fn new(name: impl Into<String>, ys: Vec<f64>) -> Line {
        Line { name: name.into(), ys: ys.into_iter().map(Some).collect() }
    }
}

/// Lines over one x axis.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plot {
    /// What is shown.
    pub title: String,
    /// The x axis.
    pub x: String,
    /// The y axis.
    pub y: String,
    /// The values of x, rising.
    pub xs: Vec<f64>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// What a measurement comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// What the figures say.
    pub verdict: Verdict,
    /// Why, and under which condition; one or two sentences.
    pub because: String,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// The control.
    pub control: Control,
    /// What can be drawn.
    pub plots: Vec<Plot>,
    /// How many seeds the figures are taken from, over all runs; 0 where nothing is drawn at random.
    pub seeds: u64,
}

/// The value below which this share of the values lies; 0 of none. Nearest rank. O(n log n).
#[must_use]
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The middle value; 0 of none.
#[must_use]
pub(super) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}
