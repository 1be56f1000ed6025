//! What members say to each other.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId, Wire};

use super::config::{MEMBERS_MAX, STREAMS_MAX};
use crate::clock::{COUNTER_MAX, Dot, ReplicaId, VectorClock, varint};
use crate::envelope::{Envelope, nothing_left};

/// Who is in the group. Numbers rise with each change; who gives them never gives one twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Which.
    pub number: u64,
    /// Who, ascending.
    pub members: Vec<NodeId>,
}

impl View {
    /// A view of these members.
    ///
    /// # Panics
    /// If they are none, too many, number 0, or one of them stands twice.
    #[must_use]
    pub fn new(number: u64, mut members: Vec<NodeId>) -> View {
        assert!(View::is_sound(&members), "a view has 1 to 256 members, each once, none of them number 0");
        members.sort_unstable();
        View { number, members }
    }

    /// Whether these can be the members of a view.
    #[must_use]
    pub fn is_sound(members: &[NodeId]) -> bool {
        let distinct = (0..members.len()).all(|at| !members[..at].contains(&members[at]));
        (1..=MEMBERS_MAX).contains(&members.len()) && distinct && !members.contains(&super::CATALOG)
    }

    /// Whether a node is in it. O(log members).
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.members.binary_search(&node).is_ok()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        varint::put(self.number, out);
        varint::put(self.members.len() as u64, out);
        for member in &self.members {
            varint::put(member.0, out);
        }
    }

    pub(super) fn take(bytes: &mut Bytes) -> Result<View, DecodeError> {
        let number = varint::take(bytes)?;
        let count = varint::take_count(bytes, 1)?;
        if count > MEMBERS_MAX {
            return Err(DecodeError::new("a view of at most 256 members"));
        }
        let members: Result<Vec<NodeId>, _> = (0..count).map(|_| varint::take(bytes).map(NodeId)).collect();
        let members = members?;
        if !members.is_sorted() || !View::is_sound(&members) {
            return Err(DecodeError::new("a view's members, ascending"));
        }
        Ok(View { number, members })
    }
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Member to member: messages, all of which the sender holds durably.
    Data {
        /// Of any streams; of each in order.
        envelopes: Vec<Envelope>,
    },
    /// Member to member, again and again: what I hold durably, of each stream from its beginning without a gap.
    Status {
        /// Number of the view I am in.
        view: u64,
        /// What I hold.
        holds: VectorClock,
    },
    /// Member to member: send me these, which you hold.
    Want {
        /// Whose.
        replica: ReplicaId,
        /// The first.
        first: u64,
        /// The last; at least `first`.
        last: u64,
    },
    /// Node to member: I am new. Where do I begin?
    Join,
    /// Member to node: begin here. The answer to `Join`.
    Welcome {
        /// What I hold durably: take all of it for delivered.
        holds: VectorClock,
    },
    /// Member to member: I do not have what you want. If nobody has it, you were not a member when all members held it: begin anew.
    Gone {
        /// Whose message was wanted.
        replica: ReplicaId,
        /// Which.
        counter: u64,
        /// What I hold durably.
        holds: VectorClock,
    },
    /// Catalog to member, and member to member: the group is now this.
    View(View),
}

impl Wire for Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Body::Data { envelopes } => {
                out.push(0);
                for envelope in envelopes {
                    envelope.encode(out);
                }
            }
            Body::Status { view, holds } => {
                out.push(1);
                varint::put(*view, out);
                holds.encode(out);
            }
            Body::Want { replica, first, last } => {
                assert!((1..=*last).contains(first), "a range has a first and a last");
                out.push(2);
                varint::put(replica.0, out);
                varint::put(*first, out);
                varint::put(*last, out);
            }
            Body::Join => out.push(3),
            Body::Welcome { holds } => {
                out.push(4);
                holds.encode(out);
            }
            Body::View(view) => {
                out.push(5);
                view.put(out);
            }
            Body::Gone { replica, counter, holds } => {
                out.push(6);
                Dot::new(*replica, *counter).put(out);
                holds.encode(out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Body, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a kind of broadcast message"));
        }
        let kind = bytes.split_to(1)[0];
        let body = match kind {
            0 => {
                let mut envelopes = Vec::new();
                while !bytes.is_empty() {
                    envelopes.push(Envelope::take(&mut bytes)?);
                }
                Body::Data { envelopes }
            }
            1 => Body::Status { view: varint::take(&mut bytes)?, holds: take_clock(&mut bytes)? },
            2 => {
                let replica = ReplicaId(varint::take(&mut bytes)?);
                let (first, last) = (varint::take(&mut bytes)?, varint::take(&mut bytes)?);
                if first == 0 || first > last || last > COUNTER_MAX {
                    return Err(DecodeError::new("a range from a first to a last"));
                }
                Body::Want { replica, first, last }
            }
            3 => Body::Join,
            4 => Body::Welcome { holds: take_clock(&mut bytes)? },
            5 => Body::View(View::take(&mut bytes)?),
            6 => {
                let Dot { replica, counter } = Dot::take(&mut bytes)?;
                Body::Gone { replica, counter, holds: take_clock(&mut bytes)? }
            }
            _ => return Err(DecodeError::new("a kind of broadcast message")),
        };
        nothing_left(&bytes)?;
        Ok(body)
    }
}

/// A clock of the streams that a member knows: their number is bounded, and so is how far they count.
pub(super) fn take_clock(bytes: &mut Bytes) -> Result<VectorClock, DecodeError> {
    VectorClock::take_of_events(bytes, STREAMS_MAX)
}
