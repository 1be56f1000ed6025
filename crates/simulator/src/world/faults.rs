//! The injector: one fault after another, each with its end.

use super::{Event, World};
use crate::fault::{MILLISECOND_NS, SECOND_NS};
use crate::network::Cut;
use crate::{
    Clients, Disk, DiskDamage, FaultKind, FaultSet, MICROSECOND_NS, Observer, Process, Random, Violation,
};

/// A fault that is going on.
#[derive(Debug)]
pub(super) enum Active {
    Cut(Cut),
    Stopped { node: usize, asleep: bool },
    Slow { node: usize },
    SlowDisk { node: usize },
    HungDisk { node: usize, life: u32 },
    FullDisk { node: usize },
}

/// Faults that the injector strikes with; the others go with single messages, crashes or clocks.
const STRIKING: FaultSet = FaultSet::of(&[
    FaultKind::Partition,
    FaultKind::OneWay,
    FaultKind::Partial,
    FaultKind::Chained,
    FaultKind::FalseHint,
    FaultKind::Crash,
    FaultKind::CrashAll,
    FaultKind::Pause,
    FaultKind::Suspend,
    FaultKind::Slow,
    FaultKind::SlowDisk,
    FaultKind::HungDisk,
    FaultKind::FailedSync,
    FaultKind::BitRot,
    FaultKind::MisdirectedWrite,
    FaultKind::DiskFull,
    FaultKind::DiskLost,
    FaultKind::Jump,
    FaultKind::Drift,
]);

impl<P: Process, C: Clients<P>, O: Observer<P>> World<P, C, O> {
    /// Puts the next fault into the queue.
    pub(super) fn plan_fault(&mut self) {
        if self.swarm.faults.and(STRIKING) != FaultSet::NONE {
            let gap_ns = self.random.below(2 * self.swarm.fault_gap_ns) + MICROSECOND_NS;
            self.queue.push(self.now_ns + gap_ns, Event::Fault);
        }
    }

    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        self.plan_fault();
        if self.active.iter().flatten().count() >= self.swarm.active_max {
            return Ok(());
        }
        let mut kinds = [FaultKind::Crash; FaultKind::ALL.len()];
        let mut count = 0;
        for kind in self.swarm.faults.and(STRIKING).iter() {
            kinds[count] = kind;
            count += 1;
        }
        let kind = self.random.pick(&kinds[..count]);
        let node = self.draw_victim();
        self.strike_with(kind, node)
    }

    /// Half of all faults strike whoever has said the most since the last one: mostly a leader, who has the most to lose.
    fn draw_victim(&mut self) -> usize {
        let by_chance = self.random.index(self.nodes.len());
        let busiest = (0..self.nodes.len()).max_by_key(|index| self.nodes[*index].said).unwrap_or(by_chance);
        for node in &mut self.nodes {
            node.said = 0;
        }
        if self.random.chance(500_000) { busiest } else { by_chance }
    }

    /// Strikes one node (where the kind concerns one) with one fault.
    fn strike_with(&mut self, kind: FaultKind, node: usize) -> Result<(), Violation> {
        match kind {
            FaultKind::Partition | FaultKind::OneWay | FaultKind::Partial | FaultKind::Chained => {
                self.strike_network(kind, node);
            }
            FaultKind::FalseHint => self.strike_hint(node),
            FaultKind::Crash => {
                self.note(kind, node);
                self.crash_node(node)?;
            }
            FaultKind::CrashAll => {
                // Rare, or nothing else ever gets anywhere.
                if self.random.chance(300_000) {
                    self.note(kind, node);
                    for each in 0..self.nodes.len() {
                        self.crash_node(each)?;
                    }
                }
            }
            FaultKind::Pause | FaultKind::Suspend => self.strike_stop(kind, node)?,
            FaultKind::Slow => {
                self.nodes[node].slow = self.random.pick(&[10, 100, 1_000]);
                self.go_on(kind, node, Active::Slow { node });
            }
            FaultKind::SlowDisk => {
                self.nodes[node].disk_slow = self.random.pick(&[5, 50, 200]);
                self.go_on(kind, node, Active::SlowDisk { node });
            }
            FaultKind::HungDisk => {
                if self.nodes[node].process.is_some() && !self.nodes[node].disk_hangs {
                    self.nodes[node].disk_hangs = true;
                    self.go_on(kind, node, Active::HungDisk { node, life: self.nodes[node].life });
                }
            }
            // Counted when it takes effect.
            FaultKind::FailedSync => self.nodes[node].fail_next_sync = self.nodes[node].process.is_some(),
            FaultKind::BitRot => self.damage(kind, DiskDamage::BitRot, node),
            FaultKind::MisdirectedWrite => self.damage(kind, DiskDamage::MisdirectedWrite, node),
            FaultKind::DiskFull => self.damage(kind, DiskDamage::Full, node),
            FaultKind::DiskLost => {
                let before = self.faults.of(kind);
                self.damage(kind, DiskDamage::Lost, node);
                if self.faults.of(kind) > before {
                    self.crash_node(node)?;
                }
            }
            FaultKind::Jump => {
                self.note(kind, node);
                let far = if self.random.chance(100_000) { 3_600_000 } else { 5_000 };
                let skew_ms = self.random.below(2 * far) as i64 - far as i64;
                self.nodes[node].clock.skew_wall(skew_ms);
            }
            FaultKind::Drift => {
                if self.swarm.drift_max_ppm > 0 {
                    self.note(kind, node);
                    let ppm = self.draw_drift();
                    self.nodes[node].clock.drift(self.now_ns, ppm);
                }
            }
            FaultKind::Loss
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::ClientLoss
            | FaultKind::MissingHint
            | FaultKind::UnsyncedLost
            | FaultKind::Torn
            | FaultKind::Skew => unreachable!("{} does not strike by itself", kind.name()),
        }
        Ok(())
    }

    fn strike_network(&mut self, kind: FaultKind, node: usize) {
        let cut = self.network.draw(kind, node, &mut self.random);
        if !cut.is_empty() {
            self.network.cut(&cut);
            self.go_on(kind, cut[0].0, Active::Cut(cut));
        }
    }

    fn strike_hint(&mut self, node: usize) {
        if self.nodes.len() > 1 {
            let peer = (node + 1 + self.random.index(self.nodes.len() - 1)) % self.nodes.len();
            self.note(FaultKind::FalseHint, node);
            self.queue.push(self.now_ns, Event::Unreachable { node: node as u16, peer: peer as u16 });
        }
    }

    fn strike_stop(&mut self, kind: FaultKind, node: usize) -> Result<(), Violation> {
        let asleep = kind == FaultKind::Suspend;
        self.change_stopped(node, 1, asleep)?;
        self.go_on(kind, node, Active::Stopped { node, asleep });
        Ok(())
    }

    /// Damages a disk, if no more than a minority then is damaged (rule 10 of the design), or the seed goes beyond that.
    fn damage(&mut self, kind: FaultKind, damage: DiskDamage, node: usize) {
        let bad = self.nodes.iter().filter(|other| other.damaged).count();
        let minority = (self.nodes.len() - 1) / 2;
        if (bad >= minority && !self.swarm.beyond) || self.nodes[node].damaged {
            return;
        }
        if !self.nodes[node].disk.damage(damage, &mut self.random) {
            return;
        }
        self.nodes[node].damaged = true;
        if damage == DiskDamage::Full {
            self.go_on(kind, node, Active::FullDisk { node });
        } else {
            self.note(kind, node);
        }
    }

    fn note(&mut self, kind: FaultKind, node: usize) {
        self.faults.add(kind);
        self.trace.add(self.now_ns);
        self.trace.add(kind as u64 | (node as u64) << 8 | 1 << 40);
        let id = self.nodes[node].id;
        self.print(format_args!("{} at {id}", kind.name()));
    }

    /// Counts a fault that lasts, and plans its end.
    fn go_on(&mut self, kind: FaultKind, node: usize, active: Active) {
        self.note(kind, node);
        let length_ns = draw_length_ns(self.swarm.fault_max_ns, &mut self.random);
        let slot = match self.active.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.active.push(None);
                self.active.len() - 1
            }
        };
        self.active[slot] = Some(active);
        self.queue.push(self.now_ns + length_ns, Event::FaultEnd { slot: slot as u32 });
    }

    pub(super) fn end_fault(&mut self, slot: usize) -> Result<(), Violation> {
        let Some(active) = self.active[slot].take() else { return Ok(()) };
        if self.printer.is_some() {
            self.print(format_args!("over: {active:?}"));
        }
        match active {
            Active::Cut(cut) => self.network.mend(&cut),
            Active::Stopped { node, asleep } => self.change_stopped(node, -1, asleep)?,
            Active::Slow { node } => self.nodes[node].slow = 1,
            Active::SlowDisk { node } => self.nodes[node].disk_slow = 1,
            Active::HungDisk { node, life } => {
                if self.nodes[node].life == life {
                    self.release_hung_jobs(node);
                }
            }
            Active::FullDisk { node } => self.nodes[node].disk.heal(),
        }
        Ok(())
    }

    /// The safety phase is over: everything heals, everyone restarts.
    pub(super) fn end_faults(&mut self) -> Result<(), Violation> {
        self.print(format_args!("faults are over"));
        self.faulty = false;
        for slot in 0..self.active.len() {
            self.end_fault(slot)?;
        }
        self.network.mend_all();
        self.swarm.loss_ppm = 0;
        self.swarm.duplicate_ppm = 0;
        self.swarm.reorder_ppm = 0;
        for node in 0..self.nodes.len() {
            self.nodes[node].fail_next_sync = false;
            if self.nodes[node].process.is_none() {
                self.queue.push(self.now_ns + MILLISECOND_NS, Event::Restart { node: node as u16 });
            }
            assert!(self.nodes[node].stopped == 0, "every stop has ended");
        }
        Ok(())
    }
}

/// Mostly short, sometimes as long as allowed.
fn draw_length_ns(max_ns: u64, random: &mut Random) -> u64 {
    let max_ns = max_ns.max(2 * MILLISECOND_NS);
    match random.below(4) {
        0 => random.between(MILLISECOND_NS, max_ns.min(20 * MILLISECOND_NS)),
        1 | 2 => random.between(MILLISECOND_NS, max_ns.min(SECOND_NS / 2)),
        _ => random.between(MILLISECOND_NS, max_ns),
    }
}
