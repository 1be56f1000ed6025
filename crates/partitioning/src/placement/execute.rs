//! A plan is carried out.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Plant, Wire, planted};

use crate::codec;
use crate::holding::MoveId;
use crate::map::{Map, MapError};
use crate::placement::throttle::Debt;
use crate::placement::{Plan, PlanError, Step, Throttle};
use crate::slice::Position;

/// How far a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepState {
    /// It has not begun.
    Waiting,
    /// Its nodes are told to copy.
    Started,
    /// The map says so.
    Done,
    /// It will not begin.
    Cancelled,
}

/// What the executor must not forget. To be written down before anybody is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecutorRecord<B> {
    /// A plan begins, under this number.
    Begun {
        /// Its number: greater than that of any plan before it.
        plan_id: u64,
        /// The plan.
        plan: Plan<B>,
    },
    /// A step's nodes are about to be told. Without this record a restart would forget that a giver may have stopped serving, and a cancellation
    /// would leave it so.
    Started(MoveId),
    /// A step was switched: the map is one version on.
    Switched(MoveId),
    /// These steps will not begin.
    Cancelled {
        /// Of this plan.
        plan_id: u64,
        /// Which, counted from 0.
        steps: Vec<u32>,
    },
    /// A boundary was added, between plans; nothing moved.
    Split(B),
    /// A boundary was taken away, between plans; nothing moved.
    Merged(B),
}

/// Why an input was refused. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecutorError {
    /// The plan does not fit the map.
    Plan(PlanError),
    /// It is of another plan, or of a step that is not under way: a message that comes late or twice.
    Stale(MoveId),
    /// A plan is under way.
    Busy,
    /// The map can't be split or merged there.
    Map(MapError),
    /// Plans are numbered upwards.
    OldPlan {
        /// The number given.
        plan_id: u64,
        /// The newest so far.
        newest: u64,
    },
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecutorError::Plan(error) => write!(f, "{error}; nothing changed"),
            ExecutorError::Stale(id) => write!(f, "step {id} is not under way; nothing changed"),
            ExecutorError::Map(error) => write!(f, "{error}"),
            ExecutorError::Busy => f.write_str("a plan is under way; nothing changed"),
            ExecutorError::OldPlan { plan_id, newest } => {
                write!(f, "plan {plan_id} comes after plan {newest}; nothing changed")
            }
        }
    }
}

impl core::error::Error for ExecutorError {}

/// The plan under way, if one is, and the map that it changes. One map, one executor.
///
/// Its state is the map and its records: after a restart give the map of the last checkpoint and replay what was written since. A step that had
/// started and not switched is told again; copying is repeatable ([`crate::Holdings::take`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executor<B> {
    map: Map<B>,
    plan_id: u64,
    plan: Plan<B>,
    states: Vec<StepState>,
    throttle: Throttle,
    debt: Debt,
}

impl<B: Position> Executor<B> {
    /// No plan yet.
    #[must_use]
    pub fn new(map: Map<B>, throttle: Throttle) -> Executor<B> {
        let plan = Plan { base: map.version(), steps: Vec::new() };
        Executor { map, plan_id: 0, plan, states: Vec::new(), throttle, debt: Debt::default() }
    }

    /// The map as it is.
    #[must_use]
    pub fn map(&self) -> &Map<B> {
        &self.map
    }

    /// The newest plan's number, 0 before the first.
    #[must_use]
    pub fn plan_id(&self) -> u64 {
        self.plan_id
    }

    /// The newest plan.
    #[must_use]
    pub fn plan(&self) -> &Plan<B> {
        &self.plan
    }

    /// How far each step is.
    #[must_use]
    pub fn states(&self) -> &[StepState] {
        &self.states
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.states.iter().all(|state| matches!(state, StepState::Done | StepState::Cancelled))
    }

    /// A step of the newest plan.
    #[must_use]
    pub fn step(&self, id: MoveId) -> Option<(&Step<B>, StepState)> {
        if id.plan != self.plan_id {
            return None;
        }
        let step = self.plan.steps.get(id.step as usize)?;
        Some((step, self.states[id.step as usize]))
    }

    /// Begins a plan. Write the record down before anything is started.
    ///
    /// # Errors
    /// [`ExecutorError::Busy`], [`ExecutorError::OldPlan`], [`ExecutorError::Plan`].
    pub fn begin(&mut self, plan_id: u64, plan: Plan<B>) -> Result<ExecutorRecord<B>, ExecutorError> {
        if !self.is_idle() {
            return Err(ExecutorError::Busy);
        }
        if plan_id <= self.plan_id {
            return Err(ExecutorError::OldPlan { plan_id, newest: self.plan_id });
        }
        if !planted(Plant::PlanMovesAKeyTwice) {
            plan.dry_run(&self.map, &self.throttle).map_err(ExecutorError::Plan)?;
        }
        let record = ExecutorRecord::Begun { plan_id, plan };
        self.adopt(record.clone());
        Ok(record)
    }

    fn adopt(&mut self, begun: ExecutorRecord<B>) {
        let ExecutorRecord::Begun { plan_id, plan } = begun else { return };
        self.states = alloc::vec![StepState::Waiting; plan.steps.len()];
        self.plan_id = plan_id;
        self.plan = plan;
        assert!(self.states.len() == self.plan.steps.len(), "each step has a state");
    }

    /// Adds a boundary, between plans. Write the record down before anybody is told.
    ///
    /// # Errors
    /// [`ExecutorError::Busy`], [`ExecutorError::Map`].
    pub fn split(&mut self, at: &B) -> Result<ExecutorRecord<B>, ExecutorError> {
        if !self.is_idle() {
            return Err(ExecutorError::Busy);
        }
        self.map.split(at).map_err(ExecutorError::Map)?;
        Ok(ExecutorRecord::Split(at.clone()))
    }

    /// Takes a boundary away, between plans. Write the record down before anybody is told.
    ///
    /// # Errors
    /// [`ExecutorError::Busy`], [`ExecutorError::Map`].
    pub fn merge(&mut self, at: &B) -> Result<ExecutorRecord<B>, ExecutorError> {
        if !self.is_idle() {
            return Err(ExecutorError::Busy);
        }
        self.map.merge(at).map_err(ExecutorError::Map)?;
        Ok(ExecutorRecord::Merged(at.clone()))
    }

    /// The next step that may begin at this time; it has then started. Write the record down before anybody is told. Call until `None`.
    /// O(steps).
    pub fn start_next(&mut self, now_ms: u64) -> Option<(MoveId, ExecutorRecord<B>)> {
        if !self.debt.is_paid(now_ms) {
            return None;
        }
        let under_way = self.started().count();
        if under_way >= self.throttle.steps_max.max(1) {
            return None;
        }
        let next = (0..self.states.len()).find(|at| {
            self.states[*at] == StepState::Waiting
                && self.is_next(*at)
                && self.nodes_of(*at).all(|node| self.load_of(node) < self.throttle.steps_per_node_max.max(1))
        })?;
        self.states[next] = StepState::Started;
        self.debt.charge(&self.throttle, self.plan.steps[next].copied_bytes(), now_ms);
        assert!(self.started().count() == under_way + 1, "one more is under way");
        let id = MoveId { plan: self.plan_id, step: next as u32 };
        Some((id, ExecutorRecord::Started(id)))
    }

    /// Whether the map is as the step expects it. Always, but for a planted bug.
    fn is_next(&self, at: usize) -> bool {
        let step = &self.plan.steps[at];
        self.map.overlapping(&step.slice).iter().all(|part| part.replicas == step.from)
    }

    /// When the throttle lets the next step begin, at the earliest.
    #[must_use]
    pub fn next_start_ms(&self) -> u64 {
        self.debt.paid_at_ms()
    }

    fn nodes_of(&self, at: usize) -> impl Iterator<Item = NodeId> {
        let step = &self.plan.steps[at];
        step.receivers().chain(core::iter::once(step.sender()))
    }

    fn load_of(&self, node: NodeId) -> usize {
        let takes_part = |id: &MoveId| self.nodes_of(id.step as usize).any(|other| other == node);
        self.started().filter(takes_part).count()
    }

    /// Steps under way: to be told to their nodes until they answer.
    pub fn started(&self) -> impl Iterator<Item = MoveId> {
        let started = self.states.iter().enumerate().filter(|(_, state)| **state == StepState::Started);
        started.map(|(at, _)| MoveId { plan: self.plan_id, step: at as u32 })
    }

    /// All receivers have the step's slice on disk: the map changes, one version on. Write the record down before anybody is told.
    ///
    /// # Errors
    /// [`ExecutorError::Stale`]: of another plan, or not under way.
    pub fn switch(&mut self, id: MoveId) -> Result<ExecutorRecord<B>, ExecutorError> {
        if self.step(id).is_none_or(|(_, state)| state != StepState::Started) {
            return Err(ExecutorError::Stale(id));
        }
        self.apply(id);
        Ok(ExecutorRecord::Switched(id))
    }

    fn apply(&mut self, id: MoveId) {
        let at = id.step as usize;
        let step = &self.plan.steps[at];
        let before = self.map.version();
        let assigned = self.map.assign(&step.slice, &step.from, &step.to);
        assert!(assigned.is_ok(), "the plan was tried before: {assigned:?}");
        assert!(self.map.version() == before + 1, "a switch is one version");
        self.states[at] = StepState::Done;
    }

    /// Steps that have not begun will not; those under way end as planned. The map stays whole: any number of steps may be carried out.
    /// `None` if nothing was waiting.
    pub fn cancel(&mut self) -> Option<ExecutorRecord<B>> {
        let waiting = self.states.iter().enumerate().filter(|(_, state)| **state == StepState::Waiting);
        let steps: Vec<u32> = waiting.map(|(at, _)| at as u32).collect();
        if steps.is_empty() {
            return None;
        }
        for step in &steps {
            self.states[*step as usize] = StepState::Cancelled;
        }
        assert!(!self.states.contains(&StepState::Waiting), "nothing waits any more");
        Some(ExecutorRecord::Cancelled { plan_id: self.plan_id, steps })
    }

    /// Takes up a record again, after a restart, in the order in which they were written.
    ///
    /// # Errors
    /// [`ExecutorError::Stale`], [`ExecutorError::Plan`] for a record that can't follow what came before.
    pub fn replay(&mut self, record: ExecutorRecord<B>) -> Result<(), ExecutorError> {
        match record {
            ExecutorRecord::Begun { plan_id, plan } => {
                if plan_id <= self.plan_id {
                    return Err(ExecutorError::OldPlan { plan_id, newest: self.plan_id });
                }
                self.adopt(ExecutorRecord::Begun { plan_id, plan });
            }
            ExecutorRecord::Started(id) => {
                if self.step(id).is_none_or(|(_, state)| state != StepState::Waiting) {
                    return Err(ExecutorError::Stale(id));
                }
                self.states[id.step as usize] = StepState::Started;
            }
            ExecutorRecord::Switched(id) => {
                let Some((step, state)) = self.step(id) else { return Err(ExecutorError::Stale(id)) };
                if state != StepState::Started {
                    return Err(ExecutorError::Stale(id));
                }
                let fits = self.map.clone().assign(&step.slice, &step.from, &step.to);
                fits.map_err(|why| ExecutorError::Plan(PlanError::Step { step: id.step as usize, why }))?;
                if !planted(Plant::ResumedPlanBeginsAnew) {
                    self.apply(id);
                }
            }
            ExecutorRecord::Cancelled { plan_id, steps } => {
                for step in steps {
                    let id = MoveId { plan: plan_id, step };
                    if self.step(id).is_none_or(|(_, state)| state != StepState::Waiting) {
                        return Err(ExecutorError::Stale(id));
                    }
                    self.states[step as usize] = StepState::Cancelled;
                }
            }
            ExecutorRecord::Split(at) => self.map.split(&at).map_err(ExecutorError::Map)?,
            ExecutorRecord::Merged(at) => self.map.merge(&at).map_err(ExecutorError::Map)?,
        }
        Ok(())
    }

    /// States and plan belong together. O(1).
    ///
    /// # Panics
    /// If not.
    pub fn assert_invariants(&self) {
        assert!(self.states.len() == self.plan.steps.len(), "each step has a state");
        assert!(self.map.version() >= self.plan.base || self.plan.steps.is_empty(), "a map does not go back");
    }
}

const BEGUN: u8 = 0;
const SWITCHED: u8 = 1;
const CANCELLED: u8 = 2;
const SPLIT: u8 = 3;
const MERGED: u8 = 4;
const STARTED: u8 = 5;

impl<B: Position> Wire for ExecutorRecord<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ExecutorRecord::Begun { plan_id, plan } => {
                out.push(BEGUN);
                out.extend_from_slice(&plan_id.to_le_bytes());
                plan.encode(out);
            }
            ExecutorRecord::Started(id) | ExecutorRecord::Switched(id) => {
                let is_switched = matches!(self, ExecutorRecord::Switched(_));
                out.push(if is_switched { SWITCHED } else { STARTED });
                out.extend_from_slice(&id.plan.to_le_bytes());
                out.extend_from_slice(&id.step.to_le_bytes());
            }
            ExecutorRecord::Cancelled { plan_id, steps } => {
                out.push(CANCELLED);
                out.extend_from_slice(&plan_id.to_le_bytes());
                codec::push_len(steps.len(), out);
                for step in steps {
                    out.extend_from_slice(&step.to_le_bytes());
                }
            }
            ExecutorRecord::Split(at) => {
                out.push(SPLIT);
                at.encode(out);
            }
            ExecutorRecord::Merged(at) => {
                out.push(MERGED);
                at.encode(out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<ExecutorRecord<B>, DecodeError> {
        let record = match codec::byte(&mut bytes)? {
            BEGUN => {
                let plan_id = codec::u64(&mut bytes)?;
                return Ok(ExecutorRecord::Begun { plan_id, plan: Plan::decode(bytes)? });
            }
            kind @ (STARTED | SWITCHED) => {
                let plan = codec::u64(&mut bytes)?;
                let id = MoveId { plan, step: codec::u32(&mut bytes)? };
                if kind == STARTED { ExecutorRecord::Started(id) } else { ExecutorRecord::Switched(id) }
            }
            CANCELLED => {
                let plan_id = codec::u64(&mut bytes)?;
                let count = codec::len(&mut bytes)?;
                let steps = (0..count).map(|_| codec::u32(&mut bytes)).collect::<Result<_, _>>()?;
                ExecutorRecord::Cancelled { plan_id, steps }
            }
            SPLIT => ExecutorRecord::Split(B::decode(&mut bytes)?),
            MERGED => ExecutorRecord::Merged(B::decode(&mut bytes)?),
            _ => return Err(DecodeError::new("an executor's record")),
        };
        codec::end(&bytes)?;
        Ok(record)
    }
}
