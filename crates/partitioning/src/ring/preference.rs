//! Preference lists: who else holds a key.

use alloc::vec::Vec;

use keypact_protocol::{NodeId, Plant, planted};

use crate::member::Domain;
use crate::ring::{Point, Ring};

/// The nodes that hold a key, the owner first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preference {
    /// At most as many as were asked for; fewer if there are fewer hosts.
    pub nodes: Vec<NodeId>,
    /// In how many zones they stand.
    pub zones: usize,
}

impl Ring {
    /// The first `replicas` nodes behind the point that stand on distinct hosts, and in distinct zones as far as there are any: a zone gets a
    /// second replica only when every zone has one. Never two on one host.
    ///
    /// O(tokens passed): about `replicas` times the number of zones of a well-mixed ring; at worst all tokens.
    #[must_use]
    pub fn preference(&self, point: Point, replicas: usize) -> Preference {
        let mut chosen: Vec<(NodeId, Domain)> = Vec::with_capacity(replicas);
        let mut zones: Vec<u32> = self.members.iter().map(|member| member.domain.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        // Each time round every zone may get one more.
        for round in 1..=replicas {
            if chosen.len() >= replicas {
                break;
            }
            let before = chosen.len();
            self.collect(point, replicas, round, zones.len(), &mut chosen);
            if chosen.len() == before && round > zones.len().max(1) {
                break;
            }
        }
        assert!(chosen.len() <= replicas, "no more than were asked for");
        let mut used: Vec<u32> = chosen.iter().map(|(_, domain)| domain.zone).collect();
        used.sort_unstable();
        used.dedup();
        Preference { nodes: chosen.into_iter().map(|(node, _)| node).collect(), zones: used.len() }
    }

    /// Once round the circle from the point: takes nodes whose zone has fewer than `round` replicas. Ends early when it can't take more.
    fn collect(
        &self,
        point: Point,
        replicas: usize,
        round: usize,
        zones: usize,
        chosen: &mut Vec<(NodeId, Domain)>,
    ) {
        let from_point = self.tokens.range(point.0..).chain(self.tokens.range(..point.0));
        for (_, index) in from_point {
            if chosen.len() >= replicas || chosen.len() >= round * zones {
                return;
            }
            let member = &self.members[*index as usize];
            let in_zone = chosen.iter().filter(|(_, domain)| domain.zone == member.domain.zone).count();
            let on_host = chosen.iter().any(|(node, domain)| {
                *node == member.node || (*domain == member.domain && !planted(Plant::ReplicaSetOnOneHost))
            });
            if in_zone < round && !on_host {
                chosen.push((member.node, member.domain));
            }
        }
    }
}
