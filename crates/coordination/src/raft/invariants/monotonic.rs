//! Monotonic term and commit: neither falls while a member lives, and a term that its disk holds does not fall across restarts.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{Step, Violation};

#[derive(Debug)]
pub(super) struct Monotonic {
    /// For each member the newest durable term.
    durable_terms: Vec<u64>,
}

impl Monotonic {
    pub(super) fn new(members: usize) -> Monotonic {
        Monotonic { durable_terms: vec![0; members] }
    }

    pub(super) fn lost(&mut self, at: usize) {
        self.durable_terms[at] = 0;
    }

    pub(super) fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        let (now, before) = (&step.now, &step.before);
        let lived = before.same_life;
        let durable_term = &mut self.durable_terms[step.at];
        if now.term < *durable_term || lived && now.term < before.term {
            return Err(Violation {
                property: "monotonic term",
                detail: format!("{} fell to term {}", step.id, now.term),
            });
        }
        if lived && now.commit < before.commit {
            return Err(Violation {
                property: "monotonic commit",
                detail: format!("{} fell from {} to {}", step.id, before.commit, now.commit),
            });
        }
        if now.hard_is_durable {
            *durable_term = now.term;
        }
        Ok(())
    }
}
