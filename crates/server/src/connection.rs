//! One client's connection: who it is, its replies in request order, and its unsent output.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use keypact_node::SessionId;
use keypact_resp::{Value, Version};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::metrics::Log2;
use crate::settings::Limits;

/// Output buffers up to this size are kept.
const KEPT_OUTPUT_BYTES: usize = 64 << 10;

/// A place in the order of replies.
#[derive(Debug)]
struct Slot {
    value: Option<Value>,
    /// In which version of the protocol: that of the connection when the command came.
    version: Version,
    /// Length of the command, bytes.
    bytes: u32,
    /// When it was read; 0 for what was answered at once.
    since_ns: u64,
}

/// A connection.
///
/// Invariant: the first slot has no value, so what is in `out` is all that may be sent now.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    /// What `CLIENT ID` says: counted from 1 in this life of the node.
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local_address: SocketAddr,
    pub(crate) name: Bytes,
    pub(crate) library: (Bytes, Bytes),
    pub(crate) version: Version,
    pub(crate) is_authenticated: bool,
    pub(crate) since_ns: u64,
    pub(crate) commands: u64,
    /// Number of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    slot_bytes: usize,
    out: BytesMut,
    write: Rc<OwnedWriteHalf>,
    /// Wakes the reader that waits for room.
    room: Rc<Notify>,
    is_waiting: bool,
    /// The socket is full, and a task waits until it is not.
    is_stuck: bool,
    /// It is in the list of those to be written out.
    pub(crate) is_touched: bool,
    /// No more commands are read; it is closed once everything is said.
    is_closing: bool,
    reader: Option<AbortHandle>,
    /// The task that waits while the socket is full.
    waiter: Option<AbortHandle>,
}

/// What became of writing out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    /// All of it; the connection goes on.
    All,
    /// The socket is full: somebody has to wait for it.
    Stuck,
    /// The connection is at its end: said all, or broken, or over its limit.
    End,
}

impl Connection {
    pub(crate) fn new(
        id: SessionId,
        write: OwnedWriteHalf,
        address: SocketAddr,
        local_address: SocketAddr,
        is_authenticated: bool,
        now_ns: u64,
    ) -> Connection {
        Connection {
            id,
            number: 0,
            address,
            local_address,
            name: Bytes::new(),
            library: (Bytes::new(), Bytes::new()),
            version: Version::Resp2,
            is_authenticated,
            since_ns: now_ns,
            commands: 0,
            first: 0,
            slots: VecDeque::new(),
            slot_bytes: 0,
            out: BytesMut::new(),
            write: Rc::new(write),
            room: Rc::new(Notify::new()),
            is_waiting: false,
            is_stuck: false,
            is_touched: false,
            is_closing: false,
            reader: None,
            waiter: None,
        }
    }

    pub(crate) fn set_reader(&mut self, reader: AbortHandle) {
        self.reader = Some(reader);
    }

    pub(crate) fn set_waiter(&mut self, waiter: AbortHandle) {
        self.waiter = Some(waiter);
    }

    /// To wait on until the socket takes more.
    pub(crate) fn write_half(&self) -> Rc<OwnedWriteHalf> {
        self.write.clone()
    }

    /// To wait on after [`Connection::must_wait`].
    pub(crate) fn room(&self) -> Rc<Notify> {
        self.room.clone()
    }

    /// Whether no further command may be read now. If so, [`Connection::room`] is notified when it may.
    pub(crate) fn must_wait(&mut self, limits: &Limits, all_in_flight_bytes: usize) -> bool {
        self.is_waiting = self.is_full(limits, all_in_flight_bytes);
        self.is_waiting
    }

    fn is_full(&self, limits: &Limits, all_in_flight_bytes: usize) -> bool {
        let over = self.slots.len() >= limits.in_flight
            || self.slot_bytes >= limits.in_flight_bytes
            || all_in_flight_bytes >= limits.all_in_flight_bytes;
        (over && !self.slots.is_empty()) || self.out.len() >= limits.output_bytes
    }

    /// Commands not answered yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn out_bytes(&self) -> usize {
        self.out.len()
    }

    /// Takes a place in the order for a command that is answered later; returns its number.
    pub(crate) fn place(&mut self, bytes: usize, now_ns: u64) -> u64 {
        let seq = self.first + self.slots.len() as u64;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.slot_bytes += bytes as usize;
        self.slots.push_back(Slot { value: None, version: self.version, bytes, since_ns: now_ns });
        seq
    }

    /// Answers a command at once, after all those before it.
    pub(crate) fn say(&mut self, value: Value) {
        if self.slots.is_empty() {
            self.first += 1;
            put(value, self.version, &mut self.out);
        } else {
            self.slots.push_back(Slot { value: Some(value), version: self.version, bytes: 0, since_ns: 0 });
        }
    }

    /// Answers a command that has its place; returns how many bytes of commands are no longer in flight.
    /// Latencies of what can be sent now go to `latency_us`.
    pub(crate) fn answer(&mut self, seq: u64, value: Value, now_ns: u64, latency_us: &mut Log2) -> usize {
        let at = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let slot = at.and_then(|at| self.slots.get_mut(at)).expect("a command is answered once");
        assert!(slot.value.is_none(), "a command is answered once");
        slot.value = Some(value);
        let before = self.slot_bytes;
        while let Some(slot) = self.slots.front_mut()
            && let Some(value) = slot.value.take()
        {
            put(value, slot.version, &mut self.out);
            if slot.since_ns > 0 {
                latency_us.record(now_ns.saturating_sub(slot.since_ns) / 1_000);
            }
            self.slot_bytes -= slot.bytes as usize;
            self.slots.pop_front();
            self.first += 1;
        }
        before - self.slot_bytes
    }

    /// Nothing more is read; it ends when all is said.
    pub(crate) fn close_when_said(&mut self) {
        self.is_closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Bytes of its commands that are in flight.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The socket takes more again.
    pub(crate) fn unstick(&mut self) {
        self.is_stuck = false;
    }

    /// Writes what can be written without waiting, and wakes a reader that has room again.
    pub(crate) fn write_out(&mut self, limits: &Limits, all_in_flight_bytes: usize) -> Written {
        let mut written = Written::All;
        if !self.out.is_empty() && !self.is_stuck {
            written = self.write_some();
        }
        if self.out.len() > limits.output_bytes_max {
            tracing::warn!(client = %self.address, bytes = self.out.len(), "closed: it does not read its replies");
            return Written::End;
        }
        if self.is_closing && self.out.is_empty() && self.slots.is_empty() {
            return Written::End;
        }
        if self.is_waiting && !self.is_full(limits, all_in_flight_bytes) {
            self.is_waiting = false;
            self.room.notify_one();
        }
        written
    }

    fn write_some(&mut self) -> Written {
        loop {
            match self.write.try_write(&self.out) {
                Ok(n) if n == self.out.len() => {
                    self.out.clear();
                    if self.out.capacity() > KEPT_OUTPUT_BYTES {
                        self.out = BytesMut::new();
                    }
                    return Written::All;
                }
                Ok(0) => return Written::End,
                Ok(n) => self.out.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_stuck = true;
                    return Written::Stuck;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Written::End,
            }
        }
    }
}

/// Encodes a reply behind those that are not sent yet; a long list that stands first is not copied.
fn put(value: Value, version: Version, out: &mut BytesMut) {
    match value {
        Value::Bulks(bulks) if out.is_empty() => *out = bulks.into_reply(),
        value => value.encode(version, out),
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Else a peer that never reads would keep the socket.
        [&self.reader, &self.waiter].into_iter().flatten().for_each(AbortHandle::abort);
    }
}

/// All connections, by the low bits of their ids.
#[derive(Debug)]
pub(crate) struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<u16>,
    /// Ids are never reused, nor likely to be those of an earlier life: they begin with the time.
    next: u64,
    len: usize,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

/// Connections at most, whatever the settings say.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 16;
const SLOT_BITS: u32 = 16;

impl Connections {
    pub(crate) fn new(wall_ms: u64) -> Connections {
        Connections { slots: Vec::new(), free: Vec::new(), next: wall_ms, len: 0, accepted: 0, refused: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A new id, whose place is free; `None` if all are taken.
    pub(crate) fn new_id(&mut self) -> Option<SessionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < CONNECTIONS_MAX => {
                self.slots.push(None);
                u16::try_from(self.slots.len() - 1).expect("below the maximum")
            }
            None => return None,
        };
        self.next += 1;
        Some(SessionId(self.next << SLOT_BITS | u64::from(slot)))
    }

    pub(crate) fn insert(&mut self, mut connection: Connection) {
        let slot = &mut self.slots[slot_of(connection.id)];
        assert!(slot.is_none(), "the place was free");
        self.len += 1;
        self.accepted += 1;
        connection.number = self.accepted;
        *slot = Some(connection);
    }

    #[inline]
    pub(crate) fn at(&mut self, id: SessionId) -> Option<&mut Connection> {
        self.slots.get_mut(slot_of(id))?.as_mut().filter(|c| c.id == id)
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Connection> {
        self.at(id)?;
        let slot = slot_of(id);
        self.free.push(u16::try_from(slot).expect("below the maximum"));
        self.len -= 1;
        self.slots[slot].take()
    }
}

fn slot_of(id: SessionId) -> usize {
    (id.0 & (CONNECTIONS_MAX as u64 - 1)) as usize
}
