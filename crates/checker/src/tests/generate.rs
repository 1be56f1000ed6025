//! Histories of clients of one correct server, and what goes wrong with them.

use std::sync::Arc;

use crate::history::{Answer, Call, History, Outcome, Recorder, Value};
use crate::model::ModelKind;

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, odds: u64) -> bool {
        odds > 0 && self.below(odds) == 0
    }
}

/// What histories to make.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) model: ModelKind,
    pub(super) operations: usize,
    pub(super) processes: u64,
    pub(super) keys: u64,
    /// One write in so many is of unknown outcome; 0: none.
    pub(super) unknown_one_in: u64,
    pub(super) failed_one_in: u64,
    /// Values are drawn from so many; 0: every value is new.
    pub(super) values: u64,
    /// One operation in so many is a read, at least.
    pub(super) reads_one_in: u64,
}

/// A server of single values, written apart from the models.
fn serve(held: &mut Value, call: &Call) -> Option<Answer> {
    let number = |held: &Value| match held {
        Value::Nil => Some(0),
        Value::Integer(number) => Some(*number),
        Value::Text(text) => text.parse::<i64>().ok(),
    };
    match call {
        Call::Read => Some(Answer::Value(held.clone())),
        Call::Write(new) => {
            *held = new.clone();
            Some(Answer::Nothing)
        }
        Call::Append(suffix) => {
            let before = if let Value::Text(text) = held { text.to_string() } else { String::new() };
            let after = before + suffix;
            let length = after.len() as i64;
            *held = Value::Text(after.into());
            Some(Answer::Integer(length))
        }
        Call::Delete => {
            let existed = std::mem::take(held) != Value::Nil;
            Some(Answer::Integer(i64::from(existed)))
        }
        Call::Add(amount) => {
            let sum = number(held)? + amount;
            let text = !matches!(held, Value::Integer(_));
            *held = if text { Value::text(&sum.to_string()) } else { Value::Integer(sum) };
            Some(Answer::Integer(sum))
        }
        Call::GetSet(new) => Some(Answer::Value(std::mem::replace(held, new.clone()))),
        Call::SetIfAbsent(new) => {
            let absent = *held == Value::Nil;
            if absent {
                *held = new.clone();
            }
            Some(Answer::Applied(absent))
        }
        Call::CompareAndSet { expected, new } => {
            let equal = held == expected;
            if equal {
                *held = new.clone();
            }
            Some(Answer::Applied(equal))
        }
    }
}

fn draw_value(shape: &Shape, random: &mut Random, fresh: &mut i64) -> Value {
    let number = if shape.values == 0 {
        *fresh += 1;
        *fresh
    } else {
        random.below(shape.values) as i64
    };
    if shape.model == ModelKind::Kv { Value::text(&number.to_string()) } else { Value::Integer(number) }
}

fn draw_call(shape: &Shape, random: &mut Random, fresh: &mut i64) -> Call {
    if random.one_in(shape.reads_one_in) {
        return Call::Read;
    }
    let mut value = |random: &mut Random| draw_value(shape, random, fresh);
    match (&shape.model, random.below(10)) {
        (ModelKind::Counter, _) => Call::Add(random.below(3) as i64 - 1),
        (ModelKind::Register, _) | (ModelKind::CasRegister, 0..=4) => Call::Write(value(random)),
        (ModelKind::CasRegister, _) => Call::CompareAndSet { expected: value(random), new: value(random) },
        (ModelKind::Kv, 0..=2) => Call::Write(value(random)),
        (ModelKind::Kv, 3) => Call::Append(Arc::from(["x", "y"][random.below(2) as usize])),
        (ModelKind::Kv, 4) => Call::Delete,
        (ModelKind::Kv, 5) => Call::Add(random.below(2) as i64 + 1),
        (ModelKind::Kv, 6) => Call::GetSet(value(random)),
        (ModelKind::Kv, 7) => Call::SetIfAbsent(value(random)),
        (ModelKind::Kv, 8) => Call::CompareAndSet { expected: Value::Nil, new: value(random) },
        (ModelKind::Kv, _) => Call::CompareAndSet { expected: value(random), new: value(random) },
    }
}

enum Client {
    Idle,
    Asked { key: usize, call: Call },
    Served { answer: Option<Answer> },
}

/// A linearizable history: each operation takes effect at some moment between its invocation and its return.
pub(super) fn linearizable(shape: &Shape, initial: &Value, random: &mut Random) -> History {
    let mut held = vec![initial.clone(); shape.keys as usize];
    let mut clients: Vec<(u64, Client)> =
        (0..shape.processes).map(|process| (process, Client::Idle)).collect();
    let mut recorder = Recorder::new();
    let (mut fresh, mut asked, mut next_process) = (0, 0, shape.processes);
    while asked < shape.operations || clients.iter().any(|(_, client)| !matches!(client, Client::Idle)) {
        let place = random.below(clients.len() as u64) as usize;
        let (process, client) = &mut clients[place];
        *client = match std::mem::replace(client, Client::Idle) {
            Client::Idle if asked == shape.operations => Client::Idle,
            Client::Idle => {
                asked += 1;
                let key = random.below(shape.keys) as usize;
                let call = draw_call(shape, random, &mut fresh);
                recorder.invoke(*process, &format!("k{key}"), call.clone(), Some(asked as u64), 0).unwrap();
                Client::Asked { key, call }
            }
            Client::Asked { call, .. } if call != Call::Read && random.one_in(shape.failed_one_in) => {
                recorder.finish(*process, Outcome::Failed, None, 0).unwrap();
                Client::Idle
            }
            Client::Asked { key, call } => {
                let lost = call != Call::Read && random.one_in(shape.unknown_one_in);
                let answer = if lost && random.one_in(2) { None } else { serve(&mut held[key], &call) };
                if !lost {
                    Client::Served { answer }
                } else {
                    if random.one_in(2) {
                        recorder.finish(*process, Outcome::Unknown, None, 0).unwrap();
                    }
                    (*process, next_process) = (next_process, next_process + 1);
                    Client::Idle
                }
            }
            Client::Served { answer } => {
                let outcome = answer.map_or(Outcome::Failed, Outcome::Ok);
                recorder.finish(*process, outcome, None, 0).unwrap();
                Client::Idle
            }
        };
    }
    recorder.into_history()
}

/// Changes one answer to one that another operation of the same kind was given, or to a wrong one.
pub(super) fn spoil(history: &mut History, random: &mut Random) {
    let length = history.operations.len() as u64;
    if length == 0 {
        return;
    }
    let donor = history.operations[random.below(length) as usize].outcome.clone();
    let victim = &mut history.operations[random.below(length) as usize];
    let Outcome::Ok(answer) = &mut victim.outcome else { return };
    match (&mut *answer, donor) {
        (Answer::Value(seen), Outcome::Ok(Answer::Value(other))) => *seen = other,
        (Answer::Value(seen), _) => *seen = Value::Nil,
        (Answer::Integer(number), Outcome::Ok(Answer::Integer(other))) => *number = other.max(0),
        (Answer::Integer(number), _) if victim.call != Call::Delete => *number += 1,
        (Answer::Integer(number), _) => *number = 1 - *number,
        (Answer::Applied(applied), _) => *applied = !*applied,
        (Answer::Nothing, _) => {}
    }
    if victim.call == Call::Delete
        && let Answer::Integer(number) = answer
    {
        *number = (*number).min(1);
    }
}
