//! Stories of one to three nodes on a small deterministic driver ([`cluster`]): no time passes and no message arrives but as a story says.

mod catalog;
mod checkpoints;
mod cluster;
mod config;
mod forwarding;
mod limits;
mod listing;
mod members;
mod pipelines;
mod reads;
mod recovery;
mod time;
mod wire;
