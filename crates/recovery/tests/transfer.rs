//! The textbook's example: a transfer whose answer is lost. Without a token the retry debits again; with one it does not, also across a crash
//! between effect and answer, and whatever of the file's last record the crash left.

#[path = "../examples/transfer_funds.rs"]
mod transfer_funds;

use std::fs;
use std::path::PathBuf;

use keypact_recovery::idempotency::{FileError, FileStore, Token};
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
