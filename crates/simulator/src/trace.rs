//! The trace hash, counters, and panics caught.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A rolling hash of everything that happened. Equal seeds of equal code have equal hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        TraceHash(0x51_7c_c1_b7_27_22_0a_95)
    }
}

impl TraceHash {
    /// Takes one number in.
    #[inline]
    pub fn add(&mut self, value: u64) {
        // Two different odd multipliers and a rotation: cheap, and order matters.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }

    /// Takes bytes in, eight at a time.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.add(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.add(u64::from_le_bytes(last));
        self.add(bytes.len() as u64);
    }

    /// The hash so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// How often each thing that ought to happen sometimes did. A zero after many seeds means that the test tests nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// Adds to a counter, which then exists, even with 0.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// A counter; 0 if it does not exist.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Adds another run's counters.
    pub fn merge(&mut self, other: &Counters) {
        for (name, count) in other.iter() {
            self.add(name, count);
        }
    }
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs `body`; a panic in it becomes its message and place, and prints nothing.
///
/// # Errors
/// The panic's message and place.
pub(crate) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return previous(info);
            }
            let what = info.payload_as_str().unwrap_or("(no message)");
            let place =
                info.location().map_or_else(String::new, |at| format!(", {}:{}", at.file(), at.line()));
            CAUGHT.set(format!("{what}{place}"));
        }));
    });
    let outer = CATCHING.replace(true);
    // The state that `body` left half-changed is thrown away or only printed by all callers.
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(outer);
    result.map_err(|_| CAUGHT.take())
}
