//! Deltas that were applied here of late, as they came, for those who miss little.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use keypact_ordering::clock::{DotContext, ReplicaId, Span};

use super::config::DELTAS_MAX;

/// One delta, with its events.
#[derive(Debug)]
struct Kept {
    first: u64,
    delta: Bytes,
    /// When it came, to know the oldest.
    turn: u64,
}

/// Deltas by their events, bounded in bytes; the oldest go first.
#[derive(Debug)]
pub(super) struct Recent {
    /// By replica and last event.
    kept: BTreeMap<(ReplicaId, u64), Kept>,
    turns: BTreeMap<u64, (ReplicaId, u64)>,
    next_turn: u64,
    bytes: usize,
    bytes_max: usize,
}

/// What a delta costs beside its bytes.
const ENTRY_BYTES: usize = 64;

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Recent {
        Recent { kept: BTreeMap::new(), turns: BTreeMap::new(), next_turn: 0, bytes: 0, bytes_max }
    }

    pub(super) fn clear(&mut self) {
        *self = Recent::new(self.bytes_max);
    }

    /// Keeps a delta with these events, unless they are of several replicas or not all neighbours.
    pub(super) fn insert(&mut self, events: &DotContext, delta: Bytes) {
        let mut spans = events.spans();
        let (Some(span), None) = (spans.next(), spans.next()) else { return };
        // Of a type whose deltas say how far its replica has counted, the newest says it all.
        let within = (span.replica, span.first)..=(span.replica, span.last);
        let covered: Vec<u64> = self.kept.range(within).map(|(key, _)| key.1).collect();
        for last in covered {
            if self.kept[&(span.replica, last)].first >= span.first {
                self.remove((span.replica, last));
            }
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.bytes += delta.len() + ENTRY_BYTES;
        let key = (span.replica, span.last);
        self.remove(key);
        self.turns.insert(turn, key);
        self.kept.insert(key, Kept { first: span.first, delta, turn });
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.turns.first_key_value() else { break };
            self.remove(*oldest);
        }
        assert!(self.turns.len() == self.kept.len(), "every delta has its turn");
        assert!(self.bytes <= self.bytes_max, "what is kept is bounded");
    }

    fn remove(&mut self, key: (ReplicaId, u64)) {
        if let Some(kept) = self.kept.remove(&key) {
            self.turns.remove(&kept.turn);
            self.bytes -= kept.delta.len() + ENTRY_BYTES;
        }
    }

    /// Deltas that bring all of `missing`, or of so much of it as fits into `bytes_max`, and whether that is all; `None` if some of it
    /// is not kept. Which replica's come first is up to `turn`: with a small budget the others have their turn another time.
    pub(super) fn cover(
        &self,
        missing: &DotContext,
        bytes_max: usize,
        turn: usize,
    ) -> Option<(Vec<Bytes>, bool)> {
        let mut found: Vec<&Bytes> = Vec::new();
        let spans: Vec<Span> = missing.spans().collect();
        assert!(!spans.is_empty(), "who misses nothing is sent nothing");
        for at in 0..spans.len() {
            self.cover_span(spans[(at + turn) % spans.len()], &mut found)?;
        }
        let mut deltas: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for delta in &found {
            bytes += delta.len();
            if !deltas.is_empty() && (bytes > bytes_max || deltas.len() == DELTAS_MAX) {
                break;
            }
            deltas.push((*delta).clone());
        }
        let all = deltas.len() == found.len();
        assert!(!deltas.is_empty() && deltas.len() <= DELTAS_MAX, "at least one goes, however large");
        Some((deltas, all))
    }

    fn cover_span<'a>(&'a self, span: Span, found: &mut Vec<&'a Bytes>) -> Option<()> {
        let mut next = span.first;
        while next <= span.last {
            let (key, kept) = self.kept.range((span.replica, next)..=(span.replica, u64::MAX)).next()?;
            if kept.first > next {
                return None;
            }
            found.push(&kept.delta);
            let Some(after) = key.1.checked_add(1) else { break };
            next = after;
        }
        Some(())
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.bytes
    }
}
