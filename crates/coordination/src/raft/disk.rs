//! What this member wrote, how much of it is durable, and whether the disk still answers.

use keypact_protocol::{Lsn, NodeId, Sink};

use super::{HardState, Raft, Record};

/// A member's view of its disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Everything up to here is on disk.
    durable: Lsn,
    /// The last record of this member.
    last_append: Lsn,
    /// The newest hard state.
    hard: Lsn,
    /// A record that is not yet durable, and when it, or an earlier one, was written. Two numbers instead of a time per record: it
    /// finds a hang at most one write later.
    waiting: Option<(Lsn, u64)>,
    /// Once this hard state is durable, everything before it and before the tail can go.
    drop_after: Option<Lsn>,
}

impl Disk {
    /// All that recovery gave is durable; the newest record has number `last`.
    pub(super) fn recovered(last: Lsn) -> Disk {
        Disk { durable: last, last_append: last, hard: last, waiting: None, drop_after: None }
    }

    fn appended(&mut self, lsn: Lsn, now_ns: u64) {
        assert!(lsn > self.last_append, "log sequence numbers rise");
        self.last_append = lsn;
        if self.waiting.is_none() {
            self.waiting = Some((lsn, now_ns));
        }
    }

    pub(super) fn durable(&mut self, lsn: Lsn, now_ns: u64) {
        assert!(lsn >= self.durable, "what is durable stays so");
        self.durable = lsn;
        if self.waiting.is_some_and(|(waiting, _)| waiting <= lsn) {
            self.waiting = if self.last_append > lsn { Some((self.last_append, now_ns)) } else { None };
        }
    }

    /// Whether a write has been waiting for longer than `limit_ns`.
    pub(super) fn hangs(&self, now_ns: u64, limit_ns: u64) -> bool {
        self.waiting.is_some_and(|(_, since_ns)| now_ns.saturating_sub(since_ns) > limit_ns)
    }

    pub(super) fn hard_is_durable(&self) -> bool {
        self.hard <= self.durable
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.hard <= self.last_append, "the hard state is one of our records");
        let waits = self.waiting.is_some();
        assert!(waits == (self.last_append > self.durable), "we wait exactly for what is not durable");
    }
}

impl Raft {
    /// Writes one record.
    pub(super) fn append(&mut self, record: Record, now_ns: u64, out: &mut impl Sink<Raft>) -> Lsn {
        let lsn = out.append(record);
        self.disk.appended(lsn, now_ns);
        lsn
    }

    /// Takes a new term or vote and writes it down.
    pub(super) fn set_hard(
        &mut self,
        term: u64,
        voted_for: Option<NodeId>,
        now_ns: u64,
        out: &mut impl Sink<Raft>,
    ) {
        assert!(term >= self.hard.term, "terms never fall");
        assert!(
            term > self.hard.term || self.hard.voted_for.is_none() || self.hard.voted_for == voted_for,
            "a vote is never taken back"
        );
        self.hard = HardState { term, voted_for };
        self.write_hard(now_ns, out);
    }

    pub(super) fn write_hard(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        self.disk.hard = self.append(Record::HardState(self.hard), now_ns, out);
    }

    /// Says that the log up to here is void, and that the checkpoint took its place. A checkpoint may be durable whose log is not: entries
    /// are delivered before the own copy is, and a snapshot is before the record that says so.
    pub(super) fn append_reset(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        assert!(self.tail.is_empty(), "a log that does not lead up to the checkpoint has no tail");
        let record = Record::Reset { position: self.tail.base(), stamp_ms: self.tail.base_stamp_ms() };
        self.append(record, now_ns, out);
    }

    pub(super) fn disk_hangs(&self, now_ns: u64) -> bool {
        self.disk.hangs(now_ns, self.config.disk_hang_ns())
    }

    /// Writes the hard state anew, so that the log before the tail is needed no more; says so once that is durable, since until then the
    /// old record may be the only one that holds this member's vote.
    pub(super) fn shorten_log(&mut self, now_ns: u64, out: &mut impl Sink<Raft>) {
        self.write_hard(now_ns, out);
        self.disk.drop_after = Some(self.disk.hard);
    }

    pub(super) fn drop_log_if_safe(&mut self, out: &mut impl Sink<Raft>) {
        let Some(hard) = self.disk.drop_after else { return };
        if hard > self.disk.durable {
            return;
        }
        self.disk.drop_after = None;
        let first = self.tail.slot(self.tail.base().index + 1).map_or(hard, |slot| slot.lsn);
        out.drop_log_before(first.min(hard));
    }

    /// The vote and term that would survive a crash now.
    pub(super) fn durable_hard(&self) -> Option<HardState> {
        self.disk.hard_is_durable().then_some(self.hard)
    }
}
