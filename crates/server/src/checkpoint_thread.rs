//! Checkpoints' own thread: writes them, reads them for peers, takes those that come from peers; at a limited rate, so that the log's
//! syncs need not wait behind many megabytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keypact_node::NodeInput;
use keypact_protocol::{GroupId, NodeId, SnapshotChunk};
use keypact_storage::{CheckpointWriter, Checkpoints, Disk, RateLimit, StorageError};
use tokio::sync::mpsc;

/// Bytes that may be written at once.
const BURST_BYTES: u64 = 256 << 10;

/// Jobs that may wait. Of its own checkpoint a group asks for one thing at a time, and an `Abort` ends it; of snapshots that come a group
/// writes one, and the node lets few others take its place before that is answered. So these are few; what is read for peers is limited
/// below, since a new leader asks anew while the disk still owes answers to the one before.
const JOBS: usize = 256;
/// Reads that may wait; for more the node is told that they failed, and asks again later.
const READS: usize = 128;
/// Answers that may wait for the node; then the thread waits.
pub(crate) const ANSWERS: usize = 64;

/// What the node asks. Each but `Abort` is answered.
#[derive(Debug)]
pub(crate) enum Job {
    Begin { group: GroupId, meta: Bytes },
    Chunk { group: GroupId, bytes: Bytes },
    Finish { group: GroupId },
    Abort { group: GroupId },
    Read { group: GroupId, to: NodeId, chunk: u32 },
    Incoming { group: GroupId, chunk: SnapshotChunk },
}

/// An answer for the node, or what ends it.
pub(crate) type Answer = Result<NodeInput, StorageError>;

/// The node's end.
#[derive(Debug)]
pub(crate) struct CheckpointThread {
    jobs: Option<SyncSender<Job>>,
    /// Reads that wait.
    reads: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointThread {
    /// Starts the thread; at most `bytes_per_second` are written on average.
    pub(crate) fn spawn<D>(
        checkpoints: Checkpoints<D>,
        bytes_per_second: u64,
        answers: mpsc::Sender<Answer>,
    ) -> io::Result<CheckpointThread>
    where
        D: Disk + Send + 'static,
        D::File: Send + Sync,
    {
        let (jobs, queue) = sync_channel(JOBS);
        let reads = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            checkpoints,
            own: BTreeMap::new(),
            incoming: BTreeMap::new(),
            rate: RateLimit::new(bytes_per_second, BURST_BYTES),
            began: Instant::now(),
            later: Vec::new(),
            reads: reads.clone(),
            answers,
        };
        let thread =
            std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(CheckpointThread { jobs: Some(jobs), reads, thread: Some(thread) })
    }

    /// Asks for something; never waits.
    ///
    /// # Panics
    /// If groups ask for more than the node lets them, a bug.
    pub(crate) fn ask(&self, job: Job) {
        match self.jobs.as_ref().expect("open until it is dropped").try_send(job) {
            // If the thread is gone its answers' channel is closed, by which the node learns it.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => panic!("a group asks for few things at a time"),
        }
    }

    /// Asks for a chunk for a peer, unless too many such wait; whether it was asked for.
    pub(crate) fn read(&self, group: GroupId, to: NodeId, chunk: u32) -> bool {
        if self.reads.load(Ordering::Relaxed) >= READS {
            return false;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.ask(Job::Read { group, to, chunk });
        true
    }
}

impl Drop for CheckpointThread {
    /// The folder's lock lives as long as the thread: it must be gone when whoever dropped this goes on.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer<D: Disk> {
    checkpoints: Checkpoints<D>,
    own: BTreeMap<GroupId, CheckpointWriter<D>>,
    incoming: BTreeMap<GroupId, CheckpointWriter<D>>,
    rate: RateLimit,
    began: Instant,
    /// Answers that the rate holds back.
    later: Vec<(Instant, NodeInput)>,
    reads: Arc<AtomicUsize>,
    answers: mpsc::Sender<Answer>,
}

impl<D: Disk> Writer<D> {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            self.answer_due();
            let next = self.later.iter().map(|(at, _)| *at).min();
            let job = match next {
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(job) => {
                    if let Err(error) = self.take(job) {
                        // If nobody listens the node is stopping anyway.
                        let _ = self.answers.blocking_send(Err(error));
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer_due(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.later.drain(..).partition(|(at, _)| *at <= now);
        self.later = later;
        due.into_iter().for_each(|(_, input)| self.answer(input));
    }

    fn answer(&self, input: NodeInput) {
        let _ = self.answers.blocking_send(Ok(input));
    }

    /// Answers once so many bytes may have been written.
    fn answer_at_rate(&mut self, bytes: usize, input: NodeInput) {
        let now = Instant::now();
        let now_ns = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        match self.rate.permit(now_ns, bytes as u64) {
            0 => self.answer(input),
            wait_ns => self.later.push((now + Duration::from_nanos(wait_ns), input)),
        }
    }

    fn take(&mut self, job: Job) -> Result<(), StorageError> {
        match job {
            Job::Begin { group, meta } => {
                self.own.insert(group, self.checkpoints.begin(group, &meta)?);
                self.answer(NodeInput::CheckpointChunkWanted(group));
            }
            Job::Chunk { group, bytes } => {
                let Some(writer) = self.own.get_mut(&group) else { return Ok(()) };
                writer.chunk(&bytes)?;
                self.answer_at_rate(bytes.len(), NodeInput::CheckpointChunkWanted(group));
            }
            Job::Finish { group } => {
                let Some(writer) = self.own.remove(&group) else { return Ok(()) };
                self.checkpoints.finish(writer)?;
                self.answer(NodeInput::Checkpointed(group));
            }
            Job::Abort { group } => {
                self.own.remove(&group);
                self.later.retain(
                    |(_, input)| !matches!(input, NodeInput::CheckpointChunkWanted(g) if *g == group),
                );
            }
            Job::Read { group, to, chunk } => {
                self.reads.fetch_sub(1, Ordering::Relaxed);
                let chunk = self.read(group, chunk)?;
                self.answer(NodeInput::CheckpointRead { group, to, chunk });
            }
            Job::Incoming { group, chunk } => self.incoming(group, &chunk)?,
        }
        Ok(())
    }

    fn read(&self, group: GroupId, index: u32) -> Result<Option<SnapshotChunk>, StorageError> {
        let Some(newest) = self.checkpoints.newest(group) else { return Ok(None) };
        let bytes = match newest.chunk(index) {
            Ok(bytes) => bytes,
            Err(StorageError::BadChunk { .. } | StorageError::NoCheckpoint { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let last = index + 1 == newest.chunk_count();
        Ok(Some(SnapshotChunk { meta: newest.meta(), chunk: index, bytes, last }))
    }

    fn incoming(&mut self, group: GroupId, chunk: &SnapshotChunk) -> Result<(), StorageError> {
        if chunk.chunk == 0 {
            self.incoming.insert(group, self.checkpoints.begin_incoming(group, &chunk.meta)?);
        }
        // One that was given up is not asked for any more.
        let Some(writer) = self.incoming.get_mut(&group) else { return Ok(()) };
        if let Err(error) = writer.chunk_at(chunk.chunk, &chunk.bytes) {
            if !matches!(error, StorageError::BadChunk { .. }) {
                return Err(error);
            }
            tracing::warn!(%group, %error, "a peer's snapshot is given up");
            self.incoming.remove(&group);
            return Ok(());
        }
        if chunk.last {
            let writer = self.incoming.remove(&group).expect("it was just written to");
            self.checkpoints.finish(writer)?;
        }
        self.answer_at_rate(chunk.bytes.len(), NodeInput::IncomingTaken { group, chunk: chunk.chunk });
        Ok(())
    }
}
