//! What stands in the log, and what members say beside the log's own messages.

use alloc::vec::Vec;
use core::fmt::Debug;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Wire};

use super::config::stream_of;
use crate::clock::{COUNTER_MAX, varint};
use crate::envelope::{nothing_left, put_bytes, take_bytes};

/// Bytes that an item takes beside a message's body, at most.
pub const ITEM_BYTES_MAX: usize = 1 + 4 * varint::BYTES_MAX;

/// What is proposed to the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A life of a node begins to broadcast: from here on its older lives' messages count no more.
    Open {
        /// The node.
        node: NodeId,
        /// The life's own number.
        session: u64,
        /// The session that it knows to be open; 0: none. Otherwise a late one could close a newer one.
        after: u64,
    },
    /// A message.
    Message {
        /// Who broadcasts it.
        node: NodeId,
        /// In which life.
        session: u64,
        /// Which of the node's messages, from 1, over all its lives.
        counter: u64,
        /// The command.
        body: Bytes,
    },
}

impl Wire for Item {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Item::Open { node, session, after } => {
                out.push(0);
                [node.0, *session, *after].into_iter().for_each(|number| varint::put(number, out));
                assert!(out.len() - start <= ITEM_BYTES_MAX, "the limit is known");
            }
            Item::Message { node, session, counter, body } => {
                out.push(1);
                [node.0, *session, *counter].into_iter().for_each(|number| varint::put(number, out));
                put_bytes(body, out);
                assert!(out.len() - start <= ITEM_BYTES_MAX + body.len(), "the limit is known");
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Item, DecodeError> {
        let kind = varint::take(&mut bytes)?;
        let node = take_sender(&mut bytes)?;
        let session = varint::take(&mut bytes)?;
        if session == 0 {
            return Err(DecodeError::new("a session above 0"));
        }
        let item = match kind {
            0 => Item::Open { node, session, after: varint::take(&mut bytes)? },
            1 => {
                let counter = varint::take(&mut bytes)?;
                if counter == 0 || counter > COUNTER_MAX {
                    return Err(DecodeError::new("a message counted from 1, below 2^63"));
                }
                Item::Message { node, session, counter, body: take_bytes(&mut bytes)? }
            }
            _ => return Err(DecodeError::new("a kind of item")),
        };
        nothing_left(&bytes)?;
        Ok(item)
    }
}

/// A node that can have a stream.
pub(super) fn take_sender(bytes: &mut Bytes) -> Result<NodeId, DecodeError> {
    let node = NodeId(varint::take(bytes)?);
    stream_of(node).map(|_| node).ok_or(DecodeError::new("a node's number of at most 48 bits"))
}

/// What members say to each other; `M` are the log's messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<M> {
    /// The log's own.
    Log(M),
    /// To whom leads the log: put these into it, in this order.
    Submit {
        /// Encoded [`Item`]s.
        items: Vec<Bytes>,
    },
}

impl<M: Wire> Wire for Message<M> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Log(message) => {
                out.push(0);
                message.encode(out);
            }
            Message::Submit { items } => {
                out.push(1);
                varint::put(items.len() as u64, out);
                items.iter().for_each(|item| put_bytes(item, out));
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Message<M>, DecodeError> {
        match varint::take(&mut bytes)? {
            0 => Ok(Message::Log(M::decode(bytes)?)),
            1 => {
                let count = varint::take_count(&mut bytes, 2)?;
                let items = (0..count).map(|_| take_bytes(&mut bytes)).collect::<Result<Vec<_>, _>>()?;
                nothing_left(&bytes)?;
                if items.iter().any(Bytes::is_empty) {
                    return Err(DecodeError::new("items that are something"));
                }
                Ok(Message::Submit { items })
            }
            _ => Err(DecodeError::new("a kind of total order message")),
        }
    }
}
