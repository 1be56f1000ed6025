//! The textbook's example: a transfer whose answer is lost. Without a token the retry debits again; with one it does not, also across a crash
//! between effect and answer, and whatever of the file's last record the crash left.

#[path = "../examples/transfer_funds.rs"]
mod transfer_funds;

use std::fs;
use std::path::PathBuf;

use keypact_recovery::idempotency::{
    Begun, Config, FileError, FileStore, Fingerprint, Once, OnceError, RECORD_BYTES_MAX, Replayed, Ticket,
    Token,
};
use transfer_funds::Bank;

struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("keypact-recovery-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        File(path)
    }

    fn bank(&self) -> Bank {
        Bank::open(&self.0).expect("the file is whole")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn token(random: u128) -> Option<Token> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Some(Token::new(now.as_millis() as u64, random))
}

#[test]
fn without_a_token_a_retry_debits_twice() {
    let file = File::new("without");
    let mut bank = file.bank();
    for _ in 0..2 {
        assert_eq!(bank.transfer_funds("ann", "ben", 30, None), Ok("moved 30".into()));
    }
    assert_eq!((bank.balance("ann"), bank.balance("ben")), (40, 160));
}

#[test]
fn with_a_token_it_debits_once_also_across_a_crash() {
    let file = File::new("with");
    let token = token(1);
    let first = file.bank().transfer_funds("ann", "ben", 30, token);
    // The process dies before its answer leaves; another one takes the retry.
    let mut bank = file.bank();
    assert_eq!(bank.transfer_funds("ann", "ben", 30, token), first);
    assert_eq!((bank.balance("ann"), bank.balance("ben")), (70, 130));
    let wrong = bank.transfer_funds("ann", "ben", 31, token).expect_err("another transfer");
    assert!(wrong.contains("belongs to another operation"), "{wrong}");
}

#[test]
fn a_refusal_is_an_answer_too() {
    let file = File::new("refusal");
    let token = token(2);
    let refused = file.bank().transfer_funds("ann", "ben", 101, token);
    let mut bank = file.bank();
    assert_eq!(bank.transfer_funds("carl", "ann", 50, None), Ok("moved 50".into()));
    assert_eq!(bank.transfer_funds("ann", "ben", 101, token), refused, "although ann now has enough");
}

/// A crash may leave any beginning of the last write.
#[test]
fn a_torn_tail_is_as_if_it_had_not_been() {
    let file = File::new("torn");
    file.bank().transfer_funds("ann", "ben", 1, token(3)).expect("it is stored");
    let before = fs::read(&file.0).expect("a file").len();
    file.bank().transfer_funds("ann", "ben", 10, token(4)).expect("it is stored");
    let whole = fs::read(&file.0).expect("a file");
    for len in before..=whole.len() {
        fs::write(&file.0, &whole[..len]).expect("written");
        let expected = if len == whole.len() { 89 } else { 99 };
        assert_eq!(file.bank().balance("ann"), expected, "{len} of {} bytes", whole.len());
    }
}

#[test]
fn damage_below_what_was_synced_is_refused_and_nothing_changes() {
    let file = File::new("damage");
    for random in 5..8 {
        file.bank().transfer_funds("ann", "ben", 1, token(random)).expect("it is stored");
    }
    let mut bytes = fs::read(&file.0).expect("a file");
    bytes[20] ^= 1;
    fs::write(&file.0, &bytes).expect("written");
    assert!(matches!(FileStore::open(&file.0), Err(FileError::Damaged { at: 0 })));
    assert_eq!(fs::read(&file.0).expect("a file"), bytes);
}

fn open_once(file: &File) -> (Once<FileStore, ()>, Vec<u8>) {
    let (store, records) = FileStore::open(&file.0).expect("the file is whole");
    let mut state = Vec::new();
    let once = Once::recover(Config::default(), store, records, |replayed| {
        let (Replayed::State(bytes) | Replayed::Effect(bytes)) = replayed;
        state.extend_from_slice(bytes);
    });
    (once, state)
}

fn run(once: &mut Once<FileStore, ()>, random: u128) {
    let ticket = Ticket::Free(Token::new(1_000, random));
    once.begin(ticket, Fingerprint(random), (), 1_000).expect("there is room");
    once.commit(Some(ticket), None, vec![b'e']).expect("it is stored");
}

/// A compacted file was synced before it got its name: it has no torn tail. Guards against taking rot in it for one, and cutting off answers.
#[test]
fn no_byte_of_a_compacted_file_rots_unseen() {
    for answers in [0, 2] {
        let file = File::new(&format!("rot-{answers}"));
        let (mut once, _) = open_once(&file);
        (0..answers).for_each(|random| run(&mut once, random));
        once.compact(b"state".to_vec()).expect("it is stored");
        let bytes = fs::read(&file.0).expect("a file");
        let (_, whole) = FileStore::open(&file.0).expect("the file is whole");
        assert_eq!(whole.len() as u128, 1 + answers);
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 1 << (at % 8);
            fs::write(&file.0, &rotten).expect("written");
            assert!(matches!(FileStore::open(&file.0), Err(FileError::Damaged { .. })), "byte {at}");
            assert_eq!(fs::read(&file.0).expect("a file"), rotten, "nothing is changed");
            if at > 20 && at % 5 != 0 {
                continue;
            }
            fs::write(&file.0, &bytes[..at]).expect("written");
            let cut = FileStore::open(&file.0);
            // Less than the seal is like no file.
            assert_eq!(matches!(cut, Err(FileError::Damaged { .. })), at >= 16, "{at} bytes are left");
        }
    }
}

/// After a compaction, a crash leaves any beginning of the next batch; all that was there before stays. Rot before that batch is seen.
#[test]
fn what_follows_a_compaction_may_be_torn() {
    let file = File::new("torn-after");
    let (mut once, _) = open_once(&file);
    run(&mut once, 1);
    once.compact(b"e".to_vec()).expect("it is stored");
    let before = fs::read(&file.0).expect("a file").len();
    run(&mut once, 2);
    let bytes = fs::read(&file.0).expect("a file");
    for len in (before..=bytes.len()).rev().step_by(5) {
        fs::write(&file.0, &bytes[..len]).expect("written");
        let expected: &[u8] = if len == bytes.len() { b"ee" } else { b"e" };
        assert_eq!(open_once(&file).1, expected, "{len} of {} bytes", bytes.len());
    }
    for at in 0..before {
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x80;
        fs::write(&file.0, &rotten).expect("written");
        assert!(matches!(FileStore::open(&file.0), Err(FileError::Damaged { .. })), "byte {at}");
    }
}

/// Guards against a store that stops for good because one answer, or the state, is too long.
#[test]
fn a_record_that_is_too_long_leaves_the_file_and_the_store_as_they_were() {
    let file = File::new("too-long");
    let (mut once, _) = open_once(&file);
    run(&mut once, 1);
    let before = fs::read(&file.0).expect("a file");
    let ticket = Ticket::Free(Token::new(1_000, 2));
    assert_eq!(once.begin(ticket, Fingerprint(2), (), 1_000), Ok(Begun::New));
    let long = vec![b'e'; RECORD_BYTES_MAX];
    let appended = once.append(Some(ticket), Some(long.clone()), vec![]);
    assert!(matches!(appended, Err(OnceError::Rejected(FileError::TooLong))));
    assert!(matches!(once.compact(long), Err(OnceError::Rejected(FileError::TooLong))));
    assert_eq!(once.sync().expect("there is nothing to sync"), []);
    assert_eq!(fs::read(&file.0).expect("a file"), before);
    once.commit(Some(ticket), None, vec![b'e']).expect("it is stored");
    once.compact(b"ee".to_vec()).expect("it is stored");
    assert_eq!(open_once(&file).1, b"ee");
}
