//! Commands on maps and plans, the same for every kind of position.

use bytes::Bytes;
use keypact_partitioning::placement::{Executor, ExecutorRecord, Plan, StepState, Throttle};
use keypact_partitioning::{HoldingState, Holdings, Map, MoveId, Position, Slice};
use keypact_protocol::{NodeId, Wire};

use super::{node, number};

/// A map, who holds what, and a plan.
pub(crate) struct Stage<B> {
    pub(crate) executor: Executor<B>,
    /// Where the executor's records go, as bytes.
    log: Vec<Vec<u8>>,
    first: Map<B>,
    throttle: Throttle,
    pub(crate) holdings: Vec<(NodeId, Holdings<B>)>,
    now_ms: u64,
    /// Slices of all steps that ever started.
    started: Vec<(MoveId, Slice<B>)>,
}

impl<B: Position> Stage<B> {
    pub(crate) fn new(map: Map<B>) -> Stage<B> {
        let throttle = Throttle { steps_max: 1, steps_per_node_max: 1, bytes_per_s: 1_000 };
        Stage {
            executor: Executor::new(map.clone(), throttle),
            log: Vec::new(),
            first: map,
            throttle,
            holdings: Vec::new(),
            now_ms: 0,
            started: Vec::new(),
        }
    }

    pub(crate) fn map(&self) -> &Map<B> {
        self.executor.map()
    }

    pub(crate) fn write(&mut self, record: &ExecutorRecord<B>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.log.push(bytes);
    }

    /// Makes a plan towards this map, and shows what it would do.
    pub(crate) fn plan(&mut self, wanted: &Map<B>, bytes: impl Fn(&Slice<B>) -> u64, out: &mut Vec<String>) {
        let plan = Plan::between(self.map(), wanted, bytes);
        for (at, step) in plan.steps.iter().enumerate() {
            out.push(format!("step {at}  {step}"));
        }
        match plan.dry_run(self.map(), &self.throttle) {
            Ok(run) => out.push(format!(
                "dry run: {} steps, {} copies, {} bytes, at least {} ms, version {} -> {}",
                run.steps,
                run.copies,
                run.bytes,
                run.least_ms,
                self.map().version(),
                run.version
            )),
            Err(error) => out.push(format!("dry run: {error}")),
        }
        match self.executor.begin(self.executor.plan_id() + 1, plan) {
            Ok(record) => self.write(&record),
            Err(error) => out.push(error.to_string()),
        }
    }

    fn id(&self, word: &str) -> Result<MoveId, String> {
        let (plan, step) = word.split_once('.').ok_or("a step is plan.step")?;
        Ok(MoveId { plan: number(plan)?, step: number(step)? as u32 })
    }

    fn holdings_of(&mut self, name: &str) -> Result<&mut Holdings<B>, String> {
        let node = node(name)?;
        if !self.holdings.iter().any(|(other, _)| *other == node) {
            let map = &self.first;
            let mine = map.parts().iter().filter(|part| part.owner() == node).map(|part| part.slice.clone());
            let held = Holdings::begin(mine, map.version(), 64).map_err(|error| error.to_string())?;
            self.holdings.push((node, held));
        }
        Ok(self
            .holdings
            .iter_mut()
            .find(|(other, _)| *other == node)
            .map(|(_, held)| held)
            .expect("just put"))
    }

    pub(crate) fn draw(&self, out: &mut Vec<String>) {
        out.push(format!("version {}", self.map().version()));
        for part in self.map().parts() {
            out.push(format!("  {:?}  {}", part.slice, super::names(&part.replicas)));
        }
    }

    /// Commands that every partitioner knows. `None`: it is none of them.
    pub(crate) fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Option<Result<(), String>> {
        let told = match words {
            ["map"] => {
                self.draw(out);
                Ok(())
            }
            ["throttle", steps, per_node, bytes] => self.set_throttle(steps, per_node, bytes),
            ["after", ms] => number(ms.trim_end_matches("ms")).map(|ms| self.now_ms += ms),
            ["start"] => {
                self.start(out);
                Ok(())
            }
            ["switch", id] => self.switch(id, out),
            ["cancel"] => {
                match self.executor.cancel() {
                    Some(record) => self.write(&record),
                    None => out.push("nothing waits".into()),
                }
                Ok(())
            }
            ["restart"] => self.restart(out),
            ["steps"] => {
                for (at, state) in self.executor.states().iter().enumerate() {
                    out.push(format!("  {at} {}", name(*state)));
                }
                Ok(())
            }
            ["give" | "take", ..] | ["activate" | "release", ..] | ["held", _] => self.fence(words, out),
            _ => return None,
        };
        Some(told)
    }

    fn set_throttle(&mut self, steps: &str, per_node: &str, bytes: &str) -> Result<(), String> {
        self.throttle = Throttle {
            steps_max: number(steps)? as usize,
            steps_per_node_max: number(per_node)? as usize,
            bytes_per_s: number(bytes)?,
        };
        self.executor = Executor::new(self.map().clone(), self.throttle);
        self.first = self.map().clone();
        self.log.clear();
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<String>) {
        let before = out.len();
        while let Some((id, record)) = self.executor.start_next(self.now_ms) {
            self.write(&record);
            let (step, _) = self.executor.step(id).expect("it has just started");
            self.started.push((id, step.slice.clone()));
            out.push(format!("{id}  {} tells {}: {:?}", step.sender(), super::names(&step.to), step.slice));
        }
        if out.len() == before {
            out.push(format!("nothing may start; by time from {} ms on", self.executor.next_start_ms()));
        }
    }

    fn switch(&mut self, id: &str, out: &mut Vec<String>) -> Result<(), String> {
        let id = self.id(id)?;
        match self.executor.switch(id) {
            Ok(record) => {
                self.write(&record);
                out.push(format!("version {}", self.map().version()));
            }
            Err(error) => out.push(error.to_string()),
        }
        Ok(())
    }

    /// The executor is made anew, from the first map and the log.
    fn restart(&mut self, out: &mut Vec<String>) -> Result<(), String> {
        let mut executor = Executor::new(self.first.clone(), self.throttle);
        for bytes in &self.log {
            let record =
                ExecutorRecord::decode(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
            executor.replay(record).map_err(|error| error.to_string())?;
        }
        out.push(format!(
            "version {}, {} records, {}",
            executor.map().version(),
            self.log.len(),
            if executor == self.executor { "as before" } else { "throttle anew, else as before" }
        ));
        assert!(executor.map() == self.executor.map() && executor.states() == self.executor.states());
        self.executor = executor;
        Ok(())
    }

    /// `give n1 1.0`, `take n2 1.0`, `activate n2 1.0 5`, `release n1 1.0`, `held n1`: a node's side of a step.
    fn fence(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        if let ["held", name] = words {
            for holding in self.holdings_of(name)?.held().to_vec() {
                let state = match holding.state {
                    HoldingState::Serving => format!("served since {}", holding.since),
                    HoldingState::Giving(id) => format!("given by {id}"),
                    HoldingState::Taken(id) => format!("taken by {id}"),
                };
                out.push(format!("  {:?}  {state}", holding.slice));
            }
            return Ok(());
        }
        let [verb, name, id, rest @ ..] = words else { return Err("who, and which step?".into()) };
        let id = self.id(id)?;
        let slice = self.started.iter().find(|(other, _)| *other == id).map(|(_, slice)| slice.clone());
        let held = self.holdings_of(name)?;
        let slice = slice.ok_or("no such step");
        let said = match *verb {
            "give" => held.give(id, &slice?).map(|()| String::from("stops serving")),
            "take" => held.take(id, &slice?).map(|new| String::from(if new { "takes" } else { "has it" })),
            "activate" => {
                let version = number(rest.first().ok_or("since which version?")?)?;
                held.activate(id, version)
                    .map(|new| String::from(if new { "serves" } else { "nothing changes" }))
            }
            _ => held.release(id).map(|gone| format!("lets go of {gone:?}")),
        };
        held.assert_invariants();
        out.push(format!("{name}: {}", said.unwrap_or_else(|error| error.to_string())));
        Ok(())
    }
}

fn name(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "waiting",
        StepState::Started => "started",
        StepState::Done => "done",
        StepState::Cancelled => "cancelled",
    }
}
