//! One replica of a group on one machine: a coordinator or participant, and its part of the way to the group's log.

use std::collections::VecDeque;

use bytes::Bytes;
use keypact_coordination::two_phase_commit::{
    Coordinator, CoordinatorConfig, CoordinatorRecord, CoordinatorTable, Input, Message, Outcome, Outlet,
    Part, Participant, ParticipantConfig, ParticipantRecord, ParticipantTable,
};
use keypact_protocol::{GroupId, NodeId, RequestId, Wire};
use keypact_simulator::{MILLISECOND_NS, Random};

use super::mail::{Body, Mail};
use super::store::ListStore;

/// What a group is.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// It coordinates.
    Coordinator(CoordinatorConfig),
    /// It takes part, with lists.
    Participant(ParticipantConfig),
}

/// How a replica behaves.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaConfig {
    /// Its group.
    pub(crate) group: GroupId,
    /// Where the group's log is.
    pub(crate) home: NodeId,
    /// What it is.
    pub(crate) role: Role,
    /// How often it asks to lead while it does not.
    pub(crate) campaign_ns: u64,
    /// How often it asks so although another one leads, parts per million.
    pub(crate) forced_ppm: u32,
    /// A checkpoint after so many records.
    pub(crate) checkpoint_every: u64,
}

/// How often a leader tells its log that it is there, and what was not confirmed is sent again.
const HEARTBEAT_NS: u64 = 40 * MILLISECOND_NS;
/// How often a replica asks for what it may have missed.
const FETCH_NS: u64 = 60 * MILLISECOND_NS;
/// Records in one message.
const APPEND_MAX: usize = 64;

/// A record of either kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AnyRecord {
    /// Of a coordinator.
    Coordinator(CoordinatorRecord),
    /// Of a participant.
    Participant(ParticipantRecord),
}

/// The machine itself.
#[derive(Debug)]
pub(crate) enum Machine {
    /// A coordinator.
    Coordinator(Box<Coordinator>),
    /// A participant and its data.
    Participant(Box<Participant>, ListStore),
}

/// What a machine wants, gathered.
#[derive(Debug)]
struct Gathered<R> {
    appends: Vec<R>,
    sends: Vec<(GroupId, Message)>,
    proofs: Vec<(u64, u64)>,
    answers: Vec<(RequestId, Outcome)>,
}

impl<R> Default for Gathered<R> {
    fn default() -> Self {
        Gathered { appends: Vec::new(), sends: Vec::new(), proofs: Vec::new(), answers: Vec::new() }
    }
}

impl<R> Outlet<R> for Gathered<R> {
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

/// What a step of a replica gave rise to.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// To logs, by their machine.
    pub(crate) mail: Vec<(NodeId, Mail)>,
    /// To other groups.
    pub(crate) messages: Vec<(GroupId, Message)>,
    /// To clients.
    pub(crate) answers: Vec<(RequestId, Outcome)>,
    /// What was applied: index and record.
    pub(crate) applied: Vec<(GroupId, u64, AnyRecord)>,
}

/// A checkpoint: applied index, table, data.
pub(crate) type Kept = (u64, Bytes, ListStore);

/// One replica.
#[derive(Debug)]
pub(crate) struct Replica {
    config: ReplicaConfig,
    machine: Machine,
    /// This life's name.
    life: u64,
    random: Random,
    applied: u64,
    checkpointed: u64,
    /// The epoch that the log granted, until it is known to be over.
    epoch: Option<u64>,
    last_elected: u64,
    /// Appended and not confirmed; the first one's number is `base`.
    outbox: VecDeque<Bytes>,
    base: u64,
    campaign_at_ns: u64,
    heartbeat_at_ns: u64,
    fetch_at_ns: u64,
}

impl Replica {
    /// From its checkpoint, if there is one.
    ///
    /// # Errors
    /// The checkpoint can't be read.
    pub(crate) fn new(
        config: ReplicaConfig,
        kept: Option<Kept>,
        seed: u64,
        now_ns: u64,
    ) -> Result<Replica, String> {
        let mut random = Random::new(seed);
        let (applied, table, store) = kept.unwrap_or_default();
        let known = applied > 0;
        let wrong = |error: keypact_protocol::DecodeError| error.to_string();
        let machine = match &config.role {
            Role::Coordinator(coordinator) => {
                let table = if known {
                    CoordinatorTable::decode(table).map_err(wrong)?
                } else {
                    CoordinatorTable::default()
                };
                Machine::Coordinator(Box::new(Coordinator::new(coordinator.clone(), table, random.bits())))
            }
            Role::Participant(participant) => {
                let limits = participant.table_limits();
                let table = if known {
                    ParticipantTable::decode(table, limits).map_err(wrong)?
                } else {
                    ParticipantTable::new(limits)
                };
                Machine::Participant(Box::new(Participant::new(participant.clone(), table)), store)
            }
        };
        let campaign_at_ns = now_ns + random.below(config.campaign_ns + 1);
        Ok(Replica {
            config,
            machine,
            life: seed,
            random,
            applied,
            checkpointed: applied,
            epoch: None,
            last_elected: 0,
            outbox: VecDeque::new(),
            base: 0,
            campaign_at_ns,
            heartbeat_at_ns: now_ns,
            fetch_at_ns: now_ns,
        })
    }

    /// The machine.
    #[must_use]
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Records applied.
    #[must_use]
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// A client asks.
    pub(crate) fn begin(&mut self, request: RequestId, parts: Vec<Part>, now_ns: u64, given: &mut Given) {
        let mut gathered = Gathered::default();
        match &mut self.machine {
            Machine::Coordinator(coordinator) => coordinator.begin(request, parts, now_ns, &mut gathered),
            Machine::Participant(..) => unreachable!("clients ask coordinators"),
        }
        self.give(gathered, now_ns, given, CoordinatorRecord::encode);
    }

    /// Another group says something.
    pub(crate) fn message(&mut self, from: GroupId, message: Message, now_ns: u64, given: &mut Given) {
        match &mut self.machine {
            Machine::Coordinator(_) => self.coordinate(Input::Message { from, message }, now_ns, given),
            Machine::Participant(..) => self.take_part(Input::Message { from, message }, now_ns, given),
        }
    }

    fn coordinate(&mut self, input: Input<CoordinatorRecord>, now_ns: u64, given: &mut Given) {
        let Machine::Coordinator(coordinator) = &mut self.machine else { unreachable!("it coordinates") };
        let mut gathered = Gathered::default();
        let _: keypact_coordination::two_phase_commit::Decision =
            coordinator.handle(input, now_ns, &mut gathered);
        coordinator.assert_invariants();
        self.give(gathered, now_ns, given, CoordinatorRecord::encode);
    }

    fn take_part(&mut self, input: Input<ParticipantRecord>, now_ns: u64, given: &mut Given) {
        let Machine::Participant(participant, store) = &mut self.machine else {
            unreachable!("it takes part")
        };
        let mut gathered = Gathered::default();
        let _: keypact_coordination::two_phase_commit::Effect =
            participant.handle(input, now_ns, store, &mut gathered);
        participant.assert_invariants();
        self.give(gathered, now_ns, given, ParticipantRecord::encode);
    }

    /// The same input to either kind.
    fn both(
        &mut self,
        coordinator: Input<CoordinatorRecord>,
        participant: Input<ParticipantRecord>,
        now_ns: u64,
        given: &mut Given,
    ) {
        match &self.machine {
            Machine::Coordinator(_) => self.coordinate(coordinator, now_ns, given),
            Machine::Participant(..) => self.take_part(participant, now_ns, given),
        }
    }

    fn give<R>(
        &mut self,
        gathered: Gathered<R>,
        now_ns: u64,
        given: &mut Given,
        encode: impl Fn(&R, &mut Vec<u8>),
    ) {
        given.messages.extend(gathered.sends);
        given.answers.extend(gathered.answers);
        let Some(epoch) = self.epoch else {
            // Deposed, and the machine is told; what it still wanted is lost.
            return;
        };
        for (epoch, token) in gathered.proofs {
            self.say(Body::Prove { epoch, token }, given);
        }
        let first_new = self.outbox.len();
        for record in &gathered.appends {
            let mut bytes = Vec::new();
            encode(record, &mut bytes);
            self.outbox.push_back(Bytes::from(bytes));
        }
        if self.outbox.len() > first_new {
            self.heartbeat_at_ns = now_ns + HEARTBEAT_NS;
            let records = self.outbox.iter().skip(first_new).take(APPEND_MAX).cloned().collect();
            self.say(Body::Append { epoch, first: self.base + first_new as u64, records }, given);
        }
    }

    fn say(&self, body: Body, given: &mut Given) {
        given.mail.push((self.config.home, Mail { group: self.config.group, body }));
    }

    /// The group's log says something.
    ///
    /// # Errors
    /// A record that can't be read.
    pub(crate) fn hear(&mut self, body: Body, now_ns: u64, given: &mut Given) -> Result<(), String> {
        match body {
            Body::Elected { epoch, life } if life == self.life && epoch > self.last_elected => {
                self.last_elected = epoch;
                self.epoch = Some(epoch);
                self.outbox.clear();
                self.base = 0;
                self.heartbeat_at_ns = now_ns;
                self.both(Input::Lead { epoch }, Input::Lead { epoch }, now_ns, given);
            }
            Body::Deposed { epoch } if self.epoch.is_some_and(|own| own < epoch) => {
                self.epoch = None;
                self.outbox.clear();
                self.both(Input::Follow, Input::Follow, now_ns, given);
            }
            Body::Wanted { epoch, next } if self.epoch == Some(epoch) => {
                while self.base < next && !self.outbox.is_empty() {
                    self.outbox.pop_front();
                    self.base += 1;
                }
            }
            Body::Proven { epoch, token } if self.epoch == Some(epoch) => {
                self.both(Input::Proven { epoch, token }, Input::Proven { epoch, token }, now_ns, given);
            }
            Body::Entries { first, records } => {
                let known = self.applied.saturating_sub(first) as usize;
                if first > self.applied {
                    self.fetch_at_ns = now_ns;
                    return Ok(());
                }
                let full = records.len() == 64;
                for record in records.into_iter().skip(known) {
                    self.apply(record, now_ns, given)?;
                }
                if full {
                    self.fetch_at_ns = now_ns;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn apply(&mut self, record: Bytes, now_ns: u64, given: &mut Given) -> Result<(), String> {
        let index = self.applied;
        self.applied += 1;
        let any = match &self.machine {
            Machine::Coordinator(_) => {
                let record = CoordinatorRecord::decode(record).map_err(|error| error.to_string())?;
                self.coordinate(Input::Applied(record.clone()), now_ns, given);
                AnyRecord::Coordinator(record)
            }
            Machine::Participant(..) => {
                let record = ParticipantRecord::decode(record).map_err(|error| error.to_string())?;
                self.take_part(Input::Applied(record.clone()), now_ns, given);
                AnyRecord::Participant(record)
            }
        };
        given.applied.push((self.config.group, index, any));
        Ok(())
    }

    /// Due timers.
    pub(crate) fn tick(&mut self, now_ns: u64, given: &mut Given) {
        if self.machine_tick_ns().is_some_and(|at_ns| at_ns <= now_ns) {
            self.both(Input::Tick, Input::Tick, now_ns, given);
        }
        if self.fetch_at_ns <= now_ns {
            self.fetch_at_ns = now_ns + FETCH_NS;
            self.say(Body::Fetch { next: self.applied }, given);
        }
        if let Some(epoch) = self.epoch {
            if self.heartbeat_at_ns <= now_ns {
                self.heartbeat_at_ns = now_ns + HEARTBEAT_NS;
                let records = self.outbox.iter().take(APPEND_MAX).cloned().collect();
                self.say(Body::Append { epoch, first: self.base, records }, given);
            }
        } else if self.campaign_at_ns <= now_ns {
            self.campaign_at_ns =
                now_ns + self.config.campaign_ns / 2 + self.random.below(self.config.campaign_ns);
            let forced = self.random.chance(self.config.forced_ppm);
            self.say(Body::Campaign { forced, life: self.life }, given);
        }
    }

    fn machine_tick_ns(&self) -> Option<u64> {
        match &self.machine {
            Machine::Coordinator(coordinator) => coordinator.next_tick_ns(),
            Machine::Participant(participant, _) => participant.next_tick_ns(),
        }
    }

    /// When it next has something to do.
    #[must_use]
    pub(crate) fn next_tick_ns(&self) -> u64 {
        let log_ns = if self.epoch.is_some() { self.heartbeat_at_ns } else { self.campaign_at_ns };
        log_ns.min(self.fetch_at_ns).min(self.machine_tick_ns().unwrap_or(u64::MAX))
    }

    /// A checkpoint, if one is due.
    pub(crate) fn checkpoint(&mut self) -> Option<Kept> {
        if self.applied < self.checkpointed + self.config.checkpoint_every {
            return None;
        }
        self.checkpointed = self.applied;
        let mut table = Vec::new();
        let store = match &self.machine {
            Machine::Coordinator(coordinator) => {
                coordinator.table().encode(&mut table);
                ListStore::default()
            }
            Machine::Participant(participant, store) => {
                participant.table().encode(&mut table);
                store.clone()
            }
        };
        Some((self.applied, Bytes::from(table), store))
    }
}
