//! Unit tests on a small driver: members, a network of queues, disks that sync when told. Every step is followed by all cluster-wide checks.

mod driver;
mod elections;
mod limits;
mod membership;
#[cfg(feature = "plant")]
mod plants;
mod reads;
mod recovery;
mod replication;
mod rough;
mod snapshots;
mod wire;
