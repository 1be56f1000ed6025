//! Checkpoints of this member, and snapshots from the tail to a syncing member whose next entry is gone.
//!
//! ```text
//!  tail                                          syncing member
//!  snapshot_out ─▶ parent                        parent ◀─ snapshot_in
//!  Read ◀───────── parent                        parent ─▶ Taken
//!     └── Snapshot{chunk k} ──────────────────────▶│   ──▶ SnapshotReply{Next k+1}
//!                                          last: parent ─▶ Installed ──▶ SnapshotReply{Installed}
//! ```
//! A snapshot never takes the state back: both are beginnings of one history, and only a longer one is sent.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, ChunkRead, Outgoing, Position};
use keypact_protocol::{NodeId, Sink, SnapshotChunk, SnapshotInput, SnapshotRead};

use super::{Body, Chain, MemberState, SnapshotOutcome};

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    meta: Bytes,
    position: Position,
    /// The chunk wanted next.
    next: u32,
    /// The parent has not yet taken the chunk given to it.
    taking: bool,
    /// The last chunk was given to the parent, so its state may be replaced at any moment.
    installing: bool,
}

impl Incoming {
    pub(super) fn is_installing(&self) -> bool {
        self.installing
    }
}

impl Chain {
    /// Asks for a checkpoint if the tail has grown or one is wanted.
    pub(super) fn flush_checkpoint(&mut self, out: &mut impl Sink<Self>) {
        let grown = self.tail.len_bytes() > self.config.checkpoint_after_bytes;
        if !(grown || self.compact_wanted) || self.checkpoint_pending || self.incoming.is_some() {
            return;
        }
        if self.delivered == self.tail.base().index {
            if core::mem::take(&mut self.compact_wanted) {
                self.shorten_log(out);
            }
            return;
        }
        // A new checkpoint makes a member that receives the old one begin again; so it waits while there is room.
        let room = self.tail.len_bytes() < self.config.tail_limit_bytes / 4 * 3;
        let sends = |outgoing: &Option<Outgoing>| outgoing.as_ref().is_some_and(Outgoing::has_begun);
        if room && self.successor.as_ref().is_some_and(|successor| sends(&successor.outgoing)) {
            return;
        }
        let slot = self.tail.slot(self.delivered).expect("what was delivered since the base is in the tail");
        let header = slot.entry.header();
        let position = Position { index: header.index, term: header.term };
        assert!(position.index == self.delivered, "a checkpoint holds what was delivered");
        self.compact_wanted = false;
        self.checkpoint_pending = true;
        self.counters.checkpoints += 1;
        out.checkpoint(CheckpointMeta { position, stamp_ms: header.stamp_ms }.encode());
    }

    pub(super) fn on_snapshot_input(&mut self, input: SnapshotInput, now_ns: u64, out: &mut impl Sink<Self>) {
        match input {
            SnapshotInput::Checkpointed { meta } => self.on_checkpointed(&meta, out),
            SnapshotInput::Read { to, chunk } => self.on_chunk_read(to, chunk, now_ns, out),
            SnapshotInput::ReadFailed { to } => {
                if let Some(outgoing) = self.outgoing_mut(to) {
                    outgoing.failed(now_ns);
                    self.compact_wanted = true;
                }
            }
            SnapshotInput::Taken { chunk } => self.on_chunk_taken(chunk, out),
            SnapshotInput::Installed { meta } => self.on_installed(&meta, out),
            // No answer to the tail: it tries again after a while, not at once.
            SnapshotInput::InstallFailed => self.incoming = None,
        }
    }

    fn on_checkpointed(&mut self, meta: &Bytes, out: &mut impl Sink<Self>) {
        let meta = CheckpointMeta::decode(meta).expect("the parent gives back our own meta");
        assert!(self.checkpoint_pending, "a checkpoint was asked for");
        assert!(meta.position.index <= self.delivered, "a checkpoint holds only what was delivered");
        self.checkpoint_pending = false;
        if meta.position.index > self.tail.base().index {
            self.tail.compact(meta.position.index);
            assert!(self.tail.base() == meta.position, "what was delivered is never replaced");
        }
        self.shorten_log(out);
    }

    fn outgoing_mut(&mut self, to: NodeId) -> Option<&mut Outgoing> {
        self.successor.as_mut().filter(|successor| successor.id == to)?.outgoing.as_mut()
    }

    fn on_chunk_read(&mut self, to: NodeId, chunk: SnapshotChunk, now_ns: u64, out: &mut impl Sink<Self>) {
        // It is of use only if it reaches further than what the other has.
        let needed = self.successor.as_ref().map_or(0, |successor| successor.received() + 1);
        let Some(outgoing) = self.outgoing_mut(to) else { return };
        match outgoing.read(&chunk, needed, now_ns) {
            ChunkRead::Send => {}
            ChunkRead::Restart => return out.snapshot_out(SnapshotRead { to, chunk: 0 }),
            ChunkRead::TooOld => {
                self.compact_wanted = true;
                return;
            }
            ChunkRead::Ignored => return,
        }
        self.counters.snapshot_chunks_sent += 1;
        // Early: a checkpoint that can be read is durable, and holds only what is committed.
        out.send_early(to, self.message(Body::Snapshot(chunk)));
    }

    /// Reads again what has been unanswered for long.
    pub(super) fn resend_snapshot(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let resend_ns = self.config.resend_ns();
        let Some(successor) = &mut self.successor else { return };
        let to = successor.id;
        if let Some(chunk) = successor.outgoing.as_mut().and_then(|sent| sent.overdue(now_ns, resend_ns)) {
            out.snapshot_out(SnapshotRead { to, chunk });
        }
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        index: u64,
        outcome: SnapshotOutcome,
        out: &mut impl Sink<Self>,
    ) {
        let last_index = self.tail.last().index;
        let Some(successor) = &mut self.successor else { return };
        let to = successor.id;
        let Some(outgoing) = &mut successor.outgoing else { return };
        match outcome {
            SnapshotOutcome::Next { chunk } => {
                if let Some(chunk) = outgoing.wanted(index, chunk) {
                    out.snapshot_out(SnapshotRead { to, chunk });
                }
            }
            SnapshotOutcome::Installed if outgoing.index() != Some(index) => {}
            SnapshotOutcome::Installed => {
                assert!(index <= last_index, "our own checkpoint is not past our log");
                successor.installed(index);
                self.counters.snapshots_sent += 1;
                self.advance_commit(out);
            }
        }
    }

    pub(super) fn on_snapshot_chunk(&mut self, chunk: SnapshotChunk, out: &mut impl Sink<Self>) {
        let Some(CheckpointMeta { position, .. }) = CheckpointMeta::decode(&chunk.meta) else {
            self.counters.refused_contradictions += 1;
            return;
        };
        if self.is_installing() || self.checkpoint_pending || self.state != MemberState::Syncing {
            // Not answered: it comes again. Two writers of checkpoints at once would leave open which is the newest.
            return;
        }
        if position.index <= self.commit {
            // All of it is here.
            self.incoming = None;
            self.agreed = self.agreed.max(position.index);
            return self.answer_installed(position.index, out);
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.meta != chunk.meta) {
            if chunk.chunk != 0 {
                return self.answer_chunk(position.index, 0, out);
            }
            let meta = chunk.meta.clone();
            self.incoming = Some(Incoming { meta, position, next: 0, taking: false, installing: false });
        }
        let incoming = self.incoming.as_mut().expect("just looked at or set");
        if incoming.taking {
            return;
        }
        if chunk.chunk != incoming.next {
            let next = incoming.next;
            // Before the first chunk is taken, asking for it would only make the tail begin again.
            if next > 0 {
                self.answer_chunk(position.index, next, out);
            }
            return;
        }
        incoming.taking = !chunk.last;
        incoming.installing = chunk.last;
        out.snapshot_in(chunk);
    }

    fn answer_chunk(&self, index: u64, chunk: u32, out: &mut impl Sink<Self>) {
        self.answer_snapshot(index, SnapshotOutcome::Next { chunk }, out);
    }

    fn answer_installed(&self, index: u64, out: &mut impl Sink<Self>) {
        assert!(index <= self.commit, "what was installed is committed");
        self.answer_snapshot(index, SnapshotOutcome::Installed, out);
    }

    fn answer_snapshot(&self, index: u64, outcome: SnapshotOutcome, out: &mut impl Sink<Self>) {
        if let Some(predecessor) = self.predecessor {
            out.send(predecessor, self.message(Body::SnapshotReply { index, outcome }));
        }
    }

    fn on_chunk_taken(&mut self, chunk: u32, out: &mut impl Sink<Self>) {
        let Some(incoming) = &mut self.incoming else { return };
        if !incoming.taking || chunk != incoming.next {
            return;
        }
        incoming.taking = false;
        incoming.next += 1;
        let (index, next) = (incoming.position.index, incoming.next);
        assert!(index > self.commit, "a snapshot never takes the state back");
        self.answer_chunk(index, next, out);
    }

    fn on_installed(&mut self, meta: &Bytes, out: &mut impl Sink<Self>) {
        let incoming = self.incoming.take().expect("only what was given can be installed");
        assert!(incoming.installing && incoming.meta == *meta, "and only whole");
        let meta = CheckpointMeta::decode(meta).expect("it was understood when its first chunk came");
        let Position { index, .. } = meta.position;
        assert!(index > self.commit, "a snapshot never takes the state back");
        self.counters.truncated_entries += self.tail.last().index.saturating_sub(index);
        self.counters.snapshots_installed += 1;
        self.tail.reset(meta.position, meta.stamp_ms);
        self.unapplied.clear();
        self.delivered = index;
        self.commit = index;
        // A newer epoch may have come meanwhile; a beginning of the one history it is in any case.
        self.agreed = index;
        self.ack_due = true;
        self.shorten_log(out);
        self.answer_installed(index, out);
    }
}
