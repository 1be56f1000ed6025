//! Writes down what members deliver in one order, and has the checker judge it.

use std::collections::{BTreeMap, BTreeSet};

use keypact_checker::{DeliveryHistory, DeliveryOrder, check_delivery};
use keypact_ordering::total::TotalInvariants;
use keypact_protocol::{Delivery, NodeId};
use keypact_simulator::Violation;

use super::super::broadcast::{BroadcastClients, Enveloped, Note, Opens};

/// How far one member is.
#[derive(Debug, Default)]
struct Seen {
    /// The last index that it delivered or passed over.
    index: u64,
    /// Of each member's notes, how many that covers.
    counts: BTreeMap<NodeId, u64>,
    /// The last note that each client broadcast here.
    sessions: BTreeMap<u32, u32>,
}

/// All members' deliveries.
#[derive(Debug)]
pub(super) struct Recorder {
    history: DeliveryHistory,
    invariants: TotalInvariants,
    /// What was delivered at each index, by whoever came first; the invariants say that all others deliver the same.
    order: BTreeMap<u64, Option<Note>>,
    seen: BTreeMap<NodeId, Seen>,
    pub(super) redelivered: u64,
    pub(super) passed_over: u64,
}

impl Recorder {
    pub(super) fn new(members: &[NodeId]) -> Recorder {
        let mut history = DeliveryHistory::new();
        for member in members {
            history.process(member.0);
        }
        Recorder {
            history,
            invariants: TotalInvariants::default(),
            order: BTreeMap::new(),
            seen: members.iter().map(|member| (*member, Seen::default())).collect(),
            redelivered: 0,
            passed_over: 0,
        }
    }

    /// Deliveries of one step at a member, which has then applied everything up to `applied`.
    pub(super) fn deliver(
        &mut self,
        node: NodeId,
        deliveries: &[Delivery],
        applied: u64,
    ) -> Result<(), Violation> {
        self.invariants
            .check(node, deliveries)
            .map_err(|violation| Violation::new(violation.property, violation.detail))?;
        for delivery in deliveries {
            let note = match delivery.command.is_empty() {
                true => None,
                false => Some(
                    Enveloped::open(&delivery.command)
                        .map_err(|error| {
                            Violation::new("delivers-what-was-sent", format!("{node}: {error}"))
                        })?
                        .note,
                ),
            };
            self.order.entry(delivery.index).or_insert(note);
            if delivery.index <= self.seen[&node].index {
                self.redelivered += 1;
                continue;
            }
            self.pass_over(node, delivery.index - 1)?;
            self.take(node, note, false)?;
        }
        self.pass_over(node, applied)
    }

    /// A snapshot took a member's place of what comes up to `index`.
    fn pass_over(&mut self, node: NodeId, index: u64) -> Result<(), Violation> {
        while self.seen[&node].index < index {
            let next = self.seen[&node].index + 1;
            let Some(note) = self.order.get(&next).copied() else {
                let detail = format!("{node} passes over {next}, which nobody has delivered");
                return Err(Violation::new("passes-over-what-was-delivered", detail));
            };
            self.passed_over += 1;
            self.take(node, note, true)?;
        }
        Ok(())
    }

    /// The next index of a member.
    fn take(&mut self, node: NodeId, note: Option<Note>, passed_over: bool) -> Result<(), Violation> {
        let seen = self.seen.get_mut(&node).expect("only members deliver");
        seen.index += 1;
        let Some(note) = note else { return Ok(()) };
        let count = seen.counts.entry(note.node).or_default();
        *count += 1;
        let count = *count;
        if note.node == node {
            let last = seen.sessions.insert(note.client, note.number).unwrap_or(0);
            if last > note.number {
                let detail = format!("{node} broadcasts {note:?} after the client's {last}");
                return Err(Violation::new("broadcasts-in-session-order", detail));
            }
            self.history
                .broadcast(node.0, &note.name(), 0)
                .map_err(|error| Violation::new("broadcasts-once", error))?;
        }
        if passed_over {
            self.history.skip(node.0, note.node.0, count, 0);
        } else {
            self.history.deliver(node.0, &note.name(), 0);
        }
        Ok(())
    }

    /// Everything has come to rest: the whole history is judged, and what clients were told.
    pub(super) fn judge(&self, clients: &BroadcastClients) -> Result<u64, Violation> {
        let mut history = self.history.clone();
        history.comes_to_rest();
        for order in [DeliveryOrder::Total, DeliveryOrder::Fifo] {
            check_delivery(&history, order)
                .map_err(|violation| Violation::new(violation.property, violation.witness))?;
        }
        let delivered: BTreeSet<Note> = self.order.values().copied().flatten().collect();
        if let Some(note) = clients.done().difference(&delivered).next() {
            return Err(Violation::new("acknowledged-is-delivered", format!("{note:?} is nowhere")));
        }
        match clients.refused_notes().intersection(&delivered).next() {
            None => Ok(2),
            Some(note) => Err(Violation::new("refused-is-not-delivered", format!("{note:?} was refused"))),
        }
    }
}
