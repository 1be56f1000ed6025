//! What must hold in single stories; those with several machines and faults are in `interaction/two-phase-commit`.

use bytes::Bytes;
use keypact_protocol::{GroupId, RequestId};

use super::stage::{COORDINATOR, Effects, Stage, config, part, participant};
use crate::two_phase_commit::*;

#[test]
fn all_or_nothing() {
    let mut stage = Stage::new(3);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 7]), (4, &[9, 0])]);
    stage.settle();
    let answers = [[5].as_slice(), &[7], &[0]].map(|answer| Some(Bytes::copy_from_slice(answer)));
    assert_eq!(stage.outcome(1), Some(&Outcome::Committed { answers: answers.to_vec() }));
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 7));
    assert!(stage.coordinator.table().is_empty(), "the end is logged once all have applied");
    stage.begin(2, &[(2, &[1, 5]), (3, &[1, 255])]);
    stage.settle();
    let why = Why::Refused { participant: GroupId(3), why: Refusal::Inadmissible };
    assert_eq!(stage.outcome(2), Some(&Outcome::NotApplied { why }));
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 7));
    assert_eq!(stage.seats[&GroupId(2)].participant.locked_keys(), 0);
}

#[test]
fn one_participant_takes_one_phase_and_a_reader_logs_nothing() {
    let mut stage = Stage::new(2);
    let logged = |stage: &Stage| (stage.coordinator_log.len(), stage.seats[&GroupId(2)].log.len());
    let before = logged(&stage);
    stage.begin(1, &[(2, &[1, 5])]);
    stage.settle();
    assert!(stage.committed(1));
    assert_eq!(
        logged(&stage),
        (before.0, before.1 + 1),
        "one record at the participant, none at the coordinator"
    );
    stage.begin(2, &[(2, &[1, 0]), (3, &[1, 0])]);
    stage.settle();
    assert!(stage.committed(2));
    assert_eq!(logged(&stage), (before.0, before.1 + 1));
}

#[test]
fn a_conflict_is_tried_again_and_gets_through_once_the_lock_is_free() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    // Both are prepared, the coordinator hears of one only: the keys are locked.
    stage.deliver_one();
    stage.deliver_one();
    let held: alloc::vec::Vec<_> = stage.flight.drain(..).collect();
    stage.begin(2, &[(2, &[1, 1])]);
    stage.settle();
    assert_eq!(stage.outcome(2), None, "it waits for its next attempt");
    stage.flight.extend(held);
    stage.settle();
    assert!(stage.committed(1));
    stage.run(100);
    assert!(stage.committed(2));
    assert_eq!(stage.sum(2, 1), 6);
}

#[test]
fn a_stale_copy_of_a_refused_attempt_is_never_run() {
    let mut stage = Stage::new(2);
    stage.dead.push(GroupId(3));
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.settle();
    assert_eq!(stage.in_doubt(2).len(), 1, "it has promised, and waits for g3");
    stage.begin(2, &[(2, &[1, 1])]);
    let late = stage.flight[0].clone();
    stage.run(900);
    assert!(matches!(stage.outcome(2), Some(Outcome::NotApplied { .. })), "attempts are bounded");
    stage.run(10_000);
    assert!(matches!(stage.outcome(1), Some(Outcome::NotApplied { why: Why::TimedOut })));
    // The key is free now; the copy comes to a later leader.
    assert!(stage.in_doubt(2).is_empty());
    stage.replace_participant(GroupId(2), 2);
    stage.say(late.0, late.1, late.2);
    stage.settle();
    assert_eq!(stage.sum(2, 1), 0);
}

#[test]
fn a_dead_coordinator_blocks_until_it_is_replaced() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.deliver_one();
    stage.deliver_one();
    stage.dead.push(COORDINATOR);
    stage.run(60_000);
    assert_eq!(stage.in_doubt(2).len(), 1, "both have promised: nobody can help");
    assert_eq!(stage.in_doubt(3).len(), 1);
    assert!(stage.in_doubt(2)[0].waited_ns >= 59_000_000_000);
    stage.dead.clear();
    stage.replace_coordinator(2);
    stage.run(1_000);
    assert!(stage.in_doubt(2).is_empty() && stage.in_doubt(3).is_empty());
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (0, 0), "what was not logged is aborted");
}

#[test]
fn a_logged_commit_is_finished_by_the_next_leader() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    for _ in 0..4 {
        stage.deliver_one();
    }
    assert_eq!(stage.coordinator.table().len(), 1, "decided");
    stage.flight.clear();
    stage.replace_coordinator(2);
    stage.settle();
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 5));
    assert!(stage.coordinator.table().is_empty());
}

#[test]
fn a_participant_that_knows_finishes_an_orphan() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    for _ in 0..4 {
        stage.deliver_one();
    }
    // Only g2 hears of the commit.
    stage.deliver_one();
    stage.flight.clear();
    stage.dead.push(COORDINATOR);
    stage.run(1_000);
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 5));
    assert_eq!(stage.seats[&GroupId(3)].participant.counters().told_by_peer, 1);
}

#[test]
fn a_writer_that_never_promised_says_so_for_good() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.deliver_one();
    let prepare = stage.flight.pop_front().unwrap();
    assert_eq!(prepare.1, GroupId(3));
    stage.flight.clear();
    stage.dead.push(COORDINATOR);
    stage.run(1_000);
    assert!(stage.in_doubt(2).is_empty(), "g3 has told that it will not promise");
    stage.dead.clear();
    stage.say(prepare.0, prepare.1, prepare.2);
    assert_eq!(stage.in_doubt(3).len(), 0, "and keeps its word");
    let refused = matches!(stage.flight[0].2.body, Body::Vote { vote: Vote::No { why: Refusal::Stale }, .. });
    assert!(refused, "{:?}", stage.flight);
}

#[test]
fn a_read_counts_only_if_its_lock_was_held_under_the_same_epoch() {
    let mut stage = Stage::new(2);
    stage.unproven = true;
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 0])]);
    stage.settle();
    assert_eq!(stage.outcome(1), None, "no proof, no commit");
    stage.replace_participant(GroupId(3), 2);
    stage.unproven = false;
    stage.run(200);
    assert_eq!(stage.coordinator.counters().not_held, 1);
    assert!(stage.committed(1), "the next attempt reads under the new epoch");
    assert_eq!(stage.sum(2, 1), 5);
}

#[test]
fn a_person_can_decide_and_is_told_apart() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    for _ in 0..4 {
        stage.deliver_one();
    }
    let commits: alloc::vec::Vec<_> = stage.flight.drain(..).collect();
    stage.dead.push(COORDINATOR);
    let transaction = stage.in_doubt(3)[0].attempt.transaction;
    let seat = stage.seats.get_mut(&GroupId(3)).unwrap();
    let mut out = Effects::new();
    assert_eq!(seat.participant.resolve(transaction, false, &mut out), Ok(()));
    for record in out.appends {
        stage.take_part(GroupId(3), Input::Applied(record));
    }
    let seat = stage.seats.get_mut(&GroupId(3)).unwrap();
    let again = seat.participant.resolve(transaction, false, &mut Effects::new());
    assert_eq!(again, Err(ResolveError::NotInDoubt));
    stage.dead.clear();
    stage.flight.extend(commits);
    stage.settle();
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 0), "by hand is not atomic");
    let torn = Outcome::ByHand { participants: [GroupId(3)].into() };
    assert_eq!(stage.outcome(1), Some(&torn), "and the client is told so");
    assert_eq!(stage.seats[&GroupId(3)].participant.counters().contradicted, 1);
}

#[test]
fn an_earlier_beginning_does_not_end_a_nomination() {
    let mut coordinator =
        Coordinator::new(CoordinatorConfig::new(COORDINATOR), CoordinatorTable::default(), 1);
    let mut out = Effects::new();
    let lead = |epoch| CoordinatorRecord { epoch, body: CoordinatorBody::Lead };
    let _: Decision = coordinator.handle(Input::Lead { epoch: 2 }, 0, &mut out);
    let _: Decision = coordinator.handle(Input::Applied(lead(1)), 0, &mut out);
    assert!(!coordinator.leads());
    let _: Decision = coordinator.handle(Input::Applied(lead(2)), 0, &mut out);
    assert!(coordinator.leads());
    let _: Decision = coordinator.handle(Input::Applied(lead(3)), 0, &mut out);
    assert!(!coordinator.leads(), "a later one does");
}

#[test]
fn what_a_deposed_leader_appended_is_void() {
    let attempt = |epoch| Attempt {
        transaction: TransactionId { coordinator: COORDINATOR, epoch, number: 1 },
        number: 1,
    };
    let commit = |epoch| CoordinatorBody::Commit { attempt: attempt(epoch), writers: [GroupId(2)].into() };
    let mut table = CoordinatorTable::default();
    let mut apply = |epoch, body| table.apply(CoordinatorRecord { epoch, body });
    assert_eq!(apply(1, CoordinatorBody::Lead), Decision::Led { epoch: 1 });
    assert_eq!(apply(2, CoordinatorBody::Lead), Decision::Led { epoch: 2 });
    assert_eq!(apply(1, commit(1)), Decision::Void, "so the next leader may presume it aborted");
    assert_eq!(apply(2, commit(2)), Decision::Committed { attempt: attempt(2) });
    assert_eq!(apply(2, CoordinatorBody::Lead), Decision::Void);
}

#[test]
fn requests_that_can_not_be_are_refused() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[]);
    stage.begin(2, &[(2, &[1, 1]), (2, &[2, 1])]);
    for request in [1, 2] {
        assert_eq!(stage.outcome(request), Some(&Outcome::NotApplied { why: Why::Malformed }));
    }
    let mut small = CoordinatorConfig::new(COORDINATOR);
    small.max_transactions = 1;
    let mut coordinator = Coordinator::new(small, CoordinatorTable::default(), 1);
    let mut out = Effects::new();
    coordinator.begin(RequestId(1), [part(2, &[1, 1])].into(), 0, &mut out);
    let lead = CoordinatorRecord { epoch: 1, body: CoordinatorBody::Lead };
    let _: Decision = coordinator.handle(Input::Lead { epoch: 1 }, 0, &mut out);
    let _: Decision = coordinator.handle(Input::Applied(lead), 0, &mut out);
    coordinator.begin(RequestId(2), [part(2, &[1, 1])].into(), 0, &mut out);
    coordinator.begin(RequestId(3), [part(2, &[1, 1])].into(), 0, &mut out);
    let whys: alloc::vec::Vec<_> = out.answers.iter().map(|(id, outcome)| (id.0, outcome.clone())).collect();
    let refused = |why| Outcome::NotApplied { why };
    assert_eq!(whys, [(1, refused(Why::NotLeader)), (3, refused(Why::Overloaded))]);
    let mut none = CoordinatorConfig::new(COORDINATOR);
    none.vote_ms = 0;
    assert_eq!(none.validate(), Err(ConfigError { field: "vote_ms" }));
}

/// Guards against a safety bug: a late copy of the question took locks anew that had run out, and the confirmation of the first hold was given
/// for the second. In between, others had written.
#[test]
fn a_lock_that_ran_out_and_was_taken_again_is_not_confirmed() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 0]), (3, &[1, 5])]);
    let copy = stage.flight[0].clone();
    assert!(stage.deliver_one());
    let late = stage.flight.pop_front().expect("the writer is asked, too");
    stage.settle();
    // Nobody ticks at the coordinator: its process stands still.
    stage.now_ns += 3_000_000_001;
    stage.take_part(GroupId(2), Input::Tick);
    stage.begin(2, &[(2, &[1, 9]), (3, &[1, 0])]);
    stage.settle();
    assert!(stage.committed(2), "the lock had run out");
    stage.say(copy.0, copy.1, copy.2);
    stage.settle();
    stage.say(late.0, late.1, late.2);
    stage.settle();
    assert_eq!(stage.seats[&GroupId(2)].participant.counters().revived, 1);
    assert_eq!(stage.coordinator.counters().not_held, 1);
    stage.run(1_000);
    let answers = [Some(Bytes::from_static(&[9])), Some(Bytes::from_static(&[5]))];
    assert_eq!(stage.outcome(1), Some(&Outcome::Committed { answers: answers.to_vec() }), "read anew");
}

/// Guards against proofs that are kept for ever: after enough of them, nobody could read.
#[test]
fn proofs_that_are_lost_are_asked_for_again_and_leave_their_places() {
    let few = ParticipantConfig { max_transactions: 4, ..config(GroupId(2)) };
    let mut stage = Stage::new(2);
    stage.seats.get_mut(&GroupId(2)).unwrap().participant = participant(few);
    stage.lead_participant(GroupId(2), 2);
    stage.unproven = true;
    for request in 1..=6 {
        stage.begin(request, &[(2, &[1, 0])]);
        stage.begin(10 + request, &[(2, &[1, 0]), (3, &[2, 0])]);
    }
    stage.settle();
    assert!(stage.answers.is_empty());
    stage.unproven = false;
    stage.run(200);
    assert!(stage.committed(1) && stage.committed(11), "said again, it is asked for again");
    stage.run(4_000);
    for request in (1..=6).flat_map(|request| [request, 10 + request]) {
        assert!(stage.committed(request), "{request}: there is room again");
    }
    // Their coordinator is gone: nobody asks again, and their places are free after a while.
    stage.unproven = true;
    for request in 20..24 {
        stage.begin(request, &[(2, &[1, 0])]);
    }
    while let Some((from, to, message)) = stage.flight.pop_front() {
        stage.say(from, to, message);
    }
    stage.now_ns += 3_000_000_001;
    stage.take_part(GroupId(2), Input::Tick);
    assert_eq!(stage.seats[&GroupId(2)].participant.next_tick_ns(), None, "nothing is kept");
}

/// A replica that leads again must not take a proof that it asked for when it led before.
#[test]
fn a_proof_of_an_earlier_leadership_proves_nothing() {
    let mut stage = Stage::new(1);
    stage.unproven = true;
    let ask = |stage: &mut Stage, number| {
        let attempt =
            Attempt { transaction: TransactionId { coordinator: COORDINATOR, epoch: 1, number }, number: 1 };
        let body = Body::Once { work: part(2, &[1, 0]).work };
        let seat = stage.seats.get_mut(&GroupId(2)).unwrap();
        let mut out = Effects::new();
        let input = Input::Message { from: COORDINATOR, message: Message { attempt, body } };
        let _: Effect = seat.participant.handle(input, 0, &mut seat.store, &mut out);
        out.proofs[0]
    };
    let (epoch, token) = ask(&mut stage, 1);
    stage.lead_participant(GroupId(2), 2);
    assert_eq!(ask(&mut stage, 2), (epoch + 1, token), "tokens begin from 1 again, in another epoch");
    stage.take_part(GroupId(2), Input::Proven { epoch, token });
    assert!(stage.flight.is_empty());
    stage.take_part(GroupId(2), Input::Proven { epoch: epoch + 1, token });
    assert!(matches!(stage.flight[0].2.body, Body::Applied { .. }));
}

/// Guards against a table of readings that is full of those that have long been confirmed.
#[test]
fn confirmed_readings_take_no_room() {
    let few = ParticipantConfig { max_transactions: 2, ..config(GroupId(2)) };
    let mut stage = Stage::new(2);
    stage.seats.get_mut(&GroupId(2)).unwrap().participant = participant(few);
    stage.lead_participant(GroupId(2), 2);
    for request in 1..=50 {
        stage.begin(request, &[(2, &[1, 0]), (3, &[1, 0])]);
        stage.settle();
        assert!(stage.committed(request), "{request}, without a pause");
    }
    assert_eq!(stage.seats[&GroupId(2)].participant.counters().refused, 0);
}

/// What is decided before a person's word is in the log, counts; the person is told that it did not.
#[test]
fn a_person_comes_too_late() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    for _ in 0..4 {
        stage.deliver_one();
    }
    let transaction = stage.in_doubt(2)[0].attempt.transaction;
    let (from, to, commit) = stage.flight.pop_front().expect("it is told to g2");
    let seat = stage.seats.get_mut(&to).unwrap();
    let mut out = Effects::new();
    let input = Input::Message { from, message: commit };
    let _: Effect = seat.participant.handle(input, 0, &mut seat.store, &mut out);
    assert_eq!(out.appends.len(), 1, "the outcome is on its way");
    let late = seat.participant.resolve(transaction, false, &mut Effects::new());
    assert_eq!(late, Err(ResolveError::OutcomeOnItsWay));
    stage.take_part(to, Input::Applied(out.appends.remove(0)));
    stage.settle();
    assert!(stage.committed(1));
}

/// A person commits at one, and the coordinator aborts: it must not be called "not applied".
#[test]
fn what_a_person_has_committed_is_not_called_not_applied() {
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.deliver_one();
    // The vote of g2 is lost, the question to g3 too.
    stage.flight.clear();
    let transaction = stage.in_doubt(2)[0].attempt.transaction;
    let seat = stage.seats.get_mut(&GroupId(2)).unwrap();
    let mut out = Effects::new();
    assert_eq!(seat.participant.resolve(transaction, true, &mut out), Ok(()));
    stage.take_part(GroupId(2), Input::Applied(out.appends.remove(0)));
    stage.run(2_000);
    assert_eq!(stage.outcome(1), Some(&Outcome::ByHand { participants: [GroupId(2)].into() }));
    assert_eq!((stage.sum(2, 1), stage.sum(3, 1)), (5, 0));
    assert!(stage.seats[&GroupId(2)].participant.counters().contradicted > 0);
}

/// A replica that does not lead knows of no locks: that is no leave to write.
#[test]
fn who_does_not_lead_lets_nobody_through() {
    let mut stage = Stage::new(1);
    let blocked = |stage: &Stage, mode| stage.seats[&GroupId(2)].participant.blocked_by(&[1], mode);
    assert_eq!(blocked(&stage, Mode::Exclusive), None);
    stage.take_part(GroupId(2), Input::Follow);
    assert_eq!(blocked(&stage, Mode::Shared), Some(Blocker::NotLeading));
    let mut stage = Stage::new(2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.deliver_one();
    let transaction = stage.in_doubt(2)[0].attempt.transaction;
    assert_eq!(blocked(&stage, Mode::Shared), Some(Blocker::Transaction(transaction)));
}

/// Everything that a limit allows can be encoded; what can't is refused where it comes in.
#[test]
fn what_no_record_can_hold_is_refused() {
    let base = ParticipantConfig::new(GroupId(2));
    assert_eq!(base.validate(), Ok(()));
    let too_many = ParticipantConfig { max_finished: 1 << 15, max_coordinators: 1 << 6, ..base.clone() };
    assert_eq!(too_many.validate(), Err(ConfigError { field: "max_coordinators" }));
    assert_eq!(ParticipantConfig { max_coordinators: 1 << 5, ..too_many }.validate(), Ok(()));
    let coordinator = CoordinatorConfig::new(COORDINATOR);
    for (wrong, field) in [
        (CoordinatorConfig { max_locks: (1 << 20) + 1, ..coordinator.clone() }, "max_locks"),
        (CoordinatorConfig { max_transactions: 1 << 20, ..coordinator.clone() }, "max_transactions"),
        (CoordinatorConfig { backoff_ms: 60_001, ..coordinator.clone() }, "backoff_ms"),
    ] {
        assert_eq!(wrong.validate(), Err(ConfigError { field }));
    }
    let mut stage = Stage::new(2);
    // Keys without bytes: no limit of bytes finds them.
    let operations = [[1, 5]; 4_097].concat();
    stage.begin(1, &[(2, &operations), (3, &[1, 5])]);
    assert_eq!(stage.outcome(1), Some(&Outcome::NotApplied { why: Why::Malformed }));
}

/// Of coordinators that were ever heard, something is kept for good, so there is a limit to them; others are refused, and the table says the same.
#[test]
fn coordinators_are_limited() {
    let limits = TableLimits { finished: 2, coordinators: 2 };
    let mut table = ParticipantTable::new(limits);
    let mut sums = super::stage::Sums::default();
    let mut apply = |body| table.apply(ParticipantRecord { epoch: 1, body }, &mut sums);
    let attempt = |coordinator, number| Attempt {
        transaction: TransactionId { coordinator: GroupId(coordinator), epoch: 1, number },
        number: 1,
    };
    let _: Effect = apply(ParticipantBody::Lead);
    let once = |coordinator, number| ParticipantBody::Once {
        attempt: attempt(coordinator, number),
        work: part(2, &[1, 1]).work,
    };
    let prepare = |coordinator| ParticipantBody::Prepare {
        attempt: attempt(coordinator, 1),
        writers: [GroupId(2)].into(),
        work: part(2, &[1, 1]).work,
    };
    assert!(matches!(apply(once(7, 1)), Effect::Ran { .. }));
    assert_eq!(apply(prepare(8)), Effect::Prepared { attempt: attempt(8, 1) });
    assert_eq!(apply(once(9, 1)), Effect::Void);
    assert_eq!(apply(prepare(9)), Effect::Void);
    assert_eq!(apply(ParticipantBody::Refuse { attempt: attempt(9, 1) }), Effect::Void);
    assert!(matches!(apply(once(7, 2)), Effect::Ran { .. }));
    assert!(table.has_room_for(GroupId(8)) && !table.has_room_for(GroupId(9)));
    let mut bytes = alloc::vec::Vec::new();
    table.encode(&mut bytes);
    assert_eq!(
        ParticipantTable::decode(Bytes::from(bytes), limits),
        Ok(table),
        "a promise keeps its coordinator's place"
    );

    let few = ParticipantConfig { max_coordinators: 1, ..config(GroupId(2)) };
    let mut stage = Stage::new(2);
    stage.seats.get_mut(&GroupId(2)).unwrap().participant = participant(few);
    stage.lead_participant(GroupId(2), 2);
    stage.begin(1, &[(2, &[1, 5]), (3, &[1, 5])]);
    stage.settle();
    assert!(stage.committed(1));
    let stranger = GroupId(77);
    for body in [
        Body::Once { work: part(2, &[1, 5]).work },
        Body::Prepare { writers: [GroupId(2), GroupId(3)].into(), work: part(2, &[1, 5]).work },
    ] {
        let transaction = TransactionId { coordinator: stranger, epoch: 1, number: 1 };
        stage.say(stranger, GroupId(2), Message { attempt: Attempt { transaction, number: 1 }, body });
        let why = Refusal::TooManyCoordinators;
        let answer = stage.flight.pop_front().expect("it answers");
        assert_eq!((answer.1, answer.2.body), (stranger, Body::Vote { epoch: 2, vote: Vote::No { why } }));
    }
    assert_eq!(stage.seats[&GroupId(2)].participant.locked_keys(), 0);
}

/// Each of the watched properties finds what it is for.
#[test]
fn invariants_find_what_they_are_for() {
    use crate::two_phase_commit::invariants::TwoPhaseCommitInvariants;

    let attempt = |number| Attempt {
        transaction: TransactionId { coordinator: COORDINATOR, epoch: 1, number: 1 },
        number,
    };
    let mut decided = CoordinatorTable::default();
    let mut decide = |body| decided.apply(CoordinatorRecord { epoch: 1, body });
    let _: Decision = decide(CoordinatorBody::Lead);
    let writers: alloc::vec::Vec<GroupId> = [GroupId(2), GroupId(3)].into();
    let decision = decide(CoordinatorBody::Commit { attempt: attempt(1), writers });
    let mut promised = ParticipantTable::new(TableLimits { finished: 2, coordinators: 2 });
    let mut apply =
        |body| promised.apply(ParticipantRecord { epoch: 1, body }, &mut super::stage::Sums::default());
    let _: Effect = apply(ParticipantBody::Lead);
    let prepare =
        ParticipantBody::Prepare { attempt: attempt(1), writers: [].into(), work: part(2, &[1, 1]).work };
    let prepared = apply(prepare);
    let empty = ParticipantTable::new(TableLimits { finished: 2, coordinators: 2 });
    let end = |number, commit: bool| Effect::Finished {
        attempt: attempt(number),
        answer: commit.then(Bytes::new),
        by_hand: false,
    };
    let property = |result: Result<(), invariants::Violation>| result.expect_err("it does not hold").property;
    let promise = |watch: &mut TwoPhaseCommitInvariants, group| {
        assert_eq!(watch.applied(GroupId(group), &prepared, &promised), Ok(()));
    };
    let both = || {
        let mut watch = TwoPhaseCommitInvariants::default();
        promise(&mut watch, 2);
        promise(&mut watch, 3);
        watch
    };

    let mut watch = TwoPhaseCommitInvariants::default();
    promise(&mut watch, 2);
    assert_eq!(property(watch.decided(COORDINATOR, &decision, &decided)), "promised-first");
    assert_eq!(property(both().applied(GroupId(2), &end(1, true), &empty)), "decided-first");
    assert_eq!(property(both().applied(GroupId(4), &end(1, false), &empty)), "promised-first");
    let mut watch = both();
    assert_eq!(watch.applied(GroupId(2), &end(1, false), &empty), Ok(()));
    assert_eq!(property(watch.decided(COORDINATOR, &decision, &decided)), "promised-first");
    let mut watch = both();
    assert_eq!(watch.decided(COORDINATOR, &decision, &decided), Ok(()));
    assert_eq!(property(watch.decided(COORDINATOR, &decision, &decided)), "decided-once");
    assert_eq!(property(watch.applied(GroupId(3), &end(1, false), &empty)), "atomic-commit");
    let mut watch = both();
    assert_eq!(watch.decided(COORDINATOR, &decision, &decided), Ok(()));
    assert_eq!(watch.applied(GroupId(2), &end(1, true), &empty), Ok(()));
    promise(&mut watch, 2);
    assert_eq!(property(watch.applied(GroupId(2), &end(1, true), &empty)), "ends-once");
    let refused = Effect::Refused { attempt: attempt(1) };
    assert_eq!(property(watch.applied(GroupId(3), &refused, &empty)), "atomic-commit");
    let ran =
        |number| Effect::Ran { attempt: attempt(number), work: part(2, &[1, 1]).work, answer: Bytes::new() };
    assert_eq!(property(watch.applied(GroupId(3), &ran(2), &empty)), "one-attempt-commits");
    let other = Attempt { transaction: TransactionId { number: 9, ..attempt(1).transaction }, number: 1 };
    let ran = Effect::Ran { attempt: other, work: part(2, &[1, 1]).work, answer: Bytes::new() };
    assert_eq!(property(watch.applied(GroupId(3), &ran, &promised)), "exclusive-promises");
}
