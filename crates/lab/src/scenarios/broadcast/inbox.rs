//! The parent of a member: what it is given, it counts.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keypact_ordering::Envelope;
use keypact_protocol::{DecodeError, Delivery, NodeId, Wire};
use keypact_simulator::{Applied, StateMachine, TraceHash};

/// What clients broadcast. All notes of a run differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Note {
    /// Who.
    pub client: u32,
    /// Which of the client's notes.
    pub number: u32,
    /// At which node. A checker believes this, and not what a protocol says of the sender.
    pub node: NodeId,
}

impl Note {
    /// Its name in a history.
    #[must_use]
    pub fn name(&self) -> String {
        format!("c{}.{}@{}", self.client, self.number, self.node)
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.client);
        out.put_u32_le(self.number);
        out.put_u64_le(self.node.0);
    }

    fn decode(mut bytes: &[u8]) -> Result<Note, DecodeError> {
        if bytes.len() != 16 {
            return Err(DecodeError::new("a note of 16 bytes"));
        }
        Ok(Note { client: bytes.get_u32_le(), number: bytes.get_u32_le(), node: NodeId(bytes.get_u64_le()) })
    }
}

/// A delivered command, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The stream that the protocol names.
    pub stream: u64,
    /// Its place in it.
    pub number: u64,
    /// What was broadcast.
    pub note: Note,
}

/// How a protocol puts the sender into a command.
pub trait Opens: Debug + Clone + Default + PartialEq + 'static {
    /// Whether all members deliver in one order.
    const ONE_ORDER: bool;

    /// Takes a command apart.
    ///
    /// # Errors
    /// It is none.
    fn open(command: &Bytes) -> Result<Opened, DecodeError>;
}

/// As [`Envelope`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Enveloped;

impl Opens for Enveloped {
    const ONE_ORDER: bool = false;

    fn open(command: &Bytes) -> Result<Opened, DecodeError> {
        let envelope = Envelope::decode(command.clone())?;
        let note = Note::decode(&envelope.body)?;
        Ok(Opened { stream: envelope.dot.replica.0, number: envelope.dot.counter, note })
    }
}

/// Counts what was delivered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inbox<K: Opens> {
    /// The last message of each stream.
    last: BTreeMap<u64, u64>,
    count: u64,
    /// Over all deliveries, in order.
    digest: u64,
    kind: PhantomData<K>,
}

impl<K: Opens> StateMachine for Inbox<K> {
    type Command = Note;
    type Query = ();
    /// How many were delivered.
    type Answer = u64;

    fn encode(note: &Note, out: &mut BytesMut) {
        note.encode(out);
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<u64, DecodeError> {
        let opened = K::open(&delivery.command)?;
        let last = self.last.entry(opened.stream).or_default();
        *last = (*last).max(opened.number);
        self.count += 1;
        let mut hash = TraceHash::default();
        hash.add(self.digest);
        hash.add_bytes(&delivery.command);
        self.digest = hash.value();
        Ok(self.count)
    }

    fn read(&self, (): &()) -> u64 {
        self.count
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.count);
        out.put_u64_le(self.digest);
        for (stream, number) in &self.last {
            out.put_u64_le(*stream);
            out.put_u64_le(*number);
        }
    }

    fn load(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let bad = |_| DecodeError::new("the state of an inbox");
        let (count, digest) = (bytes.try_get_u64_le().map_err(bad)?, bytes.try_get_u64_le().map_err(bad)?);
        let mut last = BTreeMap::new();
        while bytes.has_remaining() {
            last.insert(bytes.try_get_u64_le().map_err(bad)?, bytes.try_get_u64_le().map_err(bad)?);
        }
        Ok(Inbox { last, count, digest, kind: PhantomData })
    }

    fn digest(&self) -> u64 {
        self.digest
    }

    fn compared(&self, index: u64) -> Applied {
        if K::ONE_ORDER {
            return Applied { index, digest: self.digest };
        }
        // Orders differ, and who joined late has delivered less; but all end with the same messages.
        let mut hash = TraceHash::default();
        for (stream, number) in &self.last {
            hash.add(*stream);
            hash.add(*number);
        }
        Applied { index: 0, digest: hash.value() }
    }
}
