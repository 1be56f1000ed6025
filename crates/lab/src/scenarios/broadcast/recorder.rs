//! Writes down what members deliver, and has the checker judge it.

use std::collections::BTreeMap;

use keypact_checker::{DeliveryHistory, DeliveryOrder, check_delivery};
use keypact_ordering::clock::ReplicaId;
use keypact_protocol::{Delivery, NodeId};
use keypact_simulator::Violation;

use super::{BroadcastClients, Note, Opened, Opens};

/// One member's deliveries, by index.
#[derive(Debug, Default)]
struct Seen {
    notes: Vec<Opened>,
    /// Of each stream, the last that was delivered or skipped.
    reached: BTreeMap<u64, u64>,
    /// Jumps that were not yet followed by a delivery: the last delivery before, and where to.
    jumps: Vec<(u64, Vec<(u64, u64)>)>,
    /// The last note that each client broadcast here.
    sessions: BTreeMap<u32, u32>,
}

/// All members' deliveries.
#[derive(Debug)]
pub(crate) struct Recorder {
    history: DeliveryHistory,
    seen: BTreeMap<NodeId, Seen>,
    redelivered: u64,
}

impl Recorder {
    pub(crate) fn new(members: &[NodeId]) -> Recorder {
        let mut history = DeliveryHistory::new();
        for member in members {
            history.process(member.0);
        }
        let seen = members.iter().map(|member| (*member, Seen::default())).collect();
        Recorder { history, seen, redelivered: 0 }
    }

    /// Deliveries of one batch at a member. What it delivers again after a crash must be what it was.
    pub(crate) fn deliver<K: Opens>(
        &mut self,
        node: NodeId,
        deliveries: &[Delivery],
    ) -> Result<(), Violation> {
        for delivery in deliveries.iter().filter(|delivery| !delivery.command.is_empty()) {
            let opened = K::open(&delivery.command)
                .map_err(|error| Violation::new("delivers-what-was-sent", format!("{node}: {error}")))?;
            self.take(node, delivery.index, opened)?;
        }
        Ok(())
    }

    fn take(&mut self, node: NodeId, index: u64, opened: Opened) -> Result<(), Violation> {
        let seen = self.seen.get_mut(&node).expect("only members deliver");
        let place = usize::try_from(index).expect("few deliveries") - 1;
        if let Some(before) = seen.notes.get(place) {
            self.redelivered += 1;
            if before.note == opened.note {
                return Ok(());
            }
            let detail = format!("{node} delivered {:?} at {index}, and then {:?}", before.note, opened.note);
            return Err(Violation::new("delivers-again-what-it-did", detail));
        }
        if place > seen.notes.len() {
            let detail = format!("{node} delivers {index} after {}", seen.notes.len());
            return Err(Violation::new("leaves-no-gap", detail));
        }
        let Opened { stream, number, note } = opened;
        for (_, to) in seen.jumps.extract_if(.., |(after_index, _)| *after_index < index) {
            skip(&mut self.history, node, &mut seen.reached, &to);
        }
        seen.notes.push(opened);
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
        let reached = seen.reached.entry(stream).or_default();
        *reached = (*reached).max(number);
        self.history.deliver(node.0, &note.name(), 0);
        Ok(())
    }

    /// A member begins a new life: a jump that did not reach the disk was none. `counted` says how far it counts a stream as delivered.
    pub(crate) fn restarted(&mut self, node: NodeId, counted: impl Fn(u64) -> u64) {
        let jumps = &mut self.seen.get_mut(&node).expect("only members live").jumps;
        jumps.retain(|(_, to)| to.iter().all(|(stream, upto)| counted(*stream) >= *upto));
    }

    /// A member takes everything up to `to` for delivered, pairs of a stream and a number, after the delivery at `after_index`.
    pub(crate) fn jump(&mut self, node: NodeId, after_index: u64, to: impl Iterator<Item = (u64, u64)>) {
        let jumps = &mut self.seen.get_mut(&node).expect("only members jump").jumps;
        let to: Vec<_> = to.collect();
        if jumps.last().is_none_or(|(index, last)| *index != after_index || *last != to) {
            jumps.push((after_index, to));
        }
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Everything has come to rest: the whole history is judged, and what clients were told.
    pub(crate) fn judge(
        &self,
        orders: &[DeliveryOrder],
        clients: &BroadcastClients,
    ) -> Result<u64, Violation> {
        let mut history = self.history.clone();
        for (node, seen) in &self.seen {
            let mut reached = seen.reached.clone();
            for (_, to) in &seen.jumps {
                skip(&mut history, *node, &mut reached, to);
            }
        }
        history.comes_to_rest();
        for order in orders {
            check_delivery(&history, *order)
                .map_err(|violation| Violation::new(violation.property, violation.witness))?;
        }
        self.judge_clients(clients)?;
        Ok(orders.len() as u64)
    }

    fn judge_clients(&self, clients: &BroadcastClients) -> Result<(), Violation> {
        let own = |node: &NodeId| self.seen[node].notes.iter().map(|opened| opened.note);
        let broadcast: std::collections::BTreeSet<Note> =
            self.seen.keys().flat_map(|node| own(node).filter(|note| note.node == *node)).collect();
        if let Some(note) = clients.done().difference(&broadcast).next() {
            return Err(Violation::new("acknowledged-is-delivered", format!("{note:?} is nowhere")));
        }
        match clients.refused_notes().intersection(&broadcast).next() {
            None => Ok(()),
            Some(note) => Err(Violation::new("refused-is-not-delivered", format!("{note:?} was refused"))),
        }
    }
}

/// Writes down what is skipped by who begins anew at `to`.
fn skip(history: &mut DeliveryHistory, node: NodeId, reached: &mut BTreeMap<u64, u64>, to: &[(u64, u64)]) {
    for (stream, upto) in to {
        let reached = reached.entry(*stream).or_default();
        if *upto > *reached {
            *reached = *upto;
            history.skip(node.0, ReplicaId(*stream).life().0.0, *upto, 0);
        }
    }
}
