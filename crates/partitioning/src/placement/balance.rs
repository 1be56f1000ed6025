//! Where replicas should lie.

use alloc::vec::Vec;
use core::fmt;

use keypact_protocol::NodeId;

use crate::member::Member;

/// Something that is placed as a whole: a slot, a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// How much of a load it is: keys, bytes. [`balance`] counts each as one.
    pub size: u64,
    /// Who holds it now, the owner first; may be empty.
    pub replicas: Vec<NodeId>,
}

/// Why there is no placement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlacementError {
    /// There are fewer hosts with a weight than replicas asked for.
    TooFewHosts {
        /// So many there are.
        hosts: usize,
        /// So many replicas each unit should have.
        replicas: usize,
    },
    /// A node stands twice in the list.
    MemberTwice(NodeId),
    /// No replicas were asked for.
    NoReplicas,
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlacementError::TooFewHosts { hosts, replicas } => {
                write!(f, "{replicas} replicas need as many hosts; there are {hosts}")
            }
            PlacementError::MemberTwice(node) => write!(f, "{node} is in the list twice"),
            PlacementError::NoReplicas => f.write_str("a unit needs at least one replica"),
        }
    }
}

impl core::error::Error for PlacementError {}

/// The members that may hold something, and how much each has.
struct Shelf<'a> {
    members: Vec<&'a Member>,
    /// By member: replicas held.
    held: Vec<u64>,
    /// By member: replicas it should hold.
    quota: Vec<u64>,
    zones: usize,
}

impl<'a> Shelf<'a> {
    fn new(members: &'a [Member], replicas: usize) -> Result<Shelf<'a>, PlacementError> {
        if replicas == 0 {
            return Err(PlacementError::NoReplicas);
        }
        let mut names: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PlacementError::MemberTwice(pair[0]));
        }
        let mut able: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
        able.sort_unstable_by_key(|member| member.node);
        let mut hosts: Vec<_> = able.iter().map(|member| member.domain).collect();
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.len() < replicas {
            return Err(PlacementError::TooFewHosts { hosts: hosts.len(), replicas });
        }
        let mut zones: Vec<u32> = hosts.iter().map(|domain| domain.zone).collect();
        zones.dedup();
        let count = able.len();
        Ok(Shelf {
            members: able,
            held: alloc::vec![0; count],
            quota: alloc::vec![0; count],
            zones: zones.len(),
        })
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search_by_key(&node, |member| member.node).ok()
    }

    /// What may stay of each unit's replicas, and counts it as held.
    fn keep(&mut self, units: &[Unit], replicas: usize, sizes: &[u64]) -> Vec<Vec<usize>> {
        assert!(units.len() == sizes.len(), "each unit has a size");
        let mut placed = Vec::with_capacity(units.len());
        for (unit, size) in units.iter().zip(sizes) {
            let mut kept: Vec<usize> = Vec::with_capacity(replicas);
            for node in &unit.replicas {
                let Some(at) = self.index(*node) else { continue };
                if kept.len() < replicas && self.fits(at, &kept, replicas) {
                    kept.push(at);
                    self.held[at] += size;
                }
            }
            assert!(kept.len() <= replicas, "no more than were asked for");
            placed.push(kept);
        }
        placed
    }

    /// Each member's share of `total`, whole numbers: what is left over goes to those who have more already, so that less moves.
    fn set_quotas(&mut self, total: u64) {
        let weights: u64 = self.members.iter().map(|member| u64::from(member.weight)).sum();
        for (quota, member) in self.quota.iter_mut().zip(&self.members) {
            *quota = (u128::from(total) * u128::from(member.weight) / u128::from(weights)) as u64;
        }
        let left = total - self.quota.iter().sum::<u64>();
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|at| (core::cmp::Reverse(self.held[*at].saturating_sub(self.quota[*at])), *at));
        assert!(left <= order.len() as u64, "rounding down loses less than one each");
        for at in order.into_iter().take(left as usize) {
            self.quota[at] += 1;
        }
        assert!(self.quota.iter().sum::<u64>() == total, "quotas give out everything");
    }

    /// Whether this member may join these replicas: no two on one host, and a zone only as often as there are zones too few.
    fn fits(&self, at: usize, chosen: &[usize], replicas: usize) -> bool {
        let domain = self.members[at].domain;
        let on_host = chosen.iter().any(|other| self.members[*other].domain == domain);
        let in_zone = chosen.iter().filter(|other| self.members[**other].domain.zone == domain.zone).count();
        !on_host && in_zone < replicas.div_ceil(self.zones)
    }

    /// The member with the most room that fits; if zones have too few hosts, then on distinct hosts alone.
    fn roomiest(&self, chosen: &[usize], replicas: usize) -> usize {
        let room = |at: &usize| (self.quota[*at] as i64 - self.held[*at] as i64, core::cmp::Reverse(*at));
        let all = 0..self.members.len();
        let fitting = all.clone().filter(|at| self.fits(*at, chosen, replicas)).max_by_key(room);
        let apart = || {
            all.filter(|at| {
                chosen.iter().all(|other| self.members[*other].domain != self.members[*at].domain)
            })
            .max_by_key(room)
        };
        fitting.or_else(apart).expect("there are as many hosts as replicas")
    }
}

/// Places units of equal size: each member gets its share by weight, rounded; replicas of a unit stand on distinct hosts, and in distinct zones
/// as far as there are. What may stay stays. Returns each unit's replicas, the owner first.
///
/// With one replica no placement of such shares moves less. With more it may be that one does: finding it is a flow problem, and this is
/// greedy. O(units * replicas * members) at worst.
///
/// # Errors
/// [`PlacementError`].
pub fn balance(
    units: &[Unit],
    members: &[Member],
    replicas: usize,
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    let mut shelf = Shelf::new(members, replicas)?;
    let mut placed = shelf.keep(units, replicas, &alloc::vec![1; units.len()]);
    shelf.set_quotas(units.len() as u64 * replicas as u64);
    // From the last unit on, so that what stays is in one piece.
    for kept in placed.iter_mut().rev() {
        kept.retain(|at| {
            let over = shelf.held[*at] > shelf.quota[*at];
            shelf.held[*at] -= u64::from(over);
            !over
        });
    }
    for kept in &mut placed {
        while kept.len() < replicas {
            let at = shelf.roomiest(kept, replicas);
            kept.push(at);
            shelf.held[at] += 1;
        }
    }
    spread_owners(&mut placed, &shelf, units);
    let name = |kept: &Vec<usize>| kept.iter().map(|at| shelf.members[*at].node).collect::<Vec<_>>();
    let named: Vec<Vec<NodeId>> = placed.iter().map(name).collect();
    assert!(named.iter().all(|nodes| nodes.len() == replicas), "each unit has its replicas");
    Ok(named)
}

/// Puts first, of each unit's replicas, who owns the least for its weight; an owner that stays a replica stays the owner unless it owns more
/// than its share. Costs no copy.
fn spread_owners(placed: &mut [Vec<usize>], shelf: &Shelf<'_>, units: &[Unit]) {
    let weights: u64 = shelf.members.iter().map(|member| u64::from(member.weight)).sum();
    let share = |at: usize| {
        let weight = u64::from(shelf.members[at].weight);
        (units.len() as u64 * weight).div_ceil(weights)
    };
    let mut owned = alloc::vec![0u64; shelf.members.len()];
    let mut open = Vec::new();
    for (number, (kept, unit)) in placed.iter_mut().zip(units).enumerate() {
        let old = unit.replicas.first().and_then(|node| shelf.index(*node));
        match old.and_then(|old| kept.iter().position(|at| *at == old)) {
            Some(place) if owned[kept[place]] < share(kept[place]) => {
                kept.swap(0, place);
                owned[kept[0]] += 1;
            }
            _ => open.push(number),
        }
    }
    for number in open {
        let kept = &mut placed[number];
        let least = (0..kept.len())
            .min_by_key(|place| {
                let at = kept[*place];
                ((owned[at] << 16) / u64::from(shelf.members[at].weight), at)
            })
            .expect("each unit has replicas");
        kept.swap(0, least);
        owned[kept[0]] += 1;
    }
    assert!(owned.iter().sum::<u64>() == units.len() as u64, "each unit has one owner");
}

/// Evens out units of different sizes by moving whole ones, largest gap first, until no move would make it better by more than `slack_percent`
/// of the mean, or `moves_max` moves are reached. Returns each unit's replicas. Units on nodes that left or have no weight move in any case.
///
/// A local search: each move is the unit that best fills the gap between the fullest and the emptiest member.
/// O(moves * units).
///
/// # Errors
/// [`PlacementError`].
pub fn even_out(
    units: &[Unit],
    members: &[Member],
    replicas: usize,
    slack_percent: u64,
    moves_max: usize,
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    let mut shelf = Shelf::new(members, replicas)?;
    let sizes = capped_sizes(units, replicas);
    let mut placed = shelf.keep(units, replicas, &sizes);
    shelf.set_quotas(sizes.iter().sum::<u64>() * replicas as u64);
    for (kept, size) in placed.iter_mut().zip(&sizes) {
        while kept.len() < replicas {
            let at = shelf.roomiest(kept, replicas);
            kept.push(at);
            shelf.held[at] += size;
        }
    }
    let mean = shelf.quota.iter().sum::<u64>() / shelf.members.len() as u64;
    let slack = u128::from(mean) * u128::from(slack_percent) / 100;
    let slack = i64::try_from(slack.max(1)).unwrap_or(i64::MAX);
    for _ in 0..moves_max {
        if !move_one(&mut placed, &mut shelf, &sizes, replicas, slack) {
            break;
        }
    }
    let name = |kept: &Vec<usize>| kept.iter().map(|at| shelf.members[*at].node).collect::<Vec<_>>();
    let named: Vec<Vec<NodeId>> = placed.iter().map(name).collect();
    assert!(named.iter().all(|nodes| nodes.len() == replicas), "each unit has its replicas");
    Ok(named)
}

/// Sizes whose sum over all replicas stays below 2^60: a larger one counts as its even share of that, far above any node's memory.
fn capped_sizes(units: &[Unit], replicas: usize) -> Vec<u64> {
    let most = (1 << 60) / (units.len().max(1) as u64).saturating_mul(replicas as u64);
    units.iter().map(|unit| unit.size.min(most)).collect()
}

/// Moves one unit from the fullest member to the emptiest, if that helps; whether it did.
fn move_one(
    placed: &mut [Vec<usize>],
    shelf: &mut Shelf<'_>,
    sizes: &[u64],
    replicas: usize,
    slack: i64,
) -> bool {
    let over = |at: &usize| shelf.held[*at] as i64 - shelf.quota[*at] as i64;
    let all = 0..shelf.members.len();
    let full = all.clone().max_by_key(over).expect("there are members");
    let empty = all.min_by_key(over).expect("there are members");
    let gap = over(&full) - over(&empty);
    if over(&full) <= slack && -over(&empty) <= slack {
        return false;
    }
    let candidate = |(number, kept): (usize, &Vec<usize>)| {
        let place = kept.iter().position(|at| *at == full)?;
        let mut others = kept.clone();
        others.remove(place);
        let size = sizes[number] as i64;
        // Half of the gap is what evens it out; the whole gap or more only turns it round.
        (size > 0 && size < gap && !others.contains(&empty) && shelf.fits(empty, &others, replicas))
            .then_some(((2 * size - gap).abs(), number, place))
    };
    let Some((_, number, place)) = placed.iter().enumerate().filter_map(candidate).min() else {
        return false;
    };
    placed[number][place] = empty;
    shelf.held[full] -= sizes[number];
    shelf.held[empty] += sizes[number];
    true
}
