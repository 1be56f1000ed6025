//! What a majority of the members' wall clocks say, so that one wrong clock can't move everybody's time.
//!
//! Entries are stamped by their leader's wall clock, and keys expire by stamps, which never fall: a leader whose clock is a day ahead would
//! expire a day's keys on all replicas, for good. So members tell each other their wall clocks with heartbeats and votes, and what a node
//! takes for wall time is kept within a bound of the *majority's time*: the latest time that a majority of the members' clocks have
//! reached. It is never later than the latest right clock while the wrong ones are a minority, and never earlier than the earliest right
//! clock of those heard. Why it is done so: `docs/decisions/0014-stamps-within-a-majority.md`.

use keypact_protocol::{Context, NodeId, Plant, planted};

const NS_PER_MS: u64 = 1_000_000;

/// A peer's clock as heard: the difference between its wall clock and this node's monotonic one, milliseconds. While both run it stays the
/// same, but for their drift; what the message took on its way makes it too small, never too large.
#[derive(Clone, Copy, Debug)]
struct Heard {
    peer: NodeId,
    offset_ms: i64,
}

/// The voters' clocks.
#[derive(Debug)]
pub(crate) struct Clocks {
    own: NodeId,
    bound_ms: u64,
    /// Whose clocks count: the voters of the configuration that the node knows, by the end of a change under way. Who leads got a majority of
    /// their votes, and heard their clocks with them. While too few clocks of new voters were heard those of the voters before count: else
    /// a leader whose group changes would be without a bound.
    voters: Vec<NodeId>,
    /// The voters that shall count once a majority of their clocks was heard.
    next: Option<Vec<NodeId>>,
    /// How many clocks are a majority.
    majority: usize,
    /// Whether this node's own clock is one of them.
    own_counts: bool,
    /// All peers' clocks, so that a voter's is known when it becomes one.
    heard: Vec<Heard>,
    /// Of the voters' offsets the one that makes a majority without this node's own clock, and the one that makes it with it. `None`: too
    /// few were heard; with `majority` 1 no peer is needed.
    without_own_ms: Option<i64>,
    with_own_ms: Option<i64>,
}

impl Clocks {
    /// Of a group whose voters are not known yet.
    pub(crate) fn new(own: NodeId, bound_ms: u64) -> Clocks {
        Clocks {
            own,
            bound_ms,
            voters: Vec::new(),
            next: None,
            majority: 1,
            own_counts: false,
            heard: Vec::new(),
            without_own_ms: None,
            with_own_ms: None,
        }
    }

    /// These nodes' clocks count from now on, or from when a majority of them was heard. O(voters) if they did before.
    pub(crate) fn follow(&mut self, voters: impl Iterator<Item = NodeId> + Clone) {
        if self.next.is_none() && voters.clone().eq(self.voters.iter().copied()) {
            return;
        }
        self.next = Some(voters.collect());
        self.reckon();
    }

    /// Whether this node's clock counts, or shall.
    fn counts(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.next.as_ref().is_some_and(|next| next.contains(&node))
    }

    /// Someone tells its wall clock: a peer, or a voter, who stays one for a while after it was removed. O(peers).
    pub(crate) fn hear(&mut self, peer: NodeId, is_peer: bool, wall_ms: u64, now_ns: u64) {
        if peer == self.own || !(is_peer || self.counts(peer)) {
            return;
        }
        let offset_ms = signed(wall_ms).saturating_sub(signed(now_ns / NS_PER_MS));
        match self.heard.iter_mut().find(|heard| heard.peer == peer) {
            Some(heard) => heard.offset_ms = offset_ms,
            None => self.heard.push(Heard { peer, offset_ms }),
        }
        self.reckon();
    }

    /// Forgets the clocks of who is no peer any more, nor a voter.
    pub(crate) fn keep(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        let mut heard = core::mem::take(&mut self.heard);
        heard.retain(|heard| is_peer(heard.peer) || self.counts(heard.peer));
        self.heard = heard;
        self.reckon();
    }

    fn reckon(&mut self) {
        if let Some(next) = self.next.take() {
            // Nothing is lost by changing over while too few of those before are known.
            match self.has_majority(&next) || !self.has_majority(&self.voters) {
                true => self.voters = next,
                false => self.next = Some(next),
            }
        }
        self.majority = self.voters.len() / 2 + 1;
        self.own_counts = self.voters.contains(&self.own);
        let voters = self.heard.iter().filter(|heard| self.voters.contains(&heard.peer));
        let mut offsets_ms: Vec<i64> = voters.map(|heard| heard.offset_ms).collect();
        offsets_ms.sort_unstable_by(|a, b| b.cmp(a));
        self.without_own_ms = offsets_ms.get(self.majority - 1).copied();
        let others = self.majority.checked_sub(2).filter(|_| self.own_counts);
        self.with_own_ms = others.and_then(|at| offsets_ms.get(at).copied());
        assert!(
            self.without_own_ms.is_none() || others.is_none() || self.with_own_ms >= self.without_own_ms,
            "more clocks have reached an earlier time"
        );
        assert_eq!(
            self.knows_majority(),
            self.has_majority(&self.voters),
            "as many clocks are known as were heard"
        );
    }

    /// Whether a majority of these nodes' clocks is known, this node's own being one of them if it is there. O(peers x voters).
    fn has_majority(&self, voters: &[NodeId]) -> bool {
        let known = |id: &&NodeId| **id == self.own || self.heard.iter().any(|heard| heard.peer == **id);
        voters.iter().filter(known).count() > voters.len() / 2
    }

    /// Whether the bound holds: a majority of the clocks that count is known. Who leads has heard it with its votes. O(1).
    pub(crate) fn knows_majority(&self) -> bool {
        let alone = self.majority == 1 && self.own_counts;
        alone || self.with_own_ms.is_some() || self.without_own_ms.is_some()
    }

    /// The latest time that a majority of the members' clocks have reached, as far as they were heard. O(1).
    fn majority_ms(&self, context: Context) -> Option<u64> {
        let now_ms = signed(context.now_ns / NS_PER_MS);
        let at = |offset_ms: i64| u64::try_from(now_ms.saturating_add(offset_ms)).unwrap_or(0);
        let with_own = match self.majority {
            1 => Some(context.wall_ms).filter(|_| self.own_counts),
            _ => self.with_own_ms.map(|offset_ms| at(offset_ms).min(context.wall_ms)),
        };
        with_own.max(self.without_own_ms.map(at))
    }

    /// The same moment, with wall time kept within the bound of the majority's. Before a majority was heard nobody leads, so nothing is
    /// stamped, and the node's own clock will do. O(1).
    pub(crate) fn bound(&self, context: Context) -> Context {
        let Some(majority_ms) = self.majority_ms(context) else { return context };
        if planted(Plant::StampsUnbounded) {
            return context;
        }
        let (earliest, latest) =
            (majority_ms.saturating_sub(self.bound_ms), majority_ms.saturating_add(self.bound_ms));
        Context { wall_ms: context.wall_ms.clamp(earliest, latest), ..context }
    }

    /// How far this node's wall clock is ahead of the majority's time, milliseconds; 0 before a majority was heard.
    pub(crate) fn ahead_ms(&self, context: Context) -> i64 {
        self.majority_ms(context).map_or(0, |ms| signed(context.wall_ms).saturating_sub(signed(ms)))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    /// A right clock, at [`at`] 0.
    const RIGHT_MS: u64 = 1_700_000_000_000;

    fn at(ms: u64, wall_ms: u64) -> Context {
        Context { now_ns: (5_000 + ms) * NS_PER_MS, wall_ms }
    }

    /// Node 1's, of so many voters.
    fn clocks_of(voters: u64) -> Clocks {
        let mut clocks = Clocks::new(NodeId(1), 500);
        clocks.follow((1..=voters).map(NodeId));
        clocks
    }

    /// Rows: own clock's error, the others' (`None`: not heard), and what the node then takes for its error.
    #[test]
    fn wall_time_is_held_to_the_majority() {
        let day = DAY_MS as i64;
        let rows: [(i64, &[Option<i64>], i64); 12] = [
            (0, &[], 0),
            (day, &[], day),
            (0, &[Some(3), Some(-3)], 0),
            (400, &[Some(0), Some(0)], 400),
            (day, &[Some(0), Some(0)], 500),
            (-day, &[Some(0), Some(0)], -500),
            (0, &[Some(day), Some(0)], 0),
            (0, &[Some(-day), Some(0)], 0),
            // One of two: nobody can say which is wrong; too late is better than too early.
            (day, &[Some(0), None], 500),
            (0, &[Some(-day), None], -day + 500),
            // A minority of five.
            (day, &[Some(day), Some(0), Some(0), Some(0)], 500),
            (0, &[Some(day), Some(day), Some(0), Some(0)], 0),
        ];
        for (own, others, expected) in rows {
            let mut clocks = clocks_of(others.len() as u64 + 1);
            for (id, error) in others.iter().enumerate() {
                if let Some(error) = error {
                    clocks.hear(
                        NodeId(id as u64 + 2),
                        true,
                        RIGHT_MS.saturating_add_signed(*error),
                        at(0, 0).now_ns,
                    );
                }
            }
            // A while later: others' clocks are taken to have run on.
            let context = clocks.bound(at(70, RIGHT_MS.saturating_add_signed(own) + 70));
            let error = context.wall_ms as i64 - RIGHT_MS as i64 - 70;
            assert_eq!(error, expected, "own {own}, others {others:?}");
        }
    }

    #[test]
    fn before_a_majority_is_heard_the_own_clock_counts() {
        let mut clocks = clocks_of(5);
        clocks.hear(NodeId(2), true, RIGHT_MS, at(0, 0).now_ns);
        assert_eq!(clocks.bound(at(0, RIGHT_MS + DAY_MS)).wall_ms, RIGHT_MS + DAY_MS);
        assert_eq!(clocks.ahead_ms(at(0, RIGHT_MS + DAY_MS)), 0);
        clocks.hear(NodeId(3), true, RIGHT_MS, at(0, 0).now_ns);
        assert_eq!(clocks.bound(at(0, RIGHT_MS + DAY_MS)).wall_ms, RIGHT_MS + 500);
        assert_eq!(clocks.ahead_ms(at(0, RIGHT_MS + DAY_MS)), DAY_MS as i64);
        // What a peer said last counts.
        clocks.hear(NodeId(3), true, RIGHT_MS + DAY_MS, at(0, 0).now_ns);
        clocks.hear(NodeId(2), true, RIGHT_MS + DAY_MS, at(0, 0).now_ns);
        assert_eq!(clocks.bound(at(0, RIGHT_MS + DAY_MS)).wall_ms, RIGHT_MS + DAY_MS);
    }

    /// Whoever is no voter does not count: a learner, a removed node, this node itself; and a new voter's clock is known from before.
    #[test]
    fn voters_count_and_nobody_else() {
        let mut clocks = Clocks::new(NodeId(1), 500);
        let day_ahead = at(0, RIGHT_MS + DAY_MS);
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + DAY_MS, "no voters are known");
        clocks.follow((1..=3).map(NodeId));
        for (peer, error_ms) in [(2, 0), (4, DAY_MS), (5, DAY_MS), (6, DAY_MS)] {
            clocks.hear(NodeId(peer), true, RIGHT_MS + error_ms, day_ahead.now_ns);
        }
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 500, "three learners are no majority");
        clocks.follow([2, 3, 4, 5].map(NodeId).into_iter());
        clocks.hear(NodeId(3), true, RIGHT_MS, day_ahead.now_ns);
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 500, "of two and two the earlier counts");
        clocks.follow([2, 4, 5].map(NodeId).into_iter());
        assert_eq!(
            clocks.bound(at(0, RIGHT_MS)).wall_ms,
            RIGHT_MS + DAY_MS - 500,
            "a majority is a day ahead"
        );
        clocks.keep(|_| false);
        assert_eq!(
            clocks.bound(at(0, RIGHT_MS)).wall_ms,
            RIGHT_MS + DAY_MS - 500,
            "voters count, whoever else they are"
        );
        clocks.follow([2, 6, 7].map(NodeId).into_iter());
        assert!(clocks.knows_majority(), "those before count until the new ones are heard");
        clocks.hear(NodeId(8), false, RIGHT_MS, day_ahead.now_ns);
        assert!(!clocks.heard.iter().any(|heard| heard.peer == NodeId(8)), "a stranger");
    }

    /// Guards stamps while a voter goes: it belongs to the cluster no more, votes still, and the other one was never heard.
    #[test]
    fn a_change_of_voters_leaves_no_gap_in_the_bound() {
        let mut clocks = clocks_of(3);
        let day_ahead = at(0, RIGHT_MS + DAY_MS);
        clocks.hear(NodeId(2), true, RIGHT_MS, day_ahead.now_ns);
        clocks.keep(|peer| peer.0 == 3);
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 500, "node 2 was removed, and is a voter yet");
        clocks.hear(NodeId(2), false, RIGHT_MS + 40, day_ahead.now_ns);
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 540, "and is still heard");
        // Two of {1, 3} are a majority, and one is known.
        clocks.follow([1, 3].map(NodeId).into_iter());
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 540);
        clocks.hear(NodeId(3), true, RIGHT_MS + 7, day_ahead.now_ns);
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + 507);
        clocks.keep(|peer| peer.0 == 3);
        assert_eq!(clocks.heard.len(), 1, "who is neither peer nor voter is forgotten");
        clocks.follow([1].map(NodeId).into_iter());
        assert_eq!(clocks.bound(day_ahead).wall_ms, RIGHT_MS + DAY_MS, "alone");
    }
}
