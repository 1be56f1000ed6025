//! Checkpoints of this member, and snapshots from a leader to a follower whose next entry is gone, or which has applied what it must not.
//!
//! ```text
//!  leader                                        follower
//!  snapshot_out ─▶ parent                        parent ◀─ snapshot_in
//!  Read ◀───────── parent                        parent ─▶ Taken
//!     └── Snapshot{chunk k} ──────────────────────▶│   ──▶ SnapshotReply{Next k+1}
//!                                          last: Reset record, durable; parent ─▶ Installed ──▶ SnapshotReply{Installed}
//! ```
//! A snapshot may take the state back: its index can be below what the follower has applied.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, ChunkRead, Outgoing, Position};
use keypact_protocol::{Lsn, NodeId, Sink, SnapshotChunk, SnapshotInput, SnapshotRead};

use super::epochs::Epochs;
use super::{Body, LeaderFollower, Record, SnapshotOutcome};

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The epoch whose leader sends it.
    epoch: u64,
    meta: Bytes,
    position: Position,
    /// The chunk wanted next.
    next: u32,
    /// The parent has not yet taken the chunk given to it.
    taking: bool,
    /// The last chunk waits for the record that makes it safe.
    last: Option<(Lsn, SnapshotChunk)>,
    /// The last chunk was given to the parent, so its state may be replaced at any moment.
    installing: bool,
}

impl Incoming {
    fn begun(epoch: u64, meta: Bytes, position: Position) -> Incoming {
        assert!(epoch > 0 && !meta.is_empty(), "a leader of some epoch sends a snapshot with a name");
        Incoming { epoch, meta, position, next: 0, taking: false, last: None, installing: false }
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing
    }
}

/// Where a snapshot ends, if its meta is one of ours.
fn end_of(meta: &[u8]) -> Option<Position> {
    let (meta, epochs) = CheckpointMeta::decode_with(meta)?;
    Epochs::decode(&epochs).map(|_| meta.position)
}

impl LeaderFollower {
    /// Asks for a checkpoint if the tail has grown or one is wanted. Only when nothing of this member's waits for the disk: the parent then
    /// takes the state at once, and exactly this state. One that is newer than its meta could not be taken back by a truncation.
    pub(super) fn flush_checkpoint(&mut self, out: &mut impl Sink<Self>) {
        let grown = self.tail.len_bytes() > self.config.checkpoint_after_bytes;
        let busy = self.checkpoint_pending || self.incoming.is_some() || self.diverged;
        if !(grown || self.compact_wanted) || busy || self.disk.last_append > self.disk.durable {
            return;
        }
        let awaited =
            !self.has_checkpoint && self.leading.as_ref().is_some_and(|leader| leader.owes_snapshot());
        if self.delivered == self.tail.base().index && !awaited {
            if core::mem::take(&mut self.compact_wanted) {
                self.shorten_log(out);
            }
            return;
        }
        // A new checkpoint makes a follower that receives the old one begin again; so it waits while there is room.
        let room = self.tail.len_bytes() < self.config.tail_limit_bytes / 4 * 3;
        if room && self.leading.as_ref().is_some_and(|leader| leader.sends_snapshot()) {
            return;
        }
        // With nothing delivered yet it is the empty state: what followers must go back to that have nothing in common with this log.
        let (position, stamp_ms) = self.tail.slot(self.delivered).map_or((Position::default(), 0), |slot| {
            let header = slot.entry.header();
            (Position { index: header.index, term: header.term }, header.stamp_ms)
        });
        assert!(position.index == self.delivered, "a checkpoint holds exactly what was delivered");
        self.compact_wanted = false;
        self.checkpoint_pending = true;
        self.counters.checkpoints += 1;
        let epochs = self.epochs.extended(&self.tail, position.index);
        assert!(
            position.index == 0 || epochs.at(position.index) == Some(position.term),
            "the table ends with the checkpoint's last entry"
        );
        out.checkpoint(CheckpointMeta { position, stamp_ms }.encode_with(&epochs.encode()));
    }

    pub(super) fn on_snapshot_input(&mut self, input: SnapshotInput, now_ns: u64, out: &mut impl Sink<Self>) {
        match input {
            SnapshotInput::Checkpointed { meta } => self.on_checkpointed(&meta, out),
            SnapshotInput::Read { to, chunk } => self.on_chunk_read(to, chunk, now_ns, out),
            // There is none yet: the first is made for this follower.
            SnapshotInput::ReadFailed { to } => self.await_checkpoint(to, now_ns),
            SnapshotInput::Taken { chunk } => self.on_chunk_taken(chunk, out),
            SnapshotInput::Installed { meta } => self.on_installed(&meta, out),
            // No answer to the leader: it tries again after a while, not at once.
            SnapshotInput::InstallFailed => self.incoming = None,
        }
    }

    fn on_checkpointed(&mut self, meta: &Bytes, out: &mut impl Sink<Self>) {
        let meta = CheckpointMeta::decode(meta).expect("the parent gives back our own meta");
        assert!(self.checkpoint_pending, "a checkpoint was asked for");
        assert!(meta.position.index <= self.delivered, "a checkpoint holds only what was delivered");
        (self.checkpoint_pending, self.has_checkpoint) = (false, true);
        self.epochs = self.epochs.extended(&self.tail, meta.position.index);
        self.tail.compact(meta.position.index);
        assert!(self.tail.base() == meta.position, "what was delivered is not replaced meanwhile");
        self.shorten_log(out);
    }

    /// The checkpoint that this follower needs is still to be made; its first chunk is asked for after a while.
    fn await_checkpoint(&mut self, to: NodeId, now_ns: u64) {
        if let Some(outgoing) = self.outgoing_mut(to) {
            outgoing.failed(now_ns);
            self.compact_wanted = true;
        }
    }

    fn outgoing_mut(&mut self, to: NodeId) -> Option<&mut Outgoing> {
        self.leading.as_mut()?.peer_mut(to)?.outgoing.as_mut()
    }

    fn on_chunk_read(&mut self, to: NodeId, chunk: SnapshotChunk, now_ns: u64, out: &mut impl Sink<Self>) {
        let Some(peer) = self.leading.as_mut().and_then(|leader| leader.peer_mut(to)) else { return };
        // A follower that diverged gives up its log for the checkpoint. Entries that it acknowledged, and that may be visible by that, must
        // be in it.
        let needed_index = peer.matched();
        let Some(outgoing) = &mut peer.outgoing else { return };
        match outgoing.read(&chunk, needed_index, now_ns) {
            ChunkRead::Send => {}
            ChunkRead::Restart => return out.snapshot_out(SnapshotRead { to, chunk: 0 }),
            ChunkRead::TooOld => {
                self.compact_wanted = true;
                return;
            }
            ChunkRead::Ignored => return,
        }
        self.counters.snapshot_chunks_sent += 1;
        // Early: a checkpoint that can be read is durable, and holds only what is visible.
        let log_end = self.tail.last().index;
        out.send_early(to, self.message(Body::Snapshot { log_end, chunk }));
    }

    /// Reads again what has been unanswered for long.
    pub(super) fn resend_snapshots(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let resend_ns = self.config.resend_ns();
        let Some(leader) = &mut self.leading else { return };
        for peer in leader.peers_mut() {
            if let Some(chunk) =
                peer.outgoing.as_mut().and_then(|outgoing| outgoing.overdue(now_ns, resend_ns))
            {
                out.snapshot_out(SnapshotRead { to: peer.id, chunk });
            }
        }
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        from: NodeId,
        index: u64,
        outcome: SnapshotOutcome,
        out: &mut impl Sink<Self>,
    ) {
        let last_index = self.tail.last().index;
        let Some(peer) = self.leading.as_mut().and_then(|leader| leader.peer_mut(from)) else { return };
        let Some(outgoing) = &mut peer.outgoing else { return };
        match outcome {
            SnapshotOutcome::Next { chunk } => {
                if let Some(chunk) = outgoing.wanted(index, chunk) {
                    out.snapshot_out(SnapshotRead { to: from, chunk });
                }
            }
            _ if outgoing.index() != Some(index) => {}
            SnapshotOutcome::Ahead { base } if base > last_index => self.counters.refused_contradictions += 1,
            SnapshotOutcome::Ahead { base } => {
                peer.outgoing = None;
                peer.probe_from(base.max(peer.matched()) + 1);
            }
            SnapshotOutcome::Installed => {
                assert!(index <= last_index, "our own checkpoint is not past our log");
                peer.installed(index);
                self.counters.snapshots_sent += 1;
                self.advance_commit(out);
            }
        }
    }

    pub(super) fn on_snapshot_chunk(
        &mut self,
        from: NodeId,
        log_end: u64,
        chunk: SnapshotChunk,
        out: &mut impl Sink<Self>,
    ) {
        let Some(position) = end_of(&chunk.meta) else {
            self.counters.refused_contradictions += 1;
            return;
        };
        if self.is_installing() || self.checkpoint_pending {
            // Not answered: the leader sends it again. Two writers of checkpoints at once would leave open which is the newest.
            return;
        }
        let held = self.tail.term_at(position.index) == Some(position.term);
        if !self.diverged && (position.index <= self.agreed || held) {
            // All of it is in the log; equal epochs at equal places mean equal logs up to there. Unless more was applied than the leader
            // has: then the log does not help, the state must be replaced.
            self.incoming = None;
            self.agreed = self.agreed.max(position.index);
            self.commit_to(position.index, out);
            let outcome = SnapshotOutcome::Installed;
            return out.send(from, self.message(Body::SnapshotReply { index: position.index, outcome }));
        }
        let base = self.tail.base().index;
        if !self.diverged && position.index < base && base <= log_end {
            // The leader forgot how far this member is. Going back would lose what may be acknowledged nowhere else (seed 1783995165 of
            // scenario `leader-follower`); the logs can be compared where the own checkpoint ends.
            let outcome = SnapshotOutcome::Ahead { base };
            return out.send(from, self.message(Body::SnapshotReply { index: position.index, outcome }));
        }
        if position.index < self.agreed {
            // It would take back what this member acknowledged. Not answered: the leader makes a newer one once it knows.
            self.incoming = None;
            return;
        }
        if !self.may_give_up_tail(self.agreed, out) {
            // Not answered either: the chunk comes again.
            return;
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.meta != chunk.meta) {
            if chunk.chunk != 0 {
                return self.answer_chunk(from, position.index, 0, out);
            }
            self.incoming = Some(Incoming::begun(self.hard.epoch, chunk.meta.clone(), position));
        }
        let incoming = self.incoming.as_mut().expect("just looked at or set");
        if incoming.taking || incoming.last.is_some() {
            return;
        }
        if chunk.chunk != incoming.next {
            let next = incoming.next;
            // Before the first chunk is taken, asking for it would only make the leader begin again.
            if next > 0 {
                self.answer_chunk(from, position.index, next, out);
            }
        } else if chunk.last {
            let lsn = self.append(Record::Reset { position }, out);
            self.incoming.as_mut().expect("still there").last = Some((lsn, chunk));
        } else {
            incoming.taking = true;
            out.snapshot_in(chunk);
        }
    }

    /// Gives the last chunk to the parent once the record before it is durable.
    pub(super) fn install_if_durable(&mut self, out: &mut impl Sink<Self>) {
        let durable = self.disk.durable;
        let Some(incoming) = &mut self.incoming else { return };
        if let Some((_, chunk)) = incoming.last.take_if(|(lsn, _)| *lsn <= durable) {
            assert!(!self.checkpoint_pending, "one checkpoint is written at a time");
            incoming.installing = true;
            out.snapshot_in(chunk);
        }
    }

    fn answer_chunk(&self, to: NodeId, index: u64, chunk: u32, out: &mut impl Sink<Self>) {
        let outcome = SnapshotOutcome::Next { chunk };
        out.send(to, self.message(Body::SnapshotReply { index, outcome }));
    }

    fn on_chunk_taken(&mut self, chunk: u32, out: &mut impl Sink<Self>) {
        let Some(incoming) = &mut self.incoming else { return };
        if !incoming.taking || chunk != incoming.next {
            return;
        }
        incoming.taking = false;
        incoming.next += 1;
        let (index, next) = (incoming.position.index, incoming.next);
        if let Some(leader) = self.leader {
            self.answer_chunk(leader, index, next, out);
        }
    }

    fn on_installed(&mut self, meta: &Bytes, out: &mut impl Sink<Self>) {
        let incoming = self.incoming.take().expect("only what was given can be installed");
        assert!(incoming.installing && incoming.meta == *meta, "and only whole");
        let (meta, epochs) =
            CheckpointMeta::decode_with(meta).expect("it was understood when its first chunk came");
        let Position { index, .. } = meta.position;
        if index < self.delivered {
            self.counters.taken_back += self.delivered - index;
            self.fresh_ns = 0;
        }
        self.epochs = Epochs::decode(&epochs).expect("and so was its table");
        self.counters.truncated_entries += self.tail.last().index.saturating_sub(index);
        self.tail.reset(meta.position, meta.stamp_ms);
        self.delivered = index;
        self.commit = index;
        (self.diverged, self.has_checkpoint) = (false, true);
        self.counters.snapshots_installed += 1;
        self.shorten_log(out);
        // If a newer epoch came meanwhile, nothing is known of its leader's log.
        let same_epoch = incoming.epoch == self.hard.epoch;
        self.agreed = if same_epoch { index } else { 0 };
        if let Some(leader) = self.leader.filter(|_| same_epoch) {
            let outcome = SnapshotOutcome::Installed;
            out.send(leader, self.message(Body::SnapshotReply { index, outcome }));
        }
    }
}
