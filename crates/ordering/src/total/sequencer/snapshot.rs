//! Checkpoints of this member, and snapshots for a member whose next entry is gone.
//!
//! ```text
//!  sequencer                                     member
//!  snapshot_out ─▶ parent                        parent ◀─ snapshot_in
//!  Read ◀───────── parent                        parent ─▶ Taken
//!     └── Snapshot{chunk k} ──────────────────────▶│   ──▶ WantChunk{k + 1}
//!                                          last: Reset record, durable; parent ─▶ Installed ──▶ Accept
//! ```
//! A checkpoint covers what was committed, so a snapshot only ever goes forward.

use bytes::Bytes;
use keypact_protocol::{Lsn, NodeId, Sink, SnapshotChunk, SnapshotInput, SnapshotRead, Wire};

use super::record::Meta;
use super::sequencing::Peer;
use super::{Body, Record, Sequencer, State};

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    from: NodeId,
    /// As the sequencer's parent wrote it.
    bytes: Bytes,
    meta: Meta,
    /// The chunk wanted next.
    next: u32,
    /// The parent has not yet taken the chunk given to it.
    taking: bool,
    /// The last chunk waits for the record that makes it safe.
    last: Option<(Lsn, SnapshotChunk)>,
    /// The last chunk was given to the parent, whose state may be replaced at any moment.
    installing: bool,
}

impl Incoming {
    pub(super) fn is_installing(&self) -> bool {
        self.installing
    }
}

impl Sequencer {
    /// Asks for a checkpoint if the log has grown or one is wanted. Only when nothing waits for the disk: the parent then takes the state at
    /// once, and the log is on the disk up to there.
    pub(super) fn flush_checkpoint(&mut self, out: &mut impl Sink<Self>) {
        let grown = self.log.bytes() > self.config.checkpoint_after_bytes;
        let busy = self.checkpoint_pending || self.incoming.is_some();
        if !(grown || self.compact_wanted) || busy || self.disk.last_append > self.disk.durable {
            return;
        }
        if self.delivered == self.log.base().position {
            if core::mem::take(&mut self.compact_wanted) {
                self.shorten_log(out);
            }
            return;
        }
        // A new checkpoint makes a member that receives the old one begin again; so it waits while there is room.
        let room = self.log.bytes() < self.config.log_limit_bytes / 4 * 3;
        if room && matches!(&self.state, State::Sequencing(sequencing) if sequencing.sends_snapshot()) {
            return;
        }
        let slot = self.log.slot(self.delivered).expect("what was delivered since the base is in the log");
        let meta = Meta { at: slot.entry.at, stamp_ms: slot.entry.stamp_ms };
        assert!(meta.at.position > self.log.base().position, "a checkpoint covers more than the last");
        assert!(self.delivered <= self.log.durable(), "a checkpoint covers what is on the disk");
        self.compact_wanted = false;
        self.checkpoint_pending = true;
        self.counters.checkpoints += 1;
        out.checkpoint(meta.to_bytes());
    }

    pub(super) fn on_snapshot_input(&mut self, input: SnapshotInput, out: &mut impl Sink<Self>) {
        match input {
            SnapshotInput::Checkpointed { meta } => self.on_checkpointed(meta, out),
            SnapshotInput::Read { to, chunk } => self.on_chunk_read(to, chunk, out),
            SnapshotInput::ReadFailed { to } => {
                self.was_read(to, None, out);
            }
            SnapshotInput::Taken { chunk } => self.on_chunk_taken(chunk, out),
            SnapshotInput::Installed { meta } => self.on_installed(&meta, out),
            // No answer: the sequencer tries again after a while.
            SnapshotInput::InstallFailed => self.incoming = None,
        }
    }

    fn on_checkpointed(&mut self, meta: Bytes, out: &mut impl Sink<Self>) {
        let meta = Meta::decode(meta).expect("the parent gives back our own meta");
        assert!(self.checkpoint_pending, "a checkpoint was asked for");
        assert!(self.log.at(meta.at.position) == Some(meta.at), "what is committed is not replaced");
        self.checkpoint_pending = false;
        self.log.compact(meta.at.position);
        assert!(self.log.base() == meta.at, "the log goes on behind the checkpoint");
        self.shorten_log(out);
    }

    /// A piece was read, or can't be; whether it is the one that is wanted now. If not, that one is read.
    fn was_read(&mut self, to: NodeId, chunk: Option<u32>, out: &mut impl Sink<Self>) -> bool {
        self.reading.retain(|other| *other != to);
        let State::Sequencing(sequencing) = &mut self.state else { return false };
        let Some(Peer { snapshot: Some((wanted, _)), .. }) = sequencing.peer(to) else { return false };
        match chunk {
            Some(chunk) if chunk == *wanted => return true,
            Some(_) => {
                let chunk = *wanted;
                self.read(to, chunk, out);
            }
            // The checkpoint was replaced; it begins anew with a later heartbeat.
            None => *wanted = 0,
        }
        false
    }

    fn read(&mut self, to: NodeId, chunk: u32, out: &mut impl Sink<Self>) {
        assert!(to != self.config.id, "nobody needs its own snapshot");
        if !self.reading.contains(&to) {
            self.reading.push(to);
            out.snapshot_out(SnapshotRead { to, chunk });
        }
    }

    fn on_chunk_read(&mut self, to: NodeId, chunk: SnapshotChunk, out: &mut impl Sink<Self>) {
        if self.was_read(to, Some(chunk.chunk), out) {
            self.counters.chunks_sent += 1;
            // Early: a checkpoint that can be read is durable, and holds only what is committed.
            out.send_early(to, self.say(Body::Snapshot { chunk }));
        }
    }

    pub(super) fn on_want_chunk(
        &mut self,
        from: NodeId,
        position: u64,
        chunk: u32,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        let base = self.log.base().position;
        let State::Sequencing(sequencing) = &mut self.state else { return };
        let Some(peer) = sequencing.peer(from) else { return };
        let Some((wanted, _)) = &mut peer.snapshot else { return };
        // Of an older checkpoint there is nothing more to be had.
        let chunk = if position == base { chunk } else { 0 };
        if *wanted != chunk {
            peer.snapshot = Some((chunk, now_ns.max(1)));
            self.read(from, chunk, out);
        }
    }

    pub(super) fn on_snapshot_chunk(
        &mut self,
        from: NodeId,
        chunk: SnapshotChunk,
        out: &mut impl Sink<Self>,
    ) {
        let Ok(meta) = Meta::decode(chunk.meta.clone()) else {
            self.counters.refused_contradictions += 1;
            return;
        };
        if self.is_installing() || self.checkpoint_pending || meta.at.epoch > self.hard.epoch {
            // Not answered: it is sent again. Two writers of checkpoints at once would leave open which is the newest.
            return;
        }
        if meta.at.position <= self.committed || self.log.at(meta.at.position) == Some(meta.at) {
            // All of it is here: the sequencer goes on from there.
            self.incoming = None;
            self.agreed = self.agreed.max(meta.at.position.min(self.log.last().position));
            self.commit_to(meta.at.position, out);
            return out.send(from, self.say(Body::Accept { held: self.agreed }));
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.bytes != chunk.meta) {
            if chunk.chunk != 0 {
                return out.send(from, self.say(Body::WantChunk { position: meta.at.position, chunk: 0 }));
            }
            let bytes = chunk.meta.clone();
            self.incoming =
                Some(Incoming { from, bytes, meta, next: 0, taking: false, last: None, installing: false });
        }
        let incoming = self.incoming.as_mut().expect("just looked at or set");
        incoming.from = from;
        assert!(!incoming.installing, "nothing follows the last piece");
        if incoming.taking || incoming.last.is_some() {
            return;
        }
        if chunk.chunk != incoming.next {
            let body = Body::WantChunk { position: meta.at.position, chunk: incoming.next };
            return out.send(from, self.say(body));
        }
        if chunk.last {
            let lsn = self.append(Record::Reset { at: meta.at }, out);
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
        if !incoming.installing && incoming.meta.at.position <= self.committed {
            // Meanwhile the order itself has come as far.
            self.incoming = None;
            return;
        }
        if let Some((_, chunk)) = incoming.last.take_if(|(lsn, _)| *lsn <= durable) {
            assert!(!self.checkpoint_pending, "one checkpoint is written at a time");
            incoming.installing = true;
            out.snapshot_in(chunk);
        }
    }

    fn on_chunk_taken(&mut self, chunk: u32, out: &mut impl Sink<Self>) {
        let Some(incoming) = &mut self.incoming else { return };
        if incoming.taking && chunk == incoming.next {
            assert!(incoming.last.is_none() && !incoming.installing, "the last piece comes last");
            incoming.taking = false;
            incoming.next += 1;
            let body = Body::WantChunk { position: incoming.meta.at.position, chunk: incoming.next };
            let to = incoming.from;
            out.send(to, self.say(body));
        }
    }

    fn on_installed(&mut self, bytes: &Bytes, out: &mut impl Sink<Self>) {
        let incoming = self.incoming.take().expect("only what was given can be installed");
        assert!(incoming.installing && incoming.bytes == *bytes, "and only whole");
        let at = incoming.meta.at;
        assert!(at.position > self.delivered, "a snapshot only goes forward");
        self.counters.truncated += self.log.last().position.saturating_sub(at.position);
        self.log.reset(at, incoming.meta.stamp_ms);
        self.delivered = at.position;
        self.committed = at.position;
        assert!(self.log.last() == at, "the snapshot is all there is");
        self.counters.snapshots_installed += 1;
        self.shorten_log(out);
        // Committed, and so in every later sequencer's log.
        self.agreed = at.position;
        if self.hard.sequencer == Some(incoming.from) {
            out.send(incoming.from, self.say(Body::Accept { held: self.agreed }));
        }
    }
}
