//! Causal order: what a message comes after, and who did not wait for it.

use std::collections::BTreeMap;

use super::{DeliveryEvent, DeliveryHistory, DeliveryViolation, MessageId, Reached, at, violation};

/// For each message, how many broadcasts of each sender it comes after, over any number of steps.
struct Causes {
    /// Places of processes in the clocks.
    places: BTreeMap<u64, usize>,
    clocks: Vec<Option<Vec<u64>>>,
}

impl Causes {
    /// Follows all processes at once; a delivery waits until its message's broadcast was followed. `Err`: a message that can't be, since it
    /// comes after itself.
    fn new(history: &DeliveryHistory) -> Result<Causes, MessageId> {
        let places: BTreeMap<u64, usize> =
            history.processes.keys().enumerate().map(|(place, process)| (*process, place)).collect();
        let mut clocks: Vec<Option<Vec<u64>>> = vec![None; history.names.len()];
        let mut now: Vec<Vec<u64>> = vec![vec![0; places.len()]; places.len()];
        let mut next: Vec<usize> = vec![0; places.len()];
        let mut waits = None;
        loop {
            let mut changed = false;
            for (at, events) in history.processes.values().enumerate() {
                while let Some(placed) = events.get(next[at]) {
                    match placed.event {
                        DeliveryEvent::Broadcast(id) => {
                            clocks[id] = Some(now[at].clone());
                            now[at][at] += 1;
                        }
                        DeliveryEvent::Deliver(id) => {
                            let Some(clock) = &clocks[id] else {
                                waits = Some(id);
                                break;
                            };
                            for (mine, theirs) in now[at].iter_mut().zip(clock) {
                                *mine = (*mine).max(*theirs);
                            }
                            let origin = history.origins[id].expect("what is delivered was broadcast");
                            let mine = &mut now[at][places[&origin.process]];
                            *mine = (*mine).max(origin.number);
                        }
                        _ => {}
                    }
                    next[at] += 1;
                    changed = true;
                }
            }
            let done = history.processes.values().zip(&next).all(|(events, next)| *next == events.len());
            if done {
                return Ok(Causes { places, clocks });
            }
            if !changed {
                return Err(waits.expect("who does not go on waits for a message"));
            }
        }
    }

    fn of(&self, id: MessageId, sender: u64) -> u64 {
        self.clocks[id].as_ref().expect("all were followed")[self.places[&sender]]
    }
}

pub(super) fn check_causal(history: &DeliveryHistory) -> Result<(), DeliveryViolation> {
    let causes = Causes::new(history).map_err(|id| {
        let witness =
            format!("{} comes after itself: it was delivered before its broadcast", history.told(id));
        violation("causal", witness)
    })?;
    for (process, events) in &history.processes {
        let mut reached = Reached::default();
        for placed in events {
            match placed.event {
                DeliveryEvent::Skip { of, upto } => reached.raise(of, upto),
                DeliveryEvent::Deliver(id) => {
                    let lacks =
                        causes.places.keys().find(|sender| causes.of(id, **sender) > reached.of(**sender));
                    if let Some(sender) = lacks {
                        let number = reached.of(*sender) + 1;
                        let what = explain(history, &causes, id, *sender, number);
                        let (message, place) = (history.told(id), at(placed.line));
                        let witness = format!(
                            "process {process} delivers {message}{place} before broadcast {number} of process {sender}: {what}"
                        );
                        return Err(violation("causal", witness));
                    }
                    let origin = history.origins[id].expect("what is delivered was broadcast");
                    reached.raise(origin.process, origin.number);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The steps from a message back to a broadcast that it comes after.
fn explain(
    history: &DeliveryHistory,
    causes: &Causes,
    message: MessageId,
    sender: u64,
    number: u64,
) -> String {
    let mut steps = Vec::new();
    let mut at_message = message;
    // Each step goes to a message that comes before; there are only so many.
    for _ in 0..history.names.len() {
        let origin = history.origins[at_message].expect("what is delivered was broadcast");
        if origin.process == sender {
            break;
        }
        let events = &history.processes[&origin.process];
        let before = events.iter().take_while(|placed| placed.event != DeliveryEvent::Broadcast(at_message));
        let cause = before.filter_map(|placed| match placed.event {
            DeliveryEvent::Deliver(id) => Some((id, placed.line)),
            _ => None,
        });
        let found = cause.into_iter().find(|(id, _)| {
            let direct = history.origins[*id].is_some_and(|o| o.process == sender && o.number >= number);
            direct || causes.of(*id, sender) >= number
        });
        let Some((cause, line)) = found else { break };
        steps.push(format!(
            "process {} delivered {:?}{} before it broadcast {:?}",
            origin.process,
            history.names[cause],
            at(line),
            history.names[at_message]
        ));
        at_message = cause;
    }
    steps.join("; ")
}
