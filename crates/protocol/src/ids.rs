//! Names of things: nodes, groups, log sequence numbers, requests. All are plain integers, so that they are cheap to copy,
//! order, and put on the wire.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

id!(
    /// One member of the cluster: one process.
    NodeId, u64, "n"
);
id!(
    /// The replicas of one partition, or of the catalog.
    GroupId, u64, "g"
);
id!(
    /// A position in one node's write-ahead log. Each appended record takes the next number, whichever group it belongs to.
    /// `Lsn(0)` stands before the first record, so it is always durable.
    Lsn, u64, "l"
);
id!(
    /// A request as the node that accepted it numbers it; unique on that node until it restarts.
    RequestId, u64, "r"
);
id!(
    /// Which life of a node's folder this is. A node that lost its disk comes back under the next one.
    Incarnation, u64, "i"
);

impl Lsn {
    /// Before every record.
    pub const ZERO: Lsn = Lsn(0);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0.checked_add(1).expect("2^64 records outlast any disk"))
    }
}
