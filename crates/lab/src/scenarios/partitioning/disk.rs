//! A disk of typed records.

use keypact_simulator::{Disk, Loss, Random};

/// Records in the order in which they were written; those behind `durable` may go with a crash.
#[derive(Clone, Debug)]
pub(crate) struct PlainDisk<R> {
    records: Vec<R>,
    durable: usize,
}

impl<R> Default for PlainDisk<R> {
    fn default() -> Self {
        PlainDisk { records: Vec::new(), durable: 0 }
    }
}

impl<R> PlainDisk<R> {
    /// Appends, not yet durable. Returns how many there are.
    pub(crate) fn append(&mut self, record: R) -> usize {
        self.records.push(record);
        self.records.len()
    }

    /// A sync that covered the first `count` records has ended.
    pub(crate) fn synced(&mut self, count: usize) {
        assert!(count >= self.durable && count <= self.records.len(), "what was written is synced, in order");
        self.durable = count;
    }

    /// All records; after a crash those that it left.
    pub(crate) fn records(&self) -> &[R] {
        &self.records
    }

    /// How many are durable.
    pub(crate) fn durable(&self) -> usize {
        self.durable
    }
}

impl<R> Disk for PlainDisk<R> {
    fn crash(&mut self, loss: Loss, random: &mut Random) {
        let unsynced = self.records.len() - self.durable;
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Unsynced => 0,
            Loss::Part => random.below(unsynced as u64 + 1) as usize,
        };
        self.records.truncate(self.durable + kept);
        // Recovery syncs what it found before it believes it.
        self.durable = self.records.len();
    }
}
