//! A catalog in small: seals, collects, chooses, activates, renews the leader's lease, and keeps the account of what was lost.
//!
//! It is one process with a disk, where the real catalog is a Raft group; what it may do is the same. It never lets two members serve: a
//! new epoch is active only once the old leader is sealed, or its lease has run out by the catalog's clock, drift included. What is to be
//! decided is decided by [`Succession`]; here are only the clock and the messages.

use std::collections::BTreeSet;

use keypact_protocol::NodeId;
use keypact_replication::leader_follower::{
    Body, CATALOG, Choice, Config, LeaderFollower, Message, Succession, SuccessionConfig,
};

use crate::scenarios::seat::{Catalog, Way, Wishes};

/// What the assigner is told, in every life.
#[derive(Clone, Debug)]
pub struct AssignerConfig {
    /// The group.
    pub group: SuccessionConfig,
    /// How long a lease is, nanoseconds.
    pub lease_ns: u64,
    /// How much faster one clock may run than another, parts per million.
    pub drift_bound_ppm: u64,
    /// When an operator's patience ends: a promotion that may lose what was acknowledged is then forced, nanoseconds after the sealing began. `None`:
    /// never.
    pub force_after_ns: Option<u64>,
}

impl AssignerConfig {
    /// For how long after its last grant the holder may still serve, by this clock.
    fn lease_over_ns(&self) -> u64 {
        self.lease_ns + self.lease_ns / 1_000_000 * self.drift_bound_ppm + 1
    }
}

/// What was reached in this life.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Reached {
    pub(super) promotions: u64,
    pub(super) forced: u64,
    pub(super) leases_waited_out: u64,
    pub(super) resigned: u64,
    pub(super) waited_for_members: u64,
    pub(super) tails_noted: u64,
    pub(super) allowed_more: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Assigner {
    config: AssignerConfig,
    group: Succession,
    last_grant_ns: u64,
    heard_ns: u64,
    /// Of a sealing: when the old leader can't serve any more, and when the sealing began.
    lease_over_ns: u64,
    since_ns: u64,
    /// Who was heard of in the present epoch.
    known: BTreeSet<NodeId>,
    pub(super) reached: Reached,
}

impl Catalog for Assigner {
    type Member = LeaderFollower;
    type Config = AssignerConfig;
    type Kept = Succession;

    const NODE: NodeId = CATALOG;

    fn new(config: AssignerConfig) -> Assigner {
        Assigner {
            group: Succession::new(config.group.clone()),
            config,
            last_grant_ns: 0,
            heard_ns: 0,
            lease_over_ns: 0,
            since_ns: 0,
            known: BTreeSet::new(),
            reached: Reached::default(),
        }
    }

    fn tick_ns(config: &AssignerConfig) -> u64 {
        config.lease_ns / 5
    }

    fn member_id(config: &Config) -> NodeId {
        config.id
    }

    fn way(message: &Message) -> Way {
        match message.body {
            Body::Sealed { .. } | Body::Renew { .. } | Body::Tail { .. } | Body::Resigned => Way::ToCatalog,
            Body::Seal | Body::Assign { .. } | Body::Grant { .. } | Body::Noted { .. } => Way::FromCatalog,
            _ => Way::Between,
        }
    }

    fn replay(&mut self, kept: Succession) {
        self.group = kept;
    }

    /// It does not remember when it last renewed a lease: as if just now.
    fn start(&mut self, now_ns: u64) {
        (self.last_grant_ns, self.heard_ns, self.since_ns) = (now_ns, now_ns, now_ns);
        self.lease_over_ns = now_ns + self.config.lease_over_ns();
    }

    fn tick(&mut self, now_ns: u64) -> Wishes<Assigner> {
        let mut wishes = Wishes::default();
        if let Some(sealing) = self.group.sealing() {
            let silent = self.config.group.members.iter().filter(|member| !sealing.has(**member));
            let seal = Message { epoch: sealing.epoch, body: Body::Seal };
            wishes.messages.extend(silent.map(|member| (*member, seal.clone())));
            self.choose(now_ns, &mut wishes);
        } else if now_ns.saturating_sub(self.heard_ns) > self.config.lease_ns {
            // Missed renewals are the failure detector.
            self.seal(self.last_grant_ns + self.config.lease_over_ns(), now_ns, &mut wishes);
        } else {
            self.assign(&mut wishes);
            let epoch = self.group.current().epoch;
            let silent = self.config.group.members.iter().filter(|member| !self.known.contains(member));
            // Whoever was away when the others were sealed says now how far it had come.
            let silent = silent.filter(|_| epoch > self.config.group.epoch);
            wishes.messages.extend(silent.map(|member| (*member, Message { epoch, body: Body::Seal })));
        }
        wishes
    }

    fn hear(&mut self, from: NodeId, message: &Message, now_ns: u64) -> Wishes<Assigner> {
        let mut wishes = Wishes::default();
        let epoch = message.epoch;
        match &message.body {
            Body::Renew { sent_ns, last } => self.renew(from, epoch, (*sent_ns, *last), now_ns, &mut wishes),
            Body::Sealed { last, visible } => {
                if self.group.sealed(from, epoch, *last, *visible) {
                    self.keep(&mut wishes);
                }
                if self.group.sealing().is_some() {
                    self.choose(now_ns, &mut wishes);
                } else if epoch == self.group.current().epoch {
                    self.known.insert(from);
                }
            }
            Body::Tail { last, entries, .. } => {
                let Some(news) = self.group.tail(from, epoch, *last, entries) else { return wishes };
                if news {
                    self.keep(&mut wishes);
                }
                self.reached.tails_noted += 1;
                wishes.messages.push((
                    from,
                    Message { epoch, body: Body::Noted { last: *last, kept: self.group.kept(*last) } },
                ));
            }
            Body::Resigned => {
                let current = self.group.current();
                if self.group.sealing().is_none() && (current.epoch, current.leader) == (epoch, from) {
                    // The life that had the lease is over.
                    self.reached.resigned += 1;
                    self.seal(now_ns, now_ns, &mut wishes);
                }
            }
            _ => {}
        }
        wishes
    }
}

impl Assigner {
    /// What it knows of the group.
    #[must_use]
    pub fn group(&self) -> &Succession {
        &self.group
    }

    fn keep(&self, wishes: &mut Wishes<Assigner>) {
        wishes.record = Some(self.group.clone());
    }

    fn say_to_all(&self, epoch: u64, body: &Body, wishes: &mut Wishes<Assigner>) {
        let message = Message { epoch, body: body.clone() };
        wishes.messages.extend(self.config.group.members.iter().map(|member| (*member, message.clone())));
    }

    fn assign(&self, wishes: &mut Wishes<Assigner>) {
        let current = self.group.current();
        let body = Body::Assign { leader: current.leader, after: current.after };
        self.say_to_all(current.epoch, &body, wishes);
    }

    fn seal(&mut self, lease_over_ns: u64, now_ns: u64, wishes: &mut Wishes<Assigner>) {
        let epoch = self.group.begin_sealing();
        (self.lease_over_ns, self.since_ns) = (lease_over_ns, now_ns);
        self.keep(wishes);
        self.say_to_all(epoch, &Body::Seal, wishes);
    }

    fn renew(
        &mut self,
        from: NodeId,
        epoch: u64,
        (sent_ns, last): (u64, u64),
        now_ns: u64,
        wishes: &mut Wishes<Assigner>,
    ) {
        let Some((allowed, news)) = self.group.renewed(from, epoch, last) else { return };
        (self.last_grant_ns, self.heard_ns) = (now_ns, now_ns);
        if news {
            self.reached.allowed_more += 1;
            self.keep(wishes);
        }
        let body = Body::Grant { sent_ns, lease_ns: self.config.lease_ns, allowed };
        wishes.messages.push((from, Message { epoch, body }));
    }

    /// Promotes the most advanced, once enough are sealed and the old leader can't serve.
    fn choose(&mut self, now_ns: u64, wishes: &mut Wishes<Assigner>) {
        let old = self.group.current().leader;
        let silenced = self.group.sealing().is_some_and(|sealing| sealing.has(old));
        if !silenced && now_ns < self.lease_over_ns {
            return;
        }
        let waited_ns = now_ns.saturating_sub(self.since_ns);
        let forces = self.config.force_after_ns.is_some_and(|after_ns| waited_ns > after_ns);
        let heard: BTreeSet<NodeId> = match self.group.sealing() {
            Some(sealing) => self.config.group.members.iter().filter(|m| sealing.has(**m)).copied().collect(),
            None => return,
        };
        let safe = self.group.choose(Choice::Safe);
        let chosen = if forces { safe.or_else(|_| self.group.choose(Choice::Forced)) } else { safe };
        let Ok(chosen) = chosen else {
            self.reached.waited_for_members += 1;
            return;
        };
        self.reached.promotions += 1;
        self.reached.forced += u64::from(chosen.forced);
        self.reached.leases_waited_out += u64::from(!silenced);
        self.known = heard;
        (self.last_grant_ns, self.heard_ns) = (now_ns, now_ns);
        self.keep(wishes);
        self.assign(wishes);
    }
}
