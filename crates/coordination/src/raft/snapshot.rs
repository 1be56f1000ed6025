//! Checkpoints of this member, and snapshots from a leader to a peer whose next entry is gone (paper, section 7; thesis, chapter 5).
//!
//! ```text
//!  leader                                        peer
//!  snapshot_out ─▶ parent                        parent ◀─ snapshot_in
//!  Read ◀───────── parent                        parent ─▶ Taken
//!     └── Snapshot{chunk k} ──────────────────────▶│   ──▶ SnapshotReply{Next k+1}
//!                                                last: parent ─▶ Installed ─▶ Reset record ─▶ SnapshotReply{Installed}
//! ```
//! One chunk is on its way at a time.

use bytes::Bytes;
use keypact_log::{CheckpointMeta, ChunkRead, Outgoing, Position};
use keypact_protocol::{NodeId, Plant, Sink, SnapshotChunk, SnapshotInput, SnapshotRead, planted};

use super::{Body, Membership, Raft, Record, SnapshotOutcome, State};

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

impl Raft {
    /// Asks for a checkpoint if the tail has grown or the node needs its log shorter.
    pub(super) fn flush_checkpoint(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let base = self.tail.base();
        let grown = self.tail.len_bytes() > self.config.checkpoint_after_bytes;
        if !grown && !self.compact_wanted {
            return;
        }
        if self.checkpoint_pending || self.incoming.is_some() {
            return;
        }
        if self.delivered == base.index {
            if self.compact_wanted {
                self.compact_wanted = false;
                self.shorten_log(now_ns, out);
            }
            return;
        }
        // A new checkpoint makes a peer that receives the old one begin again; so it waits while there is room.
        let room = self.tail.len_bytes() < self.config.tail_limit_bytes / 4 * 3;
        if self.sends_snapshot() && room {
            return;
        }
        let slot = self.tail.slot(self.delivered).expect("what was delivered since the base is in the tail");
        let header = slot.entry.header();
        let term = if planted(Plant::SnapshotWithoutLastTerm) { 0 } else { header.term };
        let meta =
            CheckpointMeta { position: Position { index: header.index, term }, stamp_ms: header.stamp_ms };
        assert!(meta.position.index == self.delivered, "a checkpoint holds exactly what was delivered");
        self.compact_wanted = false;
        self.checkpoint_pending = true;
        self.counters.checkpoints += 1;
        let members = self.membership_at(self.delivered);
        // A node that joined, and has not come to the first configuration of the log, knows none: as before a first change, the founders'.
        let meta = if members.voters() == 0 { meta.encode() } else { meta.encode_with(&members.encode()) };
        out.checkpoint(meta);
    }

    fn sends_snapshot(&self) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        leader.peers.iter().any(|peer| peer.outgoing.as_ref().is_some_and(Outgoing::has_begun))
    }

    pub(super) fn on_snapshot_input(&mut self, input: SnapshotInput, now_ns: u64, out: &mut impl Sink<Raft>) {
        match input {
            SnapshotInput::Checkpointed { meta } => self.on_checkpointed(&meta, now_ns, out),
            SnapshotInput::Read { to, chunk } => self.on_chunk_read(to, chunk, now_ns, out),
            SnapshotInput::ReadFailed { to } => self.on_chunk_read_failed(to, now_ns),
            SnapshotInput::Taken { chunk } => self.on_chunk_taken(chunk, out),
            SnapshotInput::Installed { meta } => self.on_installed(&meta, now_ns, out),
            // No answer to the leader: it tries again after a while, not at once.
            SnapshotInput::InstallFailed => self.incoming = None,
        }
    }

    fn on_checkpointed(&mut self, meta: &Bytes, now_ns: u64, out: &mut impl Sink<Raft>) {
        let meta = CheckpointMeta::decode(meta).expect("the parent gives back our own meta");
        assert!(self.checkpoint_pending, "a checkpoint was asked for");
        assert!(meta.position.index <= self.delivered, "a checkpoint holds only what was delivered");
        self.checkpoint_pending = false;
        // Also what a node asked for while this one was being written.
        self.compact_wanted = false;
        if meta.position.index > self.tail.base().index {
            self.tail.compact(meta.position.index);
            self.forget_memberships_before(meta.position.index);
        }
        self.shorten_log(now_ns, out);
    }

    fn outgoing_mut(&mut self, to: NodeId) -> Option<&mut Outgoing> {
        let State::Leader(leader) = &mut self.state else { return None };
        leader.peer_mut(to)?.outgoing.as_mut()
    }

    fn on_chunk_read(&mut self, to: NodeId, chunk: SnapshotChunk, now_ns: u64, out: &mut impl Sink<Raft>) {
        let Some(outgoing) = self.outgoing_mut(to) else { return };
        match outgoing.read(&chunk, 0, now_ns) {
            ChunkRead::Send => {}
            ChunkRead::Restart => return out.snapshot_out(SnapshotRead { to, chunk: 0 }),
            ChunkRead::TooOld | ChunkRead::Ignored => return,
        }
        self.counters.snapshot_chunks_sent += 1;
        let message = self.message(Body::Snapshot { chunk });
        // Early: a checkpoint that can be read is durable, and holds only what a majority has.
        out.send_early(to, message);
    }

    fn on_chunk_read_failed(&mut self, to: NodeId, now_ns: u64) {
        if let Some(outgoing) = self.outgoing_mut(to) {
            outgoing.failed(now_ns);
        }
    }

    /// Reads again what has been unanswered for long.
    pub(super) fn resend_snapshots(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        let resend_ns = self.config.resend_ns();
        let State::Leader(leader) = &mut self.state else { return };
        for peer in &mut leader.peers {
            let to = peer.id();
            // A peer that is not heard of gets nothing.
            if now_ns.saturating_sub(peer.heard_ns()) > resend_ns {
                continue;
            }
            if let Some(chunk) =
                peer.outgoing.as_mut().and_then(|outgoing| outgoing.overdue(now_ns, resend_ns))
            {
                out.snapshot_out(SnapshotRead { to, chunk });
            }
        }
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        from: NodeId,
        index: u64,
        outcome: SnapshotOutcome,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        let last_index = self.tail.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(peer) = leader.peer_mut(from) else { return };
        peer.heard(0, 0, now_ns);
        let Some(outgoing) = &mut peer.outgoing else { return };
        match outcome {
            SnapshotOutcome::Next { chunk } => {
                if let Some(chunk) = outgoing.wanted(index, chunk) {
                    out.snapshot_out(SnapshotRead { to: from, chunk });
                }
            }
            SnapshotOutcome::Installed if outgoing.index() != Some(index) => {}
            SnapshotOutcome::Installed => {
                assert!(index <= last_index, "our own checkpoint is not past our log");
                peer.snapshot_installed(index);
                self.counters.snapshots_sent += 1;
                self.advance_commit(out);
            }
        }
    }

    pub(super) fn on_snapshot_chunk(
        &mut self,
        from: NodeId,
        chunk: SnapshotChunk,
        out: &mut impl Sink<Raft>,
    ) {
        let understood = CheckpointMeta::decode_with(&chunk.meta)
            .filter(|(_, members)| members.is_empty() || Membership::decode(members).is_ok());
        let Some((meta, _)) = understood else {
            self.counters.refused_contradictions += 1;
            return;
        };
        let position = meta.position;
        if self.is_installing() || self.checkpoint_pending {
            // Not answered: the leader sends it again. Two writers of checkpoints at once would leave open which is the newest.
            return;
        }
        let held = position.index <= self.commit || self.tail.term_at(position.index) == Some(position.term);
        if held {
            // All of it is in the log; what is in a snapshot is committed.
            self.incoming = None;
            self.commit_to(position.index, out);
            let outcome = SnapshotOutcome::Installed;
            let reply = self.message(Body::SnapshotReply { index: position.index, outcome });
            out.send(from, reply);
            return;
        }
        let known = self.incoming.as_ref().is_some_and(|incoming| incoming.meta == chunk.meta);
        if !known {
            if chunk.chunk != 0 {
                return self.answer_chunk(from, position.index, 0, out);
            }
            let meta = chunk.meta.clone();
            self.incoming = Some(Incoming { meta, position, next: 0, taking: false, installing: false });
        }
        let incoming = self.incoming.as_mut().expect("just looked at or set");
        if chunk.chunk != incoming.next || incoming.taking {
            let next = incoming.next;
            // Before the first chunk is taken, asking for it would only make the leader begin again.
            if next > 0 && !incoming.taking {
                self.answer_chunk(from, position.index, next, out);
            }
            return;
        }
        assert!(!incoming.installing, "nothing follows the last chunk");
        incoming.taking = true;
        incoming.installing = chunk.last;
        out.snapshot_in(chunk);
    }

    fn answer_chunk(&self, to: NodeId, index: u64, chunk: u32, out: &mut impl Sink<Raft>) {
        let outcome = SnapshotOutcome::Next { chunk };
        let reply = self.message(Body::SnapshotReply { index, outcome });
        out.send(to, reply);
    }

    fn on_chunk_taken(&mut self, chunk: u32, out: &mut impl Sink<Raft>) {
        let Some(incoming) = &mut self.incoming else { return };
        if !incoming.taking || chunk != incoming.next || incoming.installing {
            return;
        }
        incoming.taking = false;
        incoming.next += 1;
        let (index, next) = (incoming.position.index, incoming.next);
        if let Some(leader) = self.leader {
            self.answer_chunk(leader, index, next, out);
        }
    }

    fn on_installed(&mut self, meta: &Bytes, now_ns: u64, out: &mut impl Sink<Raft>) {
        let incoming = self.incoming.take().expect("only what was given can be installed");
        assert!(incoming.installing && incoming.meta == *meta, "and only whole");
        let understood = CheckpointMeta::decode_with(meta);
        let (meta, members) = understood.expect("it was understood when its first chunk came");
        let position = meta.position;
        assert!(position.index > self.delivered, "nothing is delivered while a snapshot is installed");
        if self.tail.term_at(position.index) == Some(position.term) {
            // What follows in the log may have been acknowledged, so it stays (paper, figure 13, step 6).
            self.tail.compact(position.index);
        } else {
            self.append(Record::Reset { position, stamp_ms: meta.stamp_ms }, now_ns, out);
            self.tail.reset(position, meta.stamp_ms);
        }
        self.take_memberships(position.index, &members);
        self.delivered = position.index;
        self.commit = self.commit.max(position.index);
        assert!(self.commit <= self.tail.last().index, "what was committed before is in the log");
        self.counters.snapshots_installed += 1;
        if self.hard.term < position.term {
            // Impossible by the messages' terms; but the term must never be below the log's.
            self.set_hard(position.term, None, now_ns, out);
        }
        self.shorten_log(now_ns, out);
        if let Some(leader) = self.leader {
            let outcome = SnapshotOutcome::Installed;
            let reply = self.message(Body::SnapshotReply { index: position.index, outcome });
            out.send(leader, reply);
        }
        self.deliver(out);
    }

    /// Another leader, another term: what was received is of no use, unless the parent is already putting it in place.
    pub(super) fn forget_incoming(&mut self) {
        if !self.is_installing() {
            self.incoming = None;
        }
    }

    /// The log overtook the snapshot that is being received.
    pub(super) fn drop_incoming_if_passed(&mut self) {
        let commit = self.commit;
        if self
            .incoming
            .as_ref()
            .is_some_and(|incoming| !incoming.installing && incoming.position.index <= commit)
        {
            self.incoming = None;
        }
    }
}
