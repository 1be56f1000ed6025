//! A disk in memory that fails as real ones do, when it is told to: deterministic, for simulators and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, File};
use crate::layout::SECTOR_BYTES;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// A folder in memory. Clones share it. Times (slow, hung) are the simulator's business; this one only remembers.
///
/// What a crash does to it: each sector written since its file's last sync is kept or lost, each creation, renaming and removal
/// since the last folder sync happened or not, independently (a rename as a whole). All handles from before are dead.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    /// Which life of the machine this handle belongs to.
    life: u64,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    state: Arc<Mutex<State>>,
    life: u64,
    inode: usize,
}

#[derive(Debug, Default)]
struct State {
    life: u64,
    names: BTreeMap<String, usize>,
    names_durable: BTreeMap<String, usize>,
    /// Since the last folder sync, in order.
    changes: Vec<Vec<(String, Option<usize>)>>,
    inodes: Vec<Inode>,
    /// Indices of inodes that nothing leads to.
    free: Vec<usize>,
    faults: Faults,
    counts: MemoryDiskCounts,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable_len: u64,
    /// What the disk holds of sectors that were written since.
    unsynced: BTreeMap<u64, Unsynced>,
    /// Open files of this life.
    handles: u32,
    free: bool,
}

#[derive(Debug)]
struct Unsynced {
    on_disk: [u8; SECTOR_BYTES],
    /// A failed sync leaves a sector clean in memory and old on disk: no later sync writes it, unless it is written again.
    dirty: bool,
}

#[derive(Debug, Default)]
struct Faults {
    failing_syncs: u32,
    failing_writes: u32,
    capacity_bytes: Option<u64>,
    misdirect: Option<u64>,
    stop_after: Option<u64>,
}

impl Faults {
    /// What passes with the process, or with the machine.
    fn clear(&mut self) {
        *self = Self { capacity_bytes: self.capacity_bytes, ..Self::default() };
    }

    /// Whether the process may do one more change.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.stop_after {
            Some(0) => Err(io::Error::other("this process was stopped")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What was done to a [`MemoryDisk`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryDiskCounts {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Calls of `sync` and `sync_directory`.
    pub syncs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Sectors that crashes lost.
    pub sectors_lost: u64,
}

impl MemoryDisk {
    /// An empty folder on a disk without limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        alive(&self.state, self.life)
    }

    /// The machine stops here. `random(n)` gives a number below `n`, and decides what of the unsynced survives: of each file all,
    /// nothing, or each sector on its own; of the folder's changes likewise. This handle lives on; all others are dead.
    pub fn crash(&mut self, mut random: impl FnMut(u64) -> u64) {
        let mut state = lock(&self.state);
        state.life += 1;
        state.counts.crashes += 1;
        self.life = state.life;
        state.faults.clear();
        state.inodes.iter_mut().for_each(|inode| inode.handles = 0);
        state.crash_names(&mut random);
        state.crash_contents(&mut random);
    }

    /// The process stops here, but not the machine: what was written stays, synced or not. This handle lives on; all others are dead.
    pub fn kill(&mut self) {
        let mut state = lock(&self.state);
        state.life += 1;
        self.life = state.life;
        state.faults.clear();
        state.inodes.iter_mut().for_each(|inode| inode.handles = 0);
        state.free_unreachable();
    }

    /// The next `count` syncs, of files or of the folder, fail. A file's sectors stay as they are on disk even if a later sync succeeds.
    pub fn fail_syncs(&mut self, count: u32) {
        self.state().faults.failing_syncs = count;
    }

    /// The next `count` writes fail after the first half of their sectors.
    pub fn fail_writes(&mut self, count: u32) {
        self.state().faults.failing_writes = count;
    }

    /// Files may have this many bytes together; `None` for no limit.
    pub fn limit(&mut self, capacity_bytes: Option<u64>) {
        self.state().faults.capacity_bytes = capacity_bytes;
    }

    /// The next write goes to this offset of its file instead of its own.
    pub fn misdirect_next_write(&mut self, offset: u64) {
        self.state().faults.misdirect = Some(offset);
    }

    /// After this many more changes (of a file or of the folder, syncs included) all fail, until the next [`MemoryDisk::crash`] or
    /// [`MemoryDisk::kill`]: the process stops in the middle of something.
    pub fn stop_after(&mut self, changes: u64) {
        self.state().faults.stop_after = Some(changes);
    }

    /// Flips bits of one byte, on disk and in memory: bit rot. Returns whether there is such a byte.
    pub fn rot(&mut self, name: &str, offset: u64, flip: u8) -> bool {
        assert_ne!(flip, 0, "rot that changes nothing");
        let mut state = self.state();
        let Some(inode) = state.names.get(name).copied() else { return false };
        let inode = &mut state.inodes[inode];
        let Some(byte) = usize::try_from(offset).ok().and_then(|at| inode.bytes.get_mut(at)) else {
            return false;
        };
        *byte ^= flip;
        if let Some(sector) = inode.unsynced.get_mut(&(offset / SECTOR)) {
            sector.on_disk[usize::try_from(offset % SECTOR).expect("within a sector")] ^= flip;
        }
        true
    }

    /// A file's bytes as a reader sees them now.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|inode| state.inodes[*inode].bytes.clone())
    }

    /// Replaces a file, or makes one; durable at once. For tests that damage by hand.
    pub fn set_content(&mut self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.new_inode();
        state.inodes[inode] =
            Inode { bytes: bytes.to_vec(), durable_len: bytes.len() as u64, ..Inode::default() };
        state.names.insert(name.to_owned(), inode);
        state.names_durable.insert(name.to_owned(), inode);
    }

    /// An independent copy of everything, with the same unsynced state.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let copy = State {
            life: state.life,
            names: state.names.clone(),
            names_durable: state.names_durable.clone(),
            changes: state.changes.clone(),
            inodes: state.inodes.iter().map(Inode::copy).collect(),
            free: state.free.clone(),
            faults: Faults { capacity_bytes: state.faults.capacity_bytes, ..Faults::default() },
            counts: state.counts,
        };
        Self { state: Arc::new(Mutex::new(copy)), life: self.life }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> MemoryDiskCounts {
        self.state().counts
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nothing panics while it holds the disk")
}

fn alive(state: &Mutex<State>, life: u64) -> io::Result<MutexGuard<'_, State>> {
    let state = lock(state);
    if state.life == life { Ok(state) } else { Err(io::Error::other("this process has stopped")) }
}

impl State {
    fn new_inode(&mut self) -> usize {
        if let Some(inode) = self.free.pop() {
            self.inodes[inode] = Inode::default();
            return inode;
        }
        self.inodes.push(Inode::default());
        self.inodes.len() - 1
    }

    fn inode_of(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Vec<(String, Option<usize>)>) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn sync_fails(&mut self) -> bool {
        self.counts.syncs += 1;
        let fails = self.faults.failing_syncs > 0;
        self.faults.failing_syncs -= u32::from(fails);
        fails
    }

    fn crash_names(&mut self, random: &mut impl FnMut(u64) -> u64) {
        let survival = Survival::draw(random);
        let mut names = core::mem::take(&mut self.names_durable);
        for change in core::mem::take(&mut self.changes) {
            if survival.of_one(random) {
                apply(&mut names, &change);
            }
        }
        self.names_durable = names.clone();
        self.names = names;
        self.free_unreachable();
    }

    fn crash_contents(&mut self, random: &mut impl FnMut(u64) -> u64) {
        let mut lost = 0;
        for inode in &mut self.inodes {
            lost += inode.crash(random);
        }
        self.counts.sectors_lost += lost;
    }

    /// Gives the memory of files back that neither a name leads to, now or after a crash, nor an open file.
    fn free_unreachable(&mut self) {
        let changed = self.changes.iter().flatten().filter_map(|(_, inode)| *inode);
        let named = self.names.values().chain(self.names_durable.values()).copied();
        let reachable: BTreeSet<usize> = named.chain(changed).collect();
        for (index, inode) in self.inodes.iter_mut().enumerate() {
            if !inode.free && inode.handles == 0 && !reachable.contains(&index) {
                *inode = Inode { free: true, ..Inode::default() };
                self.free.push(index);
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        let named = self.names.values().map(|inode| self.inodes[*inode].bytes.len() as u64);
        named.sum()
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &[(String, Option<usize>)]) {
    for (name, inode) in change {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

/// How much of what was not synced a crash leaves.
#[derive(Clone, Copy)]
enum Survival {
    All,
    Nothing,
    Each,
}

impl Survival {
    fn draw(random: &mut impl FnMut(u64) -> u64) -> Self {
        match random(4) {
            0 => Survival::All,
            1 => Survival::Nothing,
            _ => Survival::Each,
        }
    }

    fn of_one(self, random: &mut impl FnMut(u64) -> u64) -> bool {
        match self {
            Survival::All => true,
            Survival::Nothing => false,
            Survival::Each => random(2) == 1,
        }
    }
}

impl Inode {
    fn copy(&self) -> Self {
        let unsynced = self.unsynced.iter();
        Self {
            bytes: self.bytes.clone(),
            durable_len: self.durable_len,
            unsynced: unsynced.map(|(k, v)| (*k, Unsynced { on_disk: v.on_disk, dirty: v.dirty })).collect(),
            handles: self.handles,
            free: self.free,
        }
    }

    /// Remembers what the disk holds of a sector before its first change.
    fn remember(&mut self, sector: u64) {
        let start = usize::try_from(sector * SECTOR).expect("fits memory");
        let entry = self.unsynced.entry(sector).or_insert_with(|| {
            let mut on_disk = [0; SECTOR_BYTES];
            let end = (start + SECTOR_BYTES).min(self.bytes.len());
            if start < end {
                on_disk[..end - start].copy_from_slice(&self.bytes[start..end]);
            }
            Unsynced { on_disk, dirty: true }
        });
        entry.dirty = true;
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.remember(sector);
        }
        let (start, stop) = (usize::try_from(offset).expect("fits"), usize::try_from(end).expect("fits"));
        if self.bytes.len() < stop {
            self.bytes.resize(stop, 0);
        }
        self.bytes[start..stop].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.durable_len = self.bytes.len() as u64;
        self.unsynced.retain(|_, sector| !sector.dirty);
    }

    fn fail_sync(&mut self) {
        self.unsynced.values_mut().for_each(|sector| sector.dirty = false);
    }

    /// Returns how many sectors were lost.
    fn crash(&mut self, random: &mut impl FnMut(u64) -> u64) -> u64 {
        if self.unsynced.is_empty() {
            self.bytes.truncate(usize::try_from(self.durable_len).expect("fits"));
            return 0;
        }
        let survival = Survival::draw(random);
        let (mut lost, mut len) = (0, self.durable_len);
        let full_len = self.bytes.len();
        for (sector, unsynced) in core::mem::take(&mut self.unsynced) {
            let start = usize::try_from(sector * SECTOR).expect("fits");
            let end = (start + SECTOR_BYTES).min(full_len);
            if survival.of_one(random) {
                len = len.max(end as u64);
            } else {
                self.bytes[start..end].copy_from_slice(&unsynced.on_disk[..end - start]);
                lost += 1;
            }
        }
        self.bytes.truncate(usize::try_from(len).expect("fits"));
        self.durable_len = self.bytes.len() as u64;
        lost
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut state = self.alive()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.faults.step()?;
        let inode = state.new_inode();
        state.change(vec![(name.to_owned(), Some(inode))]);
        state.inodes[inode].handles += 1;
        Ok(MemoryFile { state: self.state.clone(), life: self.life, inode })
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut state = self.alive()?;
        let inode = state.inode_of(name)?;
        state.inodes[inode].handles += 1;
        Ok(MemoryFile { state: self.state.clone(), life: self.life, inode })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.alive()?;
        let inode = state.inode_of(from)?;
        state.faults.step()?;
        state.change(vec![(from.to_owned(), None), (to.to_owned(), Some(inode))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.alive()?;
        state.inode_of(name)?;
        state.faults.step()?;
        state.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        state.faults.step()?;
        if state.sync_fails() {
            return Err(io::Error::other("the disk failed to sync"));
        }
        state.changes.clear();
        state.names_durable = state.names.clone();
        state.free_unreachable();
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.life == self.life {
            let handles = &mut state.inodes[self.inode].handles;
            assert!(*handles > 0, "a file is closed once");
            *handles -= 1;
        }
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = alive(&self.state, self.life)?;
        let bytes = &state.inodes[self.inode].bytes;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = into.len().min(bytes.len() - start);
        into[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = alive(&self.state, self.life)?;
        state.faults.step()?;
        let offset = state.faults.misdirect.take().unwrap_or(offset);
        let growth =
            (offset + bytes.len() as u64).saturating_sub(state.inodes[self.inode].bytes.len() as u64);
        if growth > 0 && state.faults.capacity_bytes.is_some_and(|max| state.used_bytes() + growth > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.counts.writes += 1;
        if state.faults.failing_writes > 0 {
            state.faults.failing_writes -= 1;
            let half = bytes.len() / 2 / SECTOR_BYTES * SECTOR_BYTES;
            state.inodes[self.inode].write(offset, &bytes[..half]);
            return Err(io::Error::other("the disk failed to write"));
        }
        state.counts.bytes_written += bytes.len() as u64;
        state.inodes[self.inode].write(offset, bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = alive(&self.state, self.life)?;
        state.faults.step()?;
        if state.sync_fails() {
            state.inodes[self.inode].fail_sync();
            return Err(io::Error::other("the disk failed to sync"));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(alive(&self.state, self.life)?.inodes[self.inode].bytes.len() as u64)
    }
}
