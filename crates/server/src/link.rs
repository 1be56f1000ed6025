//! Connections between nodes: two per pair, control and bulk, so that a vote does not stand in line behind a snapshot.
//!
//! The node with the lower id dials; a pair then shares one connection per kind for both directions, whose acknowledgements ride on the
//! data that flows back, and there are never two that must be told apart. If a second one comes for the same pair and kind, the dialler
//! has given the first one up, and the second takes its place.
//!
//! After the handshake: `length u32` little-endian, then a [`PeerMessage`], and so on. Messages that don't fit into a peer's bounded
//! queue, or have no connection, are dropped and counted: the protocols live with loss.

use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use keypact_node::{Member, PeerMessage, Traffic};
use keypact_protocol::{NodeId, Wire};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::AbortHandle;

use crate::handshake::Cut;
use crate::settings::Limits;

/// Output buffers up to this size are kept.
const KEPT_OUTPUT_BYTES: usize = 256 << 10;
/// Bytes of a frame's length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// What went over all links.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkFigures {
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    /// Messages dropped because there was no connection.
    pub(crate) dropped_unconnected: u64,
    /// Messages dropped because the queue was full.
    pub(crate) dropped_full: u64,
    /// Messages dropped because they are longer than the peer would take.
    pub(crate) dropped_long: u64,
    pub(crate) connects: u64,
    pub(crate) disconnects: u64,
    /// By [`Cut::ALL`].
    pub(crate) cuts: [u64; Cut::ALL.len()],
}

/// One connection, or its absence.
#[derive(Debug, Default)]
struct Link {
    write: Option<Rc<OwnedWriteHalf>>,
    reader: Option<AbortHandle>,
    /// The task that waits while the socket is full.
    waiter: Option<AbortHandle>,
    /// Which connection this is, counted over all links.
    number: u64,
    out: Vec<u8>,
    /// So many bytes of `out` are written.
    written: usize,
    is_stuck: bool,
}

/// One other member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    /// Which entry of this node it is: a node may go and come again.
    pub(crate) number: u64,
    /// Whether tasks dial it.
    pub(crate) is_dialled: bool,
    links: [Link; 2],
    is_touched: bool,
}

/// All peers' connections.
#[derive(Debug)]
pub(crate) struct Links {
    me: NodeId,
    pub(crate) peers: Vec<Peer>,
    next_number: u64,
    frame_bytes: usize,
    queue_bytes: [usize; 2],
    pub(crate) figures: LinkFigures,
}

/// A connection's name: whose, which, and which life of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LinkId {
    pub(crate) peer: NodeId,
    pub(crate) traffic: Traffic,
    pub(crate) number: u64,
}

fn place(traffic: Traffic) -> usize {
    match traffic {
        Traffic::Control => 0,
        Traffic::Bulk => 1,
    }
}

impl Links {
    pub(crate) fn new(me: NodeId, members: &[Member], limits: &Limits) -> Links {
        let mut links = Links {
            me,
            peers: Vec::new(),
            next_number: 0,
            frame_bytes: limits.frame_bytes,
            queue_bytes: [limits.control_bytes, limits.bulk_bytes],
            figures: LinkFigures::default(),
        };
        links.follow(members);
        links
    }

    /// Takes over who the peers are, and where. Who is none any more is kept as long as it is connected, to be told why.
    pub(crate) fn follow(&mut self, members: &[Member]) {
        self.peers.retain(|peer| peer.is_connected() || members.iter().any(|member| member.id == peer.id.0));
        for member in members.iter().filter(|member| member.id != self.me.0) {
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id.0 == member.id) {
                peer.address.clone_from(&member.peer);
                continue;
            }
            self.next_number += 1;
            self.peers.push(Peer {
                id: NodeId(member.id),
                address: member.peer.clone(),
                number: self.next_number,
                is_dialled: false,
                links: [Link::default(), Link::default()],
                is_touched: false,
            });
        }
        assert!(self.peers.iter().all(|peer| peer.id != self.me), "a node is not its own peer");
    }

    /// Where a peer is to be dialled, as long as it is the one of this number.
    pub(crate) fn address(&self, peer: NodeId, number: u64) -> Option<String> {
        let peer = self.peers.iter().find(|other| other.id == peer && other.number == number);
        peer.map(|peer| peer.address.clone())
    }

    fn peer(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        let link = &mut self.peer(id.peer)?.links[place(id.traffic)];
        (link.number == id.number && link.write.is_some()).then_some(link)
    }

    /// Takes a new connection, which replaces an earlier one. `reader` is its reading task.
    pub(crate) fn connect(
        &mut self,
        peer: NodeId,
        traffic: Traffic,
        write: OwnedWriteHalf,
    ) -> Option<LinkId> {
        self.next_number += 1;
        let number = self.next_number;
        let link = &mut self.peer(peer)?.links[place(traffic)];
        link.abort_tasks();
        *link = Link { write: Some(Rc::new(write)), number, ..Link::default() };
        self.figures.connects += 1;
        Some(LinkId { peer, traffic, number })
    }

    pub(crate) fn set_reader(&mut self, id: LinkId, reader: AbortHandle) {
        if let Some(link) = self.link(id) {
            link.reader = Some(reader);
        }
    }

    pub(crate) fn set_waiter(&mut self, id: LinkId, waiter: AbortHandle) {
        if let Some(link) = self.link(id) {
            link.waiter = Some(waiter);
        }
    }

    /// Forgets a connection that broke. Returns whether it was the peer's last.
    pub(crate) fn disconnect(&mut self, id: LinkId) -> bool {
        let Some(link) = self.link(id) else { return false };
        link.abort_tasks();
        *link = Link::default();
        self.figures.disconnects += 1;
        let peer = self.peer(id.peer).expect("its link was just there");
        !peer.is_connected()
    }

    /// Whether the peer has no other connection than this.
    pub(crate) fn is_alone(&mut self, id: LinkId) -> bool {
        let connected = |peer: &mut Peer| peer.links.iter().filter(|link| link.write.is_some()).count();
        self.peer(id.peer).map_or(0, connected) <= 1
    }

    /// Queues a message, encoded straight into the connection's output.
    pub(crate) fn send(&mut self, to: NodeId, traffic: Traffic, message: &PeerMessage) {
        let (queue_bytes, frame_bytes) = (self.queue_bytes[place(traffic)], self.frame_bytes);
        let figures = &mut self.figures;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == to) else {
            figures.dropped_unconnected += 1;
            return;
        };
        let link = &mut peer.links[place(traffic)];
        if link.write.is_none() {
            figures.dropped_unconnected += 1;
            return;
        }
        if link.out.len() - link.written >= queue_bytes {
            figures.dropped_full += 1;
            return;
        }
        let at = link.out.len();
        link.out.extend_from_slice(&[0; LENGTH_BYTES]);
        message.encode(&mut link.out);
        let length = link.out.len() - at - LENGTH_BYTES;
        let Some(length) = u32::try_from(length).ok().filter(|_| length <= frame_bytes) else {
            link.out.truncate(at);
            figures.dropped_long += 1;
            tracing::warn!(%to, bytes = length, "a message is longer than a frame may be, and was dropped");
            return;
        };
        link.out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        peer.is_touched = true;
        figures.messages_out += 1;
        figures.bytes_out += u64::from(length) + LENGTH_BYTES as u64;
    }

    /// Writes out what was queued. `stuck` gets connections whose socket is full, `broken` those that are at their end.
    pub(crate) fn write_out(
        &mut self,
        stuck: &mut Vec<(LinkId, Rc<OwnedWriteHalf>)>,
        broken: &mut Vec<LinkId>,
    ) {
        for peer in self.peers.iter_mut().filter(|peer| peer.is_touched) {
            peer.is_touched = false;
            for traffic in [Traffic::Control, Traffic::Bulk] {
                let link = &mut peer.links[place(traffic)];
                let id = LinkId { peer: peer.id, traffic, number: link.number };
                match link.write_some() {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        link.is_stuck = true;
                        stuck.push((id, link.write.clone().expect("it was just written to")));
                    }
                    Err(_) => broken.push(id),
                }
            }
        }
    }

    /// The socket takes more again.
    pub(crate) fn unstick(&mut self, id: LinkId) {
        if let Some(link) = self.link(id) {
            link.is_stuck = false;
        }
        if let Some(peer) = self.peer(id.peer) {
            peer.is_touched = true;
        }
    }

    /// Counts a peer that was cut off, and says so in the log, though not more than ten times in a row for one reason.
    pub(crate) fn cut(&mut self, who: &str, cut: Cut) {
        let place = Cut::ALL.iter().position(|c| *c == cut).expect("ALL has all");
        self.figures.cuts[place] += 1;
        let count = self.figures.cuts[place];
        if count <= 10 || count.is_power_of_two() {
            tracing::warn!(peer = who, reason = cut.name(), count, "cut off: {cut}");
        }
    }
}

impl Peer {
    fn is_connected(&self) -> bool {
        self.links.iter().any(|link| link.write.is_some())
    }
}

impl Link {
    fn abort_tasks(&self) {
        [&self.reader, &self.waiter].into_iter().flatten().for_each(AbortHandle::abort);
    }

    fn write_some(&mut self) -> io::Result<()> {
        let Some(write) = &self.write else { return Ok(()) };
        if self.is_stuck {
            return Ok(());
        }
        while self.written < self.out.len() {
            match write.try_write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.forget_written();
                    return Err(error);
                }
            }
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > KEPT_OUTPUT_BYTES {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Gives memory of what is written back once it is the larger part, so that each byte is moved a bounded number of times.
    fn forget_written(&mut self) {
        if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }
}

/// Takes the next frame off the front of what was received.
///
/// # Errors
/// [`Cut`] if it is over the limit or no message of ours.
pub(crate) fn next_message(
    input: &mut BytesMut,
    frame_bytes: usize,
) -> Result<Option<(PeerMessage, usize)>, Cut> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > frame_bytes {
        return Err(Cut::FrameTooLong);
    }
    let whole = LENGTH_BYTES + length;
    if input.len() < whole {
        // Room for the rest, at most as much as has arrived: who announces much and sends nothing gets nothing.
        let missing = whole - input.len();
        input.reserve(missing.min(input.len()));
        return Ok(None);
    }
    let mut frame: Bytes = input.split_to(whole).freeze();
    let message = frame.split_off(LENGTH_BYTES);
    match PeerMessage::decode(message) {
        Ok(message) => Ok(Some((message, whole))),
        Err(error) => {
            tracing::warn!(%error, "a peer's message");
            Err(Cut::BadMessage)
        }
    }
}

#[cfg(test)]
mod tests;
