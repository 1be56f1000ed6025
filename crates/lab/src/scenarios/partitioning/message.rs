//! What nodes, clients and disks are told.

use bytes::Bytes;
use keypact_partitioning::placement::ExecutorRecord;
use keypact_partitioning::{Map, MoveId, Position, Slice};
use keypact_protocol::{DecodeError, NodeId, Wire};

/// A key.
pub(crate) type Key = Vec<u8>;
/// Keys with their lists.
pub(crate) type Rows = Vec<(Key, Vec<u64>)>;

/// What an owner says of a slice of its map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report<A> {
    /// Where the slice begins.
    pub(crate) low: A,
    /// Bytes of its keys and lists.
    pub(crate) bytes: u64,
    /// Requests since the last report.
    pub(crate) requests: u64,
    /// Where it would split by size, and by load.
    pub(crate) split_at: Option<A>,
}

/// Between nodes. All but `Map`, `Known` and `Reports` are repeated until they are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message<A> {
    /// Catalog to giver: stop serving, send it there.
    Give { id: MoveId, slice: Slice<A>, to: NodeId },
    /// Giver to taker: all that is in the slice.
    Content { id: MoveId, slice: Slice<A>, rows: Rows },
    /// Taker to catalog: it is on my disk.
    Took { id: MoveId },
    /// Catalog to taker: it is yours since this version.
    Activate { id: MoveId, version: u64 },
    /// Taker to catalog: I serve it.
    Active { id: MoveId },
    /// Catalog to giver: it is another's.
    Release { id: MoveId },
    /// Giver to catalog: I have let go.
    Released { id: MoveId },
    /// Catalog to all.
    Map(Map<A>),
    /// All to catalog: the version they know.
    Known { version: u64 },
    /// Owner to catalog.
    Reports(Vec<Report<A>>),
}

/// What is on a node's disk.
#[derive(Clone, Debug)]
pub(crate) enum Record<A> {
    /// A client's append, to one key or to two.
    Append { keys: Vec<Key>, element: u64 },
    /// A slice is no longer served, to be given away.
    Gave { id: MoveId, slice: Slice<A>, to: NodeId },
    /// A slice and its keys are here, not served.
    Took { id: MoveId, slice: Slice<A>, rows: Rows },
    /// It is served since this version.
    Activated { id: MoveId, version: u64 },
    /// It is gone, with its keys.
    Released { id: MoveId },
    /// The catalog's.
    Executor(ExecutorRecord<A>),
}

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask<A> {
    /// Add to the lists of these keys, all or none.
    Append { keys: Vec<Key>, element: u64 },
    /// The list of a key.
    Read { key: Key },
    /// All keys of a slice with their lists.
    Range { slice: Slice<A> },
}

/// A client's question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request<A> {
    /// Ties the answer to it.
    pub(crate) op: u64,
    /// Of the map that the client went by.
    pub(crate) version: u64,
    /// What.
    pub(crate) ask: Ask<A>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply<A> {
    /// As in the request.
    pub(crate) op: u64,
    /// What.
    pub(crate) answer: Answer<A>,
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer<A> {
    /// Done, and durable.
    Appended,
    /// The list, durable.
    List(Vec<u64>),
    /// The whole slice, durable.
    Rows(Rows),
    /// Not served here; nothing was done. The map may help.
    NotMine(Box<Map<A>>),
    /// The keys lie in different places; nothing was done.
    Crossing,
}

fn number(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let Some(head) = bytes.first_chunk::<8>().copied() else { return Err(DecodeError::new("a number")) };
    drop(bytes.split_to(8));
    Ok(u64::from_le_bytes(head))
}

fn part(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = number(bytes)? as usize;
    if len > bytes.len() {
        return Err(DecodeError::new("a part of its length"));
    }
    Ok(bytes.split_to(len))
}

fn push(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn push_part(part: &[u8], out: &mut Vec<u8>) {
    push(part.len() as u64, out);
    out.extend_from_slice(part);
}

fn push_wire(value: &impl Wire, out: &mut Vec<u8>) {
    let mut part = Vec::new();
    value.encode(&mut part);
    push_part(&part, out);
}

fn id(bytes: &mut Bytes) -> Result<MoveId, DecodeError> {
    Ok(MoveId { plan: number(bytes)?, step: number(bytes)? as u32 })
}

fn push_id(id: MoveId, out: &mut Vec<u8>) {
    push(id.plan, out);
    push(id.step.into(), out);
}

fn list<T>(
    bytes: &mut Bytes,
    mut one: impl FnMut(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = number(bytes)?;
    if count > bytes.len() as u64 {
        return Err(DecodeError::new("a list of its length"));
    }
    (0..count).map(|_| one(bytes)).collect()
}

impl<A: Position> Wire for Message<A> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Give { id, slice, to } => {
                out.push(0);
                push_id(*id, out);
                push_wire(slice, out);
                push(to.0, out);
            }
            Message::Content { id, slice, rows } => {
                out.push(1);
                push_id(*id, out);
                push_wire(slice, out);
                push(rows.len() as u64, out);
                for (key, elements) in rows {
                    push_part(key, out);
                    push(elements.len() as u64, out);
                    elements.iter().for_each(|element| push(*element, out));
                }
            }
            Message::Took { id } => {
                out.push(2);
                push_id(*id, out);
            }
            Message::Activate { id, version } => {
                out.push(3);
                push_id(*id, out);
                push(*version, out);
            }
            Message::Active { id } => {
                out.push(4);
                push_id(*id, out);
            }
            Message::Release { id } => {
                out.push(5);
                push_id(*id, out);
            }
            Message::Released { id } => {
                out.push(6);
                push_id(*id, out);
            }
            Message::Map(map) => {
                out.push(7);
                push_wire(map, out);
            }
            Message::Known { version } => {
                out.push(8);
                push(*version, out);
            }
            Message::Reports(reports) => {
                out.push(9);
                push(reports.len() as u64, out);
                for report in reports {
                    report.low.encode(out);
                    push(report.bytes, out);
                    push(report.requests, out);
                    out.push(u8::from(report.split_at.is_some()));
                    if let Some(at) = &report.split_at {
                        at.encode(out);
                    }
                }
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Message<A>, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::new("a message"));
        }
        let kind = bytes.split_to(1)[0];
        let from = &mut bytes;
        let message = match kind {
            0 => {
                Message::Give { id: id(from)?, slice: Slice::decode(part(from)?)?, to: NodeId(number(from)?) }
            }
            1 => {
                let (id, slice) = (id(from)?, Slice::decode(part(from)?)?);
                let rows = list(from, |from| Ok((part(from)?.to_vec(), list(from, number)?)))?;
                Message::Content { id, slice, rows }
            }
            2 => Message::Took { id: id(from)? },
            3 => Message::Activate { id: id(from)?, version: number(from)? },
            4 => Message::Active { id: id(from)? },
            5 => Message::Release { id: id(from)? },
            6 => Message::Released { id: id(from)? },
            7 => Message::Map(Map::decode(part(from)?)?),
            8 => Message::Known { version: number(from)? },
            9 => Message::Reports(list(from, |from| {
                let (low, bytes, requests) = (A::decode(from)?, number(from)?, number(from)?);
                let has = !from.is_empty() && from.split_to(1)[0] == 1;
                let split_at = if has { Some(A::decode(from)?) } else { None };
                Ok(Report { low, bytes, requests, split_at })
            })?),
            _ => return Err(DecodeError::new("a kind of message")),
        };
        if bytes.is_empty() { Ok(message) } else { Err(DecodeError::new("the message's end")) }
    }
}
