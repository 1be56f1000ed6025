//! Several stores side by side under one key: tuples.

use alloc::vec::Vec;

use keypact_ordering::clock::{Dot, DotContext};
use keypact_protocol::DecodeError;

use super::{DotStore, Sides};
use crate::codec::Reader;

/// A tuple of stores is a store: its parts share the context, and nothing else. A mutation makes the delta of one part and leaves the
/// others at their defaults.
macro_rules! tuple_store {
    ($($part:ident $at:tt),+) => {
        impl<$($part: DotStore),+> DotStore for ($($part,)+) {
            fn is_bottom(&self) -> bool {
                $(self.$at.is_bottom())&&+
            }

            fn for_each_dot(&self, visit: &mut dyn FnMut(Dot)) {
                $(self.$at.for_each_dot(visit);)+
            }

            fn join(&mut self, other: Self, sides: &Sides<'_>) -> bool {
                let mut changed = false;
                $(changed |= self.$at.join(other.$at, sides);)+
                changed
            }

            fn drop_seen(&mut self, seen: &DotContext, hints: bool) -> bool {
                let mut changed = false;
                $(changed |= self.$at.drop_seen(seen, hints);)+
                changed
            }

            fn emptied(&self) -> Self {
                ($(self.$at.emptied(),)+)
            }

            fn unseen(&self, seen: &DotContext) -> Self {
                ($(self.$at.unseen(seen),)+)
            }

            fn split(self, bytes_max: usize, part: &mut dyn FnMut(Self)) {
                // Beside the part that is cut each of the others takes a byte, two at most.
                let parts = [$($at),+].len();
                let inner_max = bytes_max.saturating_sub(2 * parts).max(1);
                $({
                    if !self.$at.is_bottom() {
                        self.$at.split(inner_max, &mut |inner| {
                            let mut alone = Self::default();
                            alone.$at = inner;
                            part(alone);
                        });
                    }
                })+
            }

            fn put(&self, out: &mut Vec<u8>) {
                $(self.$at.put(out);)+
            }

            fn take(input: &mut Reader, hints: bool) -> Result<Self, DecodeError> {
                Ok(($($part::take(input, hints)?,)+))
            }

            fn encoded_len(&self) -> usize {
                0 $(+ self.$at.encoded_len())+
            }
        }
    };
}

tuple_store!(A 0, B 1);
tuple_store!(A 0, B 1, C 2);
tuple_store!(A 0, B 1, C 2, D 3);
tuple_store!(A 0, B 1, C 2, D 3, E 4);
tuple_store!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_store!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
