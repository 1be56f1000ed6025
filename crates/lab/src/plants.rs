//! Planted bugs: known mistakes, each with the scenario in which it must be caught.

use keypact_protocol::Plant;

/// Whether this build has the planted bugs in it (feature `plant`).
pub const PLANTS_BUILT_IN: bool = cfg!(feature = "plant");

/// One planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlantInfo {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong with it, one line.
    pub about: &'static str,
    /// The scenario that is run if none is named.
    pub scenario: &'static str,
    pub(crate) plant: Plant,
}

const fn info(plant: Plant, name: &'static str, scenario: &'static str, about: &'static str) -> PlantInfo {
    PlantInfo { name, about, scenario, plant }
}

/// All of them; each one's name is its [`Plant::name`].
static PLANTS: [PlantInfo; Plant::ALL.len()] = [
    info(
        Plant::GateAlwaysOpen,
        "gate-always-open",
        "raft",
        "messages and answers leave before the disk has what they say",
    ),
    info(Plant::QuorumOffByOne, "quorum-off-by-one", "raft", "a majority is one vote too small"),
    info(Plant::VoteNotPersisted, "vote-not-persisted", "raft", "a vote is granted but not written down"),
    info(
        Plant::OlderTermCommittedByCounting,
        "older-term-committed-by-counting",
        "raft",
        "a leader commits an older term's entry by counting copies",
    ),
    info(
        Plant::StaleLeaderServesReads,
        "stale-leader-serves-reads",
        "raft",
        "a leader answers reads without asking whether it still leads",
    ),
    info(
        Plant::ReadIndexBeforeOwnCommit,
        "read-index-before-own-commit",
        "raft",
        "a leader answers reads before it has committed in its own term",
    ),
    info(
        Plant::LeaseIgnoresPause,
        "lease-ignores-pause",
        "raft",
        "a lease holds however long the leader stood still",
    ),
    info(
        Plant::AppliedIndexNotStored,
        "applied-index-not-stored",
        "raft",
        "a checkpoint says an older applied index than its data has",
    ),
    info(
        Plant::SnapshotWithoutLastTerm,
        "snapshot-without-last-term",
        "raft",
        "a snapshot does not say the term of its last entry",
    ),
    info(
        Plant::TruncatesMatchingEntries,
        "truncates-matching-entries",
        "raft",
        "an old append cuts off entries that it does not contradict",
    ),
    info(
        Plant::TornTailAccepted,
        "torn-tail-accepted",
        "node",
        "a half-written record at the end of the log is taken for a whole one",
    ),
    info(
        Plant::DamageTakenForTornTail,
        "damage-taken-for-torn-tail",
        "node",
        "damage in the middle of the log is cut off like a torn tail",
    ),
    info(
        Plant::ClocksBeforeInputs,
        "clocks-before-inputs",
        "raft",
        "clocks are sampled before the inputs are collected",
    ),
    info(
        Plant::ServesPastLease,
        "serves-past-lease",
        "leader-follower",
        "a leader serves past the end of its lease",
    ),
    info(
        Plant::UnacknowledgedVisible,
        "unacknowledged-visible",
        "leader-follower",
        "data is visible before enough followers have it",
    ),
];

/// All planted bugs, whether or not this build has them in it. A build without them can list, but not run them.
#[must_use]
pub fn plants() -> &'static [PlantInfo] {
    &PLANTS
}

/// Switches a bug on until it is dropped. One at a time in a process: whoever runs several, runs them one after the other.
#[derive(Debug)]
pub(crate) struct Switched;

impl Switched {
    pub(crate) fn on(plant: &PlantInfo) -> Switched {
        #[cfg(feature = "plant")]
        keypact_protocol::switch_on(Some(plant.plant));
        let _ = plant.plant;
        Switched
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        #[cfg(feature = "plant")]
        keypact_protocol::switch_on(None);
    }
}

#[cfg(test)]
mod tests {
    use super::{Plant, plants};

    #[test]
    fn every_plant_is_listed_under_its_own_name() {
        for (info, plant) in plants().iter().zip(Plant::ALL) {
            assert_eq!((info.name, info.plant), (plant.name(), plant));
        }
    }
}
