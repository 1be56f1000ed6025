//! The disk of a protocol that runs alone: records as values, one checkpoint.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keypact_protocol::{Lsn, Protocol};

use crate::{Disk, DiskDamage, Loss, Random};

/// A state together with the protocol's words about it; written as one, so that neither is ever there without the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// As the protocol gave it.
    pub meta: Bytes,
    /// Index of the last command in `state`.
    pub applied: u64,
    /// The encoded state machine.
    pub state: Bytes,
}

/// Where a checkpoint comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The process's own state.
    Own,
    /// A peer's snapshot.
    Peer,
}

/// What to know of a protocol whose disk may be lost, and whose members may change.
pub struct Standing<P: Protocol> {
    /// What an empty folder begins with after so many losses: a record that is given before all others, under [`Lsn::ZERO`].
    pub first_record: fn(losses: u64) -> P::Record,
    /// Whether it has again what its disk lost.
    pub caught_up: fn(&P) -> bool,
    /// Whether it is one of those that must all have the same state in the end.
    pub takes_part: fn(&P) -> bool,
}

impl<P: Protocol> Clone for Standing<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Protocol> Copy for Standing<P> {}

/// A log of typed records and a checkpoint.
///
/// Invariants: records have consecutive numbers, of which `last` is the newest; `durable` never passes `last`.
pub struct RecordDisk<P: Protocol> {
    records: VecDeque<P::Record>,
    last: Lsn,
    durable: Lsn,
    checkpoint: Option<Checkpoint>,
    /// Checkpoints that are being written, by [`Origin`]: a crash leaves the old or the new one.
    writing: [Option<Checkpoint>; 2],
    /// Records before `.0` may go once `.1` is durable.
    drop_before: Option<(Lsn, Lsn)>,
    /// Whether the next start may find nothing, as who watches the whole cluster says.
    losable: Option<Arc<AtomicBool>>,
    losses: u64,
    standing: Option<Standing<P>>,
    /// See [`Standing::first_record`].
    first_record: Option<P::Record>,
}

impl<P: Protocol> Debug for RecordDisk<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordDisk")
            .field("first", &self.first())
            .field("last", &self.last)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl<P: Protocol> Default for RecordDisk<P> {
    fn default() -> Self {
        RecordDisk {
            records: VecDeque::new(),
            last: Lsn::ZERO,
            durable: Lsn::ZERO,
            checkpoint: None,
            writing: [None, None],
            drop_before: None,
            losable: None,
            losses: 0,
            standing: None,
            first_record: None,
        }
    }
}

/// Of starts at which a disk may be lost, one in so many finds it lost.
const LOSS_ONE_IN: u64 = 3;

impl<P: Protocol> RecordDisk<P> {
    /// A disk that a start may find lost, with everything on it, while the flag is set. Whoever sets it keeps the loss within what the
    /// protocol's contract bears.
    #[must_use]
    pub fn losable(flag: Arc<AtomicBool>) -> RecordDisk<P> {
        RecordDisk { losable: Some(flag), ..RecordDisk::default() }
    }

    /// How many times it was lost.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// A life begins; `seed` decides whether the disk is still there, if that is left open.
    pub(crate) fn open(&mut self, seed: u64) {
        let may_be_lost = self.losable.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        if may_be_lost && seed.is_multiple_of(LOSS_ONE_IN) && self.last > Lsn::ZERO {
            let (losable, losses) = (self.losable.take(), self.losses + 1);
            *self = RecordDisk { losable, losses, ..RecordDisk::default() };
        }
    }

    /// An empty disk that may be lost as a whole.
    #[must_use]
    pub fn with_standing(standing: Standing<P>) -> RecordDisk<P> {
        RecordDisk { standing: Some(standing), ..RecordDisk::default() }
    }

    pub(crate) fn standing(&self) -> Option<Standing<P>> {
        self.standing
    }

    /// Loses everything. The next life begins with [`Standing::first_record`], if there is one.
    pub(crate) fn lose(&mut self) {
        let (standing, losses) = (self.standing, self.losses + 1);
        let first_record = standing.map(|standing| (standing.first_record)(losses));
        *self = RecordDisk { standing, losses, first_record, ..RecordDisk::default() };
    }

    /// Appends a record, not yet durable.
    pub fn append(&mut self, record: P::Record) -> Lsn {
        self.records.push_back(record);
        self.last = self.last.next();
        self.last
    }

    /// The newest record's number.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Everything up to here survives a crash.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The oldest record's number, or the next one's if there is none.
    #[must_use]
    pub fn first(&self) -> Lsn {
        Lsn(self.last.0 + 1 - self.records.len() as u64)
    }

    /// A sync that covered everything up to `lsn` has ended.
    ///
    /// # Panics
    /// If `lsn` was never appended, or less than before.
    pub fn synced(&mut self, lsn: Lsn) {
        assert!(lsn >= self.durable, "what is durable stays so");
        assert!(lsn <= self.last, "only what was appended is synced");
        self.durable = lsn;
        if let Some((before, once)) = self.drop_before
            && once <= lsn
        {
            self.drop_before = None;
            self.drop_records(before);
        }
    }

    /// Records before `lsn` are not needed, once everything that is appended by now is durable: what replaces them may be among it.
    pub fn drop_before(&mut self, lsn: Lsn) {
        if self.last <= self.durable {
            self.drop_records(lsn);
        } else {
            self.drop_before = Some((lsn, self.last));
        }
    }

    fn drop_records(&mut self, before: Lsn) {
        assert!(before <= self.last.next(), "only what is there is dropped");
        while self.first() < before && !self.records.is_empty() {
            self.records.pop_front();
        }
    }

    /// All records, oldest first, with their numbers.
    pub fn records(&self) -> impl Iterator<Item = (Lsn, &P::Record)> {
        let first = self.first();
        let birth = self.first_record.iter().map(|record| (Lsn::ZERO, record));
        birth.chain(
            self.records
                .iter()
                .enumerate()
                .map(move |(offset, record)| (Lsn(first.0 + offset as u64), record)),
        )
    }

    /// How many records are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The newest durable checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Begins to write a checkpoint. Two may be under way: the process's own, and one that a peer sent.
    ///
    /// # Panics
    /// If another one of the same origin is being written.
    pub fn write_checkpoint(&mut self, origin: Origin, checkpoint: Checkpoint) {
        let slot = &mut self.writing[origin as usize];
        assert!(slot.is_none(), "one checkpoint of each origin at a time");
        *slot = Some(checkpoint);
    }

    /// A checkpoint that was being written is durable, and replaces what is older. Returns it.
    ///
    /// # Panics
    /// If none was being written.
    pub fn checkpoint_written(&mut self, origin: Origin) -> Checkpoint {
        let written = self.writing[origin as usize].take().expect("a checkpoint was being written");
        self.keep(origin, &written);
        written
    }

    /// The checkpoint that is being written.
    #[must_use]
    pub fn writing(&self, origin: Origin) -> Option<&Checkpoint> {
        self.writing[origin as usize].as_ref()
    }

    /// Gives up a checkpoint that is being written.
    pub fn discard_checkpoint(&mut self, origin: Origin) {
        self.writing[origin as usize] = None;
    }

    /// Puts other words into the checkpoint that is being written: only for a planted bug.
    pub(crate) fn replace_state(&mut self, origin: Origin, state: Bytes) {
        if let Some(writing) = &mut self.writing[origin as usize] {
            writing.state = state;
        }
    }

    /// A peer's snapshot takes the place of any state: a protocol may need to take the state back. Of its own the newer one counts.
    fn keep(&mut self, origin: Origin, written: &Checkpoint) {
        let newer = self.checkpoint.as_ref().is_none_or(|kept| kept.applied <= written.applied);
        if newer || origin == Origin::Peer {
            self.checkpoint = Some(written.clone());
        }
    }
}

impl<P: Protocol> Disk for RecordDisk<P> {
    fn damage(&mut self, damage: DiskDamage, _random: &mut Random) -> bool {
        let loses = damage == DiskDamage::Lost && self.standing.is_some();
        if loses {
            self.lose();
        }
        loses
    }

    fn crash(&mut self, loss: Loss, random: &mut Random) {
        let unsynced = self.last.0 - self.durable.0;
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Unsynced => 0,
            // A record that is torn in the middle counts as lost: its checksum is wrong.
            Loss::Part => random.below(unsynced + 1),
        };
        for _ in kept..unsynced {
            self.records.pop_back().expect("unsynced records are never dropped before they are synced");
        }
        // Recovery syncs what it found before it believes it.
        self.last = Lsn(self.durable.0 + kept);
        self.durable = self.last;
        // A pending drop dies with the process; the next life asks again.
        self.drop_before = None;
        for origin in [Origin::Own, Origin::Peer] {
            let renamed = loss != Loss::Unsynced && random.chance(500_000);
            if let Some(writing) = self.writing[origin as usize].take()
                && renamed
            {
                self.keep(origin, &writing);
            }
        }
    }
}
