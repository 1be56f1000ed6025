//! The log's own thread: writes and syncs what the node gathered, while the node goes on.
//!
//! One batch is with the thread at a time; what comes meanwhile gathers into the next. So one sync serves all that came while the one
//! before was under way, and each batch costs two wake-ups: this thread's (none if it is still busy preparing) and the node's.
//!
//! Invariant: after an error nothing is written and nothing more is called durable (fail-stop).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keypact_protocol::Lsn;
use keypact_storage::{Batch, Disk, StorageError, Wal};
use tokio::sync::Notify;

use crate::metrics::Log2;

/// Without a batch for this long the log counts as idle, and says in itself what is durable.
const IDLE: Duration = Duration::from_millis(10);
/// How much is prepared ahead at a time, bytes.
const AHEAD_BYTES: u64 = 256 << 10;
/// A busy log prepares ahead once per so many bytes written: a quarter of a segment is enough to make the next.
const AHEAD_EVERY_BYTES: u64 = 64 << 10;

/// What the node's thread reads without waiting.
#[derive(Debug, Default)]
struct Progress {
    durable: AtomicU64,
    /// Total length of the log, bytes.
    bytes: AtomicU64,
    /// The thread is gone.
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    todo: Option<Batch>,
    done: Vec<Batch>,
    drop_before: Option<Lsn>,
    stop: bool,
    ended: Option<Result<(), StorageError>>,
    syncs: Log2,
    sync_us: Log2,
}

#[derive(Debug)]
struct Shared {
    slot: Mutex<Slot>,
    work: Condvar,
    progress: Progress,
    /// Tells the node's thread that something is new.
    news: Arc<Notify>,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("neither thread panics while it holds the slot")
    }
}

/// The node's end of the log's thread.
#[derive(Debug)]
pub(crate) struct LogThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Whether a batch was submitted and not taken back: asked in every batch of the node, so not under the lock.
    under_way: bool,
}

/// How the log has fared: sizes of batches in bytes, and times of write and sync in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFigures {
    pub(crate) batch_bytes: Log2,
    pub(crate) sync_us: Log2,
    pub(crate) bytes: u64,
}

impl LogThread {
    /// Starts the thread. `news` is notified whenever a batch is durable or the log has failed.
    pub(crate) fn spawn<D>(wal: Wal<D>, news: Arc<Notify>) -> io::Result<LogThread>
    where
        D: Disk + Send + 'static,
        D::File: Send,
    {
        let progress = Progress {
            durable: AtomicU64::new(wal.durable().0),
            bytes: AtomicU64::new(wal.len_bytes()),
            ended: AtomicBool::new(false),
        };
        let shared = Arc::new(Shared { slot: Mutex::default(), work: Condvar::new(), progress, news });
        let writer =
            Writer { wal, shared: shared.clone(), written_since_ahead: 0, is_noted: false, is_ahead: false };
        let thread =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run_guarded())?;
        Ok(LogThread { shared, thread: Some(thread), under_way: false })
    }

    /// Everything up to here is on disk.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.shared.progress.durable.load(Ordering::Acquire))
    }

    /// Length of the log, bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.shared.progress.bytes.load(Ordering::Relaxed)
    }

    /// Whether a batch is with the thread.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way
    }

    /// Hands over a batch; the one before was taken back. `drop_before`: records before it are no longer needed.
    pub(crate) fn submit(&mut self, batch: Batch, drop_before: Option<Lsn>) {
        assert!(!self.under_way, "one batch at a time");
        assert!(!batch.is_empty(), "an empty batch is not worth a sync");
        self.under_way = true;
        let mut slot = self.shared.slot();
        assert!(slot.todo.is_none(), "the batch before was taken");
        slot.todo = Some(batch);
        slot.drop_before = drop_before.or(slot.drop_before);
        drop(slot);
        self.shared.work.notify_one();
    }

    /// The batch that is written, for its memory to be used again; `None` while one is under way or none was submitted.
    pub(crate) fn take_back(&mut self) -> Option<Batch> {
        if !self.under_way {
            return None;
        }
        let batch = self.shared.slot().done.pop();
        self.under_way = batch.is_none();
        batch
    }

    /// Whether the thread is gone, so that nothing more will be durable.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.progress.ended.load(Ordering::Acquire)
    }

    /// Why the thread ended.
    pub(crate) fn failure(&self) -> StorageError {
        match self.shared.slot().ended.take() {
            Some(Err(error)) => error,
            Some(Ok(())) | None => StorageError::Failed,
        }
    }

    pub(crate) fn figures(&self) -> LogFigures {
        let slot = self.shared.slot();
        LogFigures { batch_bytes: slot.syncs.clone(), sync_us: slot.sync_us.clone(), bytes: self.len_bytes() }
    }

    /// Ends the log cleanly: what was submitted is written, everything is durable and the log says so.
    pub(crate) fn close(mut self) -> Result<(), StorageError> {
        self.shared.slot().stop = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there is reported by `ended`.
            let _ = thread.join();
        }
        self.shared.slot().ended.take().unwrap_or(Err(StorageError::Failed))
    }
}

impl Drop for LogThread {
    /// The folder's lock lives as long as the thread: it must be gone when whoever dropped this goes on.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Ok(mut slot) = self.shared.slot.lock() {
            slot.stop = true;
        }
        self.shared.work.notify_one();
        let _ = thread.join();
    }
}

struct Writer<D: Disk> {
    wal: Wal<D>,
    shared: Arc<Shared>,
    written_since_ahead: u64,
    /// Whether the log itself says what is durable.
    is_noted: bool,
    /// Whether nothing is left to prepare.
    is_ahead: bool,
}

enum Next {
    Write(Batch, Option<Lsn>),
    Idle,
    Stop,
}

/// Reports the end of the thread, also if it is by a panic.
struct Ending(Arc<Shared>, Option<Result<(), StorageError>>);

impl Drop for Ending {
    fn drop(&mut self) {
        let result = self.1.take().unwrap_or(Err(StorageError::Failed));
        if let Ok(mut slot) = self.0.slot.lock() {
            slot.ended = Some(result);
        }
        self.0.progress.ended.store(true, Ordering::Release);
        self.0.news.notify_one();
    }
}

impl<D: Disk> Writer<D> {
    fn run_guarded(mut self) {
        let mut ending = Ending(self.shared.clone(), None);
        let result = self.run();
        let result = result.and_then(|()| self.wal.close().map(drop));
        ending.1 = Some(result);
    }

    fn run(&mut self) -> Result<(), StorageError> {
        loop {
            match self.next() {
                Next::Write(batch, drop_before) => {
                    if let Some(lsn) = drop_before {
                        self.wal.drop_before(lsn);
                    }
                    self.write(batch)?;
                }
                Next::Idle => {
                    self.wal.note_durable()?;
                    self.is_noted = true;
                }
                Next::Stop => return Ok(()),
            }
            self.prepare_ahead()?;
        }
    }

    fn next(&self) -> Next {
        let mut slot = self.shared.slot();
        loop {
            if let Some(batch) = slot.todo.take() {
                return Next::Write(batch, slot.drop_before.take());
            }
            if slot.stop {
                return Next::Stop;
            }
            slot = if self.is_noted {
                self.shared.work.wait(slot).expect("neither thread panics while it holds the slot")
            } else {
                let (slot, timeout) = self
                    .shared
                    .work
                    .wait_timeout(slot, IDLE)
                    .expect("neither thread panics while it holds the slot");
                if timeout.timed_out() && slot.todo.is_none() && !slot.stop {
                    return Next::Idle;
                }
                slot
            };
        }
    }

    fn write(&mut self, mut batch: Batch) -> Result<(), StorageError> {
        let bytes = batch.len_bytes() as u64;
        let last = batch.last_lsn().expect("a batch that was submitted has records");
        while !batch.is_written() {
            let began = Instant::now();
            self.wal.write(&mut batch)?;
            let durable = self.wal.sync()?;
            let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shared.progress.durable.store(durable.0, Ordering::Release);
            self.shared.slot().sync_us.record(took_us);
            if !batch.is_written() {
                self.shared.news.notify_one();
            }
        }
        assert_eq!(self.wal.durable(), last, "a batch is durable when it is written and synced");
        self.shared.progress.bytes.store(self.wal.len_bytes(), Ordering::Relaxed);
        self.written_since_ahead += bytes;
        self.is_noted = false;
        self.is_ahead = false;
        let mut slot = self.shared.slot();
        slot.syncs.record(bytes);
        slot.done.push(batch);
        drop(slot);
        self.shared.news.notify_one();
        Ok(())
    }

    /// Prepares the next segment: all of it when idle, a piece at a time when busy.
    fn prepare_ahead(&mut self) -> Result<(), StorageError> {
        while !self.is_ahead {
            if !self.is_noted && self.written_since_ahead < AHEAD_EVERY_BYTES {
                return Ok(());
            }
            self.written_since_ahead = 0;
            self.is_ahead = self.wal.prepare_ahead(AHEAD_BYTES)?;
            let slot = self.shared.slot();
            if slot.todo.is_some() || slot.stop {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
