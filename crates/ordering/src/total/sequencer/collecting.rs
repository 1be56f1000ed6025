//! A new sequencer on its way: what a majority holds, and the latest of it brought here.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use keypact_protocol::{Context, Lsn, NodeId, Plant, Sink, planted};

use super::{Body, Entry, Sequencer, State, Timer, Viewstamp};

/// What is known while a majority is asked.
#[derive(Debug)]
pub(super) struct Collection {
    /// Who obeys no older epoch, and its last entry. This member too, once its own promise is durable.
    holds: BTreeMap<NodeId, Viewstamp>,
    /// The promise's record.
    promise: Lsn,
    /// Whose log is brought here, once a majority has answered.
    source: Option<NodeId>,
}

impl Collection {
    pub(super) fn assert_invariants(&self, members: usize) {
        assert!(self.holds.len() <= members, "each member answers once");
        assert!(self.source.is_none_or(|source| self.holds.contains_key(&source)), "a source has answered");
    }
}

impl Sequencer {
    /// Begins to collect.
    pub(super) fn collect(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        assert!(self.hard.sequencer == Some(self.config.id), "it is written who sequences");
        assert!(self.disk.hard > Lsn::ZERO, "the promise was written");
        self.counters.collections += 1;
        self.state =
            State::Collecting(Collection { holds: BTreeMap::new(), promise: self.disk.hard, source: None });
        self.ask_members(out);
        out.set_timer(Timer::Heartbeat, now_ns.saturating_add(self.config.heartbeat_ns()));
    }

    fn ask_members(&mut self, out: &mut impl Sink<Self>) {
        let State::Collecting(collection) = &self.state else { return };
        let silent = self.config.others().filter(|member| !collection.holds.contains_key(member));
        for member in silent.collect::<Vec<_>>() {
            // Not early: it must not be forgotten that this member collected in this epoch, or it would do so twice.
            out.send(member, self.say(Body::Collect));
        }
    }

    /// The collector's timer.
    pub(super) fn collect_again(&mut self, out: &mut impl Sink<Self>) {
        self.ask_members(out);
        self.fetch(out);
    }

    pub(super) fn on_collect(&mut self, from: NodeId, out: &mut impl Sink<Self>) {
        if self.is_installing() {
            // What is held changes at any moment; it is asked again.
            return;
        }
        let last = self.log.last();
        assert!(last.epoch <= self.hard.epoch, "what is held is of no later epoch than the promise");
        // Held until the promise, and all of the log that it speaks of, are durable.
        out.send(from, self.say(Body::Holds { last }));
    }

    pub(super) fn count_own_hold(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let (id, last) = (self.config.id, self.log.last());
        let is_written = self.disk.durable >= self.disk.last_append && !self.is_installing();
        let State::Collecting(collection) = &mut self.state else { return };
        if collection.promise > self.disk.durable || !is_written {
            return;
        }
        collection.holds.insert(id, last);
        self.choose(context, out);
    }

    pub(super) fn on_holds(
        &mut self,
        from: NodeId,
        last: Viewstamp,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        // Who answers after that is a member like any other.
        let State::Collecting(collection) = &mut self.state else { return };
        if last.epoch > self.hard.epoch {
            self.counters.refused_contradictions += 1;
            return;
        }
        assert!(from != self.config.id, "the own hold is counted when it is durable");
        collection.holds.insert(from, last);
        self.choose(context, out);
    }

    /// Once a majority has answered: the latest of their logs has everything that was ever committed, since each commit was held by a
    /// majority, and any two have a member in common.
    fn choose(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let majority = self.config.majority();
        assert!(majority * 2 > self.config.members.len(), "any two majorities have a member in common");
        let id = self.config.id;
        let State::Collecting(collection) = &mut self.state else { return };
        let own = collection.holds.contains_key(&id);
        if !own || (collection.holds.len() < majority && !planted(Plant::OpensWithoutCollecting)) {
            return;
        }
        if planted(Plant::OpensWithoutCollecting) {
            return self.open_epoch(context, out);
        }
        let latest = collection.holds.values().max().copied().expect("a majority is somebody");
        assert!(latest >= self.log.last(), "the own log is among them, and what is fetched");
        if latest == self.log.last() {
            // Equal names at the end, equal logs.
            return self.open_epoch(context, out);
        }
        assert!(collection.holds.len() >= majority, "a majority has promised");
        let is_latest = |member: &NodeId| collection.holds.get(member) == Some(&latest);
        if !collection.source.as_ref().is_some_and(is_latest) {
            self.counters.fetches += 1;
            collection.source = collection.holds.keys().copied().find(|member| is_latest(member));
            // Nothing was yet compared with this one.
            self.agreed = 0;
            self.fetch(out);
        }
    }

    fn fetch(&mut self, out: &mut impl Sink<Self>) {
        let State::Collecting(Collection { source: Some(source), .. }) = &self.state else { return };
        // Up to what was committed, or compared since, both logs are equal.
        let after = self.committed.max(self.agreed);
        assert!(*source != self.config.id, "the own log is not fetched");
        assert!(after >= self.log.base().position, "what a checkpoint covers is not asked for");
        // Early: a question.
        out.send_early(*source, self.say(Body::Fetch { after }));
    }

    pub(super) fn on_fetch(&mut self, from: NodeId, after: u64, out: &mut impl Sink<Self>) {
        assert!(matches!(self.state, State::Member), "who has a role answers no other sequencer");
        let base = self.log.base().position;
        let body = match self.log.at(after) {
            Some(prev) => {
                let entries = self.log.batch(after + 1, self.config.max_batch_bytes, u64::MAX);
                Body::Fetched { prev, entries }
            }
            None if after < base => Body::Compacted { base },
            None => {
                self.counters.refused_contradictions += 1;
                return;
            }
        };
        out.send(from, self.say(body));
    }

    pub(super) fn on_fetched(
        &mut self,
        from: NodeId,
        prev: Viewstamp,
        entries: Vec<Entry>,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        let State::Collecting(collection) = &self.state else { return };
        if collection.source != Some(from) || self.log.at(prev.position) != Some(prev) || self.is_installing()
        {
            return;
        }
        let Ok(end) = self.take_over(prev, entries, out) else { return };
        assert!(end >= prev.position, "entries go forward");
        let progress = end > self.agreed;
        self.agreed = self.agreed.max(end);
        let State::Collecting(collection) = &self.state else { return };
        let latest = collection.holds.values().max().copied();
        if latest == Some(self.log.last()) {
            self.open_epoch(context, out);
        } else if progress {
            self.fetch(out);
        }
    }

    /// What it needs is only in a checkpoint. It goes on asking in vain until the catalog turns to another member, which has more.
    pub(super) fn on_compacted(&mut self, from: NodeId, base: u64) {
        if let State::Collecting(collection) = &self.state
            && collection.source == Some(from)
            && base > self.committed
        {
            self.counters.too_far_behind += 1;
        }
    }
}
