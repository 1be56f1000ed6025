//! A plan between two maps, as data.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Plant, Wire, planted};

use crate::codec;
use crate::map::{Map, MapError, are_replicas};
use crate::placement::Throttle;
use crate::slice::{Position, Slice};

/// One slice changes hands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step<B> {
    /// What.
    pub slice: Slice<B>,
    /// Who holds it before, the owner first.
    pub from: Vec<NodeId>,
    /// Who holds it after.
    pub to: Vec<NodeId>,
    /// About how much one copy is, bytes.
    pub bytes: u64,
}

impl<B: Position> Step<B> {
    /// Who must get a copy.
    pub fn receivers(&self) -> impl Iterator<Item = NodeId> {
        self.to.iter().copied().filter(|node| !self.from.contains(node))
    }

    /// Who may let go.
    pub fn leavers(&self) -> impl Iterator<Item = NodeId> {
        self.from.iter().copied().filter(|node| !self.to.contains(node))
    }

    /// Who sends the copies: a replica that leaves if there is one, else the owner.
    #[must_use]
    pub fn sender(&self) -> NodeId {
        self.leavers().next().unwrap_or(self.from[0])
    }

    /// Bytes that are copied; sums beyond 2^64 - 1 count as that.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.bytes.saturating_mul(self.receivers().count() as u64)
    }
}

impl<B: Position> fmt::Display for Step<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |f: &mut fmt::Formatter<'_>, nodes: &[NodeId]| {
            nodes
                .iter()
                .enumerate()
                .try_for_each(|(at, node)| write!(f, "{}{node}", if at == 0 { "" } else { "," }))
        };
        write!(f, "{:?} ", self.slice)?;
        names(f, &self.from)?;
        f.write_str(" -> ")?;
        names(f, &self.to)?;
        write!(f, ", {} bytes", self.copied_bytes())
    }
}

/// The steps from one map to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan<B> {
    /// The version of the map that it was made for.
    pub base: u64,
    /// In the order in which they should begin.
    pub steps: Vec<Step<B>>,
}

/// Why a plan can't be carried out. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// It was made for another version of the map.
    OtherBase {
        /// For this.
        planned: u64,
        /// The map's.
        found: u64,
    },
    /// A step does not fit the map.
    Step {
        /// Which, counted from 0.
        step: usize,
        /// Why.
        why: MapError,
    },
    /// Two steps move the same position.
    Twice {
        /// The second of them, counted from 0.
        step: usize,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::OtherBase { planned, found } => {
                write!(f, "the plan is for version {planned} of the map, which is at {found}; make a new one")
            }
            PlanError::Step { step, why } => write!(f, "step {step}: {why}"),
            PlanError::Twice { step } => write!(f, "step {step} moves what an earlier one moves"),
        }
    }
}

impl core::error::Error for PlanError {}

/// What goes through one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Bytes that it gets.
    pub in_bytes: u64,
    /// Bytes that it sends.
    pub out_bytes: u64,
}

/// What a plan would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    /// Steps.
    pub steps: usize,
    /// Copies that are made.
    pub copies: usize,
    /// Their bytes; here and in the flows a sum beyond 2^64 - 1 counts as that.
    pub bytes: u64,
    /// By node.
    pub flows: BTreeMap<NodeId, Flow>,
    /// The map's version afterwards.
    pub version: u64,
    /// The least time that it takes under the throttle, milliseconds.
    pub least_ms: u64,
}

impl<B: Position> Plan<B> {
    /// The plan that leads from `map` to `wanted` with the fewest copies: every slice whose replicas differ, in one step; nothing else.
    /// `bytes` says how large a slice is. O((slices of both) * log).
    #[must_use]
    pub fn between(map: &Map<B>, wanted: &Map<B>, mut bytes: impl FnMut(&Slice<B>) -> u64) -> Plan<B> {
        let mut steps: Vec<Step<B>> = Vec::new();
        let (mut at, mut wanted_at) = (0, 0);
        while let (Some(old), Some(new)) = (map.parts().get(at), wanted.parts().get(wanted_at)) {
            let both = old.slice.intersection(&new.slice).expect("both maps cover the space");
            at += usize::from(old.slice.high() == both.high());
            wanted_at += usize::from(new.slice.high() == both.high());
            if old.replicas == new.replicas {
                continue;
            }
            let step = Step { slice: both, from: old.replicas.clone(), to: new.replicas.clone(), bytes: 0 };
            match steps.last_mut().filter(|last| last.slice.high() == Some(step.slice.low())) {
                Some(last) if last.from == step.from && last.to == step.to => {
                    last.slice.high = step.slice.high;
                }
                _ => steps.push(step),
            }
        }
        assert!(
            at == map.parts().len() && wanted_at == wanted.parts().len(),
            "both maps were walked to the end"
        );
        for step in &mut steps {
            step.bytes = bytes(&step.slice);
        }
        if planted(Plant::PlanMovesAKeyTwice) {
            detour(&mut steps, map);
        }
        Plan { base: map.version(), steps: ordered(steps) }
    }

    /// What the plan would do to this map, which stays as it is. Also the check that it can be carried out at all. O(steps * slices).
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn dry_run(&self, map: &Map<B>, throttle: &Throttle) -> Result<DryRun, PlanError> {
        if self.base != map.version() {
            return Err(PlanError::OtherBase { planned: self.base, found: map.version() });
        }
        self.check_once()?;
        let mut after = map.clone();
        let mut run = DryRun {
            steps: self.steps.len(),
            copies: 0,
            bytes: 0,
            flows: BTreeMap::new(),
            version: map.version(),
            least_ms: 0,
        };
        for (step, planned) in self.steps.iter().enumerate() {
            after
                .assign(&planned.slice, &planned.from, &planned.to)
                .map_err(|why| PlanError::Step { step, why })?;
            for receiver in planned.receivers() {
                run.copies += 1;
                run.bytes = run.bytes.saturating_add(planned.bytes);
                let taker = run.flows.entry(receiver).or_default();
                taker.in_bytes = taker.in_bytes.saturating_add(planned.bytes);
                let giver = run.flows.entry(planned.sender()).or_default();
                giver.out_bytes = giver.out_bytes.saturating_add(planned.bytes);
            }
        }
        after.assert_invariants();
        run.version = after.version();
        run.least_ms = throttle.least_ms(run.bytes);
        assert!(run.version == map.version() + self.steps.len() as u64, "each step is a version");
        Ok(run)
    }

    /// No position is in two steps.
    fn check_once(&self) -> Result<(), PlanError> {
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by(|a, b| self.steps[*a].slice.low().cmp(self.steps[*b].slice.low()));
        for pair in order.windows(2) {
            let (first, second) = (&self.steps[pair[0]].slice, &self.steps[pair[1]].slice);
            if first.intersection(second).is_some() {
                return Err(PlanError::Twice { step: pair[0].max(pair[1]) });
            }
        }
        Ok(())
    }
}

/// Steps in an order in which no node gets much before it gave: each time one whose receivers have got the least so far, less what they gave.
/// By node a queue in the order of slices; O(steps * nodes).
fn ordered<B: Position>(steps: Vec<Step<B>>) -> Vec<Step<B>> {
    let count = steps.len();
    let mut queues: BTreeMap<NodeId, Vec<Step<B>>> = BTreeMap::new();
    for step in steps.into_iter().rev() {
        let receiver = step.receivers().next().unwrap_or(step.to[0]);
        queues.entry(receiver).or_default().push(step);
    }
    // Sizes may be anything that a file says; 2^20 steps of 2^64 bytes fit.
    let mut gained: BTreeMap<NodeId, i128> = BTreeMap::new();
    let mut ordered = Vec::with_capacity(count);
    while let Some(receiver) = queues
        .iter()
        .filter(|(_, queue)| !queue.is_empty())
        .map(|(node, _)| *node)
        .min_by_key(|node| gained.get(node).copied().unwrap_or(0))
    {
        let step = queues.get_mut(&receiver).and_then(Vec::pop).expect("the queue is not empty");
        let size = i128::from(step.bytes.max(1));
        for node in step.receivers() {
            *gained.entry(node).or_default() += size;
        }
        for node in step.leavers() {
            *gained.entry(node).or_default() -= size;
        }
        ordered.push(step);
    }
    assert!(ordered.len() == count, "every step is in the order");
    ordered
}

/// Only for a planted bug: a slice goes to its new owner by way of a third node.
fn detour<B: Position>(steps: &mut Vec<Step<B>>, map: &Map<B>) {
    let Some(first) = steps.first().cloned() else { return };
    let involved = |node: &NodeId| first.from.contains(node) || first.to.contains(node);
    let owners = map.parts().iter().map(|part| part.owner());
    if let Some(third) = owners.into_iter().find(|node| !involved(node)) {
        let back = Step { from: alloc::vec![third], ..first.clone() };
        steps[0].to = alloc::vec![third];
        steps.push(back);
    }
}

impl<B: Position> Wire for Plan<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base.to_le_bytes());
        codec::push_len(self.steps.len(), out);
        for step in &self.steps {
            step.slice.encode_to(out);
            codec::push_nodes(&step.from, out);
            codec::push_nodes(&step.to, out);
            out.extend_from_slice(&step.bytes.to_le_bytes());
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Plan<B>, DecodeError> {
        let base = codec::u64(&mut bytes)?;
        let count = codec::len(&mut bytes)?;
        let mut steps = Vec::new();
        for _ in 0..count {
            let slice = Slice::decode_from(&mut bytes)?;
            let from = codec::nodes(&mut bytes)?;
            let to = codec::nodes(&mut bytes)?;
            if !are_replicas(&from) || !are_replicas(&to) {
                return Err(DecodeError::new("a step with replicas, each once"));
            }
            steps.push(Step { slice, from, to, bytes: codec::u64(&mut bytes)? });
        }
        codec::end(&bytes)?;
        Ok(Plan { base, steps })
    }
}
