//! What a leader puts before the log: each sender's next message, once. The table of sessions would sort out the rest, but senders submit again
//! what is slow to come, and a slow log must not be filled with that.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::NodeId;

use super::sessions::Sessions;

/// A message of a sender's session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name {
    node: NodeId,
    session: u64,
    counter: u64,
}

/// What was proposed since this member leads.
#[derive(Debug)]
pub(super) struct Admission {
    /// Of each sender, the session and the last message that was proposed and, as far as known, is on its way.
    proposed: BTreeMap<NodeId, (u64, u64)>,
    /// Of each sender, the request to open a session that is on its way: the session, and the one before it.
    opening: BTreeMap<NodeId, (u64, u64)>,
    /// Messages that came before an earlier one of their sender.
    early: BTreeMap<Name, Bytes>,
    early_max: usize,
}

/// What becomes of a message that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admitted {
    /// It is next.
    Next,
    /// It is in the log, or on its way, or of a session that is not open.
    Dropped,
    /// It waits for an earlier one.
    Early,
}

impl Admission {
    pub(super) fn new(early_max: usize) -> Admission {
        Admission { proposed: BTreeMap::new(), opening: BTreeMap::new(), early: BTreeMap::new(), early_max }
    }

    /// This member leads no more, or does not know what became of what it proposed.
    pub(super) fn clear(&mut self) {
        self.proposed.clear();
        self.opening.clear();
        self.early.clear();
        assert!(self.proposed.is_empty(), "the table of sessions says what is in the log");
    }

    /// Whether a request to open a session is not yet on its way.
    pub(super) fn admits_open(&self, node: NodeId, session: u64, after: u64) -> bool {
        self.opening.get(&node) != Some(&(session, after))
    }

    /// It was proposed.
    pub(super) fn opening(&mut self, node: NodeId, session: u64, after: u64) {
        self.opening.insert(node, (session, after));
    }

    /// The last message of a session that needs no proposal any more; `None` if the session is not open.
    fn reached(&self, sessions: &Sessions, node: NodeId, session: u64) -> Option<u64> {
        let known = sessions.get(node).filter(|known| known.session == session)?;
        let proposed = self.proposed.get(&node).filter(|(of, _)| *of == session);
        Some(proposed.map_or(known.count, |(_, counter)| known.count.max(*counter)))
    }

    /// Judges a message; one that is early is kept, if there is room.
    pub(super) fn judge(
        &mut self,
        sessions: &Sessions,
        (node, session, counter): (NodeId, u64, u64),
        item: &Bytes,
    ) -> Admitted {
        match self.reached(sessions, node, session) {
            Some(reached) if counter == reached + 1 => Admitted::Next,
            Some(reached) if counter > reached => {
                if self.early.len() < self.early_max {
                    self.early.insert(Name { node, session, counter }, item.clone());
                }
                assert!(self.early.len() <= self.early_max, "what waits is bounded");
                Admitted::Early
            }
            _ => Admitted::Dropped,
        }
    }

    /// Whether a message is not yet known to be proposed: it may have been delivered while it was.
    pub(super) fn is_behind(&self, sessions: &Sessions, node: NodeId, session: u64, counter: u64) -> bool {
        self.reached(sessions, node, session).is_some_and(|reached| reached < counter)
    }

    /// It was proposed.
    pub(super) fn proposed(&mut self, node: NodeId, session: u64, counter: u64) {
        let before = self.proposed.insert(node, (session, counter));
        assert!(before.is_none_or(|(of, last)| of != session || last < counter), "each is proposed once");
    }

    /// Drops a node's messages that wait in vain: others of them stood in the log meanwhile, or their session is over. They would take the
    /// room of those that may still have their turn. O(messages of the node that wait).
    fn drop_late(&mut self, node: NodeId, session: u64, next: u64) {
        let all = Name { node, session: 0, counter: 0 }..=Name { node, session: u64::MAX, counter: u64::MAX };
        let late = self.early.range(all).map(|(name, _)| *name);
        let late: Vec<Name> = late.filter(|name| name.session != session || name.counter < next).collect();
        late.iter().for_each(|name| drop(self.early.remove(name)));
    }

    /// The next message of a session, if it came early.
    pub(super) fn take_next(
        &mut self,
        sessions: &Sessions,
        node: NodeId,
        session: u64,
    ) -> Option<(u64, Bytes)> {
        let counter = self.reached(sessions, node, session)? + 1;
        assert!(counter > 0, "messages are counted from 1");
        self.drop_late(node, session, counter);
        self.early.remove(&Name { node, session, counter }).map(|item| (counter, item))
    }
}
