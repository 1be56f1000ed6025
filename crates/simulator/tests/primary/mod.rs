//! A toy protocol for the simulator's own tests: a fixed primary (n1) orders commands, a majority must have them on disk. No election, so
//! the primary must come back; that is enough to show what the simulator does. Its bugs are switched on by [`Bug`].
#![allow(dead_code, reason = "each test file uses a part")]

mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_protocol::{
    Context, Delivery, Input, Lsn, NodeId, Protocol, Recover, RecoveryError, Refusal, Reply, Request,
    RequestId, Sink, SnapshotChunk, SnapshotInput, SnapshotRead,
};

pub(crate) const RESEND_NS: u64 = 30_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    None,
    /// The primary counts its own copy before it is on disk, and alone.
    AcknowledgesAtOnce,
    /// A lost append is never sent again.
    NeverResends,
    /// A duplicate append is appended again.
    TakesDuplicates,
    /// The primary panics at its 20th command.
    Panics,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) id: NodeId,
    pub(crate) nodes: u64,
    pub(crate) bug: Bug,
    pub(crate) checkpoint_every: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) stamp_ms: u64,
    pub(crate) seed: u64,
    pub(crate) command: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Append { entries: Vec<Entry>, commit: u64 },
    Ack { index: u64 },
    Chunk(SnapshotChunk),
    ChunkTaken { chunk: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    Resend,
}

#[derive(Debug)]
pub(crate) struct Primary {
    config: Config,
    /// Entries `base + 1 ..`.
    entries: Vec<Entry>,
    base: u64,
    lsns: Vec<Lsn>,
    requests: BTreeMap<u64, RequestId>,
    acked: BTreeMap<NodeId, u64>,
    own_durable: u64,
    durable_lsn: Lsn,
    commit: u64,
    delivered: u64,
    read_floor: u64,
    checkpointing: bool,
    reading_for: Option<NodeId>,
    resends: u64,
    installing: bool,
    /// The chunk that comes next: of which snapshot, which.
    expected: Option<(Bytes, u32)>,
    /// Appends since the last chunk.
    waited: u32,
    seed: u64,
}

const PRIMARY: NodeId = NodeId(1);

pub(crate) struct Recovery(Primary);

impl Recover<Primary> for Recovery {
    fn replay(&mut self, lsn: Lsn, entry: Entry) -> Result<(), RecoveryError> {
        let primary = &mut self.0;
        if entry.index <= primary.base {
            return Ok(());
        }
        if entry.index != primary.last() + 1 {
            // What came before a peer's snapshot that was installed later.
            if entry.index > primary.last() + 1 {
                return Err(RecoveryError { what: "a gap between entries", lsn });
            }
            return Ok(());
        }
        primary.entries.push(entry);
        primary.lsns.push(lsn);
        Ok(())
    }

    fn finish(mut self) -> Primary {
        self.0.own_durable = self.0.last();
        self.0.read_floor = self.0.last();
        self.0
    }
}

impl Primary {
    pub(crate) fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    fn leads(&self) -> bool {
        self.config.id == PRIMARY
    }

    fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let own = self.config.id;
        (1..=self.config.nodes).map(NodeId).filter(move |id| *id != own)
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.base + 1)? as usize)
    }

    fn append(&mut self, entry: Entry, out: &mut impl Sink<Self>) {
        let lsn = out.append(entry.clone());
        self.entries.push(entry);
        self.lsns.push(lsn);
    }

    fn propose(&mut self, id: RequestId, command: &[u8], context: Context, out: &mut impl Sink<Self>) {
        if !self.leads() {
            let why = Refusal::NotLeader { leader: Some(PRIMARY) };
            return out.reply_early(Reply::Refused { id, why });
        }
        assert!(self.config.bug != Bug::Panics || self.last() < 19, "planted panic");
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let entry = Entry {
            index: self.last() + 1,
            stamp_ms: context.wall_ms,
            seed: self.seed,
            command: Bytes::copy_from_slice(command),
        };
        self.requests.insert(entry.index, id);
        self.append(entry.clone(), out);
        for peer in self.peers() {
            out.send(peer, Message::Append { entries: vec![entry.clone()], commit: self.commit });
        }
    }

    fn on_append(&mut self, from: NodeId, entries: Vec<Entry>, out: &mut impl Sink<Self>) {
        // No chunk for long: it was lost, and entries, or the next chunk 0, are as good.
        self.waited += 1;
        if self.waited > 10 && self.expected.take().is_some() {
            self.installing = false;
        }
        if self.installing {
            return;
        }
        for entry in entries {
            let twice = self.config.bug == Bug::TakesDuplicates && entry.index == self.last();
            if twice || entry.index == self.last() + 1 {
                let index = self.last() + 1;
                self.append(Entry { index, ..entry }, out);
            }
        }
        out.send(from, Message::Ack { index: self.last() });
    }

    fn on_ack(&mut self, from: NodeId, index: u64, out: &mut impl Sink<Self>) {
        let acked = self.acked.entry(from).or_default();
        *acked = (*acked).max(index);
        let behind = index < self.base;
        if behind && self.reading_for.is_none() {
            self.reading_for = Some(from);
            out.snapshot_out(SnapshotRead { to: from, chunk: 0 });
        }
    }

    fn advance(&mut self, out: &mut impl Sink<Self>) {
        while (self.own_durable < self.last())
            && self.lsns[(self.own_durable - self.base) as usize] <= self.durable_lsn
        {
            self.own_durable += 1;
        }
        if self.leads() {
            let mut copies: Vec<u64> =
                self.peers().map(|peer| self.acked.get(&peer).copied().unwrap_or(0)).collect();
            copies.push(self.own_durable);
            copies.sort_unstable();
            let quorum = copies[(copies.len() - 1) / 2];
            let at_once = self.config.bug == Bug::AcknowledgesAtOnce;
            self.commit = self.commit.max(if at_once { self.last() } else { quorum.min(self.last()) });
        }
        while self.delivered < self.commit.min(self.last()) && !self.installing {
            self.delivered += 1;
            let entry = self.entry(self.delivered).expect("delivered is at or past the base").clone();
            let request = self.requests.remove(&entry.index);
            let Entry { index, stamp_ms, seed, command } = entry;
            out.deliver_early(Delivery { index, stamp_ms, seed, command, request });
        }
        if self.delivered - self.base >= self.config.checkpoint_every {
            self.checkpoint(out);
        }
    }

    fn checkpoint(&mut self, out: &mut impl Sink<Self>) {
        if !self.checkpointing && !self.installing && self.delivered > self.base {
            self.checkpointing = true;
            out.checkpoint(Bytes::copy_from_slice(&self.delivered.to_le_bytes()));
        }
    }

    fn on_snapshot(&mut self, input: SnapshotInput, out: &mut impl Sink<Self>) {
        match input {
            SnapshotInput::Checkpointed { meta } => {
                self.checkpointing = false;
                self.compact(index_of(&meta));
                out.drop_log_before(self.lsns.first().copied().unwrap_or(self.durable_lsn));
            }
            SnapshotInput::Read { to, chunk } => out.send_early(to, Message::Chunk(chunk)),
            SnapshotInput::ReadFailed { .. } => self.reading_for = None,
            SnapshotInput::Taken { chunk } => out.send_early(PRIMARY, Message::ChunkTaken { chunk }),
            SnapshotInput::Installed { meta } => {
                self.installing = false;
                let index = index_of(&meta);
                // Entries after the snapshot were acknowledged: they stay.
                self.compact(index);
                self.base = index;
                self.own_durable = self.own_durable.max(index);
                self.delivered = index;
                self.commit = self.commit.max(index);
                out.send(PRIMARY, Message::Ack { index });
            }
            SnapshotInput::InstallFailed => self.installing = false,
        }
    }

    fn compact(&mut self, index: u64) {
        while self.base < index && !self.entries.is_empty() {
            self.entries.remove(0);
            self.lsns.remove(0);
            self.base += 1;
        }
        self.own_durable = self.own_durable.max(self.base);
    }

    fn on_chunk(&mut self, chunk: SnapshotChunk, out: &mut impl Sink<Self>) {
        let begins = chunk.chunk == 0
            && index_of(&chunk.meta) > self.delivered
            && (!self.installing || self.expected.is_some());
        let continues = self.expected.as_ref() == Some(&(chunk.meta.clone(), chunk.chunk));
        if begins || continues {
            self.installing = true;
            self.waited = 0;
            self.expected = (!chunk.last).then(|| (chunk.meta.clone(), chunk.chunk + 1));
            out.snapshot_in(chunk);
        }
    }

    fn resend(&mut self, out: &mut impl Sink<Self>) {
        // A chunk may be lost: begin again, after a while.
        self.resends += 1;
        if self.resends.is_multiple_of(16) {
            self.reading_for = None;
        }
        for peer in self.peers() {
            let next = self.acked.get(&peer).copied().unwrap_or(0) + 1;
            let next = next.max(self.base + 1);
            let entries: Vec<Entry> =
                self.entries.iter().filter(|entry| entry.index >= next).take(64).cloned().collect();
            out.send(peer, Message::Append { entries, commit: self.commit });
        }
    }
}

fn index_of(meta: &Bytes) -> u64 {
    u64::from_le_bytes(meta[..8].try_into().expect("eight bytes"))
}

impl Protocol for Primary {
    type Config = Config;
    type Message = Message;
    type Record = Entry;
    type Timer = Timer;
    type Recovery = Recovery;

    fn begin(config: Config, checkpoint: Option<Bytes>, seed: u64) -> Result<Recovery, RecoveryError> {
        let base = checkpoint.map_or(0, |meta| index_of(&meta));
        Ok(Recovery(Primary {
            config,
            entries: Vec::new(),
            base,
            lsns: Vec::new(),
            requests: BTreeMap::new(),
            acked: BTreeMap::new(),
            own_durable: base,
            durable_lsn: Lsn::ZERO,
            commit: base,
            delivered: base,
            read_floor: base,
            checkpointing: false,
            reading_for: None,
            resends: 0,
            installing: false,
            expected: None,
            waited: 0,
            seed,
        }))
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Start => out.set_timer(Timer::Resend, context.now_ns + RESEND_NS),
            Input::Message { from, message } => match message {
                Message::Append { entries, commit } => {
                    self.on_append(from, entries, out);
                    self.commit = self.commit.max(commit);
                }
                Message::Ack { index } => self.on_ack(from, index, out),
                Message::ChunkTaken { chunk } => {
                    out.snapshot_out(SnapshotRead { to: from, chunk: chunk + 1 });
                }
                Message::Chunk(chunk) => self.on_chunk(chunk, out),
            },
            Input::Request(Request::Propose { id, command }) => {
                self.propose(id, command.command(), context, out);
            }
            Input::Request(Request::Read { id, .. } | Request::ReadKey { id, .. }) => {
                if self.leads() {
                    out.reply_early(Reply::ReadFrom { id, index: self.commit.max(self.read_floor) });
                } else {
                    let why = Refusal::NotLeader { leader: Some(PRIMARY) };
                    out.reply_early(Reply::Refused { id, why });
                }
            }
            Input::Timer(Timer::Resend) => {
                if self.leads() && self.config.bug != Bug::NeverResends {
                    self.resend(out);
                }
                out.set_timer(Timer::Resend, context.now_ns + RESEND_NS);
            }
            Input::Durable(lsn) => self.durable_lsn = lsn,
            Input::Unreachable(_) => {}
            Input::Compact => self.checkpoint(out),
            Input::Snapshot(input) => self.on_snapshot(input, out),
        }
    }

    fn flush(&mut self, _context: Context, out: &mut impl Sink<Self>) {
        self.advance(out);
    }

    fn assert_invariants(&self) {
        assert!(self.entries.len() == self.lsns.len(), "each entry has its number");
        assert!(self.delivered >= self.base, "what is compacted was delivered");
    }
}
