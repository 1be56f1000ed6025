//! Claims 42, 43 and 44.

use keypact_recovery::SECOND_NS;
use keypact_recovery::retry::{Failure, GiveUp, Jitter, Policy};
use keypact_simulator::Random;

use crate::claims::finding::{Control, Figure, Finding, Line, Plot, Verdict};
use crate::claims::{Claim, Effort};

pub(in crate::claims) const WAITS: Claim = Claim {
    number: 42,
    part: "recovery",
    text: "Retries wait 0, 1, 2, 4, 8 s, then give up",
    how: "an operation that fails each time, base 1 s, no jitter, four retries: when each try begins after the failure before; control: a policy \
          without growth (longest wait 1 s)",
    measure: waits,
};

pub(in crate::claims) const HERD: Claim = Claim {
    number: 43,
    part: "recovery",
    text: "Jitter avoids the thundering herd",
    how: "10,000 clients fail together at a service that stays down and retry five times, base 1 s, at most 60 s: tries in the busiest 100 ms \
          beside the mean over all 100 ms until the last retry; control: no jitter",
    measure: herd,
};

pub(in crate::claims) const LONGEST: Claim = Claim {
    number: 44,
    part: "recovery",
    text: "backoff = min(max, base * 2^attempt) + random(0, jitter): the longest wait is max + jitter",
    how: "100,000 waits of up to 80 retries, with random base, max and jitter: the longest beside max + jitter, and any wait that is not within \
          the formula; control: the same policies without a longest wait",
    measure: longest,
};

/// Waits before each retry, nanoseconds.
fn all_waits(policy: &Policy, random: &mut Random) -> (Vec<u64>, Option<GiveUp>) {
    let mut retry = policy.begin(true, 0u64);
    let mut waits = Vec::new();
    loop {
        match retry.failed(Failure::NotApplied, None, 0u64, random.bits()) {
            Ok(wait_ns) => waits.push(wait_ns),
            Err(why) => return (waits, Some(why)),
        }
    }
}

fn policy(base_ns: u64, max_ns: u64, jitter: Jitter, retries_max: u32) -> Policy {
    Policy { base_ns, max_ns, jitter, retries_max, deadline_ns: None }
}

fn seconds(waits: &[u64]) -> Vec<f64> {
    waits.iter().map(|wait_ns| *wait_ns as f64 / SECOND_NS as f64).collect()
}

fn waits(_effort: Effort) -> Finding {
    let mut random = Random::new(1);
    let none = Jitter::Added { jitter_ns: 0 };
    let (waits, why) = all_waits(&policy(SECOND_NS, 60 * SECOND_NS, none, 4), &mut random);
    let (flat, _) = all_waits(&policy(SECOND_NS, SECOND_NS, none, 4), &mut random);
    let (waits, flat) = (seconds(&waits), seconds(&flat));
    let figures = |waits: &[f64]| -> Vec<Figure> {
        let figure =
            |(at, wait): (usize, &f64)| Figure::new(format!("wait before retry {}", at + 1), *wait, "s");
        waits.iter().enumerate().map(figure).collect()
    };
    Finding {
        // The base, the number of retries and the missing jitter are ours; the claim names none of them.
        verdict: match waits == [1.0, 2.0, 4.0, 8.0] && why == Some(GiveUp::Retries) {
            true => Verdict::HoldsOnlyIf,
            false => Verdict::DoesNotHold,
        },
        because: format!(
            "with a base of 1 s, four retries and no jitter it waits {waits:?} s after the first try, and then gives up: {}",
            why.map_or_else(String::new, |why| why.to_string())
        ),
        figures: figures(&waits),
        control: Control {
            what: "a longest wait of 1 s".into(),
            figures: figures(&flat),
            differs: flat != waits,
        },
        plots: Vec::new(),
        seeds: 0,
    }
}

const CLIENTS: usize = 10_000;
const SLICE_NS: u64 = SECOND_NS / 10;

/// Tries in each slice of time after all failed together.
fn tries(jitter: Jitter, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let policy = policy(SECOND_NS, 60 * SECOND_NS, jitter, 5);
    let mut counts: Vec<f64> = Vec::new();
    for _ in 0..CLIENTS {
        let mut at_ns = 0;
        for wait_ns in all_waits(&policy, &mut random).0 {
            at_ns += wait_ns;
            let slice = (at_ns / SLICE_NS) as usize;
            if counts.len() <= slice {
                counts.resize(slice + 1, 0.0);
            }
            counts[slice] += 1.0;
        }
    }
    counts
}

fn peak_over_mean(counts: &[f64]) -> f64 {
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().copied().fold(0.0, f64::max) / mean
}

fn herd(effort: Effort) -> Finding {
    let kinds = [
        ("added, up to the base", Jitter::Added { jitter_ns: SECOND_NS }),
        ("equal", Jitter::Equal),
        ("full", Jitter::Full),
        ("decorrelated", Jitter::Decorrelated),
    ];
    let peak = |jitter: Jitter| -> f64 {
        let peaks: Vec<f64> = effort.seeds().map(|seed| peak_over_mean(&tries(jitter, seed))).collect();
        crate::claims::finding::median(&peaks)
    };
    let without = peak(Jitter::Added { jitter_ns: 0 });
    let peaks: Vec<(&str, f64)> = kinds.iter().map(|(name, jitter)| (*name, peak(*jitter))).collect();
    let least = peaks.iter().map(|(_, peak)| *peak).fold(f64::INFINITY, f64::min);
    let most = peaks.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    let shown = [("none (control)", Jitter::Added { jitter_ns: 0 }), kinds[0], kinds[2]];
    let rows: Vec<Vec<f64>> = shown.iter().map(|(_, jitter)| tries(*jitter, effort.first_seed)).collect();
    let slices = rows.iter().map(Vec::len).max().unwrap_or(0);
    let line = |((name, _), row): (&(&str, Jitter), &Vec<f64>)| {
        let ys = (0..slices).map(|at| Some(row.get(at).copied().unwrap_or(0.0))).collect();
        Line { name: (*name).to_owned(), ys }
    };
    Finding {
        verdict: match (most < without / 2.0, least < without / 2.0) {
            (true, _) => Verdict::Holds,
            (false, true) => Verdict::HoldsOnlyIf,
            (false, false) => Verdict::DoesNotHold,
        },
        because: format!(
            "without jitter the busiest 100 ms has {without:.0} times the mean; with it {least:.1} to {most:.1} times, by kind"
        ),
        figures: peaks
            .iter()
            .map(|(name, peak)| Figure::new(format!("{name}: peak / mean"), *peak, ""))
            .collect(),
        control: Control {
            what: "no jitter".into(),
            figures: vec![Figure::new("peak / mean", without, "")],
            differs: without > least * 2.0,
        },
        plots: vec![Plot {
            title: "Tries in each 100 ms".into(),
            x: "seconds after all failed".into(),
            y: "tries".into(),
            xs: (0..slices).map(|at| at as f64 / 10.0).collect(),
            lines: shown.iter().zip(&rows).map(line).collect(),
        }],
        seeds: effort.seeds * 5,
    }
}

fn longest(effort: Effort) -> Finding {
    let (mut waits, mut outside, mut closest, mut uncapped_over) = (0u64, 0u64, 0.0f64, 0u64);
    for seed in effort.seeds() {
        let mut random = Random::new(seed);
        for _ in 0..(100_000 / 80 / effort.seeds).max(1) {
            let base_ns = random.between(1, SECOND_NS);
            let max_ns = base_ns.saturating_mul(random.between(1, 1_000));
            let jitter_ns = random.below(SECOND_NS);
            let policy = policy(base_ns, max_ns, Jitter::Added { jitter_ns }, 80);
            let uncapped = Policy { max_ns: u64::MAX, ..policy };
            let above = max_ns.saturating_add(jitter_ns);
            uncapped_over +=
                all_waits(&uncapped, &mut random).0.iter().filter(|wait| **wait > above).count() as u64;
            for (attempt, wait_ns) in (0..).zip(all_waits(&policy, &mut random).0) {
                let full = u128::from(base_ns) << attempt;
                let exponential = full.min(u128::from(max_ns));
                let within = exponential..=exponential + u128::from(jitter_ns);
                waits += 1;
                outside += u64::from(!within.contains(&u128::from(wait_ns)));
                closest = closest.max(wait_ns as f64 / (max_ns + jitter_ns) as f64);
            }
        }
    }
    Finding {
        verdict: Verdict::of(outside == 0 && closest <= 1.0),
        because: format!(
            "of {waits} waits {outside} are outside the formula; the longest reaches {closest:.6} of max + jitter"
        ),
        figures: vec![
            Figure::new("waits", waits as f64, "waits"),
            Figure::new("outside the formula", outside as f64, "waits"),
            Figure::new("longest / (max + jitter)", closest, ""),
        ],
        control: Control {
            what: "the same policies without a longest wait".into(),
            figures: vec![Figure::new("waits above max + jitter", uncapped_over as f64, "waits")],
            differs: uncapped_over > 0,
        },
        plots: Vec::new(),
        seeds: effort.seeds,
    }
}
