//! What others may see of a replica.

use keypact_ordering::clock::{DotContext, ReplicaId};

use super::change::Replicated;
use super::{Config, Gossip, View};

/// What happened since the start of this life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Commands carried out here.
    pub writes: u64,
    /// Messages with fresh writes, sent without being asked for.
    pub pushed: u64,
    /// Rounds begun, and those at the idle pace.
    pub rounds: u64,
    /// See above.
    pub idle_rounds: u64,
    /// Digests sent.
    pub digests: u64,
    /// Deltas sent as they came, and joined.
    pub deltas_sent: u64,
    /// See above.
    pub deltas_applied: u64,
    /// Deltas that came and were known already.
    pub redundant: u64,
    /// Answers that the budget cut short.
    pub cut_to_budget: u64,
    /// Transfers begun here; of these, in several parts; taken by the peer; given up by either side.
    pub transfers_begun: u64,
    /// See above.
    pub transfers_in_parts: u64,
    /// See above.
    pub transfers_ended: u64,
    /// See above.
    pub transfers_given_up: u64,
    /// Parts sent.
    pub parts_sent: u64,
    /// Transfers joined here.
    pub transfers_joined: u64,
    /// Writes that were acknowledged by enough peers, and those that were not in time.
    pub acknowledged: u64,
    /// See above.
    pub uncertain: u64,
    /// Views entered.
    pub views: u64,
    /// Times that it began anew under another identity, though it had one.
    pub reentered: u64,
    /// Own events dropped by that, of which no other was known to have them: at most so many are lost.
    pub unspread: u64,
    /// Times that it began to serve with what a member had.
    pub caught_up: u64,
    /// Identities whose events' names were dropped.
    pub forgotten: u64,
    /// Checkpoints asked for.
    pub checkpoints: u64,
    /// Stamps too far ahead of the wall.
    pub stamps_refused: u64,
    /// Messages of another group.
    pub refused_group: u64,
    /// Messages of another view.
    pub refused_stale: u64,
    /// Messages from and to those who are not in the view.
    pub refused_strangers: u64,
    /// Two views of one number.
    pub refused_views: u64,
    /// Requests while it did not serve.
    pub refused_not_serving: u64,
    /// Reads of sessions that have seen what is not here yet.
    pub refused_not_seen: u64,
    /// Transfers and changes for which there was no room.
    pub refused_full: u64,
    /// Transfers beyond the limit.
    pub refused_too_large: u64,
    /// Deltas that could not be read.
    pub refused_undecodable: u64,
}

impl<L: Replicated> Gossip<L> {
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The newest view that it knows.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Under which identity it counts its events; `None` while it is out.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        self.row().map(|row| row.replica)
    }

    /// Whether it has all that a member must have, and answers.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serving
    }

    /// Whether it takes no more writes, and leaves once others have what it has.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.row().is_some_and(|row| row.draining)
    }

    /// The state, writes included that wait for acknowledgements.
    #[must_use]
    pub fn state(&self) -> &L {
        &self.state
    }

    /// The events in it. A client's session token is such a version: with what it has seen and written.
    #[must_use]
    pub fn version(&self) -> &DotContext {
        &self.version
    }

    /// Whether a session that has seen this may read here without going back in time. O(spans).
    #[must_use]
    pub fn has_seen(&self, token: &DotContext) -> bool {
        self.version.contains_all(token)
    }

    /// The last change that was written.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Changes that wait for acknowledgements, or behind one that does.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Transfers under way, in and out.
    #[must_use]
    pub fn transfers_len(&self) -> usize {
        self.outgoing.len() + usize::from(self.incoming.is_some())
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
