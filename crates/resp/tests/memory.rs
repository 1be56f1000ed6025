//! What a hostile peer can make us allocate, counted by the allocator: a small factor of what it sent, whatever
//! it announced.
#![allow(unsafe_code, reason = "a counting allocator can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use keypact_resp::{CommandParser, Limits, ValueParser};

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is going away has nothing to count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Feeds `stream` in pieces; the most that was held at once, in bytes. Nothing found is dropped before the end.
fn peak<T>(stream: &[u8], piece: usize, mut next: impl FnMut(&mut BytesMut) -> Option<T>) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(one) = next(&mut input) {
            found.push(one);
        }
    }
    (PEAK.get() - before) as usize
}

fn command_peak(stream: &[u8], piece: usize) -> usize {
    let mut parser = CommandParser::new(Limits::default());
    peak(stream, piece, |input| parser.next(input).ok().flatten())
}

fn reply_peak(stream: &[u8], piece: usize) -> usize {
    let mut parser = ValueParser::new(Limits::default());
    peak(stream, piece, |input| parser.next(input).ok().flatten())
}

/// The allocator's counts are worth something only if it sees the buffers.
#[test]
fn the_count_counts() {
    let held = peak(b"x", 1, |_| None::<u8>);
    assert!((1..1000).contains(&held), "{held}");
    let held = peak(&[0; 100_000], 1000, |_| None::<u8>);
    assert!((100_000..400_000).contains(&held), "{held}");
}

#[test]
fn announcing_much_and_sending_nothing() {
    for stream in
        ["*1048576\r\n", "*1048576\r\n$16777216\r\n", "*1048576\r\n$3\r\nSET\r\n$16777216\r\nabc", "\"aaaaa"]
    {
        for piece in [1, 1000] {
            let held = command_peak(stream.as_bytes(), piece);
            assert!(held < 1000, "{held} bytes for {stream:?}");
        }
    }
    let nested = "*1048576\r\n".repeat(32);
    for stream in [&nested[..], "$16777216\r\nabc", "%500000\r\n", "|500000\r\n~1000000\r\n"] {
        for piece in [1, 1000] {
            let held = reply_peak(stream.as_bytes(), piece);
            assert!(held < 4096 + 100 * stream.len(), "{held} bytes for {stream:?}");
        }
    }
}

/// The shortest elements that there are: each costs an entry of its own.
#[test]
fn many_small_elements() {
    let arguments = "*100000\r\n".to_owned() + &"$0\r\n\r\n".repeat(99_999);
    for piece in [100, 16 * 1024, 1 << 20] {
        let held = command_peak(arguments.as_bytes(), piece);
        assert!(held < 8 * arguments.len(), "{held} bytes for {}", arguments.len());
    }
    // A value has up to 56 bytes, and the list that holds it may be twice as long and be copied once.
    let nulls = "*100000\r\n".to_owned() + &"_\r\n".repeat(99_999);
    for piece in [100, 16 * 1024, 1 << 20] {
        let held = reply_peak(nulls.as_bytes(), piece);
        assert!(held < 64 * nulls.len(), "{held} bytes for {}", nulls.len());
    }
}

#[test]
fn a_large_argument() {
    let mut stream = b"*2\r\n$3\r\nGET\r\n$8000000\r\n".to_vec();
    stream.resize(stream.len() + 8_000_000, b'x');
    for piece in [4096, 64 * 1024] {
        let held = command_peak(&stream, piece);
        assert!(held < 4 * stream.len(), "{held} bytes for {}", stream.len());
    }
}
