//! What a node on real sockets must be told.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, io};

use keypact_node::NodeConfig;
use keypact_protocol::NodeId;
use tokio::sync::Notify;

use crate::connection::CONNECTIONS_MAX;
use crate::{Identity, ServeError};

/// All that [`crate::run`] must be told.
#[derive(Debug)]
pub struct Settings {
    /// The node's folder, initialised by [`crate::init`].
    pub folder: PathBuf,
    /// Where to listen, if not where the folder's identity says.
    pub bind: Bind,
    /// What clients must say in `AUTH`; needed for addresses that other machines can reach.
    pub password: Option<String>,
    /// Times and sizes of the node. Id, incarnation, cluster, hash key and members are taken from the folder, whatever is here.
    pub node: NodeConfig,
    /// Bounds on what clients and peers may make this process hold, and sizes of its files.
    pub limits: Limits,
}

/// Where to listen; what is missing is as the members' list says.
#[derive(Debug, Default)]
pub struct Bind {
    /// For clients, `ip:port`.
    pub resp: Option<String>,
    /// For peers, `ip:port`.
    pub peer: Option<String>,
    /// For the admin HTTP, `ip:port`.
    pub http: Option<String>,
    /// Listeners that are bound already; they go before all else.
    pub listeners: Option<Listeners>,
}

/// The three listeners of a node.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub resp: TcpListener,
    /// For peers.
    pub peer: TcpListener,
    /// For the admin HTTP.
    pub http: TcpListener,
}

/// Bounds. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections.
    pub connections: usize,
    /// Commands of one connection under way; beyond that it is not read.
    pub in_flight: usize,
    /// Bytes of one connection's commands under way; beyond that it is not read. One command always goes.
    pub in_flight_bytes: usize,
    /// Bytes of all connections' commands under way; beyond that only those that have none under way are read.
    pub all_in_flight_bytes: usize,
    /// Unsent replies of a connection; beyond that it is not read.
    pub output_bytes: usize,
    /// Unsent replies of a connection; beyond that it is closed.
    pub output_bytes_max: usize,
    /// Unsent messages to one peer, control; beyond that they are dropped.
    pub control_bytes: usize,
    /// Unsent messages to one peer, bulk; beyond that they are dropped.
    pub bulk_bytes: usize,
    /// Largest message from a peer.
    pub frame_bytes: usize,
    /// How long a peer's handshake may take.
    pub handshake_ms: u64,
    /// Peers' handshakes under way.
    pub handshakes: usize,
    /// Checkpoints are written at this rate, bytes per second.
    pub checkpoint_bytes_per_second: u64,
    /// Length of a log segment.
    pub segment_bytes: u64,
    /// The log may be this long before the groups that need its oldest records are told.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            in_flight: 1_024,
            in_flight_bytes: 64 << 20,
            all_in_flight_bytes: 512 << 20,
            output_bytes: 1 << 20,
            output_bytes_max: 256 << 20,
            control_bytes: 4 << 20,
            bulk_bytes: 64 << 20,
            frame_bytes: 64 << 20,
            handshake_ms: 2_000,
            handshakes: 64,
            checkpoint_bytes_per_second: 64 << 20,
            segment_bytes: 64 << 20,
            log_bytes: 512 << 20,
        }
    }
}

impl Limits {
    /// Checks that they fit together and the node's settings.
    fn validate(&self, node: &NodeConfig) -> Result<(), ServeError> {
        let sector = keypact_storage::SECTOR_BYTES as u64;
        let checks = [
            (self.connections > 0, "connections must be at least 1"),
            (self.connections < CONNECTIONS_MAX, "connections must be under 65536"),
            (self.in_flight > 0, "in_flight must be at least 1"),
            (
                self.in_flight <= node.session_limit,
                "in_flight must be at most session_limit: the node refuses more",
            ),
            (self.output_bytes > 0, "output_bytes must be at least 1"),
            (self.output_bytes < self.output_bytes_max, "output_bytes must be under output_bytes_max"),
            (
                self.control_bytes > 0 && self.bulk_bytes > 0,
                "control_bytes and bulk_bytes must be at least 1",
            ),
            (
                self.frame_bytes >= node.value_limit_bytes + FRAME_EXTRA_BYTES
                    && self.frame_bytes <= u32::MAX as usize,
                "frame_bytes must be at least value_limit_bytes + 1 MiB, or large values can't be replicated, and under 4 GiB",
            ),
            (self.handshake_ms > 0 && self.handshakes > 0, "handshake_ms and handshakes must be at least 1"),
            (self.checkpoint_bytes_per_second > 0, "checkpoint_bytes_per_second must be at least 1"),
            (
                self.segment_bytes >= 4_096 && self.segment_bytes.is_multiple_of(sector),
                "segment_bytes must be a multiple of 512, at least 4096",
            ),
            (self.log_bytes >= 2 * self.segment_bytes, "log_bytes must be at least two segments"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(ServeError::Limits { what }),
            None => Ok(()),
        }
    }
}

/// What a frame to a peer may hold beside one value, bytes.
const FRAME_EXTRA_BYTES: usize = 1 << 20;

impl Settings {
    /// The default settings for the node in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Settings {
        Settings {
            folder: folder.into(),
            bind: Bind::default(),
            password: None,
            node: NodeConfig::new(NodeId(0), Vec::new()),
            limits: Limits::default(),
        }
    }

    /// The node's settings with what the folder knows.
    pub(crate) fn node_config(&self, identity: &Identity) -> Result<NodeConfig, ServeError> {
        let mut config = self.node.clone();
        config.id = NodeId(identity.node);
        config.incarnation = keypact_protocol::Incarnation(identity.incarnation);
        config.cluster = identity.cluster.clone();
        config.hash_key = identity.hash_key;
        config.members = identity.members.clone();
        config.founder = !identity.joins;
        config.validate()?;
        self.limits.validate(&config)?;
        Ok(config)
    }

    /// Binds what is not bound yet, after the loopback rule was checked for all three.
    pub(crate) fn listen(&mut self, identity: &Identity) -> Result<Listeners, ServeError> {
        let me = identity.me();
        let listeners = match self.bind.listeners.take() {
            Some(listeners) => listeners,
            None => {
                let resp = address(self.bind.resp.as_ref().unwrap_or(&me.resp), RESP)?;
                let peer = address(self.bind.peer.as_ref().unwrap_or(&me.peer), PEER)?;
                let http = address(self.bind.http.as_ref().unwrap_or(&me.http), HTTP)?;
                for (address, use_for) in [(resp, RESP), (peer, PEER), (http, HTTP)] {
                    self.refuse_exposed(address, use_for, identity)?;
                }
                Listeners { resp: bind(resp, RESP)?, peer: bind(peer, PEER)?, http: bind(http, HTTP)? }
            }
        };
        for (listener, use_for) in [(&listeners.resp, RESP), (&listeners.peer, PEER), (&listeners.http, HTTP)]
        {
            let system = |source| ServeError::System { operation: "prepare a listening socket", source };
            listener.set_nonblocking(true).map_err(system)?;
            self.refuse_exposed(listener.local_addr().map_err(system)?, use_for, identity)?;
        }
        Ok(listeners)
    }

    fn refuse_exposed(
        &self,
        address: SocketAddr,
        use_for: &'static str,
        identity: &Identity,
    ) -> Result<(), ServeError> {
        if address.ip().is_loopback() {
            return Ok(());
        }
        let missing = if self.password.as_deref().unwrap_or_default().is_empty() {
            "there is no password"
        } else if identity.secret == [0; 32] {
            "the cluster has no secret"
        } else {
            return Ok(());
        };
        Err(ServeError::Exposed { address: address.to_string(), use_for, missing })
    }
}

const RESP: &str = "clients";
const PEER: &str = "peers";
const HTTP: &str = "admin HTTP";

fn address(text: &str, use_for: &'static str) -> Result<SocketAddr, ServeError> {
    let wrong = |source| ServeError::Address { address: text.to_owned(), use_for, source };
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    text.to_socket_addrs().map_err(wrong)?.next().ok_or_else(|| wrong(nothing()))
}

fn bind(address: SocketAddr, use_for: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::Bind {
        address: address.to_string(),
        use_for,
        source,
    })
}

/// Asks a running node to stop, from any thread.
#[derive(Clone, Default)]
pub struct Shutdown {
    shared: Arc<(AtomicBool, Notify)>,
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shutdown({})", self.shared.0.load(Ordering::Acquire))
    }
}

impl Shutdown {
    /// A new one; nothing is asked yet.
    #[must_use]
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// The node shall write out what is under way on its disk, close its connections and return.
    pub fn stop(&self) {
        self.shared.0.store(true, Ordering::Release);
        self.shared.1.notify_waiters();
    }

    /// Waits until it is asked.
    pub(crate) async fn asked(&self) {
        loop {
            let notified = self.shared.1.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.shared.0.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}
