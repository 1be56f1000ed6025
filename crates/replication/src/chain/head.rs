//! The head: gives commands their order.

use keypact_log::{Entry, EntryHeader, Kind};
use keypact_protocol::{Context, Draft, HEADROOM_BYTES, Refusal, RequestId, Sink};

use super::{Chain, Record};

impl Chain {
    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: Draft,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        if !self.is_head() {
            return self.refuse(id, Refusal::NotLeader { leader: self.head_node() }, out);
        }
        if !self.has_lease(context.now_ns) {
            // Others may go on without it already; what it took in now would be lost for certain.
            self.counters.refused_past_lease += 1;
            return self.refuse(id, Refusal::NotLeader { leader: None }, out);
        }
        let length = command.command_len();
        if length > self.config.max_command_bytes {
            return self.refuse(id, Refusal::TooLarge, out);
        }
        if self.tail.has_room(length + HEADROOM_BYTES).is_err() {
            self.counters.refused_overload += 1;
            return self.refuse(id, Refusal::Overloaded, out);
        }
        let header = EntryHeader {
            term: self.epoch,
            index: self.tail.last().index + 1,
            stamp_ms: self.tail.next_stamp_ms(context.wall_ms),
            seed: self.next_seed(),
            kind: Kind::Command,
        };
        assert!(header.index > self.commit, "a new entry is not yet committed");
        let entry = Entry::seal(command, header);
        let lsn = self.append(Record::Entry(entry.clone()), out);
        self.unapplied.add(header.index, &entry.command());
        self.tail.append(entry, lsn, Some(id));
        self.agreed = header.index;
        assert!(self.agreed == self.tail.last().index, "the head's log is the group's");
    }

    /// SplitMix64 (Steele, Lea & Flood, 2014).
    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
