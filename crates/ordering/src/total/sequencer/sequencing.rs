//! Sequencing: each command gets the next position, goes to all members, and is committed once a majority holds it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{Context, NodeId, Plant, RequestId, Sink, SnapshotRead, planted};

use super::{Body, CATALOG, Entry, Record, Sequencer, State, Timer, Viewstamp};

/// How many messages one flush sends to one member.
const FRAMES_PER_FLUSH: usize = 4;

/// What only a sequencer knows.
#[derive(Debug)]
pub(super) struct Sequencing {
    /// The entry that opened the epoch. Older ones are committed with it, not before.
    opened_at: u64,
    peers: Vec<Peer>,
}

/// A member, as its sequencer sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// The next position to send.
    pub(super) next: u64,
    /// Up to here it holds everything, durably.
    pub(super) held: u64,
    /// It has not yet been heard whether `next` fits its log: nothing but heartbeats goes there.
    probing: bool,
    /// What it was told is committed.
    told: u64,
    /// When something was last sent that it should answer.
    sent_ns: u64,
    /// When it last accepted more.
    progress_ns: u64,
    /// The piece of the checkpoint that it wants, and when that was last asked for.
    pub(super) snapshot: Option<(u32, u64)>,
}

impl Sequencing {
    pub(super) fn peer(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    pub(super) fn sends_snapshot(&self) -> bool {
        self.peers.iter().any(|peer| peer.snapshot.is_some())
    }

    pub(super) fn assert_invariants(&self, last: u64) {
        assert!(self.opened_at <= last, "the epoch's first entry is in the log");
        for peer in &self.peers {
            assert!(peer.held < peer.next, "what is held is not sent again");
            assert!(peer.next <= last + 1 && peer.held <= last, "nobody holds more than was sequenced");
        }
    }
}

impl Peer {
    /// It does not have what should come before: begins again behind its last.
    pub(super) fn begins_after(&mut self, position: u64) {
        assert!(position < self.next, "it only goes back");
        self.next = position.max(self.held) + 1;
        self.probing = true;
        self.sent_ns = 0;
    }
}

impl Sequencer {
    /// Collected, and the latest log is here: begins to sequence.
    pub(super) fn open_epoch(&mut self, context: Context, out: &mut impl Sink<Self>) {
        self.incoming = None;
        self.counters.epochs_opened += 1;
        let next = self.log.last().position + 1;
        let peer = |id| Peer {
            id,
            next,
            held: 0,
            probing: true,
            told: 0,
            sent_ns: 0,
            progress_ns: context.now_ns,
            snapshot: None,
        };
        let peers: Vec<Peer> = self.config.others().map(peer).collect();
        assert!(peers.len() + 1 == self.config.members.len(), "all others are spoken to");
        self.state = State::Sequencing(Box::new(Sequencing { opened_at: next, peers }));
        self.sequence(Bytes::new(), None, context.wall_ms, out);
        assert!(self.log.last() == Viewstamp { epoch: self.hard.epoch, position: next }, "it is opened");
        self.on_heartbeat(context.now_ns, out);
    }

    /// Gives a command the next position.
    pub(super) fn sequence(
        &mut self,
        command: Bytes,
        request: Option<RequestId>,
        wall_ms: u64,
        out: &mut impl Sink<Self>,
    ) {
        assert!(matches!(self.state, State::Sequencing(_)), "nobody else gives positions");
        let at = Viewstamp { epoch: self.hard.epoch, position: self.log.last().position + 1 };
        let stamp_ms = self.log.last_stamp_ms().max(wall_ms.min(super::COUNT_MAX));
        assert!(at > self.log.last(), "names only rise");
        let entry = Entry { at, stamp_ms, command };
        let lsn = self.append(Record::Entry(entry.clone()), out);
        self.log.push(entry, lsn, request);
        self.counters.sequenced += 1;
    }

    /// Sends each member what it lacks, and what is newly committed.
    pub(super) fn push_orders(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        let State::Sequencing(sequencing) = &mut self.state else { return };
        let (log, config, committed) = (&self.log, &self.config, self.committed);
        let last = log.last().position;
        let base = log.base().position;
        for peer in &mut sequencing.peers {
            for _ in 0..FRAMES_PER_FLUSH {
                let inflight = peer.next - 1 - peer.held;
                let room = config.max_inflight.saturating_sub(inflight);
                if peer.probing
                    || peer.snapshot.is_some()
                    || peer.next > last
                    || room == 0
                    || peer.next <= base
                {
                    break;
                }
                let prev = log.at(peer.next - 1).expect("what is in the log, or just before it, has a name");
                let entries = log.batch(peer.next, config.max_batch_bytes, room);
                assert!(!entries.is_empty(), "there is something to send");
                peer.next += entries.len() as u64;
                if inflight == 0 {
                    peer.progress_ns = now_ns;
                }
                (peer.sent_ns, peer.told) = (now_ns, committed);
                let order = Body::Order { prev, entries, committed };
                // Early: that others hold it before this disk does no harm. This member counts its own copy only when durable, and after
                // a restart it sequences no more in this epoch.
                out.send_early(peer.id, super::Message { epoch: self.hard.epoch, body: order });
            }
            let asks = peer.probing && peer.sent_ns == 0;
            if asks || peer.told < committed.min(peer.held) {
                peer.told = committed;
                heartbeat(peer, log, self.hard.epoch, committed, now_ns, out);
            }
        }
    }

    pub(super) fn on_heartbeat(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        if matches!(self.state, State::Member) {
            return;
        }
        out.set_timer(Timer::Heartbeat, now_ns.saturating_add(self.config.heartbeat_ns()));
        if matches!(self.state, State::Collecting(_)) {
            return self.collect_again(out);
        }
        // Early: it says nothing that a crash could make untrue.
        out.send_early(CATALOG, self.say(Body::Working { committed: self.committed }));
        let (resend_ns, heartbeat_ns) = (self.config.resend_ns(), self.config.heartbeat_ns());
        let State::Sequencing(sequencing) = &mut self.state else { unreachable!("looked at above") };
        let base = self.log.base().position;
        for peer in &mut sequencing.peers {
            let overdue = now_ns >= peer.progress_ns.saturating_add(resend_ns);
            if !peer.probing && peer.next - 1 > peer.held && overdue {
                peer.next = peer.held + 1;
                peer.progress_ns = now_ns;
                self.counters.resent += 1;
            }
            if peer.next <= base {
                let (chunk, asked_ns) = *peer.snapshot.get_or_insert((0, 0));
                if asked_ns == 0 || now_ns >= asked_ns.saturating_add(resend_ns) {
                    peer.snapshot = Some((chunk, now_ns.max(1)));
                    if !self.reading.contains(&peer.id) {
                        self.reading.push(peer.id);
                        out.snapshot_out(SnapshotRead { to: peer.id, chunk });
                    }
                }
            }
            if now_ns >= peer.sent_ns.saturating_add(heartbeat_ns) || peer.sent_ns == 0 {
                heartbeat(peer, &self.log, self.hard.epoch, self.committed, now_ns, out);
            }
        }
    }

    pub(super) fn on_accept(&mut self, from: NodeId, held: u64, now_ns: u64, out: &mut impl Sink<Self>) {
        let last = self.log.last().position;
        let State::Sequencing(sequencing) = &mut self.state else { return };
        let Some(peer) = sequencing.peer(from) else { return };
        if held > last {
            self.counters.refused_contradictions += 1;
            return;
        }
        if held > peer.held || peer.probing {
            peer.held = peer.held.max(held);
            peer.progress_ns = now_ns;
        }
        peer.probing = false;
        peer.next = peer.next.max(peer.held + 1);
        assert!(peer.next <= last + 1, "nobody is sent what was not sequenced");
        if peer.held >= self.log.base().position {
            peer.snapshot = None;
        }
        self.advance_committed(out);
    }

    pub(super) fn on_gap(&mut self, from: NodeId, last: u64) {
        let own_last = self.log.last().position;
        let State::Sequencing(sequencing) = &mut self.state else { return };
        let Some(peer) = sequencing.peer(from) else { return };
        // One that came late says less than what is held.
        if last < peer.next - 1 && last <= own_last {
            self.counters.gaps += 1;
            peer.begins_after(last);
            assert!(peer.held < peer.next && peer.next <= own_last + 1, "it begins within the log");
        }
    }

    /// Commits what a majority holds: the position that the majority-th largest member has reached, if it is of this epoch.
    pub(super) fn advance_committed(&mut self, out: &mut impl Sink<Self>) {
        let State::Sequencing(sequencing) = &self.state else { return };
        let mut held: Vec<u64> = sequencing.peers.iter().map(|peer| peer.held).collect();
        held.push(self.log.durable());
        assert!(held.len() == self.config.members.len(), "every member is counted once");
        held.sort_unstable_by(|a, b| b.cmp(a));
        let mut majority = self.config.majority();
        if planted(Plant::DeliversBeforeMajority) {
            majority = (majority - 1).max(1);
        }
        let reached = held[majority - 1];
        if reached < sequencing.opened_at || reached <= self.committed {
            return;
        }
        let of_this_epoch = self.log.at(reached).is_some_and(|at| at.epoch == self.hard.epoch);
        assert!(of_this_epoch, "what comes after the epoch's first entry is of the epoch");
        assert!(reached <= self.log.last().position, "only what was sequenced is held");
        self.committed = reached;
        self.deliver(out);
    }
}

/// Says what is committed, and asks whether the log up to `next` is there.
fn heartbeat(
    peer: &mut Peer,
    log: &super::Log,
    epoch: u64,
    committed: u64,
    now_ns: u64,
    out: &mut impl Sink<Sequencer>,
) {
    // While entries are on their way they may overtake each other: what was accepted is surely there.
    let before = if peer.probing { peer.next - 1 } else { peer.held };
    peer.sent_ns = now_ns.max(1);
    if !peer.probing && before < log.base().position && peer.next > log.base().position {
        // What it would be asked about is no longer in the log, and what comes after is on its way.
        return;
    }
    let prev = log.at(before).unwrap_or(log.base());
    // Early: positions are committed by the disks of a majority.
    let body = Body::Order { prev, entries: Vec::new(), committed };
    out.send_early(peer.id, super::Message { epoch, body });
}
