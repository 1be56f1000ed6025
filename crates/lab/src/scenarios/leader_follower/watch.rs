//! What is watched while a run goes on: the group's invariants, what was acknowledged and where, and what was reached.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use keypact_log::Position;
use keypact_protocol::{Delivery, NodeId, Refusal};
use keypact_replication::leader_follower::{Counters as MemberCounters, Extent, LeaderFollowerInvariants};
use keypact_simulator::{
    ClientId, Counters, Kv, MachineOutcome, MachineReply, Observer, RecordDisk, Violation,
};

use super::board::{Members, SharedBoard, Shown, Token};
use super::sessions::note_places;
use super::spans::Spans;
use super::truth::Truth;
use super::{LeaderFollowerSeat, Process};

/// What should be reached over many seeds.
pub(super) const SOMETIMES: [&str; 36] = [
    "leader-began",
    "stepped-down",
    "stale-epoch-refused",
    "not-led-again",
    "refused-past-lease",
    "lease-read",
    "log-conflict",
    "entries-truncated",
    "applied-what-was-lost",
    "refused-while-diverged",
    "taken-back",
    "checkpoint-asked",
    "follower-left-behind",
    "snapshot-sent",
    "snapshot-taken-over",
    "tail-reported",
    "refused-past-allowance",
    "token-read",
    "token-not-yet",
    "token-lost",
    "promoted",
    "forced-promotion",
    "lease-waited-out",
    "leader-resigned",
    "waited-for-members",
    "tail-noted",
    "allowance-raised",
    "acknowledged",
    "acknowledged-and-lost",
    "loss-reported",
    "loss-listed",
    "loss-unknown",
    "staleness-known",
    "served-by-follower",
    "tail-rebuilt",
    "account-judged",
];

/// The group's invariants, and what was reached.
#[derive(Debug)]
pub struct LeaderFollowerWatch {
    invariants: LeaderFollowerInvariants,
    truth: Truth,
    spans: Spans,
    /// Where each member's log ended after its last step.
    ends: BTreeMap<NodeId, Position>,
    /// Ends of logs that the catalog has ever reported as lost, and up to where they are kept; `None` once it may have forgotten some.
    reported: Option<Vec<(Position, u64)>>,
    shown: Members,
    session_keys: Range<u64>,
    board: SharedBoard,
    reached: BTreeMap<&'static str, u64>,
}

impl LeaderFollowerWatch {
    /// A group of these members, none of which has lived yet. With `acks` > 0 nothing visible may be replaced.
    pub(super) fn new(
        members: &[NodeId],
        acks: usize,
        session_keys: Range<u64>,
        board: SharedBoard,
    ) -> LeaderFollowerWatch {
        LeaderFollowerWatch {
            invariants: LeaderFollowerInvariants::new(members, acks),
            truth: Truth::default(),
            spans: Spans::default(),
            ends: BTreeMap::new(),
            reported: Some(Vec::new()),
            shown: Members::new(),
            session_keys,
            board,
            reached: SOMETIMES.iter().map(|name| (*name, 0)).collect(),
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = NodeId> {
        self.shown.keys().copied()
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }

    pub(super) fn truth(&self) -> &Truth {
        &self.truth
    }

    fn reach(&mut self, name: &'static str, count: u64) {
        *self.reached.entry(name).or_default() += count;
    }

    fn check(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        self.invariants
            .check(node, process.protocol().member())
            .map_err(|violation| Violation { property: violation.property, detail: violation.detail })
    }

    fn note_reports(&mut self, process: &Process) {
        let Some(group) = process.protocol().catalog().map(|assigner| assigner.group()) else { return };
        if group.losses_forgotten() > 0 {
            self.reported = None;
        }
        let Some(reported) = &mut self.reported else { return };
        for loss in group.losses() {
            if let Extent::Known { last, .. } = loss.extent
                && !reported.contains(&(last, loss.after))
            {
                reported.push((last, loss.after));
            }
        }
    }

    /// A member cuts off its own entries only once they stand in a report, or if the leader has them.
    fn check_cut(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        let member = process.protocol().member();
        let last = member.tail().last();
        let Some(before) = self.ends.insert(node, last) else { return Ok(()) };
        let goes_on = last.term == before.term && last.index >= before.index;
        let end = (before.term, before.index);
        if goes_on || before.index == 0 || self.truth.has(last, end) || self.truth.keeps(member.epoch(), end)
        {
            return Ok(());
        }
        let has_it = |(log, after): &(Position, u64)| before.index > *after && self.truth.has(*log, end);
        if self.reported.as_ref().is_none_or(|reported| reported.iter().any(has_it)) {
            return Ok(());
        }
        let detail =
            format!("{node} cut {} of epoch {} off, and no report says so", before.index, before.term);
        Err(Violation::new("cut-is-reported", detail))
    }

    /// Remembers what the step has made known: where an epoch began, what was acknowledged.
    fn note(&mut self, node: NodeId, process: &Process) {
        let member = process.protocol().member();
        let epoch = member.epoch();
        if let Some(start) = member.epoch_start() {
            let index = start - 1;
            // Later the log may begin behind it; it was told when it began.
            if let Some(term) = member.tail().term_at(index) {
                self.truth.began(epoch, Position { index, term });
            }
        }
        self.truth.shown(member.tail());
        self.note_reports(process);
        self.spans.stepped(node, process);
        self.shown.insert(node, Shown { epoch, leads: member.leads() });
        let own = process.delivered().iter().filter(|delivery| delivery.request.is_some());
        // By the entry's epoch: the same step may have brought a newer one.
        let place = |delivery: &Delivery| member.token(delivery.index).expect("it was delivered just now");
        let places: Vec<(Bytes, Token)> =
            own.map(|delivery| (delivery.command.clone(), place(delivery))).collect();
        for (_, (epoch, index)) in &places {
            self.truth.acknowledged(*epoch, *index, node);
        }
        self.reach("acknowledged", places.len() as u64);
        note_places(&self.session_keys, places.into_iter(), &mut self.board.borrow_mut().placed);
    }
}

impl Observer<Process> for LeaderFollowerWatch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<LeaderFollowerSeat>,
    ) -> Result<(), Violation> {
        self.invariants.restarted(node);
        // What was not yet on the disk is gone.
        self.ends.remove(&node);
        self.note(node, process);
        self.check_cut(node, process)?;
        self.check(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<LeaderFollowerSeat>,
    ) -> Result<(), Violation> {
        self.note(node, process);
        self.check_cut(node, process)?;
        self.check(node, process)
    }

    fn replied(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        client: ClientId,
        reply: &MachineReply<Kv>,
    ) -> Result<(), Violation> {
        let Some(shown) = self.shown.get(&node).copied() else { return Ok(()) };
        let mut board = self.board.borrow_mut();
        match &reply.outcome {
            MachineOutcome::Done(_) if shown.leads => {
                board.answered.insert((client, reply.token), shown.epoch);
            }
            MachineOutcome::Refused(Refusal::Lost) => {
                let asked = board.asked.get(&(client, reply.token)).copied();
                let (epoch, index) = asked.expect("only sessions are told so");
                if self.truth.keeps(shown.epoch, (epoch, index)) {
                    let detail =
                        format!("{node} says in epoch {} that {index} of epoch {epoch} is lost", shown.epoch);
                    return Err(Violation::new("told-lost-is-lost", detail));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, _node: NodeId, process: &Process) {
        let seat = process.protocol();
        for (name, count) in of_member(seat.member().counters()) {
            self.reach(name, count);
        }
        let member = seat.member();
        self.reach("staleness-known", u64::from(member.fresh_as_of_ns().is_some()));
        self.reach("served-by-follower", u64::from(!member.leads() && member.delivered_index() > 0));
        let Some(assigner) = seat.catalog() else { return };
        let reached = assigner.reached;
        for (name, count) in [
            ("promoted", reached.promotions),
            ("forced-promotion", reached.forced),
            ("lease-waited-out", reached.leases_waited_out),
            ("leader-resigned", reached.resigned),
            ("waited-for-members", reached.waited_for_members),
            ("tail-noted", reached.tails_noted),
            ("allowance-raised", reached.allowed_more),
        ] {
            self.reach(name, count);
        }
        // What is wrong with it is said by the judge; here only what was met.
        if let Ok(Some(met)) = self.truth.judge(assigner.group()) {
            for (name, count) in [
                ("account-judged", 1),
                ("acknowledged-and-lost", met.acknowledged_lost),
                ("loss-reported", met.known),
                ("loss-unknown", met.unknown),
                ("loss-listed", met.listed),
            ] {
                self.reach(name, count);
            }
            // Too rare to be asked of every hundred seeds.
            self.reach("loss-withdrawn", met.withdrawn);
        }
    }

    fn count(&self, counters: &mut Counters) {
        for (name, count) in &self.reached {
            counters.add(name, *count);
        }
    }
}

fn of_member(member: &MemberCounters) -> [(&'static str, u64); 22] {
    [
        ("leader-began", member.leaderships),
        ("stepped-down", member.stepped_down),
        ("stale-epoch-refused", member.refused_stale),
        ("not-led-again", member.refused_to_lead_again),
        ("refused-past-lease", member.refused_past_lease),
        ("lease-read", member.lease_reads),
        ("log-conflict", member.conflicts),
        ("entries-truncated", member.truncated_entries),
        ("applied-what-was-lost", member.diverged),
        ("refused-while-diverged", member.refused_diverged),
        ("taken-back", member.taken_back),
        ("tail-rebuilt", u64::from(member.taken_back > 0)),
        ("checkpoint-asked", member.checkpoints),
        ("shown-again", member.shown_again),
        ("follower-left-behind", member.left_behind),
        ("snapshot-sent", member.snapshots_sent),
        ("snapshot-taken-over", member.snapshots_installed),
        ("tail-reported", member.tails_reported),
        ("refused-past-allowance", member.refused_past_allowance),
        ("token-read", member.session_reads),
        ("token-not-yet", member.session_reads_behind),
        ("token-lost", member.session_reads_lost),
    ]
}
