//! What each replica of the scenario holds: one of every type.

use bytes::{Buf, BufMut, Bytes};
use keypact_crdt::causal::{DotFunction, DotMap, DotSet, Event};
use keypact_crdt::{
    Delta, DisableWins, EnableWins, GCounter, Latest, Lattice, LwwRegister, OrMap, PnCounter, Tally,
};
use keypact_ordering::clock::{DotContext, HybridClock, HybridStamp, ReplicaId};
use keypact_protocol::{DecodeError, Wire};

/// What lies under a key of the map: one of each kind that can lie in maps.
pub(in crate::scenarios) type Field =
    (Tally, Latest<u64>, DotFunction<u64>, EnableWins, DisableWins, DotMap<u64, DotSet>, DotMap<u64, Tally>);

/// Which part of a [`Field`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A counter.
    Tally,
    /// A last-writer-wins register.
    Latest,
    /// A multi-value register.
    Values,
    /// An enable-wins flag.
    Enable,
    /// A disable-wins flag.
    Disable,
    /// A set.
    Set,
    /// A map of counters.
    Inner,
}

/// What a client wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Adds to the grow-only counter.
    Grow(u64),
    /// Adds to the counter, or takes.
    Level(i64),
    /// Writes the register.
    Write,
    /// Removes a key of the map.
    Remove {
        /// Which.
        key: u64,
    },
    /// Puts something under a key: adds, enables, writes.
    Put {
        /// Which.
        key: u64,
        /// Where under it.
        kind: Kind,
        /// The set's element, the inner map's key.
        item: u64,
        /// How much a counter gets.
        by: i64,
    },
    /// Takes it away: removes, disables, clears.
    Take {
        /// Which.
        key: u64,
        /// Where under it.
        kind: Kind,
        /// The set's element, the inner map's key.
        item: u64,
    },
}

/// One of every type.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Board {
    /// Grow-only counter.
    pub grow: GCounter,
    /// Counter.
    pub level: PnCounter,
    /// Register; a value is the write's own number.
    pub latest: LwwRegister<u64>,
    /// All that lies in maps.
    pub map: OrMap<u64, Field>,
}

/// A piece of a [`Board`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BoardDelta {
    /// Of the grow-only counter.
    pub grow: GCounter,
    /// Of the counter.
    pub level: PnCounter,
    /// Of the register.
    pub latest: LwwRegister<u64>,
    /// Of the map.
    pub map: <OrMap<u64, Field> as Lattice>::Delta,
}

/// What a replica has applied, to be compared with what another has.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Digest {
    /// Of the grow-only counter.
    pub grow: DotContext,
    /// Of the counter.
    pub level: DotContext,
    /// The register's rank.
    pub latest: Option<(HybridStamp, ReplicaId)>,
    /// Of the map.
    pub map: DotContext,
}

pub(in crate::scenarios) fn put_part(
    kind: Kind,
    value: u64,
    item: u64,
    by: i64,
    stamp: HybridStamp,
    held: &Field,
    event: &mut Event,
) -> Field {
    let mut delta = Field::default();
    match kind {
        Kind::Tally => delta.0 = held.0.add(by, event),
        Kind::Latest => delta.1 = held.1.assign(value, stamp, event),
        Kind::Values => delta.2 = held.2.replace_all(value, event),
        Kind::Enable => delta.3 = held.3.enable(event),
        Kind::Disable => delta.4 = held.4.disable(event),
        Kind::Set => delta.5 = held.5.update(item, event, DotSet::renew),
        Kind::Inner => delta.6 = held.6.update(item, event, |tally, event| tally.add(by, event)),
    }
    delta
}

pub(in crate::scenarios) fn take_part(kind: Kind, item: u64, held: &Field, event: &mut Event) -> Field {
    let mut delta = Field::default();
    match kind {
        Kind::Tally => delta.0 = held.0.clear(event),
        Kind::Latest => delta.1 = held.1.clear(event),
        Kind::Values => delta.2 = held.2.clear(event),
        Kind::Enable => delta.3 = held.3.disable(event),
        Kind::Disable => delta.4 = held.4.enable(event),
        Kind::Set => delta.5 = held.5.remove(&item, event),
        Kind::Inner => delta.6 = held.6.remove(&item, event),
    }
    delta
}

impl Board {
    /// Carries out an action; `value` is its own number. `None`: the clock refuses, nothing changed.
    pub fn act(
        &mut self,
        action: Action,
        value: u64,
        replica: ReplicaId,
        clock: &mut HybridClock,
        wall_ms: u64,
    ) -> Option<BoardDelta> {
        let mut delta = BoardDelta::default();
        match action {
            Action::Grow(by) => delta.grow = self.grow.increment(by, replica).ok()?,
            Action::Level(by) => delta.level = self.level.add(by, replica).ok()?,
            Action::Write => delta.latest = self.latest.assign_now(value, clock, wall_ms, replica).ok()?,
            Action::Remove { key } => delta.map = self.map.remove(&key, replica),
            Action::Put { key, kind, item, by } => {
                let stamp = clock.now(wall_ms);
                delta.map = self
                    .map
                    .update(key, replica, |held, event| put_part(kind, value, item, by, stamp, held, event));
            }
            Action::Take { key, kind, item } => {
                delta.map = self.map.update(key, replica, |held, event| take_part(kind, item, held, event));
            }
        }
        Some(delta)
    }

    /// Applies a delta. Whether it taught anything.
    pub fn apply(&mut self, delta: BoardDelta) -> bool {
        let grow = self.grow.apply(delta.grow);
        let level = self.level.apply(delta.level);
        let latest = self.latest.apply(delta.latest);
        self.map.apply(delta.map) || grow || level || latest
    }

    /// What was applied here.
    pub fn digest(&self) -> Digest {
        Digest {
            grow: self.grow.version(),
            level: self.level.version(),
            latest: self.latest.stamp().zip(self.latest.replica()),
            map: self.map.version(),
        }
    }

    /// What somebody lacks who has applied `seen`.
    pub fn delta_since(&self, seen: &Digest) -> BoardDelta {
        let newer = self.digest().latest > seen.latest;
        BoardDelta {
            grow: self.grow.delta_since(&seen.grow),
            level: self.level.delta_since(&seen.level),
            latest: if newer { self.latest.clone() } else { LwwRegister::default() },
            map: self.map.delta_since(&seen.map),
        }
    }
}

impl BoardDelta {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.grow.is_empty() && self.level.is_empty() && self.latest.is_empty() && self.map.is_empty()
    }

    /// Parts of about `bytes_max` bytes, of which the last is to be applied last.
    pub fn split(self, bytes_max: usize) -> Vec<BoardDelta> {
        let only = |map| BoardDelta { map, ..BoardDelta::default() };
        let mut parts: Vec<BoardDelta> = self.map.split(bytes_max).into_iter().map(only).collect();
        if parts.is_empty() {
            parts.push(BoardDelta::default());
        }
        let first = &mut parts[0];
        (first.grow, first.level, first.latest) = (self.grow, self.level, self.latest);
        parts
    }
}

impl Digest {
    /// Whether `other` has applied something that is not in this.
    pub fn lacks(&self, other: &Digest) -> bool {
        !self.grow.contains_all(&other.grow)
            || !self.level.contains_all(&other.level)
            || !self.map.contains_all(&other.map)
            || other.latest > self.latest
    }
}

type Put<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Each with its length before it.
fn put_parts(parts: &[Put<'_>], out: &mut Vec<u8>) {
    for put in parts {
        let at = out.len();
        out.put_u32_le(0);
        put(out);
        let len = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
}

fn take_part_of<T: Wire>(bytes: &mut Bytes) -> Result<T, DecodeError> {
    if bytes.len() < 4 {
        return Err(DecodeError::new("a length"));
    }
    let len = bytes.get_u32_le() as usize;
    if len > bytes.len() {
        return Err(DecodeError::new("a whole part"));
    }
    T::decode(bytes.split_to(len))
}

fn end(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("nothing behind a board")) }
}

impl Wire for Board {
    fn encode(&self, out: &mut Vec<u8>) {
        put_parts(
            &[
                &|out| self.grow.encode(out),
                &|out| self.level.encode(out),
                &|out| self.latest.encode(out),
                &|out| self.map.encode(out),
            ],
            out,
        );
    }

    fn decode(mut bytes: Bytes) -> Result<Board, DecodeError> {
        let board = Board {
            grow: take_part_of(&mut bytes)?,
            level: take_part_of(&mut bytes)?,
            latest: take_part_of(&mut bytes)?,
            map: take_part_of(&mut bytes)?,
        };
        end(&bytes)?;
        Ok(board)
    }
}

impl Wire for BoardDelta {
    fn encode(&self, out: &mut Vec<u8>) {
        put_parts(
            &[
                &|out| self.grow.encode(out),
                &|out| self.level.encode(out),
                &|out| self.latest.encode(out),
                &|out| self.map.encode(out),
            ],
            out,
        );
    }

    fn decode(mut bytes: Bytes) -> Result<BoardDelta, DecodeError> {
        let delta = BoardDelta {
            grow: take_part_of(&mut bytes)?,
            level: take_part_of(&mut bytes)?,
            latest: take_part_of(&mut bytes)?,
            map: take_part_of(&mut bytes)?,
        };
        end(&bytes)?;
        Ok(delta)
    }
}

/// A register's rank travels as a register that holds nothing of interest.
fn rank_as_register(rank: Option<(HybridStamp, ReplicaId)>) -> LwwRegister<u64> {
    let mut register = LwwRegister::default();
    if let Some((stamp, replica)) = rank {
        register.assign(0, stamp, replica);
    }
    register
}

impl Wire for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        put_parts(
            &[
                &|out| self.grow.encode(out),
                &|out| self.level.encode(out),
                &|out| rank_as_register(self.latest).encode(out),
                &|out| self.map.encode(out),
            ],
            out,
        );
    }

    fn decode(mut bytes: Bytes) -> Result<Digest, DecodeError> {
        let (grow, level) = (take_part_of(&mut bytes)?, take_part_of(&mut bytes)?);
        let register: LwwRegister<u64> = take_part_of(&mut bytes)?;
        let map = take_part_of(&mut bytes)?;
        end(&bytes)?;
        Ok(Digest { grow, level, latest: register.stamp().zip(register.replica()), map })
    }
}
