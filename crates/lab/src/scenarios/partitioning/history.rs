//! What clients were told, key by key, and whether one order of appends explains it.
//!
//! Keys hold lists to which unique elements are appended, so the list in the end is the order. Reads must be beginnings of it, never shorter
//! than what was done before they were asked, and never with what was asked after they were answered; appends must stand in the order in which
//! they happened. That is linearizability of lists, and "no key is lost".

use std::collections::{BTreeMap, BTreeSet};

use keypact_simulator::Violation;

use super::message::Key;

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Acknowledged at this time.
    Done(u64),
    /// Said to have no effect.
    Refused,
    /// Not known.
    Unknown,
}

#[derive(Clone, Debug)]
struct Append {
    element: u64,
    invoked_ns: u64,
    fate: Fate,
}

#[derive(Clone, Debug)]
struct Read {
    invoked_ns: u64,
    returned_ns: u64,
    list: Vec<u64>,
}

/// All that happened to all keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListHistory {
    appends: BTreeMap<Key, Vec<Append>>,
    reads: BTreeMap<Key, Vec<Read>>,
}

impl ListHistory {
    pub(crate) fn append(&mut self, key: &[u8], element: u64, invoked_ns: u64, fate: Fate) {
        self.appends.entry(key.to_vec()).or_default().push(Append { element, invoked_ns, fate });
    }

    pub(crate) fn read(&mut self, key: &[u8], list: Vec<u64>, invoked_ns: u64, returned_ns: u64) {
        self.reads.entry(key.to_vec()).or_default().push(Read { invoked_ns, returned_ns, list });
    }

    /// Of everything that was answered: when it was asked, and when answered.
    pub(crate) fn done(&self) -> impl Iterator<Item = (u64, u64)> {
        let appends = self.appends.values().flatten().filter_map(|append| match append.fate {
            Fate::Done(returned_ns) => Some((append.invoked_ns, returned_ns)),
            Fate::Refused | Fate::Unknown => None,
        });
        appends.chain(self.reads.values().flatten().map(|read| (read.invoked_ns, read.returned_ns)))
    }

    /// Judges one key by its list in the end.
    pub(crate) fn judge(&self, key: &[u8], last: &[u64]) -> Result<(), Violation> {
        let name = key.escape_ascii().to_string();
        let nothing = Vec::new();
        let appends = self.appends.get(key).unwrap_or(&nothing);
        let mut places = BTreeMap::new();
        for (at, element) in last.iter().enumerate() {
            if places.insert(*element, at).is_some() {
                return Err(Violation::new("applied-once", format!("{name} has {element} twice")));
            }
        }
        let known: BTreeSet<u64> = appends
            .iter()
            .filter(|append| append.fate != Fate::Refused)
            .map(|append| append.element)
            .collect();
        if let Some(stranger) = last.iter().find(|element| !known.contains(element)) {
            let detail = format!("{name} has {stranger}, which nobody was let to append");
            return Err(Violation::new("refused-is-not-applied", detail));
        }
        judge_appends(&name, appends, &places)?;
        self.reads.get(key).map_or(Ok(()), |reads| judge_reads(&name, appends, reads, last, &places))
    }
}

/// Acknowledged appends are there, in the order in which they happened.
fn judge_appends(name: &str, appends: &[Append], places: &BTreeMap<u64, usize>) -> Result<(), Violation> {
    let mut done = Vec::new();
    for append in appends {
        let place = places.get(&append.element);
        if let Fate::Done(returned_ns) = append.fate {
            let Some(place) = place else {
                let detail = format!("{name} has lost {}, which was acknowledged", append.element);
                return Err(Violation::new("no-key-lost", detail));
            };
            done.push((append.invoked_ns, returned_ns, *place));
        }
    }
    for (_, returned_ns, place) in &done {
        if let Some((_, _, later)) =
            done.iter().find(|(invoked, _, later)| invoked > returned_ns && later < place)
        {
            let detail = format!("{name}: place {later} was asked for after place {place} was there");
            return Err(Violation::new("appends-in-order", detail));
        }
    }
    Ok(())
}

fn judge_reads(
    name: &str,
    appends: &[Append],
    reads: &[Read],
    last: &[u64],
    places: &BTreeMap<u64, usize>,
) -> Result<(), Violation> {
    // How long the list certainly was, by the time from which on.
    let mut lengths: Vec<(u64, usize)> = Vec::new();
    for append in appends {
        if let (Fate::Done(returned_ns), Some(place)) = (append.fate, places.get(&append.element)) {
            lengths.push((returned_ns, place + 1));
        }
    }
    lengths.extend(reads.iter().map(|read| (read.returned_ns, read.list.len())));
    for read in reads {
        if !last.starts_with(&read.list) {
            let detail = format!("{name} was read as {:?}, and is {last:?} in the end", read.list);
            return Err(Violation::new("reads-are-prefixes", detail));
        }
        let least = lengths.iter().filter(|(at, _)| *at < read.invoked_ns).map(|(_, len)| *len).max();
        if least.is_some_and(|least| read.list.len() < least) {
            let detail = format!("{name} was read with {} elements, after it had {least:?}", read.list.len());
            return Err(Violation::new("reads-are-fresh", detail));
        }
        let early = appends.iter().find(|append| {
            append.invoked_ns > read.returned_ns
                && places.get(&append.element).is_some_and(|place| *place < read.list.len())
        });
        if let Some(append) = early {
            let detail = format!("{name} was read with {} before it was asked for", append.element);
            return Err(Violation::new("reads-are-past", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(history: &ListHistory, last: &[u64]) -> Option<&'static str> {
        history.judge(b"k", last).err().map(|violation| violation.property)
    }

    #[test]
    fn each_kind_of_wrong_history_is_named() {
        let mut history = ListHistory::default();
        history.append(b"k", 1, 0, Fate::Done(10));
        history.append(b"k", 2, 20, Fate::Done(30));
        history.append(b"k", 3, 20, Fate::Unknown);
        history.append(b"k", 4, 20, Fate::Refused);
        assert_eq!(property(&history, &[1, 2]), None);
        assert_eq!(property(&history, &[1, 3, 2]), None);
        assert_eq!(property(&history, &[1]), Some("no-key-lost"));
        assert_eq!(property(&history, &[2, 1]), Some("appends-in-order"));
        assert_eq!(property(&history, &[1, 2, 2]), Some("applied-once"));
        assert_eq!(property(&history, &[1, 2, 4]), Some("refused-is-not-applied"));
        let with = |list: &[u64], invoked_ns, returned_ns| {
            let mut history = history.clone();
            history.read(b"k", list.to_vec(), invoked_ns, returned_ns);
            property(&history, &[1, 2])
        };
        assert_eq!(with(&[1], 11, 12), None);
        assert_eq!(with(&[2], 40, 41), Some("reads-are-prefixes"));
        assert_eq!(with(&[1], 40, 41), Some("reads-are-fresh"));
        assert_eq!(with(&[1, 2], 11, 12), Some("reads-are-past"));
    }
}
