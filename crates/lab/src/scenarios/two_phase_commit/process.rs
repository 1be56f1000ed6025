//! One machine: the logs that are kept here, and the replicas that live here.

use std::collections::{BTreeMap, VecDeque};

use keypact_coordination::two_phase_commit::{InDoubt, Lock, Mode, Outcome, Part, Work};
use keypact_protocol::{Context, GroupId, NodeId, RequestId};
use keypact_simulator::{
    ClientId, Counters, Disk, DiskWork, Effects, Loss, Process, ProcessInput, Random, StartRefused,
    TraceHash, Traffic,
};

use super::ledger::{Fact, Ledger, LedgerConfig};
use super::mail::{Body, Mail};
use super::replica::{AnyRecord, Given, Kept, Machine, Replica, ReplicaConfig};
use super::store::{ListOperation, encode};

/// What a machine is told, in every life.
#[derive(Clone, Debug)]
pub(crate) struct MachineConfig {
    /// Logs that are kept here.
    pub(crate) ledgers: Vec<LedgerConfig>,
    /// Replicas that live here.
    pub(crate) replicas: Vec<ReplicaConfig>,
    /// Where each group's replicas are.
    pub(crate) places: BTreeMap<GroupId, Vec<NodeId>>,
}

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct MachineDisk {
    facts: Vec<(GroupId, Fact)>,
    durable: usize,
    checkpoints: BTreeMap<GroupId, Kept>,
}

impl Disk for MachineDisk {
    fn crash(&mut self, loss: Loss, random: &mut Random) {
        let unsynced = (self.facts.len() - self.durable) as u64;
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Unsynced => 0,
            Loss::Part => random.below(unsynced + 1),
        };
        self.facts.truncate(self.durable + kept as usize);
        self.durable = self.facts.len();
    }
}

/// A client's transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// The client's number for it.
    pub(crate) token: u64,
    /// Which coordinator.
    pub(crate) coordinator: GroupId,
    /// What to do where; each participant once.
    pub(crate) parts: Vec<(GroupId, Vec<ListOperation>)>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// As in the request.
    pub(crate) token: u64,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct MachineProcess {
    id: NodeId,
    places: BTreeMap<GroupId, Vec<NodeId>>,
    ledgers: BTreeMap<GroupId, Ledger>,
    replicas: BTreeMap<GroupId, Replica>,
    requests: BTreeMap<RequestId, (ClientId, u64)>,
    next_request: u64,
    /// Facts that the sync under way covers; `None` if none is.
    syncing: Option<usize>,
    /// What the last step applied.
    applied: Vec<(GroupId, u64, AnyRecord)>,
    deposed: u64,
}

impl MachineProcess {
    /// What the last step applied: group, index, record.
    #[must_use]
    pub(crate) fn applied(&self) -> &[(GroupId, u64, AnyRecord)] {
        &self.applied
    }

    /// A list of a participant's replica that lives here.
    #[must_use]
    pub(crate) fn list(&self, group: GroupId, key: u32) -> &[u64] {
        match self.replicas.get(&group).map(Replica::machine) {
            Some(Machine::Participant(_, store)) => store.list(key),
            _ => &[],
        }
    }

    /// Promises whose outcome is not known to a participant's leader that lives here.
    #[must_use]
    pub(crate) fn in_doubt(&self, group: GroupId, now_ns: u64) -> Vec<InDoubt> {
        match self.replicas.get(&group).map(Replica::machine) {
            Some(Machine::Participant(participant, _)) => participant.in_doubt(now_ns).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the coordinator's leader lives here.
    #[must_use]
    pub(crate) fn coordinates(&self, group: GroupId) -> bool {
        match self.replicas.get(&group).map(Replica::machine) {
            Some(Machine::Coordinator(coordinator)) => coordinator.leads(),
            _ => false,
        }
    }

    fn client(&mut self, client: ClientId, request: Request, now_ns: u64, given: &mut Given) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id, (client, request.token));
        let part = |(participant, operations): (GroupId, Vec<ListOperation>)| {
            let mut locks: Vec<Lock> = Vec::new();
            for operation in &operations {
                let key = bytes::Bytes::copy_from_slice(&operation.key().to_le_bytes());
                let mode = match operation {
                    ListOperation::Read { .. } => Mode::Shared,
                    ListOperation::Append { .. } => Mode::Exclusive,
                };
                match locks.iter_mut().find(|lock| lock.key == key) {
                    Some(lock) => lock.mode = lock.mode.max(mode),
                    None => locks.push(Lock { key, mode }),
                }
            }
            Part { participant, work: Work { locks, operations: encode(&operations) } }
        };
        let parts = request.parts.into_iter().map(part).collect();
        let replica = self.replicas.get_mut(&request.coordinator).expect("clients ask where replicas are");
        replica.begin(id, parts, now_ns, given);
    }

    /// Takes a mail that is for something here.
    fn mail(&mut self, from: NodeId, mail: Mail, now_ns: u64, given: &mut Given) {
        let Mail { group, body } = mail;
        match body {
            Body::Campaign { .. } | Body::Append { .. } | Body::Prove { .. } | Body::Fetch { .. } => {
                if let Some(ledger) = self.ledgers.get_mut(&group) {
                    ledger.hear(from, body, now_ns, &mut given.mail);
                }
            }
            Body::TwoPhase { from, message } => {
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.message(from, message, now_ns, given);
                }
            }
            body => {
                self.deposed += u64::from(matches!(body, Body::Deposed { .. }));
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.hear(body, now_ns, given).expect("the log gives back what was appended");
                }
            }
        }
        self.address(group, given);
    }

    /// Messages of a group's replica here go to all replicas of the other group: whoever leads it will answer.
    fn address(&self, from: GroupId, given: &mut Given) {
        for (to, message) in given.messages.drain(..) {
            for place in self.places.get(&to).into_iter().flatten() {
                let body = Body::TwoPhase { from, message: message.clone() };
                given.mail.push((*place, Mail { group: to, body }));
            }
        }
    }

    /// What was given leaves, what is for this machine itself is taken at once.
    fn carry_out(&mut self, given: &mut Given, now_ns: u64, out: &mut Effects<Self>) {
        let mut here: VecDeque<Mail> = VecDeque::new();
        loop {
            for (to, mail) in given.mail.drain(..) {
                if to == self.id {
                    here.push_back(mail);
                } else {
                    out.send(to, Traffic::Control, mail);
                }
            }
            for (id, outcome) in given.answers.drain(..) {
                let (client, token) = self.requests.remove(&id).expect("a request is answered once");
                out.reply(client, Reply { token, outcome });
            }
            self.applied.append(&mut given.applied);
            let Some(mail) = here.pop_front() else { return };
            self.mail(self.id, mail, now_ns, given);
        }
    }

    fn end_step(&mut self, disk: &mut MachineDisk, now_ns: u64, out: &mut Effects<Self>) {
        let mut given = Given::default();
        let groups: Vec<GroupId> = self.replicas.keys().copied().collect();
        for group in groups {
            let replica = self.replicas.get_mut(&group).expect("it lives here");
            replica.tick(now_ns, &mut given);
            if let Some(kept) = replica.checkpoint() {
                disk.checkpoints.insert(group, kept);
            }
            self.address(group, &mut given);
            self.carry_out(&mut given, now_ns, out);
        }
        if self.syncing.is_none() && self.ledgers.values().any(Ledger::wants_sync) {
            let mut bytes = 0;
            for (group, ledger) in &mut self.ledgers {
                for fact in ledger.sync_begins() {
                    bytes +=
                        if let Fact::Entry { record, .. } = &fact { record.len() as u64 + 16 } else { 16 };
                    disk.facts.push((*group, fact));
                }
            }
            self.syncing = Some(disk.facts.len());
            out.disk(0, DiskWork::LogSync { bytes });
        }
        if let Some(at_ns) = self.replicas.values().map(Replica::next_tick_ns).min() {
            out.wake_at(at_ns.max(now_ns + 1));
        }
    }
}

impl Process for MachineProcess {
    type Config = MachineConfig;
    type Disk = MachineDisk;
    type Message = Mail;
    type Request = Request;
    type Reply = Reply;

    fn start(
        config: &MachineConfig,
        id: NodeId,
        disk: &mut MachineDisk,
        seed: u64,
        context: Context,
        out: &mut Effects<Self>,
    ) -> Result<Self, StartRefused> {
        let now_ns = context.now_ns;
        let ledger = |config: &LedgerConfig| {
            let group = config.group;
            let facts = disk.facts.iter().filter(|(of, _)| *of == group).map(|(_, fact)| fact);
            (group, Ledger::new(config.clone(), facts, now_ns))
        };
        let ledgers: BTreeMap<GroupId, Ledger> = config.ledgers.iter().map(ledger).collect();
        let mut random = Random::new(seed);
        let mut replicas = BTreeMap::new();
        for config in &config.replicas {
            let kept = disk.checkpoints.get(&config.group).cloned();
            let replica = Replica::new(config.clone(), kept, random.bits(), now_ns);
            replicas.insert(config.group, replica.map_err(|why| StartRefused { why })?);
        }
        // Nothing is said before the first input: timers that are due wake it at once.
        out.wake_at(now_ns + 1);
        Ok(MachineProcess {
            id,
            places: config.places.clone(),
            ledgers,
            replicas,
            requests: BTreeMap::new(),
            next_request: 0,
            syncing: None,
            applied: Vec::new(),
            deposed: 0,
        })
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Self>>,
        disk: &mut MachineDisk,
        context: Context,
        out: &mut Effects<Self>,
    ) {
        self.applied.clear();
        let now_ns = context.now_ns;
        let mut given = Given::default();
        for input in batch.drain(..) {
            match input {
                ProcessInput::Peer { from, message } => self.mail(from, message, now_ns, &mut given),
                ProcessInput::Client { client, request } => {
                    let coordinator = request.coordinator;
                    self.client(client, request, now_ns, &mut given);
                    self.address(coordinator, &mut given);
                }
                ProcessInput::DiskDone { ok: false, .. } => {
                    out.stop("a sync failed");
                    return;
                }
                ProcessInput::DiskDone { .. } => {
                    disk.durable = self.syncing.take().expect("a sync was under way");
                    for ledger in self.ledgers.values_mut() {
                        ledger.synced(&mut given.mail);
                    }
                }
                ProcessInput::WakeUp | ProcessInput::Unreachable(_) => {}
            }
            self.carry_out(&mut given, now_ns, out);
        }
        self.end_step(disk, now_ns, out);
    }

    fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        for replica in self.replicas.values() {
            hash.add(replica.applied());
        }
        for ledger in self.ledgers.values() {
            hash.add(ledger.len() as u64);
        }
        hash.value()
    }

    fn count(&self, counters: &mut Counters) {
        counters.add("deposed", self.deposed);
        for replica in self.replicas.values() {
            match replica.machine() {
                Machine::Coordinator(coordinator) => count_coordinator(coordinator.counters(), counters),
                Machine::Participant(participant, _) => count_participant(participant.counters(), counters),
            }
        }
    }
}

fn count_coordinator(
    of: keypact_coordination::two_phase_commit::CoordinatorCounters,
    counters: &mut Counters,
) {
    counters.add("begun", of.begun);
    counters.add("one-phase", of.one_phase);
    counters.add("committed", of.committed);
    counters.add("committed-read-only", of.read_only);
    counters.add("attempt-aborted", of.aborted);
    counters.add("retried", of.retried);
    counters.add("not-applied", of.not_applied);
    counters.add("uncertain", of.uncertain);
    counters.add("read-lock-not-held", of.not_held);
    counters.add("votes-timed-out", of.timed_out);
    counters.add("commit-taken-over", of.taken_over);
    counters.add("presumed-aborted", of.presumed_aborted);
    counters.add("told-committed", of.told_committed);
}

fn count_participant(
    of: keypact_coordination::two_phase_commit::ParticipantCounters,
    counters: &mut Counters,
) {
    counters.add("prepared", of.prepared);
    counters.add("voted-read-only", of.read_only);
    counters.add("refused-locked", of.locked);
    counters.add("refused-otherwise", of.refused);
    counters.add("stale-message", of.stale);
    counters.add("inquired", of.inquiries);
    counters.add("told-by-peer", of.told_by_peer);
    counters.add("participant-aborted", of.aborted);
    counters.add("ran-once", of.ran_once);
    counters.add("read-lock-expired", of.reads_expired);
    counters.add("read-lock-revived", of.revived);
}
