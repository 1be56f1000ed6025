//! Two members of a view that have applied the same events have the same state.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use keypact_protocol::{NodeId, Wire};

use super::Violation;
use crate::gossip::{Gossip, Replicated};

/// What was shown is remembered for so many versions; older ones are forgotten first.
const REMEMBERED_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct EqualVersions {
    /// The encoded state by view and encoded version, and who showed it.
    states: BTreeMap<(u64, Vec<u8>), (NodeId, u64)>,
}

impl EqualVersions {
    pub(super) fn check<L: Replicated>(
        &mut self,
        node: NodeId,
        replica: &Gossip<L>,
    ) -> Result<(), Violation> {
        if replica.replica().is_none() {
            return Ok(());
        }
        let (mut version, mut state) = (Vec::new(), Vec::new());
        replica.version().encode(&mut version);
        replica.state().encode(&mut state);
        let digest = digest_of(&state);
        let (first, shown) = *self.states.entry((replica.view().number, version)).or_insert((node, digest));
        if shown != digest {
            let detail = format!("{node} and {first} have both applied {}", replica.version());
            return Err(Violation { property: "equal-versions-equal-states", detail });
        }
        while self.states.len() > REMEMBERED_MAX {
            self.states.pop_first();
        }
        Ok(())
    }
}

/// FNV-1a, 64 bits.
fn digest_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
