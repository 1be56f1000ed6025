//! The system's invariants: every group's records, each once and in order, applied to a copy of the group's table.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_coordination::two_phase_commit::invariants::{self, TwoPhaseCommitInvariants};
use keypact_coordination::two_phase_commit::{
    CoordinatorTable, Decision, Effect, ParticipantTable, Store, TableLimits,
};
use keypact_protocol::{GroupId, NodeId};
use keypact_simulator::{Counters, Observer, Violation};

use super::process::{MachineDisk, MachineProcess};
use super::replica::AnyRecord;

/// Data that nobody asks.
#[derive(Debug)]
struct NoStore;

impl Store for NoStore {
    fn admits(&self, _operations: &[u8]) -> bool {
        true
    }

    fn read(&self, _operations: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn apply(&mut self, _operations: &Bytes) -> Bytes {
        Bytes::new()
    }
}

#[derive(Debug)]
enum Copy {
    Coordinator(CoordinatorTable),
    Participant(Box<ParticipantTable>),
}

/// Watches all groups.
#[derive(Debug)]
pub(crate) struct TwoPhaseWatch {
    invariants: TwoPhaseCommitInvariants,
    copies: BTreeMap<GroupId, (u64, Copy)>,
    void: u64,
    led: u64,
    refused: u64,
}

impl TwoPhaseWatch {
    /// With participants that remember so much.
    #[must_use]
    pub(crate) fn new(coordinators: &[GroupId], participants: &[(GroupId, TableLimits)]) -> TwoPhaseWatch {
        let coordinators =
            coordinators.iter().map(|group| (*group, (0, Copy::Coordinator(CoordinatorTable::default()))));
        let participants = participants.iter().map(|(group, limits)| {
            (*group, (0, Copy::Participant(Box::new(ParticipantTable::new(*limits)))))
        });
        TwoPhaseWatch {
            invariants: TwoPhaseCommitInvariants::default(),
            copies: coordinators.chain(participants).collect(),
            void: 0,
            led: 0,
            refused: 0,
        }
    }
}

fn told(violation: invariants::Violation) -> Violation {
    Violation { property: violation.property, detail: violation.detail }
}

impl Observer<MachineProcess> for TwoPhaseWatch {
    fn stepped(
        &mut self,
        _now_ns: u64,
        _node: NodeId,
        process: &MachineProcess,
        _disk: &MachineDisk,
    ) -> Result<(), Violation> {
        for (group, index, record) in process.applied() {
            let (next, copy) = self.copies.get_mut(group).expect("all groups are watched");
            if *index < *next {
                continue;
            }
            assert!(*index == *next, "somebody applies each record first");
            *next += 1;
            match (copy, record.clone()) {
                (Copy::Coordinator(table), AnyRecord::Coordinator(record)) => {
                    let decision = table.apply(record);
                    self.void += u64::from(decision == Decision::Void);
                    self.led += u64::from(matches!(decision, Decision::Led { .. }));
                    self.invariants.decided(*group, &decision, table).map_err(told)?;
                }
                (Copy::Participant(table), AnyRecord::Participant(record)) => {
                    let effect = table.apply(record, &mut NoStore);
                    self.void += u64::from(effect == Effect::Void);
                    self.led += u64::from(matches!(effect, Effect::Led { .. }));
                    self.refused += u64::from(matches!(effect, Effect::Refused { .. }));
                    self.invariants.applied(*group, &effect, table).map_err(told)?;
                }
                _ => unreachable!("a group's records are all of one kind"),
            }
        }
        Ok(())
    }

    fn count(&self, counters: &mut Counters) {
        counters.add("leader-changed", self.led);
        counters.add("record-void", self.void);
        counters.add("refusal-logged", self.refused);
        counters.add("attempt-ended", self.invariants.ended_len() as u64);
    }
}
