//! What nodes say to each other.
//!
//! ```text
//! kind u8 | ...
//!  0 group       group u64, then the Raft message
//!  1 heartbeats  wall clock u64, then one line per group, so 1,000 idle groups cost one message
//!  2 forward     postcard head, then the command
//!  3 reply       postcard head, then the value
//!  4 members     postcard: what is known of the members, and who asks to be one
//! ```

use bytes::{Buf, Bytes, BytesMut};
use keypact_coordination::raft;
use keypact_data::Command;
use keypact_protocol::{DecodeError, GroupId, NodeId, Wire};
use keypact_resp::Value;
use serde::{Deserialize, Serialize};

use crate::{Member, Roster, value};

/// A message between nodes.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// From one replica to another.
    Group {
        /// The group.
        group: GroupId,
        /// What its protocol says.
        message: raft::Message,
    },
    /// Several groups' heartbeats, votes, or answers to them, in one message.
    Heartbeats {
        /// The sender's wall clock, Unix milliseconds, when it sent this.
        wall_ms: u64,
        /// One line per group.
        lines: Vec<(GroupId, raft::Message)>,
    },
    /// A command for the node that leads.
    Forward(Forward),
    /// What became of it.
    ForwardReply(ForwardReply),
    /// What the sender knows of who belongs to the cluster.
    Members {
        /// All of it. The receiver answers with its own if that holds more.
        roster: Roster,
        /// The sender, if it asks to belong.
        joins: Option<Member>,
    },
}

/// A client's command on its way to the leader: one place in a numbered stream.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Drawn anew in every life of the node that forwards, so that its connections are never taken for those of an earlier life.
    pub life: u64,
    /// Which stream: the connection, at the node that accepted it.
    pub session: u64,
    /// The term in which the sender knows the receiver to lead. In another term the command is refused, so that a copy which the network kept
    /// back is not carried out by a leader that has forgotten the first.
    pub term: u64,
    /// A new one after each redirect; commands of an older one are refused.
    pub generation: u64,
    /// The place in the generation, counted from 0 without gaps.
    pub place: u64,
    /// The command.
    pub command: Command,
}

/// What became of a forwarded command.
#[derive(Clone, Debug)]
pub struct ForwardReply {
    /// As in [`Forward`].
    pub life: u64,
    /// As in [`Forward`].
    pub session: u64,
    /// As in [`Forward`].
    pub generation: u64,
    /// As in [`Forward`].
    pub place: u64,
    /// The answer.
    pub resolution: Resolution,
}

/// How a forwarded command ended.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Answered: applied, or an error that the command itself earned.
    Value(Value),
    /// Not applied, and nor will be anything that follows it in its generation: resume from here at `leader`.
    Redirect {
        /// Whom to ask, if known.
        leader: Option<NodeId>,
    },
    /// As `Redirect`, because this node has forgotten the stream: resume here, as a new generation.
    Forgotten,
    /// Not applied: too much is under way.
    Overloaded,
    /// It entered a log; what becomes of it is not known.
    Uncertain,
}

#[derive(Serialize, Deserialize)]
struct ForwardHead {
    life: u64,
    session: u64,
    term: u64,
    generation: u64,
    place: u64,
}

#[derive(Serialize, Deserialize)]
struct ReplyHead {
    life: u64,
    session: u64,
    generation: u64,
    place: u64,
}

#[derive(Serialize, Deserialize)]
enum ResolutionHead {
    Value,
    Redirect(Option<u64>),
    Overloaded,
    Uncertain,
    Forgotten,
}

const GROUP: u8 = 0;
const HEARTBEATS: u8 = 1;
const FORWARD: u8 = 2;
const REPLY: u8 = 3;
const MEMBERS: u8 = 4;

/// What is said of the members, at most, bytes.
const MEMBERS_BYTES_MAX: usize = 64 * 1024;

/// Groups in one heartbeat message, at most.
pub(crate) const HEARTBEATS_LIMIT: usize = 4_096;

impl Wire for PeerMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            PeerMessage::Group { group, message } => {
                out.push(GROUP);
                out.extend_from_slice(&group.0.to_le_bytes());
                message.encode(out);
            }
            PeerMessage::Heartbeats { wall_ms, lines } => encode_heartbeats(*wall_ms, lines, out),
            PeerMessage::Forward(forward) => encode_forward(forward, out),
            PeerMessage::ForwardReply(reply) => encode_reply(reply, out),
            PeerMessage::Members { roster, joins } => {
                out.push(MEMBERS);
                encode_head(&(roster, joins), out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<PeerMessage, DecodeError> {
        let Some(&kind) = bytes.first() else { return Err(DecodeError::new("a peer message")) };
        bytes.advance(1);
        match kind {
            GROUP => {
                let group = GroupId(take_u64(&mut bytes)?);
                Ok(PeerMessage::Group { group, message: raft::Message::decode(bytes)? })
            }
            HEARTBEATS => decode_heartbeats(bytes),
            FORWARD => decode_forward(bytes),
            REPLY => decode_reply(bytes),
            MEMBERS => decode_members(&bytes),
            _ => Err(DecodeError::new("a known kind of peer message")),
        }
    }
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    bytes.try_get_u64_le().map_err(|_| DecodeError::new("a number"))
}

fn take_u32(bytes: &mut Bytes) -> Result<u32, DecodeError> {
    bytes.try_get_u32_le().map_err(|_| DecodeError::new("a number"))
}

fn encode_heartbeats(wall_ms: u64, lines: &[(GroupId, raft::Message)], out: &mut Vec<u8>) {
    assert!(lines.len() <= HEARTBEATS_LIMIT, "the sender splits longer lists");
    out.push(HEARTBEATS);
    out.extend_from_slice(&wall_ms.to_le_bytes());
    for (group, message) in lines {
        out.extend_from_slice(&group.0.to_le_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        message.encode(out);
        let length = u32::try_from(out.len() - length_at - 4).expect("heartbeats are small");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn decode_heartbeats(mut bytes: Bytes) -> Result<PeerMessage, DecodeError> {
    let wall_ms = take_u64(&mut bytes)?;
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        if lines.len() == HEARTBEATS_LIMIT {
            return Err(DecodeError::new("fewer heartbeats in a message"));
        }
        let group = GroupId(take_u64(&mut bytes)?);
        let length = take_u32(&mut bytes)? as usize;
        if bytes.len() < length {
            return Err(DecodeError::new("a whole heartbeat"));
        }
        lines.push((group, raft::Message::decode(bytes.split_to(length))?));
    }
    Ok(PeerMessage::Heartbeats { wall_ms, lines })
}

fn encode_forward(forward: &Forward, out: &mut Vec<u8>) {
    out.push(FORWARD);
    let Forward { life, session, term, generation, place, .. } = *forward;
    let head = ForwardHead { life, session, term, generation, place };
    encode_head(&head, out);
    let mut command = BytesMut::with_capacity(forward.command.encoded_len());
    forward.command.encode(&mut command);
    out.extend_from_slice(&command);
}

fn decode_forward(mut bytes: Bytes) -> Result<PeerMessage, DecodeError> {
    let head: ForwardHead = take_head(&mut bytes)?;
    let command = Command::decode(bytes).map_err(|_| DecodeError::new("a forwarded command"))?;
    if command.spec().place() != keypact_data::Place::Partition {
        return Err(DecodeError::new("a command that a partition carries out"));
    }
    let ForwardHead { life, session, term, generation, place } = head;
    Ok(PeerMessage::Forward(Forward { life, session, term, generation, place, command }))
}

fn encode_reply(reply: &ForwardReply, out: &mut Vec<u8>) {
    out.push(REPLY);
    let ForwardReply { life, session, generation, place, .. } = *reply;
    let head = ReplyHead { life, session, generation, place };
    encode_head(&head, out);
    let resolution = match &reply.resolution {
        Resolution::Value(_) => ResolutionHead::Value,
        Resolution::Redirect { leader } => ResolutionHead::Redirect(leader.map(|id| id.0)),
        Resolution::Forgotten => ResolutionHead::Forgotten,
        Resolution::Overloaded => ResolutionHead::Overloaded,
        Resolution::Uncertain => ResolutionHead::Uncertain,
    };
    encode_head(&resolution, out);
    if let Resolution::Value(value) = &reply.resolution {
        value::encode(value, out);
    }
}

fn decode_reply(mut bytes: Bytes) -> Result<PeerMessage, DecodeError> {
    let ReplyHead { life, session, generation, place } = take_head(&mut bytes)?;
    let resolution = match take_head(&mut bytes)? {
        ResolutionHead::Value => Resolution::Value(value::decode(bytes)?),
        ResolutionHead::Redirect(leader) => Resolution::Redirect { leader: leader.map(NodeId) },
        ResolutionHead::Forgotten => Resolution::Forgotten,
        ResolutionHead::Overloaded => Resolution::Overloaded,
        ResolutionHead::Uncertain => Resolution::Uncertain,
    };
    Ok(PeerMessage::ForwardReply(ForwardReply { life, session, generation, place, resolution }))
}

fn decode_members(bytes: &Bytes) -> Result<PeerMessage, DecodeError> {
    let error = DecodeError::new("what a peer knows of the members");
    if bytes.len() > MEMBERS_BYTES_MAX {
        return Err(error);
    }
    let (roster, joins): (Roster, Option<Member>) = postcard::from_bytes(bytes).map_err(|_| error)?;
    if roster.is_sound() { Ok(PeerMessage::Members { roster, joins }) } else { Err(error) }
}

fn encode_head<T: Serialize>(head: &T, out: &mut Vec<u8>) {
    let taken = core::mem::take(out);
    *out = postcard::to_extend(head, taken).expect("a vector takes any length");
}

fn take_head<T: for<'de> Deserialize<'de>>(bytes: &mut Bytes) -> Result<T, DecodeError> {
    let (head, rest) =
        postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::new("a peer message's head"))?;
    let used = bytes.len() - rest.len();
    bytes.advance(used);
    Ok(head)
}
