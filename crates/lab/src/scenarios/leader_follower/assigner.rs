//! A catalog in small: seals, collects, chooses, activates, and renews the leader's lease.
//!
//! It is one process with a disk, where the real catalog is a Raft group; what it may do is the same. It never lets two members serve: a
//! new epoch is active only once the old leader is sealed, or its lease has run out by the catalog's clock, drift included.

use std::collections::BTreeMap;

use bytes::Bytes;
use keypact_log::Position;
use keypact_protocol::{DecodeError, NodeId, Wire};
use keypact_replication::leader_follower::{Body, CATALOG, Config, LeaderFollower, Message};

use crate::scenarios::seat::{Catalog, Way, Wishes};

/// What the assigner is told, in every life.
#[derive(Clone, Debug)]
pub struct AssignerConfig {
    /// The group.
    pub members: Vec<NodeId>,
    /// How many followers acknowledge.
    pub acks: usize,
    /// The first epoch.
    pub epoch: u64,
    /// And its leader.
    pub leader: NodeId,
    /// How long a lease is, nanoseconds.
    pub lease_ns: u64,
    /// How much faster one clock may run than another, parts per million.
    pub drift_bound_ppm: u64,
}

impl AssignerConfig {
    /// For how long after its last grant the holder may still serve, by this clock.
    fn lease_over_ns(&self) -> u64 {
        self.lease_ns + self.lease_ns / 1_000_000 * self.drift_bound_ppm + 1
    }
}

/// What the assigner must not forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AssignerRecord {
    /// This epoch is being prepared; `old` led before.
    Sealing {
        /// The new epoch.
        epoch: u64,
        /// The leader of the epoch before.
        old: NodeId,
    },
    /// This epoch begins.
    Assigned {
        /// The epoch.
        epoch: u64,
        /// Its leader.
        leader: NodeId,
    },
}

impl Wire for AssignerRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, epoch, node) = match *self {
            AssignerRecord::Sealing { epoch, old } => (0, epoch, old),
            AssignerRecord::Assigned { epoch, leader } => (1, epoch, leader),
        };
        out.push(kind);
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&node.0.to_le_bytes());
    }

    fn decode(bytes: Bytes) -> Result<AssignerRecord, DecodeError> {
        let body: &[u8; 17] =
            bytes.as_ref().try_into().map_err(|_| DecodeError::new("an assigner's record"))?;
        let number = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        let (epoch, node) = (number(1), NodeId(number(9)));
        match body[0] {
            0 => Ok(AssignerRecord::Sealing { epoch, old: node }),
            1 => Ok(AssignerRecord::Assigned { epoch, leader: node }),
            _ => Err(DecodeError::new("an assigner's record's kind")),
        }
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Active {
        epoch: u64,
        leader: NodeId,
        last_grant_ns: u64,
        heard_ns: u64,
    },
    Sealing {
        epoch: u64,
        old: NodeId,
        lease_over_ns: u64,
        since_ns: u64,
        reports: BTreeMap<NodeId, Position>,
    },
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Assigner {
    config: AssignerConfig,
    phase: Phase,
    /// Promotions since the start of this life; of them such that may have lost what was acknowledged.
    pub(super) promotions: u64,
    pub(super) unsafe_promotions: u64,
    pub(super) leases_waited_out: u64,
}

impl Catalog for Assigner {
    type Member = LeaderFollower;
    type Config = AssignerConfig;
    type Kept = AssignerRecord;

    const NODE: NodeId = CATALOG;

    fn new(config: AssignerConfig) -> Assigner {
        let (epoch, leader) = (config.epoch, config.leader);
        let phase = Phase::Active { epoch, leader, last_grant_ns: 0, heard_ns: 0 };
        Assigner { config, phase, promotions: 0, unsafe_promotions: 0, leases_waited_out: 0 }
    }

    fn tick_ns(config: &AssignerConfig) -> u64 {
        config.lease_ns / 5
    }

    fn member_id(config: &Config) -> NodeId {
        config.id
    }

    fn way(message: &Message) -> Way {
        match message.body {
            Body::Sealed { .. } | Body::Renew { .. } => Way::ToCatalog,
            Body::Seal | Body::Assign { .. } | Body::Grant { .. } => Way::FromCatalog,
            _ => Way::Between,
        }
    }

    fn replay(&mut self, record: AssignerRecord) {
        self.phase = match record {
            AssignerRecord::Sealing { epoch, old } => {
                Phase::Sealing { epoch, old, lease_over_ns: 0, since_ns: 0, reports: BTreeMap::new() }
            }
            AssignerRecord::Assigned { epoch, leader } => {
                Phase::Active { epoch, leader, last_grant_ns: 0, heard_ns: 0 }
            }
        };
    }

    /// It does not remember when it last renewed a lease: as if just now.
    fn start(&mut self, now_ns: u64) {
        let over_ns = now_ns + self.config.lease_over_ns();
        match &mut self.phase {
            Phase::Active { last_grant_ns, heard_ns, .. } => (*last_grant_ns, *heard_ns) = (now_ns, now_ns),
            Phase::Sealing { lease_over_ns, since_ns, .. } => (*lease_over_ns, *since_ns) = (over_ns, now_ns),
        }
    }

    fn tick(&mut self, now_ns: u64) -> Wishes<Assigner> {
        let mut wishes = Wishes::default();
        match &self.phase {
            Phase::Active { epoch, leader, last_grant_ns, heard_ns } => {
                if now_ns.saturating_sub(*heard_ns) > self.config.lease_ns {
                    // Missed renewals are the failure detector.
                    let (epoch, old) = (epoch + 1, *leader);
                    wishes.record = Some(AssignerRecord::Sealing { epoch, old });
                    self.phase = Phase::Sealing {
                        epoch,
                        old,
                        lease_over_ns: last_grant_ns + self.config.lease_over_ns(),
                        since_ns: now_ns,
                        reports: BTreeMap::new(),
                    };
                    self.say_to_all(epoch, &Body::Seal, &mut wishes);
                } else {
                    self.say_to_all(*epoch, &Body::Assign { leader: *leader }, &mut wishes);
                }
            }
            Phase::Sealing { epoch, reports, .. } => {
                let silent = self.config.members.iter().filter(|member| !reports.contains_key(member));
                let seal = Message { epoch: *epoch, body: Body::Seal };
                wishes.messages.extend(silent.map(|member| (*member, seal.clone())));
                self.choose(now_ns, &mut wishes);
            }
        }
        wishes
    }

    fn hear(&mut self, from: NodeId, message: &Message, now_ns: u64) -> Wishes<Assigner> {
        let mut wishes = Wishes::default();
        let lease_ns = self.config.lease_ns;
        match (&mut self.phase, &message.body) {
            (Phase::Active { epoch, leader, last_grant_ns, heard_ns }, Body::Renew { sent_ns })
                if message.epoch == *epoch && from == *leader =>
            {
                (*last_grant_ns, *heard_ns) = (now_ns, now_ns);
                let body = Body::Grant { sent_ns: *sent_ns, lease_ns };
                wishes.messages.push((from, Message { epoch: *epoch, body }));
            }
            (Phase::Sealing { epoch, reports, .. }, Body::Sealed { last }) if message.epoch == *epoch => {
                reports.insert(from, *last);
                self.choose(now_ns, &mut wishes);
            }
            _ => {}
        }
        wishes
    }
}

impl Assigner {
    fn say_to_all(&self, epoch: u64, body: &Body, wishes: &mut Wishes<Assigner>) {
        let message = Message { epoch, body: body.clone() };
        wishes.messages.extend(self.config.members.iter().map(|member| (*member, message.clone())));
    }

    /// Promotes the most advanced, once enough are sealed and the old leader can't serve.
    fn choose(&mut self, now_ns: u64, wishes: &mut Wishes<Assigner>) {
        let Phase::Sealing { epoch, old, lease_over_ns, since_ns, reports } = &self.phase else { return };
        let members = self.config.members.len();
        let safe = reports.len() >= members - self.config.acks;
        // Without acknowledgements there is nothing to wait for but the members that can be had.
        let patient = now_ns.saturating_sub(*since_ns) <= self.config.lease_ns;
        let enough = safe || (self.config.acks == 0 && !patient);
        let silenced = reports.contains_key(old);
        if !enough || !(silenced || now_ns >= *lease_over_ns) {
            return;
        }
        let best = reports.iter().max_by_key(|(_, last)| (last.term, last.index));
        let Some((leader, _)) = best else { return };
        let (epoch, leader) = (*epoch, *leader);
        assert!(safe || self.config.acks == 0, "with acknowledgements no promotion may lose any");
        self.promotions += 1;
        self.unsafe_promotions += u64::from(!safe);
        self.leases_waited_out += u64::from(!silenced);
        wishes.record = Some(AssignerRecord::Assigned { epoch, leader });
        self.phase = Phase::Active { epoch, leader, last_grant_ns: now_ns, heard_ns: now_ns };
        self.say_to_all(epoch, &Body::Assign { leader }, wishes);
    }
}
