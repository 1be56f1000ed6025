//! A new epoch: everybody's places, from the catalog; and the lease that says how long they hold.

use alloc::vec::Vec;

use keypact_protocol::{NodeId, Plant, Reply, Sink, planted};

use super::predecessor::Successor;
use super::{Body, CATALOG, Chain, Life, Member, MemberState, Timer};

impl Chain {
    pub(super) fn on_assign(
        &mut self,
        epoch: u64,
        members: Vec<Member>,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        if epoch <= self.epoch {
            self.counters.refused_stale += u64::from(epoch < self.epoch);
            if epoch == self.epoch || !planted(Plant::ChainStaleEpoch) {
                return;
            }
        }
        let own = members.iter().find(|member| member.node == self.config.id).copied();
        let Some(own) = own.filter(|own| own.life == self.life) else {
            // It speaks of an earlier life; the catalog hears of this one with the next renewal.
            self.counters.refused_other_life += 1;
            return;
        };
        let before = self.state;
        self.counters.epochs += 1;
        self.epoch = epoch;
        self.members = members;
        self.state = own.state;
        self.take_place(before);
        if !self.is_head() {
            self.give_up_requests(out);
        }
        self.reads.begin_again();
        if self.state != MemberState::Serving {
            self.lease_until_ns = 0;
            self.refuse_reads(out);
        }
        self.advance_commit(out);
        // The lease counts from when it was asked for in this epoch.
        self.on_renew_timer(now_ns, out);
    }

    /// What the new place means for the log, and who is next to it.
    fn take_place(&mut self, before: MemberState) {
        let last_index = self.tail.last().index;
        match self.state {
            MemberState::Serving => {
                if before == MemberState::Syncing {
                    // What stands behind what was synced is of some earlier epoch, and was never acknowledged. It is cut in memory only: if
                    // it comes back with a restart, it is either overwritten by a resync or, should this be the last member, committed,
                    // which its clients were told may happen.
                    self.cut_after(self.agreed);
                }
                // All of it: as the predecessor's while serving; or there is no predecessor, and it is the group's log.
                self.agreed = self.tail.last().index;
                self.counters.promoted += u64::from(before != MemberState::Serving);
            }
            MemberState::Syncing => {
                // What is committed is equal everywhere; what follows is compared as it comes.
                self.agreed = self.commit;
                self.counters.syncs += 1;
            }
            MemberState::Waiting | MemberState::LastServer | MemberState::Offline => {}
        }
        assert!(self.agreed <= last_index, "an epoch brings no entries");
        self.epoch_start = self.tail.last().index;
        self.upstream_durable = 0;
        self.gap = false;
        self.early.clear();
        if !self.is_installing() {
            self.incoming = None;
        }
        let (predecessor, successor) = self.neighbours();
        assert!(predecessor != Some(self.config.id), "nobody is its own neighbour");
        self.predecessor = predecessor;
        self.ack_due = predecessor.is_some();
        let floor = if planted(Plant::ChainSpliceWithoutResend) { last_index + 1 } else { 0 };
        self.successor = successor.map(|member| Successor::new(member, floor));
    }

    /// Who sends to this member, and to whom it sends.
    fn neighbours(&self) -> (Option<NodeId>, Option<Member>) {
        let takes_part = |member: &&Member| member.state <= MemberState::Syncing;
        let row: Vec<&Member> = self.members.iter().filter(takes_part).collect();
        assert!(row.is_sorted_by_key(|member| member.state), "who syncs stands behind all who serve");
        let Some(at) = row.iter().position(|member| member.node == self.config.id) else {
            return (None, None);
        };
        let predecessor = at.checked_sub(1).map(|before| row[before].node);
        (predecessor, row.get(at + 1).map(|member| **member))
    }

    /// Forgets the entries behind `index`.
    pub(super) fn cut_after(&mut self, index: u64) {
        assert!(index >= self.commit, "what is committed is never cut off");
        let last_index = self.tail.last().index;
        if index == last_index {
            return;
        }
        self.counters.truncated_entries += last_index - index;
        self.tail.truncate_from(index + 1);
        assert!(self.tail.last().index == index, "what is up to there stays");
        self.unapplied.clear();
        for slot in self.tail.slots_from(self.delivered + 1).expect("past the base") {
            self.unapplied.add(slot.entry.index(), &slot.entry.command());
        }
    }

    /// What this member proposed may yet be committed by others.
    fn give_up_requests(&mut self, out: &mut impl Sink<Self>) {
        assert!(!self.is_head(), "the head's requests are under way");
        for index in self.delivered + 1..=self.tail.last().index {
            if let Some(id) = self.tail.take_request(index) {
                // Early: "uncertain" is true whatever the disk does.
                out.reply_early(Reply::Uncertain { id });
            }
        }
    }

    pub(super) fn on_grant(&mut self, epoch: u64, life: Life, sent_ns: u64, lease_ns: u64, now_ns: u64) {
        // Of another epoch it says nothing: this member may be out of the row by then, and not know it.
        if epoch != self.epoch || life != self.life {
            self.counters.refused_stale += 1;
            return;
        }
        if sent_ns > now_ns {
            self.counters.refused_contradictions += 1;
            return;
        }
        if self.state == MemberState::Serving {
            let margin_ns = lease_ns / 1_000_000 * self.config.drift_bound_ppm;
            assert!(margin_ns <= lease_ns, "the drift bound leaves a lease");
            // Counted from when it asked: the catalog can't have answered before.
            self.lease_until_ns = self.lease_until_ns.max(sent_ns + (lease_ns - margin_ns));
        }
    }

    pub(super) fn on_renew_timer(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        out.set_timer(Timer::Renew, now_ns + self.config.renew_ns());
        let hangs = self
            .disk
            .waiting_since_ns
            .is_some_and(|since| now_ns - since.min(now_ns) > self.config.disk_hang_ns());
        if hangs && self.serving().any(|node| node != self.config.id) {
            // Every commit waits for this disk. Without a renewal the others go on alone.
            self.counters.disk_hangs += 1;
            return;
        }
        let renew = self.message(Body::Renew { life: self.life, sent_ns: now_ns });
        if self.disk.life <= self.disk.durable {
            // Early: all that it says is that this life is here, and that is durable.
            out.send_early(CATALOG, renew);
        } else {
            out.send(CATALOG, renew);
        }
        self.report_synced(out);
    }
}
