//! A cluster's members as its nodes tell them.

use std::collections::BTreeMap;

use keypact_node::Member;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{grouped, note, say, say_json, table};
use crate::probe::{Answer, DEFAULT_GROUP, Gone, best_view};

/// The groups that every node belongs to.
pub(super) const GROUPS: [&str; 2] = ["catalog", DEFAULT_GROUP];

/// A cluster's members.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    /// The cluster's name.
    pub(super) cluster: String,
    nodes: Vec<Row>,
    /// Nodes that were removed.
    gone: Vec<Gone>,
    /// Nodes that ask to be let in, and that only an operator can let in.
    asking: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: u64,
    incarnation: u64,
    resp: String,
    peer: String,
    http: String,
    /// Whether it answered just now.
    alive: bool,
    /// Its part in each group, by name.
    groups: BTreeMap<String, Part>,
}

/// A node's part in a group.
#[derive(Debug, Default, Serialize)]
struct Part {
    /// `voter`, `learner`, `joining`, `leaving`; none if it has no seat under its present life.
    seat: Option<String>,
    leads: bool,
    /// Entries that it lacks, as the leader sees it.
    missing: Option<u64>,
}

/// How far a node is that was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Some group has no seat for it yet.
    Unknown,
    /// It has a seat in all groups, and votes in not all of them.
    Learns {
        /// Entries that it lacks in all groups, if the leaders know.
        missing: Option<u64>,
    },
    /// It votes in all groups.
    Votes,
}

impl View {
    pub(super) fn new(first: &Answer, answers: BTreeMap<u64, Result<Answer, String>>) -> View {
        let told: Vec<&Answer> = answers.values().flatten().collect();
        // Whoever knows the most recent catalog names the nodes.
        let newest =
            told.iter().max_by_key(|answer| answer.group("catalog").map_or(0, |group| group.applied));
        let newest = newest.copied().unwrap_or(first);
        let rows = newest.nodes.iter().map(|member| {
            let part = |name: &str| {
                let group = best_view(name, &told);
                let seats = group.into_iter().flat_map(|group| &group.members);
                let mut seats =
                    seats.filter(|seat| seat.node == member.id && seat.incarnation == member.incarnation);
                let seat = seats.next();
                Part {
                    seat: seat.map(|seat| seat.seat.clone()),
                    leads: group.is_some_and(|group| group.leader == Some(member.id)),
                    missing: seat.and_then(|seat| seat.missing),
                }
            };
            Row {
                id: member.id,
                incarnation: member.incarnation,
                resp: member.resp.clone(),
                peer: member.peer.clone(),
                http: member.http.clone(),
                alive: answers.get(&member.id).is_some_and(Result::is_ok),
                groups: GROUPS.iter().map(|name| ((*name).to_owned(), part(name))).collect(),
            }
        });
        let mut asking: Vec<u64> = told.iter().flat_map(|answer| answer.asking.iter().copied()).collect();
        asking.sort_unstable();
        asking.dedup();
        asking.retain(|id| !newest.nodes.iter().any(|member| member.id == *id));
        View { cluster: newest.cluster.clone(), nodes: rows.collect(), gone: newest.gone.clone(), asking }
    }

    fn row(&self, id: u64) -> Option<&Row> {
        self.nodes.iter().find(|row| row.id == id)
    }

    /// Whether the node belongs to the cluster.
    pub(super) fn knows(&self, id: u64) -> bool {
        self.row(id).is_some()
    }

    /// The nodes with their addresses.
    pub(super) fn members(&self) -> Vec<Member> {
        let member = |row: &Row| Member {
            id: row.id,
            incarnation: row.incarnation,
            resp: row.resp.clone(),
            peer: row.peer.clone(),
            http: row.http.clone(),
        };
        self.nodes.iter().map(member).collect()
    }

    /// A number that no node ever had.
    pub(super) fn unused_id(&self) -> u64 {
        let ids = self.nodes.iter().map(|row| row.id).chain(self.gone.iter().map(|gone| gone.node));
        ids.max().unwrap_or(0) + 1
    }

    /// The life under which a node may come.
    pub(super) fn next_life(&self, id: u64) -> u64 {
        self.gone.iter().filter(|gone| gone.node == id).map(|gone| gone.incarnation + 1).max().unwrap_or(1)
    }

    /// Where the leader of a group is.
    pub(super) fn leader(&self, group: &str) -> Option<&str> {
        self.nodes.iter().find(|row| row.groups[group].leads).map(|row| row.resp.as_str())
    }

    /// Whether a node leads a group.
    pub(super) fn leads(&self, group: &str, id: u64) -> bool {
        self.row(id).is_some_and(|row| row.groups[group].leads)
    }

    /// A node's seat in a group.
    pub(super) fn seat(&self, group: &str, id: u64) -> Option<&str> {
        self.row(id).and_then(|row| row.groups[group].seat.as_deref())
    }

    /// How far a node is in all groups, under this life.
    pub(super) fn standing(&self, id: u64, incarnation: u64) -> Standing {
        let Some(row) = self.row(id).filter(|row| row.incarnation == incarnation) else {
            return Standing::Unknown;
        };
        let parts = || row.groups.values();
        if parts().any(|part| part.seat.is_none()) {
            return Standing::Unknown;
        }
        if parts().all(|part| part.seat.as_deref() == Some("voter")) {
            return Standing::Votes;
        }
        Standing::Learns { missing: parts().map(|part| part.missing).sum() }
    }

    /// For people, or for programs.
    pub(super) fn tell(&self, json: bool) -> Result<(), Failure> {
        if json {
            return say_json(self);
        }
        let part = |part: &Part| match (&part.seat, part.leads, part.missing) {
            (None, ..) => "-".to_owned(),
            (Some(_), true, _) => "leader".to_owned(),
            (Some(seat), false, Some(missing)) if missing > 0 => {
                format!("{seat}, {} behind", grouped(missing))
            }
            (Some(seat), ..) => seat.clone(),
        };
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|row| {
                let alive = if row.alive { "yes" } else { "no" };
                let life = row.incarnation.to_string();
                let head = vec![row.id.to_string(), life, row.resp.clone(), alive.to_owned()];
                head.into_iter().chain(GROUPS.iter().map(|name| part(&row.groups[*name]))).collect()
            })
            .collect();
        say(format!("cluster {}\n", self.cluster));
        say(table(&["node", "life", "RESP", "alive", GROUPS[0], GROUPS[1]], &["node", "life"], &rows));
        if !self.gone.is_empty() {
            let gone = self.gone.iter().map(|gone| format!("{} (life {})", gone.node, gone.incarnation));
            say(format!("\nremoved: {}", gone.collect::<Vec<_>>().join(", ")));
        }
        for id in &self.asking {
            note(format!("node {id} asks to be let in, and the cluster does not know it: keypact node add"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Seat;
    use crate::probe::tests::answer;

    fn view_of(answers: Vec<Answer>) -> View {
        let first = answers[0].clone();
        View::new(&first, answers.into_iter().map(|answer| (answer.node, Ok(answer))).collect())
    }

    #[test]
    fn seats_are_as_the_leader_sees_them() {
        let mut leader = answer(3, "leader", 4, Some(3));
        for group in &mut leader.groups {
            group.members[0].seat = "learner".to_owned();
            group.members[0].missing = Some(7);
        }
        let view =
            view_of(vec![answer(1, "follower", 4, Some(3)), answer(2, "follower", 4, Some(3)), leader]);
        assert_eq!(view.standing(1, 1), Standing::Learns { missing: Some(14) });
        assert_eq!(view.standing(2, 1), Standing::Votes);
        assert_eq!(view.standing(2, 2), Standing::Unknown, "under another life");
        assert_eq!(view.leader("default"), Some("127.0.0.1:7003"));
        assert!(view.leads("catalog", 3) && !view.leads("catalog", 1));
    }

    #[test]
    fn the_newest_catalog_names_the_nodes() {
        let old = answer(1, "follower", 4, Some(3));
        let mut new = answer(3, "leader", 4, Some(3));
        new.groups[0].applied = 20;
        new.nodes.remove(1);
        new.gone.push(Gone { node: 2, incarnation: 3 });
        let view = view_of(vec![old, new]);
        assert!(!view.knows(2) && view.knows(1));
        assert_eq!((view.unused_id(), view.next_life(2), view.next_life(4)), (4, 4, 1));
    }

    #[test]
    fn who_has_no_seat_under_its_life_does_not_stand() {
        let mut leader = answer(3, "leader", 4, Some(3));
        leader.nodes[0].incarnation = 2;
        leader.groups[1].members.push(Seat {
            node: 9,
            incarnation: 1,
            seat: "voter".to_owned(),
            missing: None,
        });
        let view = view_of(vec![leader]);
        assert_eq!(view.standing(1, 2), Standing::Unknown);
        assert_eq!(view.standing(9, 1), Standing::Unknown, "no node of the cluster");
        assert_eq!(view.seat("default", 1), None);
    }
}
