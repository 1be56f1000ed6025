//! What must hold in single stories; those with several machines and faults are in `interaction/two-phase-commit`.

use bytes::Bytes;
use keypact_protocol::{GroupId, RequestId};

use super::stage::{COORDINATOR, Effects, Stage, part};
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
