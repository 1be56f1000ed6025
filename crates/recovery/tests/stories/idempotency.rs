//! `ledger retention= answers= in-flight= waiters= wait= skew= sessions= window=`; `begin TICKET PRINT [as=N]`, a ticket being `t7` (a token
//! made at 7 ms) or `s1.3`; `append TICKET nil|empty|TEXT [effect=TEXT]`, `durable`; `run TICKET PRINT nil|empty|TEXT`: all at once;
//! `abandon TICKET`; `give-up`; `open`; `acknowledge SESSION SEQUENCE`; `crash [lose=N]`: begins anew from the store without its last N
//! records; `compact`; `state`.

use keypact_recovery::idempotency::{
    Answer, Begun, Config, Fingerprint, MemoryStore, Once, Record, Replayed, Ticket, Token,
};

use super::{Story, number, number_or, setting};

/// Tokens need times above zero, and times need a day.
const DAY_MS: u64 = 1_700_000_000_000;

pub(crate) struct Ledgers {
    now_ms: u64,
    config: Config,
    once: Once<MemoryStore, u64>,
    /// Effects that are durable, in order.
    state: Vec<u8>,
    appended: Vec<(Ticket, u8)>,
}

impl Default for Ledgers {
    fn default() -> Self {
        let once = Once::recover(Config::default(), MemoryStore::default(), [], |_| {});
        Ledgers { now_ms: 0, config: Config::default(), once, state: Vec::new(), appended: Vec::new() }
    }
}

fn config(words: &[&str]) -> Result<Config, String> {
    Ok(Config {
        retention_ms: number_or(words, "retention", 60_000)?,
        answers_max: number_or(words, "answers", 100)? as usize,
        in_flight_max: number_or(words, "in-flight", 100)? as usize,
        waiters_max: number_or(words, "waiters", 4)? as usize,
        wait_max_ms: number_or(words, "wait", 1_000)?,
        skew_max_ms: number_or(words, "skew", 100)?,
        sessions_max: number_or(words, "sessions", 10)? as usize,
        session_window: number_or(words, "window", 4)?,
    })
}

fn ticket(word: &str) -> Result<Ticket, String> {
    if let Some((session, sequence)) = word.strip_prefix('s').and_then(|rest| rest.split_once('.')) {
        return Ok(Ticket::Sequenced { session: number(session)?, sequence: number(sequence)? });
    }
    let made_ms = number(word.strip_prefix('t').ok_or_else(|| format!("{word} is no ticket"))?)?;
    Ok(Ticket::Free(Token::new(DAY_MS + made_ms, 0)))
}

fn answer(word: &str) -> Answer {
    match word {
        "nil" => None,
        "empty" => Some(Vec::new()),
        text => Some(text.into()),
    }
}

fn shown(answer: &Answer) -> String {
    match answer {
        None => "nil".into(),
        Some(bytes) if bytes.is_empty() => "empty".into(),
        Some(bytes) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
    }
}

impl Ledgers {
    fn begin(&mut self, word: &str, print: &str, waiter: u64, out: &mut Vec<String>) -> Result<bool, String> {
        let print = Fingerprint::of(&[print.as_bytes()]);
        let begun = self.once.begin(ticket(word)?, print, waiter, DAY_MS + self.now_ms);
        out.push(match &begun {
            Ok(Begun::New) => format!("{word}: new"),
            Ok(Begun::Waits) => format!("{word}: {waiter} waits"),
            Ok(Begun::Done(answer)) => format!("{word}: done before: {}", shown(answer)),
            Err(refused) => format!("{word}: {refused}"),
        });
        Ok(begun == Ok(Begun::New))
    }

    fn append(&mut self, word: &str, text: &str, effect: &str) -> Result<(), String> {
        let ticket = ticket(word)?;
        self.once.append(Some(ticket), answer(text), effect.into()).map_err(|error| format!("{error:?}"))?;
        self.appended.push((ticket, effect.as_bytes().first().copied().unwrap_or(b' ')));
        Ok(())
    }

    fn durable(&mut self, out: &mut Vec<String>) -> Result<(), String> {
        let finished = self.once.sync().map_err(|error| format!("{error:?}"))?;
        for (done, (_, effect)) in finished.iter().zip(self.appended.drain(..)) {
            self.state.push(effect);
            let ticket = done.ticket.expect("all have one");
            let told = done.waiters.iter().map(|waiter| format!(", {waiter} is told")).collect::<String>();
            let ticket = match ticket {
                Ticket::Free(token) => format!("t{}", token.issued_ms() - DAY_MS),
                Ticket::Sequenced { .. } => ticket.to_string(),
            };
            out.push(format!("{ticket}: has had its effect: {}{told}", shown(&done.answer)));
        }
        Ok(())
    }

    fn crash(&mut self, lose: usize, out: &mut Vec<String>) {
        let mut records: Vec<Record> = self.once.store_ref().records().collect();
        records.truncate(records.len() - lose);
        let mut store = MemoryStore::default();
        for record in &records {
            keypact_recovery::idempotency::Store::append(&mut store, record).expect("memory does not fail");
        }
        let mut state = Vec::new();
        self.once = Once::recover(self.config, store, records, |replayed| {
            let (Replayed::State(bytes) | Replayed::Effect(bytes)) = replayed;
            state.extend_from_slice(bytes);
        });
        self.state = state;
        self.appended.clear();
        self.show(out);
    }

    fn show(&self, out: &mut Vec<String>) {
        let ledger = self.once.ledger();
        ledger.assert_invariants();
        let (answers, in_flight) = (ledger.answers(), ledger.in_flight());
        let effects = String::from_utf8_lossy(&self.state);
        out.push(format!("effects \"{effects}\", {answers} answers of free tokens, {in_flight} in flight"));
    }
}

impl Story for Ledgers {
    fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        match words {
            ["ledger", more @ ..] => {
                self.config = config(more)?;
                self.once = Once::recover(self.config, MemoryStore::default(), [], |_| {});
            }
            ["at", time] => self.now_ms = number(time)?,
            ["begin", word, print, more @ ..] => {
                self.begin(word, print, number_or(more, "as", 1)?, out)?;
            }
            ["append", word, text, more @ ..] => {
                self.append(word, text, setting(more, "effect").unwrap_or("x"))?;
            }
            ["durable"] => self.durable(out)?,
            ["run", word, print, text] => {
                if self.begin(word, print, 1, out)? {
                    self.append(word, text, print)?;
                    self.durable(out)?;
                }
            }
            ["abandon", word] => {
                let waiters = self.once.ledger_mut().abandon(ticket(word)?);
                out.push(format!("{word}: had no effect; told: {waiters:?}"));
            }
            ["give-up"] => {
                let waiters = self.once.ledger_mut().give_up(DAY_MS + self.now_ms);
                out.push(format!("have waited too long: {waiters:?}"));
            }
            ["open"] => {
                out.push(match self.once.open(DAY_MS + self.now_ms) {
                    Ok((session, _)) => format!("session {session}"),
                    Err(refused) => refused.to_string(),
                });
            }
            ["acknowledge", session, sequence] => {
                let result = self.once.ledger_mut().acknowledge(number(session)?, number(sequence)?);
                out.extend(result.err().map(|refused| refused.to_string()));
            }
            ["crash", more @ ..] => self.crash(number_or(more, "lose", 0)? as usize, out),
            ["compact"] => {
                let state = self.state.clone();
                self.once.compact(state).map_err(|error| format!("{error:?}"))?;
            }
            ["state"] => self.show(out),
            _ => return Err(format!("not understood: {}", words.join(" "))),
        }
        Ok(())
    }
}
