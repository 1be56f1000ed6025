//! What replicas and the catalog say to each other.
//!
//! On the wire: integers in seven-bit groups, contexts as spans, deltas as their own bytes.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{DotContext, HybridStamp, ReplicaId, varint};
use keypact_protocol::{DecodeError, GroupId, Incarnation, Wire};

use super::View;
use super::config::{DELTAS_MAX, FORGETS_MAX, PARTS_MAX};
use super::view::{end, put_bytes, take_bool, take_byte, take_bytes};

/// A message: of which group, in which view, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The group.
    pub group: GroupId,
    /// The sender's view. Deltas are taken from who is in the same view only.
    pub view: u64,
    /// What it says.
    pub body: Body,
}

/// Whether a digest wants an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// None; it is an answer itself.
    No,
    /// If the receiver lacks something, it asks back.
    Back,
    /// A digest in any case: the sender waits for an acknowledgement, or for a place to begin.
    Always,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// What the sender has applied, durably.
    Digest {
        /// The events.
        version: DotContext,
        /// Whether it has all that a member must have.
        serving: bool,
        /// What it wants to hear.
        ask: Ask,
    },
    /// Deltas, each of which may be applied by itself, in any order.
    Deltas {
        /// The sender's clock.
        stamp: HybridStamp,
        /// The deltas, encoded.
        deltas: Vec<Bytes>,
        /// Whether to answer with a digest: more is to come, or an acknowledgement is waited for.
        answer: bool,
    },
    /// A part of all that the receiver lacked when it sent its digest. The parts of a transfer are applied together or not at all.
    Part {
        /// The sender's clock.
        stamp: HybridStamp,
        /// Which transfer of the sender.
        transfer: u64,
        /// Which part, from 0.
        index: u32,
        /// Of how many.
        count: u32,
        /// The part, encoded.
        delta: Bytes,
    },
    /// The part that is wanted next.
    Next {
        /// Which transfer.
        transfer: u64,
        /// Which part.
        index: u32,
    },
    /// A view, told to who is in an older one.
    View(View),
    /// Replica to catalog: how it stands with me.
    Report {
        /// The life of the node's folder.
        folder: Incarnation,
        /// Under which identity it counts; `None`: it has none.
        replica: Option<ReplicaId>,
        /// Whether it has all that a member must have.
        serving: bool,
        /// What it has applied, durably.
        version: DotContext,
        /// Identities that are in no view any more, of whose events nothing lives here.
        spent: Vec<ReplicaId>,
    },
}

const DIGEST: u8 = 0;
const DELTAS: u8 = 1;
const PART: u8 = 2;
const NEXT: u8 = 3;
const VIEW: u8 = 4;
const REPORT: u8 = 5;

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.group.0, out);
        varint::put(self.view, out);
        match &self.body {
            Body::Digest { version, serving, ask } => {
                out.push(DIGEST);
                let ask = match ask {
                    Ask::No => 0,
                    Ask::Back => 1,
                    Ask::Always => 2,
                };
                out.push(ask << 1 | u8::from(*serving));
                version.encode(out);
            }
            Body::Deltas { stamp, deltas, answer } => {
                assert!(deltas.len() <= DELTAS_MAX, "a message holds a bounded number of deltas");
                out.push(DELTAS);
                stamp.put(out);
                out.push(u8::from(*answer));
                varint::put(deltas.len() as u64, out);
                deltas.iter().for_each(|delta| put_bytes(delta, out));
            }
            Body::Part { stamp, transfer, index, count, delta } => {
                assert!(index < count && *count <= PARTS_MAX, "a part is one of those that there are");
                out.push(PART);
                stamp.put(out);
                varint::put(*transfer, out);
                varint::put(u64::from(*index), out);
                varint::put(u64::from(*count), out);
                put_bytes(delta, out);
            }
            Body::Next { transfer, index } => {
                assert!(*index < PARTS_MAX, "only a part can be next");
                out.push(NEXT);
                varint::put(*transfer, out);
                varint::put(u64::from(*index), out);
            }
            Body::View(view) => {
                out.push(VIEW);
                view.put(out);
            }
            Body::Report { folder, replica, serving, version, spent } => {
                assert!(spent.len() <= FORGETS_MAX, "a report names a bounded number of identities");
                out.push(REPORT);
                varint::put(folder.0, out);
                out.push(u8::from(*serving) << 1 | u8::from(replica.is_some()));
                replica.iter().for_each(|replica| varint::put(replica.0, out));
                varint::put(spent.len() as u64, out);
                spent.iter().for_each(|replica| varint::put(replica.0, out));
                version.encode(out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Message, DecodeError> {
        let group = GroupId(varint::take(&mut bytes)?);
        let view = varint::take(&mut bytes)?;
        let body = match take_byte(&mut bytes)? {
            DIGEST => take_digest(&mut bytes)?,
            DELTAS => take_deltas(&mut bytes)?,
            PART => take_part(&mut bytes)?,
            NEXT => Body::Next { transfer: varint::take(&mut bytes)?, index: take_u32(&mut bytes)? },
            VIEW => Body::View(View::take(&mut bytes)?),
            REPORT => take_report(&mut bytes)?,
            _ => return Err(DecodeError::new("a gossip message's kind")),
        };
        end(&bytes)?;
        Ok(Message { group, view, body })
    }
}

fn take_u32(bytes: &mut Bytes) -> Result<u32, DecodeError> {
    u32::try_from(varint::take(bytes)?).map_err(|_| DecodeError::new("a number below 2^32"))
}

fn take_digest(bytes: &mut Bytes) -> Result<Body, DecodeError> {
    let flags = take_byte(bytes)?;
    let ask = match flags >> 1 {
        0 => Ask::No,
        1 => Ask::Back,
        2 => Ask::Always,
        _ => return Err(DecodeError::new("what a digest wants to hear")),
    };
    Ok(Body::Digest { version: DotContext::take(bytes)?, serving: flags & 1 != 0, ask })
}

fn take_deltas(bytes: &mut Bytes) -> Result<Body, DecodeError> {
    let stamp = HybridStamp::take(bytes)?;
    let answer = take_bool(bytes)?;
    let count = varint::take_count(bytes, 1)?;
    if count > DELTAS_MAX {
        return Err(DecodeError::new("at most 4,096 deltas"));
    }
    let mut deltas = Vec::with_capacity(count);
    for _ in 0..count {
        deltas.push(take_bytes(bytes)?);
    }
    assert!(deltas.len() == count, "all were read");
    Ok(Body::Deltas { stamp, deltas, answer })
}

fn take_part(bytes: &mut Bytes) -> Result<Body, DecodeError> {
    let stamp = HybridStamp::take(bytes)?;
    let transfer = varint::take(bytes)?;
    let (index, count) = (take_u32(bytes)?, take_u32(bytes)?);
    if index >= count || count > PARTS_MAX {
        return Err(DecodeError::new("a part of a transfer"));
    }
    assert!(count > 0, "a transfer has a part");
    Ok(Body::Part { stamp, transfer, index, count, delta: take_bytes(bytes)? })
}

fn take_report(bytes: &mut Bytes) -> Result<Body, DecodeError> {
    let folder = Incarnation(varint::take(bytes)?);
    let flags = take_byte(bytes)?;
    if flags > 3 {
        return Err(DecodeError::new("a report's flags"));
    }
    let replica = if flags & 1 != 0 { Some(ReplicaId(varint::take(bytes)?)) } else { None };
    let count = varint::take_count(bytes, 1)?;
    if count > FORGETS_MAX {
        return Err(DecodeError::new("at most 4,096 spent identities"));
    }
    let mut spent = Vec::with_capacity(count);
    for _ in 0..count {
        spent.push(ReplicaId(varint::take(bytes)?));
    }
    assert!(spent.len() == count, "all were read");
    Ok(Body::Report { folder, replica, serving: flags & 2 != 0, version: DotContext::take(bytes)?, spent })
}
