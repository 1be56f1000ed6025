//! A node as an owner of slices: keys, fences, moves.

use std::collections::BTreeMap;

use keypact_partitioning::{HoldingState, Holdings, Map, MoveId, Slice};
use keypact_protocol::NodeId;

use super::Scheme;
use super::message::{Ask, Key, Message, Record, Report, Rows};

/// More slices than this are never held.
const HOLDINGS_MAX: usize = 4_096;

/// What one node owns.
#[derive(Clone, Debug)]
pub(crate) struct Owner<S: Scheme> {
    scheme: S,
    pub(crate) holdings: Holdings<S::At>,
    rows: BTreeMap<(S::At, Key), Vec<u64>>,
    /// Where each slice that is being given away goes.
    giving: BTreeMap<MoveId, (Slice<S::At>, NodeId)>,
    /// Requests by place, since the last report.
    requests: BTreeMap<S::At, u64>,
    /// Grows whenever the holdings change.
    pub(crate) changes: u64,
    /// For the report of what was reached.
    pub(crate) counts: OwnerCounts,
}

/// What this life has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnerCounts {
    pub(crate) given: u64,
    pub(crate) taken: u64,
    pub(crate) taken_again: u64,
    pub(crate) activated: u64,
    pub(crate) released: u64,
    pub(crate) refused: u64,
    pub(crate) ranges: u64,
    pub(crate) ranges_refused: u64,
    pub(crate) stale_plans: u64,
}

/// What is to be written down, and what is then to be said to whom.
pub(crate) type Heard<A> = (Option<Record<A>>, Option<(NodeId, Message<A>)>);

/// What became of a request.
pub(crate) enum Served<A> {
    /// To be written down; answered once it is durable.
    Write(Record<A>),
    List(Vec<u64>),
    Rows(Rows),
    NotMine,
    Crossing,
}

impl<S: Scheme> Owner<S> {
    /// A node that owns what the first map gives it.
    pub(crate) fn new(id: NodeId, scheme: S) -> Owner<S> {
        let map = scheme.first_map();
        let mine = map.parts().iter().filter(|part| part.owner() == id).map(|part| part.slice.clone());
        let holdings = Holdings::begin(mine, map.version(), HOLDINGS_MAX).expect("a map's slices are apart");
        Owner {
            scheme,
            holdings,
            rows: BTreeMap::new(),
            giving: BTreeMap::new(),
            requests: BTreeMap::new(),
            changes: 0,
            counts: OwnerCounts::default(),
        }
    }

    /// Takes up what the disk kept. The same changes as when it was written.
    pub(crate) fn replay(&mut self, record: &Record<S::At>) {
        match record {
            Record::Append { keys, element } => self.append(keys, *element),
            Record::Gave { id, slice, to } => {
                self.holdings.give(*id, slice).expect("it was given before");
                self.giving.insert(*id, (slice.clone(), *to));
            }
            Record::Took { id, slice, rows } => {
                self.holdings.take(*id, slice).expect("it was taken before");
                self.insert(rows);
            }
            Record::Activated { id, version } => {
                self.holdings.activate(*id, *version).expect("it was activated before");
            }
            Record::Released { id } => self.let_go(*id),
            Record::Executor(_) => {}
        }
    }

    fn insert(&mut self, rows: &Rows) {
        for (key, elements) in rows {
            self.rows.insert((self.scheme.position(key), key.clone()), elements.clone());
        }
    }

    fn append(&mut self, keys: &[Key], element: u64) {
        for key in keys {
            self.rows.entry((self.scheme.position(key), key.clone())).or_default().push(element);
        }
    }

    fn let_go(&mut self, id: MoveId) {
        for slice in self.holdings.release(id).expect("it was let go before") {
            let gone: Vec<_> = self.range(&slice).map(|(place, _)| place.clone()).collect();
            for place in gone {
                self.rows.remove(&place);
            }
        }
        self.giving.remove(&id);
    }

    fn range(&self, slice: &Slice<S::At>) -> impl Iterator<Item = (&(S::At, Key), &Vec<u64>)> {
        let slice = slice.clone();
        self.rows
            .range((slice.low().clone(), Key::new())..)
            .take_while(move |((at, _), _)| slice.contains(at))
    }

    fn rows_of(&self, slice: &Slice<S::At>) -> Rows {
        self.range(slice).map(|((_, key), elements)| (key.clone(), elements.clone())).collect()
    }

    /// A client's request: re-checked here, whatever map the client went by.
    pub(crate) fn serve(&mut self, ask: &Ask<S::At>) -> Served<S::At> {
        let served = match ask {
            Ask::Append { keys, element } => {
                let places: Vec<S::At> = keys.iter().map(|key| self.scheme.position(key)).collect();
                if places.iter().any(|place| *place != places[0]) {
                    return Served::Crossing;
                }
                if self.holdings.serves(&places[0]).is_none() {
                    Served::NotMine
                } else {
                    *self.requests.entry(places[0].clone()).or_default() += 1;
                    self.append(keys, *element);
                    Served::Write(Record::Append { keys: keys.clone(), element: *element })
                }
            }
            Ask::Read { key } => {
                let place = self.scheme.position(key);
                if self.holdings.serves(&place).is_none() {
                    Served::NotMine
                } else {
                    *self.requests.entry(place.clone()).or_default() += 1;
                    Served::List(self.rows.get(&(place, key.clone())).cloned().unwrap_or_default())
                }
            }
            Ask::Range { slice } => {
                if self.holdings.serves_all(slice) {
                    self.counts.ranges += 1;
                    Served::Rows(self.rows_of(slice))
                } else {
                    self.counts.ranges_refused += 1;
                    Served::NotMine
                }
            }
        };
        self.counts.refused += u64::from(matches!(served, Served::NotMine));
        served
    }

    /// The catalog, or another owner, says something. What is to be written down, and then said.
    pub(crate) fn hear(&mut self, message: Message<S::At>, catalog_at: NodeId) -> Heard<S::At> {
        self.changes += 1;
        match message {
            Message::Give { id, slice, to } => {
                if self.giving.contains_key(&id) {
                    return (None, Some((to, self.content(id, &slice))));
                }
                if self.holdings.give(id, &slice).is_err() {
                    self.counts.stale_plans += 1;
                    return (None, None);
                }
                self.counts.given += 1;
                self.giving.insert(id, (slice.clone(), to));
                let content = self.content(id, &slice);
                (Some(Record::Gave { id, slice, to }), Some((to, content)))
            }
            Message::Content { id, slice, rows } => match self.holdings.take(id, &slice) {
                Ok(true) => {
                    self.counts.taken += 1;
                    self.insert(&rows);
                    (Some(Record::Took { id, slice, rows }), Some((catalog_at, Message::Took { id })))
                }
                Ok(false) => {
                    self.counts.taken_again += 1;
                    (None, Some((catalog_at, Message::Took { id })))
                }
                Err(_) => {
                    self.counts.stale_plans += 1;
                    (None, None)
                }
            },
            Message::Activate { id, version } => match self.holdings.activate(id, version) {
                Ok(changed) => {
                    self.counts.activated += u64::from(changed);
                    let record = changed.then_some(Record::Activated { id, version });
                    (record, Some((catalog_at, Message::Active { id })))
                }
                Err(_) => (None, None),
            },
            Message::Release { id } => {
                let gives = self.giving.contains_key(&id);
                if gives {
                    self.counts.released += 1;
                    self.let_go(id);
                }
                let record = gives.then_some(Record::Released { id });
                (record, Some((catalog_at, Message::Released { id })))
            }
            _ => (None, None),
        }
    }

    fn content(&self, id: MoveId, slice: &Slice<S::At>) -> Message<S::At> {
        Message::Content { id, slice: slice.clone(), rows: self.rows_of(slice) }
    }

    /// What it says of the slices that it serves; the counts of requests begin anew.
    pub(crate) fn reports(&mut self, id: NodeId, map: &Map<S::At>) -> Vec<Report<S::At>> {
        let mine =
            map.parts().iter().filter(|part| part.owner() == id && self.holdings.serves_all(&part.slice));
        let report = |slice: &Slice<S::At>| {
            let rows: Vec<(S::At, u64)> = self
                .range(slice)
                .map(|((place, key), elements)| (place.clone(), key.len() as u64 + 8 * elements.len() as u64))
                .collect();
            let inside = self.requests.iter().filter(|(place, _)| slice.contains(place));
            let asked: Vec<(S::At, u64)> = inside.map(|(place, count)| (place.clone(), *count)).collect();
            let bytes = rows.iter().map(|(_, bytes)| bytes).sum();
            let requests = asked.iter().map(|(_, count)| count).sum();
            let split_at = self.scheme.split_at(slice, &rows, &asked);
            Report { low: slice.low().clone(), bytes, requests, split_at }
        };
        let reports = mine.map(|part| report(&part.slice)).collect();
        self.requests.clear();
        reports
    }

    /// The list of a key that is served here.
    pub(crate) fn list(&self, key: &[u8]) -> Option<&[u64]> {
        let place = self.scheme.position(key);
        self.holdings.serves(&place)?;
        Some(self.rows.get(&(place, key.to_vec())).map_or(&[][..], Vec::as_slice))
    }

    /// Slices held that are not served: none in the end.
    pub(crate) fn unsettled(&self) -> usize {
        self.holdings.held().iter().filter(|holding| holding.state != HoldingState::Serving).count()
    }
}
