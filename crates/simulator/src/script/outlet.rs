//! Effects on their way out, written down.

use bytes::Bytes;
use keypact_protocol::{
    Delivery, Gate, Lsn, NodeId, Outlet, Protocol, Refusal, Reply, Sink, SnapshotChunk, SnapshotRead,
};

use super::Story;
use crate::RecordDisk;

/// A message in flight.
pub(super) struct InFlight<P: Protocol> {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: P::Message,
}

/// What a process asked of its parent and disk.
pub(super) enum Wish {
    Checkpoint(Bytes),
    Read(SnapshotRead),
    Chunk(SnapshotChunk),
}

/// The outlet of one process on the stage.
pub(super) struct StageOutlet<'a, S: Story> {
    pub(super) story: &'a S,
    pub(super) id: NodeId,
    pub(super) show_timers: bool,
    /// How many are on the stage: n1 and on.
    pub(super) actors: u64,
    pub(super) lines: &'a mut Vec<String>,
    pub(super) sent: &'a mut Vec<InFlight<S::Protocol>>,
    pub(super) cuts: &'a [(NodeId, NodeId)],
    pub(super) disk: &'a mut RecordDisk<S::Protocol>,
    pub(super) timers: &'a mut Vec<(<S::Protocol as Protocol>::Timer, u64)>,
    pub(super) applied: &'a mut Vec<(u64, Bytes)>,
    pub(super) wishes: &'a mut Vec<Wish>,
}

impl<S: Story> StageOutlet<'_, S> {
    fn line(&mut self, what: impl std::fmt::Display) {
        self.lines.push(format!("{} {what}", self.id));
    }
}

fn reply_text(reply: Reply) -> String {
    match reply {
        Reply::ReadFrom { id, index } => format!("reply {id} read from {index}"),
        Reply::Refused { id, why: Refusal::NotLeader { leader } } => {
            let leader = leader.map_or_else(|| "unknown".into(), |leader| leader.to_string());
            format!("reply {id} refused: not leader, leader {leader}")
        }
        Reply::Refused { id, why } => format!("reply {id} refused: {why:?}"),
        Reply::Uncertain { id } => format!("reply {id} uncertain"),
    }
}

fn delivery_text<S: Story>(story: &S, delivery: &Delivery) -> String {
    let what = if delivery.command.is_empty() { "(empty)".into() } else { story.command(&delivery.command) };
    let request = delivery.request.map_or_else(String::new, |id| format!(" for {id}"));
    format!("deliver {} {what}{request}", delivery.index)
}

impl<S: Story> Outlet<S::Protocol> for StageOutlet<'_, S> {
    fn append(&mut self, record: <S::Protocol as Protocol>::Record) -> Lsn {
        let text = self.story.record(&record);
        let lsn = self.disk.append(record);
        self.line(format_args!("append {lsn} {text}"));
        lsn
    }

    fn send(&mut self, to: NodeId, message: <S::Protocol as Protocol>::Message) {
        let cut = self.cuts.contains(&(self.id, to));
        let text = self.story.message(&message);
        self.line(format_args!("{} {to} {text}", if cut { 'x' } else { '>' }));
        // Who is not on the stage hears, and says what the script says.
        if !cut && (1..=self.actors).contains(&to.0) {
            self.sent.push(InFlight { from: self.id, to, message });
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.line(reply_text(reply));
    }

    fn deliver(&mut self, delivery: Delivery) {
        let applied = self.applied.last().map_or(0, |(index, _)| *index);
        assert!(delivery.index <= applied + 1, "deliveries leave no gap: {} after {applied}", delivery.index);
        let text = delivery_text(self.story, &delivery);
        if delivery.index <= applied {
            return self.line(format_args!("{text} (applied before)"));
        }
        self.line(text);
        self.applied.push((delivery.index, delivery.command));
    }

    fn set_timer(&mut self, timer: <S::Protocol as Protocol>::Timer, at_ns: u64) {
        self.timers.retain(|(set, _)| *set != timer);
        self.timers.push((timer, at_ns));
        if self.show_timers {
            let name = self.story.timer(timer);
            self.line(format_args!("timer {name} at {}.{:03} ms", at_ns / 1_000_000, at_ns / 1_000 % 1_000));
        }
    }

    fn cancel_timer(&mut self, timer: <S::Protocol as Protocol>::Timer) {
        self.timers.retain(|(set, _)| *set != timer);
        if self.show_timers {
            let name = self.story.timer(timer);
            self.line(format_args!("timer {name} off"));
        }
    }

    fn checkpoint(&mut self, meta: Bytes) {
        let applied = self.applied.last().map_or(0, |(index, _)| *index);
        self.line(format_args!("checkpoint up to {applied}"));
        self.wishes.push(Wish::Checkpoint(meta));
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.line(format_args!("drop log before {lsn}"));
        self.disk.drop_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.line(format_args!("read chunk {} for {}", read.chunk, read.to));
        self.wishes.push(Wish::Read(read));
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        let last = if chunk.last { ", the last" } else { "" };
        self.line(format_args!("take chunk {}{last}", chunk.chunk));
        self.wishes.push(Wish::Chunk(chunk));
    }
}

/// The sink that a process is given: the gate's, which also writes down what the gate holds.
pub(super) struct Scribe<'a, 'b, S: Story> {
    pub(super) gate: &'a mut Gate<S::Protocol>,
    pub(super) outlet: &'a mut StageOutlet<'b, S>,
}

impl<S: Story> Scribe<'_, '_, S> {
    fn note_if_held(&mut self, held_before: usize, text: impl FnOnce(&S) -> String) {
        if self.gate.held_len() > held_before {
            let text = text(self.outlet.story);
            let until = self.outlet.disk.last();
            self.outlet.line(format_args!("{text} (held until {until})"));
        }
    }
}

impl<S: Story> Sink<S::Protocol> for Scribe<'_, '_, S> {
    fn append(&mut self, record: <S::Protocol as Protocol>::Record) -> Lsn {
        self.gate.sink(self.outlet).append(record)
    }

    fn send(&mut self, to: NodeId, message: <S::Protocol as Protocol>::Message) {
        let held = self.gate.held_len();
        let copy = message.clone();
        self.gate.sink(self.outlet).send(to, message);
        self.note_if_held(held, |story| format!("> {to} {}", story.message(&copy)));
    }

    fn send_early(&mut self, to: NodeId, message: <S::Protocol as Protocol>::Message) {
        self.gate.sink(self.outlet).send_early(to, message);
    }

    fn reply(&mut self, reply: Reply) {
        let held = self.gate.held_len();
        self.gate.sink(self.outlet).reply(reply);
        self.note_if_held(held, |_| reply_text(reply));
    }

    fn reply_early(&mut self, reply: Reply) {
        self.gate.sink(self.outlet).reply_early(reply);
    }

    fn deliver(&mut self, delivery: Delivery) {
        let held = self.gate.held_len();
        let copy = delivery.clone();
        self.gate.sink(self.outlet).deliver(delivery);
        self.note_if_held(held, |story| delivery_text(story, &copy));
    }

    fn deliver_early(&mut self, delivery: Delivery) {
        self.gate.sink(self.outlet).deliver_early(delivery);
    }

    fn set_timer(&mut self, timer: <S::Protocol as Protocol>::Timer, at_ns: u64) {
        self.outlet.set_timer(timer, at_ns);
    }

    fn cancel_timer(&mut self, timer: <S::Protocol as Protocol>::Timer) {
        self.outlet.cancel_timer(timer);
    }

    fn checkpoint(&mut self, meta: Bytes) {
        self.outlet.checkpoint(meta);
    }

    fn drop_log_before(&mut self, lsn: Lsn) {
        self.outlet.drop_log_before(lsn);
    }

    fn snapshot_out(&mut self, read: SnapshotRead) {
        self.outlet.snapshot_out(read);
    }

    fn snapshot_in(&mut self, chunk: SnapshotChunk) {
        self.outlet.snapshot_in(chunk);
    }
}
