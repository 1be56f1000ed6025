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
//!
//! **Equal operations in the order of their returns.** If two equal operations may come next, the one that returns first
//! does: exchanged in L, each still respects real time. One that returns goes before an unknown one.
//!
//! **No state is left that is still needed.** If a completed operation to come is possible in the present state only, and
//! nothing to come can bring this state back, then nothing may change it yet.
//!
//! **Clusters** (after Gibbons and Korach, "Testing shared memories", 1997) are a write with all operations that need its
//! value, and if one of these is a compare-and-set, what needs its new value, and so on, where nothing else brings these
//! values. If a whole cluster can come next, and the present state is not needed any more, it comes next and nothing else
//! is tried: in L its operations stand together, for nothing can change the value between them, so they can be moved here
//! together. This is true if every operation to come depends on one value at most, and writes one at most. Otherwise (a
//! failed compare-and-set depends on all values but one) the cluster is only tried first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

mod budget;
mod facts;
mod pending;

use crate::model::Model;
use facts::{Facts, Left};
use pending::Pending;

pub(crate) use budget::{Budget, Exhausted};

/// A hasher without a seed of its own: the same search takes the same steps everywhere.
pub(crate) type FixedState = foldhash::fast::FixedState;

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
    pub(crate) clusters: bool,
    pub(crate) twins: bool,
}

impl Shortcuts {
    pub(crate) const ALL: Shortcuts =
        Shortcuts { eager_reads: true, unknown: true, clusters: true, twins: true };
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

/// An operation, by its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Completed(usize),
    Unknown(usize),
}

/// What is tried if nothing comes of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// The candidates after it.
    Next,
    /// All candidates: it was only preferred.
    All,
    /// Nothing: there is no other choice in its place.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    item: Item,
    otherwise: Otherwise,
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
    facts: Vec<Facts>,
    /// Of completed operations; by class of equal ones, in the order of their returns.
    classes: Vec<Vec<usize>>,
    left: Left,
    pending: Pending,
    linearized: Vec<u64>,
    used: Vec<u64>,
    to_come: usize,
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
        let mut search = Search {
            model,
            spans,
            shortcuts,
            twin,
            reach,
            pending: Pending::new(events),
            linearized: vec![0; completed.len().div_ceil(64)],
            used: vec![0; unknown.len().div_ceil(64)],
            to_come: completed.len(),
            facts: Vec::new(),
            classes: Vec::new(),
            left: Left::default(),
            states: vec![initial.clone()],
            state_numbers: HashMap::from_iter([(initial, 0)]),
            state: 0,
            seen: HashMap::default(),
            memory_bytes: 0,
            stack: Vec::new(),
            stuck_at: None,
            completed,
            unknown,
        };
        search.learn();
        search
    }

    /// Facts of all operations, and what is left of them at first: everything.
    fn learn(&mut self) {
        let mut classes: HashMap<&M::Op, u32, FixedState> = HashMap::default();
        for span in self.spans {
            let class = classes.len() as u32;
            let class = *classes.entry(&span.op).or_insert(class);
            let facts = Facts::of(self.model, &span.op, class, |state| self.number(state));
            self.facts.push(facts);
        }
        self.left =
            Left::of(self.states.len(), self.spans.iter().map(|span| span.returned.is_some()), &self.facts);
        let mut by_class = vec![Vec::new(); classes.len()];
        for (number, &index) in self.completed.iter().enumerate() {
            by_class[self.facts[index].class as usize].push(number);
        }
        for class in &mut by_class {
            class.sort_by_key(|&number| self.spans[self.completed[number]].returned);
        }
        self.classes = by_class;
    }

    fn index(&self, item: Item) -> usize {
        match item {
            Item::Completed(number) => self.completed[number],
            Item::Unknown(number) => self.unknown[number],
        }
    }

    fn run(mut self, budget: &mut Budget) -> Found {
        if let Err(why) = budget.check_deadline() {
            return Found::Exhausted(why);
        }
        loop {
            // A configuration that was not tried before, or has to be left at once.
            let mut cursor = match self.arrive(budget) {
                Err(why) => return Found::Exhausted(why),
                Ok(_) if self.to_come == 0 => return Found::Linearization(self.order()),
                Ok(true) => match self.prefer_cluster(budget) {
                    Err(why) => return Found::Exhausted(why),
                    Ok(true) => continue,
                    Ok(false) => Some(Cursor::Completed(self.pending.first())),
                },
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
        loop {
            self.take_reads(budget)?;
            let cluster = self.shortcuts.clusters && self.left.only_single_values();
            if !(cluster && self.to_come > 0 && self.close_cluster(Otherwise::Nothing, budget)?) {
                break;
            }
        }
        if self.to_come == 0 {
            return Ok(true);
        }
        let new = self.remember();
        if self.memory_bytes > budget.memory_bytes { Err(Exhausted::Memory) } else { Ok(new) }
    }

    fn take_reads(&mut self, budget: &mut Budget) -> Result<(), Exhausted> {
        if !self.shortcuts.eager_reads {
            return Ok(());
        }
        let mut node = self.pending.first();
        while node != NONE && node.is_multiple_of(2) {
            let number = node as usize / 2;
            let index = self.completed[number];
            let after = self.pending.next[node as usize];
            if self.facts[index].read_only {
                budget.step()?;
                let state = &self.states[self.state as usize];
                if let Some(next) = self.model.step(state, &self.spans[index].op) {
                    assert!(next == *state, "a read-only operation changes nothing");
                    self.push(Item::Completed(number), Otherwise::Nothing, self.state);
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
        let end = self.first_return();
        while let Cursor::Completed(node) = cursor {
            if node == NONE || !node.is_multiple_of(2) {
                cursor = Cursor::Unknown(0);
                break;
            }
            budget.step()?;
            let number = node as usize / 2;
            if !self.has_twin_to_come(self.completed[number], end) && self.take(Item::Completed(number)) {
                return Ok(true);
            }
            cursor = Cursor::Completed(self.pending.next[node as usize]);
        }
        let Cursor::Unknown(first) = cursor else { unreachable!("completed operations were left above") };
        for number in first..self.unknown.len() {
            let index = self.unknown[number];
            if self.spans[index].invoked > end {
                break;
            }
            if bit(&self.used, number) || self.skips_twin(number) {
                continue;
            }
            budget.step()?;
            if !self.has_twin_to_come(index, end) && self.take(Item::Unknown(number)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Linearizes an operation next, if that is possible and may lead anywhere.
    fn take(&mut self, item: Item) -> bool {
        let index = self.index(item);
        let facts = self.facts[index];
        if self.is_after_unknown() && facts.overwrites {
            return false;
        }
        let state = &self.states[self.state as usize];
        let Some(next) = self.model.step(state, &self.spans[index].op) else { return false };
        let changes = next != *state;
        let completed = matches!(item, Item::Completed(_));
        if !changes && !completed {
            return false;
        }
        if self.shortcuts.clusters && changes && self.left.needs_without(self.state, &facts, completed) {
            return false;
        }
        let next = self.number(next);
        self.push(item, Otherwise::Next, next);
        true
    }

    fn is_after_unknown(&self) -> bool {
        self.shortcuts.unknown
            && self.stack.last().is_some_and(|frame| matches!(frame.item, Item::Unknown(_)))
    }

    /// Whether an equal completed operation may come next and returns earlier.
    fn has_twin_to_come(&self, index: usize, end: u64) -> bool {
        if !self.shortcuts.twins {
            return false;
        }
        let class = &self.classes[self.facts[index].class as usize];
        let span = |number: &usize| &self.spans[self.completed[*number]];
        // What returned before `end` is linearized.
        let first = class.partition_point(|number| span(number).returned < Some(end));
        let earlier = class[first..].iter().take_while(|number| {
            self.spans[index].returned.is_none_or(|returned| span(number).returned < Some(returned))
        });
        let mut earlier = earlier.filter(|&number| !bit(&self.linearized, *number));
        earlier.any(|number| span(number).invoked < end)
    }

    /// Tries a cluster first where other choices have to stay open. `false` if there is none.
    fn prefer_cluster(&mut self, budget: &mut Budget) -> Result<bool, Exhausted> {
        if !self.shortcuts.clusters || self.left.only_single_values() {
            return Ok(false);
        }
        self.close_cluster(Otherwise::All, budget)
    }

    /// Linearizes a cluster next, if there is one. With other choices open only the write that begins it, for the rest of
    /// it follows by itself.
    fn close_cluster(&mut self, otherwise: Otherwise, budget: &mut Budget) -> Result<bool, Exhausted> {
        if self.is_after_unknown() || !self.left.is_over(self.state) {
            return Ok(false);
        }
        let end = self.first_return();
        let mut begins = Vec::new();
        let mut node = self.pending.first();
        while node.is_multiple_of(2) {
            begins.push(Item::Completed(node as usize / 2));
            node = self.pending.next[node as usize];
        }
        let unknown = self.unknown.iter().take_while(|&&index| self.spans[index].invoked < end).enumerate();
        let unused = unknown.filter(|(number, _)| !bit(&self.used, *number));
        begins.extend(unused.map(|(number, _)| Item::Unknown(number)));
        for item in begins {
            budget.step()?;
            let facts = self.facts[self.index(item)];
            let Some(leaves) = facts.leaves.filter(|_| facts.overwrites) else { continue };
            let wanted = matches!(item, Item::Completed(_)) || self.left.is_needed(leaves);
            if !wanted || !self.left.is_last_chance(leaves) {
                continue;
            }
            let (mark, state) = (self.stack.len(), self.state);
            self.push(item, Otherwise::Nothing, leaves);
            let closed = self.close(budget)?;
            if !closed || otherwise == Otherwise::All {
                while self.stack.len() > mark {
                    self.pop();
                }
                assert!(self.state == state, "what was undone is as before");
            }
            if closed && otherwise == Otherwise::All {
                self.push(item, Otherwise::All, leaves);
            }
            if closed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Linearizes all that needs the present state, and what needs the state that the last of them leaves, and so on.
    fn close(&mut self, budget: &mut Budget) -> Result<bool, Exhausted> {
        loop {
            self.take_reads(budget)?;
            if self.left.is_over(self.state) {
                return Ok(true);
            }
            let mut node = self.pending.first();
            let mut only = None;
            while node != NONE && node.is_multiple_of(2) {
                budget.step()?;
                let facts = self.facts[self.completed[node as usize / 2]];
                if facts.needs == Some(self.state) {
                    only = facts.leaves.map(|leaves| (node as usize / 2, leaves));
                    break;
                }
                node = self.pending.next[node as usize];
            }
            match only {
                Some((number, leaves))
                    if self.left.is_needed_once(self.state) && self.left.is_last_chance(leaves) =>
                {
                    self.push(Item::Completed(number), Otherwise::Nothing, leaves);
                }
                _ => return Ok(false),
            }
        }
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

    fn push(&mut self, item: Item, otherwise: Otherwise, next_state: u32) {
        self.left.take(&self.facts[self.index(item)], matches!(item, Item::Completed(_)));
        match item {
            Item::Completed(number) => {
                assert!(!bit(&self.linearized, number), "an operation is linearized once");
                flip(&mut self.linearized, number);
                self.pending.lift(number);
                self.to_come -= 1;
            }
            Item::Unknown(number) => {
                assert!(!bit(&self.used, number), "an operation is linearized once");
                flip(&mut self.used, number);
            }
        }
        self.stack.push(Frame { item, otherwise, state_before: self.state });
        self.state = next_state;
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.stack.pop()?;
        self.state = frame.state_before;
        match frame.item {
            Item::Completed(number) => {
                flip(&mut self.linearized, number);
                self.pending.unlift(number);
                self.to_come += 1;
            }
            Item::Unknown(number) => flip(&mut self.used, number),
        }
        self.left.put_back(&self.facts[self.index(frame.item)], matches!(frame.item, Item::Completed(_)));
        Some(frame)
    }

    /// Undoes choices up to one that had others beside it, and says where to go on; `None` if there is none.
    fn retreat(&mut self) -> Option<Cursor> {
        loop {
            let frame = self.pop()?;
            match (frame.otherwise, frame.item) {
                (Otherwise::Nothing, _) => {}
                (Otherwise::All, _) => return Some(Cursor::Completed(self.pending.first())),
                (Otherwise::Next, Item::Completed(number)) => {
                    return Some(Cursor::Completed(self.pending.next[2 * number]));
                }
                (Otherwise::Next, Item::Unknown(number)) => return Some(Cursor::Unknown(number + 1)),
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
        self.stack.iter().map(|frame| self.index(frame.item)).collect()
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
