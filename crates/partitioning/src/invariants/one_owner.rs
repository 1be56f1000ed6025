//! A position has one owner at each map version, and nobody else serves it meanwhile.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use keypact_protocol::NodeId;

use crate::holding::Holdings;
use crate::invariants::InvariantViolation;
use crate::slice::Position;

/// Watches some positions on all nodes.
#[derive(Clone, Debug)]
pub struct OneOwner<B> {
    probes: Vec<B>,
    /// By probe: who serves it now, and since which version.
    serving: Vec<Vec<(NodeId, u64)>>,
    /// By probe: who ever served it since each version.
    history: Vec<BTreeMap<u64, NodeId>>,
}

impl<B: Position> OneOwner<B> {
    /// Watches these.
    #[must_use]
    pub fn new(probes: Vec<B>) -> OneOwner<B> {
        let count = probes.len();
        OneOwner {
            probes,
            serving: alloc::vec![Vec::new(); count],
            history: alloc::vec![BTreeMap::new(); count],
        }
    }

    /// A position to be watched from now on, such as a new boundary.
    pub fn watch(&mut self, probe: B) {
        if !self.probes.contains(&probe) {
            self.probes.push(probe);
            self.serving.push(Vec::new());
            self.history.push(BTreeMap::new());
        }
        assert!(self.probes.len() == self.serving.len(), "each probe has its place");
    }

    /// A node's process is gone: it serves nothing.
    pub fn stopped(&mut self, node: NodeId) {
        for serving in &mut self.serving {
            serving.retain(|(other, _)| *other != node);
        }
    }

    /// A node holds this now.
    ///
    /// # Errors
    /// `one-owner`: two nodes serve a position at once. `one-owner-a-version`: another node served it since the same version.
    pub fn check(&mut self, node: NodeId, holdings: &Holdings<B>) -> Result<(), InvariantViolation> {
        for (at, probe) in self.probes.iter().enumerate() {
            self.serving[at].retain(|(other, _)| *other != node);
            let Some(since) = holdings.serves(probe) else { continue };
            if let Some((other, _)) = self.serving[at].first() {
                let detail = format!("{node} and {other} both serve {probe:?}");
                return Err(InvariantViolation { property: "one-owner", detail });
            }
            self.serving[at].push((node, since));
            let first = *self.history[at].entry(since).or_insert(node);
            if first != node {
                let detail = format!("{node} serves {probe:?} since version {since}, as {first} did");
                return Err(InvariantViolation { property: "one-owner-a-version", detail });
            }
        }
        Ok(())
    }

    /// Who serves the probe of this place now.
    #[must_use]
    pub fn server(&self, probe: &B) -> Option<NodeId> {
        let at = self.probes.iter().position(|other| other == probe)?;
        self.serving[at].first().map(|(node, _)| *node)
    }

    /// How many different owners some probe has had at most: that anything moved at all.
    #[must_use]
    pub fn owners_most(&self) -> usize {
        self.history.iter().map(BTreeMap::len).max().unwrap_or(0)
    }
}
