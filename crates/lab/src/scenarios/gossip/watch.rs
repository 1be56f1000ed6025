//! The watch over all of it: the ledger, the copies, the invariants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::NodeId;
use keypact_replication::gossip::{Body, GossipInvariants, Message, View};
use keypact_simulator::{ClientId, Counters, MachineOutcome, MachineReply, Observer, RecordDisk, Violation};

use super::copies::Copies;
use super::roll::Roll;
use super::shelf::Shelf;
use super::{Process, Seat};
use crate::scenarios::crdt::ledger::Ledger;

/// What was done, where it is, and what of it was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) ledger: Ledger,
    pub(super) copies: Copies,
    /// The event of each write, by its token.
    events: BTreeMap<u64, Dot>,
    acknowledged: BTreeMap<u64, Dot>,
}

impl Book {
    /// Judges what a replica shows, against the events that it has applied: those too whose names were dropped.
    fn check_map(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol().member();
        let forgotten = self.copies.forgotten_by(member.view().number);
        if !member.serves() && !forgotten.is_empty() {
            // A newcomer has them once it has what a member had.
            return Ok(());
        }
        let applied = member.version().union(&forgotten);
        self.ledger.check_applied(node, member.state().map(), &applied)
    }

    /// Judges the end: all replicas show this.
    ///
    /// # Errors
    /// Something acknowledged is not there, or something shows that no event says.
    pub(crate) fn check_end(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol().member();
        self.check_map(node, process)?;
        for (token, dot) in &self.acknowledged {
            if !member.version().contains(*dot) && !self.copies.may_lack(*dot) {
                let detail = format!("{node} lacks {dot} of acknowledged write {token}");
                return Err(Violation::new("acknowledged-survives", detail));
            }
        }
        Ok(())
    }
}

/// What should be reached over many seeds.
pub(crate) const SOMETIMES: [&str; 33] = [
    "deltas-sent",
    "deltas-joined",
    "delta-known-already",
    "cut-to-budget",
    "idle-round",
    "transfer-in-parts",
    "transfer-joined",
    "transfer-ended",
    "transfer-given-up",
    "acknowledged-by-peers",
    "uncertain",
    "view-entered",
    "re-entered",
    "unspread-dropped",
    "caught-up",
    "identity-forgotten",
    "checkpoint-asked",
    "stamp-refused",
    "stale-view-refused",
    "stranger-refused",
    "not-serving-refused",
    "no-room-refused",
    "expelled",
    "left-after-draining",
    "admitted",
    "roster-forgot",
    "acknowledged-lost",
    "name-dropped",
    "add-won",
    "values-side-by-side",
    "states-evaluated",
    "forgotten-unheard",
    "writes",
];

/// Feeds the book, and has it judge.
#[derive(Debug)]
pub(crate) struct GossipWatch {
    acks: usize,
    every: u64,
    book: Rc<RefCell<Book>>,
    invariants: GossipInvariants,
    /// Of each node: how much of what it made was noted, its view, and what it had applied.
    seen: BTreeMap<NodeId, (usize, u64, DotContext)>,
    /// How many had left after draining, and the view, when the catalog was looked at last.
    catalog: Option<(u64, View)>,
    changes: u64,
    reached: BTreeMap<&'static str, u64>,
}

impl GossipWatch {
    /// Watches a group; every so many changes a state is evaluated.
    #[must_use]
    pub(crate) fn new(acks: usize, every: u64, book: Rc<RefCell<Book>>) -> GossipWatch {
        GossipWatch {
            acks,
            every,
            book,
            invariants: GossipInvariants::default(),
            seen: BTreeMap::new(),
            catalog: None,
            changes: 0,
            reached: BTreeMap::new(),
        }
    }

    /// Names that a view ordered to be dropped.
    fn note_view(&mut self, node: NodeId, process: &Process) {
        let member = process.protocol().member();
        let view = member.view();
        let seen = self.seen.entry(node).or_default();
        let mut book = self.book.borrow_mut();
        // Who is out drops nothing.
        let due = view.forgets.iter().filter(|forget| forget.view > seen.1 && member.serves());
        for forget in due {
            let names: DotContext = seen.2.spans().filter(|span| span.replica == forget.replica).collect();
            book.copies.forgotten(forget.view, &names);
        }
        seen.1 = view.number;
    }

    fn note_made(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol().member();
        let made = member.state().made();
        let noted = &mut self.seen.entry(node).or_default().0;
        let mut book = self.book.borrow_mut();
        for made in &made[*noted..] {
            let mut made = made.clone();
            made.seen.merge(&book.copies.forgotten_by(member.view().number));
            book.ledger.made(&made)?;
            if made.counter > 0 {
                book.events.insert(made.token, Dot::new(made.replica, made.counter));
            }
        }
        *noted = made.len();
        Ok(())
    }

    /// Who leaves after draining leaves nothing that nobody else has had.
    fn check_left(&mut self, process: &Process) -> Result<(), Violation> {
        let Some(roll) = process.protocol().catalog() else { return Ok(()) };
        let (left, view) = (roll.roster.left, roll.roster.view());
        let Some((left_before, before)) = self.catalog.replace((left, view.clone())) else { return Ok(()) };
        let gone = before.members.iter().filter(|row| row.draining && !view.has_replica(row.replica));
        if left.checked_sub(left_before) != Some(gone.clone().count() as u64) {
            // A catalog that began anew, or one that drained was silent for too long.
            return Ok(());
        }
        for row in gone {
            let only = self.book.borrow().copies.only_at(row.node, row.replica);
            // What the catalog's own node reports is no message: what it has applied counts.
            let missing = only.difference(process.protocol().member().version());
            if !missing.is_empty() {
                let detail = format!("{} leaves with {missing:?}, which nobody else has", row.node);
                return Err(Violation::new("drained-is-covered", detail));
            }
        }
        Ok(())
    }

    fn look(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        self.check_left(process)?;
        self.note_view(node, process);
        self.note_made(node, process)?;
        let member = process.protocol().member();
        let settled = process.gate().is_open();
        self.invariants
            .check(node, member, settled)
            .map_err(|violation| Violation::new(violation.property, violation.detail))?;
        let seen = self.seen.entry(node).or_default();
        let mut book = self.book.borrow_mut();
        if settled {
            book.copies.replica(node, member.replica());
            if member.replica().is_some() {
                book.copies.durable(node, member.version());
            }
            if member.held_len() == 0 && process.machine() != member.state() {
                let detail = format!("{node}: {:?} and {:?}", process.machine().map(), member.state().map());
                return Err(Violation::new("the-parent-has-the-same", detail));
            }
        }
        if seen.2 == *member.version() {
            return Ok(());
        }
        seen.2.clone_from(member.version());
        self.changes += 1;
        if self.changes.is_multiple_of(self.every) { book.check_map(node, process) } else { Ok(()) }
    }

    fn add(&mut self, name: &'static str, count: u64) {
        *self.reached.entry(name).or_default() += count;
    }
}

impl Observer<Process> for GossipWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        disk: &RecordDisk<Seat<Roll>>,
    ) -> Result<(), Violation> {
        let member = process.protocol().member();
        self.seen.entry(node).or_default().0 = 0;
        self.invariants.restarted(node);
        {
            let mut book = self.book.borrow_mut();
            book.copies.losses(node, disk.losses());
            if let Some(replica) = member.replica() {
                book.ledger.kept(replica, member.version().max(replica));
            }
        }
        self.look(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Seat<Roll>>,
    ) -> Result<(), Violation> {
        self.look(node, process)
    }

    fn sent(&mut self, _: u64, from: NodeId, _to: NodeId, message: &Message) -> Result<(), Violation> {
        // Both leave once all of it is on the disk.
        if let Body::Digest { version, .. } | Body::Report { version, .. } = &message.body {
            let present = self.seen.get(&from).is_some_and(|seen| seen.1 == message.view);
            self.book.borrow_mut().copies.said(from, version, present);
        }
        Ok(())
    }

    fn replied(
        &mut self,
        _: u64,
        node: NodeId,
        _: ClientId,
        reply: &MachineReply<Shelf>,
    ) -> Result<(), Violation> {
        let mut book = self.book.borrow_mut();
        let done = matches!(reply.outcome, MachineOutcome::Done(_));
        let Some(dot) = book.events.get(&reply.token).copied().filter(|_| done) else { return Ok(()) };
        book.acknowledged.insert(reply.token, dot);
        book.copies.acknowledged(node, dot);
        let copies = book.copies.count(dot);
        if copies <= self.acks {
            let detail = format!("{node} acknowledges {dot}, which is on {copies} disks");
            return Err(Violation::new("acknowledged-is-copied", detail));
        }
        Ok(())
    }

    fn crashed(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        disk: &RecordDisk<Seat<Roll>>,
    ) -> Result<(), Violation> {
        self.book.borrow_mut().copies.losses(node, disk.losses());
        Ok(())
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        let seat = process.protocol();
        let life = *seat.member().counters();
        let counted = [
            ("deltas-sent", life.deltas_sent),
            ("deltas-joined", life.deltas_applied),
            ("delta-known-already", life.redundant),
            ("cut-to-budget", life.cut_to_budget),
            ("idle-round", life.idle_rounds),
            ("transfer-in-parts", life.transfers_in_parts),
            ("transfer-joined", life.transfers_joined),
            ("transfer-ended", life.transfers_ended),
            ("transfer-given-up", life.transfers_given_up),
            ("acknowledged-by-peers", life.acknowledged),
            ("uncertain", life.uncertain),
            ("view-entered", life.views),
            ("re-entered", life.reentered),
            ("unspread-dropped", life.unspread),
            ("caught-up", life.caught_up),
            ("identity-forgotten", life.forgotten),
            ("checkpoint-asked", life.checkpoints),
            ("stamp-refused", life.stamps_refused),
            ("stale-view-refused", life.refused_stale),
            ("stranger-refused", life.refused_strangers),
            ("not-serving-refused", life.refused_not_serving),
            ("no-room-refused", life.refused_full),
            ("writes", life.writes),
        ];
        counted.into_iter().for_each(|(name, count)| self.add(name, count));
        if let Some(roll) = seat.catalog() {
            let roster = &roll.roster;
            let counted = [
                ("expelled", roster.expelled),
                ("left-after-draining", roster.left),
                ("admitted", roster.admitted),
                ("roster-forgot", roster.forgotten),
            ];
            counted.into_iter().for_each(|(name, count)| self.add(name, count));
        }
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in &self.reached {
            counters.add(name, *count);
        }
        let book = self.book.borrow();
        let missing = book.acknowledged.values().filter(|dot| book.copies.is_lost(**dot));
        counters.add("acknowledged-lost", missing.count() as u64);
        counters.add("name-dropped", book.copies.forgotten_count());
        let reached = &book.ledger.reached;
        counters.add("add-won", reached.add_won);
        counters.add("values-side-by-side", reached.siblings);
        counters.add("states-evaluated", reached.evaluated);
        counters.add("forgotten-unheard", reached.forgotten);
    }
}
