//! Planted bugs: known mistakes that a build with feature `plant` can switch on, one at a time, to show that the checkers find them.
//!
//! Without the feature [`planted`] is `false` at compile time, and the mistakes are not in the binary.

/// The mistakes that can be planted inside our own code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Plant {
    /// The gate lets everything out before the disk has it.
    GateAlwaysOpen = 1,
    /// A quorum is one vote too small.
    QuorumOffByOne,
    /// A vote is granted but not written down.
    VoteNotPersisted,
    /// A leader commits an older term's entry by counting copies (figure 8 of the Raft paper).
    OlderTermCommittedByCounting,
    /// A leader answers linearizable reads without asking anyone whether it still leads.
    StaleLeaderServesReads,
    /// A leader answers read-index before it committed an entry of its own term.
    ReadIndexBeforeOwnCommit,
    /// A lease is taken to hold however long the leader was paused.
    LeaseIgnoresPause,
    /// A checkpoint says an older applied index than the data in it has.
    AppliedIndexNotStored,
    /// A snapshot does not say the term of its last entry.
    SnapshotWithoutLastTerm,
    /// An old append cuts entries off that it does not contradict.
    TruncatesMatchingEntries,
    /// A torn record at the end of the log is taken for a whole one.
    TornTailAccepted,
    /// Damage in the middle of the log is taken for a torn tail and cut off.
    DamageTakenForTornTail,
    /// Clocks are sampled before the inputs are collected.
    ClocksBeforeInputs,
    /// Leader-follower: a leader serves past the end of its lease.
    ServesPastLease,
    /// Leader-follower: data is visible before enough followers have it.
    UnacknowledgedVisible,
}

impl Plant {
    /// All of them, in a fixed order.
    pub const ALL: [Plant; 15] = [
        Plant::GateAlwaysOpen,
        Plant::QuorumOffByOne,
        Plant::VoteNotPersisted,
        Plant::OlderTermCommittedByCounting,
        Plant::StaleLeaderServesReads,
        Plant::ReadIndexBeforeOwnCommit,
        Plant::LeaseIgnoresPause,
        Plant::AppliedIndexNotStored,
        Plant::SnapshotWithoutLastTerm,
        Plant::TruncatesMatchingEntries,
        Plant::TornTailAccepted,
        Plant::DamageTakenForTornTail,
        Plant::ClocksBeforeInputs,
        Plant::ServesPastLease,
        Plant::UnacknowledgedVisible,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Plant::GateAlwaysOpen => "gate-always-open",
            Plant::QuorumOffByOne => "quorum-off-by-one",
            Plant::VoteNotPersisted => "vote-not-persisted",
            Plant::OlderTermCommittedByCounting => "older-term-committed-by-counting",
            Plant::StaleLeaderServesReads => "stale-leader-serves-reads",
            Plant::ReadIndexBeforeOwnCommit => "read-index-before-own-commit",
            Plant::LeaseIgnoresPause => "lease-ignores-pause",
            Plant::AppliedIndexNotStored => "applied-index-not-stored",
            Plant::SnapshotWithoutLastTerm => "snapshot-without-last-term",
            Plant::TruncatesMatchingEntries => "truncates-matching-entries",
            Plant::TornTailAccepted => "torn-tail-accepted",
            Plant::DamageTakenForTornTail => "damage-taken-for-torn-tail",
            Plant::ClocksBeforeInputs => "clocks-before-inputs",
            Plant::ServesPastLease => "serves-past-lease",
            Plant::UnacknowledgedVisible => "unacknowledged-visible",
        }
    }
}

#[cfg(feature = "plant")]
static ACTIVE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Whether this bug is switched on. Always `false` without feature `plant`.
#[must_use]
#[inline]
pub fn planted(plant: Plant) -> bool {
    #[cfg(feature = "plant")]
    return ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == plant as u32;
    #[cfg(not(feature = "plant"))]
    {
        let _ = plant;
        false
    }
}

/// Switches one bug on, for the whole process; `None` switches all off.
#[cfg(feature = "plant")]
pub fn switch_on(plant: Option<Plant>) {
    ACTIVE.store(plant.map_or(0, |p| p as u32), core::sync::atomic::Ordering::Relaxed);
}
