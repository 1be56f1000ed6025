//! Interaction scripts of the clocks: `interaction/clock/*.txt`.
//!
//! `n1 event e1 [wall=10]` is an event with its stamps by all clocks; `n1 hears e1 e2 [wall=10]` the event e2 of n1 hearing of e1;
//! `compare e1 e2` what the clocks say of two events; `sees n1 3.2` puts a dot into n1's context, `context n1` shows it.
#![cfg(feature = "clock")]

use std::collections::BTreeMap;

use keypact_ordering::clock::{
    Dot, DotContext, HybridClock, HybridStamp, LamportClock, LamportStamp, ReplicaId, VectorClock,
};
use keypact_simulator::script::{replay_lines, run_files};

#[derive(Clone)]
struct Stamped {
    lamport: LamportStamp,
    vector: VectorClock,
    hybrid: HybridStamp,
}

struct Member {
    lamport: LamportClock,
    vector: VectorClock,
    hybrid: HybridClock,
    context: DotContext,
}

#[derive(Default)]
struct Stage {
    members: BTreeMap<String, Member>,
    events: BTreeMap<String, Stamped>,
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

impl Stage {
    fn member(&mut self, name: &str) -> Result<(ReplicaId, &mut Member), String> {
        let id = name.strip_prefix('n').ok_or_else(|| format!("`{name}` is no member"))?;
        let begun = || Member {
            lamport: LamportClock::new(),
            vector: VectorClock::new(),
            hybrid: HybridClock::new(100),
            context: DotContext::new(),
        };
        Ok((ReplicaId(number(id)?), self.members.entry(name.into()).or_insert_with(begun)))
    }

    fn event(
        &mut self,
        who: &str,
        heard: Option<&str>,
        name: &str,
        wall: &str,
        out: &mut Vec<String>,
    ) -> Result<(), String> {
        let wall_ms = number(wall.strip_prefix("wall=").ok_or("`wall=` is missing")?)?;
        let heard = match heard {
            Some(heard) => Some(self.events.get(heard).ok_or_else(|| format!("no event {heard}"))?.clone()),
            None => None,
        };
        let (replica, member) = self.member(who)?;
        if let Some(heard) = &heard {
            if let Err(error) = member.hybrid.observe(heard.hybrid, wall_ms) {
                out.push(format!("{who} refuses: {error}"));
                return Ok(());
            }
            member.vector.merge(&heard.vector);
            member.lamport = LamportClock::resume(member.lamport.time().max(heard.lamport.time));
        }
        member.vector.increment(replica);
        let stamped = Stamped {
            lamport: member.lamport.stamp(replica),
            vector: member.vector.clone(),
            hybrid: member.hybrid.now(wall_ms),
        };
        out.push(format!(
            "{name} at {who}   lamport {}   vector {}   hybrid {}",
            stamped.lamport.time, stamped.vector, stamped.hybrid
        ));
        self.events.insert(name.into(), stamped);
        Ok(())
    }

    fn tell(&mut self, line: &str, out: &mut Vec<String>) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["compare", left, right] => {
                let found = |name: &str| self.events.get(name).ok_or_else(|| format!("no event {name}"));
                let (a, b) = (found(left)?, found(right)?);
                let order = |less: bool| if less { "before" } else { "after" };
                out.push(format!(
                    "{left}, {right}   vector: {:?}   lamport: {}   hybrid: {}",
                    a.vector.compare(&b.vector),
                    order(a.lamport < b.lamport),
                    order(a.hybrid < b.hybrid)
                ));
            }
            ["sees", who, dot] => {
                let (replica, counter) = dot.split_once('.').ok_or("replica.counter")?;
                let dot = Dot::new(ReplicaId(number(replica)?), number(counter)?);
                let (_, member) = self.member(who)?;
                let new = member.context.insert(dot);
                out.push(format!("{} {}", if new { "new" } else { "seen before" }, member.context));
            }
            ["context", who] => {
                let (_, member) = self.member(who)?;
                let beyond: Vec<_> = member.context.beyond_gaps().collect();
                out.push(format!("vector {}, {} spans beyond gaps", member.context.vector(), beyond.len()));
            }
            [who, "event", name, wall] => return self.event(who, None, name, wall, out),
            [who, "hears", heard, name, wall] => return self.event(who, Some(heard), name, wall, out),
            _ => return Err(format!("`{line}` is not understood")),
        }
        Ok(())
    }
}

#[test]
fn clock_scripts() {
    run_files(concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/clock"), |text| {
        let mut stage = Stage::default();
        replay_lines(text, |line, out| stage.tell(line, out))
    });
}
