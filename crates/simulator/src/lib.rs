//! Deterministic simulation: protocols, or whole nodes, run in a world in which one seed decides everything: how long a message takes and
//! whether it arrives, when a process dies and what its disk then remembers, what the clocks show.
//!
//! ```text
//!                       ┌───────────────────────── World ─────────────────────────┐
//!  Scenario ── Setup ──▶│ virtual time, one queue of events, Random from the seed │── Report (violations, faults,
//!  (swarm, configs,     │                                                         │   counters, trace hash)
//!   clients, observer)  │  Clients ⇄ Process ⇄ Network ⇄ Process ⇄ Clients        │
//!                       │              │ ▲                                        │
//!                       │             Disk, Clock        Observer sees all        │
//!                       └─────────────────────────────────────────────────────────┘
//! ```
//!
//! - [`Process`] is one operating-system process. [`ProtocolProcess`] makes one of any [`keypact_protocol::Protocol`], behind the same gate
//!   that the server uses, with a typed log ([`RecordDisk`]) and a [`StateMachine`] ([`Kv`]). Whole nodes implement it themselves.
//! - [`Clients`] plays all clients; [`KvClients`] records a history and judges what it can by itself.
//! - [`Observer`] holds cluster-wide invariants, called after every step and for every message and answer.
//! - [`Swarm`] is one seed's mix of sizes, speeds and faults, drawn within [`Limits`].
//! - [`script`] runs interaction scripts: one story a file, commands in, effects out.
//! - [`CollectingSink`] is for who drives a protocol by hand, in a unit test or a bench.
//! - [`Scenario`], [`run_seed`], [`run_seeds`], [`Report`]: many worlds.

//!
//! A run has two phases. In the *safety* phase faults strike. Then all faults end, everything heals and restarts, and in the *liveness*
//! phase every client must be served a new write in bounded time, all processes must converge, and every acknowledged write must be there.
//!
//! Time: *true* time is the world's, in nanoseconds from 0. A process sees only its own clocks. Inputs that arrive while a process is busy
//! or stopped come as one batch; its clocks are sampled after the batch was collected.
//!
//! Invariant: nothing here reads a clock, a random device or the order of a hash table. Equal setups and seeds have equal trace hashes.

mod agreement;
mod clients;
mod clock;
mod collecting_sink;
mod fault;
mod kv;
mod machine;
mod network;
mod observer;
mod process;
mod protocol_process;
mod queue;
mod random;
mod record_disk;
mod scenario;
pub mod script;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use agreement::Agreement;
pub use clients::{ClientEffects, Clients, Tally};
pub use clock::Clock;
pub use collecting_sink::CollectingSink;
pub use fault::{
    Costs, FaultCounts, FaultKind, FaultSet, Limits, MICROSECOND_NS, MILLISECOND_NS, SECOND_NS, Swarm,
};
pub use kv::{
    Key, Kv, KvAnswer, KvClients, KvCommand, KvOperation, KvOutcome, KvWork, Workload, digest_of,
    key_of_command,
};
pub use machine::StateMachine;
pub use observer::{Observer, Violation};
pub use process::{
    Applied, ClientId, Disk, DiskDamage, DiskWork, Effects, Loss, Process, ProcessInput, StartRefused,
    Traffic,
};
pub use protocol_process::{
    Ask, MachineOutcome, MachineReply, MachineRequest, ProcessConfig, ProtocolProcess,
};
pub use random::Random;
pub use record_disk::{Checkpoint, Origin, RecordDisk, Standing};
pub use scenario::{Failure, Report, Scenario, run_seed, run_seeds};
pub use trace::{Counters, TraceHash};
pub use world::{Printer, Setup, Work, World};
