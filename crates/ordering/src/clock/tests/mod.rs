//! Laws of the clocks, each against a model that is too simple to be wrong: sets of events.

mod context;
mod goldens;
mod hybrid;
mod vector;
mod wire;

use super::{Dot, ReplicaId};

pub(super) fn dot(replica: u64, counter: u64) -> Dot {
    Dot::new(ReplicaId(replica), counter)
}
