//! What can go wrong, and how much of it in one seed.

use crate::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum FaultKind {
            $($(#[$doc])* $kind,)*
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$kind,)*];

            /// Its name in reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(FaultKind::$kind => $name,)*
                }
            }
        }
    };
}

faults! {
    /// A message between nodes is lost.
    Loss = "message-lost",
    /// A message between nodes comes twice.
    Duplicate = "message-duplicated",
    /// A message between nodes is overtaken by later ones.
    Reorder = "message-delayed",
    /// A client's request or its answer is lost.
    ClientLoss = "client-message-lost",
    /// Two sides can't talk.
    Partition = "partition",
    /// One direction of one link is cut.
    OneWay = "partition-one-way",
    /// Some pairs can't talk, others can.
    Partial = "partition-partial",
    /// Each node can talk to its neighbours in a chain only.
    Chained = "partition-chained",
    /// "Peer unreachable" was said of a peer that is there.
    FalseHint = "hint-false",
    /// Nothing was said of a peer that is gone.
    MissingHint = "hint-missing",
    /// A process is killed, and started again later.
    Crash = "crash",
    /// All processes are killed at once.
    CrashAll = "crash-all",
    /// A process stands still while inputs gather (SIGSTOP).
    Pause = "pause",
    /// A machine sleeps: the process stands still and what is sent to it is lost; its clocks go on.
    Suspend = "suspend",
    /// A process takes many times as long for each step.
    Slow = "slow",
    /// A crash takes everything that was not synced.
    UnsyncedLost = "disk-unsynced-lost",
    /// A crash takes a part of what was not synced.
    Torn = "disk-torn",
    /// A disk takes many times as long.
    SlowDisk = "disk-slow",
    /// A disk never answers, until it is healed or the process is started again.
    HungDisk = "disk-hung",
    /// An fsync fails: the process must stop.
    FailedSync = "disk-fsync-failed",
    /// See [`crate::DiskDamage::BitRot`].
    BitRot = "disk-bit-rot",
    /// See [`crate::DiskDamage::MisdirectedWrite`].
    MisdirectedWrite = "disk-misdirected-write",
    /// See [`crate::DiskDamage::Full`].
    DiskFull = "disk-full",
    /// See [`crate::DiskDamage::Lost`].
    DiskLost = "disk-lost",
    /// A wall clock is off.
    Skew = "clock-skew",
    /// A wall clock jumps.
    Jump = "clock-jump",
    /// A monotonic clock runs too fast or too slow.
    Drift = "clock-drift",
}

/// A set of fault kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultSet(u64);

impl FaultSet {
    /// None.
    pub const NONE: FaultSet = FaultSet(0);
    /// Every kind.
    pub const ALL: FaultSet = FaultSet((1 << FaultKind::ALL.len()) - 1);

    /// Of these.
    #[must_use]
    pub const fn of(kinds: &[FaultKind]) -> FaultSet {
        let mut bits = 0;
        let mut at = 0;
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u8;
            at += 1;
        }
        FaultSet(bits)
    }

    /// Everything here that is not there.
    #[must_use]
    pub const fn without(self, other: FaultSet) -> FaultSet {
        FaultSet(self.0 & !other.0)
    }

    /// Everything here that is also there.
    #[must_use]
    pub const fn and(self, other: FaultSet) -> FaultSet {
        FaultSet(self.0 & other.0)
    }

    /// Whether this kind is in it.
    #[must_use]
    #[inline]
    pub fn has(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Its kinds.
    pub fn iter(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }

    /// About half of it.
    #[must_use]
    pub fn half(self, random: &mut Random) -> FaultSet {
        FaultSet(self.0 & random.bits())
    }
}

/// How often each kind has struck.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl Default for FaultCounts {
    fn default() -> Self {
        FaultCounts([0; FaultKind::ALL.len()])
    }
}

impl FaultCounts {
    /// One more of this kind.
    #[inline]
    pub fn add(&mut self, kind: FaultKind) {
        self.0[kind as usize] += 1;
    }

    /// How many of this kind.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0[kind as usize]
    }

    /// Every kind with its count, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL.iter().map(|kind| (*kind, self.of(*kind)))
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: &FaultCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// What a scenario allows; from it [`Swarm::draw`] makes each seed's own mix.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Cluster sizes to choose from.
    pub nodes: Vec<usize>,
    /// Fault kinds to choose from.
    pub faults: FaultSet,
    /// How many parts per million a monotonic clock may be off, at most. Two clocks then part by up to twice as much.
    pub drift_max_ppm: u32,
    /// How long faults go on, in simulated nanoseconds: from, to.
    pub safety_ns: (u64, u64),
    /// How long the cluster may take, after all faults are over, to serve every client and converge.
    pub liveness_ns: u64,
    /// How long one fault lasts at most.
    pub fault_max_ns: u64,
    /// Faults go beyond what the contract allows: any number of disks may be damaged. Then nobody has to be served in the end; what is
    /// served must still be right.
    pub beyond: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            nodes: vec![1, 3, 3, 3, 5, 5],
            faults: FaultSet::ALL,
            drift_max_ppm: 500,
            safety_ns: (SECOND_NS, 8 * SECOND_NS),
            liveness_ns: 10 * SECOND_NS,
            fault_max_ns: 2 * SECOND_NS,
            beyond: false,
        }
    }
}

/// One simulated second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// One simulated millisecond.
pub const MILLISECOND_NS: u64 = 1_000_000;
/// One simulated microsecond.
pub const MICROSECOND_NS: u64 = 1_000;

/// One seed's mix of sizes, speeds and faults. Some faults are off, so that the others go deeper.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Cluster size.
    pub nodes: usize,
    /// How long faults go on.
    pub safety_ns: u64,
    /// How long recovery from them may take.
    pub liveness_ns: u64,
    /// Fault kinds that are on.
    pub faults: FaultSet,
    /// Mean time between two faults (other than of single messages).
    pub fault_gap_ns: u64,
    /// How long one lasts at most.
    pub fault_max_ns: u64,
    /// How many go on at once, at most: a cluster that is always crippled does nothing that could go wrong.
    pub active_max: usize,
    /// Parts per million of messages lost, duplicated, delayed, and of client messages lost.
    pub loss_ppm: u32,
    /// See above.
    pub duplicate_ppm: u32,
    /// See above.
    pub reorder_ppm: u32,
    /// See above.
    pub client_loss_ppm: u32,
    /// Parts per million of steps that sent something, after which the process is killed at once.
    pub crash_after_send_ppm: u32,
    /// What a process takes at most from its start to its first input.
    pub start_max_ns: u64,
    /// The shortest way between two nodes.
    pub delay_min_ns: u64,
    /// What chance adds at most, for all but delayed messages.
    pub delay_spread_ns: u64,
    /// What a delayed message waits at most.
    pub delay_tail_ns: u64,
    /// Whether messages of one connection keep their order (as over TCP), unless lost.
    pub ordered: bool,
    /// Whether messages go through their encoding.
    pub wire: bool,
    /// What one log sync takes at least; chance adds up to as much again, and bytes their part.
    pub sync_ns: u64,
    /// What a process takes for each step.
    pub step_ns: u64,
    /// Bound of monotonic drift, parts per million.
    pub drift_max_ppm: u32,
    /// See [`Limits::beyond`].
    pub beyond: bool,
    /// What work costs, for measurements; nothing, where a seed looks for bugs.
    pub costs: Costs,
}

/// What a process's work costs it. All zero: work takes [`Swarm::step_ns`] a step, and a link carries any number of bytes at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// For each input of a batch.
    pub input_ns: u64,
    /// For each command that is applied and each read that is answered.
    pub work_ns: u64,
    /// For each message to a peer.
    pub send_ns: u64,
    /// For each answer to a client.
    pub reply_ns: u64,
    /// What a node's link carries in a second; 0: without limit.
    pub link_bytes_per_s: u64,
    /// What an answer to a client takes on the link, and what each message takes beside its encoding.
    pub overhead_bytes: u64,
    /// Whether bytes to peers are counted though the link has no limit: every message is then encoded.
    pub count_bytes: bool,
}

impl Costs {
    /// Whether messages must be encoded to know their length.
    pub(crate) fn needs_bytes(&self) -> bool {
        self.count_bytes || self.link_bytes_per_s > 0
    }

    /// How long so many bytes are on the link.
    pub(crate) fn link_ns(&self, bytes: u64) -> u64 {
        match self.link_bytes_per_s {
            0 => 0,
            rate => bytes.saturating_mul(SECOND_NS) / rate,
        }
    }
}

impl Swarm {
    /// A calm world: nothing goes wrong, only time passes.
    #[must_use]
    pub fn calm(nodes: usize) -> Swarm {
        Swarm {
            nodes,
            safety_ns: 2 * SECOND_NS,
            liveness_ns: 10 * SECOND_NS,
            faults: FaultSet::NONE,
            fault_gap_ns: SECOND_NS,
            fault_max_ns: SECOND_NS,
            active_max: 1,
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            client_loss_ppm: 0,
            crash_after_send_ppm: 0,
            start_max_ns: MILLISECOND_NS,
            delay_min_ns: 50 * MICROSECOND_NS,
            delay_spread_ns: 100 * MICROSECOND_NS,
            delay_tail_ns: 50 * MILLISECOND_NS,
            ordered: true,
            wire: false,
            sync_ns: 200 * MICROSECOND_NS,
            step_ns: 5 * MICROSECOND_NS,
            drift_max_ppm: 0,
            beyond: false,
            costs: Costs::default(),
        }
    }

    /// A mix within `limits`.
    #[must_use]
    pub fn draw(limits: &Limits, random: &mut Random) -> Swarm {
        let nodes = random.pick(&limits.nodes);
        let faults = if random.chance(150_000) { limits.faults } else { limits.faults.half(random) };
        let rate = |kind, random: &mut Random, choices: &[u32]| {
            if faults.has(kind) { random.pick(choices) } else { 0 }
        };
        let loss_ppm = rate(FaultKind::Loss, random, &[1_000, 10_000, 50_000, 200_000]);
        let duplicate_ppm = rate(FaultKind::Duplicate, random, &[1_000, 10_000, 100_000]);
        let reorder_ppm = rate(FaultKind::Reorder, random, &[1_000, 20_000, 200_000]);
        let client_loss_ppm = rate(FaultKind::ClientLoss, random, &[1_000, 20_000]);
        let crash_after_send_ppm = rate(FaultKind::Crash, random, &[0, 0, 300, 3_000, 20_000]);
        Swarm {
            nodes,
            safety_ns: random.between(limits.safety_ns.0, limits.safety_ns.1),
            liveness_ns: limits.liveness_ns,
            faults,
            fault_gap_ns: random.pick(&[20, 60, 200, 600]) * MILLISECOND_NS,
            fault_max_ns: limits.fault_max_ns / random.pick(&[1, 4, 10]),
            active_max: random.pick(&[1, 1, 2, 3, 5]),
            loss_ppm,
            duplicate_ppm,
            reorder_ppm,
            client_loss_ppm,
            crash_after_send_ppm,
            start_max_ns: random.pick(&[1, 20]) * MILLISECOND_NS,
            delay_min_ns: random.pick(&[10, 50, 200, 1_000]) * MICROSECOND_NS,
            delay_spread_ns: random.pick(&[20, 200, 2_000, 10_000]) * MICROSECOND_NS,
            delay_tail_ns: random.pick(&[20, 200, 1_500]) * MILLISECOND_NS,
            ordered: random.chance(500_000),
            wire: random.chance(250_000),
            sync_ns: random.pick(&[5, 100, 1_000, 8_000]) * MICROSECOND_NS,
            step_ns: random.pick(&[1, 5, 30]) * MICROSECOND_NS,
            drift_max_ppm: limits.drift_max_ppm,
            beyond: limits.beyond,
            costs: Costs::default(),
        }
    }
}
