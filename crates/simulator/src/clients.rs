//! The clients of a world: one value plays them all.

use keypact_protocol::NodeId;

use crate::{ClientId, Process, Random, Violation};

/// All clients of one world. Requests and replies travel with delays and may be lost; nothing is told when they are.
pub trait Clients<P: Process> {
    /// How many there are; client ids are below this.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The world begins, with these nodes. Set the first wake-ups.
    fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut ClientEffects<P>);

    /// A wake-up that was set is due. Wake-ups are not replaced and not cancelled: late ones must be told by their `token`.
    fn wake(
        &mut self,
        now_ns: u64,
        client: ClientId,
        token: u64,
        random: &mut Random,
        out: &mut ClientEffects<P>,
    );

    /// An answer has come.
    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        from: NodeId,
        reply: P::Reply,
        random: &mut Random,
        out: &mut ClientEffects<P>,
    );

    /// Nobody was there to take a request: it certainly has no effect.
    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        by: NodeId,
        request: P::Request,
        random: &mut Random,
        out: &mut ClientEffects<P>,
    );

    /// Faults are over: from now on every client must be served. Each makes at least one new write.
    fn liveness_begins(&mut self, now_ns: u64, random: &mut Random, out: &mut ClientEffects<P>);

    /// Whether every client has been served since faults were over, and asks for nothing more.
    fn satisfied(&self) -> bool;

    /// For whom is still waited, for a person to read.
    fn waiting_for(&self) -> String;

    /// Operations by outcome.
    fn tally(&self) -> Tally;

    /// Judges the end: `processes` are the live ones, converged. Checks at least that every acknowledged write is there.
    ///
    /// # Errors
    /// The property that does not hold.
    fn judge(&self, processes: &[&P]) -> Result<(), Violation>;
}

/// Operations by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Acknowledged.
    pub ok: u64,
    /// Told that it was not applied.
    pub failed: u64,
    /// Not known.
    pub unknown: u64,
}

impl Tally {
    /// All operations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }
}

/// What clients want done.
#[derive(Debug)]
pub struct ClientEffects<P: Process> {
    pub(crate) requests: Vec<(ClientId, NodeId, P::Request)>,
    pub(crate) wakes: Vec<(u64, ClientId, u64)>,
}

impl<P: Process> Default for ClientEffects<P> {
    fn default() -> Self {
        ClientEffects { requests: Vec::new(), wakes: Vec::new() }
    }
}

impl<P: Process> ClientEffects<P> {
    /// Sends a request to a node.
    pub fn request(&mut self, client: ClientId, to: NodeId, request: P::Request) {
        self.requests.push((client, to, request));
    }

    /// Wakes the client at a true time.
    pub fn wake_at(&mut self, at_ns: u64, client: ClientId, token: u64) {
        self.wakes.push((at_ns, client, token));
    }
}
