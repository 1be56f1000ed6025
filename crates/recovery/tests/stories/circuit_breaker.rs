//! `breaker window=count:N|time:BUCKETSxMS minimum= errors= slow= slow-call= duration= cool-down= probes= probe-timeout= events=`;
//! `call ok|error|ignored [took=T] [times=N]`; `begin NAME`, `end NAME ok|error|ignored`; `force-open`, `reset`; `state`.

use std::collections::BTreeMap;

use keypact_recovery::circuit_breaker::{CircuitBreaker, Config, Event, Outcome, Permit, WindowKind};

use super::{Story, number, number_or, setting};

const MS: u64 = 1_000_000;

#[derive(Default)]
pub(crate) struct Breaker {
    now_ms: u64,
    breaker: Option<CircuitBreaker>,
    permits: BTreeMap<String, Permit>,
}

fn config(words: &[&str]) -> Result<Config, String> {
    let window = match setting(words, "window").and_then(|window| window.split_once(':')) {
        Some(("count", calls)) => WindowKind::Count { calls: number(calls)? as u32 },
        Some(("time", sizes)) => {
            let (buckets, ms) = sizes.split_once('x').ok_or("time:BUCKETSxMS")?;
            WindowKind::Time { buckets: number(buckets)? as u32, bucket_ns: number(ms)? * MS }
        }
        _ => return Err("window=count:N or window=time:BUCKETSxMS".into()),
    };
    Ok(Config {
        error_rate_percent: number_or(words, "errors", 50)? as u32,
        slow_rate_percent: number_or(words, "slow", 100)? as u32,
        slow_call_ns: setting(words, "slow-call").map(number).transpose()?.map(|ms| ms * MS),
        window,
        minimum_calls: number_or(words, "minimum", 1)? as u32,
        duration_ns: number_or(words, "duration", 0)? * MS,
        cool_down_ns: number_or(words, "cool-down", 1_000)? * MS,
        probes: number_or(words, "probes", 1)? as u32,
        probe_timeout_ns: number_or(words, "probe-timeout", 1_000)? * MS,
        events_max: number_or(words, "events", 16)? as usize,
    })
}

fn outcome(word: &str) -> Result<Outcome, String> {
    match word {
        "ok" => Ok(Outcome::Success),
        "error" => Ok(Outcome::Error),
        "ignored" => Ok(Outcome::Ignored),
        _ => Err(format!("{word} is no outcome")),
    }
}

impl Breaker {
    fn begin(&mut self, out: &mut Vec<String>) -> Result<Option<Permit>, String> {
        let now_ns = self.now_ms * MS;
        let breaker = self.breaker.as_mut().ok_or("begin with `breaker`")?;
        match breaker.admit(now_ns) {
            Ok(permit) => Ok(Some(permit)),
            Err(rejected) => {
                out.push(format!("{:>5}  rejected: {rejected}", self.now_ms));
                Ok(None)
            }
        }
    }

    fn end(&mut self, permit: Permit, word: &str) -> Result<(), String> {
        let now_ns = self.now_ms * MS;
        let breaker = self.breaker.as_mut().ok_or("begin with `breaker`")?;
        breaker.record(permit, outcome(word)?, now_ns);
        Ok(())
    }

    fn show(&mut self, out: &mut Vec<String>) {
        let Some(breaker) = &mut self.breaker else { return };
        while let Some(event) = breaker.take_event() {
            out.push(match event {
                Event::AboveThreshold { rates, .. } => format!("       above: {rates}"),
                Event::BelowThreshold { rates, .. } => format!("       below: {rates}"),
                Event::Changed { from, to, why, rates, .. } => {
                    format!("       {from} -> {to}, {why:?}: {rates}")
                }
            });
        }
        breaker.assert_invariants();
        let rates = breaker.rates(self.now_ms * MS);
        out.push(format!("{:>5}  {}  {rates}", self.now_ms, breaker.state()));
    }
}

impl Story for Breaker {
    fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        match words {
            ["breaker", settings @ ..] => match CircuitBreaker::new(config(settings)?) {
                Ok(breaker) => self.breaker = Some(breaker),
                Err(error) => out.push(format!("refused: {error}")),
            },
            ["at", time] => self.now_ms = number(time)?,
            ["call", ended, more @ ..] => {
                for _ in 0..number_or(more, "times", 1)? {
                    let Some(permit) = self.begin(out)? else { continue };
                    self.now_ms += number_or(more, "took", 0)?;
                    self.end(permit, ended)?;
                }
                self.show(out);
            }
            ["begin", name] => {
                if let Some(permit) = self.begin(out)? {
                    self.permits.insert((*name).into(), permit);
                }
                self.show(out);
            }
            ["end", name, ended] => {
                let permit = self.permits.remove(*name).ok_or("no such call")?;
                self.end(permit, ended)?;
                self.show(out);
            }
            ["force-open"] => {
                self.breaker.as_mut().ok_or("begin with `breaker`")?.force_open(self.now_ms * MS);
                self.show(out);
            }
            ["reset"] => {
                self.breaker.as_mut().ok_or("begin with `breaker`")?.reset(self.now_ms * MS);
                self.show(out);
            }
            ["state"] => {
                self.show(out);
                let counts = self.breaker.as_ref().ok_or("begin with `breaker`")?.counts();
                out.push(format!("       {counts:?}"));
            }
            _ => return Err(format!("not understood: {}", words.join(" "))),
        }
        Ok(())
    }
}
