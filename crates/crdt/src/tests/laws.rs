//! The laws of [`Lattice`], on random runs of three replicas that mutate, send each other states and deltas, and lose some.

extern crate std;

use std::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{DotContext, HybridStamp, ReplicaId};
use keypact_protocol::Wire;
use proptest::prelude::*;

use crate::causal::{DotFunction, DotMap, DotSet};
use crate::{
    Delta, DisableWinsFlag, EnableWins, EnableWinsFlag, GCounter, Latest, Lattice, LwwRegister, MvRegister,
    OrMap, OrSet, PnCounter, Tally,
};

/// A type with mutations, chosen by small numbers.
pub(super) trait Subject: Lattice {
    fn mutate(&mut self, what: u8, value: u8, time: u64, replica: ReplicaId) -> Self::Delta;
}

impl Subject for GCounter {
    fn mutate(&mut self, _: u8, value: u8, _: u64, replica: ReplicaId) -> GCounter {
        self.increment(u64::from(value), replica).expect("far from full")
    }
}

impl Subject for PnCounter {
    fn mutate(&mut self, _: u8, value: u8, _: u64, replica: ReplicaId) -> PnCounter {
        self.add(i64::from(value) - 2, replica).expect("far from full")
    }
}

impl Subject for LwwRegister<u64> {
    fn mutate(&mut self, what: u8, value: u8, time: u64, replica: ReplicaId) -> LwwRegister<u64> {
        // A stamp is never given twice by one replica, but two replicas may give the same.
        let stamp = HybridStamp { wall_ms: time / 4, count: u32::from(what) + time as u32 };
        self.assign(u64::from(value), stamp, replica)
    }
}

impl Subject for MvRegister<u64> {
    fn mutate(&mut self, what: u8, value: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        if what == 0 { self.clear(replica) } else { self.assign(u64::from(value), replica) }
    }
}

impl Subject for EnableWinsFlag {
    fn mutate(&mut self, what: u8, _: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        if what.is_multiple_of(2) { self.disable(replica) } else { self.enable(replica) }
    }
}

impl Subject for DisableWinsFlag {
    fn mutate(&mut self, what: u8, _: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        if what.is_multiple_of(2) { self.disable(replica) } else { self.enable(replica) }
    }
}

impl Subject for OrSet<u64> {
    fn mutate(&mut self, what: u8, value: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        match what {
            0 => self.remove(&u64::from(value), replica),
            1 => self.clear(replica),
            _ => self.add(u64::from(value), replica),
        }
    }
}

/// A map of maps of counters, sets and registers, three of a kind by the key's rest.
pub(super) type Nested = OrMap<u64, DotMap<u64, DotMap<u64, DotSet>>>;

impl Subject for Nested {
    fn mutate(&mut self, what: u8, value: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        let (outer, middle, inner) = (u64::from(value % 2), u64::from(value / 2 % 2), u64::from(value / 4));
        match what {
            0 => self.remove(&outer, replica),
            1 => self.update(outer, replica, |map, event| map.remove(&middle, event)),
            2 => self.update(outer, replica, |map, event| {
                map.update(middle, event, |set, event| set.remove(&inner, event))
            }),
            _ => self.update(outer, replica, |map, event| {
                map.update(middle, event, |set, event| set.update(inner, event, DotSet::renew))
            }),
        }
    }
}

impl Subject for OrMap<u64, Tally> {
    fn mutate(&mut self, what: u8, value: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        let key = u64::from(value % 3);
        if what == 0 {
            return self.remove(&key, replica);
        }
        self.update(key, replica, |tally, event| tally.add(i64::from(value), event))
    }
}

impl Subject for OrMap<u64, Latest<u64>> {
    fn mutate(&mut self, what: u8, value: u8, time: u64, replica: ReplicaId) -> Self::Delta {
        let key = u64::from(value % 3);
        let stamp = HybridStamp { wall_ms: time, count: 0 };
        match what {
            0 => self.remove(&key, replica),
            1 => self.update(key, replica, |register, event| register.clear(event)),
            _ => self.update(key, replica, |register, event| register.assign(time, stamp, event)),
        }
    }
}

impl Subject for OrMap<u64, EnableWins> {
    fn mutate(&mut self, what: u8, value: u8, _: u64, replica: ReplicaId) -> Self::Delta {
        let key = u64::from(value % 3);
        match what {
            0 => self.remove(&key, replica),
            1 => self.update(key, replica, EnableWins::disable),
            _ => self.update(key, replica, EnableWins::enable),
        }
    }
}

impl Subject for OrMap<u64, DotFunction<u64>> {
    fn mutate(&mut self, what: u8, value: u8, time: u64, replica: ReplicaId) -> Self::Delta {
        let key = u64::from(value % 3);
        match what {
            0 => self.remove(&key, replica),
            _ => self.update(key, replica, |register, event| register.replace_all(time, event)),
        }
    }
}

/// What happens next in a run.
#[derive(Clone, Debug)]
enum Step {
    Mutate {
        at: usize,
        what: u8,
        value: u8,
    },
    Merge {
        from: usize,
        to: usize,
    },
    /// Delivers some delta again, or for the first time.
    Deliver {
        delta: usize,
        to: usize,
    },
    /// Sends only what is missing.
    CatchUp {
        from: usize,
        to: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..3, 0_u8..6, 0_u8..8).prop_map(|(at, what, value)| Step::Mutate { at, what, value }),
        1 => (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::Merge { from, to }),
        3 => (0_usize..40, 0_usize..3).prop_map(|(delta, to)| Step::Deliver { delta, to }),
        1 => (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::CatchUp { from, to }),
    ];
    prop::collection::vec(step, 1..40)
}

fn join<L: Lattice>(a: &L, b: &L) -> L {
    let mut joined = a.clone();
    joined.merge(b.clone());
    joined
}

fn with<L: Lattice>(state: &L, delta: &L::Delta) -> L {
    let mut grown = state.clone();
    grown.apply(delta.clone());
    grown
}

fn bytes_of(value: &impl Wire) -> Bytes {
    let mut out = Vec::new();
    value.encode(&mut out);
    out.into()
}

/// Runs the steps, checking each mutation; returns the three states and all deltas.
fn run<L: Subject>(steps: &[Step]) -> (Vec<L>, Vec<L::Delta>) {
    let mut states = std::vec![L::default(); 3];
    let mut deltas: Vec<L::Delta> = Vec::new();
    for (time, step) in steps.iter().enumerate() {
        match *step {
            Step::Mutate { at, what, value } => {
                let before = states[at].clone();
                let delta = states[at].mutate(what, value, time as u64, ReplicaId(at as u64 + 1));
                let after = &states[at];
                assert_eq!(&join(&before, after), after, "law 2: a mutation only grows its state");
                assert_eq!(&with(&before, &delta), after, "law 3: its delta does what it did");
                assert_eq!(delta.is_empty(), before == *after, "an empty delta says that nothing changed");
                assert_eq!(delta.encoded_len(), bytes_of(&delta).len());
                deltas.push(delta);
            }
            Step::Merge { from, to } => {
                let (ours, theirs) = (states[to].clone(), states[from].clone());
                let grew = states[to].merge(theirs);
                assert_eq!(grew, states[to] != ours, "a merge says whether it taught anything");
            }
            Step::Deliver { delta, to } => {
                if let Some(delta) = deltas.get(delta) {
                    let ours = states[to].clone();
                    let grew = states[to].apply(delta.clone());
                    assert_eq!(grew, states[to] != ours, "applying says whether it taught anything");
                }
            }
            Step::CatchUp { from, to } => {
                let delta = states[from].delta_since(&states[to].version());
                let whole = join(&states[to], &states[from]);
                states[to].apply(delta);
                assert_eq!(states[to], whole, "what was missing is what a merge brings");
            }
        }
    }
    (states, deltas)
}

/// All laws, at the end of a run. `shuffle` is any order for the deltas.
fn check<L: Subject>(steps: &[Step], shuffle: &[usize]) {
    let (states, deltas) = run::<L>(steps);
    let [a, b, c] = &states[..] else { panic!("three replicas") };
    assert_eq!(join(a, b), join(b, a), "law 1: commutative");
    assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "law 1: associative");
    assert_eq!(&join(a, a), a, "law 1: idempotent");
    assert!(join(a, b).covers(a) && join(a, b).covers(b), "a join is above both");

    let all = join(&join(a, b), c);
    let mut from_deltas = L::default();
    let mut joined = L::Delta::default();
    for &at in shuffle.iter().filter(|at| **at < deltas.len()) {
        from_deltas.apply(deltas[at].clone());
        joined.join(deltas[at].clone());
    }
    assert_eq!(from_deltas, all, "law 3: all deltas, in any order, are the merge of all states");
    assert_eq!(with(&L::default(), &joined), all, "law 4: joined deltas do what they do one by one");
    assert_eq!(with(a, &joined), all, "law 4, from a state that knows some");
    assert_eq!(joined.events(), all.version(), "a delta names the events that it brings");

    for (left, right) in [(a, b), (b, c), (c, a)] {
        // A type without events has nothing to compare.
        if left.version() == right.version() && !left.version().is_empty() {
            assert_eq!(left, right, "equal versions mean equal states");
        }
        split_says_the_same(left, right, shuffle);
    }
    for state in &states {
        assert_eq!(L::decode(bytes_of(state)).as_ref(), Ok(state), "a state comes back from its bytes");
    }
    for delta in deltas.iter().chain([&joined]) {
        assert_eq!(
            L::Delta::decode(bytes_of(delta)).as_ref(),
            Ok(delta),
            "a delta comes back from its bytes"
        );
    }
}

fn split_says_the_same<L: Subject>(from: &L, to: &L, shuffle: &[usize]) {
    for seen in [DotContext::new(), to.version()] {
        let delta = from.delta_since(&seen);
        let whole = with(to, &delta);
        assert_eq!(whole, join(to, from));
        for bytes_max in [1, 60, 150] {
            let parts = delta.clone().split(bytes_max);
            assert!(bytes_max < 60 || parts.iter().all(|part| part.encoded_len() <= bytes_max));
            let mut grown = to.clone();
            assert_eq!(parts.is_empty(), delta.is_empty());
            let Some((last, others)) = parts.split_last() else { continue };
            let in_any_order = shuffle.iter().filter_map(|&at| others.get(at));
            for part in in_any_order.chain(others.iter().skip(shuffle.len())) {
                grown.apply(part.clone());
            }
            grown.apply(last.clone());
            assert_eq!(grown, whole, "parts of {bytes_max} bytes say what the whole says");
        }
    }
}

macro_rules! laws {
    ($($name:ident: $type:ty,)*) => {
        proptest! {
            $(#[test]
            fn $name(
                steps in steps(),
                shuffle in Just((0_usize..60).collect::<Vec<_>>()).prop_shuffle(),
            ) {
                check::<$type>(&steps, &shuffle);
            })*
        }
    };
}

laws! {
    g_counter: GCounter,
    pn_counter: PnCounter,
    lww_register: LwwRegister<u64>,
    mv_register: MvRegister<u64>,
    enable_wins_flag: EnableWinsFlag,
    disable_wins_flag: DisableWinsFlag,
    or_set: OrSet<u64>,
    or_map_nested: Nested,
    or_map_of_tallies: OrMap<u64, Tally>,
    or_map_of_latest: OrMap<u64, Latest<u64>>,
    or_map_of_flags: OrMap<u64, EnableWins>,
    or_map_of_registers: OrMap<u64, DotFunction<u64>>,
}
