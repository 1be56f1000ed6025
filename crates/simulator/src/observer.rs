//! Cluster-wide invariants: who watches every process at once.

use std::fmt;

use keypact_protocol::NodeId;

use crate::{ClientId, Counters, Process};

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The property's name, in kebab case.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// This property did not hold.
    #[must_use]
    pub fn new(property: &'static str, detail: impl Into<String>) -> Violation {
        Violation { property, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

/// Sees everything, changes nothing. Called in the hot path: keep it incremental.
///
/// Each method returns the first violation that it sees, which ends the run.
pub trait Observer<P: Process> {
    /// A process has started, and has recovered from `disk`.
    fn started(&mut self, now_ns: u64, node: NodeId, process: &P, disk: &P::Disk) -> Result<(), Violation> {
        let _ = (now_ns, node, process, disk);
        Ok(())
    }

    /// A process has taken a batch.
    fn stepped(&mut self, now_ns: u64, node: NodeId, process: &P, disk: &P::Disk) -> Result<(), Violation> {
        let _ = (now_ns, node, process, disk);
        Ok(())
    }

    /// A message has left a process.
    fn sent(&mut self, now_ns: u64, from: NodeId, to: NodeId, message: &P::Message) -> Result<(), Violation> {
        let _ = (now_ns, from, to, message);
        Ok(())
    }

    /// A client has been answered (whether or not the answer arrives).
    fn replied(
        &mut self,
        now_ns: u64,
        node: NodeId,
        client: ClientId,
        reply: &P::Reply,
    ) -> Result<(), Violation> {
        let _ = (now_ns, node, client, reply);
        Ok(())
    }

    /// A process is gone; `disk` is what survived.
    fn crashed(&mut self, now_ns: u64, node: NodeId, disk: &P::Disk) -> Result<(), Violation> {
        let _ = (now_ns, node, disk);
        Ok(())
    }

    /// A process is about to go, or the run to end: the last look at this life.
    fn ended(&mut self, node: NodeId, process: &P) {
        let _ = (node, process);
    }

    /// Adds to the counters what the run has reached. Called once, at the end.
    fn count(&self, counters: &mut Counters) {
        let _ = counters;
    }
}

/// Watches nothing.
impl<P: Process> Observer<P> for () {}

/// Both watch.
impl<P: Process, A: Observer<P>, B: Observer<P>> Observer<P> for (A, B) {
    fn started(&mut self, now_ns: u64, node: NodeId, process: &P, disk: &P::Disk) -> Result<(), Violation> {
        self.0.started(now_ns, node, process, disk)?;
        self.1.started(now_ns, node, process, disk)
    }

    fn stepped(&mut self, now_ns: u64, node: NodeId, process: &P, disk: &P::Disk) -> Result<(), Violation> {
        self.0.stepped(now_ns, node, process, disk)?;
        self.1.stepped(now_ns, node, process, disk)
    }

    fn sent(&mut self, now_ns: u64, from: NodeId, to: NodeId, message: &P::Message) -> Result<(), Violation> {
        self.0.sent(now_ns, from, to, message)?;
        self.1.sent(now_ns, from, to, message)
    }

    fn replied(
        &mut self,
        now_ns: u64,
        node: NodeId,
        client: ClientId,
        reply: &P::Reply,
    ) -> Result<(), Violation> {
        self.0.replied(now_ns, node, client, reply)?;
        self.1.replied(now_ns, node, client, reply)
    }

    fn crashed(&mut self, now_ns: u64, node: NodeId, disk: &P::Disk) -> Result<(), Violation> {
        self.0.crashed(now_ns, node, disk)?;
        self.1.crashed(now_ns, node, disk)
    }

    fn ended(&mut self, node: NodeId, process: &P) {
        self.0.ended(node, process);
        self.1.ended(node, process);
    }

    fn count(&self, counters: &mut Counters) {
        self.0.count(counters);
        self.1.count(counters);
    }
}
