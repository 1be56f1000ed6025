//! The command table: one row per command and subcommand, as data. It feeds parsing, routing, dispatch and `COMMAND`.
//!
//! A command's number is what stands in the log and on the wire; a number is never given to another command.

mod rows;

use core::ops::BitOr;

use keypact_resp::{Arguments, Value};

use crate::partition::{Reply, View, Write};

pub use rows::TABLE;

/// The number of a command in the table, in the log and on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u16);

/// Properties of a command, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u32);

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags(0);
    /// Changes data: goes through the log.
    pub const WRITE: Flags = Flags(1);
    /// Reads data only.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need more memory: refused before it is proposed when there is none.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// For operators.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Not within scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 4);
    /// Answered while the node still loads.
    pub const LOADING: Flags = Flags(1 << 5);
    /// Answered by a node that can't vouch for its data.
    pub const STALE: Flags = Flags(1 << 6);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 7);
    /// Allowed before the client has authenticated.
    pub const NO_AUTH: Flags = Flags(1 << 8);
    /// Allowed while a script blocks everyone else.
    pub const ALLOW_BUSY: Flags = Flags(1 << 9);
    /// In category `@dangerous`: slow or destructive over the whole keyspace, or telling of the machine.
    pub const DANGEROUS: Flags = Flags(1 << 10);
    /// Has no key but concerns every partition of the keyspace.
    pub const KEYSPACE: Flags = Flags(1 << 11);
    /// Has subcommands.
    pub const CONTAINER: Flags = Flags(1 << 12);

    /// Whether all of `other` are set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.and(other)
    }
}

/// Who carries a command out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The partition that owns its keys; all partitions if it has [`Flags::KEYSPACE`].
    Partition,
    /// The node or connection that received it.
    Node,
}

/// Where `COMMAND DOCS` lists a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// On strings.
    String,
    /// On keys of any type.
    Generic,
    /// On the node.
    Server,
    /// On the connection.
    Connection,
}

impl Group {
    /// Its name in `COMMAND DOCS`.
    pub fn name(self) -> &'static str {
        match self {
            Group::String => "string",
            Group::Generic => "generic",
            Group::Server => "server",
            Group::Connection => "connection",
        }
    }
}

/// Runs a command. Only this crate can name the functions behind it.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Read(fn(&View<'_>, &Arguments) -> Reply),
    Write(fn(&mut Write<'_>, &Arguments) -> Reply),
    /// Not ours: the node's.
    Node,
}

/// One row of the table.
pub struct Spec {
    /// Its number.
    pub id: CommandId,
    /// Lower-case; a subcommand is `container|name`.
    pub name: &'static str,
    /// Number of arguments, the name included (and the container's, for a subcommand); negative: at least so many.
    pub arity: i16,
    /// Its properties.
    pub flags: Flags,
    /// Index of the first key among the arguments; 0: it has no keys.
    pub first_key: i16,
    /// Index of the last key; negative: counted from the end, -1 is the last argument.
    pub last_key: i16,
    /// From one key to the next.
    pub key_step: i16,
    /// What it does to its keys, as in the key specifications of `COMMAND INFO`.
    pub key_flags: &'static [&'static str],
    /// Its group.
    pub group: Group,
    /// The version of Redis that brought it (for our own commands, of Keypact).
    pub since: &'static str,
    /// Time it takes.
    pub complexity: &'static str,
    /// One sentence on what it does.
    pub summary: &'static str,
    /// Its arguments: `[optional]`, `one | other`, `repeated ...`; upper case is to be written as it stands.
    pub syntax: &'static str,
    /// Hints for clients, as in `COMMAND INFO`.
    pub tips: &'static [&'static str],
    pub(crate) handler: Handler,
}

impl Spec {
    /// Whether it goes through the log.
    #[inline]
    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// Who carries it out.
    #[inline]
    pub fn place(&self) -> Place {
        match self.handler {
            Handler::Node => Place::Node,
            Handler::Read(_) | Handler::Write(_) => Place::Partition,
        }
    }

    /// Whether it may have `count` arguments, the name included.
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// The container's name, if this is a subcommand.
    pub fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// Indices of its keys in a call with `count` arguments. Empty if it has none.
    #[inline]
    pub fn key_indices(&self, count: usize) -> core::iter::StepBy<core::ops::Range<usize>> {
        if self.first_key == 0 {
            return (0..0).step_by(1);
        }
        let end = match self.last_key {
            last @ 0.. => last as usize + 1,
            last => (count + 1).saturating_sub(usize::from(last.unsigned_abs())),
        };
        (self.first_key as usize..end.min(count)).step_by(self.key_step as usize)
    }

    /// `container|name` rows below this one.
    pub fn subcommands(&'static self) -> impl Iterator<Item = &'static Spec> {
        TABLE.iter().filter(|row| row.container() == Some(self.name))
    }

    /// Whether it runs on every partition of the keyspace.
    pub fn is_keyspace_wide(&self) -> bool {
        self.flags.contains(Flags::KEYSPACE)
    }
}

impl core::fmt::Debug for Spec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// Slots of the name index: a power of two, several times the number of rows, so that probes are short.
const NAME_SLOTS: usize = 512;
/// One above the highest number that a command may have.
const MAX_IDS: usize = 512;
const EMPTY: u8 = u8::MAX;

/// Row by name, open addressing; and row by number. Built by the compiler.
static BY_NAME: [u8; NAME_SLOTS] = index_by_name();
static BY_ID: [u8; MAX_IDS] = index_by_id();

/// Spreads names over the slots. Folding a letter's case is one bit; other bytes may collide, and are compared anyway.
const fn name_slot(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let first = (name[0] | 0x20) as usize;
    let middle = (name[length / 2] | 0x20) as usize;
    let before_last = (name[length.saturating_sub(2)] | 0x20) as usize;
    let last = (name[length - 1] | 0x20) as usize;
    (first * 31 + middle * 131 + before_last * 211 + last * 17 + length * 71) % NAME_SLOTS
}

const fn index_by_name() -> [u8; NAME_SLOTS] {
    assert!(TABLE.len() < EMPTY as usize, "a row's index has 8 bits");
    let mut slots = [EMPTY; NAME_SLOTS];
    let mut row = 0;
    while row < TABLE.len() {
        let mut slot = name_slot(TABLE[row].name.as_bytes());
        while slots[slot] != EMPTY {
            slot = (slot + 1) % NAME_SLOTS;
        }
        slots[slot] = row as u8;
        row += 1;
    }
    slots
}

const fn index_by_id() -> [u8; MAX_IDS] {
    let mut slots = [EMPTY; MAX_IDS];
    let mut row = 0;
    while row < TABLE.len() {
        let id = TABLE[row].id.0 as usize;
        assert!(slots[id] == EMPTY, "a number is given once");
        slots[id] = row as u8;
        row += 1;
    }
    slots
}

/// The row of this name, whatever its case; nothing is allocated. Subcommands are found by [`find_subcommand`].
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut slot = name_slot(name);
    // Ends: the index is mostly empty.
    loop {
        let row = TABLE.get(usize::from(BY_NAME[slot]))?;
        if row.name.as_bytes().eq_ignore_ascii_case(name) {
            return if row.name.contains('|') { None } else { Some(row) };
        }
        slot = (slot + 1) % NAME_SLOTS;
    }
}

/// The row of this number.
#[inline]
pub fn by_id(id: CommandId) -> Option<&'static Spec> {
    TABLE.get(usize::from(*BY_ID.get(usize::from(id.0))?))
}

/// The row `container|name`, whatever the case. O(rows).
pub fn find_subcommand(container: &str, name: &[u8]) -> Option<&'static Spec> {
    TABLE.iter().find(|row| {
        let Some((of, own)) = row.name.split_once('|') else { return false };
        of == container && own.as_bytes().eq_ignore_ascii_case(name)
    })
}

/// What a handler gives back to be sent.
pub(crate) fn reply(result: Reply) -> Value {
    result.unwrap_or_else(Value::Error)
}

#[cfg(test)]
mod tests;
