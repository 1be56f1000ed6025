//! Stores that are another store with a meaning of its own.

/// `impl DotStore` for a newtype over a store.
macro_rules! delegate_store {
    ($name:ident $(<$value:ident>)?) => {
        impl $(<$value: Clone + PartialEq + core::fmt::Debug + crate::codec::Codec>)? crate::causal::DotStore
            for $name $(<$value>)?
        {
            #[inline]
            fn is_bottom(&self) -> bool {
                self.0.is_bottom()
            }

            fn for_each_dot(&self, visit: &mut dyn FnMut(keypact_ordering::clock::Dot)) {
                self.0.for_each_dot(visit);
            }

            fn join(&mut self, other: Self, sides: &crate::causal::Sides<'_>) -> bool {
                self.0.join(other.0, sides)
            }

            fn drop_seen(&mut self, seen: &keypact_ordering::clock::DotContext, hints: bool) -> bool {
                self.0.drop_seen(seen, hints)
            }

            fn emptied(&self) -> Self {
                $name(self.0.emptied())
            }

            fn unseen(&self, seen: &keypact_ordering::clock::DotContext) -> Self {
                $name(self.0.unseen(seen))
            }

            fn split(self, bytes_max: usize, part: &mut dyn FnMut(Self)) {
                self.0.split(bytes_max, &mut |inner| part($name(inner)));
            }

            fn put(&self, out: &mut alloc::vec::Vec<u8>) {
                self.0.put(out);
            }

            fn take(
                input: &mut crate::codec::Reader,
                hints: bool,
            ) -> Result<Self, keypact_protocol::DecodeError> {
                crate::causal::DotStore::take(input, hints).map($name)
            }

            fn encoded_len(&self) -> usize {
                self.0.encoded_len()
            }
        }
    };
}

pub(crate) use delegate_store;
