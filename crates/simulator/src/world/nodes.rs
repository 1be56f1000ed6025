//! One simulated machine: its process, disk and clocks; starting, stepping, crashing.

use bytes::Bytes;
use keypact_protocol::{NodeId, Plant, Wire, planted};

use super::{Event, Work, World};
use crate::clock::Clock;
use crate::fault::{MICROSECOND_NS, MILLISECOND_NS, SECOND_NS};
use crate::network::Route;
use crate::{
    Applied, Clients, Costs, Disk, DiskWork, Effects, FaultKind, Loss, Observer, Process, ProcessInput,
    Traffic, Violation,
};

/// What one more byte costs a disk.
const DISK_NS_PER_BYTE: u64 = 2;
/// Unix milliseconds at the beginning of every world: 2024-01-01.
const WALL_START_MS: u64 = 1_704_067_200_000;

/// One machine.
pub(super) struct Node<P: Process> {
    pub(super) id: NodeId,
    config: P::Config,
    pub(super) disk: P::Disk,
    pub(super) clock: Clock,
    pub(super) process: Option<P>,
    /// Which life this is; events of earlier lives are passed over.
    pub(super) life: u32,
    /// Messages sent since the last fault.
    pub(super) said: u64,
    pub(super) inbox: Vec<ProcessInput<P>>,
    /// Still busy with its last step.
    busy_until_ns: u64,
    /// When its link has sent all that it was given.
    link_free_ns: u64,
    pub(super) work: Work,
    step_is_queued: bool,
    /// When the process wants to be woken, and for when the queue has an event.
    wake_at_ns: u64,
    wake_queued_ns: u64,
    /// Faults that are going on. `stopped`: pauses and suspends; `asleep`: suspends alone.
    pub(super) stopped: u32,
    pub(super) asleep: u32,
    stopped_since_ns: Option<u64>,
    pub(super) slow: u64,
    pub(super) disk_slow: u64,
    pub(super) disk_hangs: bool,
    hung_jobs: Vec<u64>,
    pub(super) fail_next_sync: bool,
    a_sync_failed: bool,
    /// The world damaged its disk, and it has not caught up since.
    pub(super) damaged: bool,
    pub(super) refused: bool,
}

impl<P: Process> Node<P> {
    pub(super) fn new(id: NodeId, config: P::Config, disk: P::Disk, clock: Clock) -> Node<P> {
        Node {
            id,
            config,
            disk,
            clock,
            process: None,
            life: 0,
            said: 0,
            inbox: Vec::new(),
            busy_until_ns: 0,
            link_free_ns: 0,
            work: Work::default(),
            step_is_queued: false,
            wake_at_ns: u64::MAX,
            wake_queued_ns: u64::MAX,
            stopped: 0,
            asleep: 0,
            stopped_since_ns: None,
            slow: 1,
            disk_slow: 1,
            disk_hangs: false,
            hung_jobs: Vec::new(),
            fail_next_sync: false,
            a_sync_failed: false,
            damaged: false,
            refused: false,
        }
    }

    /// Whether what is sent to it now is lost.
    pub(super) fn is_deaf(&self) -> bool {
        self.asleep > 0
    }

    pub(super) fn applied(&self) -> Option<Applied> {
        self.process.as_ref()?.applied()
    }
}

impl<P: Process, C: Clients<P>, O: Observer<P>> World<P, C, O> {
    pub(super) fn draw_clock(&mut self) -> Clock {
        let mut clock = Clock::new(self.random.below(1_000 * SECOND_NS), WALL_START_MS);
        if self.swarm.faults.has(FaultKind::Skew) {
            self.faults.add(FaultKind::Skew);
            clock.skew_wall(self.random.below(2_000) as i64 - 1_000);
        }
        if self.swarm.faults.has(FaultKind::Drift) && self.swarm.drift_max_ppm > 0 {
            self.faults.add(FaultKind::Drift);
            clock.drift(0, self.draw_drift());
        }
        clock
    }

    pub(super) fn draw_drift(&mut self) -> i64 {
        let bound = u64::from(self.swarm.drift_max_ppm);
        // The ends of the range are where bounds are wrong by one.
        match self.random.below(3) {
            0 => bound as i64,
            1 => -(bound as i64),
            _ => self.random.between(0, 2 * bound) as i64 - bound as i64,
        }
    }

    /// Starts a process, unless one is there.
    pub(super) fn start_node(&mut self, index: usize) -> Result<(), Violation> {
        let seed = self.random.bits();
        let start_ns = self.random.below(self.swarm.start_max_ns + 1);
        let node = &mut self.nodes[index];
        if node.process.is_some() || node.refused {
            return Ok(());
        }
        assert!(node.inbox.is_empty(), "nobody hears before the start");
        node.life += 1;
        node.disk_hangs = false;
        node.wake_at_ns = u64::MAX;
        node.wake_queued_ns = u64::MAX;
        node.step_is_queued = false;
        node.a_sync_failed = false;
        node.stopped_since_ns = None;
        node.busy_until_ns = self.now_ns + start_ns;
        self.stepping = Some(node.id);
        let context = node.clock.sample(self.now_ns);
        let started = P::start(&node.config, node.id, &mut node.disk, seed, context, &mut self.effects);
        self.stepping = None;
        let (id, life) = (node.id, node.life);
        self.trace.add(self.now_ns);
        self.trace.add(id.0 | u64::from(life) << 32);
        match started {
            Ok(process) => {
                self.print(format_args!("{id} starts, life {life}"));
                let node = &mut self.nodes[index];
                let process = node.process.insert(process);
                // Before it speaks: it may be killed with its first words.
                self.observer.started(self.now_ns, id, process, &node.disk)?;
                self.carry_out(index)
            }
            Err(refused) => {
                self.print(format_args!("{id} {refused}"));
                self.effects = Effects::default();
                self.counters.add("start-refused", 1);
                let node = &mut self.nodes[index];
                node.refused = true;
                if node.damaged {
                    return Ok(());
                }
                Err(Violation::new("starts-on-a-sound-disk", format!("{id} {refused}")))
            }
        }
    }

    /// Gives a process an input: at once if it is idle, otherwise with the next batch.
    #[inline]
    pub(super) fn input(&mut self, index: usize, input: ProcessInput<P>) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.process.is_none() {
            return Ok(());
        }
        node.inbox.push(input);
        if node.stopped > 0 || node.step_is_queued {
            return Ok(());
        }
        if node.busy_until_ns <= self.now_ns {
            return self.step(index);
        }
        node.step_is_queued = true;
        let event = Event::Step { node: index as u16, life: node.life };
        self.queue.push(node.busy_until_ns, event);
        Ok(())
    }

    pub(super) fn step_queued(&mut self, index: usize, life: u32) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.life != life || node.process.is_none() {
            return Ok(());
        }
        node.step_is_queued = false;
        if node.stopped > 0 || node.inbox.is_empty() {
            return Ok(());
        }
        self.step(index)
    }

    fn step(&mut self, index: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        assert!(node.stopped == 0, "a stopped process takes no step");
        std::mem::swap(&mut self.batch, &mut node.inbox);
        let mut sampled_ns = self.now_ns;
        if let Some(stopped_ns) = node.stopped_since_ns.take()
            && planted(Plant::ClocksBeforeInputs)
        {
            // As if the process had been stopped between sampling and collecting.
            sampled_ns = stopped_ns.max(node.clock.since_ns());
        }
        let context = node.clock.sample(sampled_ns);
        self.trace.add(self.now_ns);
        self.trace.add(node.id.0 ^ context.wall_ms << 16 ^ (self.batch.len() as u64) << 8);
        for input in &self.batch {
            self.trace.add(input_code(input));
        }
        self.steps += 1;
        self.largest_batch = self.largest_batch.max(self.batch.len());
        let step_ns = (self.swarm.step_ns + self.swarm.costs.input_ns * self.batch.len() as u64) * node.slow;
        node.busy_until_ns = self.now_ns + step_ns;
        node.work.busy_ns += step_ns;
        let process = node.process.as_mut().expect("only live processes are given inputs");
        self.stepping = Some(node.id);
        process.step(&mut self.batch, &mut node.disk, context, &mut self.effects);
        assert!(self.batch.is_empty(), "a step takes the whole batch");
        let process = &*process;
        self.trace.add(process.fingerprint());
        self.observer.stepped(self.now_ns, node.id, process, &node.disk)?;
        self.stepping = None;
        if node.a_sync_failed && self.effects.stop.is_none() {
            let detail = format!("{} goes on after a failed fsync", node.id);
            return Err(Violation::new("fail-stop", detail));
        }
        if node.damaged && process.caught_up() {
            node.damaged = false;
        }
        self.carry_out(index)
    }

    /// Carries out what the process wants.
    fn carry_out(&mut self, index: usize) -> Result<(), Violation> {
        let mut effects = std::mem::take(&mut self.effects);
        let speaks = !effects.sends.is_empty();
        let worked = std::mem::take(&mut effects.worked);
        if worked > 0 {
            self.leaves(index, self.swarm.costs.work_ns * worked, 0);
        }
        for (to, traffic, message) in effects.sends.drain(..) {
            self.send(index, to, traffic, message)?;
        }
        let id = self.nodes[index].id;
        for (client, reply) in effects.replies.drain(..) {
            self.observer.replied(self.now_ns, id, client, &reply)?;
            let costs = self.swarm.costs;
            let left_ns = self.leaves(index, costs.reply_ns, costs.overhead_bytes);
            self.nodes[index].work.replies += 1;
            if let Some(at_ns) = self.client_way() {
                let at_ns = at_ns + (left_ns - self.now_ns);
                self.queue.push(at_ns, Event::Reply { client, from: index as u16, reply });
            }
        }
        for (token, work) in effects.jobs.drain(..) {
            self.start_job(index, token, work);
        }
        if let Some(local_ns) = effects.wake_at_ns.take() {
            self.set_wake(index, local_ns);
        }
        let stop = effects.stop.take();
        // Hand the buffers back.
        self.effects = effects;
        if let Some(why) = stop {
            self.print(format_args!("{id} stops: {why}"));
            self.counters.add("fail-stop", 1);
            return self.crash_node(index);
        }
        if speaks && self.faulty && self.random.chance(self.swarm.crash_after_send_ppm) {
            // The moment that "persist, then speak" is about.
            self.faults.add(FaultKind::Crash);
            return self.crash_node(index);
        }
        Ok(())
    }

    /// When what costs `work_ns` and takes `bytes` on the link has left; the process is busy, and its link taken, until then.
    #[inline]
    fn leaves(&mut self, index: usize, work_ns: u64, bytes: u64) -> u64 {
        let costs = self.swarm.costs;
        if costs == Costs::default() {
            return self.now_ns;
        }
        let node = &mut self.nodes[index];
        let work_ns = work_ns * node.slow;
        node.busy_until_ns = node.busy_until_ns.max(self.now_ns) + work_ns;
        node.work.busy_ns += work_ns;
        node.link_free_ns = node.link_free_ns.max(node.busy_until_ns) + costs.link_ns(bytes);
        node.link_free_ns
    }

    #[inline]
    fn send(
        &mut self,
        from: usize,
        to: NodeId,
        traffic: Traffic,
        mut message: P::Message,
    ) -> Result<(), Violation> {
        self.nodes[from].said += 1;
        let id = self.nodes[from].id;
        self.observer.sent(self.now_ns, id, to, &message)?;
        let target = usize::try_from(to.0).expect("few nodes").wrapping_sub(1);
        assert!(target < self.nodes.len() && target != from, "{id} sends to a peer, not to {to}");
        self.trace.add(to.0 << 8 | traffic as u64);
        if self.swarm.wire {
            message = self.through_the_wire(&message)?;
        }
        let bytes = if self.swarm.costs.needs_bytes() { self.length_of(&message) } else { 0 };
        let left_ns = self.leaves(from, self.swarm.costs.send_ns, bytes);
        let work = &mut self.nodes[from].work;
        work.messages += 1;
        work.bytes += bytes;
        let route = self.network.route(
            left_ns,
            (from, target),
            traffic,
            &self.swarm,
            &mut self.faults,
            &mut self.random,
        );
        let (from, to) = (from as u16, target as u16);
        match route {
            Route::Lost => {
                if self.printer.is_some() {
                    self.print(format_args!("{id} x n{}  {message:?}", to + 1));
                }
            }
            Route::Once(at_ns) => self.queue.push(at_ns, Event::Deliver { from, to, message }),
            Route::Twice(at_ns, again_ns) => {
                self.queue.push(again_ns, Event::Deliver { from, to, message: message.clone() });
                self.queue.push(at_ns, Event::Deliver { from, to, message });
            }
        }
        Ok(())
    }

    fn through_the_wire(&mut self, message: &P::Message) -> Result<P::Message, Violation> {
        self.encoded.clear();
        message.encode(&mut self.encoded);
        P::Message::decode(Bytes::copy_from_slice(&self.encoded))
            .map_err(|error| Violation::new("decodes-what-it-encodes", format!("{error}: {message:?}")))
    }

    fn set_wake(&mut self, index: usize, local_ns: u64) {
        let node = &mut self.nodes[index];
        node.wake_at_ns =
            if local_ns == u64::MAX { u64::MAX } else { node.clock.true_ns(local_ns, self.now_ns) };
        if node.wake_at_ns < node.wake_queued_ns {
            node.wake_queued_ns = node.wake_at_ns;
            let event = Event::Wake { node: index as u16, life: node.life };
            self.queue.push(node.wake_at_ns, event);
        }
    }

    pub(super) fn wake(&mut self, index: usize, life: u32) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.life != life || node.process.is_none() || self.now_ns != node.wake_queued_ns {
            return Ok(());
        }
        node.wake_queued_ns = u64::MAX;
        if node.wake_at_ns > self.now_ns {
            // It was put off meanwhile.
            if node.wake_at_ns < u64::MAX {
                node.wake_queued_ns = node.wake_at_ns;
                self.queue.push(node.wake_at_ns, Event::Wake { node: index as u16, life });
            }
            return Ok(());
        }
        node.wake_at_ns = u64::MAX;
        self.input(index, ProcessInput::WakeUp)
    }

    fn start_job(&mut self, index: usize, token: u64, work: DiskWork) {
        let base_ns = match work {
            DiskWork::LogSync { .. } | DiskWork::Checkpoint { .. } => self.swarm.sync_ns,
            DiskWork::Read { .. } => 5 * MICROSECOND_NS,
        };
        let spread_ns = self.random.below(base_ns + 1);
        let node = &mut self.nodes[index];
        let syncs = !matches!(work, DiskWork::Read { .. });
        let ok = !(syncs && std::mem::take(&mut node.fail_next_sync));
        if node.disk_hangs {
            node.hung_jobs.push(token);
            return;
        }
        let takes_ns = (base_ns + spread_ns + work.bytes() * DISK_NS_PER_BYTE) * node.disk_slow;
        let event = Event::DiskDone { node: index as u16, life: node.life, token, ok };
        self.queue.push(self.now_ns + takes_ns, event);
    }

    pub(super) fn disk_done(
        &mut self,
        index: usize,
        life: u32,
        token: u64,
        ok: bool,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.life != life || node.process.is_none() {
            return Ok(());
        }
        if node.disk_hangs {
            node.hung_jobs.push(token);
            return Ok(());
        }
        if !ok {
            self.faults.add(FaultKind::FailedSync);
            node.a_sync_failed = true;
        }
        let id = node.id;
        self.print(format_args!("{id} disk done, token {token}{}", if ok { "" } else { ": FAILED" }));
        self.input(index, ProcessInput::DiskDone { token, ok })
    }

    pub(super) fn release_hung_jobs(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.disk_hangs = false;
        for token in node.hung_jobs.drain(..) {
            let event = Event::DiskDone { node: index as u16, life: node.life, token, ok: true };
            self.queue.push(self.now_ns, event);
        }
    }

    /// Stops or lets go on: `by` is 1 or -1.
    pub(super) fn change_stopped(&mut self, index: usize, by: i32, asleep: bool) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if by > 0 && node.stopped == 0 {
            node.stopped_since_ns = Some(self.now_ns);
        }
        node.stopped = node.stopped.checked_add_signed(by).expect("stops and continues pair up");
        if asleep {
            node.asleep = node.asleep.checked_add_signed(by).expect("suspends and resumes pair up");
        }
        if node.stopped == 0 && node.process.is_some() && !node.step_is_queued && !node.inbox.is_empty() {
            // What gathered in several sockets is collected socket by socket, in any order; here, clients' first or not.
            if self.random.chance(500_000) {
                node.inbox.sort_by_key(|input| !matches!(input, ProcessInput::Client { .. }));
            }
            return self.step(index);
        }
        Ok(())
    }

    /// Kills a process; plans its restart.
    pub(super) fn crash_node(&mut self, index: usize) -> Result<(), Violation> {
        let loss = self.draw_loss();
        let longest_ms = self.random.pick(&[1, 20, 200, 3_000]);
        let back_ns = self.now_ns + self.random.below(longest_ms * MILLISECOND_NS);
        if self.nodes[index].process.is_none() {
            return Ok(());
        }
        self.end_process(index, loss)?;
        self.restart_at(index, back_ns);
        Ok(())
    }

    /// A process is gone, and with it what `loss` takes of its disk.
    pub(super) fn end_process(&mut self, index: usize, loss: Loss) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        let Some(process) = node.process.take() else { return Ok(()) };
        process.count(&mut self.counters);
        self.observer.ended(node.id, &process);
        node.inbox.clear();
        node.hung_jobs.clear();
        node.disk_hangs = false;
        node.fail_next_sync = false;
        node.disk.crash(loss, &mut self.random);
        let id = node.id;
        self.trace.add(self.now_ns);
        self.trace.add(id.0 | 1 << 48);
        self.print(format_args!("{id} crashes, losing {loss:?}"));
        self.observer.crashed(self.now_ns, id, &self.nodes[index].disk)?;
        for other in 0..self.nodes.len() {
            if other != index {
                self.hint(other, index);
            }
        }
        Ok(())
    }

    fn draw_loss(&mut self) -> Loss {
        let mut choices = [Loss::Nothing; 3];
        let mut count = 1;
        for (kind, loss) in [(FaultKind::UnsyncedLost, Loss::Unsynced), (FaultKind::Torn, Loss::Part)] {
            if self.swarm.faults.has(kind) {
                choices[count] = loss;
                count += 1;
            }
        }
        let loss = self.random.pick(&choices[..count]);
        match loss {
            Loss::Nothing => {}
            Loss::Unsynced => self.faults.add(FaultKind::UnsyncedLost),
            Loss::Part => self.faults.add(FaultKind::Torn),
        }
        loss
    }

    /// Tells `node`, perhaps, that `peer` is gone.
    pub(super) fn hint(&mut self, node: usize, peer: usize) {
        if self.swarm.faults.has(FaultKind::MissingHint) && self.random.chance(500_000) {
            self.faults.add(FaultKind::MissingHint);
            return;
        }
        let at_ns = self.now_ns + self.swarm.delay_min_ns + self.random.below(self.swarm.delay_spread_ns + 1);
        self.queue.push(at_ns, Event::Unreachable { node: node as u16, peer: peer as u16 });
    }
}

/// What kind of input, from whom.
fn input_code<P: Process>(input: &ProcessInput<P>) -> u64 {
    match input {
        ProcessInput::Peer { from, .. } => 1 | from.0 << 8,
        ProcessInput::Client { client, .. } => 2 | u64::from(client.0) << 8,
        ProcessInput::WakeUp => 3,
        ProcessInput::DiskDone { token, ok } => 4 | u64::from(*ok) << 8 | token << 16,
        ProcessInput::Unreachable(peer) => 5 | peer.0 << 8,
    }
}
