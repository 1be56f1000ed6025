//! A diverged follower is rebuilt from a snapshot. It must not take back what the follower acknowledged in this epoch (seed 322302900 of
//! scenario `leader-follower`: the leader sent its old checkpoint, and then for ever probed above the log that this left).

use alloc::vec::Vec;

use keypact_protocol::{Context, Delivery, Input, Reply, Sink, SnapshotChunk, SnapshotInput, SnapshotRead};

use super::super::Timer;
use super::*;

/// What a member asked for; everything is durable at once.
#[derive(Default)]
struct Seen {
    lsn: u64,
    sent: Vec<(NodeId, Message)>,
    reads: Vec<SnapshotRead>,
    taken: Vec<SnapshotChunk>,
}

impl Sink<LeaderFollower> for Seen {
    fn append(&mut self, _record: Record) -> Lsn {
        self.lsn += 1;
        Lsn(self.lsn)
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }

    fn send_early(&mut self, to: NodeId, message: Message) {
        self.sent.push((to, message));
    }

    fn reply(&mut self, _reply: Reply) {}

    fn reply_early(&mut self, _reply: Reply) {}

    fn deliver(&mut self, _delivery: Delivery) {}

    fn deliver_early(&mut self, _delivery: Delivery) {}

    fn set_timer(&mut self, _timer: Timer, _at_ns: u64) {}

    fn cancel_timer(&mut self, _timer: Timer) {}

    fn checkpoint(&mut self, _meta: Bytes) {}

    fn drop_log_before(&mut self, _lsn: Lsn) {}

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.reads.push(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.taken.push(chunk);
    }
}

const LEADER: NodeId = NodeId(3);

fn step(member: &mut LeaderFollower, seen: &mut Seen, input: Input<LeaderFollower>, now_ms: u64) {
    let context = Context { now_ns: now_ms * 1_000_000, wall_ms: 1_000 };
    member.handle(input, context, seen);
    member.handle(Input::Durable(Lsn(seen.lsn)), context, seen);
    member.assert_invariants();
}

fn said(from: NodeId, epoch: u64, body: Body) -> Input<LeaderFollower> {
    Input::Message { from, message: Message { epoch, body } }
}

fn chunk(index: u64, epoch: u64) -> SnapshotChunk {
    SnapshotChunk { meta: meta(index, epoch), chunk: 0, bytes: Bytes::from_static(b"state"), last: false }
}

fn append(prev: Position, entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append { prev, entries, commit, echo_ns: 0 }
}

#[test]
fn a_diverged_follower_takes_no_snapshot_below_what_it_acknowledged() {
    let mut seen = Seen { lsn: 1, ..Seen::default() };
    let mut member = recovered(None, vec![hard(1, false)]);
    let old: Vec<Entry> = (1..=3).map(|index| entry(index, 1)).collect();
    step(&mut member, &mut seen, said(NodeId(1), 1, append(place(0, 0), old.clone(), 3)), 1);
    step(&mut member, &mut seen, said(LEADER, 2, append(place(0, 0), old[..2].to_vec(), 0)), 2);
    step(&mut member, &mut seen, said(LEADER, 2, append(place(2, 1), vec![entry(3, 2)], 0)), 3);
    let (_, last) = seen.sent.last().expect("each append is answered");
    assert_eq!(
        last.body,
        Body::AppendReply { outcome: AppendOutcome::Diverged { agreed: 2 }, sent_ns: 3_000_000 }
    );
    step(&mut member, &mut seen, said(LEADER, 2, Body::Snapshot { log_end: 3, chunk: chunk(1, 1) }), 4);
    assert_eq!(seen.taken, []);
    // Nor one that the catalog has not been told of; it hears first what is lost.
    step(&mut member, &mut seen, said(LEADER, 2, Body::Snapshot { log_end: 3, chunk: chunk(3, 2) }), 5);
    assert_eq!(seen.taken, []);
    let (to, report) = seen.sent.last().expect("it tells the catalog");
    let tail = Body::Tail { last: place(3, 1), before: place(2, 1), entries: vec![entry(3, 1)] };
    assert_eq!((*to, &report.body), (CATALOG, &tail));
    step(&mut member, &mut seen, said(CATALOG, 2, Body::Noted { last: place(3, 1), kept: 2 }), 6);
    step(&mut member, &mut seen, said(LEADER, 2, Body::Snapshot { log_end: 3, chunk: chunk(3, 2) }), 7);
    assert_eq!(seen.taken, [chunk(3, 2)]);
}

#[test]
fn a_leader_sends_a_diverged_follower_no_checkpoint_below_what_that_acknowledged() {
    let mut records = vec![hard(1, false)];
    records.extend(entries(1..=3, 1));
    let mut seen = Seen { lsn: 4, ..Seen::default() };
    let mut member = recovered(None, records);
    step(&mut member, &mut seen, said(CATALOG, 2, Body::Assign { leader: NodeId(2), after: place(3, 1) }), 1);
    let reply = |outcome| said(LEADER, 2, Body::AppendReply { outcome, sent_ns: 0 });
    step(&mut member, &mut seen, reply(AppendOutcome::Match { index: 1 }), 2);
    step(&mut member, &mut seen, reply(AppendOutcome::Diverged { agreed: 3 }), 3);
    assert_eq!(seen.reads, [SnapshotRead { to: LEADER, chunk: 0 }]);
    let snapshots = |seen: &Seen| {
        seen.sent.iter().filter(|(_, message)| matches!(message.body, Body::Snapshot { .. })).count()
    };
    let read = |chunk| Input::Snapshot(SnapshotInput::Read { to: LEADER, chunk });
    step(&mut member, &mut seen, read(chunk(2, 1)), 4);
    assert_eq!(snapshots(&seen), 0);
    // After a while it is asked for again; by then one may be there that reaches far enough.
    step(&mut member, &mut seen, Input::Timer(Timer::Heartbeat), 10_000);
    assert_eq!(seen.reads.len(), 2);
    step(&mut member, &mut seen, read(chunk(3, 1)), 10_001);
    assert_eq!(snapshots(&seen), 1);
}

/// The leader believes that the follower has nothing and sends its checkpoint, which ends before the follower's own.
#[test]
fn a_follower_whose_checkpoint_is_newer_keeps_its_state() {
    let mut records = vec![hard(1, false)];
    records.extend(entries(18..=19, 1));
    let mut seen = Seen { lsn: 3, ..Seen::default() };
    let mut member = recovered(Some(meta(17, 1)), records);
    step(&mut member, &mut seen, said(LEADER, 2, Body::Snapshot { log_end: 20, chunk: chunk(15, 1) }), 1);
    assert_eq!(seen.taken, []);
    let (to, reply) = seen.sent.last().expect("it answers");
    let outcome = SnapshotOutcome::Ahead { base: 17 };
    assert_eq!((*to, &reply.body), (LEADER, &Body::SnapshotReply { index: 15, outcome }));
    // A leader whose whole log ends before that has nothing to compare: its state is the right one.
    step(&mut member, &mut seen, said(CATALOG, 3, Body::Seal), 2);
    step(&mut member, &mut seen, said(CATALOG, 3, Body::Noted { last: place(19, 1), kept: 15 }), 2);
    step(&mut member, &mut seen, said(LEADER, 3, Body::Snapshot { log_end: 16, chunk: chunk(15, 1) }), 2);
    assert_eq!(seen.taken, [chunk(15, 1)]);
}

/// A hint that a follower is gone, before it has ever answered, must not make the leader look from the beginning of its log.
#[test]
fn a_hint_does_not_move_a_probe() {
    let mut records = vec![hard(1, false)];
    records.extend(entries(6..=8, 1));
    let mut seen = Seen { lsn: 4, ..Seen::default() };
    let mut member = recovered(Some(meta(5, 1)), records);
    step(&mut member, &mut seen, said(CATALOG, 2, Body::Assign { leader: NodeId(2), after: place(8, 1) }), 1);
    step(&mut member, &mut seen, Input::Unreachable(LEADER), 2);
    member.flush(Context::default(), &mut seen);
    assert_eq!(seen.reads, []);
}
