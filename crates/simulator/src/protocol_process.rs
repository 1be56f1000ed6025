//! One protocol alone as a process: gate, typed log, state machine, clients.

mod parent;

use std::fmt;

use keypact_protocol::{
    Context, Delivery, Gate, Input, NodeId, Protocol, ReadLevel, Recover, Refusal, Reply, Request,
    SnapshotInput,
};

use crate::{
    Applied, Checkpoint, ClientId, Counters, Effects, Process, ProcessInput, RecordDisk, Standing,
    StartRefused, StateMachine, TraceHash,
};
use parent::{Job, Parent, Pending, Wiring};

/// Content of one snapshot chunk, at most, in bytes; small, so that snapshots have several.
const CHUNK_BYTES: usize = 256;

/// What a client asks of a process. `token` comes back with the answer.
#[derive(Clone, Debug)]
pub struct MachineRequest<M: StateMachine> {
    /// The client's own number for it.
    pub token: u64,
    /// What it wants.
    pub ask: Ask<M>,
}

/// A write or a read.
#[derive(Clone, Debug)]
pub enum Ask<M: StateMachine> {
    /// Put this into the group's order.
    Write(M::Command),
    /// Read this.
    Read(M::Query, ReadLevel),
}

/// What a client is told.
#[derive(Clone, PartialEq, Debug)]
pub struct MachineReply<M: StateMachine> {
    /// As in the request.
    pub token: u64,
    /// One of three outcomes.
    pub outcome: MachineOutcome<M>,
}

/// Applied (or read), not applied, uncertain.
#[derive(Clone, PartialEq, Debug)]
pub enum MachineOutcome<M: StateMachine> {
    /// Done, with the machine's answer.
    Done(M::Answer),
    /// Not applied.
    Refused(Refusal),
    /// May or may not have been applied.
    Uncertain,
}

/// How to run a protocol alone.
#[derive(Clone, Debug)]
pub struct ProcessConfig<C> {
    /// The protocol's own configuration.
    pub protocol: C,
    /// Requests under way at most; beyond that they are refused as overloaded.
    pub pending_limit: usize,
}

/// A protocol alone with its state machine.
pub struct ProtocolProcess<P: Protocol, M: StateMachine> {
    protocol: P,
    gate: Gate<P>,
    parent: Parent<P, M>,
    standing: Option<Standing<P>>,
}

impl<P: Protocol, M: StateMachine> fmt::Debug for ProtocolProcess<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolProcess({}, applied {})", self.parent.id, self.parent.applied)
    }
}

impl<P: Protocol, M: StateMachine> ProtocolProcess<P, M> {
    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The state machine.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.parent.machine
    }

    /// What the last step delivered, in order.
    #[must_use]
    pub fn delivered(&self) -> &[Delivery] {
        &self.parent.delivered
    }

    /// Index of the last command applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.parent.applied
    }

    /// The gate, for those who watch it.
    #[must_use]
    pub fn gate(&self) -> &Gate<P> {
        &self.gate
    }
}

impl<P: Protocol, M: StateMachine> Process for ProtocolProcess<P, M>
where
    P::Config: Clone,
{
    type Config = ProcessConfig<P::Config>;
    type Disk = RecordDisk<P>;
    type Message = P::Message;
    type Request = MachineRequest<M>;
    type Reply = MachineReply<M>;

    fn start(
        config: &Self::Config,
        id: NodeId,
        disk: &mut RecordDisk<P>,
        seed: u64,
        context: Context,
        out: &mut Effects<Self>,
    ) -> Result<Self, StartRefused> {
        let refused = |why: String| StartRefused { why };
        disk.open(seed);
        let checkpoint = disk.checkpoint().cloned();
        let (machine, applied) = match &checkpoint {
            None => (M::default(), 0),
            Some(kept) => {
                (M::load(kept.state.clone()).map_err(|error| refused(error.to_string()))?, kept.applied)
            }
        };
        let meta = checkpoint.map(|kept: Checkpoint| kept.meta);
        let mut recovery =
            P::begin(config.protocol.clone(), meta, seed).map_err(|e| refused(e.to_string()))?;
        for (lsn, record) in disk.records() {
            recovery.replay(lsn, record.clone()).map_err(|error| refused(error.to_string()))?;
        }
        let mut process = ProtocolProcess {
            protocol: recovery.finish(),
            gate: Gate::new(disk.durable()),
            parent: Parent::new(id, machine, applied, config.pending_limit),
            standing: disk.standing(),
        };
        process.handle(Input::Start, context, disk, out);
        process.end_batch(context, disk, out);
        Ok(process)
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Self>>,
        disk: &mut RecordDisk<P>,
        context: Context,
        out: &mut Effects<Self>,
    ) {
        self.parent.delivered.clear();
        for input in batch.drain(..) {
            match input {
                ProcessInput::Peer { from, message } => {
                    self.handle(Input::Message { from, message }, context, disk, out);
                }
                ProcessInput::Client { client, request } => self.ask(client, request, context, disk, out),
                // Due timers are looked for after the batch in any case.
                ProcessInput::WakeUp => self.parent.woken(),
                ProcessInput::DiskDone { token, ok } => {
                    if !ok {
                        // A failed fsync is never retried: nobody knows what the disk has.
                        out.stop("a disk job failed");
                        return;
                    }
                    self.disk_done(token, context, disk, out);
                }
                ProcessInput::Unreachable(peer) => {
                    self.handle(Input::Unreachable(peer), context, disk, out);
                }
            }
        }
        self.end_batch(context, disk, out);
    }

    fn applied(&self) -> Option<Applied> {
        let takes_part = self.standing.is_none_or(|standing| (standing.takes_part)(&self.protocol));
        takes_part.then(|| self.parent.machine.compared(self.parent.applied))
    }

    fn caught_up(&self) -> bool {
        self.standing.is_none_or(|standing| (standing.caught_up)(&self.protocol))
    }

    fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        hash.add(self.parent.applied);
        hash.add(self.parent.machine.digest());
        hash.add(self.gate.held_len() as u64 | (self.parent.appended.0 << 20));
        hash.value()
    }

    fn count(&self, counters: &mut Counters) {
        self.parent.count(counters);
    }
}

impl<P: Protocol, M: StateMachine> ProtocolProcess<P, M>
where
    P::Config: Clone,
{
    fn handle(
        &mut self,
        input: Input<P>,
        context: Context,
        disk: &mut RecordDisk<P>,
        out: &mut Effects<Self>,
    ) {
        let mut wiring = Wiring { parent: &mut self.parent, disk, out };
        self.protocol.handle(input, context, &mut self.gate.sink(&mut wiring));
    }

    /// Due timers, flush, invariants; then the disk is put to work.
    fn end_batch(&mut self, context: Context, disk: &mut RecordDisk<P>, out: &mut Effects<Self>) {
        while let Some(timer) = self.parent.take_due(context.now_ns) {
            self.handle(Input::Timer(timer), context, disk, out);
        }
        self.parent.timers_looked_at();
        let mut wiring = Wiring { parent: &mut self.parent, disk, out };
        self.protocol.flush(context, &mut self.gate.sink(&mut wiring));
        self.protocol.assert_invariants();
        let mut wiring = Wiring { parent: &mut self.parent, disk, out };
        wiring.begin_checkpoint(!self.gate.holds_delivery());
        wiring.begin_sync();
        wiring.answer_reads();
        self.parent.set_wake(out);
    }

    fn ask(
        &mut self,
        client: ClientId,
        request: MachineRequest<M>,
        context: Context,
        disk: &mut RecordDisk<P>,
        out: &mut Effects<Self>,
    ) {
        let MachineRequest { token, ask } = request;
        if self.parent.is_full() {
            let outcome = MachineOutcome::Refused(Refusal::Overloaded);
            return out.reply(client, MachineReply { token, outcome });
        }
        let request = match ask {
            Ask::Write(command) => {
                let id = self.parent.admit(Pending { client, token, query: None });
                Request::Propose { id, command: self.parent.draft(&command) }
            }
            Ask::Read(query, level) => {
                let key = M::key_of(&query);
                let id = self.parent.admit(Pending { client, token, query: Some(query) });
                match key {
                    Some(key) => Request::ReadKey { id, level, key },
                    None => Request::Read { id, level },
                }
            }
        };
        self.handle(Input::Request(request), context, disk, out);
    }

    fn disk_done(&mut self, token: u64, context: Context, disk: &mut RecordDisk<P>, out: &mut Effects<Self>) {
        let answer = match Job::from_token(token) {
            Job::LogSync => {
                let lsn = self.parent.synced(disk);
                let mut wiring = Wiring { parent: &mut self.parent, disk, out };
                self.gate.release(lsn, &mut wiring);
                return self.handle(Input::Durable(lsn), context, disk, out);
            }
            Job::Checkpoint => self.parent.checkpoint_written(disk),
            Job::Install => self.parent.installed(disk),
            Job::Taken(chunk) => SnapshotInput::Taken { chunk },
            Job::Read => self.parent.read_done(disk),
        };
        self.handle(Input::Snapshot(answer), context, disk, out);
    }
}

/// What a reply of a protocol says to the client, if it ends the request.
fn outcome_of<M: StateMachine>(reply: Reply) -> Option<MachineOutcome<M>> {
    match reply {
        Reply::ReadFrom { .. } => None,
        Reply::Refused { why, .. } => Some(MachineOutcome::Refused(why)),
        Reply::Uncertain { .. } => Some(MachineOutcome::Uncertain),
    }
}
