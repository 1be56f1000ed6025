//! This member's own messages, from the request to the delivery.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{NodeId, RequestId, Wire};

use super::message::Item;
use super::sessions::Session;

/// How many submissions one flush makes.
const BATCHES_PER_FLUSH: usize = 4;

/// What waits for its delivery.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    body: Bytes,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Sender {
    node: NodeId,
    /// Sessions are drawn from this.
    seed: u64,
    /// The session of this life: the one that is open, or that it tries to open.
    session: u64,
    is_open: bool,
    /// The request to open it was submitted.
    asked: bool,
    waiting: VecDeque<Waiting>,
    /// The counter of the first that waits.
    first: u64,
    /// How many of those that wait were submitted.
    submitted: usize,
    /// Whom they were submitted to.
    leader: Option<NodeId>,
    /// Something of this member's was delivered since the timer was last looked at.
    progress: bool,
    /// All were submitted again since the last delivery, because one came too early.
    gone_back: bool,
}

impl Sender {
    pub(super) fn new(node: NodeId, seed: u64) -> Sender {
        let mut sender = Sender {
            node,
            seed,
            session: 0,
            is_open: false,
            asked: false,
            waiting: VecDeque::new(),
            first: 0,
            submitted: 0,
            leader: None,
            progress: false,
            gone_back: false,
        };
        sender.draw_session();
        sender
    }

    /// Another number for the session. Two lives, or two attempts of one, have the same with a chance of 2^-64.
    fn draw_session(&mut self) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ self.seed >> 30 ^ self.node.0).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.session = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb).max(1);
        (self.is_open, self.asked, self.submitted) = (false, false, 0);
        assert!(self.session > 0, "0 is no session");
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_session(&self, node: NodeId, session: u64) -> bool {
        node == self.node && session == self.session
    }

    pub(super) fn push(&mut self, id: RequestId, body: Bytes) {
        self.waiting.push_back(Waiting { id, body });
    }

    /// This life asked for its session, and the log has decided.
    pub(super) fn decided(&mut self, is_open: bool, table: Option<Session>) {
        if self.is_open {
            return;
        }
        self.progress = true;
        if is_open {
            self.is_open = true;
            self.submitted = 0;
            let table = table.expect("what is open is in the table");
            assert!(table.session == self.session, "this life's session is the open one");
            self.first = table.count + 1;
        } else {
            // What it knew of the table was old: again, with what is known now, and by the same name. Another request of this life may
            // still come to be open; a life that gave itself a new name for each would run behind its own requests (seed 22434).
            self.asked = false;
        }
        assert!(self.submitted == 0, "nothing is submitted before its number is known");
    }

    /// The first that waits was delivered; whose request it is.
    pub(super) fn delivered(&mut self, counter: u64) -> Option<RequestId> {
        if !self.is_open || counter != self.first {
            return None;
        }
        assert!(self.first > 0, "messages are counted from 1");
        let first = self.waiting.pop_front()?;
        self.first += 1;
        self.submitted = self.submitted.saturating_sub(1);
        (self.progress, self.gone_back) = (true, false);
        Some(first.id)
    }

    /// One of this member's messages came before another one of its own. Not every such message makes it begin again: all that were
    /// submitted behind the missing one come too early.
    pub(super) fn came_too_early(&mut self) {
        if !self.gone_back {
            (self.gone_back, self.submitted) = (true, 0);
        }
    }

    /// The log was passed over up to a snapshot. Requests of which it can't be said any more what became of them.
    pub(super) fn passed_over(&mut self, table: Option<Session>) -> Vec<RequestId> {
        if !self.is_open {
            // The request to open it may be among what was passed over (seed 40323).
            if table.is_some_and(|table| table.session == self.session) {
                self.decided(true, table);
            }
            return Vec::new();
        }
        let Some(table) = table.filter(|table| table.session == self.session) else {
            // Only a later life of this node closes a session, and then this one is over.
            self.draw_session();
            return self.waiting.drain(..).map(|waiting| waiting.id).collect();
        };
        let passed = (table.count + 1).saturating_sub(self.first).min(self.waiting.len() as u64) as usize;
        self.first = self.first.max(table.count + 1);
        assert!(self.first > 0 && passed <= self.waiting.len(), "only what waits is passed over");
        self.submitted = self.submitted.saturating_sub(passed);
        self.waiting.drain(..passed).map(|waiting| waiting.id).collect()
    }

    /// Nothing came for a while: what waits is submitted again.
    pub(super) fn overdue(&mut self) {
        if !core::mem::take(&mut self.progress) {
            (self.asked, self.submitted) = (false, 0);
        }
    }

    /// What is to be submitted to this leader now, in batches of at most so many bytes. `present` is this node's open session.
    pub(super) fn due(&mut self, leader: NodeId, present: u64, max_bytes: usize) -> Vec<Vec<Bytes>> {
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            (self.asked, self.submitted) = (false, 0);
        }
        let mut batches: Vec<Vec<Bytes>> = Vec::new();
        if self.waiting.is_empty() {
            return batches;
        }
        if !self.is_open {
            if !core::mem::replace(&mut self.asked, true) {
                let open = Item::Open { node: self.node, session: self.session, after: present };
                batches.push(Vec::from([encoded(&open)]));
            }
            return batches;
        }
        let mut bytes = 0;
        while let Some(waiting) = self.waiting.get(self.submitted) {
            let counter = self.first + self.submitted as u64;
            let (node, session, body) = (self.node, self.session, waiting.body.clone());
            let item = encoded(&Item::Message { node, session, counter, body });
            bytes += item.len();
            if batches.is_empty() || bytes > max_bytes {
                if batches.len() >= BATCHES_PER_FLUSH {
                    break;
                }
                bytes = item.len();
                batches.push(Vec::new());
            }
            batches.last_mut().expect("one was begun").push(item);
            self.submitted += 1;
        }
        assert!(batches.iter().all(|batch| !batch.is_empty()), "every submission says something");
        assert!(batches.len() <= BATCHES_PER_FLUSH, "a flush has an end");
        batches
    }

    pub(super) fn assert_invariants(&self, window: usize) {
        assert!(self.waiting.len() <= window, "what waits is bounded");
        assert!(self.submitted <= self.waiting.len(), "only what waits was submitted");
        assert!(!self.is_open || self.first > 0, "who is open knows its next number");
        assert!(self.is_open || self.submitted == 0, "nothing is submitted before its number is known");
    }
}

fn encoded(item: &Item) -> Bytes {
    let mut out = Vec::new();
    item.encode(&mut out);
    Bytes::from(out)
}
