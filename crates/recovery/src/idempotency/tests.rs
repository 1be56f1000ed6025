//! The ledger's rules one by one; crashes and files.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

fn token(issued_ms: u64, number: u128) -> Ticket {
    Ticket::Free(Token::new(NOW_MS + issued_ms, number))
}

fn print(text: &str) -> Fingerprint {
    Fingerprint::of(&[text.as_bytes()])
}

fn ledger(config: Config) -> Ledger<u32> {
    Ledger::new(config)
}

#[test]
fn nil_nothing_and_zero_are_answers() {
    let mut ledger = ledger(Config::default());
    for (number, answer) in [None, Some(vec![]), Some(b"0".to_vec())].into_iter().enumerate() {
        let ticket = token(0, number as u128);
        assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS), Ok(Begun::New));
        assert_eq!(ledger.end(ticket, answer.clone()), Vec::<u32>::new());
        assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS), Ok(Begun::Done(answer)));
    }
    ledger.assert_invariants();
}

#[test]
fn duplicates_in_flight_wait_within_bounds() {
    let mut ledger = ledger(Config { waiters_max: 2, wait_max_ms: 10, ..Config::default() });
    let ticket = token(0, 1);
    assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS), Ok(Begun::New));
    assert_eq!(ledger.begin(ticket, print("a"), 2, NOW_MS), Ok(Begun::Waits));
    assert_eq!(ledger.begin(ticket, print("b"), 3, NOW_MS), Err(Refused::Mismatch));
    assert_eq!(ledger.begin(ticket, print("a"), 4, NOW_MS + 5), Ok(Begun::Waits));
    assert_eq!(ledger.begin(ticket, print("a"), 5, NOW_MS + 5), Err(Refused::TooManyWait));
    assert_eq!(ledger.give_up(NOW_MS + 9), Vec::<u32>::new());
    assert_eq!(ledger.give_up(NOW_MS + 10), [2]);
    assert_eq!(ledger.end(ticket, None), [4]);
    ledger.assert_invariants();
}

#[test]
fn what_is_abandoned_is_new_again() {
    let mut ledger = ledger(Config { in_flight_max: 1, ..Config::default() });
    let ticket = token(0, 1);
    assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS), Ok(Begun::New));
    assert_eq!(ledger.begin(token(0, 2), print("a"), 1, NOW_MS), Err(Refused::TooManyInFlight));
    assert_eq!(ledger.begin(ticket, print("a"), 2, NOW_MS), Ok(Begun::Waits));
    assert_eq!(ledger.abandon(ticket), [2]);
    assert_eq!(ledger.begin(ticket, print("b"), 1, NOW_MS), Ok(Begun::New));
}

#[test]
fn what_was_forgotten_is_said_and_never_run() {
    let mut ledger = ledger(Config { answers_max: 2, retention_ms: 1_000, ..Config::default() });
    for number in 1..=3 {
        let ticket = token(number, 0);
        assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS + number), Ok(Begun::New));
        ledger.end(ticket, None);
    }
    assert_eq!(ledger.begin(token(1, 0), print("a"), 1, NOW_MS + 4), Err(Refused::Forgotten));
    assert_eq!(
        ledger.begin(token(0, 9), print("a"), 1, NOW_MS + 4),
        Err(Refused::Forgotten),
        "nobody can tell"
    );
    assert_eq!(ledger.begin(token(2, 0), print("a"), 1, NOW_MS + 4), Ok(Begun::Done(None)));
    assert_eq!(ledger.begin(token(3, 0), print("a"), 1, NOW_MS + 1_004), Err(Refused::Forgotten), "by time");
    assert_eq!(ledger.answers(), 0);
    let future = token(1_004 + 60_001, 0);
    assert_eq!(ledger.begin(future, print("a"), 1, NOW_MS + 1_004), Err(Refused::FromTheFuture));
    ledger.assert_invariants();
}

#[test]
fn sessions_count_and_leave_nothing_in_doubt() {
    let config = Config { sessions_max: 2, session_window: 2, retention_ms: 1_000, ..Config::default() };
    let mut ledger = ledger(config);
    let session = ledger.open(NOW_MS).expect("there is room");
    let ticket = |sequence| Ticket::Sequenced { session, sequence };
    let begin = |ledger: &mut Ledger<u32>, sequence| ledger.begin(ticket(sequence), print("a"), 1, NOW_MS);
    assert_eq!(begin(&mut ledger, 0), Err(Refused::OutOfWindow));
    assert_eq!(begin(&mut ledger, 3), Err(Refused::OutOfWindow));
    assert_eq!(begin(&mut ledger, 1), Ok(Begun::New));
    assert_eq!(begin(&mut ledger, 2), Ok(Begun::New));
    ledger.end(ticket(2), Some(vec![7]));
    assert_eq!(ledger.acknowledge(session, u64::MAX), Ok(()));
    assert_eq!(begin(&mut ledger, 1), Ok(Begun::Waits), "what is in flight stays");
    ledger.end(ticket(1), None);
    assert_eq!(ledger.acknowledge(session, 1), Ok(()));
    assert_eq!(begin(&mut ledger, 1), Err(Refused::Forgotten));
    assert_eq!(begin(&mut ledger, 2), Ok(Begun::Done(Some(vec![7]))));
    assert_eq!(begin(&mut ledger, 3), Ok(Begun::New));
    let other = ledger.open(NOW_MS + 1).expect("there is room");
    assert_eq!(ledger.open(NOW_MS + 2), Ok(other + 1), "the idle one gives way, not the busy one");
    let lost = Ticket::Sequenced { session: other, sequence: 1 };
    assert_eq!(ledger.begin(lost, print("a"), 1, NOW_MS + 2), Err(Refused::SessionForgotten));
    let never = Ticket::Sequenced { session: 99, sequence: 1 };
    assert_eq!(ledger.begin(never, print("a"), 1, NOW_MS + 2), Err(Refused::NoSuchSession));
    ledger.end(ticket(3), None);
    ledger.drop_idle_sessions(NOW_MS + 2_000);
    assert_eq!(ledger.acknowledge(session, 1), Err(Refused::SessionForgotten));
    ledger.assert_invariants();
}

#[test]
fn fingerprints_know_where_a_part_ends() {
    assert_ne!(Fingerprint::of(&[b"a", b"bc"]), Fingerprint::of(&[b"ab", b"c"]));
    assert_ne!(Fingerprint::of(&[]), Fingerprint::of(&[b""]));
    assert_eq!(Fingerprint::of(&[b"a"]), Fingerprint::of(&[b"a"]));
}

#[test]
fn a_token_is_a_uuid_of_version_7() {
    let text = "018bcfe5-6800-7abc-8def-0123456789ab";
    let token: Token = text.parse().expect("a UUID");
    assert_eq!(token.issued_ms(), 0x018b_cfe5_6800);
    assert_eq!(alloc::format!("{token}"), text.replace('-', ""));
    for wrong in
        ["", "018bcfe5", "018bcfe5680x7abc8def0123456789ab", "018bcfe568007abc8def0123456789ab0", "-"]
    {
        assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong}");
    }
}

/// All of a store's life: effects, answers, forgotten tokens and sessions survive recovery and compaction alike.
#[test]
fn recovery_and_compaction_remember_the_same() {
    let config = Config { answers_max: 2, session_window: 4, ..Config::default() };
    let mut once: Once<MemoryStore, u32> = Once::recover(config, MemoryStore::default(), [], |_| {});
    let (session, _) = once.open(NOW_MS).expect("there is room");
    let sequenced = Ticket::Sequenced { session, sequence: 1 };
    for (ticket, effect) in [(token(1, 0), b"a"), (token(2, 0), b"b"), (token(3, 0), b"c"), (sequenced, b"d")]
    {
        assert_eq!(once.begin(ticket, print("x"), 0, NOW_MS + 3), Ok(Begun::New));
        let finished = once.commit(Some(ticket), Some(effect.to_vec()), effect.to_vec());
        assert_eq!(finished.expect("memory does not fail").len(), 1);
    }
    let mut state = Vec::new();
    for compacted in [false, true] {
        let store = once.store_ref().clone();
        let records: Vec<Record> = store.records().collect();
        state.clear();
        once = Once::recover(config, store, records, |replayed| {
            let (Replayed::State(bytes) | Replayed::Effect(bytes)) = replayed;
            state.extend_from_slice(bytes);
        });
        assert_eq!(state, b"abcd", "compacted: {compacted}");
        assert_eq!(once.begin(token(1, 0), print("x"), 0, NOW_MS + 3), Err(Refused::Forgotten));
        assert_eq!(once.begin(token(3, 0), print("x"), 0, NOW_MS + 3), Ok(Begun::Done(Some(b"c".to_vec()))));
        assert_eq!(once.begin(token(3, 0), print("y"), 0, NOW_MS + 3), Err(Refused::Mismatch));
        assert_eq!(once.begin(sequenced, print("x"), 0, NOW_MS + 3), Ok(Begun::Done(Some(b"d".to_vec()))));
        once.compact(state.clone()).expect("memory does not fail");
    }
}

#[test]
fn bytes_that_are_no_record_are_refused() {
    let mut bytes = Vec::new();
    let ended = Ended { ticket: token(1, 2), fingerprint: print("a"), answer: Some(vec![1, 2, 3]) };
    Record::Effect { ended: Some(ended), effect: vec![9; 5] }.encode(&mut bytes);
    for len in 0..bytes.len() {
        assert_eq!(Record::decode(&bytes[..len]), Err(DecodeError), "{len} bytes");
    }
    bytes.push(0);
    assert_eq!(Record::decode(&bytes), Err(DecodeError), "one more");
    assert_eq!(Record::decode(&[1, 1, 255]), Err(DecodeError));
}
