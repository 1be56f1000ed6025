//! Who is in the group, and where a newcomer begins.

use keypact_protocol::{Context, NodeId, Sink};

use super::streams::check_union;
use super::{Body, Broadcast, Jump, Order, Record, TooManyStreams, View};
use crate::clock::{Dot, VectorClock};

impl<O: Order> Broadcast<O> {
    /// Takes over a newer view, from whomever it comes: its number says that the catalog made it.
    pub(super) fn on_view(&mut self, view: View, context: Context, out: &mut impl Sink<Self>) {
        if view.number <= self.view.number {
            let contradicts = view.number == self.view.number && view != self.view;
            self.counters.refused_views += u64::from(contradicts);
            return;
        }
        self.append(Record::View(view.clone()), out);
        self.view = view;
        self.counters.views += 1;
        self.pace.quiet = 0;
        // Some may wait for what only left members have; the others come again.
        self.held_back.clear();
        self.asked.clear();
        self.gone.clear();
        let view = &self.view;
        // Who comes back says anew what it holds: in between it could have become another.
        self.peers.retain(|peer, _| view.has(*peer));
        self.forget_held_by_all();
        assert!(self.peers.len() <= self.view.members.len(), "only members are peers");
        self.say_status(out);
        self.set_timer(context.now_ns, out);
    }

    /// Two that are in different views: the older one's is told the newer.
    pub(super) fn compare_views(&mut self, from: NodeId, theirs: u64, out: &mut impl Sink<Self>) {
        if theirs < self.view.number {
            out.send(from, Body::View(self.view.clone()));
        } else {
            // Early: it says nothing but a number that was true.
            out.send_early(from, Body::Status { view: self.view.number, holds: VectorClock::new() });
        }
    }

    pub(super) fn ask_to_join(&mut self, out: &mut impl Sink<Self>) {
        assert!(!self.joined, "who is in does not ask");
        let others = self.others().count() as u64;
        if others == 0 {
            return;
        }
        let turn = (self.pace.round % others) as usize;
        let member = self.others().nth(turn).expect("counted above");
        // Early: a question.
        out.send_early(member, Body::Join);
    }

    pub(super) fn on_join(&mut self, from: NodeId, out: &mut impl Sink<Self>) {
        if !self.joined {
            return;
        }
        self.counters.welcomed += 1;
        // Nothing after this is forgotten here: `from` is in the view and has not said that it holds anything.
        out.send(from, Body::Welcome { holds: self.delivered.clone() });
    }

    /// Begins where a member is.
    pub(super) fn on_welcome(
        &mut self,
        from: NodeId,
        holds: &VectorClock,
        context: Context,
        out: &mut impl Sink<Self>,
    ) -> Result<(), TooManyStreams> {
        self.note_held(from, holds)?;
        if self.joined {
            // An answer that came late: by now a jump would pass over what is on its way.
            return Ok(());
        }
        self.begin_anew(holds, context, out)
    }

    /// A member does not have what is missing here. It may have jumped over it, or lack it, too; but if nobody has it any more, they were
    /// members when this one was not, and it begins anew where one of them is.
    pub(super) fn on_gone(
        &mut self,
        from: NodeId,
        dot: Dot,
        holds: &VectorClock,
        context: Context,
        out: &mut impl Sink<Self>,
    ) -> Result<(), TooManyStreams> {
        self.note_held(from, holds)?;
        let is_first_missing = self.delivered.is_next(dot) && dot.replica != self.me;
        if is_first_missing && let Some(to) = self.note_gone(from, dot)? {
            self.begin_anew(&to, context, out)?;
        }
        Ok(())
    }

    fn begin_anew(
        &mut self,
        to: &VectorClock,
        context: Context,
        out: &mut impl Sink<Self>,
    ) -> Result<(), TooManyStreams> {
        check_union(&self.delivered, to)?;
        self.joined = true;
        self.delivered.merge(to);
        self.own = self.own.max(to.get(self.me));
        let jump = Jump { after_index: self.index, to: self.delivered.clone() };
        self.append(Record::Jumped(jump.clone()), out);
        self.jump = Some(jump);
        self.counters.jumps += 1;
        self.gone.clear();
        let delivered = &self.delivered;
        self.held_back.retain(|dot, _| !delivered.contains(*dot));
        assert!(self.delivered.contains_all(to), "what was jumped over counts as delivered");
        self.pace.quiet = 0;
        self.pace.news = true;
        self.say_status(out);
        self.set_timer(context.now_ns, out);
        Ok(())
    }
}
