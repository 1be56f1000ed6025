//! Views: who is in, under which identity, and what may be forgotten.

use alloc::vec::Vec;

use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::{NodeId, Sink};

use super::change::{Change, Replicated};
use super::config::{FORGETS_MAX, ns};
use super::{Ask, Body, CATALOG, Gossip, Member, Record, Timer, View};

/// Identities of which nothing lives here, and for which version and view that was found out.
#[derive(Debug, Default)]
pub(super) struct Spent {
    of: Option<(u64, DotContext)>,
    replicas: Vec<ReplicaId>,
}

impl<L: Replicated> Gossip<L> {
    /// The own row, if the view means this folder of the node.
    pub(super) fn row(&self) -> Option<&Member> {
        self.view.row(self.config.id).filter(|row| row.folder == self.folder)
    }

    /// Takes over a newer view, from whomever it comes: its number says that the catalog made it.
    pub(super) fn on_view(&mut self, view: View, out: &mut impl Sink<Self>) {
        if view.number <= self.view.number {
            let contradicts = view.number == self.view.number && view != self.view;
            self.counters.refused_views += u64::from(contradicts);
            return;
        }
        if !self.held.is_empty() && self.held.len() + view.forgets.len() > self.config.held_max {
            // What it changes has its place behind what waits. It comes again.
            self.counters.refused_full += 1;
            return;
        }
        let bytes = 16 * view.members.len();
        self.append(Record::View { index: self.index, view: view.clone() }, bytes, out);
        let was_out = self.replica;
        let changes = self.enter(view);
        self.counters.views += 1;
        if self.replica != was_out {
            self.give_up_held(out);
        }
        for change in changes {
            self.index += 1;
            self.give(self.index, change, None, None, out);
        }
        self.pace.news();
        assert!(!self.serving || self.row().is_some(), "who serves is in its view");
    }

    /// What entering a view does to the state. Does the same when it is replayed.
    pub(super) fn enter(&mut self, view: View) -> Vec<Change> {
        assert!(view.number > self.view.number, "views are entered in order");
        let before = core::mem::replace(&mut self.view, view).number;
        // Deltas under way are made for the versions of another view.
        self.fresh.clear();
        self.incoming = None;
        self.outgoing.clear();
        self.target = None;
        assert!(before < self.view.number, "views are entered in order");
        let mut changes = Vec::new();
        let own = self.row().map(|row| row.replica);
        match own {
            // Out. What is here is kept, to be counted when another identity is granted; nobody is given it.
            None => self.serving = false,
            Some(replica) if self.replica != Some(replica) => {
                changes.push(Change::Reset);
                self.begin_under(replica);
            }
            Some(_) => {
                let due = self.view.forgets.iter().filter(|forget| forget.view > before);
                let due: Vec<ReplicaId> = due.map(|forget| forget.replica).collect();
                for replica in due {
                    self.state.forget(replica);
                    self.counters.forgotten += 1;
                    changes.push(Change::Forget(replica));
                }
            }
        }
        if !changes.is_empty() {
            self.recent.clear();
            self.version = self.state.version();
        }
        assert!(
            own.is_none() || self.replica == own,
            "a member counts under the identity that it was granted"
        );
        assert!(own.is_some() || !self.serving, "who is out serves nobody");
        changes
    }

    /// Begins anew with nothing: what this replica had may have been deleted meanwhile, by those who have forgotten that it was.
    fn begin_under(&mut self, replica: ReplicaId) {
        if let Some(former) = self.replica {
            self.counters.reentered += 1;
            self.counters.unspread += self.version.max(former).saturating_sub(self.spread);
        }
        self.state.reset();
        self.replica = Some(replica);
        self.serving = false;
        self.spread = 0;
        assert!(self.state.version().is_empty(), "a fresh identity begins with nothing");
    }

    /// Two that are in different views: the older one's is told the newer.
    pub(super) fn compare_views(
        &mut self,
        from: NodeId,
        theirs: u64,
        body: &Body,
        out: &mut impl Sink<Self>,
    ) {
        assert!(theirs != self.view.number, "equal views need no comparing");
        self.counters.refused_stale += 1;
        if from == CATALOG || from == self.config.id {
            return;
        }
        if theirs < self.view.number {
            // Others than digests may come by the hundred.
            if matches!(body, Body::Digest { .. }) {
                out.send(from, self.message(Body::View(self.view.clone())));
            }
        } else if self.view.place(from).is_some() || self.view.number == 0 {
            // Early: it says nothing but a number that was true.
            let body = Body::Digest { version: DotContext::new(), serving: false, ask: Ask::No };
            out.send_early(from, self.message(body));
        }
    }

    /// Serves once it has all that a member had.
    pub(super) fn serve_if_caught_up(&mut self, out: &mut impl Sink<Self>) {
        let caught_up = self.target.as_ref().is_some_and(|target| self.version.contains_all(target));
        let Some(replica) = self.row().map(|row| row.replica) else { return };
        if self.serving || !caught_up {
            return;
        }
        assert!(self.replica == Some(replica), "it caught up under the identity that it was granted");
        self.serving = true;
        self.target = None;
        self.counters.caught_up += 1;
        self.append(Record::Serving { replica }, 8, out);
    }

    pub(super) fn on_report_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        out.set_timer(Timer::Report, now_ns.saturating_add(ns(self.config.report_ms)));
        let replica = self.row().map(|row| row.replica);
        self.find_spent();
        assert!(replica.is_some() || !self.serving, "who serves has an identity");
        let body = Body::Report {
            folder: self.folder,
            replica,
            serving: self.serving,
            version: if replica.is_some() { self.version.clone() } else { DotContext::new() },
            spent: if replica.is_some() { self.spent.replicas.clone() } else { Vec::new() },
        };
        // Held until all that it speaks of is durable.
        out.send(CATALOG, self.message(body));
    }

    /// Finds the identities that are in no view any more and of whose events nothing lives. O(state), if anything changed since.
    fn find_spent(&mut self) {
        let retired = |replica: &ReplicaId| !self.view.has_replica(*replica);
        let mut replicas: Vec<ReplicaId> = self.version.spans().map(|span| span.replica).collect();
        replicas.dedup();
        replicas.retain(retired);
        if replicas.is_empty() {
            self.spent.replicas.clear();
            return;
        }
        let known = self.spent.of.as_ref();
        if known.is_some_and(|(view, version)| *view == self.view.number && *version == self.version) {
            return;
        }
        let living = self.state.living();
        replicas.retain(|replica| !living.contains(replica));
        replicas.truncate(FORGETS_MAX);
        assert!(replicas.iter().all(retired), "no member's identity is spent");
        self.spent = Spent { of: Some((self.view.number, self.version.clone())), replicas };
    }
}
