//! A catalog in small: keeps the layout of one chain, renews leases, and resplices under the lease rule.
//!
//! It is one process with a disk, where the real catalog is a Raft group; what it may do is the same. A member loses its place only once its lease
//! is over by the catalog's clock, drift included, or once it was heard in another life, which no old lease survives.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_protocol::{DecodeError, GroupId, NodeId, Wire};
use keypact_replication::chain::{Body, CATALOG, Chain, Config, Layout, MemberState, Message};

use crate::scenarios::seat::{Catalog, Way, Wishes};

/// What the catalog is told, in every life.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// The group.
    pub group: GroupId,
    /// Its members.
    pub members: Vec<NodeId>,
    /// How long a lease is, nanoseconds.
    pub lease_ns: u64,
    /// How much faster one clock may run than another, parts per million.
    pub drift_bound_ppm: u64,
}

impl CatalogConfig {
    /// For how long after it was last heard a member may still serve, by this clock.
    fn lease_over_ns(&self) -> u64 {
        self.lease_ns + self.lease_ns / 1_000_000 * self.drift_bound_ppm + 1
    }
}

/// What the catalog must not forget: the layout, whole, as the message that tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogRecord(pub Layout);

impl Wire for CatalogRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let body = Body::Assign { members: self.0.members.clone() };
        Message { group: GroupId(0), epoch: self.0.epoch, body }.encode(out);
    }

    fn decode(bytes: Bytes) -> Result<CatalogRecord, DecodeError> {
        match Message::decode(bytes)? {
            Message { epoch, body: Body::Assign { members }, .. } => {
                Ok(CatalogRecord(Layout { epoch, members }))
            }
            _ => Err(DecodeError::new("a catalog's record")),
        }
    }
}

/// What was reached.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Reached {
    pub(super) removed: u64,
    pub(super) several_removed: u64,
    pub(super) head_removed: u64,
    pub(super) middle_removed: u64,
    pub(super) tail_removed: u64,
    pub(super) syncing_removed: u64,
    pub(super) all_gone: u64,
    pub(super) began_again: u64,
    pub(super) restarted: u64,
    pub(super) promoted: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct ChainCatalog {
    config: CatalogConfig,
    layout: Layout,
    /// When each member was last heard in the life that the layout has.
    heard_ns: BTreeMap<NodeId, u64>,
    pub(super) reached: Reached,
}

impl Catalog for ChainCatalog {
    type Member = Chain;
    type Config = CatalogConfig;
    type Kept = CatalogRecord;

    const NODE: NodeId = CATALOG;

    fn new(config: CatalogConfig) -> ChainCatalog {
        let layout = Layout::new(&config.members);
        ChainCatalog { config, layout, heard_ns: BTreeMap::new(), reached: Reached::default() }
    }

    fn tick_ns(config: &CatalogConfig) -> u64 {
        config.lease_ns / 5
    }

    fn member_id(config: &Config) -> NodeId {
        config.id
    }

    fn way(message: &Message) -> Way {
        match message.body {
            Body::Synced { .. } | Body::Renew { .. } => Way::ToCatalog,
            Body::Assign { .. } | Body::Grant { .. } => Way::FromCatalog,
            _ => Way::Between,
        }
    }

    fn replay(&mut self, CatalogRecord(layout): CatalogRecord) {
        self.layout = layout;
    }

    /// It does not remember when it last renewed a lease: as if just now.
    fn start(&mut self, now_ns: u64) {
        self.heard_ns = self.config.members.iter().map(|member| (*member, now_ns)).collect();
    }

    fn tick(&mut self, now_ns: u64) -> Wishes<ChainCatalog> {
        let over_ns = self.config.lease_over_ns();
        let gone: Vec<NodeId> = self
            .layout
            .members
            .iter()
            .filter(|member| member.state <= MemberState::Waiting)
            .map(|member| member.node)
            .filter(|node| now_ns.saturating_sub(self.heard_ns[node]) >= over_ns)
            .collect();
        let before = self.layout.clone();
        let mut wishes = Wishes::default();
        if self.layout.missed(&gone) {
            self.count_removed(&before, &gone);
            self.tell(now_ns, &before, &mut wishes);
        } else {
            self.say_to_all(&mut wishes);
        }
        wishes
    }

    fn hear(&mut self, from: NodeId, message: &Message, now_ns: u64) -> Wishes<ChainCatalog> {
        let mut wishes = Wishes::default();
        let before = self.layout.clone();
        match message.body {
            Body::Renew { life, sent_ns } => {
                let was = before.member(from).map(|member| member.state);
                if self.layout.heard(from, life) {
                    self.reached.restarted += u64::from(was == Some(MemberState::Serving));
                    self.reached.began_again += u64::from(was == Some(MemberState::LastServer));
                    self.tell(now_ns, &before, &mut wishes);
                }
                if self.layout.member(from).is_none_or(|member| member.life != life) {
                    return wishes;
                }
                self.heard_ns.insert(from, now_ns);
                if message.epoch == self.layout.epoch {
                    let lease_ns = self.config.lease_ns;
                    wishes.messages.push((from, self.message(Body::Grant { life, sent_ns, lease_ns })));
                } else if wishes.record.is_none() {
                    wishes.messages.push((from, self.assignment()));
                }
            }
            Body::Synced { node, life } => {
                let promoted = self.layout.synced(from, message.epoch, node, life);
                self.reached.promoted += u64::from(promoted);
                if promoted {
                    self.tell(now_ns, &before, &mut wishes);
                }
            }
            _ => {}
        }
        wishes
    }
}

impl ChainCatalog {
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    fn count_removed(&mut self, before: &Layout, gone: &[NodeId]) {
        let serving: Vec<NodeId> = before.serving().map(|member| member.node).collect();
        let removed = serving.iter().filter(|node| gone.contains(node)).count();
        let reached = &mut self.reached;
        reached.removed += removed as u64;
        if removed == serving.len() {
            reached.all_gone += u64::from(removed > 0);
        } else {
            reached.several_removed += u64::from(removed > 1);
            for (at, node) in serving.iter().enumerate().filter(|(_, node)| gone.contains(node)) {
                assert!(self.layout.member(*node).is_some(), "members stay members");
                match at {
                    0 => reached.head_removed += 1,
                    at if at + 1 == serving.len() => reached.tail_removed += 1,
                    _ => reached.middle_removed += 1,
                }
            }
        }
        let syncs = |node: &&NodeId| before.member(**node).is_some_and(|m| m.state == MemberState::Syncing);
        reached.syncing_removed += gone.iter().filter(syncs).count() as u64;
    }

    /// There is a new epoch: it is written down, then told. Who has got a place had its lease begin now.
    fn tell(&mut self, now_ns: u64, before: &Layout, wishes: &mut Wishes<ChainCatalog>) {
        assert!(self.layout.epoch > before.epoch, "every change is a new epoch");
        for member in self.layout.serving() {
            let served = before.member(member.node).is_some_and(|was| was.state == MemberState::Serving);
            if !served {
                self.heard_ns.insert(member.node, now_ns);
            }
        }
        wishes.record = Some(CatalogRecord(self.layout.clone()));
        self.say_to_all(wishes);
    }

    fn say_to_all(&self, wishes: &mut Wishes<ChainCatalog>) {
        wishes.messages.extend(self.config.members.iter().map(|member| (*member, self.assignment())));
    }

    fn assignment(&self) -> Message {
        self.message(Body::Assign { members: self.layout.members.clone() })
    }

    fn message(&self, body: Body) -> Message {
        Message { group: self.config.group, epoch: self.layout.epoch, body }
    }
}
