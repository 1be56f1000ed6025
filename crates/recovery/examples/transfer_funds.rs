//! A bank over UDP and a file: `transfer_funds(from, to, amount, token)` moves the money once, however often it is asked, and across a crash
//! between effect and answer; `tests/transfer.rs` shows the double debit without. Here the first answer is dropped on purpose.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keypact_recovery::idempotency::{Begun, Config, FileStore, Fingerprint, Once, Replayed, Ticket, Token};
use keypact_recovery::retry::{Failure, Policy};

type Told = Result<String, String>;

/// Accounts, and the record of what was done.
pub(crate) struct Bank {
    accounts: BTreeMap<String, i64>,
    once: Once<FileStore, ()>,
}

fn apply(accounts: &mut BTreeMap<String, i64>, effect: &str) {
    for change in effect.split_whitespace().collect::<Vec<_>>().chunks_exact(2) {
        *accounts.entry(change[0].into()).or_insert(100) += change[1].parse::<i64>().expect("our number");
    }
}

impl Bank {
    pub(crate) fn open(path: &std::path::Path) -> Result<Bank, Box<dyn std::error::Error>> {
        let (store, records) = FileStore::open(path)?;
        let mut accounts = BTreeMap::new();
        let once = Once::recover(Config::default(), store, records, |replayed| {
            let (Replayed::Effect(bytes) | Replayed::State(bytes)) = replayed;
            apply(&mut accounts, std::str::from_utf8(bytes).expect("we wrote text"));
        });
        Ok(Bank { accounts, once })
    }

    /// Everyone begins with 100.
    pub(crate) fn balance(&self, account: &str) -> i64 {
        self.accounts.get(account).copied().unwrap_or(100)
    }

    /// Moves money. Without a token, each call moves it again.
    pub(crate) fn transfer_funds(&mut self, from: &str, to: &str, amount: i64, token: Option<Token>) -> Told {
        let ticket = token.map(Ticket::Free);
        if let Some(ticket) = ticket {
            let asked = Fingerprint::of(&[from.as_bytes(), to.as_bytes(), &amount.to_le_bytes()]);
            match self.once.begin(ticket, asked, (), now_ms()).map_err(|refused| refused.to_string())? {
                Begun::Done(answer) => return Ok(String::from_utf8_lossy(&answer.unwrap_or_default()).into()),
                Begun::Waits => return Err("in flight".into()),
                Begun::New => {}
            }
        }
        let enough = self.balance(from) >= amount;
        let answer = if enough { format!("moved {amount}") } else { "refused: too little".into() };
        let effect = if enough { format!("{from} -{amount} {to} {amount}") } else { String::new() };
        // One record: after a crash, both the debit and its answer are there, or neither.
        let stored = self.once.commit(ticket, Some(answer.clone().into()), effect.clone().into());
        stored.map_err(|error| error.to_string())?;
        apply(&mut self.accounts, &effect);
        Ok(answer)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

#[allow(dead_code, reason = "the test of this file uses the bank alone")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("keypact-transfer-{}", std::process::id()));
    let (service, client) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    client.connect(service.local_addr()?)?;
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut bank = Bank::open(&path)?;
    let serving = std::thread::spawn(move || {
        let mut request = [0; 16];
        for number in 0..2 {
            let (len, from) = service.recv_from(&mut request).expect("a datagram");
            let token = Token(u128::from_le_bytes(request[..len].try_into().expect("a token")));
            let reply = bank.transfer_funds("ann", "ben", 30, Some(token)).unwrap_or_else(|error| error);
            if number > 0 {
                service.send_to(reply.as_bytes(), from).expect("it is sent");
            }
        }
        bank.balance("ann")
    });
    let token = Token::new(now_ms(), u128::from(std::process::id()));
    let (mut retry, mut reply) = (Policy::default().begin(true, 0), [0; 64]);
    let answer = loop {
        client.send(&token.0.to_le_bytes())?;
        match client.recv(&mut reply) {
            Ok(len) => break String::from_utf8_lossy(&reply[..len]).into_owned(),
            Err(_) => {
                std::thread::sleep(Duration::from_nanos(retry.failed(Failure::Uncertain, None, 0, 7)?))
            }
        }
    };
    println!("{answer} after {} retries; ann has {}", retry.retries(), serving.join().expect("it ends"));
    Ok(std::fs::remove_file(path)?)
}
