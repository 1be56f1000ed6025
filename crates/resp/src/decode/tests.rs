//! What only the inside shows: the bytes looked at, and what is reserved.

use super::*;
use crate::Version;
use alloc::vec;

fn feed(stream: &[u8], piece: usize) -> (usize, usize) {
    let mut parser = ValueParser::new(Limits::default());
    let mut input = BytesMut::new();
    let mut replies = 0;
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        while parser.next(&mut input).expect("the stream is valid").is_some() {
            replies += 1;
        }
    }
    assert!(input.is_empty());
    (replies, parser.examined)
}

/// Guards against reading an incomplete reply again from its start.
#[test]
fn work_is_linear_however_the_stream_is_cut() {
    let big = Value::bulk(vec![b'v'; 1 << 20]);
    let many = Value::Array(vec![Value::Integer(1); 100_000]);
    let line = Value::Status(Bytes::from(vec![b'x'; 60_000]));
    let mut nested = Value::bulk("innermost");
    for _ in 0..MAX_DEPTH {
        nested = Value::Array(vec![nested, Value::Integer(1)]);
    }
    for value in [big, many, line, nested] {
        let mut stream = BytesMut::new();
        value.encode(Version::Resp3, &mut stream);
        for piece in [1, 2, 7, 1000, 1 << 21] {
            let (replies, examined) = feed(&stream, piece);
            assert_eq!(replies, 1);
            let bound = stream.len() * (MAX_EXAMINED_BYTES + 1) + MAX_EXAMINED_BYTES;
            assert!(examined <= bound, "{examined} > {bound} in pieces of {piece}");
        }
    }
}

#[test]
fn announced_lengths_reserve_nothing() {
    let mut parser = ValueParser::new(Limits::default());
    let mut input = BytesMut::from(&b"*1048576\r\n*1048576\r\n$16777216\r\nabc"[..]);
    assert_eq!(parser.next(&mut input), Ok(None));
    for frame in &parser.stack {
        assert!(frame.items.capacity() <= 16, "{}", frame.items.capacity());
    }
    assert!(input.capacity() <= 4 * 1024, "{}", input.capacity());
}

#[test]
fn strings_share_the_memory_they_arrived_in() {
    let mut input = BytesMut::from(&b"$5\r\nhello\r\n"[..]);
    let start = input.as_ptr();
    match ValueParser::new(Limits::default()).next(&mut input) {
        Ok(Some(Value::Bulk(bytes))) => assert_eq!(bytes.as_ptr(), start.wrapping_add(4)),
        other => panic!("{other:?}"),
    }
}
