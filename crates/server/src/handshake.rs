//! How two nodes find out that they belong to one cluster.
//!
//! ```text
//! dialler                                   acceptor
//!   hello  ──────────────────────────────▶
//!          ◀──────────────────────────────  hello, or refusal
//!   proof = HMAC(secret, "dialler" | both hellos) ─▶
//!          ◀── proof = HMAC(secret, "acceptor" | both hellos), or refusal
//! ```
//!
//! A hello has a fixed layout, and holds everything that both sides must agree on before anything else is said; a later version negotiates
//! TLS by a feature bit in it, and does the rest inside. Both nonces are in what is proven, so nothing can be replayed; the role is, so
//! nothing can be reflected. The dialler proves first: a stranger gets no proof out of anybody.
//!
//! ```text
//! frame: length u32, then content; all numbers little-endian. A hello's content:
//!  0 magic "KEYPACTP"        12 features  u64         45 incarnation u64
//!  8 lowest version   u16    20 cluster   16 bytes    53 kind u8: 0 control, 1 bulk
//! 10 highest version  u16    36 zero u8, node u64     54 zero, 3 bytes; nonce, 32 bytes
//! ```

use core::fmt;
use std::cell::RefCell;
use std::io;

use hmac::{Hmac, KeyInit, Mac};
use keypact_node::{Roster, Traffic};
use keypact_protocol::{Incarnation, NodeId};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: [u8; 8] = *b"KEYPACTP";
/// The peer protocol that this program speaks.
pub(crate) const VERSION: u16 = 1;
const HELLO_BYTES: usize = 89;
const PROOF_BYTES: usize = 32;
/// Length of a refusal: the reason's number.
const REFUSAL_BYTES: usize = 1;

/// What one side says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub(crate) versions: (u16, u16),
    pub(crate) features: u64,
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) traffic: Traffic,
    pub(crate) nonce: [u8; 32],
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.versions.0.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.versions.1.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.features.to_le_bytes());
        bytes[20..36].copy_from_slice(&self.cluster);
        bytes[37..45].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[45..53].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[53] = match self.traffic {
            Traffic::Control => 0,
            Traffic::Bulk => 1,
        };
        bytes[57..].copy_from_slice(&self.nonce);
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Hello> {
        if bytes[..8] != MAGIC {
            return None;
        }
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u64_at = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let traffic = match bytes[53] {
            0 => Traffic::Control,
            1 => Traffic::Bulk,
            _ => return None,
        };
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&bytes[20..36]);
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&bytes[57..]);
        Some(Hello {
            versions: (u16_at(8), u16_at(10)),
            features: u64_at(12),
            cluster,
            node: NodeId(u64_at(37)),
            incarnation: Incarnation(u64_at(45)),
            traffic,
            nonce,
        })
    }
}

/// Why a peer was cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cut {
    /// Not our protocol at all.
    NotAPeer,
    /// No version in common.
    Version,
    /// Another cluster.
    Cluster,
    /// Not among the members, or not the one that was dialled.
    Stranger,
    /// A life of its folder that is over, or not admitted.
    Incarnation,
    /// It does not know the secret.
    Secret,
    /// It took too long, or hung up.
    Silent,
    /// Too many handshakes are under way.
    Busy,
    /// A frame over the limit.
    FrameTooLong,
    /// A message that can't be decoded.
    BadMessage,
    /// The peer refused us; it says why in its own log.
    Refused,
}

impl Cut {
    pub(crate) const ALL: [Cut; 11] = [
        Cut::NotAPeer,
        Cut::Version,
        Cut::Cluster,
        Cut::Stranger,
        Cut::Incarnation,
        Cut::Secret,
        Cut::Silent,
        Cut::Busy,
        Cut::FrameTooLong,
        Cut::BadMessage,
        Cut::Refused,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cut::NotAPeer => "not-a-peer",
            Cut::Version => "version",
            Cut::Cluster => "cluster",
            Cut::Stranger => "stranger",
            Cut::Incarnation => "incarnation",
            Cut::Secret => "secret",
            Cut::Silent => "silent",
            Cut::Busy => "busy",
            Cut::FrameTooLong => "frame-too-long",
            Cut::BadMessage => "bad-message",
            Cut::Refused => "refused",
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::NotAPeer => "it does not speak the peer protocol",
            Cut::Version => "it speaks no version of the peer protocol that this node does",
            Cut::Cluster => "it belongs to another cluster",
            Cut::Stranger => "it is not the member that it should be",
            Cut::Incarnation => "that life of its folder is not a member",
            Cut::Secret => "it does not know the cluster's secret",
            Cut::Silent => "it did not finish the handshake in time",
            Cut::Busy => "too many handshakes are under way",
            Cut::FrameTooLong => "it sent a frame over the limit",
            Cut::BadMessage => "it sent a message that can't be decoded",
            Cut::Refused => "it refused this node; its own log says why",
        })
    }
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The connection broke.
    Io(io::Error),
    /// Cut off, for this reason.
    Cut(Cut),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Io(error)
    }
}

/// What a node must know of its cluster to shake hands.
pub(crate) struct Credentials {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) secret: [u8; 32],
    /// Who belongs to the cluster, as far as this node knows now.
    pub(crate) roster: RefCell<Roster>,
}

impl Credentials {
    fn hello(&self, traffic: Traffic, nonce: [u8; 32]) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            features: 0,
            cluster: self.cluster,
            node: self.node,
            incarnation: self.incarnation,
            traffic,
            nonce,
        }
    }

    /// Whether this hello is one of a member; `expected` if it was dialled.
    fn judge(&self, hello: &Hello, expected: Option<(NodeId, Traffic)>) -> Result<(), Cut> {
        if hello.versions.0 > VERSION || hello.versions.1 < VERSION {
            return Err(Cut::Version);
        }
        if hello.cluster != self.cluster {
            return Err(Cut::Cluster);
        }
        let roster = self.roster.borrow();
        if roster.is_gone(hello.node, hello.incarnation) {
            return Err(Cut::Incarnation);
        }
        let Some(member) = roster.node(hello.node) else { return Err(Cut::Stranger) };
        let is_expected =
            expected.is_none_or(|(node, traffic)| node == hello.node && traffic == hello.traffic);
        if hello.node == self.node || !is_expected {
            return Err(Cut::Stranger);
        }
        // A later life than is known comes to ask to be let in: a folder was lost. An earlier one is over. What each may say in its groups
        // they judge by themselves.
        if hello.incarnation.0 < member.incarnation {
            return Err(Cut::Incarnation);
        }
        Ok(())
    }

    /// Over the bytes as they were sent, so that both sides mean the same by all of them.
    fn mac(&self, role: &str, dialler: &[u8; HELLO_BYTES], acceptor: &[u8; HELLO_BYTES]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(role.as_bytes());
        mac.update(dialler);
        mac.update(acceptor);
        mac
    }
}

const DIALLER: &str = "keypact peer 1 dialler";
const ACCEPTOR: &str = "keypact peer 1 acceptor";

/// The dialling side.
pub(crate) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: &Credentials,
    expected: (NodeId, Traffic),
    nonce: [u8; 32],
) -> Result<(), Failed> {
    let mine = me.hello(expected.1, nonce).encode();
    write_frame(stream, &mine).await?;
    let (hello, theirs) = read_hello(stream).await?;
    me.judge(&hello, Some(expected)).map_err(Failed::Cut)?;
    let proof = me.mac(DIALLER, &mine, &theirs).finalize().into_bytes();
    write_frame(stream, &proof).await?;
    let proof = read_proof(stream).await?;
    me.mac(ACCEPTOR, &mine, &theirs).verify_slice(&proof).map_err(|_| Failed::Cut(Cut::Secret))
}

/// The accepting side; returns who it is and which connection.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: &Credentials,
    nonce: [u8; 32],
) -> Result<(NodeId, Traffic), Failed> {
    let (hello, theirs) = read_hello(stream).await?;
    if let Err(cut) = me.judge(&hello, None) {
        return refuse(stream, cut).await;
    }
    let mine = me.hello(hello.traffic, nonce).encode();
    write_frame(stream, &mine).await?;
    let proof = read_proof(stream).await?;
    if me.mac(DIALLER, &theirs, &mine).verify_slice(&proof).is_err() {
        return refuse(stream, Cut::Secret).await;
    }
    let proof = me.mac(ACCEPTOR, &theirs, &mine).finalize().into_bytes();
    write_frame(stream, &proof).await?;
    Ok((hello.node, hello.traffic))
}

/// Says no, without saying more than that there is a reason.
async fn refuse<S: AsyncWrite + Unpin, T>(stream: &mut S, cut: Cut) -> Result<T, Failed> {
    // It is cut off in any case; whether it hears so is its own affair.
    let _ = write_frame(stream, &[0; REFUSAL_BYTES]).await;
    Err(Failed::Cut(cut))
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).expect("handshake frames are short");
    let mut frame = Vec::with_capacity(4 + content.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(content);
    stream.write_all(&frame).await
}

async fn read_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Hello, [u8; HELLO_BYTES]), Failed> {
    let bytes: [u8; HELLO_BYTES] = read_frame(stream).await?;
    let hello = Hello::decode(&bytes).ok_or(Failed::Cut(Cut::NotAPeer))?;
    Ok((hello, bytes))
}

async fn read_proof<S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; PROOF_BYTES], Failed> {
    read_frame(stream).await
}

/// Reads a frame of exactly `N` bytes: nothing is allocated by what a stranger announces.
async fn read_frame<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> Result<[u8; N], Failed> {
    let length = stream.read_u32_le().await? as usize;
    if length == REFUSAL_BYTES {
        return Err(Failed::Cut(Cut::Refused));
    }
    if length != N {
        return Err(Failed::Cut(Cut::NotAPeer));
    }
    let mut content = [0; N];
    stream.read_exact(&mut content).await?;
    Ok(content)
}

#[cfg(test)]
mod tests;
