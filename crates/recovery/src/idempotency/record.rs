//! What a store holds, and its bytes: little-endian, lengths before contents, one byte for the kind.

use alloc::vec::Vec;
use core::fmt;

use super::ticket::{Fingerprint, Ticket, Token};

/// What came of an operation: nil, or bytes (perhaps none). All are answers.
pub type Answer = Option<Vec<u8>>;

/// An operation's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Which.
    pub ticket: Ticket,
    /// Of what was asked.
    pub fingerprint: Fingerprint,
    /// What every retry is told.
    pub answer: Answer,
    /// The latest time seen then, Unix milliseconds. Written by a compaction, for a session's: when the session was last used.
    pub at_ms: u64,
}

/// What a log begins with after compaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// Free tokens up to here may have been forgotten.
    pub forgotten: Option<Token>,
    /// The number of the next session.
    pub next_session: u64,
    /// The latest time seen, Unix milliseconds.
    pub now_ms: u64,
    /// The caller's state, as it gave it.
    pub state: Vec<u8>,
}

/// One record: all of it is durable, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// An effect, and the end of the operation that had it. Without `ended`: an operation without a ticket. An empty effect: nothing changed,
    /// but there is an answer.
    Effect {
        /// The end.
        ended: Option<Ended>,
        /// What the caller has to apply again at recovery.
        effect: Vec<u8>,
    },
    /// A session was opened.
    Opened {
        /// Its number.
        session: u64,
        /// When, Unix milliseconds.
        at_ms: u64,
        /// Sessions that were dropped since the record before of this kind. Recovery can't find out by itself who gave way: uses that left
        /// no record decided it.
        dropped: Vec<u64>,
    },
    /// Only at the beginning.
    Base(Base),
    /// A session as it was at compaction.
    Session {
        /// Its number.
        session: u64,
        /// Its client has all answers up to here.
        floor: u64,
        /// When it was last used, Unix milliseconds.
        used_ms: u64,
    },
}

/// Bytes that are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no record of an idempotency store")
    }
}

impl core::error::Error for DecodeError {}

const EFFECT: u8 = 1;
const OPENED: u8 = 2;
const BASE: u8 = 3;
const SESSION: u8 = 4;
const FREE: u8 = 1;
const SEQUENCED: u8 = 2;

impl Record {
    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Record::Effect { ended, effect } => {
                out.push(EFFECT);
                match ended {
                    None => out.push(0),
                    Some(ended) => encode_ended(ended, out),
                }
                put_bytes(effect, out);
            }
            Record::Opened { session, at_ms, dropped } => {
                out.push(OPENED);
                put_numbers(&[*session, *at_ms, dropped.len() as u64], out);
                put_numbers(dropped, out);
            }
            Record::Base(Base { forgotten, next_session, now_ms, state }) => {
                out.push(BASE);
                out.push(u8::from(forgotten.is_some()));
                out.extend_from_slice(&forgotten.map_or(0, |token| token.0).to_le_bytes());
                put_numbers(&[*next_session, *now_ms], out);
                put_bytes(state, out);
            }
            Record::Session { session, floor, used_ms } => {
                out.push(SESSION);
                put_numbers(&[*session, *floor, *used_ms], out);
            }
        }
        // A store takes an empty frame for a seal.
        assert!(out.len() > start, "a record has bytes");
    }

    /// Reads back what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut reader = Reader(bytes);
        let record = match reader.byte()? {
            EFFECT => Record::Effect { ended: decode_ended(&mut reader)?, effect: reader.bytes()?.to_vec() },
            OPENED => Record::Opened {
                session: reader.number()?,
                at_ms: reader.number()?,
                dropped: reader.numbers()?,
            },
            BASE => {
                let is_some = reader.flag()?;
                let token = Token(reader.wide()?);
                let (next_session, now_ms) = (reader.number()?, reader.number()?);
                let state = reader.bytes()?.to_vec();
                Record::Base(Base { forgotten: is_some.then_some(token), next_session, now_ms, state })
            }
            SESSION => Record::Session {
                session: reader.number()?,
                floor: reader.number()?,
                used_ms: reader.number()?,
            },
            _ => return Err(DecodeError),
        };
        if reader.0.is_empty() { Ok(record) } else { Err(DecodeError) }
    }
}

fn encode_ended(ended: &Ended, out: &mut Vec<u8>) {
    match ended.ticket {
        Ticket::Free(token) => {
            out.push(FREE);
            out.extend_from_slice(&token.0.to_le_bytes());
        }
        Ticket::Sequenced { session, sequence } => {
            out.push(SEQUENCED);
            put_numbers(&[session, sequence], out);
        }
    }
    out.extend_from_slice(&ended.fingerprint.0.to_le_bytes());
    put_numbers(&[ended.at_ms], out);
    out.push(u8::from(ended.answer.is_some()));
    put_bytes(ended.answer.as_deref().unwrap_or_default(), out);
}

fn decode_ended(reader: &mut Reader<'_>) -> Result<Option<Ended>, DecodeError> {
    let ticket = match reader.byte()? {
        0 => return Ok(None),
        FREE => Ticket::Free(Token(reader.wide()?)),
        SEQUENCED => Ticket::Sequenced { session: reader.number()?, sequence: reader.number()? },
        _ => return Err(DecodeError),
    };
    let fingerprint = Fingerprint(reader.wide()?);
    let at_ms = reader.number()?;
    let is_some = reader.flag()?;
    let bytes = reader.bytes()?;
    if !is_some && !bytes.is_empty() {
        return Err(DecodeError);
    }
    Ok(Some(Ended { ticket, fingerprint, answer: is_some.then(|| bytes.to_vec()), at_ms }))
}

fn put_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_numbers(&[bytes.len() as u64], out);
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError),
        }
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A count, and so many numbers.
    fn numbers(&mut self) -> Result<Vec<u64>, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError)?;
        // No allocation on the word of bytes that are not there.
        if count > self.0.len() / 8 {
            return Err(DecodeError);
        }
        (0..count).map(|_| self.number()).collect()
    }

    fn wide(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.take()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.number()?).map_err(|_| DecodeError)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(bytes)
    }
}
