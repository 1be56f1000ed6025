//! One coordinator and some participants, each one replica over a vector that plays the log; messages wait until they are delivered.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{GroupId, RequestId};

use crate::two_phase_commit::*;

pub(super) const COORDINATOR: GroupId = GroupId(1);

/// Counters by key: operations are (key, amount), one byte each; an amount of 0 reads.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Sums(pub(super) BTreeMap<u8, u64>);

impl Store for Sums {
    fn admits(&self, operations: &[u8]) -> bool {
        // 255 is not possible.
        operations.chunks(2).all(|operation| operation[1] != 255)
    }

    fn read(&self, operations: &[u8]) -> Bytes {
        operations.chunks(2).map(|operation| self.0.get(&operation[0]).copied().unwrap_or(0) as u8).collect()
    }

    fn apply(&mut self, operations: &Bytes) -> Bytes {
        for operation in operations.chunks(2) {
            *self.0.entry(operation[0]).or_default() += u64::from(operation[1]);
        }
        self.read(operations)
    }
}

#[derive(Default)]
pub(super) struct Effects<R> {
    pub(super) appends: Vec<R>,
    pub(super) sends: Vec<(GroupId, Message)>,
    pub(super) proofs: Vec<(u64, u64)>,
    pub(super) answers: Vec<(RequestId, Outcome)>,
}

impl<R> Effects<R> {
    pub(super) fn new() -> Effects<R> {
        Effects { appends: Vec::new(), sends: Vec::new(), proofs: Vec::new(), answers: Vec::new() }
    }
}

impl<R> Outlet<R> for Effects<R> {
    fn append(&mut self, record: R) {
        self.appends.push(record);
    }

    fn send(&mut self, to: GroupId, message: Message) {
        self.sends.push((to, message));
    }

    fn prove(&mut self, epoch: u64, token: u64) {
        self.proofs.push((epoch, token));
    }

    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        self.answers.push((request, outcome));
    }
}

/// A participant with its data and its log.
pub(super) struct Seat {
    pub(super) participant: Participant,
    pub(super) store: Sums,
    pub(super) log: Vec<ParticipantRecord>,
}

pub(super) struct Stage {
    pub(super) now_ns: u64,
    pub(super) coordinator: Coordinator,
    pub(super) coordinator_log: Vec<CoordinatorRecord>,
    pub(super) seats: BTreeMap<GroupId, Seat>,
    pub(super) flight: VecDeque<(GroupId, GroupId, Message)>,
    pub(super) answers: Vec<(RequestId, Outcome)>,
    /// Groups that nothing reaches.
    pub(super) dead: Vec<GroupId>,
    /// Proofs are not given: somebody else leads.
    pub(super) unproven: bool,
}

impl Stage {
    pub(super) fn new(participants: u64) -> Stage {
        let mut stage = Stage {
            now_ns: 0,
            coordinator: Coordinator::new(
                CoordinatorConfig::new(COORDINATOR),
                CoordinatorTable::default(),
                7,
            ),
            coordinator_log: Vec::new(),
            seats: BTreeMap::new(),
            flight: VecDeque::new(),
            answers: Vec::new(),
            dead: Vec::new(),
            unproven: false,
        };
        for number in 2..2 + participants {
            let group = GroupId(number);
            let participant = participant(config(group));
            stage.seats.insert(group, Seat { participant, store: Sums::default(), log: Vec::new() });
            stage.lead_participant(group, 1);
        }
        stage.lead_coordinator(1);
        stage
    }

    pub(super) fn lead_coordinator(&mut self, epoch: u64) {
        self.coordinate(Input::Lead { epoch });
        assert!(self.coordinator.leads());
    }

    pub(super) fn lead_participant(&mut self, group: GroupId, epoch: u64) {
        self.take_part(group, Input::Lead { epoch });
        assert!(self.seats[&group].participant.leads());
    }

    /// A new replica over the same log.
    pub(super) fn replace_coordinator(&mut self, epoch: u64) {
        let config = CoordinatorConfig::new(COORDINATOR);
        self.coordinator = Coordinator::new(config, CoordinatorTable::default(), epoch);
        for record in self.coordinator_log.clone() {
            let mut out = Effects::new();
            let _: Decision = self.coordinator.handle(Input::Applied(record), self.now_ns, &mut out);
            assert!(out.sends.is_empty() && out.appends.is_empty(), "followers are silent");
        }
        self.lead_coordinator(epoch);
    }

    pub(super) fn replace_participant(&mut self, group: GroupId, epoch: u64) {
        let seat = self.seats.get_mut(&group).unwrap();
        seat.participant = participant(config(group));
        seat.store = Sums::default();
        for record in seat.log.clone() {
            let mut out = Effects::new();
            let input = Input::Applied(record);
            let _: Effect = seat.participant.handle(input, self.now_ns, &mut seat.store, &mut out);
            assert!(out.sends.is_empty() && out.appends.is_empty(), "followers are silent");
        }
        self.lead_participant(group, epoch);
    }

    pub(super) fn coordinate(&mut self, input: Input<CoordinatorRecord>) {
        let mut out = Effects::new();
        let _: Decision = self.coordinator.handle(input, self.now_ns, &mut out);
        self.coordinator_did(out);
    }

    pub(super) fn begin(&mut self, request: u64, parts: &[(u64, &[u8])]) {
        let mut out = Effects::new();
        let parts = parts.iter().map(|(group, operations)| part(*group, operations)).collect();
        self.coordinator.begin(RequestId(request), parts, self.now_ns, &mut out);
        self.coordinator_did(out);
    }

    fn coordinator_did(&mut self, out: Effects<CoordinatorRecord>) {
        self.coordinator.assert_invariants();
        self.flight.extend(out.sends.into_iter().map(|(to, message)| (COORDINATOR, to, message)));
        self.answers.extend(out.answers);
        for record in out.appends {
            self.coordinator_log.push(record.clone());
            self.coordinate(Input::Applied(record));
        }
    }

    pub(super) fn take_part(&mut self, group: GroupId, input: Input<ParticipantRecord>) {
        let seat = self.seats.get_mut(&group).unwrap();
        let mut out = Effects::new();
        let _: Effect = seat.participant.handle(input, self.now_ns, &mut seat.store, &mut out);
        seat.participant.assert_invariants();
        self.flight.extend(out.sends.into_iter().map(|(to, message)| (group, to, message)));
        for record in out.appends {
            self.seats.get_mut(&group).unwrap().log.push(record.clone());
            self.take_part(group, Input::Applied(record));
        }
        if !self.unproven {
            for (epoch, token) in out.proofs {
                self.take_part(group, Input::Proven { epoch, token });
            }
        }
    }

    pub(super) fn deliver_one(&mut self) -> bool {
        let Some((from, to, message)) = self.flight.pop_front() else { return false };
        self.say(from, to, message);
        true
    }

    pub(super) fn say(&mut self, from: GroupId, to: GroupId, message: Message) {
        if self.dead.contains(&to) || self.dead.contains(&from) {
            return;
        }
        match to {
            COORDINATOR => self.coordinate(Input::Message { from, message }),
            to => self.take_part(to, Input::Message { from, message }),
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.deliver_one() {
                return;
            }
        }
        panic!("messages feed themselves");
    }

    /// Time goes on in steps of 10 ms; all is delivered.
    pub(super) fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.now_ns += 10_000_000;
            if !self.dead.contains(&COORDINATOR) {
                self.coordinate(Input::Tick);
            }
            let groups: Vec<GroupId> = self.seats.keys().copied().collect();
            for group in groups.into_iter().filter(|group| !self.dead.contains(group)).collect::<Vec<_>>() {
                self.take_part(group, Input::Tick);
            }
            self.settle();
        }
    }

    pub(super) fn sum(&self, group: u64, key: u8) -> u64 {
        self.seats[&GroupId(group)].store.0.get(&key).copied().unwrap_or(0)
    }

    pub(super) fn outcome(&self, request: u64) -> Option<&Outcome> {
        self.answers.iter().find(|(id, _)| *id == RequestId(request)).map(|(_, outcome)| outcome)
    }

    pub(super) fn committed(&self, request: u64) -> bool {
        matches!(self.outcome(request), Some(Outcome::Committed { .. }))
    }

    pub(super) fn in_doubt(&self, group: u64) -> Vec<InDoubt> {
        self.seats[&GroupId(group)].participant.in_doubt(self.now_ns).collect()
    }
}

/// With a short memory.
pub(super) fn config(group: GroupId) -> ParticipantConfig {
    ParticipantConfig { max_finished: 8, ..ParticipantConfig::new(group) }
}

pub(super) fn participant(config: ParticipantConfig) -> Participant {
    let table = ParticipantTable::new(config.table_limits());
    Participant::new(config, table)
}

pub(super) fn part(group: u64, operations: &[u8]) -> Part {
    let lock = |operation: &[u8]| Lock {
        key: Bytes::copy_from_slice(&operation[..1]),
        mode: if operation[1] == 0 { Mode::Shared } else { Mode::Exclusive },
    };
    let work = Work {
        locks: operations.chunks(2).map(lock).collect(),
        operations: Bytes::copy_from_slice(operations),
    };
    Part { participant: GroupId(group), work }
}
