//! How nodes come and go.
//!
//! ```text
//! an operator adds a node ────────────▶ catalog: admitted under a life ───┐  each group's leader, step by step:
//! a known node asks under a later life ▶ the same                         ├─▶ an earlier life out ─▶ learner ─▶ voter
//! an operator removes a node ─────────▶ catalog: this life is over ───────┘  a life that is over: out
//! ```
//! The catalog says who shall belong to the cluster. Each group's leader compares that with its own configuration, and asks its group for the
//! next step until both agree; whether a step may be taken the group decides (`docs/decisions/0015-members-in-the-log.md`,
//! `0017-members-of-a-running-cluster.md`). A copy of the catalog that is behind delays steps, and takes none that nobody wanted: a node
//! is taken out only for a life that is over, and that stays true.
//!
//! Who can't read the catalog yet, or any more, asks its peers: nodes tell each other their [`Roster`] when they find each other, when it
//! changes, and when one asks because it follows no leader. A node with an empty folder asks to be admitted until the catalog lists it.

use keypact_coordination::raft::{Body, Change, ChangeRefusal, Message, OPERATOR, Role, Seat};
use keypact_protocol::{Context, Draft, Incarnation, Input, NodeId, RequestId};

use crate::catalog::{Catalog, CatalogCommand};
use crate::node::{CATALOG_AT, DEFAULT_AT, Node};
use crate::outside::{Outside, Traffic};
use crate::peer::PeerMessage;
use crate::pending::Pending;
use crate::replica::Machine;
use crate::roster::{GONE_MAX, NODES_MAX, Roster};
use crate::timers::TimerKey;
use crate::{CATALOG, GROUPS, Member};
use keypact_protocol::GroupId;

/// Looks at the members between two questions to the peers.
const LOOKS_BETWEEN_QUESTIONS: u32 = 3;
/// Nodes that ask to be admitted and are not known, at most.
const ASKING_MAX: usize = 16;

/// What an operator wants of a running cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// This node shall come. The catalog's leader is asked.
    Add(Member),
    /// This node shall go. The catalog's leader is asked.
    Remove(NodeId),
    /// This node shall lead that group. The group's leader is asked.
    Transfer {
        /// The group.
        group: GroupId,
        /// Its next leader.
        to: NodeId,
    },
}

/// Why an order is refused. In every case nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OrderRefusal {
    /// The group refuses, or would refuse.
    Group(ChangeRefusal),
    /// An order of before is not carried out yet.
    UnderWay,
    /// The catalog's leader has yet to write down what the cluster is made of.
    NotFounded,
    /// Another node listens at one of these addresses.
    AddressTaken {
        /// Which node.
        node: u64,
        /// Where.
        address: String,
    },
    /// That life of the node's folder is over, or was never the next.
    Incarnation {
        /// Which node.
        node: u64,
        /// The life under which it may come.
        next: u64,
    },
    /// The node is known and comes back by itself under its next life.
    Known {
        /// Which node.
        node: u64,
    },
    /// A node needs an id from 1 on, and three addresses.
    Malformed,
    /// No such group.
    NoGroup,
}

impl core::fmt::Display for OrderRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OrderRefusal::Group(refusal) => refusal.fmt(f),
            OrderRefusal::UnderWay => f.write_str("another change is under way; try again"),
            OrderRefusal::NotFounded => f.write_str("the cluster has just been formed; try again"),
            OrderRefusal::AddressTaken { node, address } => write!(f, "{address} is node {node}'s address"),
            OrderRefusal::Incarnation { node, next } => {
                write!(f, "node {node} can come under incarnation {next} only: its earlier ones are over")
            }
            OrderRefusal::Known { node } => write!(f, "node {node} is a member already"),
            OrderRefusal::Malformed => f.write_str("a node needs an id from 1 on, and three addresses"),
            OrderRefusal::NoGroup => f.write_str("there is no such group"),
        }
    }
}

impl core::error::Error for OrderRefusal {}

impl From<ChangeRefusal> for OrderRefusal {
    fn from(refusal: ChangeRefusal) -> OrderRefusal {
        OrderRefusal::Group(refusal)
    }
}

/// What a node knows of the members beyond its groups' configurations.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// All that it was ever told: by its settings, the catalog, its peers.
    pub(crate) roster: Roster,
    /// Nodes that ask to be admitted, and that the catalog does not know.
    asking: Vec<Member>,
    /// The entry that this node last proposed to the catalog about members.
    order: Option<RequestId>,
    looks: u32,
}

impl Members {
    /// What the settings and the catalog's checkpoint say. Who joins does not count itself: whether it belongs the catalog says.
    pub(crate) fn new(config: &crate::NodeConfig, catalog: &Catalog) -> Members {
        let own = |member: &Member| member.node_id() == config.id;
        let known = config.members.iter().filter(|member| config.founder || !own(member)).cloned();
        let mut roster = Roster::of(known.collect());
        roster.merge(catalog.roster());
        assert!(roster.nodes().len() <= config.members.len() + NODES_MAX, "members are few");
        Members { roster, ..Members::default() }
    }
}

impl Node {
    /// All that this node knows of who belongs to the cluster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.members.roster
    }

    /// Nodes that ask this one to be admitted, and whom the catalog does not know: only an operator can let them in.
    #[must_use]
    pub fn asking(&self) -> &[Member] {
        &self.members.asking
    }

    /// Whether this life of the node's folder was removed from the cluster.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.members.roster.is_gone(self.config.id, self.config.incarnation)
    }

    /// The catalog, as far as it is applied here.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        match &self.replicas[CATALOG_AT].machine {
            Machine::Catalog(catalog) => catalog,
            Machine::Data(_) => unreachable!("the catalog's replica holds the catalog"),
        }
    }

    /// Whether a peer may say something about the keyspace.
    pub(crate) fn knows(&self, peer: NodeId) -> bool {
        peer != self.config.id && self.members.roster.node(peer).is_some()
    }

    /// Carries out an operator's order, or refuses it. `Ok` means that it has begun: it is written down, or the next leader is told.
    ///
    /// # Errors
    /// [`OrderRefusal`]; nothing has changed then.
    pub fn operate(
        &mut self,
        order: &Order,
        context: Context,
        out: &mut impl Outside,
    ) -> Result<(), OrderRefusal> {
        let context = self.clocks.bound(context);
        let command = match order {
            Order::Transfer { group, to } => {
                let at = self.place_of(*group).ok_or(OrderRefusal::NoGroup)?;
                self.ask_group(at, Body::Transfer { to: *to }, context, out)?;
                self.work_off(context, out);
                return Ok(());
            }
            Order::Add(member) => self.may_add(member)?,
            Order::Remove(node) => self.may_remove(*node, context)?,
        };
        self.propose_order(&command, context, out);
        self.work_off(context, out);
        Ok(())
    }

    /// Only the catalog's leader takes orders about members, one at a time, and not before it knows what its predecessors wrote.
    fn may_order(&mut self) -> Result<(), OrderRefusal> {
        let raft = &self.replicas[CATALOG_AT].raft;
        if raft.role() != Role::Leader {
            return Err(
                ChangeRefusal::NotLeader { leader: raft.leader().map_or(0, |leader| leader.0) }.into()
            );
        }
        if raft.term_start().is_none_or(|start| raft.commit_index() < start) {
            return Err(ChangeRefusal::NotReady.into());
        }
        if !self.catalog().is_founded() {
            return Err(OrderRefusal::NotFounded);
        }
        match self.has_order() {
            true => Err(OrderRefusal::UnderWay),
            false => Ok(()),
        }
    }

    fn has_order(&mut self) -> bool {
        self.members.order = self.members.order.filter(|id| self.pending.at(*id).is_some());
        self.members.order.is_some()
    }

    fn may_add(&mut self, member: &Member) -> Result<CatalogCommand, OrderRefusal> {
        self.may_order()?;
        let addresses = [&member.resp, &member.peer, &member.http];
        if member.id == 0 || addresses.iter().any(|address| address.is_empty() || address.len() > 300) {
            return Err(OrderRefusal::Malformed);
        }
        let roster = self.catalog().roster();
        let (id, node) = (member.node_id(), member.id);
        if roster.node(id).is_some() {
            return Err(OrderRefusal::Known { node });
        }
        let next = roster.next_life(id);
        if member.incarnation < next.0 {
            return Err(OrderRefusal::Incarnation { node, next: next.0 });
        }
        for other in roster.nodes() {
            let theirs = [&other.resp, &other.peer, &other.http];
            if let Some(address) = addresses.iter().find(|address| theirs.contains(address)) {
                return Err(OrderRefusal::AddressTaken { node: other.id, address: (*address).clone() });
            }
        }
        // Room to remember each that is there as removed, or it could not be removed.
        if roster.nodes().len() >= NODES_MAX || roster.gone().len() + roster.nodes().len() >= GONE_MAX {
            return Err(ChangeRefusal::TooMany.into());
        }
        Ok(CatalogCommand::Admit { member: member.clone() })
    }

    /// Of the voters that would stay, a majority must be heard; so it is refused at once, not by the groups, which would wait for them.
    fn may_remove(&mut self, node: NodeId, context: Context) -> Result<CatalogCommand, OrderRefusal> {
        self.may_order()?;
        let Some(incarnation) = self.catalog().roster().node(node).map(|member| member.incarnation) else {
            return Err(ChangeRefusal::NotMember { node: node.0 }.into());
        };
        let raft = &self.replicas[CATALOG_AT].raft;
        let patience_ns = self.config.election_timeout_ms * 1_000_000;
        // A connection that broke says so at once, a silence later.
        let heard = |id: NodeId| {
            let lately =
                |heard_ns: u64| heard_ns + patience_ns > context.now_ns && self.reachable.contains(&id);
            id == self.config.id || raft.peers().any(|peer| peer.id == id && lately(peer.heard_ns))
        };
        let voters = raft.membership().members().iter().filter(|m| m.seat.votes() && m.id != node);
        let voters: Vec<NodeId> = voters.map(|member| member.id).collect();
        let alive = voters.iter().filter(|id| heard(**id)).count();
        let quorum = voters.len() / 2 + 1;
        if alive < quorum {
            let (alive, quorum) = (alive as u64, quorum as u64);
            return Err(ChangeRefusal::WouldLoseQuorum { alive, quorum }.into());
        }
        Ok(CatalogCommand::Dismiss { node: node.0, incarnation })
    }

    fn propose_order(&mut self, command: &CatalogCommand, context: Context, out: &mut impl Outside) {
        assert!(!self.has_order(), "one order at a time");
        let draft = Draft::copy_of(&command.encode());
        self.members.order = Some(self.propose(CATALOG_AT, Pending::Catalog, draft, context, out));
    }

    /// Speaks to a group as its operator, who is answered at once.
    fn ask_group(
        &mut self,
        at: usize,
        body: Body,
        context: Context,
        out: &mut impl Outside,
    ) -> Result<(), ChangeRefusal> {
        let message = Message { term: 0, incarnation: Incarnation(0), body };
        self.drive(at, Input::Message { from: OPERATOR, message }, context, out);
        self.take_group_answer().expect("a group answers its operator at once")
    }

    /// The look at the members: what the catalog says now, what the groups lack, whom to ask.
    pub(crate) fn tend_members(&mut self, context: Context, out: &mut impl Outside) {
        self.tend_members_later(context);
        let catalog = self.catalog().roster().clone();
        if self.members.roster.merge(&catalog) {
            self.tell_roster(out);
        }
        for at in 0..GROUPS.len() {
            self.take_step(at, &catalog, context, out);
        }
        self.members.looks += 1;
        if self.members.looks.is_multiple_of(LOOKS_BETWEEN_QUESTIONS) {
            self.ask_peers(&catalog, out);
        }
    }

    pub(crate) fn tend_members_later(&mut self, context: Context) {
        let at_ns = context.now_ns + self.config.heartbeat_ms * 2 * 1_000_000;
        self.timers.set(TimerKey::Members, at_ns);
    }

    /// Asks a group that this node leads for the next step towards what the catalog says.
    fn take_step(&mut self, at: usize, wanted: &Roster, context: Context, out: &mut impl Outside) {
        let raft = &self.replicas[at].raft;
        let membership = raft.membership();
        if raft.role() != Role::Leader || membership.is_joint() || !self.catalog().is_founded() {
            return;
        }
        // The catalog's copy here may be old, and stay so if this node was removed: who is known to be over does not come, and goes.
        let known = &self.members.roster;
        let is_over = |id, incarnation: Incarnation| {
            known.is_gone(id, incarnation) || known.node(id).is_some_and(|m| m.incarnation > incarnation.0)
        };
        let coming = wanted.nodes().iter().map(|m| (m.node_id(), Incarnation(m.incarnation)));
        let coming = coming.filter(|(id, incarnation)| !is_over(*id, *incarnation));
        let coming = coming.filter_map(|(id, incarnation)| membership.step_towards(id, incarnation));
        let going = membership.members().iter().filter(|member| known.is_gone(member.id, member.incarnation));
        let going = going.map(|member| Change::default().remove(member.id));
        let steps: Vec<Change> = coming.chain(going).collect();
        for step in steps {
            match self.ask_group(at, Body::Change(step), context, out) {
                Ok(()) => self.counters.member_steps += 1,
                // Others may be taken all the same; who goes makes room.
                Err(
                    ChangeRefusal::NotCaughtUp { .. }
                    | ChangeRefusal::WouldLoseQuorum { .. }
                    | ChangeRefusal::TooMany,
                ) => continue,
                Err(_) => {}
            }
            return;
        }
    }

    /// Whether this node shall belong, and the catalog as far as it is known here does not say so.
    fn wants_in(&self, catalog: &Roster) -> bool {
        let listed = catalog.node(self.config.id).map(|member| member.incarnation);
        !self.config.founder && !self.is_gone() && listed != Some(self.config.incarnation.0)
    }

    /// Who follows no leader asks what has become of the members; who is no member asks to be one.
    fn ask_peers(&mut self, catalog: &Roster, out: &mut impl Outside) {
        let wants_in = self.wants_in(catalog);
        if !wants_in && self.replicas.iter().all(|replica| replica.raft.leader().is_some()) {
            return;
        }
        let own = self.config.members.iter().find(|member| member.node_id() == self.config.id);
        let joins = own.filter(|_| wants_in).cloned();
        self.counters.asked_to_join += u64::from(wants_in);
        self.send_roster(None, joins, out);
    }

    /// Sends what is known of the members to one peer, or to all.
    pub(crate) fn send_roster(&mut self, to: Option<NodeId>, joins: Option<Member>, out: &mut impl Outside) {
        let roster = self.members.roster.clone();
        let peers: Vec<NodeId> = match to {
            Some(to) => vec![to],
            None => roster.nodes().iter().map(Member::node_id).filter(|id| *id != self.config.id).collect(),
        };
        for peer in peers {
            let message = PeerMessage::Members { roster: roster.clone(), joins: joins.clone() };
            out.send(peer, Traffic::Control, message);
        }
    }

    /// The roster has changed: those around and all peers are told.
    pub(crate) fn tell_roster(&mut self, out: &mut impl Outside) {
        let roster = &self.members.roster;
        out.roster_changed(roster);
        self.members.asking.retain(|member| {
            roster.next_life(member.node_id()).0 <= member.incarnation
                && roster.node(member.node_id()).is_none()
        });
        let removed: Vec<NodeId> =
            self.reachable.iter().copied().filter(|peer| roster.node(*peer).is_none()).collect();
        self.reachable.retain(|peer| roster.node(*peer).is_some());
        self.clocks.keep(|peer| roster.node(peer).is_some());
        self.send_roster(None, None, out);
        // Who was removed hears it from those who are still connected to it.
        for peer in removed {
            self.send_roster(Some(peer), None, out);
        }
    }

    /// A peer says what it knows of the members, and perhaps asks to be one.
    pub(crate) fn take_roster(
        &mut self,
        from: NodeId,
        roster: &Roster,
        joins: Option<Member>,
        context: Context,
        out: &mut impl Outside,
    ) {
        if self.members.roster.merge(roster) {
            self.tell_roster(out);
        } else if !roster.covers(&self.members.roster) {
            self.send_roster(Some(from), None, out);
        }
        if let Some(member) = joins.filter(|member| member.node_id() == from) {
            self.take_join(member, context, out);
        }
    }

    /// A node asks to belong. The catalog's leader lets in whom the catalog knows under an earlier life: its folder was lost.
    fn take_join(&mut self, member: Member, context: Context, out: &mut impl Outside) {
        let (id, incarnation) = (member.node_id(), Incarnation(member.incarnation));
        if self.members.roster.is_gone(id, incarnation) {
            return;
        }
        let known = self.catalog().roster().node(id).map(|known| known.incarnation);
        match known {
            Some(known) if known >= member.incarnation => {}
            Some(_) => {
                if self.may_order().is_ok() {
                    self.counters.readmitted += 1;
                    self.propose_order(&CatalogCommand::Admit { member }, context, out);
                }
            }
            None => {
                self.members.asking.retain(|other| other.id != member.id);
                if self.members.asking.len() < ASKING_MAX {
                    self.members.asking.push(member);
                }
            }
        }
    }

    /// Whose clocks count: those of the voters of `default`.
    pub(crate) fn follow_voters(&mut self) {
        let membership = self.replicas[DEFAULT_AT].raft.membership();
        self.clocks.follow(membership.members().iter().filter(|m| m.seat.votes()).map(|m| m.id));
    }

    /// This node's seat in a group, if it has one there under its present life.
    #[must_use]
    pub fn seat(&self, group: GroupId) -> Option<Seat> {
        self.raft(group).and_then(|raft| raft.seat())
    }

    /// Whether it votes in all groups, by configurations that are known to be committed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = |raft: &keypact_coordination::raft::Raft| {
            raft.seat() == Some(Seat::Voter) && raft.commit_index() >= raft.membership_index()
        };
        assert!(self.place_of(CATALOG).is_some(), "every node is in every group");
        self.replicas.iter().all(|replica| settled(&replica.raft))
    }
}
