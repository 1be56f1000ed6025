//! The search for a linearization: Wing and Gong's algorithm with Lowe's improvements ("Testing for linearizability",
//! 2017), and what unknown outcomes need besides.
//!
//! A *configuration* is (operations linearized so far, state). From it any operation may come next that was invoked
//! before the first return of an operation not yet linearized: Wing and Gong try them all, depth first. Lowe keeps the
//! pending events in a linked list, from which an operation is lifted in O(1), and remembers configurations seen.
//!
//! **Configurations are small.** Let f be the first completed operation, by invocation, that is not linearized. Whatever is
//! linearized was invoked before f returned, so a window of bits from f to the last such operation says it all, however
//! long the history is.
//!
//! **Reads are taken at once.** If an operation that changes no state is possible now, it is linearized now, and nothing
//! else is tried in its place: in any linearization that has it later, it can be moved here; it changes nothing for those
//! that it overtakes, and none of them had to precede it.
//!
//! **Unknown operations** never return, so they may come at any point after their invocation or never. Four arguments
//! keep them from multiplying the search by 2^n. All take a linearization L and make another from it:
//!  1. One that changes nothing where it stands can be left out of L. It is only taken where it changes the state.
//!  2. One that is followed at once by an operation that overwrites every state can be left out. After an unknown
//!     operation no such operation is tried. (A configuration reached first in this way is remembered as seen although
//!     overwrites were not tried from it: they were, or will be, from the configuration before the unknown operation,
//!     and lead to the same state with fewer unknown operations used, which argument 4 prefers.)
//!  3. Equal ones are interchangeable but for their invocations; L can be made to use them in the order of invocation.
//!  4. If everything is equal but that fewer unknown operations are used, whatever can follow the one can follow the
//!     other. Of configurations with the same completed operations and state only the minimal sets are remembered.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::BuildHasherDefault;
use std::time::Instant;

use crate::model::Model;

/// A hasher without a seed of its own: the same search takes the same steps everywhere.
pub(crate) type FixedState = BuildHasherDefault<DefaultHasher>;

/// An operation of one key, as the search sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span<Op> {
    /// The call with its answer.
    pub(crate) op: Op,
    /// Position of the invocation.
    pub(crate) invoked: u64,
    /// Position of the return; `None` if the outcome is unknown.
    pub(crate) returned: Option<u64>,
}

/// Why a search gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Steps,
    Time,
    Memory,
}

/// What a search may spend. Shared by all searches of one check.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) steps: u64,
    pub(crate) deadline: Option<Instant>,
    /// For each search by itself, bytes, by estimate.
    pub(crate) memory_bytes: usize,
    pub(crate) steps_spent: u64,
}

/// Asking for the time costs more than a step.
const STEPS_PER_CLOCK_READ: u64 = 1024;

impl Budget {
    fn step(&mut self) -> Result<(), Exhausted> {
        if self.steps == 0 {
            return Err(Exhausted::Steps);
        }
        self.steps -= 1;
        self.steps_spent += 1;
        if self.steps_spent.is_multiple_of(STEPS_PER_CLOCK_READ) {
            self.check_deadline()?;
        }
        Ok(())
    }

    pub(crate) fn check_deadline(&self) -> Result<(), Exhausted> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Exhausted::Time),
            _ => Ok(()),
        }
    }

    /// Runs `search` with at most `steps`; the rest stays.
    pub(crate) fn within<T>(&mut self, steps: u64, search: impl FnOnce(&mut Budget) -> T) -> T {
        let granted = steps.min(self.steps);
        let kept = self.steps - granted;
        self.steps = granted;
        let result = search(self);
        self.steps += kept;
        result
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A linearization: indices into the operations given.
    Linearization(Vec<usize>),
    /// There is none; this is the operation whose return none of the orders tried got past.
    Stuck { at: usize },
    /// The budget is spent.
    Exhausted(Exhausted),
}

/// Which of the arguments in the module's documentation are used: tests compare with and without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortcuts {
    pub(crate) eager_reads: bool,
    pub(crate) unknown: bool,
}

impl Shortcuts {
    pub(crate) const ALL: Shortcuts = Shortcuts { eager_reads: true, unknown: true };
}

/// Searches for a linearization. Exponential at worst in the number of operations that overlap; linear in the length of
/// a history whose operations hardly do.
pub(crate) fn search<M: Model>(
    model: &M,
    spans: &[Span<M::Op>],
    shortcuts: Shortcuts,
    budget: &mut Budget,
) -> Found {
    Search::new(model, spans, shortcuts).run(budget)
}

type Words = Box<[u64]>;
const NONE: u32 = u32::MAX;

/// Events of completed operations: operation i invokes at node 2i and returns at node 2i + 1; the last node is the head.
#[derive(Debug)]
struct Pending {
    next: Vec<u32>,
    previous: Vec<u32>,
    head: u32,
}

impl Pending {
    fn new(mut events: Vec<(u64, u32)>) -> Pending {
        events.sort_unstable();
        assert!(events.windows(2).all(|two| two[0].0 != two[1].0), "no two events share a position");
        let head = u32::try_from(events.len()).expect("a partition has fewer than 2^32 events");
        let mut pending =
            Pending { next: vec![NONE; events.len() + 1], previous: vec![NONE; events.len() + 1], head };
        let mut last = head;
        for (_, node) in events {
            pending.next[last as usize] = node;
            pending.previous[node as usize] = last;
            last = node;
        }
        pending
    }

    fn unlink(&mut self, node: u32) {
        let (before, after) = (self.previous[node as usize], self.next[node as usize]);
        self.next[before as usize] = after;
        if after != NONE {
            self.previous[after as usize] = before;
        }
    }

    fn relink(&mut self, node: u32) {
        let (before, after) = (self.previous[node as usize], self.next[node as usize]);
        self.next[before as usize] = node;
        if after != NONE {
            self.previous[after as usize] = node;
        }
    }

    fn lift(&mut self, operation: usize) {
        self.unlink(2 * operation as u32);
        self.unlink(2 * operation as u32 + 1);
    }

    /// Undoes the last `lift` that is not undone.
    fn unlift(&mut self, operation: usize) {
        self.relink(2 * operation as u32 + 1);
        self.relink(2 * operation as u32);
    }

    fn first(&self) -> u32 {
        self.next[self.head as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// A completed operation.
    Completed(usize),
    /// A completed operation that changes nothing: there is no other choice in its place.
    Eager(usize),
    /// One of unknown outcome.
    Unknown(usize),
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    choice: Choice,
    state_before: u32,
}

/// Where the choices of a configuration go on: completed operations first, then unknown ones.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    Completed(u32),
    Unknown(usize),
}

struct Search<'a, M: Model> {
    model: &'a M,
    spans: &'a [Span<M::Op>],
    shortcuts: Shortcuts,
    /// Indices into `spans`, by invocation.
    completed: Vec<usize>,
    unknown: Vec<usize>,
    /// Of each unknown operation: the equal one invoked before it.
    twin: Vec<Option<usize>>,
    /// Of each completed operation: how many were invoked before it returned.
    reach: Vec<usize>,
    pending: Pending,
    linearized: Vec<u64>,
    used: Vec<u64>,
    left: usize,
    states: Vec<M::State>,
    state_numbers: HashMap<M::State, u32, FixedState>,
    state: u32,
    seen: HashMap<Words, Vec<Words>, FixedState>,
    memory_bytes: usize,
    stack: Vec<Frame>,
    stuck_at: Option<usize>,
}

fn bit(words: &[u64], index: usize) -> bool {
    words[index / 64] >> (index % 64) & 1 == 1
}

fn flip(words: &mut [u64], index: usize) {
    words[index / 64] ^= 1 << (index % 64);
}

fn subset(small: &[u64], large: &[u64]) -> bool {
    small.iter().zip(large).all(|(small, large)| small & !large == 0)
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, spans: &'a [Span<M::Op>], shortcuts: Shortcuts) -> Search<'a, M> {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&index| spans[index].invoked);
        let (completed, unknown): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&index| spans[index].returned.is_some());
        let mut events = Vec::with_capacity(completed.len() * 2);
        let invocations: Vec<u64> = completed.iter().map(|&index| spans[index].invoked).collect();
        let mut reach = Vec::with_capacity(completed.len());
        for (number, &index) in completed.iter().enumerate() {
            let returned = spans[index].returned.expect("completed operations have returned");
            assert!(spans[index].invoked < returned, "nothing returns before it is invoked");
            events.push((spans[index].invoked, 2 * number as u32));
            events.push((returned, 2 * number as u32 + 1));
            reach.push(invocations.partition_point(|&invoked| invoked < returned));
        }
        let mut latest: HashMap<&M::Op, usize, FixedState> = HashMap::default();
        let twin = unknown.iter().enumerate().map(|(number, &index)| latest.insert(&spans[index].op, number));
        let twin = twin.collect();
        let initial = model.initial();
        Search {
            model,
            spans,
            shortcuts,
            twin,
            reach,
            pending: Pending::new(events),
            linearized: vec![0; completed.len().div_ceil(64)],
            used: vec![0; unknown.len().div_ceil(64)],
            left: completed.len(),
            states: vec![initial.clone()],
            state_numbers: HashMap::from_iter([(initial, 0)]),
            state: 0,
            seen: HashMap::default(),
            memory_bytes: 0,
            stack: Vec::new(),
            stuck_at: None,
            completed,
            unknown,
        }
    }

    fn run(mut self, budget: &mut Budget) -> Found {
        loop {
            // A configuration that was not tried before, or has to be left at once.
            let mut cursor = match self.arrive(budget) {
                Err(why) => return Found::Exhausted(why),
                Ok(_) if self.left == 0 => return Found::Linearization(self.order()),
                Ok(true) => Some(Cursor::Completed(self.pending.first())),
                Ok(false) => None,
            };
            loop {
                if let Some(from) = cursor {
                    match self.choose(from, budget) {
                        Err(why) => return Found::Exhausted(why),
                        Ok(true) => break,
                        Ok(false) => self.remember_stuck(),
                    }
                }
                cursor = self.retreat();
                if cursor.is_none() {
                    let at = self.stuck_at.expect("a search that fails was stuck somewhere");
                    return Found::Stuck { at: self.completed[at] };
                }
            }
        }
    }

    /// Takes what can be taken without a choice, then tells whether this configuration is new.
    fn arrive(&mut self, budget: &mut Budget) -> Result<bool, Exhausted> {
        if self.shortcuts.eager_reads {
            self.take_reads(budget)?;
        }
        if self.left == 0 {
            return Ok(true);
        }
        let new = self.remember();
        if self.memory_bytes > budget.memory_bytes { Err(Exhausted::Memory) } else { Ok(new) }
    }

    fn take_reads(&mut self, budget: &mut Budget) -> Result<(), Exhausted> {
        let mut node = self.pending.first();
        while node != NONE && node.is_multiple_of(2) {
            let number = node as usize / 2;
            let op = &self.spans[self.completed[number]].op;
            let after = self.pending.next[node as usize];
            if self.model.read_only(op) {
                budget.step()?;
                let state = &self.states[self.state as usize];
                if let Some(next) = self.model.step(state, op) {
                    assert!(next == *state, "a read-only operation changes nothing");
                    self.push(Choice::Eager(number), self.state);
                    // Its return was perhaps what ended the candidates: start again from the first.
                    node = self.pending.first();
                    continue;
                }
            }
            node = after;
        }
        Ok(())
    }

    /// Goes to the next configuration; `false` if there is none left from here.
    fn choose(&mut self, mut cursor: Cursor, budget: &mut Budget) -> Result<bool, Exhausted> {
        let after_unknown = self.shortcuts.unknown
            && self.stack.last().is_some_and(|frame| matches!(frame.choice, Choice::Unknown(_)));
        while let Cursor::Completed(node) = cursor {
            if node == NONE || !node.is_multiple_of(2) {
                cursor = Cursor::Unknown(0);
                break;
            }
            let number = node as usize / 2;
            budget.step()?;
            let op = &self.spans[self.completed[number]].op;
            if !(after_unknown && self.model.overwrites(op))
                && let Some(next) = self.model.step(&self.states[self.state as usize], op)
            {
                let next = self.number(next);
                self.push(Choice::Completed(number), next);
                return Ok(true);
            }
            cursor = Cursor::Completed(self.pending.next[node as usize]);
        }
        let Cursor::Unknown(first) = cursor else { unreachable!("completed operations were left above") };
        let end = self.first_return();
        for number in first..self.unknown.len() {
            let span = &self.spans[self.unknown[number]];
            if span.invoked > end {
                break;
            }
            if bit(&self.used, number) || self.skips_twin(number) {
                continue;
            }
            budget.step()?;
            if after_unknown && self.model.overwrites(&span.op) {
                continue;
            }
            let state = &self.states[self.state as usize];
            if let Some(next) = self.model.step(state, &span.op)
                && next != *state
            {
                let next = self.number(next);
                self.push(Choice::Unknown(number), next);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn skips_twin(&self, number: usize) -> bool {
        self.shortcuts.unknown && self.twin[number].is_some_and(|twin| !bit(&self.used, twin))
    }

    /// Position of the first return of what is not linearized.
    fn first_return(&self) -> u64 {
        let returning = self.first_returning();
        self.spans[self.completed[returning]].returned.expect("completed operations have returned")
    }

    fn first_returning(&self) -> usize {
        let mut node = self.pending.first();
        while node.is_multiple_of(2) {
            node = self.pending.next[node as usize];
        }
        assert!(node != NONE, "what is not linearized has a return");
        node as usize / 2
    }

    fn push(&mut self, choice: Choice, next_state: u32) {
        match choice {
            Choice::Completed(number) | Choice::Eager(number) => {
                assert!(!bit(&self.linearized, number), "an operation is linearized once");
                flip(&mut self.linearized, number);
                self.pending.lift(number);
                self.left -= 1;
            }
            Choice::Unknown(number) => {
                assert!(!bit(&self.used, number), "an operation is linearized once");
                flip(&mut self.used, number);
            }
        }
        self.stack.push(Frame { choice, state_before: self.state });
        self.state = next_state;
    }

    /// Undoes the last choice and says where to go on from there; `None` if nothing is left to undo.
    fn retreat(&mut self) -> Option<Cursor> {
        loop {
            let frame = self.stack.pop()?;
            self.state = frame.state_before;
            match frame.choice {
                Choice::Completed(number) | Choice::Eager(number) => {
                    flip(&mut self.linearized, number);
                    self.pending.unlift(number);
                    self.left += 1;
                    if frame.choice == Choice::Completed(number) {
                        return Some(Cursor::Completed(self.pending.next[2 * number]));
                    }
                }
                Choice::Unknown(number) => {
                    flip(&mut self.used, number);
                    return Some(Cursor::Unknown(number + 1));
                }
            }
        }
    }

    fn number(&mut self, state: M::State) -> u32 {
        let fresh = u32::try_from(self.states.len()).expect("memory ends before 2^32 states");
        match self.state_numbers.entry(state) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                self.memory_bytes += 64 + self.model.state_bytes(vacant.key());
                self.states.push(vacant.key().clone());
                *vacant.insert(fresh)
            }
        }
    }

    /// Remembers this configuration; `false` if it, or one that can do at least as much, was seen before.
    fn remember(&mut self) -> bool {
        let first = self.pending.first() as usize / 2;
        let window = first / 64..self.reach[first].div_ceil(64);
        assert!(
            self.linearized.get(window.end).is_none_or(|&word| word == 0),
            "the window covers what is linearized"
        );
        let mut key = Vec::with_capacity(window.len() + 1);
        key.push(u64::from(self.state) << 32 | first as u64);
        key.extend_from_slice(&self.linearized[window]);
        let used: Words = self.used.as_slice().into();
        let exact = !self.shortcuts.unknown;
        let bytes = 96 + key.len() * 8;
        match self.seen.entry(key.into()) {
            Entry::Vacant(vacant) => {
                self.memory_bytes += bytes + 16 + used.len() * 8;
                vacant.insert(vec![used]);
                true
            }
            Entry::Occupied(mut known) => {
                let sets = known.get_mut();
                if sets.iter().any(|set| if exact { *set == used } else { subset(set, &used) }) {
                    return false;
                }
                self.memory_bytes += 16 + used.len() * 8;
                sets.push(used);
                true
            }
        }
    }

    fn remember_stuck(&mut self) {
        let at = self.first_returning();
        let position = |number: usize| self.spans[self.completed[number]].returned;
        if self.stuck_at.is_none_or(|best| position(best) < position(at)) {
            self.stuck_at = Some(at);
        }
    }

    fn order(&self) -> Vec<usize> {
        let index = |frame: &Frame| match frame.choice {
            Choice::Completed(number) | Choice::Eager(number) => self.completed[number],
            Choice::Unknown(number) => self.unknown[number],
        };
        self.stack.iter().map(index).collect()
    }
}

/// A linearization is checked before anyone is told: it respects the order of returns and invocations, contains all
/// completed operations, and the model allows each step. O(n log n).
pub(crate) fn assert_linearization<M: Model>(model: &M, spans: &[Span<M::Op>], order: &[usize]) {
    let mut state = model.initial();
    let mut taken = vec![false; spans.len()];
    let mut latest_invoked = 0;
    for &index in order {
        let span = &spans[index];
        assert!(!std::mem::replace(&mut taken[index], true), "an operation takes effect once");
        // Whatever returned before an earlier one in this order was invoked would be out of order here.
        assert!(span.returned.is_none_or(|returned| returned > latest_invoked), "real time is respected");
        latest_invoked = latest_invoked.max(span.invoked);
        state = model.step(&state, &span.op).expect("each operation is possible where it stands");
    }
    let all = spans.iter().zip(&taken).all(|(span, taken)| *taken || span.returned.is_none());
    assert!(all, "every completed operation takes effect");
}
