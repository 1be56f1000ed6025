//! Following: the sequencer's order is written down and answered; what is committed is delivered.

use alloc::vec::Vec;

use keypact_protocol::{NodeId, Sink};

use super::{Body, Entry, Record, Sequencer, Viewstamp};

/// Entries that contradict what a majority holds, or what was said before. Nothing was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Contradiction;

impl Sequencer {
    pub(super) fn on_order(
        &mut self,
        from: NodeId,
        prev: Viewstamp,
        entries: Vec<Entry>,
        committed: u64,
        out: &mut impl Sink<Self>,
    ) {
        assert!(matches!(self.state, super::State::Member), "who has a role obeys nobody");
        if self.is_installing() {
            // The log may be replaced at any moment; it is sent again.
            return;
        }
        if entries.last().is_some_and(|entry| entry.at.epoch > self.hard.epoch) {
            self.counters.refused_contradictions += 1;
            return;
        }
        if prev.position > self.log.base().position && self.log.at(prev.position) != Some(prev) {
            // Up to what was committed all logs are equal.
            let last = self.log.last().position.min(prev.position - 1);
            let conflict = self.log.at(prev.position).is_some();
            let last = if conflict { self.committed } else { last };
            return out.send(from, self.say(Body::Gap { last }));
        }
        let Ok(end) = self.take_over(prev, entries, out) else { return };
        // A base is committed, and so surely the sequencer's.
        self.agreed = self.agreed.max(end).max(self.log.base().position);
        self.commit_to(committed.min(self.agreed), out);
        assert!(self.agreed <= self.log.last().position, "it answers for what it has");
        // Held until all of it is durable.
        out.send(from, self.say(Body::Accept { held: self.agreed }));
    }

    /// Writes down entries behind `prev`, which is here. Those that are here already stay: cutting them off and writing them again would
    /// leave a moment in which a crash takes what this member has answered for. Returns the last position that is then equal.
    pub(super) fn take_over(
        &mut self,
        prev: Viewstamp,
        entries: Vec<Entry>,
        out: &mut impl Sink<Self>,
    ) -> Result<u64, Contradiction> {
        let follow =
            entries.iter().zip(prev.position + 1..).all(|(entry, position)| entry.at.position == position);
        assert!(follow, "entries stand one behind the other");
        let end = prev.position + entries.len() as u64;
        let base = self.log.base().position;
        let new = entries.into_iter().skip_while(|entry| {
            entry.at.position <= base || self.log.at(entry.at.position) == Some(entry.at)
        });
        let new: Vec<Entry> = new.collect();
        let Some(first) = new.first().map(|entry| entry.at) else { return Ok(end) };
        // What was compared is as it is there: who says otherwise in the same epoch contradicts itself.
        let settled = self.committed.max(self.agreed);
        if first.position <= settled || self.log.at(first.position - 1).is_none() {
            self.counters.refused_contradictions += 1;
            return Err(Contradiction);
        }
        if self.log.at(first.position - 1).is_some_and(|before| before.epoch > first.epoch) {
            self.counters.refused_contradictions += 1;
            return Err(Contradiction);
        }
        if first.position <= self.log.last().position {
            self.counters.conflicts += 1;
            self.counters.truncated += self.log.truncate_from(first.position);
        }
        for entry in new {
            let lsn = self.append(Record::Entry(entry.clone()), out);
            self.log.push(entry, lsn, None);
        }
        assert!(self.log.last().position >= end, "all of it is here");
        assert!(self.log.last().position >= self.committed, "what is committed stays");
        Ok(end)
    }

    /// A majority holds everything up to here.
    pub(super) fn commit_to(&mut self, position: u64, out: &mut impl Sink<Self>) {
        if position > self.committed {
            assert!(position <= self.log.last().position, "what is committed is here");
            self.committed = position;
            self.deliver(out);
            assert!(self.delivered <= self.committed, "no more is delivered than is committed");
        }
    }
}
