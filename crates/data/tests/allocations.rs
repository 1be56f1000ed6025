//! What the hot path allocates: nothing for GET, at most two for SET of a new key.
#![allow(unsafe_code, reason = "counting allocations takes an allocator, which is unsafe to write")]
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "counts of this thread only, as the test harness has its own"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use keypact_data::{Command, Partition};
use keypact_resp::{Arguments, Value};

struct Counting;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and all memory is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

fn command(parts: &[&[u8]]) -> Command {
    let mut bytes = BytesMut::new();
    Command::parse(Arguments::from_parts(parts)).expect("a command").encode(&mut bytes);
    Command::decode(bytes.freeze()).expect("what was encoded")
}

#[test]
fn the_hot_path_allocates_little() {
    let mut partition = Partition::new([0; 16]);
    let mut sets = Vec::new();
    for key in 0..20_000 {
        sets.push(command(&[b"SET", format!("key:{key}").as_bytes(), b"some value or other"]));
    }
    let mut worst = 0;
    let total = allocations(|| {
        for (set, index) in sets.iter().zip(1..) {
            worst = worst.max(allocations(|| assert!(partition.apply(index, 1, 0, set).is_ok())));
        }
    });
    assert!(worst <= 2, "{worst} for one SET");
    // The second is growth of a bucket, now and then.
    assert!(total < 20_000 * 5 / 4, "{total} for 20,000 SETs");

    let get = command(&[b"GET", b"key:77"]);
    // The first read makes the value shareable, once.
    assert!(matches!(partition.read(1, &get), Value::Bulk(_)));
    assert_eq!(allocations(|| drop(partition.read(1, &get))), 0);
    let missing = command(&[b"GET", b"none"]);
    assert_eq!(allocations(|| assert!(partition.read(1, &missing).is_null())), 0);
    let arguments = Arguments::from_parts(&[b"gEt", b"key:77"]);
    assert_eq!(allocations(|| assert!(Command::parse(arguments).is_ok())), 0);
}
