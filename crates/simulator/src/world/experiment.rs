//! What measurements need beside a seed's faults: faults at will, costs, and what was done by whom.

use keypact_protocol::{NodeId, Wire};

use super::{Event, World};
use crate::{Clients, Loss, Observer, Process, Violation};

/// What a node has done since the beginning, over all its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Messages that it sent to peers, lost ones too.
    pub messages: u64,
    /// Their bytes, if they are counted ([`crate::Costs`]).
    pub bytes: u64,
    /// Answers to clients.
    pub replies: u64,
    /// How long it was busy.
    pub busy_ns: u64,
}

impl<P: Process, C: Clients<P>, O: Observer<P>> World<P, C, O> {
    fn index_of(&self, node: NodeId) -> usize {
        let index = self.nodes.iter().position(|each| each.id == node);
        index.expect("an experiment names its own nodes")
    }

    /// What a node has done so far.
    #[must_use]
    pub fn work(&self, node: NodeId) -> Work {
        self.nodes[self.index_of(node)].work
    }

    /// A node's process, if it lives.
    #[must_use]
    pub fn process(&self, node: NodeId) -> Option<&P> {
        self.nodes[self.index_of(node)].process.as_ref()
    }

    /// The clients, to be told what comes next. What they want from it they say at their next wake-up.
    pub fn clients_mut(&mut self) -> &mut C {
        &mut self.clients
    }

    /// Cuts both directions between each node of one side and each of the other, until [`World::mend`].
    pub fn cut_between(&mut self, one: &[NodeId], other: &[NodeId]) {
        for from in one {
            for to in other {
                let (from, to) = (self.index_of(*from), self.index_of(*to));
                assert!(from != to, "a node is on one side");
                self.network.cut(&vec![(from, to), (to, from)]);
            }
        }
    }

    /// Ends all cuts.
    pub fn mend(&mut self) {
        self.network.mend_all();
    }

    /// Kills a process, which stays dead until [`World::revive`]. Its peers are told, perhaps late, that it is gone.
    ///
    /// # Errors
    /// A violation that an observer sees.
    pub fn kill(&mut self, node: NodeId, loss: Loss) -> Result<(), Violation> {
        let index = self.index_of(node);
        self.end_process(index, loss)
    }

    /// Starts a process that was killed.
    ///
    /// # Errors
    /// A violation: it refuses to start.
    pub fn revive(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = self.index_of(node);
        self.start_node(index)
    }

    /// Stops a process, as SIGSTOP does; [`World::resume`] lets it go on.
    ///
    /// # Errors
    /// A violation that an observer sees.
    pub fn pause(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = self.index_of(node);
        self.change_stopped(index, 1, false)
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// A violation that an observer sees.
    pub fn resume(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = self.index_of(node);
        self.change_stopped(index, -1, false)
    }

    /// From now on a node works so many times slower than the others; 1: as they do.
    pub fn slow(&mut self, node: NodeId, factor: u64) {
        assert!(factor > 0, "work takes time");
        let index = self.index_of(node);
        self.nodes[index].slow = factor;
    }

    /// Restarts a process that ended by itself or by a fault at this true time.
    pub(super) fn restart_at(&mut self, index: usize, at_ns: u64) {
        self.queue.push(at_ns, Event::Restart { node: index as u16 });
    }

    /// What a message takes on the link, in bytes.
    pub(super) fn length_of(&mut self, message: &P::Message) -> u64 {
        self.encoded.clear();
        message.encode(&mut self.encoded);
        self.encoded.len() as u64 + self.swarm.costs.overhead_bytes
    }
}
