//! Broadcast over bare connections, as a program does it that relies on TCP alone: a control for message orders.
//!
//! A connection delivers its bytes in order and once, or breaks. When nothing is acknowledged for a while it counts as broken, and another
//! is opened. What was not acknowledged on the old one is then forgotten, or sent again: nobody can tell whether it had arrived.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes};
use keypact_ordering::Envelope;
use keypact_ordering::clock::{Dot, ReplicaId, VectorClock};
use keypact_protocol::{
    Context, DecodeError, Delivery, HEADROOM_BYTES, Incarnation, Input, Lsn, NodeId, Protocol, Recover,
    RecoveryError, Request, Sink, Wire,
};
use keypact_simulator::MILLISECOND_NS;

/// A connection on which nothing is acknowledged for so long is broken.
const PATIENCE_NS: u64 = 30 * MILLISECOND_NS;

/// One member's settings.
#[derive(Clone, Debug)]
pub(super) struct BareConfig {
    pub(super) id: NodeId,
    pub(super) members: Vec<NodeId>,
    /// Whether what was not acknowledged is sent again over the next connection, or forgotten.
    pub(super) sends_again: bool,
}

/// What travels. `place` is the connection's own count, as TCP's: it ends with the connection.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Data { connection: u64, place: u64, envelope: Envelope },
    Acknowledged { connection: u64, place: u64 },
}

impl Wire for Packet {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, connection, place) = match self {
            Packet::Data { connection, place, .. } => (0, *connection, *place),
            Packet::Acknowledged { connection, place } => (1, *connection, *place),
        };
        out.put_u8(kind);
        out.put_u64_le(connection);
        out.put_u64_le(place);
        if let Packet::Data { envelope, .. } = self {
            envelope.encode(out);
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Packet, DecodeError> {
        if bytes.len() < 17 {
            return Err(DecodeError::new("a packet of at least 17 bytes"));
        }
        let (kind, connection, place) = (bytes.get_u8(), bytes.get_u64_le(), bytes.get_u64_le());
        match kind {
            0 => Ok(Packet::Data { connection, place, envelope: Envelope::decode(bytes)? }),
            1 if bytes.is_empty() => Ok(Packet::Acknowledged { connection, place }),
            _ => Err(DecodeError::new("data or an acknowledgement")),
        }
    }
}

/// It writes nothing down.
#[derive(Clone, Debug)]
pub(super) enum NoRecord {}

impl Wire for NoRecord {
    fn encode(&self, _out: &mut Vec<u8>) {
        match *self {}
    }

    fn decode(_bytes: Bytes) -> Result<NoRecord, DecodeError> {
        Err(DecodeError::new("no record at all"))
    }
}

/// The sending end of one connection.
#[derive(Debug, Default)]
struct Outgoing {
    connection: u64,
    /// Messages given to it.
    sent: u64,
    unacknowledged: VecDeque<Envelope>,
}

/// The receiving end.
#[derive(Clone, Copy, Debug, Default)]
struct Incoming {
    connection: u64,
    received: u64,
}

/// One member.
#[derive(Debug)]
pub(super) struct Bare {
    config: BareConfig,
    own: u64,
    index: u64,
    outgoing: BTreeMap<NodeId, Outgoing>,
    incoming: BTreeMap<NodeId, Incoming>,
}

impl Bare {
    fn deliver(
        &mut self,
        envelope: &Envelope,
        request: Option<keypact_protocol::RequestId>,
        out: &mut impl Sink<Self>,
    ) {
        self.index += 1;
        let command = envelope.to_command();
        // Early: nothing is written.
        out.deliver_early(Delivery { index: self.index, stamp_ms: 0, seed: self.index, command, request });
    }

    fn transmit(&mut self, to: NodeId, envelope: Envelope, now_ns: u64, out: &mut impl Sink<Self>) {
        let end = self.outgoing.entry(to).or_default();
        if end.unacknowledged.is_empty() {
            out.set_timer(to, now_ns + PATIENCE_NS);
        }
        end.sent += 1;
        end.unacknowledged.push_back(envelope.clone());
        out.send_early(to, Packet::Data { connection: end.connection, place: end.sent, envelope });
    }

    fn acknowledged(&mut self, from: NodeId, place: u64, now_ns: u64, out: &mut impl Sink<Self>) {
        let end = self.outgoing.entry(from).or_default();
        let first = end.sent - end.unacknowledged.len() as u64 + 1;
        let covered = (place + 1).saturating_sub(first).min(end.unacknowledged.len() as u64);
        end.unacknowledged.drain(..covered as usize);
        if end.unacknowledged.is_empty() {
            out.cancel_timer(from);
        } else if covered > 0 {
            out.set_timer(from, now_ns + PATIENCE_NS);
        }
    }

    /// Nothing was acknowledged for too long.
    fn reconnect(&mut self, peer: NodeId, now_ns: u64, out: &mut impl Sink<Self>) {
        let end = self.outgoing.entry(peer).or_default();
        end.connection += 1;
        end.sent = 0;
        let on_their_way = std::mem::take(&mut end.unacknowledged);
        if self.config.sends_again {
            for envelope in on_their_way {
                self.transmit(peer, envelope, now_ns, out);
            }
        }
    }

    fn receive(
        &mut self,
        from: NodeId,
        (connection, place): (u64, u64),
        envelope: &Envelope,
        out: &mut impl Sink<Self>,
    ) {
        let end = self.incoming.entry(from).or_default();
        if connection > end.connection {
            *end = Incoming { connection, received: 0 };
        }
        // A connection never skips what was lost on it: it breaks.
        if connection < end.connection || place != end.received + 1 {
            return;
        }
        end.received = place;
        out.send_early(from, Packet::Acknowledged { connection, place });
        self.deliver(envelope, None, out);
    }
}

impl Protocol for Bare {
    type Config = BareConfig;
    type Message = Packet;
    type Record = NoRecord;
    type Timer = NodeId;
    type Recovery = Bare;

    fn begin(config: BareConfig, _checkpoint: Option<Bytes>, _seed: u64) -> Result<Bare, RecoveryError> {
        Ok(Bare { config, own: 0, index: 0, outgoing: BTreeMap::new(), incoming: BTreeMap::new() })
    }

    fn handle(&mut self, input: Input<Self>, context: Context, out: &mut impl Sink<Self>) {
        match input {
            Input::Request(Request::Propose { id, command }) => {
                self.own += 1;
                let me = ReplicaId::of_life(self.config.id, Incarnation(1)).expect("small numbers fit");
                let body = command.seal(|_| ()).slice(HEADROOM_BYTES..);
                let envelope = Envelope { dot: Dot::new(me, self.own), after: VectorClock::new(), body };
                self.deliver(&envelope, Some(id), out);
                for to in self.config.members.clone() {
                    if to != self.config.id {
                        self.transmit(to, envelope.clone(), context.now_ns, out);
                    }
                }
            }
            Input::Message { from, message: Packet::Data { connection, place, envelope } } => {
                self.receive(from, (connection, place), &envelope, out);
            }
            // What is said of an older connection comes too late.
            Input::Message { from, message: Packet::Acknowledged { connection, place } }
                if self.outgoing.get(&from).is_some_and(|end| end.connection == connection) =>
            {
                self.acknowledged(from, place, context.now_ns, out);
            }
            Input::Timer(peer) => self.reconnect(peer, context.now_ns, out),
            _ => {}
        }
    }

    fn flush(&mut self, _context: Context, _out: &mut impl Sink<Self>) {}

    fn assert_invariants(&self) {
        assert!(self.own <= self.index, "own messages are delivered at once");
    }
}

impl Recover<Bare> for Bare {
    fn replay(&mut self, _lsn: Lsn, record: NoRecord) -> Result<(), RecoveryError> {
        match record {}
    }

    fn finish(self) -> Bare {
        self
    }
}
