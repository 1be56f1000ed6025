//! Dependencies between applied transactions.

use std::sync::Arc;

use super::versions::{Key, Versions};
use super::{ListOutcome, ListTransaction};
use crate::history::Value;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// It appended before.
    Ww,
    /// The other one read what it appended.
    Wr,
    /// It did not read what the other one appended.
    Rw,
    /// It had returned before the other one was invoked.
    Rt,
}

/// A dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The later transaction, by its place in the history.
    pub to: usize,
    /// Why.
    pub kind: EdgeKind,
    /// The key, if it is about one.
    pub key: Option<Arc<str>>,
    /// The elements that it rests on, for people: `3 before 4`.
    pub elements: (Option<Value>, Option<Value>),
}

/// All of them, by the earlier transaction.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Vec<Edge>>,
}

impl Graph {
    pub(super) fn new(transactions: &[ListTransaction], versions: &Versions<'_>) -> Graph {
        let mut graph = Graph { edges: vec![Vec::new(); transactions.len()] };
        for (key, of_key) in versions.iter() {
            graph.add_key(key, of_key, &versions.applied);
        }
        graph.add_realtime(transactions, &versions.applied);
        for (from, edges) in graph.edges.iter_mut().enumerate() {
            assert!(edges.iter().all(|edge| edge.to != from), "nothing comes before itself");
            edges.sort_by_key(|edge| (edge.to, edge.kind));
            edges.dedup_by_key(|edge| (edge.to, edge.kind));
        }
        graph
    }

    pub(super) fn len(&self) -> usize {
        self.edges.iter().map(Vec::len).sum()
    }

    pub(super) fn nodes(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn from(&self, index: usize) -> &[Edge] {
        &self.edges[index]
    }

    fn add(
        &mut self,
        from: usize,
        to: usize,
        kind: EdgeKind,
        key: &Arc<str>,
        elements: (Option<&Value>, Option<&Value>),
    ) {
        if from != to {
            let elements = (elements.0.cloned(), elements.1.cloned());
            self.edges[from].push(Edge { to, kind, key: Some(Arc::clone(key)), elements });
        }
    }

    fn add_key(&mut self, key: &Arc<str>, of_key: &Key<'_>, applied: &[bool]) {
        let order = of_key.order();
        // An element without a writer, or of a transaction that was not applied, is an anomaly of its own and carries no edge.
        let writer = |element: &Value| of_key.writer(element).filter(|writer| applied[*writer]);
        for two in order.windows(2) {
            if let (Some(before), Some(after)) = (writer(&two[0]), writer(&two[1])) {
                self.add(before, after, EdgeKind::Ww, key, (Some(&two[0]), Some(&two[1])));
            }
        }
        // What an applied transaction appended and nobody read stands somewhere after all that was read.
        let unread: Vec<(&Value, usize)> =
            of_key.unread().into_iter().filter(|(_, writer)| applied[*writer]).collect();
        if let Some(last) = order.last()
            && let Some(before) = writer(last)
        {
            for (element, after) in &unread {
                self.add(before, *after, EdgeKind::Ww, key, (Some(last), Some(element)));
            }
        }
        for (reader, list) in of_key.reads() {
            if !order.starts_with(list) {
                continue;
            }
            let last = list.last();
            if let Some(last) = last
                && let Some(before) = writer(last)
            {
                self.add(before, *reader, EdgeKind::Wr, key, (Some(last), Some(last)));
            }
            match order.get(list.len()) {
                Some(next) => {
                    if let Some(after) = writer(next) {
                        self.add(*reader, after, EdgeKind::Rw, key, (last, Some(next)));
                    }
                }
                None => {
                    for (element, after) in &unread {
                        self.add(*reader, *after, EdgeKind::Rw, key, (last, Some(element)));
                    }
                }
            }
        }
    }

    /// Only from those that returned last before an invocation: all others are before one of them.
    fn add_realtime(&mut self, transactions: &[ListTransaction], applied: &[bool]) {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (index, transaction) in transactions.iter().enumerate().filter(|(index, _)| applied[*index]) {
            events.push((transaction.invoked.position, false, index));
            if let Some(returned) = transaction.returned
                && transaction.outcome == ListOutcome::Committed
            {
                events.push((returned.position, true, index));
            }
        }
        events.sort_unstable();
        let mut last: Vec<usize> = Vec::new();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); transactions.len()];
        for (_, returns, index) in events {
            if returns {
                last.retain(|earlier| before[index].binary_search(earlier).is_err());
                last.push(index);
            } else {
                for earlier in &last {
                    let edge = Edge { to: index, kind: EdgeKind::Rt, key: None, elements: (None, None) };
                    self.edges[*earlier].push(edge);
                }
                before[index] = last.clone();
                before[index].sort_unstable();
            }
        }
    }
}
