//! `policy base= max= jitter=added:MS|full|equal|decorrelated retries= deadline=`; `budget ratio=PPM minimum= capacity=`;
//! `begin NAME [token]`; `fail NAME not-applied|uncertain|permanent [random=low|middle|high] [times=N]`; `first-tries N`;
//! `withdraw N`; `waits FROM..TO [random=]`: what the formula gives.

use std::collections::BTreeMap;

use keypact_recovery::retry::{Budget, BudgetConfig, Failure, Jitter, Policy, Retry, capped_exponential};

use super::{Story, number, number_or, setting};

const MS: u64 = 1_000_000;

#[derive(Default)]
pub(crate) struct Retries {
    now_ms: u64,
    policy: Policy,
    budget: Option<Budget>,
    running: BTreeMap<String, Retry>,
}

fn jitter(words: &[&str]) -> Result<Jitter, String> {
    match setting(words, "jitter").unwrap_or("added:0") {
        "full" => Ok(Jitter::Full),
        "equal" => Ok(Jitter::Equal),
        "decorrelated" => Ok(Jitter::Decorrelated),
        text => {
            let ms = text.strip_prefix("added:").ok_or_else(|| format!("{text} is no jitter"))?;
            Ok(Jitter::Added { jitter_ns: number(ms)? * MS })
        }
    }
}

fn random(words: &[&str]) -> Result<u64, String> {
    match setting(words, "random").unwrap_or("low") {
        "low" => Ok(0),
        "middle" => Ok(1 << 63),
        "high" => Ok(u64::MAX),
        text => Err(format!("{text} is not low, middle or high")),
    }
}

fn shown(wait_ns: u64) -> String {
    if wait_ns.is_multiple_of(MS) { format!("{} ms", wait_ns / MS) } else { format!("{wait_ns} ns") }
}

impl Retries {
    fn fail(&mut self, name: &str, class: &str, more: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        let failure = match class {
            "not-applied" => Failure::NotApplied,
            "uncertain" => Failure::Uncertain,
            "permanent" => Failure::Permanent,
            _ => return Err(format!("{class} is no class")),
        };
        for _ in 0..number_or(more, "times", 1)? {
            let retry = self.running.get_mut(name).ok_or("no such operation")?;
            let number = retry.retries();
            out.push(match retry.failed(failure, self.budget.as_mut(), self.now_ms * MS, random(more)?) {
                Ok(wait_ns) => format!("{name}: retry {number} after {}", shown(wait_ns)),
                Err(why) => format!("{name}: gives up: {why}"),
            });
        }
        Ok(())
    }
}

impl Story for Retries {
    fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        match words {
            ["policy", more @ ..] => {
                self.policy = Policy {
                    base_ns: number_or(more, "base", 100)? * MS,
                    max_ns: number_or(more, "max", 10_000)? * MS,
                    jitter: jitter(more)?,
                    retries_max: number_or(more, "retries", 5)? as u32,
                    deadline_ns: setting(more, "deadline").map(number).transpose()?.map(|ms| ms * MS),
                };
                if let Err(error) = self.policy.check() {
                    out.push(format!("refused: {error}"));
                }
            }
            ["budget", more @ ..] => {
                let config = BudgetConfig {
                    ratio_ppm: number_or(more, "ratio", 200_000)? as u32,
                    minimum_per_s: number_or(more, "minimum", 0)? as u32,
                    capacity: number_or(more, "capacity", 100)? as u32,
                };
                self.budget = Some(Budget::new(config, self.now_ms * MS));
            }
            ["at", time] => self.now_ms = number(time)?,
            ["begin", name, more @ ..] => {
                if let Some(budget) = &mut self.budget {
                    budget.first_try();
                }
                let retry = self.policy.begin(more == ["token"], self.now_ms * MS);
                self.running.insert((*name).into(), retry);
            }
            ["fail", name, class, more @ ..] => self.fail(name, class, more, out)?,
            ["first-tries", count] => {
                let budget = self.budget.as_mut().ok_or("there is no budget")?;
                (0..number(count)?).for_each(|_| budget.first_try());
                out.push(format!("the budget holds {}", budget.level()));
            }
            ["withdraw", count] => {
                let (now_ns, budget) = (self.now_ms * MS, self.budget.as_mut().ok_or("there is no budget")?);
                let granted = (0..number(count)?).filter(|_| budget.withdraw(now_ns)).count();
                out.push(format!("{granted} of {count} granted; {:?}", budget.counts()));
            }
            ["waits", attempts] => {
                let (from, to) = attempts.split_once("..").ok_or("FROM..TO")?;
                for attempt in number(from)?..number(to)? {
                    let Policy { base_ns, max_ns, .. } = self.policy;
                    let wait_ns = capped_exponential(base_ns, max_ns, attempt as u32);
                    out.push(format!("attempt {attempt}: {}", shown(wait_ns)));
                }
            }
            _ => return Err(format!("not understood: {}", words.join(" "))),
        }
        Ok(())
    }
}
