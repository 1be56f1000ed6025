//! Parsing, and the bytes of commands. Guards the numbers that stand in logs, and decoding of anything at all.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::table::TABLE;

fn command(parts: &[&[u8]]) -> Command {
    Command::parse(Arguments::from_parts(parts)).unwrap()
}

fn encoded(command: &Command) -> Bytes {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    assert_eq!(out.len(), command.encoded_len());
    out.freeze()
}

#[test]
fn names_are_found_in_any_case() {
    for spec in TABLE.iter().filter(|spec| spec.container().is_none()) {
        for name in [spec.name.to_owned(), spec.name.to_ascii_uppercase()] {
            assert_eq!(table::find(name.as_bytes()).map(|found| found.id), Some(spec.id));
        }
        assert!(table::find(format!("{}x", spec.name).as_bytes()).is_none());
        assert!(table::find(&spec.name.as_bytes()[1..]).is_none_or(|found| found.id != spec.id));
    }
    assert!(table::find(b"").is_none());
    assert!(table::find(b"client|id").is_none());
    assert_eq!(command(&[b"client", b"ID"]).spec().name, "client|id");
    assert_eq!(command(&[b"COMMAND"]).spec().name, "command");
}

#[test]
fn bytes_are_these() {
    let bytes = encoded(&command(&[b"SET", b"key", b"value"]));
    assert_eq!(&bytes[..], b"\x02\0\x02\0\0\0\x03\0\0\0\x08\0\0\0keyvalue");
    let back = Command::decode(bytes.clone()).unwrap();
    assert_eq!(back.argument(0), Some(&b""[..]));
    assert_eq!(back.keys().collect::<Vec<_>>(), [b"key"]);
    // Shared, not copied.
    assert_eq!(back.arguments().slice(2).as_ptr(), bytes[17..].as_ptr());
}

#[test]
fn keys_are_where_the_table_says() {
    let keys = |parts: &[&[u8]]| -> Vec<Vec<u8>> { command(parts).keys().map(<[u8]>::to_vec).collect() };
    assert_eq!(keys(&[b"MSET", b"a", b"1", b"b", b"2"]), [b"a", b"b"]);
    // An odd pair: the error comes when it is applied, and nothing lies outside.
    assert_eq!(keys(&[b"MSET", b"a", b"1", b"b"]), [b"a", b"b"]);
    assert_eq!(keys(&[b"DEL", b"a", b"b", b"c"]), [b"a", b"b", b"c"]);
    assert_eq!(keys(&[b"SET", b"a", b"b", b"EX", b"1"]), [b"a"]);
    assert!(keys(&[b"SCAN", b"0"]).is_empty());
}

#[test]
fn wrong_bytes_are_refused() {
    let good = encoded(&command(&[b"SET", b"key", b"value"]));
    let with = |at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = byte;
        Command::decode(bytes.freeze()).unwrap_err()
    };
    assert_eq!(with(1, 2), DecodeError::UnknownCommand(0x0202));
    assert_eq!(with(2, 1), DecodeError::WrongArity(2));
    assert_eq!(with(5, 0xff), DecodeError::CutOff);
    assert_eq!(with(6, 9), DecodeError::BadOffset);
    assert_eq!(with(10, 7), DecodeError::BadOffset);
    assert_eq!(with(13, 0xff), DecodeError::BadOffset);
    for length in 0..good.len() {
        assert!(Command::decode(good.slice(..length)).is_err());
    }
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(row in 0..TABLE.len(), more in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12)) {
        let spec = &TABLE[row];
        let (name, sub) = spec.name.split_once('|').unwrap_or((spec.name, ""));
        let mut parts: Vec<&[u8]> = vec![name.as_bytes()];
        if !sub.is_empty() {
            parts.push(sub.as_bytes());
        }
        parts.extend(more.iter().map(Vec::as_slice));
        // Most are wrong in their number of arguments; the others must survive.
        if let Ok(command) = Command::parse(Arguments::from_parts(&parts)) {
            let back = Command::decode(encoded(&command)).unwrap();
            prop_assert_eq!(&back, &command);
            prop_assert_eq!(back.keys().collect::<Vec<_>>(), command.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_bytes_decode_or_fail(id in 0u16..320, rest in prop::collection::vec(any::<u8>(), 0..60), small in any::<bool>()) {
        let mut bytes = id.to_le_bytes().to_vec();
        // Small numbers get further.
        bytes.extend(rest.iter().map(|&byte| if small { byte % 3 } else { byte }));
        if let Ok(command) = Command::decode(bytes.clone().into()) {
            prop_assert_eq!(&encoded(&command)[..], &bytes[..]);
            command.keys().for_each(drop);
        }
    }
}
