//! Tokens that are placed so that shares come out even.
//!
//! A node that joins N others is to get 1 / (N + 1) of the circle (by weight). It takes that in as many pieces as it has tokens: each time from
//! the node that has the most for its weight, out of that node's longest arc. What it takes is exact, so what moves is exactly its share; and
//! as each piece is small, the donors stay near each other.
//!
//! A node that leaves gives its arcs to the tokens behind them, mostly those that it once took them from.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use crate::member::Member;
use crate::ring::{Ring, arc_len};

/// How much of the circle each member owns, in the order of members. O(tokens).
pub(super) fn owned(ring: &Ring) -> Vec<u128> {
    let mut owned = alloc::vec![0; ring.members.len()];
    let Some((last, _)) = ring.tokens.last_key_value() else { return owned };
    let mut previous = *last;
    for (token, index) in &ring.tokens {
        owned[*index as usize] += arc_len(previous, *token);
        previous = *token;
    }
    assert!(owned.iter().sum::<u128>() == 1 << 64, "every point has one owner");
    owned
}

/// What stands in the way of a search for the longest arc: length, the token before, the token.
type Arc = (u128, u64, u64);

/// The state of a run of joins; made once for all of them.
struct Shares {
    owned: Vec<u128>,
    /// By member: its arcs, the longest first.
    arcs: Vec<BinaryHeap<Arc>>,
    /// By load: the member that has the most for its weight first. Entries of an earlier load are passed over.
    heaviest: BinaryHeap<(u128, u32)>,
    weight: u64,
}

/// Owned per weight, in units that no 32-bit weight rounds away.
fn load(owned: u128, weight: u32) -> u128 {
    (owned << 32) / u128::from(weight)
}

impl Shares {
    fn of(ring: &Ring) -> Shares {
        let mut shares = Shares {
            owned: owned(ring),
            arcs: ring.members.iter().map(|_| BinaryHeap::new()).collect(),
            heaviest: BinaryHeap::new(),
            weight: ring.members.iter().map(|member| u64::from(member.weight)).sum(),
        };
        if let Some((last, _)) = ring.tokens.last_key_value() {
            let mut previous = *last;
            for (token, index) in &ring.tokens {
                shares.arcs[*index as usize].push((arc_len(previous, *token), previous, *token));
                previous = *token;
            }
        }
        for (index, member) in ring.members.iter().enumerate() {
            shares.heaviest.push((load(shares.owned[index], member.weight), index as u32));
        }
        shares
    }

    /// The member with the most for its weight, other than one that joins just now (which is not among them yet).
    fn donor(&mut self, ring: &Ring) -> u32 {
        loop {
            let (seen, index) = self.heaviest.pop().expect("a ring that is not empty has a heaviest member");
            let now = load(self.owned[index as usize], ring.members[index as usize].weight);
            if seen == now {
                return index;
            }
        }
    }
}

/// Adds members one after the other. Whether they may join has been asked.
pub(super) fn join_all(ring: &mut Ring, members: &[Member]) {
    let mut shares = Shares::of(ring);
    for member in members {
        let index = ring.members.len() as u32;
        ring.members.push(*member);
        shares.owned.push(0);
        shares.arcs.push(BinaryHeap::new());
        shares.weight += u64::from(member.weight);
        if index == 0 {
            first(ring, &mut shares, *member);
        } else {
            join(ring, &mut shares, *member, index);
        }
        shares.heaviest.push((load(shares.owned[index as usize], member.weight), index));
    }
    debug_assert!(shares.owned == owned(ring), "shares were kept up");
}

/// The first member's tokens stand at equal distances.
fn first(ring: &mut Ring, shares: &mut Shares, member: Member) {
    let count = ring.tokens_of(&member) as u128;
    let offset = ring.config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for number in 0..count {
        let token = offset.wrapping_add(((number << 64) / count) as u64);
        ring.place(token, 0);
    }
    *shares = Shares::of(ring);
    shares.heaviest.clear();
    assert!(shares.owned[0] == 1 << 64, "the first has all");
}

fn join(ring: &mut Ring, shares: &mut Shares, member: Member, index: u32) {
    let tokens = ring.tokens_of(&member) as u128;
    let wanted = (1u128 << 64) * u128::from(member.weight) / u128::from(shares.weight);
    for number in 0..tokens {
        let left = wanted.saturating_sub(shares.owned[index as usize]);
        let piece = (left / (tokens - number)).max(1);
        let donor = shares.donor(ring);
        let at = donor as usize;
        let (len, previous, token) = shares.arcs[at].pop().expect("who owns the most has an arc");
        // The donor keeps its token and some of the arc: what is missing comes from the next donors.
        let taken = if piece < len { piece } else { (len / 2).max(1) };
        let new = previous.wrapping_add(taken as u64);
        assert!(new != token && taken < len, "an arc of one point can't be shared");
        ring.tokens.insert(new, index);
        shares.arcs[at].push((len - taken, new, token));
        shares.arcs[index as usize].push((taken, previous, new));
        shares.owned[at] -= taken;
        shares.owned[index as usize] += taken;
        let weight = ring.members[at].weight;
        shares.heaviest.push((load(shares.owned[at], weight), donor));
    }
    assert!(shares.owned[index as usize] <= wanted.max(tokens), "a node takes no more than its share");
}
