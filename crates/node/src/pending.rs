//! Requests that a group has not answered yet, and to whom their answers go.

use std::collections::VecDeque;

use keypact_data::Command;
use keypact_protocol::{NodeId, RequestId};

use crate::SessionId;

/// A numbered stream of commands that is carried out at this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum StreamKey {
    /// A client's connection to this node.
    Local(SessionId),
    /// A connection to another node, which forwards its commands: that node, its life, the connection.
    Remote(NodeId, u64, u64),
}

/// One command's place in its stream: `seq` of a connection, `place` of a forwarded one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) stream: StreamKey,
    /// The stream's generation when it was accepted; 0 for connections.
    pub(crate) generation: u64,
    pub(crate) number: u64,
}

/// What a request was for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A write that is in the log. Reads of the same stream that came after it wait for it.
    Write { place: Place, reads: Vec<(Place, Command)> },
    /// An empty entry, so that what has expired is gone before this read.
    Tick { place: Place, command: Command, reads: Vec<(Place, Command)> },
    /// A read that waits to know from which index on it is fresh.
    Read { place: Place, command: Command },
    /// The node's own entry in the catalog.
    Catalog,
    /// An empty entry, so that what has expired leaves the memory. Nobody waits for it.
    Expiry,
}

/// Requests by their id. Ids rise and most requests end in order, so it is a window that slides. O(1).
#[derive(Debug, Default)]
pub(crate) struct PendingTable {
    first: u64,
    window: VecDeque<Option<Pending>>,
    len: usize,
}

impl PendingTable {
    /// Gives a request its id.
    pub(crate) fn insert(&mut self, pending: Pending) -> RequestId {
        let id = self.first + self.window.len() as u64;
        self.window.push_back(Some(pending));
        self.len += 1;
        RequestId(id)
    }

    pub(crate) fn at(&mut self, id: RequestId) -> Option<&mut Pending> {
        let offset = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        self.window.get_mut(offset)?.as_mut()
    }

    /// Takes a request off.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let offset = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        let taken = self.window.get_mut(offset)?.take()?;
        self.len -= 1;
        while self.window.front().is_some_and(Option::is_none) {
            self.window.pop_front();
            self.first += 1;
        }
        Some(taken)
    }

    /// Requests not answered yet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
