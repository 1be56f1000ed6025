//! Laws: encodings come back, locks are whole, tables survive a checkpoint, and any order of messages leaves all or nothing.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{GroupId, Wire};
use proptest::prelude::*;

use super::stage::{Stage, Sums};
use crate::two_phase_commit::*;

/// Two of the three coordinators have room.
const LIMITS: TableLimits = TableLimits { finished: 4, coordinators: 2 };

fn attempts() -> impl Strategy<Value = Attempt> {
    (0..3u64, 0..4u64, 0..5u64, 0..4u32).prop_map(|(coordinator, epoch, number, attempt)| Attempt {
        transaction: TransactionId { coordinator: GroupId(coordinator), epoch, number },
        number: attempt,
    })
}

fn works() -> impl Strategy<Value = Work> {
    let lock = (prop::collection::vec(any::<u8>(), 0..3), any::<bool>()).prop_map(|(key, exclusive)| Lock {
        key: Bytes::from(key),
        mode: if exclusive { Mode::Exclusive } else { Mode::Shared },
    });
    (prop::collection::vec(lock, 0..4), prop::collection::vec(any::<u8>(), 0..8))
        .prop_map(|(locks, operations)| Work { locks, operations: Bytes::from(operations) })
}

fn groups() -> impl Strategy<Value = Vec<GroupId>> {
    prop::collection::vec((0..9u64).prop_map(GroupId), 0..4)
}

fn bodies() -> impl Strategy<Value = Body> {
    let answer = || prop::collection::vec(any::<u8>(), 0..5).prop_map(Bytes::from);
    let why = prop::sample::select(
        &[
            Refusal::Locked,
            Refusal::Overloaded,
            Refusal::Inadmissible,
            Refusal::TooLarge,
            Refusal::Stale,
            Refusal::TooManyCoordinators,
            Refusal::ByHand,
        ][..],
    );
    prop_oneof![
        (groups(), works()).prop_map(|(writers, work)| Body::Prepare { writers, work }),
        works().prop_map(|work| Body::Once { work }),
        (0..9u64).prop_map(|epoch| Body::Vote { epoch, vote: Vote::Yes }),
        (0..9u64, answer(), 0..9u64).prop_map(|(epoch, answer, serial)| Body::Vote {
            epoch,
            vote: Vote::ReadOnly { answer, serial }
        }),
        (0..9u64, why).prop_map(|(epoch, why)| Body::Vote { epoch, vote: Vote::No { why } }),
        (0..9u64, 0..9u64).prop_map(|(epoch, serial)| Body::Confirm { epoch, serial }),
        Just(Body::Contradicted),
        (0..9u64, any::<bool>()).prop_map(|(epoch, held)| Body::Confirmed { epoch, held }),
        Just(Body::Commit),
        Just(Body::Abort),
        prop::option::of(answer()).prop_map(|answer| Body::Applied { answer }),
        Just(Body::Inquire),
        any::<bool>().prop_map(|commit| Body::Outcome { commit }),
    ]
}

fn encoded(value: &impl Wire) -> Bytes {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    Bytes::from(bytes)
}

/// Records of one epoch, as a leader might append them, and worse.
fn participant_bodies() -> impl Strategy<Value = ParticipantBody> {
    let writing = || works().prop_filter("writes", Work::writes);
    let even = |mut work: Work| {
        work.operations.truncate(work.operations.len() / 2 * 2);
        work
    };
    prop_oneof![
        (attempts(), groups(), writing()).prop_map(move |(attempt, writers, work)| {
            ParticipantBody::Prepare { attempt, writers, work: even(work) }
        }),
        (attempts(), any::<bool>(), any::<bool>())
            .prop_map(|(attempt, commit, by_hand)| ParticipantBody::Finish { attempt, commit, by_hand }),
        (attempts(), writing())
            .prop_map(move |(attempt, work)| ParticipantBody::Once { attempt, work: even(work) }),
        attempts().prop_map(|attempt| ParticipantBody::Refuse { attempt }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(attempt in attempts(), body in bodies(), cut in 0..64usize) {
        let message = Message { attempt, body };
        let bytes = encoded(&message);
        prop_assert_eq!(Message::decode(bytes.clone()), Ok(message));
        if cut < bytes.len() {
            prop_assert!(Message::decode(bytes.slice(..cut)).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        let _: Result<_, _> = Message::decode(bytes.clone());
        let _: Result<_, _> = CoordinatorRecord::decode(bytes.clone());
        let _: Result<_, _> = ParticipantRecord::decode(bytes.clone());
        let _: Result<_, _> = CoordinatorTable::decode(bytes.clone());
        let _: Result<_, _> = ParticipantTable::decode(bytes, LIMITS);
    }

    #[test]
    fn records_and_tables_come_back(bodies in prop::collection::vec(participant_bodies(), 0..60)) {
        let mut table = ParticipantTable::new(LIMITS);
        let mut store = Sums::default();
        let lead = ParticipantRecord { epoch: 1, body: ParticipantBody::Lead };
        prop_assert_eq!(table.apply(lead, &mut store), Effect::Led { epoch: 1 });
        for body in bodies {
            let record = ParticipantRecord { epoch: 1, body };
            prop_assert_eq!(ParticipantRecord::decode(encoded(&record)), Ok(record.clone()));
            // A copy from a checkpoint does the same with the next record.
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            let mut copy = ParticipantTable::decode(Bytes::from(bytes), LIMITS).expect("a table comes back");
            prop_assert_eq!(&copy, &table);
            let mut store_of_copy = store.clone();
            let effect = table.apply(record.clone(), &mut store);
            prop_assert_eq!(copy.apply(record, &mut store_of_copy), effect);
        }
        for coordinator in 0..3 {
            let of = |t: TransactionId| t.coordinator == GroupId(coordinator);
            let remembered = (0..4).flat_map(|epoch| (0..5).map(move |number| (epoch, number))).filter(|(epoch, number)| {
                let id = TransactionId { coordinator: GroupId(coordinator), epoch: *epoch, number: *number };
                of(id) && table.finished_of(id).is_some()
            });
            prop_assert!(remembered.count() <= 4, "memory is bounded");
        }
    }

    /// No-wait locks against the definition: nobody shares with a writer; all or none.
    #[test]
    fn locks_are_exclusive(steps in prop::collection::vec((0..4u64, works(), any::<bool>()), 0..40)) {
        let mut locks = Locks::default();
        let mut held: Vec<(TransactionId, Vec<Lock>)> = Vec::new();
        for (owner, work, release) in steps {
            let owner = TransactionId { coordinator: GroupId(1), epoch: 1, number: owner };
            if release {
                locks.release(owner);
                held.retain(|(holder, _)| *holder != owner);
            } else {
                let clash = held.iter().filter(|(holder, _)| *holder != owner).any(|(_, theirs)| {
                    theirs.iter().any(|one| work.locks.iter().any(|other| {
                        one.key == other.key && (one.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
                    }))
                });
                let before = locks.len();
                let taken = locks.take(owner, &work.locks);
                prop_assert_eq!(taken.is_err(), clash);
                if clash {
                    prop_assert_eq!(locks.len(), before, "none are taken");
                } else {
                    held.push((owner, work.locks));
                }
            }
            locks.assert_whole();
        }
        for (owner, _) in held {
            locks.release(owner);
        }
        prop_assert!(locks.is_empty());
    }

    /// Two transactions over two participants, messages in any order, some lost, some twice, and leaders that change in between: in the end both
    /// participants have the same, and clients were told the truth.
    #[test]
    fn any_order_leaves_all_or_nothing(choices in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut stage = Stage::new(2);
        stage.begin(1, &[(2, &[1, 1]), (3, &[1, 1])]);
        stage.begin(2, &[(2, &[2, 1]), (3, &[2, 1])]);
        stage.begin(3, &[(2, &[1, 1, 2, 1]), (3, &[1, 1, 2, 1])]);
        let mut epoch = 1;
        for choice in choices {
            let count = stage.flight.len();
            let at = usize::from(choice / 8) % count.max(1);
            match choice % 8 {
                0..=3 if count > 0 => {
                    let (from, to, message) = stage.flight.remove(at).expect("it is there");
                    stage.say(from, to, message);
                }
                4 if count > 0 => {
                    let copy = stage.flight[at].clone();
                    stage.flight.push_back(copy);
                }
                5 if count > 0 => {
                    let _: Option<_> = stage.flight.remove(at);
                }
                6 => stage.run(10),
                7 if choice > 200 => {
                    epoch += 1;
                    match choice % 3 {
                        0 => stage.replace_coordinator(epoch),
                        1 => stage.replace_participant(GroupId(2), epoch),
                        _ => stage.replace_participant(GroupId(3), epoch),
                    }
                }
                _ => {}
            }
        }
        stage.run(20_000);
        for key in [1, 2] {
            prop_assert_eq!(stage.sum(2, key), stage.sum(3, key), "torn");
        }
        prop_assert!(stage.in_doubt(2).is_empty() && stage.in_doubt(3).is_empty());
        let certain = |request| matches!(stage.outcome(request), Some(Outcome::Committed { .. } | Outcome::NotApplied { .. }));
        if certain(1) && certain(3) {
            let sum = u64::from(stage.committed(1)) + u64::from(stage.committed(3));
            prop_assert_eq!(stage.sum(2, 1), sum, "told otherwise");
        }
    }
}
