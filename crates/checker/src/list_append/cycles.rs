//! Cycles, named. In each knot of transactions (a strongly connected component) the worst name that fits is told, with the shortest cycle found.

use std::collections::VecDeque;

use super::graph::{Edge, EdgeKind, Graph};
use super::{Anomaly, ListTransaction, described};

/// Which edges a cycle may be made of.
#[derive(Clone, Copy)]
struct Allowed {
    wr: bool,
    rw: Reads,
    rt: bool,
}

/// How many `rw` there may be, and where.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    None,
    One,
    Nonadjacent,
    Any,
}

/// From the worst to the mildest; realtime after all others.
const NAMES: [(&str, Allowed); 10] = [
    ("G0", Allowed { wr: false, rw: Reads::None, rt: false }),
    ("G1c", Allowed { wr: true, rw: Reads::None, rt: false }),
    ("G-single", Allowed { wr: true, rw: Reads::One, rt: false }),
    ("G-nonadjacent", Allowed { wr: true, rw: Reads::Nonadjacent, rt: false }),
    ("G2-item", Allowed { wr: true, rw: Reads::Any, rt: false }),
    ("G0-realtime", Allowed { wr: false, rw: Reads::None, rt: true }),
    ("G1c-realtime", Allowed { wr: true, rw: Reads::None, rt: true }),
    ("G-single-realtime", Allowed { wr: true, rw: Reads::One, rt: true }),
    ("G-nonadjacent-realtime", Allowed { wr: true, rw: Reads::Nonadjacent, rt: true }),
    ("G2-item-realtime", Allowed { wr: true, rw: Reads::Any, rt: true }),
];

/// Transactions looked at in one knot under one name, at most, about: knots can be large, and one cycle is proof enough.
const STEPS_MAX: usize = 10_000_000;
/// Knots told at most.
const TOLD_MAX: usize = 8;

impl Allowed {
    fn allows(self, kind: EdgeKind) -> bool {
        match kind {
            EdgeKind::Ww => true,
            EdgeKind::Wr => self.wr,
            EdgeKind::Rw => self.rw != Reads::None,
            EdgeKind::Rt => self.rt,
        }
    }

    /// The kind of edge that every cycle of this name has: it is looked for from those.
    fn starts(self, kind: EdgeKind) -> bool {
        match self.rw {
            Reads::None if self.rt && !self.wr => kind == EdgeKind::Rt,
            Reads::None => kind == EdgeKind::Ww || kind == EdgeKind::Wr && self.wr,
            _ => kind == EdgeKind::Rw,
        }
    }
}

/// The place of a transaction that is not in the knot.
const ELSEWHERE: usize = usize::MAX;

pub(super) fn find(transactions: &[ListTransaction], graph: &Graph, anomalies: &mut Vec<Anomaly>) {
    let mut places = vec![ELSEWHERE; graph.nodes()];
    for knot in knots(graph).into_iter().take(TOLD_MAX) {
        for (place, index) in knot.iter().enumerate() {
            places[*index] = place;
        }
        let cycle_of = |allowed| shortest(graph, &knot, &places, allowed);
        let found = NAMES.iter().find_map(|(name, allowed)| Some((*name, cycle_of(*allowed)?)));
        let (name, cycle) = found.expect("a knot has a cycle, and the last names allow all");
        anomalies.push(tell(name, cycle, transactions));
        for index in &knot {
            places[*index] = ELSEWHERE;
        }
    }
}

/// Strongly connected components of more than one transaction (Tarjan 1972, without recursion).
fn knots(graph: &Graph) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let nodes = graph.nodes();
    let (mut number, mut low) = (vec![UNSEEN; nodes], vec![0; nodes]);
    let (mut open, mut on_stack) = (Vec::new(), vec![false; nodes]);
    let mut next = 0;
    let mut found = Vec::new();
    for root in 0..nodes {
        if number[root] != UNSEEN {
            continue;
        }
        let mut path = vec![(root, 0)];
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                number[node] = next;
                low[node] = next;
                next += 1;
                open.push(node);
                on_stack[node] = true;
            }
            let unseen = graph.from(node)[edge..].iter().position(|edge| number[edge.to] == UNSEEN);
            if let Some(offset) = unseen {
                path.push((node, edge + offset + 1));
                path.push((graph.from(node)[edge + offset].to, 0));
                continue;
            }
            for to in graph.from(node).iter().map(|edge| edge.to).filter(|to| on_stack[*to]) {
                low[node] = low[node].min(low[to]);
            }
            if low[node] == number[node] {
                let at = open.iter().rposition(|each| *each == node).expect("it is open");
                let knot = open.split_off(at);
                for each in &knot {
                    on_stack[*each] = false;
                }
                if knot.len() > 1 {
                    found.push(knot);
                }
            }
        }
    }
    found
}

/// The shortest cycle of the allowed kind: from each possible first edge, the shortest way back.
fn shortest(graph: &Graph, knot: &[usize], places: &[usize], allowed: Allowed) -> Option<Vec<(usize, Edge)>> {
    let mut best: Option<Vec<(usize, Edge)>> = None;
    let mut starts = 0;
    let starts_max = (STEPS_MAX / knot.len()).max(1);
    for from in knot {
        for first in
            graph.from(*from).iter().filter(|edge| places[edge.to] != ELSEWHERE && allowed.starts(edge.kind))
        {
            starts += 1;
            if starts > starts_max {
                return best;
            }
            let most = best.as_ref().map_or(usize::MAX, Vec::len);
            if let Some(cycle) = way_back(graph, *from, first, (knot.len(), places), allowed, most) {
                best = Some(cycle);
            }
            if best.as_ref().is_some_and(|cycle| cycle.len() == 2) {
                return best;
            }
        }
    }
    best
}

/// Where a state of the search was reached from: transaction, whether its last edge was `rw`, and the edge taken.
type Step<'g> = (usize, bool, &'g Edge);

/// The shortest cycle through one edge, if it is shorter than `most`. States are (transaction, whether the last edge was `rw`).
fn way_back(
    graph: &Graph,
    from: usize,
    first: &Edge,
    (size, places): (usize, &[usize]),
    allowed: Allowed,
    most: usize,
) -> Option<Vec<(usize, Edge)>> {
    let mut came: Vec<[Option<Step<'_>>; 2]> = vec![[None; 2]; size];
    let start = (first.to, first.kind == EdgeKind::Rw);
    let mut queue = VecDeque::from([(start, 1)]);
    let mut seen = vec![[false; 2]; size];
    seen[places[start.0]][usize::from(start.1)] = true;
    while let Some(((node, after_rw), length)) = queue.pop_front() {
        if length + 1 >= most {
            return None;
        }
        for edge in
            graph.from(node).iter().filter(|edge| places[edge.to] != ELSEWHERE && allowed.allows(edge.kind))
        {
            let is_rw = edge.kind == EdgeKind::Rw;
            let closes = edge.to == from;
            let barred = match allowed.rw {
                Reads::None | Reads::Any => false,
                Reads::One => is_rw,
                // The cycle begins with `rw`, so its last edge is next to one, too.
                Reads::Nonadjacent => is_rw && (after_rw || closes),
            };
            if barred {
                continue;
            }
            if closes {
                let mut cycle = vec![(node, edge.clone())];
                let mut state = (node, after_rw);
                while let Some((before, before_rw, edge)) = came[places[state.0]][usize::from(state.1)] {
                    cycle.push((before, edge.clone()));
                    state = (before, before_rw);
                }
                cycle.push((from, first.clone()));
                cycle.reverse();
                return Some(cycle);
            }
            let visited = &mut seen[places[edge.to]][usize::from(is_rw)];
            if !*visited {
                *visited = true;
                came[places[edge.to]][usize::from(is_rw)] = Some((node, after_rw, edge));
                queue.push_back(((edge.to, is_rw), length + 1));
            }
        }
    }
    None
}

fn tell(name: &'static str, cycle: Vec<(usize, Edge)>, transactions: &[ListTransaction]) -> Anomaly {
    assert!(cycle.len() >= 2, "a cycle has two transactions or more");
    let mut text = String::from("each comes before the next, and the last before the first:");
    for (index, _) in &cycle {
        text.push_str("\n  ");
        text.push_str(&described(*index, &transactions[*index]));
    }
    for (from, edge) in &cycle {
        let key = edge.key.as_deref().unwrap_or_default();
        let element =
            |element: &Option<_>| element.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        let (before, after) = (element(&edge.elements.0), element(&edge.elements.1));
        let why = match edge.kind {
            EdgeKind::Ww => format!("ww: it appended {before} to {key}, the other one {after} after it"),
            EdgeKind::Wr => format!("wr: the other one read {key} with its {before} at the end"),
            EdgeKind::Rw => format!("rw: it read {key} up to {before}, without the other one's {after}"),
            EdgeKind::Rt => "rt: it had returned before the other one was invoked".to_owned(),
        };
        text.push_str(&format!("\n  T{from} < T{}  {why}", edge.to));
    }
    let (transactions, cycle) = cycle.into_iter().unzip();
    Anomaly { name, transactions, cycle, text }
}
