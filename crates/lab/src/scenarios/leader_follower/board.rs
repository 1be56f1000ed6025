//! What the observer tells the clients of a run. In a node the parent adds a token to each answer, for it can ask its group for the epoch; the
//! simulator's process, which runs any protocol, can't.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use keypact_protocol::NodeId;
use keypact_simulator::ClientId;

/// A write's epoch and index.
pub(super) type Token = (u64, u64);

/// Shared by the observer, who writes, and the clients, who read; but for `asked`, which goes the other way.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Where a session's write was placed, by its command; each is unique.
    pub(super) placed: BTreeMap<Bytes, Token>,
    /// In which epoch a request was answered by its leader.
    pub(super) answered: BTreeMap<(ClientId, u64), u64>,
    /// Which write a session's read must see.
    pub(super) asked: BTreeMap<(ClientId, u64), Token>,
}

/// A handle on the board.
pub(super) type SharedBoard = Rc<RefCell<Board>>;

/// What a member showed when it last stepped.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Shown {
    pub(super) epoch: u64,
    pub(super) leads: bool,
}

/// By member.
pub(super) type Members = BTreeMap<NodeId, Shown>;
