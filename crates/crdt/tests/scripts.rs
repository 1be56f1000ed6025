//! Interaction scripts of the conflict-free types: `interaction/crdt/*.txt`.
//!
//! | command | meaning |
//! |---|---|
//! | `replicas N TYPE` | begins: replicas n1 to nN of one type |
//! | `n1 ACTION ..` | changes a replica; shows the delta, and names it d1, d2 .. |
//! | `deliver d1 n2 ..` | these replicas apply the delta |
//! | `join d1 d2` | makes one delta of two |
//! | `merge n1>n2` | the second takes the whole state of the first |
//! | `catch-up n1>n2` | the second takes what it misses of the first |
//! | `split d1 BYTES` | shows how many parts a delta makes |
//! | `reborn n2 9` | the replica has lost all, and comes back empty as replica 9 |
//! | `state [n1]` | shows |

use keypact_crdt::causal::{DotMap, DotSet};
use keypact_crdt::{
    Delta, DisableWinsFlag, EnableWinsFlag, GCounter, Lattice, LwwRegister, MvRegister, OrMap, OrSet,
    PnCounter,
};
use keypact_ordering::clock::{HybridStamp, ReplicaId};
use keypact_simulator::script::{replay_lines, run_files};

/// What scripts can do with a type.
trait Told: Lattice {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String>;
    fn show(&self) -> String;
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn unknown<T>(words: &[&str]) -> Result<T, String> {
    Err(format!("`{}` is nothing that this type can do", words.join(" ")))
}

impl Told for GCounter {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<GCounter, String> {
        match words {
            ["add", by] => self.increment(number(by)?, replica).map_err(|full| full.to_string()),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        self.value().to_string()
    }
}

impl Told for PnCounter {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<PnCounter, String> {
        match words {
            ["add", by] => self.add(number(by)?, replica).map_err(|full| full.to_string()),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        self.value().to_string()
    }
}

impl Told for LwwRegister<String> {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<LwwRegister<String>, String> {
        match words {
            ["write", value, "at", ms] => {
                let stamp = HybridStamp { wall_ms: number(ms)?, count: 0 };
                Ok(self.assign((*value).into(), stamp, replica))
            }
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        match (self.value(), self.stamp()) {
            (Some(value), Some(stamp)) => format!("{value} at {stamp}"),
            _ => "nothing".into(),
        }
    }
}

impl Told for MvRegister<String> {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String> {
        match words {
            ["write", value] => Ok(self.assign((*value).into(), replica)),
            ["clear"] => Ok(self.clear(replica)),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        format!("{:?}", self.values().collect::<Vec<_>>())
    }
}

impl Told for EnableWinsFlag {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String> {
        match words {
            ["enable"] => Ok(self.enable(replica)),
            ["disable"] => Ok(self.disable(replica)),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        if self.is_enabled() { "up".into() } else { "down".into() }
    }
}

impl Told for DisableWinsFlag {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String> {
        match words {
            ["enable"] => Ok(self.enable(replica)),
            ["disable"] => Ok(self.disable(replica)),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        if self.is_enabled() { "up".into() } else { "down".into() }
    }
}

impl Told for OrSet<String> {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String> {
        match words {
            ["add", element] => Ok(self.add((*element).into(), replica)),
            ["remove", element] => Ok(self.remove(*element, replica)),
            ["clear"] => Ok(self.clear(replica)),
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        let dots =
            |(element, dots): (&String, &DotSet)| format!("{element}{:?}", dots.dots().collect::<Vec<_>>());
        self.store().iter().map(dots).collect::<Vec<_>>().join(" ")
    }
}

impl Told for OrMap<String, DotMap<String, DotSet>> {
    fn act(&mut self, words: &[&str], replica: ReplicaId) -> Result<Self::Delta, String> {
        match words {
            ["add", key, element] => Ok(self.update((*key).into(), replica, |set, event| {
                set.update((*element).into(), event, DotSet::renew)
            })),
            ["remove", key] => Ok(self.remove(*key, replica)),
            ["remove", key, element] => {
                Ok(self.update((*key).into(), replica, |set, event| set.remove(*element, event)))
            }
            _ => unknown(words),
        }
    }

    fn show(&self) -> String {
        let elements =
            |set: &DotMap<String, DotSet>| set.iter().map(|(e, _)| e.clone()).collect::<Vec<_>>().join(" ");
        self.store()
            .iter()
            .map(|(key, set)| format!("{key}{{{}}}", elements(set)))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

struct Stage<L: Told> {
    replicas: Vec<(ReplicaId, L)>,
    deltas: Vec<L::Delta>,
}

/// A stage of any type.
trait Play {
    fn tell(&mut self, line: &str, out: &mut Vec<String>) -> Result<(), String>;
}

fn place(text: &str, letter: char) -> Result<usize, String> {
    let at: Option<usize> = text.strip_prefix(letter).and_then(|number| number.parse().ok());
    at.and_then(|at| at.checked_sub(1)).ok_or_else(|| format!("`{text}` is not {letter}1, {letter}2 .."))
}

impl<L: Told> Stage<L> {
    fn delta(&self, text: &str) -> Result<L::Delta, String> {
        self.deltas.get(place(text, 'd')?).cloned().ok_or_else(|| format!("there is no {text}"))
    }

    fn at(&self, text: &str) -> Result<usize, String> {
        let at = place(text, 'n')?;
        if at < self.replicas.len() { Ok(at) } else { Err(format!("there is no {text}")) }
    }

    fn name(&mut self, delta: L::Delta, out: &mut Vec<String>) {
        self.deltas.push(delta);
        let delta = &self.deltas[self.deltas.len() - 1];
        let name = self.deltas.len();
        if delta.is_empty() {
            out.push(format!("d{name} says nothing"));
        } else {
            out.push(format!("d{name} events {}, {} bytes", delta.events(), delta.encoded_len()));
        }
    }

    fn show(&self, at: usize, out: &mut Vec<String>) {
        let (_, state) = &self.replicas[at];
        out.push(format!("n{} {}   version {}", at + 1, state.show(), state.version()));
    }
}

impl<L: Told> Play for Stage<L> {
    fn tell(&mut self, line: &str, out: &mut Vec<String>) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["deliver", delta, to @ ..] => {
                for to in to {
                    let (delta, at) = (self.delta(delta)?, self.at(to)?);
                    if !self.replicas[at].1.apply(delta) {
                        out.push(format!("{to} knew that"));
                    }
                }
            }
            ["join", first, second] => {
                let mut joined = self.delta(first)?;
                joined.join(self.delta(second)?);
                self.name(joined, out);
            }
            [kind @ ("merge" | "catch-up"), way] => {
                let (from, to) = way.split_once('>').ok_or("from>to")?;
                let (from, to) = (self.at(from)?, self.at(to)?);
                let state = self.replicas[from].1.clone();
                if *kind == "merge" {
                    self.replicas[to].1.merge(state);
                } else {
                    let delta = state.delta_since(&self.replicas[to].1.version());
                    self.name(delta.clone(), out);
                    self.replicas[to].1.apply(delta);
                }
                self.show(to, out);
            }
            ["split", delta, bytes] => {
                let parts = self.delta(delta)?.split(number(bytes)?);
                let drawn =
                    |part: &L::Delta| format!("{} bytes, events {}", part.encoded_len(), part.events());
                out.extend(parts.iter().map(drawn));
            }
            ["reborn", who, replica] => {
                let at = self.at(who)?;
                self.replicas[at] = (ReplicaId(number(replica)?), L::default());
            }
            ["state"] => (0..self.replicas.len()).for_each(|at| self.show(at, out)),
            ["state", who] => self.show(self.at(who)?, out),
            [who, action @ ..] => {
                let at = self.at(who)?;
                let (replica, state) = &mut self.replicas[at];
                let delta = state.act(action, *replica)?;
                self.name(delta, out);
            }
            [] => {}
        }
        Ok(())
    }
}

fn stage<L: Told + 'static>(count: u64) -> Box<dyn Play> {
    let replicas = (1..=count).map(|id| (ReplicaId(id), L::default())).collect();
    Box::new(Stage::<L> { replicas, deltas: Vec::new() })
}

fn begin(line: &str) -> Result<Box<dyn Play>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["replicas", count, name] = words[..] else { return Err("begin with `replicas N TYPE`".into()) };
    let count = number(count)?;
    Ok(match name {
        "g-counter" => stage::<GCounter>(count),
        "pn-counter" => stage::<PnCounter>(count),
        "lww-register" => stage::<LwwRegister<String>>(count),
        "mv-register" => stage::<MvRegister<String>>(count),
        "enable-wins-flag" => stage::<EnableWinsFlag>(count),
        "disable-wins-flag" => stage::<DisableWinsFlag>(count),
        "or-set" => stage::<OrSet<String>>(count),
        "or-map" => stage::<OrMap<String, DotMap<String, DotSet>>>(count),
        other => return Err(format!("no type {other}")),
    })
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/crdt");
    run_files(folder, |text| {
        let mut stage: Option<Box<dyn Play>> = None;
        replay_lines(text, |line, out| match &mut stage {
            Some(stage) => stage.tell(line, out),
            None => begin(line).map(|begun| stage = Some(begun)),
        })
    });
}
