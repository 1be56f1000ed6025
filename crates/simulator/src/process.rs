//! One simulated operating-system process, and the world as it sees it.

use std::fmt::{self, Debug};

use keypact_protocol::{Context, NodeId, Wire};

use crate::{Counters, Random};

/// A process: takes batches of inputs, writes effects. A whole node, or one protocol alone ([`crate::ProtocolProcess`]).
///
/// It has no clock, randomness or thread but what is given to it, and keeps nothing over a crash but what is in its [`Disk`].
pub trait Process: Sized {
    /// What it is started with, in every life.
    type Config: Clone;
    /// What survives a crash. Owned by the world.
    type Disk: Disk;
    /// What processes say to each other.
    type Message: Clone + Debug + Wire;
    /// What clients ask. Carries whatever ties an answer to it.
    type Request: Clone + Debug;
    /// What clients are told.
    type Reply: Clone + Debug;

    /// Starts a life: recovers from `disk`. `seed` differs in every life.
    ///
    /// # Errors
    /// [`StartRefused`] if the disk is not to be trusted. The world reports it as a violation unless it damaged the disk itself.
    fn start(
        config: &Self::Config,
        id: NodeId,
        disk: &mut Self::Disk,
        seed: u64,
        context: Context,
        out: &mut Effects<Self>,
    ) -> Result<Self, StartRefused>;

    /// Takes everything that has come since the last step, in order of arrival. Leaves `batch` empty. The clocks were sampled after the
    /// batch was collected.
    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Self>>,
        disk: &mut Self::Disk,
        context: Context,
        out: &mut Effects<Self>,
    );

    /// The applied index and a digest of the applied state, compared between processes when all faults are over.
    /// `None`: this process takes no part in the comparison.
    fn applied(&self) -> Option<Applied> {
        None
    }

    /// Whether the process has again everything that its disk once lost.
    fn caught_up(&self) -> bool {
        true
    }

    /// A cheap digest of the state, for the trace hash. Called after every step.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// Adds to the counters of what this life has reached. Called once, when the life ends.
    fn count(&self, counters: &mut Counters) {
        let _ = counters;
    }
}

/// How far a process has applied, and to what effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Index of the last command applied.
    pub index: u64,
    /// Digest of the state after it; equal states have equal digests.
    pub digest: u64,
}

/// A process that may not start, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartRefused {
    /// What a person would read.
    pub why: String,
}

impl fmt::Display for StartRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused to start: {}", self.why)
    }
}

impl std::error::Error for StartRefused {}

/// What happens to a process.
#[derive(Clone, Debug)]
pub enum ProcessInput<P: Process> {
    /// A peer said this.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: P::Message,
    },
    /// A client asks.
    Client {
        /// Who.
        client: ClientId,
        /// What.
        request: P::Request,
    },
    /// The wake-up that was set is due.
    WakeUp,
    /// A disk job has ended.
    DiskDone {
        /// As given to [`Effects::disk`].
        token: u64,
        /// Whether it worked. If not, the process must stop ([`Effects::stop`]): a failed fsync is never retried.
        ok: bool,
    },
    /// A hint that the peer's process is gone. May be wrong.
    Unreachable(NodeId),
}

/// One client of the world, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientId(pub u32);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Which of a peer's two connections carries a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// Votes, heartbeats, acknowledgements: small and urgent.
    Control,
    /// Entries and snapshots.
    Bulk,
}

/// What a disk job does, for how long it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskWork {
    /// Write so many bytes to the log and sync.
    LogSync {
        /// Bytes.
        bytes: u64,
    },
    /// Write a checkpoint of so many bytes and sync.
    Checkpoint {
        /// Bytes.
        bytes: u64,
    },
    /// Read so many bytes.
    Read {
        /// Bytes.
        bytes: u64,
    },
}

impl DiskWork {
    /// Bytes moved.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            DiskWork::LogSync { bytes } | DiskWork::Checkpoint { bytes } | DiskWork::Read { bytes } => bytes,
        }
    }
}

/// What a process wants done. Filled by the process, emptied by the world.
#[derive(Debug)]
pub struct Effects<P: Process> {
    pub(crate) sends: Vec<(NodeId, Traffic, P::Message)>,
    pub(crate) replies: Vec<(ClientId, P::Reply)>,
    pub(crate) jobs: Vec<(u64, DiskWork)>,
    pub(crate) wake_at_ns: Option<u64>,
    pub(crate) stop: Option<&'static str>,
    /// Commands applied and reads answered; their price is [`crate::Costs::work_ns`].
    pub(crate) worked: u64,
}

impl<P: Process> Default for Effects<P> {
    fn default() -> Self {
        Effects {
            sends: Vec::new(),
            replies: Vec::new(),
            jobs: Vec::new(),
            wake_at_ns: None,
            stop: None,
            worked: 0,
        }
    }
}

impl<P: Process> Effects<P> {
    /// Sends to a peer.
    #[inline]
    pub fn send(&mut self, to: NodeId, traffic: Traffic, message: P::Message) {
        self.sends.push((to, traffic, message));
    }

    /// Answers a client.
    #[inline]
    pub fn reply(&mut self, client: ClientId, reply: P::Reply) {
        self.replies.push((client, reply));
    }

    /// Starts a disk job; `token` comes back with [`ProcessInput::DiskDone`], in this life only. Several may be under way.
    pub fn disk(&mut self, token: u64, work: DiskWork) {
        self.jobs.push((token, work));
    }

    /// Sets the one wake-up, in the process's own monotonic time, replacing its earlier setting.
    pub fn wake_at(&mut self, local_ns: u64) {
        self.wake_at_ns = Some(local_ns);
    }

    /// Has applied so many commands, or answered so many reads.
    pub fn worked(&mut self, units: u64) {
        self.worked += units;
    }

    /// Ends the process by its own decision (a disk error). The world restarts it later.
    pub fn stop(&mut self, why: &'static str) {
        self.stop = Some(why);
    }
}

/// How much of what was not synced a crash takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// None of it: the process was killed, the machine lives.
    Nothing,
    /// All of it: power loss.
    Unsynced,
    /// Some: the disk had written a part of it, perhaps half a record.
    Part,
}

/// Damage that a disk may suffer beside lost writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskDamage {
    /// A bit in what was durable has turned.
    BitRot,
    /// A write went elsewhere.
    MisdirectedWrite,
    /// No space is left, until [`Disk::heal`].
    Full,
    /// All of it is gone; the process ends, and begins anew with an empty folder.
    Lost,
}

/// What survives a crash.
pub trait Disk {
    /// The process has ended; decides what is left of what was not synced.
    fn crash(&mut self, loss: Loss, random: &mut Random);

    /// Damages the disk. Returns false if this disk can't be damaged so, and then nothing has changed.
    fn damage(&mut self, damage: DiskDamage, random: &mut Random) -> bool {
        let _ = (damage, random);
        false
    }

    /// Ends what can end: space is free again.
    fn heal(&mut self) {}
}
