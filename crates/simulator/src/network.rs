//! Links between nodes: who can talk to whom, and how long it takes.

use crate::{FaultCounts, FaultKind, Random, Swarm, Traffic};

/// All links of one world.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    /// `cuts[from * nodes + to]`: how many faults that are going on cut this direction.
    cuts: Vec<u16>,
    /// When the last message of each direction and traffic class arrives, if they keep their order.
    last_arrival_ns: Vec<[u64; 2]>,
}

/// A cut that is going on: the directions that it took.
pub(crate) type Cut = Vec<(usize, usize)>;

/// When copies of one message arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// It is lost.
    Lost,
    /// Once.
    Once(u64),
    /// Twice.
    Twice(u64, u64),
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Network {
        Network { nodes, cuts: vec![0; nodes * nodes], last_arrival_ns: vec![[0; 2]; nodes * nodes] }
    }

    /// Whether messages from here to there are cut off.
    #[inline]
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.nodes + to] > 0
    }

    /// Decides what becomes of one message.
    #[inline]
    pub(crate) fn route(
        &mut self,
        now_ns: u64,
        (from, to): (usize, usize),
        traffic: Traffic,
        swarm: &Swarm,
        counts: &mut FaultCounts,
        random: &mut Random,
    ) -> Route {
        if self.is_cut(from, to) {
            return Route::Lost;
        }
        // One draw decides all three, as all are rare.
        let dice = if swarm.loss_ppm | swarm.duplicate_ppm | swarm.reorder_ppm == 0 {
            u32::MAX
        } else {
            random.below(1_000_000) as u32
        };
        if dice < swarm.loss_ppm {
            counts.add(FaultKind::Loss);
            return Route::Lost;
        }
        let delayed = dice >= swarm.loss_ppm && dice < swarm.loss_ppm + swarm.reorder_ppm;
        let mut at_ns = now_ns + swarm.delay_min_ns + random.below(swarm.delay_spread_ns + 1);
        if delayed {
            counts.add(FaultKind::Reorder);
            at_ns += random.below(swarm.delay_tail_ns + 1);
        } else if swarm.ordered {
            let last = &mut self.last_arrival_ns[from * self.nodes + to][traffic as usize];
            at_ns = at_ns.max(*last);
            *last = at_ns;
        }
        let duplicated = dice != u32::MAX && 999_999 - dice < swarm.duplicate_ppm;
        if duplicated {
            counts.add(FaultKind::Duplicate);
            return Route::Twice(at_ns, at_ns + random.below(swarm.delay_tail_ns + 1));
        }
        Route::Once(at_ns)
    }

    /// Cuts these directions, until [`Network::mend`].
    pub(crate) fn cut(&mut self, cut: &Cut) {
        for (from, to) in cut {
            self.cuts[from * self.nodes + to] += 1;
        }
    }

    /// Ends a cut.
    pub(crate) fn mend(&mut self, cut: &Cut) {
        for (from, to) in cut {
            let count = &mut self.cuts[from * self.nodes + to];
            assert!(*count > 0, "only what is cut is mended");
            *count -= 1;
        }
    }

    /// Ends all cuts.
    pub(crate) fn mend_all(&mut self) {
        self.cuts.fill(0);
    }

    /// A cut of this kind around `node`; empty if the cluster is too small for it.
    pub(crate) fn draw(&self, kind: FaultKind, node: usize, random: &mut Random) -> Cut {
        let mut order: Vec<usize> = (0..self.nodes).collect();
        random.shuffle(&mut order);
        let at = order.iter().position(|each| *each == node).expect("it is one of them");
        order.swap(0, at);
        let pairs = |blocked: &dyn Fn(usize, usize) -> bool| {
            let mut cut = Cut::new();
            for (i, from) in order.iter().enumerate() {
                for (j, to) in order.iter().enumerate() {
                    if i != j && blocked(i, j) {
                        cut.push((*from, *to));
                    }
                }
            }
            cut
        };
        if self.nodes < 2 {
            return Cut::new();
        }
        match kind {
            FaultKind::Partition => {
                let left = if random.chance(500_000) { 1 } else { 1 + random.index(self.nodes - 1) };
                pairs(&|i, j| (i < left) != (j < left))
            }
            FaultKind::OneWay => {
                // From one node to some others.
                let some = 1 + random.index(self.nodes - 1);
                if random.chance(500_000) {
                    pairs(&|i, j| i == 0 && j <= some)
                } else {
                    pairs(&|i, j| j == 0 && i <= some)
                }
            }
            FaultKind::Partial => pairs(&|i, j| i + j == 1),
            FaultKind::Chained => pairs(&|i, j| i.abs_diff(j) > 1),
            _ => unreachable!("{} is no cut", kind.name()),
        }
    }
}
