//! Our codec against `redis-protocol`, in both directions. What one writes the other reads, and on damaged streams
//! the two differ only where ours is stricter, in the ways listed in `stricter`.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use keypact_resp::{Limits, ProtocolError, Value, Version, encode_command};
use proptest::prelude::*;
use redis_protocol::resp2::types::BytesFrame as Frame2;
use redis_protocol::resp2::{decode::decode_bytes as decode2, encode::extend_encode as encode2};
use redis_protocol::resp3::decode::complete::decode_bytes as decode3;
use redis_protocol::resp3::encode::complete::extend_encode as encode3;
use redis_protocol::resp3::types::{BytesFrame as Frame3, VerbatimStringFormat};

fn text(value: &Value) -> Bytes {
    match value {
        Value::Error(error) => error.to_string().into(),
        other => Bytes::copy_from_slice(other.as_status().expect("a status")),
    }
}

/// What RESP2 makes of a value, by the table in Redis' documentation rather than by our encoder.
fn frame2(value: &Value) -> Frame2 {
    let frames = |items: &[Value]| Frame2::Array(items.iter().map(frame2).collect());
    match value {
        Value::Simple(_) | Value::Status(_) => Frame2::SimpleString(text(value)),
        Value::Error(error) => Frame2::Error(error.to_string().into()),
        Value::Integer(number) => Frame2::Integer(*number),
        Value::Bulk(bytes) | Value::BigNumber(bytes) | Value::Verbatim { text: bytes, .. } => {
            Frame2::BulkString(bytes.clone())
        }
        Value::Null | Value::NullArray => Frame2::Null,
        Value::Array(items) | Value::Set(items) | Value::Push(items) => frames(items),
        Value::Map(pairs) => {
            Frame2::Array(pairs.iter().flat_map(|(key, value)| [frame2(key), frame2(value)]).collect())
        }
        Value::Double(number) => {
            Frame2::BulkString(Bytes::copy_from_slice(keypact_resp::DoubleText::new(*number).as_bytes()))
        }
        Value::Boolean(truth) => Frame2::Integer(i64::from(*truth)),
        Value::Bulks(_) => unreachable!("neither decoder nor generator gives it"),
    }
}

fn frame3(value: &Value) -> Frame3 {
    let attributes = None;
    let frames = |items: &[Value]| items.iter().map(frame3).collect();
    match value {
        Value::Simple(_) | Value::Status(_) => Frame3::SimpleString { data: text(value), attributes },
        Value::Error(error) => Frame3::SimpleError { data: error.to_string().into(), attributes },
        Value::Integer(data) => Frame3::Number { data: *data, attributes },
        Value::Bulk(data) => Frame3::BlobString { data: data.clone(), attributes },
        Value::BigNumber(data) => Frame3::BigNumber { data: data.clone(), attributes },
        Value::Verbatim { format, text } => {
            let format = match format {
                b"mkd" => VerbatimStringFormat::Markdown,
                _ => VerbatimStringFormat::Text,
            };
            Frame3::VerbatimString { data: text.clone(), format, attributes }
        }
        Value::Null | Value::NullArray => Frame3::Null,
        Value::Array(items) => Frame3::Array { data: frames(items), attributes },
        Value::Push(items) => Frame3::Push { data: items.iter().map(frame3).collect(), attributes },
        Value::Set(items) => Frame3::Set { data: items.iter().map(frame3).collect(), attributes },
        Value::Map(pairs) => {
            let data = pairs.iter().map(|(key, value)| (frame3(key), frame3(value))).collect();
            Frame3::Map { data, attributes }
        }
        Value::Double(data) => Frame3::Double { data: *data, attributes },
        Value::Boolean(data) => Frame3::Boolean { data: *data, attributes },
        Value::Bulks(_) => unreachable!("neither decoder nor generator gives it"),
    }
}

/// Whether the oracle would keep one of several values of a key, and any of them.
fn has_equal_keys(value: &Value) -> bool {
    match value {
        Value::Map(pairs) => {
            let again = |(index, (key, _)): (usize, &(Value, Value))| {
                pairs[..index].iter().any(|(other, _)| frame3(other) == frame3(key))
            };
            pairs.iter().enumerate().any(again)
                || pairs.iter().any(|(key, value)| has_equal_keys(key) || has_equal_keys(value))
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => items.iter().any(has_equal_keys),
        _ => false,
    }
}

/// The oracle keeps attributes, blob errors as such, and a space behind the code of an error without a message.
fn comparable(stream: &[u8]) -> bool {
    !stream.contains(&b'|') && !stream.contains(&b'!') && !stream.windows(3).any(|bytes| bytes == b" \r\n")
}

/// Where ours refuses or waits, and the oracle does not; each deliberate:
/// what follows a bulk must be CR LF, lines hold no lone CR or LF, lengths have one spelling, nulls no content, big
/// numbers digits, the format of a verbatim string a colon; nesting and sizes are limited; streamed types are refused; a wrong first byte is refused at once.
fn stricter(error: ProtocolError) -> bool {
    use ProtocolError as E;
    matches!(
        error,
        E::ExpectedLineEnd
            | E::InvalidBulkLength
            | E::InvalidMultibulkLength
            | E::TooBigBulkCount
            | E::TooBigMultibulkCount
            | E::InvalidNull
            | E::InvalidBigNumber
            | E::InvalidVerbatim
            | E::TooDeep
            | E::TooBig
            | E::Streamed
            | E::ExpectedBulk(_)
    )
}

/// Damage: the byte at a fraction of the stream becomes another, or goes.
#[derive(Clone, Debug)]
struct Damage {
    at: u16,
    byte: Option<u8>,
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte = prop_oneof![
        1 => Just(None),
        3 => proptest::sample::select(b"$*+-:_,#!=(%~>|?;.\r\n0123456789tfx".to_vec()).prop_map(Some),
        1 => any::<u8>().prop_map(Some),
    ];
    proptest::collection::vec((any::<u16>(), byte).prop_map(|(at, byte)| Damage { at, byte }), 1..3)
}

fn damaged(mut stream: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if stream.is_empty() {
            break;
        }
        let at = stream.len() * usize::from(damage.at) / 65_536;
        match damage.byte {
            Some(byte) => stream[at] = byte,
            None => drop(stream.remove(at)),
        }
    }
    stream
}

fn command_bytes(command: &[Vec<u8>]) -> BytesMut {
    let parts: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    let mut out = BytesMut::new();
    encode_command(&parts, &mut out);
    out
}

fn arguments(frame: &Frame2) -> Option<Vec<Vec<u8>>> {
    let Frame2::Array(items) = frame else { return None };
    items
        .iter()
        .map(|item| match item {
            Frame2::BulkString(bytes) => Some(bytes.to_vec()),
            _ => None,
        })
        .collect()
}

fn small_limits() -> Limits {
    Limits { max_arguments: 64, max_bulk_bytes: 4096, ..Limits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_oracle_reads_our_resp3(value in reply()) {
        let bytes = Bytes::from(encoded(&value, Version::Resp3));
        let (frame, used) = decode3(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(frame, frame3(&value));
    }

    #[test]
    fn the_oracle_reads_our_resp2(value in reply()) {
        let bytes = Bytes::from(encoded(&value, Version::Resp2));
        let (frame, used) = decode2(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(frame, frame2(&value));
    }

    #[test]
    fn we_read_the_oracles_resp3(value in reply()) {
        let mut stream = BytesMut::new();
        encode3(&mut stream, &frame3(&value), false).unwrap();
        let (found, error) = replies_in(&stream);
        prop_assert_eq!(error, None);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(frame3(&found[0]), frame3(&value));
    }

    #[test]
    fn we_read_the_oracles_resp2(value in reply()) {
        let mut stream = BytesMut::new();
        encode2(&mut stream, &frame2(&value), false).unwrap();
        let (found, error) = replies_in(&stream);
        prop_assert_eq!(error, None);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(frame2(&found[0]), frame2(&value));
    }

    #[test]
    fn we_read_what_we_write(values in proptest::collection::vec(reply(), 1..5)) {
        let stream: Vec<u8> = values.iter().flat_map(|value| encoded(value, Version::Resp3)).collect();
        prop_assert_eq!(replies_in(&stream), (values, None));
    }

    #[test]
    fn commands_agree(command in command()) {
        let bytes = command_bytes(&command).freeze();
        let (frame, used) = decode2(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        let (found, error) = commands_in(&bytes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(found.len(), 1);
        let found: Vec<Vec<u8>> = found[0].iter().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(arguments(&frame), Some(found.clone()));
        prop_assert_eq!(found, command);
    }

    #[test]
    fn cuts_change_nothing_for_replies(
        values in proptest::collection::vec(reply(), 1..4),
        damages in proptest::option::of(damage()),
        cuts in proptest::collection::vec(any::<u16>(), 0..12),
    ) {
        let stream: Vec<u8> = values.iter().flat_map(|value| encoded(value, Version::Resp3)).collect();
        let stream = damaged(stream, &damages.unwrap_or_default());
        let whole = replies(small_limits(), std::iter::once(&stream[..]));
        let pieces = replies(small_limits(), cut(&stream, &cuts).into_iter());
        let bytes = replies(small_limits(), stream.chunks(1));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        prop_assert_eq!(format!("{whole:?}"), format!("{bytes:?}"));
    }

    #[test]
    fn cuts_change_nothing_for_commands(
        commands_sent in proptest::collection::vec(command(), 1..4),
        inline in "[ -~]{0,30}\r?\n",
        damages in proptest::option::of(damage()),
        cuts in proptest::collection::vec(any::<u16>(), 0..12),
    ) {
        let mut stream: Vec<u8> = commands_sent.iter().flat_map(|command| command_bytes(command)).collect();
        stream.extend_from_slice(inline.as_bytes());
        stream.extend(command_bytes(&commands_sent[0]));
        let stream = damaged(stream, &damages.unwrap_or_default());
        let whole = commands(small_limits(), std::iter::once(&stream[..]));
        prop_assert_eq!(&whole, &commands(small_limits(), cut(&stream, &cuts).into_iter()));
        prop_assert_eq!(&whole, &commands(small_limits(), stream.chunks(1)));
    }

    #[test]
    fn damaged_replies_agree(value in reply(), damages in damage()) {
        let stream = damaged(encoded(&value, Version::Resp3), &damages);
        let (found, error) = replies_in(&stream);
        let oracle = decode3(&Bytes::copy_from_slice(&stream));
        match (found.first(), error, oracle) {
            (Some(ours), _, Ok(Some((theirs, _)))) if comparable(&stream) && !has_equal_keys(ours) => {
                prop_assert_eq!(frame3(ours), theirs);
            }
            (Some(_), _, Ok(Some(_))) => {}
            // It can't hash aggregates, nor take a format but these two, nor errors that are not UTF-8.
            (Some(ours), _, Err(_)) => {
                let shown = format!("{ours:?}");
                let known = ["Map", "Set", "Verbatim", "\u{fffd}"].iter().any(|kind| shown.contains(kind)) || stream.contains(&b'|');
                prop_assert!(known, "{} from {}", shown, stream.escape_ascii());
            }
            (Some(ours), _, Ok(None)) => prop_assert!(false, "{:?} from {}", ours, stream.escape_ascii()),
            (None, Some(error), Ok(_)) => prop_assert!(stricter(error), "{:?}: {}", error, stream.escape_ascii()),
            (None, Some(_), Err(_)) | (None, None, Ok(None)) => {}
            (None, None, Ok(Some(_))) => prop_assert!(false, "we wait: {}", stream.escape_ascii()),
            // It looks at the format of a verbatim string before the rest is there, and at a lone LF.
            (None, None, Err(_)) => prop_assert!(stream.contains(&b'=') || stream.contains(&b'|'),
                "we wait, the oracle errs: {}", stream.escape_ascii()),
        }
    }

    #[test]
    fn damaged_commands_agree(command in command(), damages in damage()) {
        let stream = damaged(command_bytes(&command).to_vec(), &damages);
        // Anything else is an inline command, which the oracle does not know.
        prop_assume!(stream.first() == Some(&b'*'));
        let (found, error) = commands_in(&stream);
        let oracle = decode2(&Bytes::copy_from_slice(&stream)).map(|frame| frame.map(|(frame, _)| frame));
        match (found.first(), error, &oracle) {
            (Some(ours), _, Ok(Some(theirs))) => {
                let theirs = arguments(theirs);
                // `*0` is skipped by us.
                if theirs.as_ref().is_some_and(|arguments| !arguments.is_empty()) {
                    let ours: Vec<Vec<u8>> = ours.iter().map(<[u8]>::to_vec).collect();
                    prop_assert_eq!(Some(ours), theirs);
                }
            }
            (None, Some(error), Ok(_)) => prop_assert!(
                stricter(error) || error == ProtocolError::UnbalancedQuotes,
                "{:?}: {}", error, stream.escape_ascii()
            ),
            (None, None, Ok(Some(frame))) => {
                prop_assert_eq!(arguments(frame).unwrap_or_default().len(), 0, "{}", stream.escape_ascii());
            }
            (None, Some(_), Err(_)) | (None, None, Ok(None)) => {}
            // A negative count is an empty command to Redis and to us.
            (_, _, Err(_)) => prop_assert!(stream.starts_with(b"*-"), "{}", stream.escape_ascii()),
            (Some(_), _, Ok(None)) => {
                prop_assert!(stream.starts_with(b"*0") || stream.starts_with(b"*-"), "{}", stream.escape_ascii());
            }
        }
    }

    #[test]
    fn noise_never_panics(
        noise in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::collection::vec(proptest::sample::select(b"$*+-:_,#!=(%~>|?\r\n\r\n\r\n01234tf\"'\\x ".to_vec()), 0..80),
        ],
        version3 in any::<bool>(),
    ) {
        let version = if version3 { Version::Resp3 } else { Version::Resp2 };
        for limits in [Limits::default(), Limits::before_authentication(), small_limits()] {
            let (found, _) = replies(limits, std::iter::once(&noise[..]));
            for value in &found {
                // Whatever was read can be written, and read again.
                prop_assert_eq!(replies_in(&encoded(value, version)).0.len(), 1);
            }
            prop_assert_eq!(commands(limits, std::iter::once(&noise[..])), commands(limits, noise.chunks(1)));
        }
    }
}
