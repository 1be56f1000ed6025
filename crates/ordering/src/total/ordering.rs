//! From the log's deliveries to messages in order, and what stands between log and parent: checkpoints with the table of sessions in them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::Bytes;
use keypact_protocol::{
    DecodeError, Delivery, Lsn, NodeId, Protocol, Reply, RequestId, Sink, SnapshotChunk, SnapshotInput,
    SnapshotRead, Wire,
};

use super::config::stream_of;
use super::message::{Item, Message};
use super::sender::Sender;
use super::sessions::{Sessions, Verdict};
use super::{Counters, ReplicatedLog, Timer, Total};
use crate::clock::{Dot, VectorClock};
use crate::envelope::{Envelope, nothing_left, put_bytes, take_bytes};

/// Requests from here on are this layer's own.
pub(super) const OWN_REQUESTS: u64 = 1 << 63;

/// What is kept of the order beside the log.
#[derive(Debug)]
pub(super) struct Ordering {
    pub(super) node: NodeId,
    pub(super) sessions: Sessions,
    pub(super) sender: Sender,
    /// The newest durable checkpoint: the log's own meta, and the sessions at it.
    pub(super) checkpoint: Option<(Bytes, Sessions)>,
    /// Of the snapshot that is being received, the same.
    incoming: Option<(Bytes, Sessions)>,
    /// Answers to the log that the parent need not be asked for.
    pub(super) answers: VecDeque<SnapshotInput>,
    /// The last proposal of this layer that the log refused.
    pub(super) refused: Option<RequestId>,
    /// The log does not know what becomes of something that this layer proposed.
    pub(super) lost: bool,
    pub(super) counters: Counters,
}

/// A checkpoint's meta: the log's, and the sessions.
pub(super) fn wrap(meta: &[u8], sessions: &Sessions) -> Bytes {
    let mut out = Vec::new();
    put_bytes(meta, &mut out);
    put_bytes(&sessions.to_bytes(), &mut out);
    Bytes::from(out)
}

/// Reads back [`wrap`].
pub(super) fn unwrap_meta(mut bytes: Bytes) -> Result<(Bytes, Sessions), DecodeError> {
    let meta = take_bytes(&mut bytes)?;
    let sessions = Sessions::decode(take_bytes(&mut bytes)?)?;
    nothing_left(&bytes)?;
    Ok((meta, sessions))
}

impl Ordering {
    pub(super) fn new(node: NodeId, seed: u64, checkpoint: Option<(Bytes, Sessions)>) -> Ordering {
        let sessions = checkpoint.as_ref().map_or_else(Sessions::default, |(_, sessions)| sessions.clone());
        Ordering {
            node,
            sessions,
            sender: Sender::new(node, seed),
            checkpoint,
            incoming: None,
            answers: VecDeque::new(),
            refused: None,
            lost: false,
            counters: Counters::default(),
        }
    }

    /// What a delivery of the log is for the parent: a message, or nothing in the same place.
    fn order(&mut self, delivery: Delivery) -> Delivery {
        let (command, request) = self.open_item(&delivery.command);
        assert!(request.is_none() || !command.is_empty(), "who is answered has broadcast something");
        Delivery { command, request, ..delivery }
    }

    fn open_item(&mut self, command: &Bytes) -> (Bytes, Option<RequestId>) {
        let nothing = (Bytes::new(), None);
        if command.is_empty() {
            return nothing;
        }
        match Item::decode(command.clone()) {
            Ok(Item::Open { node, session, after }) => {
                let is_open = self.sessions.open(node, session, after);
                if self.sender.is_session(node, session) {
                    self.counters.sessions_opened += u64::from(is_open);
                    self.counters.sessions_refused += u64::from(!is_open);
                    self.sender.decided(is_open, self.sessions.get(node));
                }
                nothing
            }
            Ok(Item::Message { node, session, counter, body }) => {
                self.order_message(node, session, counter, body).unwrap_or(nothing)
            }
            Err(_) => {
                self.counters.malformed += 1;
                nothing
            }
        }
    }

    fn order_message(
        &mut self,
        node: NodeId,
        session: u64,
        counter: u64,
        body: Bytes,
    ) -> Option<(Bytes, Option<RequestId>)> {
        let is_own = self.sender.is_session(node, session);
        match self.sessions.take(node, session, counter) {
            Verdict::Next => {}
            Verdict::Duplicate => {
                self.counters.duplicates += 1;
                return None;
            }
            Verdict::Gap => {
                self.counters.gaps += 1;
                if is_own {
                    self.sender.came_too_early();
                }
                return None;
            }
            Verdict::Closed => {
                self.counters.closed += 1;
                return None;
            }
        }
        self.counters.delivered += 1;
        let request = if is_own { self.sender.delivered(counter) } else { None };
        let replica = stream_of(node).expect("items name nodes that have streams");
        let envelope = Envelope { dot: Dot::new(replica, counter), after: VectorClock::new(), body };
        Some((envelope.to_command(), request))
    }

    /// What the parent says about checkpoints and snapshots, as the log takes it. A snapshot's first chunk is the table of sessions, so
    /// the parent's chunks are the log's from 1 on.
    pub(super) fn translate(&mut self, input: SnapshotInput) -> (SnapshotInput, Vec<RequestId>) {
        let mut passed_over = Vec::new();
        let translated = match input {
            SnapshotInput::Checkpointed { meta } => {
                let (meta, sessions) = unwrap_meta(meta).expect("the parent gives back our own meta");
                self.checkpoint = Some((meta.clone(), sessions));
                SnapshotInput::Checkpointed { meta }
            }
            SnapshotInput::Read { to, chunk } => match unwrap_meta(chunk.meta) {
                Ok((meta, _)) => {
                    SnapshotInput::Read { to, chunk: SnapshotChunk { meta, chunk: chunk.chunk + 1, ..chunk } }
                }
                Err(_) => SnapshotInput::ReadFailed { to },
            },
            SnapshotInput::Taken { chunk } => SnapshotInput::Taken { chunk: chunk + 1 },
            SnapshotInput::Installed { meta } => {
                let (meta, sessions) = unwrap_meta(meta).expect("the parent gives back our own meta");
                self.incoming = None;
                assert!(sessions.len() >= self.sessions.len(), "a snapshot only goes forward");
                self.sessions = sessions.clone();
                self.checkpoint = Some((meta.clone(), sessions));
                passed_over = self.sender.passed_over(self.sessions.get(self.node));
                self.counters.passed_over += passed_over.len() as u64;
                SnapshotInput::Installed { meta }
            }
            SnapshotInput::ReadFailed { to } => SnapshotInput::ReadFailed { to },
            SnapshotInput::InstallFailed => {
                self.incoming = None;
                SnapshotInput::InstallFailed
            }
        };
        (translated, passed_over)
    }

    /// A sender is told by the delivery; what becomes of one attempt to get there only this layer wants to know.
    fn is_parents(&mut self, reply: &Reply) -> bool {
        let (Reply::ReadFrom { id, .. } | Reply::Refused { id, .. } | Reply::Uncertain { id }) = *reply;
        if id.0 < OWN_REQUESTS {
            return true;
        }
        match reply {
            Reply::Refused { .. } => self.refused = Some(id),
            Reply::Uncertain { .. } => self.lost = true,
            Reply::ReadFrom { .. } => {}
        }
        false
    }

    /// The log asks for a chunk: the first is here, the others are the parent's.
    fn read_chunk(&mut self, read: SnapshotRead) -> Option<SnapshotRead> {
        if let Some(chunk) = read.chunk.checked_sub(1) {
            return Some(SnapshotRead { chunk, ..read });
        }
        let to = read.to;
        self.answers.push_back(match &self.checkpoint {
            None => SnapshotInput::ReadFailed { to },
            Some((meta, sessions)) => {
                let bytes = sessions.to_bytes();
                let chunk = SnapshotChunk { meta: meta.clone(), chunk: 0, bytes, last: false };
                SnapshotInput::Read { to, chunk }
            }
        });
        None
    }

    /// The log gives a chunk of a snapshot: the first stays here, the others go to the parent.
    fn take_chunk(&mut self, chunk: SnapshotChunk) -> Option<SnapshotChunk> {
        let Some(number) = chunk.chunk.checked_sub(1) else {
            self.incoming = Sessions::decode(chunk.bytes).ok().map(|sessions| (chunk.meta, sessions));
            let taken = SnapshotInput::Taken { chunk: 0 };
            let answer = if self.incoming.is_some() { taken } else { SnapshotInput::InstallFailed };
            self.answers.push_back(answer);
            return None;
        };
        match &self.incoming {
            Some((meta, sessions)) if *meta == chunk.meta => {
                Some(SnapshotChunk { meta: wrap(meta, sessions), chunk: number, ..chunk })
            }
            _ => {
                self.answers.push_back(SnapshotInput::InstallFailed);
                None
            }
        }
    }
}

/// The log's sink: what it does goes out under this protocol's names.
pub(super) struct LogSink<'a, L, S> {
    pub(super) ordering: &'a mut Ordering,
    pub(super) out: &'a mut S,
    pub(super) log: PhantomData<L>,
}

type MessageOf<L> = <<L as ReplicatedLog>::Core as Protocol>::Message;
type RecordOf<L> = <<L as ReplicatedLog>::Core as Protocol>::Record;
type TimerOf<L> = <<L as ReplicatedLog>::Core as Protocol>::Timer;

impl<L: ReplicatedLog, S: Sink<Total<L>>> Sink<L::Core> for LogSink<'_, L, S> {
    fn append(&mut self, record: RecordOf<L>) -> Lsn {
        self.out.append(record)
    }

    fn send(&mut self, to: NodeId, message: MessageOf<L>) {
        self.out.send(to, Message::Log(message));
    }

    fn send_early(&mut self, to: NodeId, message: MessageOf<L>) {
        self.out.send_early(to, Message::Log(message));
    }

    fn reply(&mut self, reply: Reply) {
        if self.ordering.is_parents(&reply) {
            self.out.reply(reply);
        }
    }

    fn reply_early(&mut self, reply: Reply) {
        if self.ordering.is_parents(&reply) {
            self.out.reply_early(reply);
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let delivery = self.ordering.order(delivery);
        self.out.deliver(delivery);
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        let delivery = self.ordering.order(delivery);
        // Early with the log's own argument: this layer writes nothing.
        self.out.deliver_early(delivery);
    }

    fn set_timer(&mut self, timer: TimerOf<L>, at_ns: u64) {
        self.out.set_timer(Timer::Log(timer), at_ns);
    }

    fn cancel_timer(&mut self, timer: TimerOf<L>) {
        self.out.cancel_timer(Timer::Log(timer));
    }

    fn checkpoint(&mut self, meta: Bytes) {
        let meta = wrap(&meta, &self.ordering.sessions);
        self.out.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.out.drop_log_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        if let Some(read) = self.ordering.read_chunk(read) {
            self.out.snapshot_out(read);
        }
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        if let Some(chunk) = self.ordering.take_chunk(chunk) {
            self.out.snapshot_in(chunk);
        }
    }
}
