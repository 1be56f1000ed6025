//! The contract between a pure protocol and whatever drives it: a server with sockets and disks, or a simulator with neither.
//!
//! A [`Protocol`] is a value. It takes one [`Input`] at a time, with the two clocks in a [`Context`], and writes what shall happen to a
//! [`Sink`]. It has no clock, no randomness, no thread and no file of its own; `#![no_std]` lets the compiler hold it to that. So a trace is
//! a list of (now, wall, node, input), and replay is a loop.
//!
//! ```text
//!             Input + Context                         Sink
//!  driver ───────────────────────▶  Protocol  ──────────────────▶  Gate ──▶ Outlet (sockets, log, parent, timers)
//!     ▲                                           append ─▶ Lsn     │ holds `send`, `reply`, `deliver`
//!     └──────────── Durable(Lsn) ◀── disk ◀─────────────────────────┘ until this child's last append is durable
//! ```
//!
//! # Rules that every protocol keeps
//!
//! 1. *Persist, then speak.* [`Sink::send`], [`Sink::reply`] and [`Sink::deliver`] wait until this child's last append is durable. The `_early`
//!    forms do not wait; each call site carries the argument why a crash in between is harmless.
//! 2. *Clocks come after inputs.* The driver collects its inputs first and samples the clocks after, so nothing is judged by a time
//!    before its arrival.
//! 3. *Deterministic.* The same config, checkpoint, seed, records and inputs give the same effects, byte for byte.
//! 4. *Bounded.* Every queue, window and table has a limit in the protocol's config.
//! 5. *Flush once.* [`Protocol::handle`] may gather; [`Protocol::flush`] is called once after a batch of inputs, then
//!    [`Protocol::assert_invariants`], in release builds too.
//! 6. *Recovery is the only constructor.* [`Protocol::begin`], [`Recover::replay`] for each record that the disk kept, [`Recover::finish`];
//!    then [`Input::Start`] is the first input.
#![no_std]

extern crate alloc;

mod contract;
mod draft;
mod gate;
mod ids;
mod plant;
mod wire;

pub use contract::{
    Context, Delivery, Input, Protocol, ReadLevel, Recover, RecoveryError, Refusal, Reply, Request, Sink,
    SnapshotChunk, SnapshotInput, SnapshotRead,
};
pub use draft::{Draft, DraftArena, HEADROOM_BYTES};
pub use gate::{Gate, Gated, Held, Outlet};
pub use ids::{GroupId, Incarnation, Lsn, NodeId, RequestId};
#[cfg(feature = "plant")]
pub use plant::switch_on;
pub use plant::{Plant, planted};
pub use wire::{DecodeError, Wire};
