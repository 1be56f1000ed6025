//! Tasks of the connections between nodes: dial, accept, read.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use keypact_node::{NodeInput, Traffic};
use keypact_protocol::NodeId;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::batch::Core;
use crate::handshake::{self, Credentials, Cut, Failed};
use crate::link::{LinkId, next_message};
use crate::node_thread::Engine;
use crate::random;

/// Between attempts to reach a peer, milliseconds: base, doubled up to the most.
const BACKOFF_BASE_MS: u64 = 20;
const BACKOFF_MAX_MS: u64 = 1_000;
/// What was sent and not acknowledged for so long breaks a connection, milliseconds.
const USER_TIMEOUT_MS: u32 = 5_000;
/// A peer's read buffer grows by this much, bytes.
const READ_BYTES: usize = 64 << 10;
/// Less room than this is not worth a read, bytes.
const READ_BYTES_MIN: usize = 8 << 10;
/// After an error of `accept` it is not called again for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `min(max, base * 2^attempt)`, of which a random half is taken off, so that nodes don't dial in step.
fn backoff(attempt: u32, random: u64) -> Duration {
    let most = BACKOFF_BASE_MS.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX_MS);
    Duration::from_millis(most / 2 + random % (most / 2 + 1))
}

impl Engine {
    /// Starts what keeps this node connected to all others.
    pub(crate) fn start_links(self: &Rc<Self>, credentials: &Rc<Credentials>, listener: TcpListener) {
        self.spawn("peers", self.clone().accept_peers(credentials.clone(), listener));
        self.follow_roster(credentials);
    }

    /// Who belongs to the cluster has changed: others are let in, and others dialled. Of two nodes the one with the lower id dials.
    pub(crate) fn follow_roster(self: &Rc<Self>, credentials: &Rc<Credentials>) {
        let mut core = self.core.borrow_mut();
        credentials.roster.replace(core.node.roster().clone());
        core.world.roster_is_new = false;
        let Core { node, world, .. } = &mut *core;
        world.links.follow(node.roster().nodes());
        let to_dial =
            world.links.peers.iter_mut().filter(|peer| peer.id > credentials.node && !peer.is_dialled);
        let to_dial: Vec<(NodeId, u64)> = to_dial
            .map(|peer| {
                peer.is_dialled = true;
                (peer.id, peer.number)
            })
            .collect();
        drop(core);
        for (peer, number) in to_dial {
            for traffic in [Traffic::Control, Traffic::Bulk] {
                let task = self.clone().keep_dialled(credentials.clone(), peer, number, traffic);
                self.spawn("dialler", task);
            }
        }
    }

    async fn keep_dialled(self: Rc<Self>, me: Rc<Credentials>, peer: NodeId, number: u64, traffic: Traffic) {
        let mut attempt = 0;
        loop {
            // None once it does not belong to the cluster any more.
            let Some(address) = self.address(&me, peer, number) else { return };
            match self.dial(&me, peer, &address, traffic).await {
                Ok((id, read)) => {
                    attempt = 0;
                    self.clone().read_link(id, read).await;
                }
                Err(Failed::Cut(cut)) => self.core.borrow_mut().world.links.cut(&address, cut),
                Err(Failed::Io(error)) => tracing::debug!(%peer, address, %error, "can't be reached"),
            }
            tokio::time::sleep(backoff(attempt, random::number())).await;
            attempt += 1;
        }
    }

    /// Where to dial a peer; `None`, and its entry goes with its last connection, if it was removed.
    fn address(&self, me: &Credentials, peer: NodeId, number: u64) -> Option<String> {
        let core = &mut *self.core.borrow_mut();
        if me.roster.borrow().node(peer).is_none() {
            core.world.links.follow(core.node.roster().nodes());
        }
        core.world.links.address(peer, number)
    }

    async fn dial(
        &self,
        me: &Credentials,
        peer: NodeId,
        address: &str,
        traffic: Traffic,
    ) -> Result<(LinkId, OwnedReadHalf), Failed> {
        let limit = self.handshake_limit();
        let attempt = async {
            let mut stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            handshake::dial(&mut stream, me, (peer, traffic), random::bytes()).await?;
            Ok::<TcpStream, Failed>(stream)
        };
        let stream = timeout(limit, attempt).await.map_err(|_| Failed::Cut(Cut::Silent))??;
        self.connect(peer, traffic, stream)
    }

    fn handshake_limit(&self) -> Duration {
        Duration::from_millis(self.core.borrow().limits.handshake_ms)
    }

    fn connect(
        &self,
        peer: NodeId,
        traffic: Traffic,
        stream: TcpStream,
    ) -> Result<(LinkId, OwnedReadHalf), Failed> {
        let (read, write) = stream.into_split();
        let mut core = self.core.borrow_mut();
        let id = core.world.links.connect(peer, traffic, write).ok_or(Failed::Cut(Cut::Stranger))?;
        if core.world.links.is_alone(id) {
            tracing::info!(%peer, "connected");
        }
        core.inbox.push(NodeInput::Reachable(peer));
        drop(core);
        self.touch();
        Ok((id, read))
    }

    async fn accept_peers(self: Rc<Self>, me: Rc<Credentials>, listener: TcpListener) {
        let under_way = Rc::new(Cell::new(0));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a peer could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if under_way.get() >= self.core.borrow().limits.handshakes {
                self.core.borrow_mut().world.links.cut(&address.to_string(), Cut::Busy);
                continue;
            }
            under_way.set(under_way.get() + 1);
            let (engine, me, under_way) = (self.clone(), me.clone(), under_way.clone());
            self.spawn("handshake", async move {
                let result = engine.shake_hands(&me, stream).await;
                under_way.set(under_way.get() - 1);
                match result {
                    Ok((id, read)) => {
                        // A task of its own, by which the link's next life can end it.
                        let task = engine.spawn("link", engine.clone().read_link(id, read));
                        engine.core.borrow_mut().world.links.set_reader(id, task);
                    }
                    Err(Failed::Cut(cut)) => {
                        engine.core.borrow_mut().world.links.cut(&address.to_string(), cut)
                    }
                    Err(Failed::Io(_)) => {
                        engine.core.borrow_mut().world.links.cut(&address.to_string(), Cut::Silent);
                    }
                }
            });
        }
    }

    async fn shake_hands(
        &self,
        me: &Credentials,
        mut stream: TcpStream,
    ) -> Result<(LinkId, OwnedReadHalf), Failed> {
        prepare(&stream)?;
        let greeting = handshake::accept(&mut stream, me, random::bytes());
        let (peer, traffic) =
            timeout(self.handshake_limit(), greeting).await.map_err(|_| Failed::Cut(Cut::Silent))??;
        self.connect(peer, traffic, stream)
    }

    /// Reads messages until the connection breaks.
    async fn read_link(self: Rc<Self>, id: LinkId, mut read: OwnedReadHalf) {
        let frame_bytes = self.core.borrow().limits.frame_bytes;
        let mut input = BytesMut::new();
        loop {
            if input.capacity() - input.len() < READ_BYTES_MIN {
                input.reserve(READ_BYTES);
            }
            match read.read_buf(&mut input).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let taken = self.core.borrow_mut().take_messages(id, &mut input, frame_bytes);
            self.touch();
            if let Err(cut) = taken {
                self.core.borrow_mut().world.links.cut(&id.peer.to_string(), cut);
                break;
            }
        }
        self.core.borrow_mut().disconnect(id);
        self.touch();
    }
}

impl Core {
    /// Puts all whole messages of what was received into the inbox.
    fn take_messages(&mut self, id: LinkId, input: &mut BytesMut, frame_bytes: usize) -> Result<(), Cut> {
        while let Some((message, bytes)) = next_message(input, frame_bytes)? {
            self.world.links.figures.messages_in += 1;
            self.world.links.figures.bytes_in += bytes as u64;
            self.inbox.push(NodeInput::Peer { from: id.peer, message });
        }
        Ok(())
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A machine that vanished acknowledges nothing; without this its connections would look alive for many minutes.
    set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_bounded() {
        for random in [0, 1, 499, u64::MAX] {
            for attempt in 0..100 {
                let wait = backoff(attempt, random);
                assert!(wait >= Duration::from_millis(BACKOFF_BASE_MS / 2));
                assert!(wait <= Duration::from_millis(BACKOFF_MAX_MS));
            }
        }
        assert!(backoff(9, 0) > backoff(0, 0));
    }
}
