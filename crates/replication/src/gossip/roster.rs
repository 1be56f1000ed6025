//! The catalog's side: who is in the group, as a pure value that the catalog keeps.
//!
//! It makes one view after the other: admits newcomers and those who come back without a disk, each under an identity that was never granted
//! before; takes out who drains once others have what it has, and who was silent for longer than the retention limit; and orders the
//! names of a retired identity's events to be dropped, once nobody can bring one of them any more.
//!
//! *When a name may be dropped.* Let R be an identity of no member. If every member has reported *in the present view* that it has applied the
//! same events of R, and that none of them lives there, then no member can ever hold a live dot of R again: who had an event of R
//! beyond these, had it when it entered the view, and would have reported it; and what was sent in older views is refused. So nobody
//! will have to be told that these dots were removed. Whoever is away holds this up, until the retention limit; who then comes back
//! does so with nothing, under another identity.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{DotContext, ReplicaId, varint};
use keypact_protocol::{DecodeError, GroupId, Incarnation, NodeId, Plant, Wire, planted};

use super::config::{FORGETS_MAX, MEMBERS_MAX};
use super::view::{end, take_bool};
use super::{Body, Forget, Member, Message, View};

/// What the catalog has decided of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RosterConfig {
    /// The group.
    pub group: GroupId,
    /// A member that is silent for longer loses its place, nanoseconds.
    pub retention_ns: u64,
    /// Nobody loses its place for being silent if fewer than so many others would be left that serve.
    pub serving_min: usize,
    /// How many peers have an acknowledged write: one more must have all that a member has that leaves.
    pub acks: usize,
    /// Identities whose events are known in the group, at most. Beyond it nobody is admitted.
    pub replicas_max: usize,
}

/// What must not be forgotten: write it down before a view is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterRecord {
    /// The present view.
    pub view: View,
    /// Every node that was ever admitted: the last identity's number, the folder, and whether it shall be a member.
    pub nodes: Vec<(NodeId, NodeRecord)>,
}

/// What is known of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// The last identity that it was granted.
    pub replica: ReplicaId,
    /// The folder that it had then.
    pub folder: Incarnation,
    /// Whether it shall be a member.
    pub wanted: bool,
}

/// What a member reported last.
#[derive(Clone, Debug)]
struct Heard {
    view: u64,
    serving: bool,
    version: DotContext,
    spent: Vec<ReplicaId>,
}

/// The roster of one group.
///
/// Invariant: no identity stands in two views with another between them that lacks it.
#[derive(Clone, Debug)]
pub struct Roster {
    config: RosterConfig,
    view: View,
    nodes: BTreeMap<NodeId, NodeRecord>,
    heard: BTreeMap<NodeId, Heard>,
    /// When a node last spoke, in its present place.
    spoke_ns: BTreeMap<NodeId, u64>,
    /// How many identities were ordered to be forgotten.
    pub forgotten: u64,
    /// How many members were taken out for being silent.
    pub expelled: u64,
    /// How many members have left after draining.
    pub left: u64,
    /// How many were admitted beside the founders.
    pub admitted: u64,
}

impl Roster {
    /// The roster of a group that begins with this view.
    #[must_use]
    pub fn new(config: RosterConfig, first_view: View) -> Roster {
        let known =
            |row: &Member| (row.node, NodeRecord { replica: row.replica, folder: row.folder, wanted: true });
        let nodes: BTreeMap<NodeId, NodeRecord> = first_view.members.iter().map(known).collect();
        assert!(nodes.len() == first_view.members.len(), "each founder stands once");
        assert!(config.replicas_max >= nodes.len(), "founders need identities");
        Roster {
            config,
            view: first_view,
            nodes,
            heard: BTreeMap::new(),
            spoke_ns: BTreeMap::new(),
            forgotten: 0,
            expelled: 0,
            left: 0,
            admitted: 0,
        }
    }

    /// Goes on after what was written down last.
    pub fn resume(&mut self, record: RosterRecord) {
        assert!(record.view.number >= self.view.number, "views are made in order");
        self.view = record.view;
        self.nodes = record.nodes.into_iter().collect();
        self.heard.clear();
        self.spoke_ns.clear();
        assert!(self.view.members.iter().all(|row| self.nodes.contains_key(&row.node)), "members are known");
    }

    /// What to write down.
    #[must_use]
    pub fn record(&self) -> RosterRecord {
        RosterRecord { view: self.view.clone(), nodes: self.nodes.iter().map(|(n, r)| (*n, *r)).collect() }
    }

    /// The present view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The present view, as it is told.
    #[must_use]
    pub fn message(&self) -> Message {
        Message { group: self.config.group, view: self.view.number, body: Body::View(self.view.clone()) }
    }

    /// Begins to count silence: nobody is silent yet.
    pub fn start(&mut self, now_ns: u64) {
        self.spoke_ns = self.view.members.iter().map(|row| (row.node, now_ns)).collect();
    }

    /// Wants a node to be a member, now or once it reports.
    pub fn join(&mut self, node: NodeId) {
        let unknown =
            || NodeRecord { replica: ReplicaId(node.0 << 16), folder: Incarnation(0), wanted: true };
        self.nodes.entry(node).or_insert_with(unknown).wanted = true;
    }

    /// Begins to take a member out: it takes no more writes, and leaves once others have what it has. Whether there is a new view.
    pub fn drain(&mut self, node: NodeId) -> bool {
        let Some(known) = self.nodes.get_mut(&node) else { return false };
        known.wanted = false;
        if self.view.row(node).is_none_or(|row| row.draining) {
            return false;
        }
        let members = self.view.members.iter().map(|row| match row.node == node {
            true => Member { draining: true, ..*row },
            false => *row,
        });
        let members = members.collect();
        self.next_view(members);
        assert!(self.view.row(node).is_some_and(|row| row.draining), "it drains from this view on");
        true
    }

    /// Takes a report. Whether there is a new view.
    pub fn hear(&mut self, from: NodeId, message: &Message, now_ns: u64) -> bool {
        let Body::Report { folder, replica, serving, version, spent } = &message.body else { return false };
        if message.group != self.config.group || message.view > self.view.number {
            return false;
        }
        let known = self.nodes.get(&from).copied();
        if known.is_some_and(|known| *folder < known.folder) {
            // Of an earlier folder, come late.
            return false;
        }
        let before = self.view.number;
        match self.view.row(from) {
            Some(row) if row.folder == *folder => {
                self.spoke_ns.insert(from, now_ns);
                if *replica == Some(row.replica) {
                    let (serving, version, spent) = (*serving, version.clone(), spent.clone());
                    self.heard.insert(from, Heard { view: message.view, serving, version, spent });
                }
            }
            // Its disk was lost, or it lost its place.
            _ if known.is_some_and(|known| known.wanted) => self.admit(from, *folder, now_ns),
            Some(_) => self.remove(from),
            None => {}
        }
        self.settle(now_ns);
        assert!(self.view.number >= before, "views are made in order");
        self.view.number > before
    }

    /// Looks for those who were silent for too long. Whether there is a new view.
    pub fn tick(&mut self, now_ns: u64) -> bool {
        let before = self.view.number;
        self.settle(now_ns);
        self.view.number > before
    }

    fn admit(&mut self, node: NodeId, folder: Incarnation, now_ns: u64) {
        let known = self.nodes[&node];
        let last = known.replica.life().1;
        let number = if planted(Plant::GossipIdentityReused) { last } else { Incarnation(last.0 + 1) };
        let others = self.view.members.iter().filter(|row| row.node != node);
        let mut members: Vec<Member> = others.copied().collect();
        let full = self.replicas_known() >= self.config.replicas_max || members.len() >= MEMBERS_MAX;
        let Some(replica) = ReplicaId::of_life(node, number).filter(|_| !full) else { return };
        members.push(Member { node, folder, replica, draining: false });
        members.sort_by_key(|row| row.node);
        self.nodes.insert(node, NodeRecord { replica, folder, wanted: true });
        self.heard.remove(&node);
        self.spoke_ns.insert(node, now_ns);
        self.admitted += 1;
        self.next_view(members);
        assert!(self.view.has_replica(replica), "who was admitted is in");
        assert!(self.view.members.len() <= MEMBERS_MAX, "members are bounded");
    }

    /// Identities of which some member knows events, the members' own included.
    fn replicas_known(&self) -> usize {
        let mut replicas: Vec<ReplicaId> =
            self.heard.values().flat_map(|heard| heard.version.spans()).map(|span| span.replica).collect();
        replicas.extend(self.view.members.iter().map(|row| row.replica));
        replicas.sort_unstable();
        replicas.dedup();
        replicas.len()
    }

    fn remove(&mut self, node: NodeId) {
        let others = self.view.members.iter().filter(|row| row.node != node);
        let members: Vec<Member> = others.copied().collect();
        assert!(members.len() < self.view.members.len(), "only members are taken out");
        self.heard.remove(&node);
        self.spoke_ns.remove(&node);
        self.next_view(members);
        assert!(self.view.row(node).is_none(), "who was taken out is out");
    }

    fn next_view(&mut self, members: Vec<Member>) {
        assert!(members.is_sorted_by(|a, b| a.node < b.node), "members are in order, each once");
        let mut forgets = core::mem::take(&mut self.view.forgets);
        // Who has entered a view has done what it ordered.
        let entered = |row: &Member| self.heard.get(&row.node).map_or(0, |heard| heard.view);
        let all_entered = self.view.members.iter().map(entered).min().unwrap_or(0);
        assert!(all_entered <= self.view.number, "nobody is ahead of the catalog");
        forgets.retain(|forget| forget.view > all_entered);
        self.view = View { number: self.view.number + 1, members: members.into(), forgets };
    }

    /// Does what has become possible.
    fn settle(&mut self, now_ns: u64) {
        while let Some(node) = self.drained() {
            self.left += 1;
            self.remove(node);
        }
        while let Some(node) = self.silent(now_ns) {
            self.expelled += 1;
            self.remove(node);
        }
        self.forget_spent();
    }

    /// Somebody who drains, and whose version others have: as many as have an acknowledged write, or all there are.
    fn drained(&self) -> Option<NodeId> {
        let drained = self.view.members.iter().filter(|row| row.draining).find(|row| {
            let Some(own) = self.heard.get(&row.node).filter(|own| own.view == self.view.number) else {
                return false;
            };
            let others = self.view.members.iter().filter(|other| !other.draining);
            let others: Vec<&Heard> = others.filter_map(|other| self.heard.get(&other.node)).collect();
            let serving = others.iter().filter(|other| other.serving).count();
            let covers = |other: &&&Heard| {
                other.serving && other.view == own.view && other.version.contains_all(&own.version)
            };
            let uncovered = planted(Plant::GossipDrainedUncovered);
            let covering = others.iter().filter(|other| uncovered || covers(other)).count();
            // Who is wanted and does not serve may be on its way in; if all others were lost meanwhile, nobody would be left to bring it here.
            let drains = |node: NodeId| self.view.row(node).is_some_and(|row| row.draining);
            let wanted = self.nodes.iter().filter(|(node, known)| known.wanted && !drains(**node)).count();
            let enough = serving >= self.config.serving_min.min(wanted);
            enough && covering > 0 && covering >= serving.min(self.config.acks + 1)
        });
        drained.map(|row| row.node)
    }

    /// Somebody who was silent for longer than the retention limit, if enough others serve.
    fn silent(&self, now_ns: u64) -> Option<NodeId> {
        let is_silent = |node: &NodeId| {
            let spoke_ns = self.spoke_ns.get(node).copied().unwrap_or(now_ns);
            now_ns.saturating_sub(spoke_ns) > self.config.retention_ns
        };
        let serves =
            |node: NodeId| !is_silent(&node) && self.heard.get(&node).is_some_and(|heard| heard.serving);
        let members = || self.view.members.iter().map(|row| row.node);
        let silent = members().find(is_silent)?;
        assert!(self.spoke_ns.contains_key(&silent), "silence is counted from a moment");
        let left = members().filter(|node| *node != silent && serves(*node)).count();
        assert!(left < self.view.members.len(), "the silent one is not among them");
        (left >= self.config.serving_min.max(1)).then_some(silent)
    }

    /// Orders the names of retired identities' events to be dropped, where nobody can bring one any more; see the module's documentation.
    fn forget_spent(&mut self) {
        let present = |heard: &&Heard| heard.view == self.view.number;
        let reports = self.view.members.iter().filter_map(|row| self.heard.get(&row.node));
        let reports: Vec<&Heard> = reports.filter(present).collect();
        let missing = reports.len() < self.view.members.len();
        if reports.is_empty() || (missing && !planted(Plant::GossipContextDroppedEarly)) {
            return;
        }
        let events_of = |heard: &Heard, replica: ReplicaId| -> DotContext {
            heard.version.spans().filter(|span| span.replica == replica).collect()
        };
        let everywhere = |replica: &ReplicaId| {
            let first = events_of(reports[0], *replica);
            let agrees = |heard: &&Heard| {
                let known = events_of(heard, *replica);
                known == first && (known.is_empty() || heard.spent.contains(replica))
            };
            reports.iter().all(agrees) || planted(Plant::GossipContextDroppedEarly)
        };
        let mut spent: Vec<ReplicaId> =
            reports.iter().flat_map(|heard| heard.spent.iter().copied()).collect();
        spent.sort_unstable();
        spent.dedup();
        spent.retain(|replica| !self.view.has_replica(*replica) && everywhere(replica));
        spent.truncate(FORGETS_MAX.saturating_sub(self.view.forgets.len()));
        if spent.is_empty() {
            return;
        }
        assert!(
            spent.iter().all(|replica| !self.view.has_replica(*replica)),
            "members' events are not forgotten"
        );
        self.forgotten += spent.len() as u64;
        let members = self.view.members.to_vec();
        self.next_view(members);
        let view = self.view.number;
        self.view.forgets.extend(spent.into_iter().map(|replica| Forget { view, replica }));
        assert!(self.view.forgets.len() <= FORGETS_MAX, "a view orders a bounded number to be forgotten");
    }
}

impl Wire for RosterRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.view.put(out);
        varint::put(self.nodes.len() as u64, out);
        for (node, known) in &self.nodes {
            varint::put(node.0, out);
            varint::put(known.replica.0, out);
            varint::put(known.folder.0, out);
            out.push(u8::from(known.wanted));
        }
    }

    fn decode(mut bytes: Bytes) -> Result<RosterRecord, DecodeError> {
        let bytes = &mut bytes;
        let view = View::take(bytes)?;
        let count = varint::take_count(bytes, 4)?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let node = NodeId(varint::take(bytes)?);
            let replica = ReplicaId(varint::take(bytes)?);
            let folder = Incarnation(varint::take(bytes)?);
            nodes.push((node, NodeRecord { replica, folder, wanted: take_bool(bytes)? }));
        }
        end(bytes)?;
        Ok(RosterRecord { view, nodes })
    }
}
