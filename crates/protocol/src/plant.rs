//! Planted bugs: known mistakes that a build with feature `plant` can switch on, one at a time, to show that the checkers find them.
//!
//! Without the feature [`planted`] is `false` at compile time, and the mistakes are not in the binary.

macro_rules! plants {
    ($(($plant:ident, $name:literal, $scenario:literal, $about:literal),)*) => {
        /// The mistakes that can be planted inside our own code.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Plant {
            $(#[doc = $about] $plant,)*
        }

        impl Plant {
            /// All of them, in a fixed order.
            pub const ALL: &[Plant] = &[$(Plant::$plant),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Plant::$plant => $name,)*
                }
            }

            /// The scenario whose random seeds must catch it.
            #[must_use]
            pub const fn scenario(self) -> &'static str {
                match self {
                    $(Plant::$plant => $scenario,)*
                }
            }

            /// What is wrong with it, one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Plant::$plant => $about,)*
                }
            }
        }
    };
}

plants! {
    // Raft, and what drives it.
    (GateAlwaysOpen, "gate-always-open", "raft", "messages and answers leave before the disk has what they say"),
    (QuorumOffByOne, "quorum-off-by-one", "raft", "a majority is one vote too small"),
    (VoteNotPersisted, "vote-not-persisted", "raft", "a vote is granted but not written down"),
    (OlderTermCommittedByCounting, "older-term-committed-by-counting", "raft", "a leader commits an older term's entry by counting copies"),
    (StaleLeaderServesReads, "stale-leader-serves-reads", "raft", "a leader answers reads without asking whether it still leads"),
    (ReadIndexBeforeOwnCommit, "read-index-before-own-commit", "raft", "a leader answers reads before it has committed in its own term"),
    (LeaseIgnoresPause, "lease-ignores-pause", "raft", "a lease holds however long the leader stood still"),
    (AppliedIndexNotStored, "applied-index-not-stored", "raft", "a checkpoint says an older applied index than its data has"),
    (SnapshotWithoutLastTerm, "snapshot-without-last-term", "raft", "a snapshot does not say the term of its last entry"),
    (LostDiskVotes, "lost-disk-votes", "raft", "a node that lost its disk votes with an empty log, and counts as who it was"),
    (ConfigurationBeforeLogged, "configuration-before-logged", "raft", "the configuration that a change ends with is used before it is in the log"),
    (ChangeBeforeOwnCommit, "change-before-own-commit", "raft", "a leader goes on with a change before it has committed an entry of its own term"),
    (OldMajorityAlone, "old-majority-alone", "raft", "a majority of the old configuration decides alone while members change"),
    (TruncatesMatchingEntries, "truncates-matching-entries", "raft", "an old append cuts off entries that it does not contradict"),
    // Storage.
    (TornTailAccepted, "torn-tail-accepted", "node", "a half-written record at the end of the log is taken for a whole one"),
    (DamageTakenForTornTail, "damage-taken-for-torn-tail", "node", "damage in the middle of the log is cut off like a torn tail"),
    // Members of the whole cluster.
    (LostFolderFounds, "lost-folder-founds", "node", "a node that lost its folder comes back as the founder that it was, in its first life"),
    // Time.
    (StampsUnbounded, "stamps-unbounded", "node", "a leader stamps entries by its own wall clock, however far that is off"),
    (ClocksBeforeInputs, "clocks-before-inputs", "raft", "clocks are sampled before the inputs are collected"),
    // Leader-follower.
    (ServesPastLease, "serves-past-lease", "leader-follower", "a leader serves past the end of its lease"),
    (UnacknowledgedVisible, "unacknowledged-visible", "leader-follower", "data is visible before enough followers have it"),
    (DivergentTailKept, "divergent-tail-kept", "leader-follower", "a follower keeps its own entries where the leader has others"),
    (TailCutUnreported, "tail-cut-unreported", "leader-follower", "a follower cuts off its own entries before the catalog knows of them"),
    (PromotesUnsealed, "promotes-unsealed", "leader-follower", "the next member is promoted without asking where the logs end"),
    (LeaderRestartsInEpoch, "leader-restarts-in-epoch", "leader-follower", "a leader that was restarted leads its epoch again"),
    // Chain.
    (ChainTailAcknowledgesEarly, "chain-tail-acknowledges-early", "chain", "the tail commits before its own disk has the entry"),
    (ChainStaleEpoch, "chain-stale-epoch", "chain", "messages and layouts of an older epoch are taken"),
    (ChainSpliceWithoutResend, "chain-splice-without-resend", "chain", "a new neighbour is sent only what is new, not what it lacks"),
    (ChainDirtyRead, "chain-dirty-read", "chain", "a member answers reads of keys with unapplied entries without asking the tail"),
    (LastServerDropped, "last-server-dropped", "chain", "the last member to serve is forgotten: whoever comes first begins again"),
    // Gossip.
    (GossipContextDroppedEarly, "gossip-context-dropped-early", "gossip", "a retired replica's events are forgotten before all members know what became of them"),
    (GossipDeltaWithoutContext, "gossip-delta-without-context", "gossip", "a delta for who was away does not say what was removed"),
    (GossipIdentityReused, "gossip-identity-reused", "gossip", "a replica that lost its disk counts on under the identity that it had"),
    (GossipDrainedUncovered, "gossip-drained-uncovered", "gossip", "a replica that drains leaves before others have what it has"),
    // Partitioning.
    (SplitPointInBothHalves, "split-point-in-both-halves", "range", "a slice that is split keeps the split point, which the other half has, too"),
    (RangeAnsweredInPart, "range-answered-in-part", "range", "a node answers a range query with what it has, if it has the beginning"),
    (GiverServesOn, "giver-serves-on", "range", "a node goes on serving a slice that it is giving away"),
    (TagToLastBrace, "tag-to-last-brace", "hash", "a hash tag goes to the last closing brace instead of the first"),
    (PlanMovesAKeyTwice, "plan-moves-a-key-twice", "hash", "a plan takes a slice to its new owner by way of a third node"),
    (ResumedPlanBeginsAnew, "resumed-plan-begins-anew", "hash", "a plan that is taken up again after a crash begins with its first step"),
    (ReplicaSetOnOneHost, "replica-set-on-one-host", "ring", "a preference list takes several nodes of one host"),
    (TokensDependOnCount, "tokens-depend-on-count", "ring", "where a node's tokens fall depends on how many nodes there are"),
    (RingDoesNotWrap, "ring-does-not-wrap", "ring", "what lies behind the last token belongs to it, instead of the first"),
    // Two-phase commit.
    (DecisionNotLogged, "decision-not-logged", "two-phase-commit", "a coordinator tells a commit that is not in its log"),
    (LateCommitAccepted, "late-commit-accepted", "two-phase-commit", "a late commit of an attempt that is over is carried out"),
    (LocksFreedOnTimeout, "locks-freed-on-timeout", "two-phase-commit", "a participant in doubt gives up by itself and frees its locks"),
    (ReadLockReleasedAtVote, "read-lock-released-at-vote", "two-phase-commit", "who only reads lets its locks go when it votes"),
    (PreparedDataReadable, "prepared-data-readable", "two-phase-commit", "keys that are promised to a transaction in doubt can be read"),
    // Conflict-free types.
    (RemoveWithoutContext, "remove-without-context", "crdt", "a removal does not tell the others what it has seen"),
    (ReplicaIdReused, "replica-id-reused", "crdt", "a replica that lost its disk goes on under its old identity"),
    (ClockGoesBackwards, "clock-goes-backwards", "crdt", "a register's stamps follow the wall clock when it goes back"),
    (CounterMergeAdds, "counter-merge-adds", "crdt", "merging counters adds up what each replica has counted"),
    // Message orders.
    (GapSkipped, "gap-skipped", "fifo", "a message is delivered though an earlier one of its stream is missing"),
    (DuplicateDelivered, "duplicate-delivered", "fifo", "a message that comes twice is delivered twice"),
    (SequenceRestarts, "sequence-restarts", "fifo", "after a crash a sender counts its messages from 1 again"),
    (ForgottenTooEarly, "forgotten-too-early", "fifo", "a message is forgotten once one other member has it"),
    (CausalCheckSkipped, "causal-check-skipped", "causal", "a message is delivered before what it comes after"),
    (DroppedCountsAsDelivered, "dropped-counts-as-delivered", "causal", "a message that did not fit into the buffer counts as delivered"),
    (TwoSequencers, "two-sequencers", "total", "the catalog gives an epoch to a second sequencer, and members obey both"),
    (SequencerResumes, "sequencer-resumes", "total", "a sequencer goes on in its epoch after a crash, from where its disk is"),
    (DeliversBeforeMajority, "delivers-before-majority", "total", "a message is delivered though one member less than a majority holds it"),
    (OpensWithoutCollecting, "opens-without-collecting", "total", "a new sequencer begins with what it has, and asks nobody"),
    (SubmittedTwiceDelivered, "submitted-twice-delivered", "total", "a message that stands in the log twice is delivered twice"),
    (ContextStale, "context-stale", "causal", "a message's clock lacks the newest message of each other stream"),
}

/// 0: none; else the plant's place in the list, counted from 1.
#[cfg(feature = "plant")]
static ACTIVE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Whether this bug is switched on. Always `false` without feature `plant`.
#[must_use]
#[inline]
pub fn planted(plant: Plant) -> bool {
    #[cfg(feature = "plant")]
    return ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == plant as u32 + 1;
    #[cfg(not(feature = "plant"))]
    {
        let _ = plant;
        false
    }
}

/// Switches one bug on, for the whole process; `None` switches all off.
#[cfg(feature = "plant")]
pub fn switch_on(plant: Option<Plant>) {
    ACTIVE.store(plant.map_or(0, |p| p as u32 + 1), core::sync::atomic::Ordering::Relaxed);
}
