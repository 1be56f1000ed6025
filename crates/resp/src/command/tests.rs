//! What only the inside shows: the bytes looked at, and where arguments lie.

use super::*;
use crate::encode_command;
use alloc::vec;

/// Feeds `stream` in pieces of `piece` bytes; the commands found and the bytes examined.
fn feed(stream: &[u8], piece: usize) -> (usize, usize) {
    let mut parser = CommandParser::new(Limits::default());
    let mut input = BytesMut::new();
    let mut commands = 0;
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        while parser.next(&mut input).expect("the stream is valid").is_some() {
            commands += 1;
        }
    }
    assert!(input.is_empty());
    (commands, parser.examined)
}

/// Guards against reading an incomplete command again from its start: a factor above the constant of one length
/// line per byte would be quadratic.
#[test]
fn work_is_linear_however_the_stream_is_cut() {
    let big = vec![b'v'; 1 << 20];
    let mut one_big = BytesMut::new();
    encode_command(&[b"SET", b"key", &big], &mut one_big);
    let mut many_arguments = BytesMut::new();
    encode_command(&vec![&b"argument"[..]; 100_000], &mut many_arguments);
    let mut inline = BytesMut::from(&b"ECHO "[..]);
    inline.extend_from_slice(&vec![b'x'; 60_000]);
    inline.extend_from_slice(b"\r\n");

    for stream in [one_big, many_arguments, inline] {
        for piece in [1, 2, 7, 1000, 1 << 21] {
            let (commands, examined) = feed(&stream, piece);
            assert_eq!(commands, 1);
            let bound = stream.len() * (MAX_EXAMINED_BYTES + 1) + MAX_EXAMINED_BYTES;
            assert!(examined <= bound, "{examined} > {bound} in pieces of {piece}");
        }
    }
    // In one piece, a long value is not looked at at all.
    let mut stream = BytesMut::new();
    encode_command(&[b"SET", b"key", &big], &mut stream);
    assert!(feed(&stream, stream.len()).1 <= 4 * (MAX_EXAMINED_BYTES + 1));
}

#[test]
fn a_large_argument_cut_in_bytes_costs_a_look_per_header_only() {
    let big = vec![b'v'; 1 << 20];
    let mut stream = BytesMut::new();
    encode_command(&[b"SET", b"key", &big], &mut stream);
    let (_, examined) = feed(&stream, 1);
    // Four header lines of at most 10 bytes, each read again with each of its bytes.
    assert!(examined <= 4 * 10 * 10, "{examined}");
}

#[test]
fn a_command_shares_the_memory_it_arrived_in() {
    let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*1\r\n$4\r\nPING\r\n"[..]);
    let start = input.as_ptr();
    let mut parser = CommandParser::new(Limits::default());
    let arguments = parser.next(&mut input).unwrap().unwrap();
    assert_eq!(arguments.buffer.as_ptr(), start);
    assert_eq!(arguments.slice(1).as_ptr(), start.wrapping_add(17));
    assert_eq!(&input[..], b"*1\r\n$4\r\nPING\r\n");
}

#[test]
fn announced_lengths_reserve_nothing() {
    let mut parser = CommandParser::new(Limits::default());
    let mut input = BytesMut::from(&b"*1048576\r\n$16777216\r\nabc"[..]);
    assert_eq!(parser.next(&mut input), Ok(None));
    assert!(parser.spans.capacity() <= 8, "{}", parser.spans.capacity());
    assert!(input.capacity() <= 4 * 1024, "{}", input.capacity());
}

#[test]
fn an_argument_on_its_way_gets_room_as_it_arrives() {
    let mut parser = CommandParser::new(Limits::default());
    let mut input = BytesMut::from(&b"*1\r\n$1000000\r\n"[..]);
    input.extend_from_slice(&[0; 8192]);
    assert_eq!(parser.next(&mut input), Ok(None));
    assert!(input.capacity() >= 2 * 8192, "doubled, from {}", input.len());
    assert!(input.capacity() <= 5 * 8192, "but {} is too much", input.capacity());
}

#[test]
fn limits_may_change_at_any_byte() {
    let mut stream = BytesMut::from(&b"ECHO a long enough line\r\n"[..]);
    encode_command(&[b"SET", b"key", b"value"], &mut stream);
    for cut in 0..stream.len() {
        let mut parser = CommandParser::new(Limits::default());
        let mut input = BytesMut::from(&stream[..cut]);
        while let Ok(Some(_)) = parser.next(&mut input) {}
        parser.set_limits(Limits {
            max_arguments: 1,
            max_bulk_bytes: 1,
            max_inline_bytes: 1,
            ..Limits::default()
        });
        input.extend_from_slice(&stream[cut..]);
        while let Ok(Some(_)) = parser.next(&mut input) {}
    }
}
