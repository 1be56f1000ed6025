//! Is a history of broadcasts in order?
//!
//! A [`DeliveryHistory`] says of each process what it broadcast, delivered and skipped, in its own order; what processes did is compared by
//! message, never by clock. Properties, as Hadzilacos & Toueg (1994) name them:
//!
//! | property | says |
//! |---|---|
//! | `validity` | what is delivered was broadcast; in the end, what a correct process broadcast it delivers |
//! | `no-duplication` | no process delivers a message twice |
//! | `fifo` | nobody delivers a process's message before the ones it broadcast earlier |
//! | `causal` | nobody delivers a message before what its sender had delivered or broadcast when it broadcast it |
//! | `total` | no two processes deliver two messages in different orders |
//! | `agreement` | in the end, what any process delivered every correct process delivered |
//!
//! "In the end" properties are judged only if the history says that everything has come to rest. A process that is down then is not correct.
//! What a process skipped when it joined counts as delivered before.

mod causes;
mod jsonl;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use jsonl::{read_delivery, write_delivery};
pub use report::{DeliveryReport, check_delivery_file};

/// An order, each with all properties that it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// Each sender's messages in their order.
    Fifo,
    /// FIFO, and nothing before its causes.
    Causal,
    /// One order for all. Says nothing of FIFO.
    Total,
}

impl DeliveryOrder {
    /// All of them.
    pub const ALL: [DeliveryOrder; 3] = [DeliveryOrder::Fifo, DeliveryOrder::Causal, DeliveryOrder::Total];

    /// The name people give it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeliveryOrder::Fifo => "fifo",
            DeliveryOrder::Causal => "causal",
            DeliveryOrder::Total => "total",
        }
    }

    /// The order of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<DeliveryOrder> {
        DeliveryOrder::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// A message, numbered in the order in which a history first names it.
pub type MessageId = usize;

/// What a process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEvent {
    /// It broadcast a message.
    Broadcast(MessageId),
    /// It delivered a message.
    Deliver(MessageId),
    /// It will not deliver the first `upto` broadcasts of process `of`, as far as it has not yet.
    Skip {
        /// Whose.
        of: u64,
        /// How many.
        upto: u64,
    },
    /// It went down.
    Crash,
    /// It came back.
    Start,
}

/// An event with its line, 0 if there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) event: DeliveryEvent,
    pub(crate) line: u32,
}

/// A message's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) process: u64,
    /// Which of its broadcasts, from 1.
    pub(crate) number: u64,
    pub(crate) line: u32,
}

/// Who broadcast what, and who delivered what in which order.
#[derive(Clone, Debug, Default)]
pub struct DeliveryHistory {
    pub(crate) names: Vec<String>,
    ids: BTreeMap<String, MessageId>,
    pub(crate) origins: Vec<Option<Origin>>,
    pub(crate) processes: BTreeMap<u64, Vec<Placed>>,
    broadcasts: BTreeMap<u64, u64>,
    pub(crate) at_rest: bool,
}

impl DeliveryHistory {
    /// Nothing happened.
    #[must_use]
    pub fn new() -> DeliveryHistory {
        DeliveryHistory::default()
    }

    fn id(&mut self, name: &str) -> MessageId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len();
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        self.origins.push(None);
        id
    }

    fn push(&mut self, process: u64, event: DeliveryEvent, line: u32) {
        self.processes.entry(process).or_default().push(Placed { event, line });
    }

    /// A process takes part, though it may never do anything.
    pub fn process(&mut self, process: u64) {
        self.processes.entry(process).or_default();
    }

    /// A process broadcasts a message, whose name must be its own.
    ///
    /// # Errors
    /// The message was broadcast before; the history is unchanged.
    pub fn broadcast(&mut self, process: u64, message: &str, line: u32) -> Result<(), String> {
        let id = self.id(message);
        if let Some(before) = self.origins[id] {
            return Err(format!("{message} was broadcast before, by process {}", before.process));
        }
        let number = self.broadcasts.entry(process).or_default();
        *number += 1;
        self.origins[id] = Some(Origin { process, number: *number, line });
        self.push(process, DeliveryEvent::Broadcast(id), line);
        Ok(())
    }

    /// A process delivers a message.
    pub fn deliver(&mut self, process: u64, message: &str, line: u32) {
        let id = self.id(message);
        self.push(process, DeliveryEvent::Deliver(id), line);
    }

    /// A process skips the first `upto` broadcasts of another.
    pub fn skip(&mut self, process: u64, of: u64, upto: u64, line: u32) {
        self.push(process, DeliveryEvent::Skip { of, upto }, line);
    }

    /// A process goes down.
    pub fn crash(&mut self, process: u64, line: u32) {
        self.push(process, DeliveryEvent::Crash, line);
    }

    /// A process comes back.
    pub fn start(&mut self, process: u64, line: u32) {
        self.push(process, DeliveryEvent::Start, line);
    }

    /// Nothing is under way any more: what is not delivered now never will be.
    pub fn comes_to_rest(&mut self) {
        self.at_rest = true;
    }

    /// Messages named.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.names.len()
    }

    /// Deliveries of all processes.
    #[must_use]
    pub fn deliveries(&self) -> usize {
        let is_delivery = |placed: &&Placed| matches!(placed.event, DeliveryEvent::Deliver(_));
        self.processes.values().map(|events| events.iter().filter(is_delivery).count()).sum()
    }

    fn is_correct(&self, process: u64) -> bool {
        let last = self.processes[&process].iter().rev().find_map(|placed| match placed.event {
            DeliveryEvent::Crash => Some(false),
            DeliveryEvent::Start => Some(true),
            _ => None,
        });
        last.unwrap_or(true)
    }

    fn told(&self, id: MessageId) -> String {
        match self.origins[id] {
            None => format!("{:?}", self.names[id]),
            Some(origin) => {
                let (number, process) = (origin.number, origin.process);
                format!("{:?} (broadcast {number} of process {process}{})", self.names[id], at(origin.line))
            }
        }
    }
}

fn at(line: u32) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

/// A property that does not hold, with the events that prove it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeliveryViolation {
    /// Which: see the table above.
    pub property: &'static str,
    /// For a person to read.
    pub witness: String,
}

/// Decides whether a history keeps an order. O(events * processes) for fifo and causal, O(events * processes^2) for total.
///
/// # Errors
/// The first property that does not hold.
pub fn check_delivery(history: &DeliveryHistory, order: DeliveryOrder) -> Result<(), DeliveryViolation> {
    check_each(history)?;
    match order {
        DeliveryOrder::Fifo => check_fifo(history)?,
        DeliveryOrder::Causal => {
            check_fifo(history)?;
            causes::check_causal(history)?;
        }
        DeliveryOrder::Total => check_total(history)?,
    }
    if history.at_rest { check_end(history) } else { Ok(()) }
}

fn violation(property: &'static str, witness: String) -> DeliveryViolation {
    DeliveryViolation { property, witness }
}

/// Validity as far as it holds at all times, and no duplication.
fn check_each(history: &DeliveryHistory) -> Result<(), DeliveryViolation> {
    for (process, events) in &history.processes {
        let mut first: BTreeMap<MessageId, u32> = BTreeMap::new();
        for placed in events {
            let DeliveryEvent::Deliver(id) = placed.event else { continue };
            if history.origins[id].is_none() {
                let witness = format!(
                    "process {process} delivers {:?}{}, which nobody broadcast",
                    history.names[id],
                    at(placed.line)
                );
                return Err(violation("validity", witness));
            }
            if let Some(before) = first.insert(id, placed.line) {
                let (first, again) = (at(before), at(placed.line));
                let message = history.told(id);
                let witness = format!("process {process} delivers {message} twice{first}{again}");
                return Err(violation("no-duplication", witness));
            }
        }
    }
    Ok(())
}

/// How far a process is in each sender's broadcasts.
#[derive(Clone, Debug, Default)]
struct Reached(BTreeMap<u64, u64>);

impl Reached {
    fn of(&self, sender: u64) -> u64 {
        self.0.get(&sender).copied().unwrap_or(0)
    }

    fn raise(&mut self, sender: u64, number: u64) {
        let reached = self.0.entry(sender).or_default();
        *reached = (*reached).max(number);
    }
}

fn check_fifo(history: &DeliveryHistory) -> Result<(), DeliveryViolation> {
    for (process, events) in &history.processes {
        let mut reached = Reached::default();
        for placed in events {
            match placed.event {
                DeliveryEvent::Skip { of, upto } => reached.raise(of, upto),
                DeliveryEvent::Deliver(id) => {
                    let origin = history.origins[id].expect("what is delivered was broadcast");
                    let before = reached.of(origin.process);
                    if origin.number != before + 1 {
                        let (message, place) = (history.told(id), at(placed.line));
                        let sender = origin.process;
                        let witness = format!(
                            "process {process} delivers {message}{place} when it has delivered {before} of process {sender}"
                        );
                        return Err(violation("fifo", witness));
                    }
                    reached.raise(origin.process, origin.number);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn deliveries(events: &[Placed]) -> impl Iterator<Item = (MessageId, u32)> {
    events.iter().filter_map(|placed| match placed.event {
        DeliveryEvent::Deliver(id) => Some((id, placed.line)),
        _ => None,
    })
}

/// Of one process, each message's place and line.
type Places = BTreeMap<MessageId, (usize, u32)>;

fn check_total(history: &DeliveryHistory) -> Result<(), DeliveryViolation> {
    let places: Vec<(u64, Places)> = history
        .processes
        .iter()
        .map(|(process, events)| {
            let numbered = deliveries(events).enumerate();
            (*process, numbered.map(|(place, (id, line))| (id, (place, line))).collect())
        })
        .collect();
    for (at_left, (left, _)) in places.iter().enumerate() {
        for (right, places) in &places[at_left + 1..] {
            let mut before: Option<(MessageId, u32, usize, u32)> = None;
            for (id, line) in deliveries(&history.processes[left]) {
                let Some(&(place, right_line)) = places.get(&id) else { continue };
                if let Some((other, other_line, other_place, other_right)) = before
                    && other_place > place
                {
                    let (first, second) = (history.told(other), history.told(id));
                    let witness = format!(
                        "process {left} delivers {first}{} before {second}{}; process {right} the other way round{}{}",
                        at(other_line),
                        at(line),
                        at(right_line),
                        at(other_right)
                    );
                    return Err(violation("total", witness));
                }
                before = Some((id, line, place, right_line));
            }
        }
    }
    Ok(())
}

/// What has to hold once everything has come to rest.
fn check_end(history: &DeliveryHistory) -> Result<(), DeliveryViolation> {
    let mut delivered_by: BTreeMap<MessageId, u64> = BTreeMap::new();
    for (process, events) in &history.processes {
        for (id, _) in deliveries(events) {
            delivered_by.entry(id).or_insert(*process);
        }
    }
    for (process, events) in &history.processes {
        if !history.is_correct(*process) {
            continue;
        }
        let has: BTreeSet<MessageId> = deliveries(events).map(|(id, _)| id).collect();
        let mut skipped = Reached::default();
        for placed in events {
            if let DeliveryEvent::Skip { of, upto } = placed.event {
                skipped.raise(of, upto);
            }
        }
        for id in 0..history.names.len() {
            let Some(origin) = history.origins[id] else { continue };
            if has.contains(&id) || origin.number <= skipped.of(origin.process) {
                continue;
            }
            if origin.process == *process {
                let witness = format!("process {process} never delivers its own {}", history.told(id));
                return Err(violation("validity", witness));
            }
            if let Some(other) = delivered_by.get(&id) {
                let message = history.told(id);
                let witness = format!("process {other} delivers {message}, process {process} never does");
                return Err(violation("agreement", witness));
            }
        }
    }
    Ok(())
}
