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
fn what_is_lost_is_not_run_again_and_forgotten_like_an_answer() {
    let config = Config { in_flight_max: 1, answers_max: 1, sessions_max: 1, ..Config::default() };
    let mut ledger = ledger(config);
    let session = ledger.open(NOW_MS).expect("there is room").session;
    let sequenced = Ticket::Sequenced { session, sequence: 1 };
    for ticket in [token(1, 0), sequenced] {
        assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS + 1), Ok(Begun::New));
        assert_eq!(ledger.begin(ticket, print("a"), 2, NOW_MS + 1), Ok(Begun::Waits));
        assert_eq!(ledger.lose(ticket), [2]);
        assert_eq!(ledger.begin(ticket, print("a"), 1, NOW_MS + 1), Err(Refused::Uncertain));
        assert_eq!(ledger.begin(ticket, print("b"), 1, NOW_MS + 1), Err(Refused::Mismatch));
        ledger.assert_invariants();
    }
    assert_eq!((ledger.answers(), ledger.in_flight()), (1, 0));
    assert_eq!(ledger.acknowledge(session, 1), Ok(()));
    assert_eq!(ledger.begin(sequenced, print("a"), 1, NOW_MS + 1), Err(Refused::Forgotten));
    assert_eq!(ledger.begin(token(2, 0), print("a"), 1, NOW_MS + 2), Ok(Begun::New));
    ledger.end(token(2, 0), None);
    assert_eq!(ledger.begin(token(1, 0), print("a"), 1, NOW_MS + 2), Err(Refused::Forgotten));
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
    let session = ledger.open(NOW_MS).expect("there is room").session;
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
    let other = ledger.open(NOW_MS + 1).expect("there is room").session;
    let after = ledger.open(NOW_MS + 2).expect("the idle one gives way, not the busy one");
    assert_eq!(after, Opened { session: other + 1, dropped: vec![other] });
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
    let ended = Ended { ticket: token(1, 2), fingerprint: print("a"), answer: Some(vec![1, 2, 3]), at_ms: 7 };
    Record::Effect { ended: Some(ended), effect: vec![9; 5] }.encode(&mut bytes);
    for len in 0..bytes.len() {
        assert_eq!(Record::decode(&bytes[..len]), Err(DecodeError), "{len} bytes");
    }
    bytes.push(0);
    assert_eq!(Record::decode(&bytes), Err(DecodeError), "one more");
    assert_eq!(Record::decode(&[1, 1, 255]), Err(DecodeError));
}

fn opened(once: &mut Once<MemoryStore, u32>, now_ms: u64) -> u64 {
    once.open(now_ms).expect("one can give way").0
}

fn used(once: &mut Once<MemoryStore, u32>, session: u64, sequence: u64, now_ms: u64) {
    let ticket = Ticket::Sequenced { session, sequence };
    assert_eq!(once.begin(ticket, print("x"), 0, now_ms), Ok(Begun::New));
    assert_eq!(once.commit(Some(ticket), None, vec![1]).map(|finished| finished.len()), Ok(1));
}

fn recovered(once: &Once<MemoryStore, u32>, config: Config) -> Once<MemoryStore, u32> {
    Once::recover(config, once.store_ref().clone(), once.store_ref().records(), |_| {})
}

/// Guards against a recovery that puts out who was opened first. What nobody logs (a retry that only got its answer) decides who gives way.
#[test]
fn recovery_drops_the_sessions_that_gave_way() {
    let config = Config { sessions_max: 2, retention_ms: 1_000, ..Config::default() };
    let mut once: Once<MemoryStore, u32> = Once::recover(config, MemoryStore::default(), [], |_| {});
    let (first, second) = (opened(&mut once, NOW_MS), opened(&mut once, NOW_MS + 1));
    used(&mut once, first, 1, NOW_MS + 2);
    used(&mut once, second, 1, NOW_MS + 3);
    let retried = Ticket::Sequenced { session: first, sequence: 1 };
    assert_eq!(once.begin(retried, print("x"), 0, NOW_MS + 4), Ok(Begun::Done(None)));
    let third = opened(&mut once, NOW_MS + 5);
    for compacted in [false, true] {
        once = recovered(&once, config);
        let known = |once: &Once<MemoryStore, u32>, session| {
            once.ledger().fingerprint(Ticket::Sequenced { session, sequence: 1 }).is_some()
        };
        assert!(known(&once, first) && !known(&once, second), "compacted: {compacted}");
        once.compact(Vec::new()).expect("memory does not fail");
    }
    used(&mut once, third, 1, NOW_MS + 900);
    // Nobody used the first for the retention. That it was dropped is told by the next record.
    once.ledger_mut().drop_idle_sessions(NOW_MS + 1_500);
    let fourth = opened(&mut once, NOW_MS + 1_600);
    once = recovered(&once, config);
    assert_eq!(once.ledger_mut().acknowledge(first, 1), Err(Refused::SessionForgotten));
    assert_eq!(
        (once.ledger_mut().acknowledge(third, 1), once.ledger_mut().acknowledge(fourth, 1)),
        (Ok(()), Ok(()))
    );
}

/// A session's last use is known after a crash: else the next that is opened puts out one in use.
#[test]
fn recovery_knows_which_session_is_idle() {
    let config = Config { sessions_max: 3, ..Config::default() };
    let mut once: Once<MemoryStore, u32> = Once::recover(config, MemoryStore::default(), [], |_| {});
    let (busy, idle) = (opened(&mut once, NOW_MS), opened(&mut once, NOW_MS + 1));
    let last = opened(&mut once, NOW_MS + 2);
    used(&mut once, busy, 1, NOW_MS + 9);
    for compacted in [false, true] {
        once = recovered(&once, config);
        assert_eq!(once.ledger().now_ms(), NOW_MS + 9);
        once.ledger().clone().open(NOW_MS + 9).expect("one gives way");
        if !compacted {
            once.compact(Vec::new()).expect("memory does not fail");
        }
    }
    // Fewer fit than there were: the least used gives way.
    let lowered = recovered(&once, Config { sessions_max: 1, ..config });
    assert_eq!(
        lowered.ledger().fingerprint(Ticket::Sequenced { session: busy, sequence: 1 }),
        Some(print("x"))
    );
    let mut once = recovered(&once, config);
    let fresh = opened(&mut once, NOW_MS + 10);
    assert_eq!(once.ledger_mut().acknowledge(idle, 0), Err(Refused::SessionForgotten));
    for session in [busy, last, fresh] {
        assert_eq!(once.ledger_mut().acknowledge(session, 0), Ok(()));
    }
}

/// Takes nothing above ten bytes of effect, and fails for good when it is told to.
#[derive(Default)]
struct Narrow {
    memory: MemoryStore,
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NarrowError {
    TooLong,
    Broken,
}

impl Store for Narrow {
    type Error = NarrowError;

    fn append(&mut self, record: &Record) -> Result<u64, NarrowError> {
        match record {
            Record::Effect { effect, .. } if effect.len() > 10 => Err(NarrowError::TooLong),
            _ if self.broken => Err(NarrowError::Broken),
            _ => Ok(self.memory.append(record).expect("memory does not fail")),
        }
    }

    fn sync(&mut self) -> Result<u64, NarrowError> {
        Ok(self.memory.sync().expect("memory does not fail"))
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<(), NarrowError> {
        let records: Vec<Record> = records.collect();
        if records.iter().any(|record| matches!(record, Record::Base(base) if base.state.len() > 10)) {
            return Err(NarrowError::TooLong);
        }
        self.memory.replace(&mut records.into_iter()).expect("memory does not fail");
        Ok(())
    }

    fn is_intact(error: &NarrowError) -> bool {
        *error == NarrowError::TooLong
    }

    fn bytes(&self) -> u64 {
        self.memory.bytes()
    }
}

#[test]
fn what_is_too_long_changes_nothing_and_a_failure_stops_all() {
    let mut once: Once<Narrow, u32> = Once::recover(Config::default(), Narrow::default(), [], |_| {});
    let begin = |once: &mut Once<Narrow, u32>, ticket| once.begin(ticket, print("x"), 0, NOW_MS);
    assert_eq!(begin(&mut once, token(1, 0)), Ok(Begun::New));
    let rejected = Err(OnceError::Rejected(NarrowError::TooLong));
    assert_eq!(once.append(Some(token(1, 0)), None, vec![0; 11]), rejected);
    assert_eq!(begin(&mut once, token(1, 0)), Ok(Begun::Waits), "in flight as before");
    assert_eq!(once.commit(Some(token(1, 0)), None, vec![0; 10]).map(|finished| finished.len()), Ok(1));
    assert_eq!(once.compact(vec![0; 11]), Err(OnceError::Rejected(NarrowError::TooLong)));
    assert_eq!(begin(&mut once, token(2, 0)), Ok(Begun::New));
    once.store_mut().broken = true;
    assert_eq!(once.append(Some(token(2, 0)), None, vec![]), Err(OnceError::Store(NarrowError::Broken)));
    once.store_mut().broken = false;
    for ticket in [token(1, 0), token(2, 0), token(3, 0)] {
        assert_eq!(begin(&mut once, ticket), Err(Refused::Stopped));
    }
    assert_eq!(once.append(None, None, vec![]), Err(OnceError::Stopped));
    assert_eq!(once.sync(), Err(OnceError::Stopped));
    assert_eq!(once.open(NOW_MS), Err(OnceError::Stopped));
    assert_eq!(once.compact(vec![]), Err(OnceError::Stopped));
}
