//! What the lists themselves say: who wrote which element, in which order; and what is wrong with single reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Anomaly, ListOutcome, ListProblem, ListTransaction, MicroOperation, described, shown};
use crate::history::Value;

/// The elements of one key.
#[derive(Debug, Default)]
pub(super) struct Key<'a> {
    /// Who appended each element, and whether it is the last one that this transaction appended to the key.
    writers: HashMap<&'a Value, (usize, bool)>,
    /// The longest list read, and by whom.
    longest: Option<(usize, &'a [Value])>,
    /// Where each element of the longest list stands in it.
    places: HashMap<&'a Value, usize>,
    /// All external reads: the transaction, and the list without what the transaction itself had appended before.
    reads: Vec<(usize, &'a [Value])>,
}

/// What one transaction has seen of others in one key's list, if it has read it, and what it has appended itself.
type Own<'a> = (Option<&'a [Value]>, Vec<&'a Value>);

/// All keys, and which transactions were applied.
#[derive(Debug)]
pub(super) struct Versions<'a> {
    keys: BTreeMap<&'a Arc<str>, Key<'a>>,
    /// Told to be applied; or of unknown outcome, but seen.
    pub(super) applied: Vec<bool>,
}

impl<'a> Versions<'a> {
    pub(super) fn new(
        transactions: &'a [ListTransaction],
        anomalies: &mut Vec<Anomaly>,
    ) -> Result<Versions<'a>, ListProblem> {
        let applied = transactions.iter().map(|t| t.outcome == ListOutcome::Committed).collect();
        let mut versions = Versions { keys: BTreeMap::new(), applied };
        for (index, transaction) in transactions.iter().enumerate() {
            versions.take_writes(index, transaction, transactions)?;
        }
        for (index, transaction) in transactions.iter().enumerate() {
            if transaction.outcome == ListOutcome::Committed {
                versions.take_reads(index, transaction, anomalies);
            }
        }
        versions.judge(transactions, anomalies);
        Ok(versions)
    }

    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Arc<str>, &Key<'a>)> {
        self.keys.iter().map(|(key, versions)| (*key, versions))
    }

    fn take_writes(
        &mut self,
        index: usize,
        transaction: &'a ListTransaction,
        transactions: &[ListTransaction],
    ) -> Result<(), ListProblem> {
        let mut last: BTreeMap<&Arc<str>, &Value> = BTreeMap::new();
        for operation in &transaction.operations {
            let MicroOperation::Append { key, element } = operation else {
                if let MicroOperation::Read { key, .. } = operation {
                    self.keys.entry(key).or_default();
                }
                continue;
            };
            let of_key = self.keys.entry(key).or_default();
            if let Some((other, _)) = of_key.writers.insert(element, (index, true)) {
                let line = |at: usize| transactions[at].invoked.line;
                let lines = (line(other), line(index));
                return Err(ListProblem { key: key.to_string(), element: element.to_string(), lines });
            }
            if let Some(before) = last.insert(key, element) {
                of_key.writers.insert(before, (index, false));
            }
        }
        Ok(())
    }

    /// Checks a transaction against itself, and keeps what it saw of others.
    fn take_reads(&mut self, index: usize, transaction: &'a ListTransaction, anomalies: &mut Vec<Anomaly>) {
        // Per key: what it saw of others, if it has read, and what it appended since the beginning.
        let mut own: BTreeMap<&Arc<str>, Own<'a>> = BTreeMap::new();
        for operation in &transaction.operations {
            let (key, list) = match operation {
                MicroOperation::Append { key, element } => {
                    own.entry(key).or_default().1.push(element);
                    continue;
                }
                MicroOperation::Read { list: None, .. } => continue,
                MicroOperation::Read { key, list: Some(list) } => (key, list.as_slice()),
            };
            let (seen, appended) = own.entry(key).or_default();
            let outside = list.len().saturating_sub(appended.len());
            let ends_right =
                list.len() >= appended.len() && list[outside..].iter().eq(appended.iter().copied());
            let begins_right = seen.is_none_or(|seen| list[..outside] == *seen);
            if ends_right && begins_right {
                *seen = Some(&list[..outside]);
                continue;
            }
            let text = format!(
                "{}\n  read {key} as {}, against what it had read or appended itself",
                described(index, transaction),
                shown(list)
            );
            anomalies.push(Anomaly { name: "internal", transactions: vec![index], cycle: Vec::new(), text });
            *seen = Some(if ends_right { &list[..outside] } else { list });
        }
        for (key, (seen, _)) in own {
            if let Some(seen) = seen {
                let of_key = self.keys.get_mut(key).expect("keys were gathered with the writes");
                of_key.reads.push((index, seen));
                if of_key.longest.is_none_or(|(_, longest)| longest.len() < seen.len()) {
                    of_key.longest = Some((index, seen));
                }
            }
        }
    }

    /// What is wrong with lists by themselves; then, which elements stand where.
    fn judge(&mut self, transactions: &[ListTransaction], anomalies: &mut Vec<Anomaly>) {
        let applied = &mut self.applied;
        for (key, of_key) in &mut self.keys {
            let mut told = Told { key, transactions, anomalies, names: Vec::new() };
            let Some((longest_by, longest)) = of_key.longest else { continue };
            for (index, list) in &of_key.reads {
                if !longest.starts_with(list) {
                    let what = format!("{} and {}", shown(longest), shown(list));
                    told.say("incompatible-order", &[longest_by, *index], &what);
                }
                told.elements(*index, list, of_key, applied);
            }
            for (place, element) in longest.iter().enumerate() {
                of_key.places.entry(element).or_insert(place);
            }
        }
    }
}

/// Tells each kind of anomaly once of a key.
struct Told<'t> {
    key: &'t Arc<str>,
    transactions: &'t [ListTransaction],
    anomalies: &'t mut Vec<Anomaly>,
    names: Vec<&'static str>,
}

impl Told<'_> {
    fn say(&mut self, name: &'static str, indices: &[usize], what: &str) {
        if self.names.contains(&name) {
            return;
        }
        self.names.push(name);
        let mut text = format!("key {}: {what}", self.key);
        for index in indices {
            text.push_str("\n  ");
            text.push_str(&described(*index, &self.transactions[*index]));
        }
        self.anomalies.push(Anomaly { name, transactions: indices.to_vec(), cycle: Vec::new(), text });
    }

    fn elements(&mut self, index: usize, list: &[Value], of_key: &Key<'_>, applied: &mut [bool]) {
        let mut seen = std::collections::HashSet::new();
        let mut dirty: Option<usize> = None;
        for element in list {
            if !seen.insert(element) {
                self.say(
                    "duplicate-elements",
                    &[index],
                    &format!("{element} stands twice in {}", shown(list)),
                );
            }
            let Some(&(writer, _)) = of_key.writers.get(element) else {
                self.say("unwritten-read", &[index], &format!("nobody appended {element}"));
                continue;
            };
            match self.transactions[writer].outcome {
                ListOutcome::Aborted => {
                    self.say("G1a", &[writer, index], &format!("{element} was not applied, but is read"));
                    dirty = Some(writer);
                }
                _ => {
                    applied[writer] = true;
                    if let Some(aborted) = dirty {
                        let what = format!("{element} stands after an element that was not applied");
                        self.say("dirty-update", &[aborted, writer, index], &what);
                    }
                }
            }
        }
        if let Some(last) = list.last()
            && let Some(&(writer, false)) = of_key.writers.get(last)
            && writer != index
        {
            self.say(
                "G1b",
                &[writer, index],
                &format!("the list ends with {last}, not the last of its transaction"),
            );
        }
    }
}

impl<'a> Key<'a> {
    /// The longest list read.
    pub(super) fn order(&self) -> &'a [Value] {
        self.longest.map_or(&[], |(_, list)| list)
    }

    pub(super) fn writer(&self, element: &Value) -> Option<usize> {
        self.writers.get(element).map(|(writer, _)| *writer)
    }

    /// What others read: the transaction and the list.
    pub(super) fn reads(&self) -> &[(usize, &'a [Value])] {
        &self.reads
    }

    /// Elements that nobody read, with their writers; in order of element, so that runs repeat.
    pub(super) fn unread(&self) -> Vec<(&'a Value, usize)> {
        let mut unread: Vec<_> = self
            .writers
            .iter()
            .filter(|(element, _)| !self.places.contains_key(*element))
            .map(|(element, (writer, _))| (*element, *writer))
            .collect();
        unread.sort_unstable();
        unread
    }
}
