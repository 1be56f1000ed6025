//! Interaction scripts of two-phase commit: `interaction/two-phase-commit/*.txt`. One coordinator, `c1`, and participants `p2`, `p3` .., each one replica
//! at a time over a log that takes what was appended when it is told `durable`.
//!
//! | command | meaning |
//! |---|---|
//! | `participants N` | begins: the coordinator and N participants lead epoch 1 |
//! | `begin r1 p2:x+5 p2:y p3:x` | a client's transaction: appends 5 to x, reads y .. |
//! | `deliver [c1>p2 ..]` | delivers what is in flight (on these links), not what that gives rise to |
//! | `drop c1>p2`, `copy c1>p2`, `late` | loses; keeps a copy; delivers the copies |
//! | `durable c1 ..` | the log has what was appended |
//! | `prove p3` | the log says that p3 still leads |
//! | `settle` | delivers, logs and proves until all is quiet |
//! | `tick 200ms [p2 ..]` | time goes on by steps of 10 ms; nothing else does; only these notice |
//! | `crash c1`, `lead c1` | the replica is gone, with what was not durable; a new one leads the next epoch |
//! | `resolve p2 commit\|abort` | a person decides what is in doubt there |
//! | `state` | who is in doubt, what is locked, what the lists are |

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keypact_coordination::two_phase_commit::*;
use keypact_protocol::{GroupId, RequestId};
use keypact_simulator::script::{replay_lines, run_files};

/// Lists of numbers by a letter; an operation is (key, number), 0 reads.
#[derive(Clone, Default)]
struct Lists(BTreeMap<u8, Vec<u8>>);

impl Store for Lists {
    fn admits(&self, operations: &[u8]) -> bool {
        operations.chunks(2).all(|operation| operation[1] < 200)
    }

    fn read(&self, operations: &[u8]) -> Bytes {
        let list = |operation: &[u8]| self.0.get(&operation[0]).cloned().unwrap_or_default();
        operations.chunks(2).filter(|operation| operation[1] == 0).flat_map(list).collect()
    }

    fn apply(&mut self, operations: &Bytes) -> Bytes {
        for operation in operations.chunks(2).filter(|operation| operation[1] > 0) {
            self.0.entry(operation[0]).or_default().push(operation[1]);
        }
        self.read(operations)
    }
}

struct Effects<R> {
    appends: Vec<R>,
    sends: Vec<(GroupId, Message)>,
    proofs: Vec<(u64, u64)>,
    answers: Vec<(RequestId, Outcome)>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
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

struct Log<R> {
    durable: Vec<R>,
    pending: VecDeque<R>,
    epoch: u64,
}

impl<R> Default for Log<R> {
    fn default() -> Self {
        Log { durable: Vec::new(), pending: VecDeque::new(), epoch: 0 }
    }
}

struct Seat {
    participant: Participant,
    lists: Lists,
    log: Log<ParticipantRecord>,
    proofs: Vec<(u64, u64)>,
}

const C1: GroupId = GroupId(1);

#[derive(Default)]
struct Stage {
    now_ns: u64,
    coordinator: Option<Coordinator>,
    coordinator_log: Log<CoordinatorRecord>,
    seats: BTreeMap<GroupId, Seat>,
    dead: Vec<GroupId>,
    flight: VecDeque<(GroupId, GroupId, Message)>,
    copies: Vec<(GroupId, GroupId, Message)>,
    lines: Vec<String>,
}

fn name(group: GroupId) -> String {
    if group == C1 { "c1".into() } else { format!("p{}", group.0) }
}

fn attempt_name(attempt: Attempt) -> String {
    format!("T{}.{}#{}", attempt.transaction.epoch, attempt.transaction.number, attempt.number)
}

fn say(message: &Message) -> String {
    let what = match &message.body {
        Body::Prepare { .. } => "Prepare".into(),
        Body::Once { .. } => "Once".into(),
        Body::Vote { vote: Vote::Yes, .. } => "Vote Yes".into(),
        Body::Vote { epoch, vote: Vote::ReadOnly { answer, serial } } => {
            format!("Vote ReadOnly {:?}, lock {epoch}.{serial}", &answer[..])
        }
        Body::Vote { vote: Vote::No { why }, .. } => format!("Vote No: {why:?}"),
        Body::Confirm { epoch, serial } => format!("Confirm lock {epoch}.{serial}"),
        Body::Confirmed { held, .. } => format!("Confirmed held={held}"),
        Body::Applied { answer } => format!("Applied {:?}", answer.as_ref().map(|answer| answer.to_vec())),
        Body::Outcome { commit } => format!("Outcome {}", if *commit { "commit" } else { "abort" }),
        other => format!("{other:?}"),
    };
    format!("{} {what}", attempt_name(message.attempt))
}

impl Stage {
    fn coordinator_did(&mut self, out: Effects<CoordinatorRecord>) {
        for record in out.appends {
            let what = match &record.body {
                CoordinatorBody::Lead => format!("Lead epoch {}", record.epoch),
                CoordinatorBody::Commit { attempt, .. } => format!("Commit {}", attempt_name(*attempt)),
                CoordinatorBody::End { transaction } => {
                    format!("End T{}.{}", transaction.epoch, transaction.number)
                }
            };
            self.lines.push(format!("c1 append {what}"));
            self.coordinator_log.pending.push_back(record);
        }
        self.sent(C1, out.sends);
        for (request, outcome) in out.answers {
            let text = match outcome {
                Outcome::Committed { answers } => {
                    let answers: Vec<_> = answers
                        .iter()
                        .map(|a| a.as_ref().map_or("?".into(), |a| format!("{:?}", &a[..])))
                        .collect();
                    format!("committed {}", answers.join(" "))
                }
                Outcome::NotApplied { why: Why::Refused { participant, why } } => {
                    format!("not applied, {} says {why:?}", name(participant))
                }
                Outcome::NotApplied { why } => format!("not applied: {why:?}"),
                Outcome::Uncertain => "uncertain".into(),
                Outcome::ByHand { participants } => {
                    let names: Vec<String> = participants.into_iter().map(name).collect();
                    format!("torn by hand at {}", names.join(" "))
                }
            };
            self.lines.push(format!("{request}: {text}"));
        }
    }

    fn participant_did(&mut self, group: GroupId, out: Effects<ParticipantRecord>) {
        for record in out.appends {
            let what = match &record.body {
                ParticipantBody::Lead => format!("Lead epoch {}", record.epoch),
                ParticipantBody::Prepare { attempt, .. } => format!("Prepare {}", attempt_name(*attempt)),
                ParticipantBody::Finish { attempt, commit, by_hand } => format!(
                    "Finish {} {}{}",
                    attempt_name(*attempt),
                    if *commit { "commit" } else { "abort" },
                    if *by_hand { " by hand" } else { "" }
                ),
                ParticipantBody::Once { attempt, .. } => format!("Once {}", attempt_name(*attempt)),
                ParticipantBody::Refuse { attempt } => format!("Refuse {}", attempt_name(*attempt)),
            };
            self.lines.push(format!("{} append {what}", name(group)));
            self.seats.get_mut(&group).expect("it is there").log.pending.push_back(record);
        }
        self.sent(group, out.sends);
        self.seats.get_mut(&group).expect("it is there").proofs.extend(out.proofs);
    }

    fn sent(&mut self, from: GroupId, sends: Vec<(GroupId, Message)>) {
        for (to, message) in sends {
            self.lines.push(format!("{} > {}  {}", name(from), name(to), say(&message)));
            self.flight.push_back((from, to, message));
        }
    }

    fn coordinate(&mut self, input: Input<CoordinatorRecord>) {
        let mut out = Effects::default();
        let Some(coordinator) = &mut self.coordinator else { return };
        let _: Decision = coordinator.handle(input, self.now_ns, &mut out);
        coordinator.assert_invariants();
        self.coordinator_did(out);
    }

    fn take_part(&mut self, group: GroupId, input: Input<ParticipantRecord>) {
        let mut out = Effects::default();
        let seat = self.seats.get_mut(&group).expect("it is there");
        let _: Effect = seat.participant.handle(input, self.now_ns, &mut seat.lists, &mut out);
        seat.participant.assert_invariants();
        self.participant_did(group, out);
    }

    fn deliver(&mut self, from: GroupId, to: GroupId, message: Message) {
        if self.dead.contains(&to) {
            self.lines.push(format!("{} is gone: {}", name(to), say(&message)));
        } else if to == C1 {
            self.coordinate(Input::Message { from, message });
        } else {
            self.take_part(to, Input::Message { from, message });
        }
    }

    fn durable(&mut self, group: GroupId) {
        if group == C1 {
            while let Some(record) = self.coordinator_log.pending.pop_front() {
                self.coordinator_log.durable.push(record.clone());
                self.coordinate(Input::Applied(record));
            }
            return;
        }
        while let Some(record) = self.seats.get_mut(&group).expect("it is there").log.pending.pop_front() {
            self.seats.get_mut(&group).expect("it is there").log.durable.push(record.clone());
            self.take_part(group, Input::Applied(record));
        }
    }

    fn prove(&mut self, group: GroupId) {
        for (epoch, token) in std::mem::take(&mut self.seats.get_mut(&group).expect("it is there").proofs) {
            self.take_part(group, Input::Proven { epoch, token });
        }
    }

    fn lead(&mut self, group: GroupId) {
        self.dead.retain(|dead| *dead != group);
        if group == C1 {
            let mut config = CoordinatorConfig::new(C1);
            (config.max_attempts, config.backoff_ms) = (3, 10);
            let epoch = self.coordinator_log.epoch + 1;
            self.coordinator_log.epoch = epoch;
            self.coordinator = Some(Coordinator::new(config, CoordinatorTable::default(), epoch));
            for record in self.coordinator_log.durable.clone() {
                self.coordinate(Input::Applied(record));
            }
            self.coordinate(Input::Lead { epoch });
        } else {
            let mut log = self.seats.remove(&group).map_or_else(Log::default, |seat| seat.log);
            log.epoch += 1;
            let (epoch, durable) = (log.epoch, log.durable.clone());
            let config = ParticipantConfig { max_finished: 16, ..ParticipantConfig::new(group) };
            let table = ParticipantTable::new(config.table_limits());
            let participant = Participant::new(config, table);
            self.seats.insert(group, Seat { participant, lists: Lists::default(), log, proofs: Vec::new() });
            for record in durable {
                self.take_part(group, Input::Applied(record));
            }
            self.take_part(group, Input::Lead { epoch });
        }
        self.durable(group);
    }

    fn groups(&self) -> Vec<GroupId> {
        let seats = self.seats.keys().copied();
        std::iter::once(C1).chain(seats).filter(|group| !self.dead.contains(group)).collect()
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            let before = self.lines.len();
            for (from, to, message) in std::mem::take(&mut self.flight) {
                self.deliver(from, to, message);
            }
            for group in self.groups() {
                self.durable(group);
                if group != C1 {
                    self.prove(group);
                }
            }
            if self.lines.len() == before && self.flight.is_empty() {
                return;
            }
        }
        panic!("it never gets quiet");
    }

    fn take(&mut self, link: &str) -> Result<Vec<(GroupId, GroupId, Message)>, String> {
        let (from, to) = link.split_once('>').ok_or_else(|| format!("`{link}` is no link"))?;
        let (from, to) = (group(from)?, group(to)?);
        let on_link = |(f, t, _): &(GroupId, GroupId, Message)| *f == from && *t == to;
        let (taken, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flight).into_iter().partition(on_link);
        self.flight = rest.into();
        if taken.is_empty() { Err(format!("nothing is in flight on {link}")) } else { Ok(taken) }
    }

    fn state(&mut self) {
        for (group, seat) in &self.seats {
            if self.dead.contains(group) {
                self.lines.push(format!("{}: gone", name(*group)));
                continue;
            }
            let doubts: Vec<String> = seat
                .participant
                .in_doubt(self.now_ns)
                .map(|doubt| {
                    format!("{} for {} ms", attempt_name(doubt.attempt), doubt.waited_ns / 1_000_000)
                })
                .collect();
            let doubt =
                if doubts.is_empty() { String::new() } else { format!(", in doubt {}", doubts.join(", ")) };
            let lists: Vec<String> =
                seat.lists.0.iter().map(|(key, list)| format!("{}={list:?}", char::from(*key))).collect();
            let locked = seat.participant.locked_keys();
            self.lines.push(format!("{}: {locked} locked{doubt}; {}", name(*group), lists.join(" ")));
        }
    }

    fn begin(&mut self, words: &[&str]) -> Result<(), String> {
        let (request, operations) = words.split_first().ok_or("which request?")?;
        let id = request.strip_prefix('r').and_then(|id| id.parse().ok()).ok_or("requests are r1, r2 ..")?;
        let mut parts: Vec<Part> = Vec::new();
        for word in operations {
            let (participant, operation) = word.split_once(':').ok_or("p2:x+5 or p2:x")?;
            let (key, number) = operation.split_once('+').unwrap_or((operation, "0"));
            let number: u8 = number.parse().map_err(|_| "a number up to 255")?;
            let mode = if number == 0 { Mode::Shared } else { Mode::Exclusive };
            let lock = Lock { key: Bytes::copy_from_slice(key.as_bytes()), mode };
            let bytes = [key.as_bytes()[0], number];
            let participant = group(participant)?;
            match parts.iter_mut().find(|part| part.participant == participant) {
                Some(part) => {
                    part.work.locks.push(lock);
                    part.work.operations = [&part.work.operations[..], &bytes].concat().into();
                }
                None => {
                    let work = Work { locks: vec![lock], operations: Bytes::copy_from_slice(&bytes) };
                    parts.push(Part { participant, work });
                }
            }
        }
        let mut out = Effects::default();
        let coordinator = self.coordinator.as_mut().ok_or("nobody coordinates")?;
        coordinator.begin(RequestId(id), parts, self.now_ns, &mut out);
        self.coordinator_did(out);
        Ok(())
    }

    fn run(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().expect("a line has words");
        match (*command, rest) {
            ("participants", [count]) => {
                let count: u64 = count.parse().map_err(|_| "how many?")?;
                self.lead(C1);
                (2..2 + count).for_each(|number| self.lead(GroupId(number)));
            }
            ("begin", rest) => self.begin(rest)?,
            ("deliver", []) => {
                for (from, to, message) in std::mem::take(&mut self.flight) {
                    self.deliver(from, to, message);
                }
            }
            ("deliver", links) => {
                for link in links {
                    for (from, to, message) in self.take(link)? {
                        self.deliver(from, to, message);
                    }
                }
            }
            ("drop", [link]) => drop(self.take(link)?),
            ("copy", [link]) => {
                let taken = self.take(link)?;
                self.copies.extend(taken.iter().cloned());
                self.flight.extend(taken);
            }
            ("late", []) => {
                for (from, to, message) in std::mem::take(&mut self.copies) {
                    self.deliver(from, to, message);
                }
            }
            ("durable", groups) => {
                for each in groups {
                    self.durable(group(each)?);
                }
            }
            ("prove", [each]) => self.prove(group(each)?),
            ("settle", []) => self.settle(),
            ("tick", [time, only @ ..]) => {
                let only = only.iter().map(|name| group(name)).collect::<Result<Vec<_>, _>>()?;
                let ms = time.strip_suffix("ms").and_then(|ms| ms.parse::<u64>().ok()).ok_or("200ms")?;
                for _ in 0..ms / 10 {
                    self.now_ns += 10_000_000;
                    for group in self.groups() {
                        if !only.is_empty() && !only.contains(&group) {
                            continue;
                        }
                        if group == C1 {
                            self.coordinate(Input::Tick)
                        } else {
                            self.take_part(group, Input::Tick)
                        }
                    }
                }
            }
            ("crash", [each]) => {
                let group = group(each)?;
                self.dead.push(group);
                if group == C1 {
                    self.coordinator = None;
                    self.coordinator_log.pending.clear();
                } else {
                    self.seats.get_mut(&group).expect("it is there").log.pending.clear();
                }
            }
            ("lead", [each]) => self.lead(group(each)?),
            ("resolve", [each, how @ ("commit" | "abort")]) => {
                let group = group(each)?;
                let seat = self.seats.get_mut(&group).ok_or("no such participant")?;
                let doubt = seat.participant.in_doubt(self.now_ns).next().ok_or("nothing is in doubt")?;
                let mut out = Effects::default();
                let transaction = doubt.attempt.transaction;
                seat.participant
                    .resolve(transaction, *how == "commit", &mut out)
                    .map_err(|e| e.to_string())?;
                self.participant_did(group, out);
            }
            ("state", []) => self.state(),
            _ => return Err(format!("what is `{line}`?")),
        }
        Ok(())
    }
}

fn group(text: &str) -> Result<GroupId, String> {
    let number = text.strip_prefix(['c', 'p']).and_then(|number| number.parse().ok());
    number.map(GroupId).ok_or_else(|| format!("`{text}` is no group; c1 and p2 are"))
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/two-phase-commit");
    run_files(folder, |text| {
        let mut stage = Stage::default();
        replay_lines(text, |line, output| {
            let what = stage.run(line);
            output.append(&mut stage.lines);
            what
        })
    });
}
