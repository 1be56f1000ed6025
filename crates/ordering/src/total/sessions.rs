//! Which life of each node broadcasts, and how far it is: a function of the log, and so equal on all members at each index.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Plant, Wire, planted};

use super::config::SENDERS_MAX;
use super::message::take_sender;
use crate::clock::{COUNTER_MAX, varint};
use crate::envelope::nothing_left;

/// One node's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Session {
    /// The life that broadcasts.
    pub(super) session: u64,
    /// Messages of the node that were delivered, over all its lives.
    pub(super) count: u64,
}

/// What an item of the log comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The next message of its sender.
    Next,
    /// It was delivered before: submitted twice.
    Duplicate,
    /// One before it is missing: it comes again.
    Gap,
    /// Of a life that is over.
    Closed,
}

/// Of all nodes that ever broadcast.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<NodeId, Session>,
}

impl Sessions {
    pub(super) fn get(&self, node: NodeId) -> Option<Session> {
        self.open.get(&node).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Opens a session behind the one that its node knows of; whether it is open then.
    pub(super) fn open(&mut self, node: NodeId, session: u64, after: u64) -> bool {
        assert!(session > 0, "0 is no session");
        let known = self.get(node);
        let present = known.map_or(0, |known| known.session);
        if present != after || (known.is_none() && self.open.len() >= SENDERS_MAX) {
            return present == session;
        }
        let count = known.map_or(0, |known| known.count);
        self.open.insert(node, Session { session, count });
        assert!(self.open.len() <= SENDERS_MAX, "the table is bounded");
        true
    }

    /// Takes a message in the log's order.
    pub(super) fn take(&mut self, node: NodeId, session: u64, counter: u64) -> Verdict {
        assert!(counter > 0 && counter <= COUNTER_MAX, "decoders let no other in");
        let Some(known) = self.open.get_mut(&node).filter(|known| known.session == session) else {
            return Verdict::Closed;
        };
        if counter == known.count + 1 {
            known.count = counter;
            return Verdict::Next;
        }
        if counter > known.count {
            return Verdict::Gap;
        }
        if planted(Plant::SubmittedTwiceDelivered) { Verdict::Next } else { Verdict::Duplicate }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

impl Wire for Sessions {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.open.len() as u64, out);
        for (node, Session { session, count }) in &self.open {
            [node.0, *session, *count].into_iter().for_each(|number| varint::put(number, out));
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Sessions, DecodeError> {
        let count = varint::take_count(&mut bytes, 3)?;
        if count > SENDERS_MAX {
            return Err(DecodeError::new("at most 1,024 senders"));
        }
        let mut open = BTreeMap::new();
        for _ in 0..count {
            let node = take_sender(&mut bytes)?;
            let (session, count) = (varint::take(&mut bytes)?, varint::take(&mut bytes)?);
            if session == 0 || count > COUNTER_MAX {
                return Err(DecodeError::new("a session above 0, and a count below 2^63"));
            }
            if open.last_key_value().is_some_and(|(last, _)| *last >= node) {
                return Err(DecodeError::new("senders in order"));
            }
            open.insert(node, Session { session, count });
        }
        nothing_left(&bytes)?;
        Ok(Sessions { open })
    }
}
