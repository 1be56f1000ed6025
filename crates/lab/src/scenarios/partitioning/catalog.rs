//! The catalog: the map, and plans carried out step by step.

use std::collections::{BTreeMap, BTreeSet};

use keypact_partitioning::placement::{Executor, Plan, StepState, Throttle};
use keypact_partitioning::{Map, MoveId, Slice};
use keypact_protocol::NodeId;
use keypact_simulator::{MILLISECOND_NS, StartRefused};

use super::Scheme;
use super::message::{Message, Record, Report};

/// Every so many-th plan is cancelled half-way.
const CANCELLED_EVERY: u64 = 4;

/// What is to be written down, and what is to be said once it is durable.
pub(crate) struct Done<A> {
    pub(crate) records: Vec<Record<A>>,
    pub(crate) messages: Vec<(NodeId, Message<A>)>,
}

impl<A> Default for Done<A> {
    fn default() -> Self {
        Done { records: Vec::new(), messages: Vec::new() }
    }
}

/// The catalog of one map.
#[derive(Clone, Debug)]
pub(crate) struct Catalog<S: Scheme> {
    scheme: S,
    pub(crate) executor: Executor<S::At>,
    nodes: Vec<NodeId>,
    /// What each node is known to know.
    known: BTreeMap<NodeId, u64>,
    /// Steps whose taker serves, and whose giver has let go. Not written down: asked again after a restart.
    active: BTreeSet<MoveId>,
    released: BTreeSet<MoveId>,
    reports: BTreeMap<NodeId, Vec<Report<S::At>>>,
    next_round_ns: u64,
    round_gap_ns: u64,
    /// For the report of what was reached.
    pub(crate) counts: CatalogCounts,
}

/// What this life has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CatalogCounts {
    pub(crate) plans: u64,
    pub(crate) resumed: u64,
    pub(crate) switched: u64,
    pub(crate) stale: u64,
    pub(crate) splits: u64,
    pub(crate) merges: u64,
    pub(crate) cancelled: u64,
    pub(crate) throttled: u64,
}

impl<S: Scheme> Catalog<S> {
    pub(crate) fn new(scheme: S, nodes: Vec<NodeId>, throttle: Throttle, round_gap_ns: u64) -> Catalog<S> {
        Catalog {
            executor: Executor::new(scheme.first_map(), throttle),
            scheme,
            nodes,
            known: BTreeMap::new(),
            active: BTreeSet::new(),
            released: BTreeSet::new(),
            reports: BTreeMap::new(),
            next_round_ns: 0,
            round_gap_ns,
            counts: CatalogCounts::default(),
        }
    }

    /// Takes up what the disk kept.
    ///
    /// # Errors
    /// If a record can't follow those before it.
    pub(crate) fn replay(&mut self, record: &Record<S::At>) -> Result<(), StartRefused> {
        match record {
            Record::Executor(record) => {
                self.executor.replay(record.clone()).map_err(|error| StartRefused { why: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Recovery is over.
    pub(crate) fn recovered(&mut self) {
        self.counts.resumed += u64::from(!self.executor.is_idle());
    }

    /// How much is left to do: plans, and steps of the present one.
    pub(crate) fn left(&self) -> u64 {
        let plans = self.scheme.rounds().saturating_sub(self.executor.plan_id());
        plans + u64::from(!self.is_settled())
    }

    /// All steps are switched or cancelled, and all nodes have acted upon it.
    fn is_settled(&self) -> bool {
        self.executor.is_idle() && self.switched().all(|id| self.acted(id))
    }

    fn acted(&self, id: MoveId) -> bool {
        self.pair(id).is_none() || (self.active.contains(&id) && self.released.contains(&id))
    }

    fn switched(&self) -> impl Iterator<Item = MoveId> {
        let plan = self.executor.plan_id();
        let done = self.executor.states().iter().enumerate().filter(|(_, state)| **state == StepState::Done);
        done.map(move |(step, _)| MoveId { plan, step: step as u32 })
    }

    /// Giver and taker of a step; `None` if the owner stays.
    fn pair(&self, id: MoveId) -> Option<(NodeId, NodeId)> {
        let (step, _) = self.executor.step(id)?;
        (step.from[0] != step.to[0]).then_some((step.from[0], step.to[0]))
    }

    /// Some time has passed: goes on, and says again what was not answered.
    pub(crate) fn tick(&mut self, now_ns: u64) -> Done<S::At> {
        let mut done = Done::default();
        self.begin_round(now_ns, &mut done);
        self.cancel_sometimes(&mut done);
        self.go_on(now_ns, &mut done);
        for id in self.executor.started() {
            self.tell_started(id, &mut done);
        }
        for id in self.switched() {
            self.tell_switched(id, &mut done);
        }
        let version = self.executor.map().version();
        for node in &self.nodes {
            if self.known.get(node).is_none_or(|known| *known < version) {
                done.messages.push((*node, Message::Map(self.executor.map().clone())));
            }
        }
        done
    }

    fn begin_round(&mut self, now_ns: u64, done: &mut Done<S::At>) {
        let round = self.executor.plan_id() + 1;
        if round > self.scheme.rounds() || !self.is_settled() || now_ns < self.next_round_ns {
            return;
        }
        let reports: Vec<Report<S::At>> = self.reports.values().flatten().cloned().collect();
        for at in self.scheme.merges(round, self.executor.map()) {
            if let Ok(record) = self.executor.merge(&at) {
                self.counts.merges += 1;
                done.records.push(Record::Executor(record));
            }
        }
        for at in self.scheme.splits(self.executor.map(), &reports) {
            if let Ok(record) = self.executor.split(&at) {
                self.counts.splits += 1;
                done.records.push(Record::Executor(record));
            }
        }
        let map = self.executor.map();
        let wanted = self.scheme.wanted(round, map, &reports);
        let size = |slice: &Slice<S::At>| {
            reports.iter().filter(|report| slice.contains(&report.low)).map(|report| report.bytes).sum()
        };
        let plan = Plan::between(map, &wanted, size);
        let record = self.executor.begin(round, plan).expect("a plan between this map and another fits it");
        self.counts.plans += 1;
        done.records.push(Record::Executor(record));
        self.active.clear();
        self.released.clear();
        self.reports.clear();
        self.next_round_ns = now_ns + self.round_gap_ns;
    }

    fn cancel_sometimes(&mut self, done: &mut Done<S::At>) {
        let round = self.executor.plan_id();
        let half_way = self.executor.states().contains(&StepState::Done);
        if self.is_cancelled(round)
            && half_way
            && let Some(record) = self.executor.cancel()
        {
            self.counts.cancelled += 1;
            done.records.push(Record::Executor(record));
        }
    }

    fn is_cancelled(&self, round: u64) -> bool {
        round % CANCELLED_EVERY == 3 && round < self.scheme.rounds()
    }

    fn go_on(&mut self, now_ns: u64, done: &mut Done<S::At>) {
        while let Some((id, record)) = self.executor.start_next(now_ns / MILLISECOND_NS) {
            done.records.push(Record::Executor(record));
            self.tell_started(id, done);
        }
        // Where the owner stays nothing is copied here. Of a restart, too: the crash may have come between the two records.
        let staying: Vec<MoveId> = self.executor.started().filter(|id| self.pair(*id).is_none()).collect();
        for id in staying {
            let record = self.executor.switch(id).expect("it is under way");
            done.records.push(Record::Executor(record));
        }
        self.counts.throttled += u64::from(self.executor.next_start_ms() > now_ns / MILLISECOND_NS);
    }

    fn tell_started(&self, id: MoveId, done: &mut Done<S::At>) {
        if let Some((giver, to)) = self.pair(id)
            && let Some((step, _)) = self.executor.step(id)
        {
            done.messages.push((giver, Message::Give { id, slice: step.slice.clone(), to }));
        }
    }

    fn tell_switched(&self, id: MoveId, done: &mut Done<S::At>) {
        let Some((giver, taker)) = self.pair(id) else { return };
        // Not older than the switch; all that counts is that no earlier owner's version is as high.
        let version = self.executor.map().version();
        if !self.active.contains(&id) {
            done.messages.push((taker, Message::Activate { id, version }));
        }
        if !self.released.contains(&id) {
            done.messages.push((giver, Message::Release { id }));
        }
    }

    /// A node says something.
    pub(crate) fn hear(&mut self, from: NodeId, message: Message<S::At>, now_ns: u64) -> Done<S::At> {
        let mut done = Done::default();
        match message {
            Message::Took { id } => match self.executor.switch(id) {
                Ok(record) => {
                    self.counts.switched += 1;
                    done.records.push(Record::Executor(record));
                    self.tell_switched(id, &mut done);
                    self.tell_map(&mut done);
                    self.go_on(now_ns, &mut done);
                }
                Err(_) => self.counts.stale += 1,
            },
            Message::Active { id } if id.plan == self.executor.plan_id() => {
                self.active.insert(id);
            }
            Message::Released { id } if id.plan == self.executor.plan_id() => {
                self.released.insert(id);
            }
            Message::Known { version } => {
                // May be less than before: a node that restarted knows the first map only.
                self.known.insert(from, version);
            }
            Message::Reports(reports) => {
                self.reports.insert(from, reports);
            }
            _ => {}
        }
        done
    }

    fn tell_map(&self, done: &mut Done<S::At>) {
        for node in &self.nodes {
            done.messages.push((*node, Message::Map(self.executor.map().clone())));
        }
    }

    /// The map that a plan of this round should have led to, if it is over and was not cancelled.
    pub(crate) fn is_round_over(&self, round: u64) -> bool {
        self.executor.plan_id() == round && self.executor.is_idle() && !self.is_cancelled(round)
    }

    pub(crate) fn map(&self) -> &Map<S::At> {
        self.executor.map()
    }
}
