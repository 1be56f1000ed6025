//! A simple replicated log, simulated: one per group, kept on one machine's disk, which stands for the group's majority of disks. What a real one owes,
//! it does: one order, durable before it is told; one leader at a time is granted an epoch; duplicates and gaps of appends are sorted out. What a real
//! one may do to its users, it does too: it lets two replicas believe that they lead, loses what a deposed leader appended, or (if it does not
//! fence) takes it in behind the next leader's first record.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_protocol::{GroupId, NodeId};

use super::mail::{Body, Mail};

/// Entries in one message, at most.
const PUSH_MAX: usize = 64;

/// One durable fact.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// An epoch was granted.
    Granted(u64),
    /// An entry.
    Entry {
        /// Of the leader that appended it.
        epoch: u64,
        /// The record.
        record: Bytes,
    },
}

/// How a group's log behaves.
#[derive(Clone, Debug)]
pub(crate) struct LedgerConfig {
    /// The group.
    pub(crate) group: GroupId,
    /// Its replicas.
    pub(crate) replicas: Vec<NodeId>,
    /// Another replica may lead once the leader was not heard of for so long.
    pub(crate) lease_ns: u64,
    /// Appends of earlier epochs are refused. If not, they may land behind the later epoch's first record.
    pub(crate) fences: bool,
}

/// A group's log. Volatile but for its facts.
#[derive(Debug)]
pub(crate) struct Ledger {
    config: LedgerConfig,
    granted: u64,
    /// Whom it was granted to, in this life of the machine.
    leader: Option<NodeId>,
    heard_ns: u64,
    entries: Vec<(u64, Bytes)>,
    durable: usize,
    /// How many entries of each epoch there are: the next number wanted.
    counts: BTreeMap<u64, u64>,
    /// Facts to be written with the next sync.
    unwritten: Vec<Fact>,
    /// Said once what is unwritten is durable.
    held: Vec<(NodeId, Body)>,
    syncing: Vec<(NodeId, Body)>,
    syncing_entries: usize,
}

impl Ledger {
    /// From what the disk kept.
    pub(crate) fn new<'a>(
        config: LedgerConfig,
        facts: impl Iterator<Item = &'a Fact>,
        now_ns: u64,
    ) -> Ledger {
        let mut ledger = Ledger {
            config,
            granted: 0,
            leader: None,
            heard_ns: now_ns,
            entries: Vec::new(),
            durable: 0,
            counts: BTreeMap::new(),
            unwritten: Vec::new(),
            held: Vec::new(),
            syncing: Vec::new(),
            syncing_entries: 0,
        };
        for fact in facts {
            match fact {
                Fact::Granted(epoch) => ledger.granted = ledger.granted.max(*epoch),
                Fact::Entry { epoch, record } => {
                    ledger.entries.push((*epoch, record.clone()));
                    *ledger.counts.entry(*epoch).or_default() += 1;
                }
            }
        }
        ledger.durable = ledger.entries.len();
        ledger
    }

    /// Entries that are durable.
    pub(crate) fn len(&self) -> usize {
        self.durable
    }

    fn newest(&self) -> u64 {
        if self.config.fences { self.granted } else { self.counts.keys().last().copied().unwrap_or(0) }
    }

    /// Takes one message; `out` is what is said at once.
    pub(crate) fn hear(&mut self, from: NodeId, body: Body, now_ns: u64, out: &mut Vec<(NodeId, Mail)>) {
        let group = self.config.group;
        let mut say = |to: NodeId, body: Body| out.push((to, Mail { group, body }));
        match body {
            Body::Campaign { forced, life } => {
                let alone = self.leader.is_none_or(|leader| leader == from);
                if forced || alone || now_ns.saturating_sub(self.heard_ns) >= self.config.lease_ns {
                    self.granted += 1;
                    self.leader = Some(from);
                    self.heard_ns = now_ns;
                    self.unwritten.push(Fact::Granted(self.granted));
                    self.held.push((from, Body::Elected { epoch: self.granted, life }));
                }
            }
            Body::Append { epoch, first, records } => {
                if epoch == self.granted {
                    self.heard_ns = now_ns;
                }
                if epoch < self.granted {
                    say(from, Body::Deposed { epoch: self.granted });
                    if self.config.fences {
                        return;
                    }
                }
                let next = self.counts.get(&epoch).copied().unwrap_or(0);
                let known = next.saturating_sub(first);
                if first > next {
                    return say(from, Body::Wanted { epoch, next });
                }
                for record in records.into_iter().skip(known as usize) {
                    self.unwritten.push(Fact::Entry { epoch, record: record.clone() });
                    self.entries.push((epoch, record));
                    *self.counts.entry(epoch).or_default() += 1;
                }
                let next = self.counts.get(&epoch).copied().unwrap_or(0);
                self.held.push((from, Body::Wanted { epoch, next }));
            }
            Body::Prove { epoch, token } if self.newest() <= epoch => {
                say(from, Body::Proven { epoch, token })
            }
            Body::Fetch { next } => {
                if let Some(body) = self.entries_from(next as usize) {
                    say(from, body);
                }
            }
            // What ledgers say.
            _ => {}
        }
    }

    fn entries_from(&self, first: usize) -> Option<Body> {
        let some = self.entries[..self.durable].get(first..)?;
        if some.is_empty() {
            return None;
        }
        let records = some.iter().take(PUSH_MAX).map(|(_, record)| record.clone()).collect();
        Some(Body::Entries { first: first as u64, records })
    }

    /// What is unwritten goes to the disk now.
    pub(crate) fn sync_begins(&mut self) -> Vec<Fact> {
        self.syncing.append(&mut self.held);
        self.syncing_entries = self.entries.len();
        std::mem::take(&mut self.unwritten)
    }

    /// Something waits for the disk.
    pub(crate) fn wants_sync(&self) -> bool {
        !self.unwritten.is_empty() || !self.held.is_empty()
    }

    /// What went to the disk is durable: it is told, and new entries go to all replicas.
    pub(crate) fn synced(&mut self, out: &mut Vec<(NodeId, Mail)>) {
        let group = self.config.group;
        for (to, body) in self.syncing.drain(..) {
            out.push((to, Mail { group, body }));
        }
        let before = self.durable;
        assert!(self.syncing_entries >= before, "what is durable stays so");
        self.durable = self.syncing_entries;
        if self.durable > before
            && let Some(body) = self.entries_from(before)
        {
            for replica in &self.config.replicas {
                out.push((*replica, Mail { group, body: body.clone() }));
            }
        }
    }
}
