//! Who gets what, and how to get there: a wanted placement, the plan between two maps, and its execution.
//!
//! ```text
//!   balance / even_out: where units should lie, with few moves and replicas apart
//!        │ wanted map
//!        ▼
//!   Plan::between(map, wanted): each slice whose replicas change, once ── dry_run ──▶ what it would cost
//!        │
//!        ▼                    throttle
//!   Executor   Waiting ──start──▶ Started ──switched──▶ Done      (the map: version + 1 at each switch)
//!                 ▲                   │
//!                 └──── recovery ─────┘   a started step is told again; a switched one never
//! ```
//!
//! A plan is data: it can be printed, kept in a file, sent, refused. Its steps are independent of each other, so any order is right; they are
//! ordered so that no node gets much before it gave.

mod balance;
mod execute;
mod plan;
mod throttle;

pub use balance::{PlacementError, Unit, balance, even_out};
pub use execute::{Executor, ExecutorError, ExecutorRecord, StepState};
pub use plan::{DryRun, Flow, Plan, PlanError, Step};
pub use throttle::Throttle;
