//! What clients asked and what they were told, in the order in which it happened.
//!
//! A history is a sequence of *events*: a process (one client, one request at a time) invokes a call, and later returns
//! from it with one of three outcomes. [`Recorder`] pairs the events into [`Operation`]s and refuses sequences that no
//! set of clients can produce.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Problem;

/// What a key or a register holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Value {
    /// Nothing: the key does not exist, the register was never written.
    #[default]
    Nil,
    /// A whole number.
    Integer(i64),
    /// A string.
    Text(Arc<str>),
}

impl Value {
    /// A string value.
    pub fn text(text: &str) -> Value {
        Value::Text(Arc::from(text))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => out.write_str("nil"),
            Value::Integer(number) => write!(out, "{number}"),
            Value::Text(text) => write!(out, "{text:?}"),
        }
    }
}

/// What a client asks of one key (or of the one register, counter).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Tell the value.
    Read,
    /// Replace the value, whatever it was.
    Write(Value),
    /// Add to the end of the string; a missing key counts as empty.
    Append(Arc<str>),
    /// Remove the key.
    Delete,
    /// Add to the number; a missing key counts as 0.
    Add(i64),
    /// Replace the value and tell the old one.
    GetSet(Value),
    /// Write if the key does not exist.
    SetIfAbsent(Value),
    /// Write `new` if the value is `expected`.
    CompareAndSet {
        /// What the value has to be.
        expected: Value,
        /// What it becomes.
        new: Value,
    },
}

/// What a client was told by an operation that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Only that it was done (or, for a read whose answer was lost, not even the value).
    Nothing,
    /// The value read, or the value replaced.
    Value(Value),
    /// The length after an append, the number after an addition, the count of removed keys.
    Integer(i64),
    /// Whether the condition of a conditional write held.
    Applied(bool),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect between invocation and return, once, and this is the answer.
    Ok(Answer),
    /// It did not take effect and never will.
    Failed,
    /// It may take effect at any time after the invocation, once, or never.
    Unknown,
}

/// When an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Place in the order of all events of the history, from 0; no two events share one.
    pub position: u64,
    /// Nanoseconds on the recorder's clock, if it kept one. Shown to people only: `position` decides the order.
    pub time_ns: Option<u64>,
    /// Line of the file, from 1; 0 if the history was never in a file.
    pub line: u32,
}

/// One call with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client.
    pub process: u64,
    /// The key; empty where the history has one register only.
    pub key: Arc<str>,
    /// What was asked.
    pub call: Call,
    /// What was told.
    pub outcome: Outcome,
    /// When it was asked.
    pub invoked: Moment,
    /// When the client was told; `None` if never. An operation of unknown outcome may have one: the moment it gave up.
    pub returned: Option<Moment>,
}

/// A finished history: operations in the order of their invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations, by `invoked.position`.
    pub operations: Vec<Operation>,
    /// A read that returned nothing is written as nil in this history, so that a nil says nothing (EDN without keys).
    pub nil_reads_say_nothing: bool,
}

impl History {
    /// The operations of each key, in the order of invocation, without those that failed. O(n log n).
    pub fn by_key(&self) -> BTreeMap<Arc<str>, Vec<&Operation>> {
        let mut keys: BTreeMap<Arc<str>, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            if operation.outcome != Outcome::Failed {
                keys.entry(Arc::clone(&operation.key)).or_default().push(operation);
            }
        }
        keys
    }

    /// A history from operations recorded elsewhere (several clients, each with its list). Events are ordered by
    /// `time_ns`; at one and the same time invocations come before returns, which is the weaker claim.
    ///
    /// # Errors
    /// [`Problem::MissingField`] if a moment has no time; otherwise what [`Recorder`] refuses.
    pub fn merge(recorded: Vec<Operation>) -> Result<History, Problem> {
        let mut events = Vec::with_capacity(recorded.len() * 2);
        for (index, operation) in recorded.iter().enumerate() {
            let asked = operation.invoked.time_ns.ok_or(Problem::MissingField("time_ns"))?;
            events.push((asked, false, index));
            if let Some(told) = operation.returned {
                events.push((told.time_ns.ok_or(Problem::MissingField("time_ns"))?, true, index));
            }
        }
        // A process may return and invoke again within one tick: it keeps its own order by the recorder's queue below.
        events.sort_unstable_by_key(|&(time, is_return, index)| (time, is_return, index));
        let mut recorder = Recorder::new();
        let mut waiting: BTreeMap<u64, Vec<(u64, usize)>> = BTreeMap::new();
        for (time, is_return, index) in events {
            let operation = &recorded[index];
            if is_return {
                recorder.finish(operation.process, operation.outcome.clone(), Some(time), 0)?;
                for (asked, held) in waiting.remove(&operation.process).unwrap_or_default() {
                    let next = &recorded[held];
                    recorder.invoke(next.process, &next.key, next.call.clone(), Some(asked), 0)?;
                }
            } else if recorder.is_busy(operation.process) {
                waiting.entry(operation.process).or_default().push((time, index));
            } else {
                recorder.invoke(operation.process, &operation.key, operation.call.clone(), Some(time), 0)?;
            }
        }
        match waiting.into_iter().next() {
            Some((process, _)) => Err(Problem::DoubleInvoke { process }),
            None => Ok(recorder.into_history()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessState {
    Idle,
    /// Waiting for the operation with this index.
    Waiting(usize),
    /// Its last operation's outcome is unknown: it must not be used again.
    Lost,
}

/// Builds a history from events, in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    operations: Vec<Operation>,
    processes: BTreeMap<u64, ProcessState>,
    events: u64,
    last_time_ns: u64,
}

impl Recorder {
    /// No events yet.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether this process has asked and not yet been told.
    pub fn is_busy(&self, process: u64) -> bool {
        matches!(self.processes.get(&process), Some(ProcessState::Waiting(_)))
    }

    /// The call that this process waits for.
    pub fn pending(&self, process: u64) -> Option<&Operation> {
        match self.processes.get(&process) {
            Some(&ProcessState::Waiting(index)) => self.operations.get(index),
            _ => None,
        }
    }

    /// A process asks.
    ///
    /// # Errors
    /// [`Problem::DoubleInvoke`], [`Problem::ProcessReused`], [`Problem::TimeBackwards`]; nothing is recorded then.
    pub fn invoke(
        &mut self,
        process: u64,
        key: &str,
        call: Call,
        time_ns: Option<u64>,
        line: u32,
    ) -> Result<(), Problem> {
        match self.processes.get(&process).copied().unwrap_or(ProcessState::Idle) {
            ProcessState::Idle => {}
            ProcessState::Waiting(_) => return Err(Problem::DoubleInvoke { process }),
            ProcessState::Lost => return Err(Problem::ProcessReused { process }),
        }
        let invoked = self.moment(time_ns, line)?;
        self.processes.insert(process, ProcessState::Waiting(self.operations.len()));
        let key = Arc::from(key);
        let outcome = Outcome::Unknown;
        self.operations.push(Operation { process, key, call, outcome, invoked, returned: None });
        Ok(())
    }

    /// A process is told. After [`Outcome::Unknown`] it can't be used again.
    ///
    /// # Errors
    /// [`Problem::ReturnWithoutInvoke`], [`Problem::TimeBackwards`]; nothing is recorded then.
    pub fn finish(
        &mut self,
        process: u64,
        outcome: Outcome,
        time_ns: Option<u64>,
        line: u32,
    ) -> Result<(), Problem> {
        let Some(&ProcessState::Waiting(index)) = self.processes.get(&process) else {
            return Err(Problem::ReturnWithoutInvoke { process });
        };
        let returned = self.moment(time_ns, line)?;
        let next = if outcome == Outcome::Unknown { ProcessState::Lost } else { ProcessState::Idle };
        self.processes.insert(process, next);
        let operation = &mut self.operations[index];
        assert!(operation.returned.is_none(), "a waiting operation has not returned");
        assert!(operation.invoked.position < returned.position, "events are numbered upwards");
        operation.outcome = outcome;
        operation.returned = Some(returned);
        Ok(())
    }

    /// The history; what has not returned stays open.
    pub fn into_history(self) -> History {
        let in_order =
            self.operations.windows(2).all(|two| two[0].invoked.position < two[1].invoked.position);
        assert!(in_order, "operations are recorded as they are invoked");
        History { operations: self.operations, nil_reads_say_nothing: false }
    }

    fn moment(&mut self, time_ns: Option<u64>, line: u32) -> Result<Moment, Problem> {
        if let Some(time) = time_ns {
            if time < self.last_time_ns {
                return Err(Problem::TimeBackwards { before_ns: self.last_time_ns, after_ns: time });
            }
            self.last_time_ns = time;
        }
        let position = self.events;
        self.events += 1;
        Ok(Moment { position, time_ns, line })
    }
}
