//! Replies: tables of both encodings, of what the decoder takes, and of what it refuses.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use keypact_resp::{
    DoubleText, ErrorReply, Limits, MAX_DEPTH, ProtocolError, Value, Version, encode_bulk, encode_command,
};
use proptest::prelude::*;

const WRONG_TYPE: ErrorReply = ErrorReply::fixed("WRONGTYPE", "wrong kind of value");

fn verbatim(text: &'static str) -> Value {
    Value::Verbatim { format: *b"txt", text: Bytes::from_static(text.as_bytes()) }
}

fn bulks(strings: &[&[u8]]) -> Value {
    let mut bulks = keypact_resp::Bulks::default();
    strings.iter().for_each(|string| bulks.push(string));
    assert_eq!((bulks.len(), bulks.is_empty()), (strings.len(), strings.is_empty()));
    let mut encoded = BytesMut::new();
    Value::Bulks(bulks.clone()).encode(Version::Resp2, &mut encoded);
    assert_eq!(bulks.clone().into_reply(), encoded);
    Value::Bulks(bulks)
}

#[test]
fn both_encodings() {
    let pair = || vec![Value::Integer(1), Value::Null];
    let table: Vec<(Value, &str, &str)> = vec![
        (Value::ok(), "+OK\r\n", "+OK\r\n"),
        (Value::Simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (Value::Status(Bytes::from_static(b"a\r\nb")), "+a  b\r\n", "+a  b\r\n"),
        (
            Value::Error(WRONG_TYPE),
            "-WRONGTYPE wrong kind of value\r\n",
            "-WRONGTYPE wrong kind of value\r\n",
        ),
        (Value::error("ERR", "a\r\n+OK\rb\n"), "-ERR a  +OK b \r\n", "-ERR a  +OK b \r\n"),
        (Value::error("A\nB", ""), "-A B\r\n", "-A B\r\n"),
        (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Value::Integer(i64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
        (Value::bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
        (Value::bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::NullArray, "*-1\r\n", "_\r\n"),
        (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Value::Array(pair()), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
        (bulks(&[]), "*0\r\n", "*0\r\n"),
        (bulks(&[b"a", b"\r\n"]), "*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n", "*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n"),
        (Value::Set(pair()), "*2\r\n:1\r\n$-1\r\n", "~2\r\n:1\r\n_\r\n"),
        (Value::Push(pair()), "*2\r\n:1\r\n$-1\r\n", ">2\r\n:1\r\n_\r\n"),
        (
            Value::Map(vec![(Value::bulk("k"), Value::ok())]),
            "*2\r\n$1\r\nk\r\n+OK\r\n",
            "%1\r\n$1\r\nk\r\n+OK\r\n",
        ),
        (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Value::Boolean(true), ":1\r\n", "#t\r\n"),
        (Value::Boolean(false), ":0\r\n", "#f\r\n"),
        (Value::BigNumber(Bytes::from_static(b"-12")), "$3\r\n-12\r\n", "(-12\r\n"),
        (verbatim("hello"), "$5\r\nhello\r\n", "=9\r\ntxt:hello\r\n"),
    ];
    for (value, resp2, resp3) in table {
        assert_eq!(
            encoded(&value, Version::Resp2).escape_ascii().to_string(),
            resp2.as_bytes().escape_ascii().to_string()
        );
        assert_eq!(
            encoded(&value, Version::Resp3).escape_ascii().to_string(),
            resp3.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn commands_of_clients() {
    let mut out = BytesMut::new();
    encode_command(&[b"SET", b"k", b""], &mut out);
    encode_bulk(b"x", &mut out);
    assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$1\r\nx\r\n");
}

/// The right column is what C's `%.17g` prints, but for digits that are not needed.
#[test]
fn doubles_as_text() {
    let table = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-10.0, "-10"),
        (0.1, "0.1"),
        (3.0e0 + 0.25, "3.25"),
        (100000.0, "100000"),
        (1e16, "10000000000000000"),
        (12345678901234567.0, "12345678901234568"),
        (1e17, "1e+17"),
        (1.5e20, "1.5e+20"),
        (0.0001, "0.0001"),
        (0.00012345, "0.00012345"),
        (0.00001, "1e-05"),
        (1.25e-7, "1.25e-07"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (5e-324, "5e-324"),
        (-0.00012345678901234567, "-0.00012345678901234567"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
        (-f64::NAN, "nan"),
    ];
    for (number, text) in table {
        assert_eq!(format!("{:?}", DoubleText::new(number)), text);
    }
}

#[test]
fn replies_taken() {
    let table: Vec<(&[u8], Vec<Value>)> = vec![
        (b"+OK\r\n+PONG\r\n+x\r\n", vec![Value::ok(), Value::Simple("PONG"), Value::Simple("x")]),
        (b"+\r\n", vec![Value::Simple("")]),
        (b"-ERR no\r\n-LOADING\r\n", vec![Value::error("ERR", "no"), Value::error("LOADING", "")]),
        (b"!8\r\nERR a\r\nb\r\n", vec![Value::error("ERR", "a\r\nb")]),
        (b":+5\r\n:-0\r\n:007\r\n", vec![Value::Integer(5), Value::Integer(0), Value::Integer(7)]),
        (b":-9223372036854775808\r\n", vec![Value::Integer(i64::MIN)]),
        (b"$-1\r\n*-1\r\n_\r\n", vec![Value::Null, Value::NullArray, Value::Null]),
        (b",1e3\r\n,inf\r\n,-inf\r\n", [1e3, f64::INFINITY, f64::NEG_INFINITY].map(Value::Double).to_vec()),
        (b"(+12\r\n", vec![Value::BigNumber(Bytes::from_static(b"+12"))]),
        (b"=4\r\ntxt:\r\n", vec![verbatim("")]),
        (b"%0\r\n~0\r\n>0\r\n", vec![Value::Map(vec![]), Value::Set(vec![]), Value::Push(vec![])]),
        (b"|0\r\n:1\r\n", vec![Value::Integer(1)]),
        (b"|1\r\n+ttl\r\n*2\r\n:1\r\n|0\r\n_\r\n:2\r\n", vec![Value::Integer(2)]),
        (
            b"*2\r\n|1\r\n+a\r\n|1\r\n+b\r\n:0\r\n:0\r\n:1\r\n:2\r\n",
            vec![Value::Array(vec![Value::Integer(1), Value::Integer(2)])],
        ),
    ];
    for (stream, expected) in table {
        assert_eq!(replies_in(stream), (expected, None), "{}", stream.escape_ascii());
    }
    let (found, error) = replies_in(b",nan\r\n,-nan\r\n");
    assert!(found.iter().all(|value| matches!(value, Value::Double(number) if number.is_nan())));
    assert_eq!((found.len(), error), (2, None));
}

#[test]
fn replies_refused() {
    use ProtocolError as E;
    let table: &[(&[u8], E)] = &[
        (b"x", E::UnknownType(b'x')),
        (b"\r\n", E::UnknownType(b'\r')),
        (b"$?\r\n", E::Streamed),
        (b"*?", E::Streamed),
        (b"%?", E::Streamed),
        (b";4\r\n", E::Streamed),
        (b".\r\n", E::Streamed),
        (b"+a\rb\r\n", E::ExpectedLineEnd),
        (b"+a\n", E::ExpectedLineEnd),
        (b"+\n", E::ExpectedLineEnd),
        (b"$1\r\nabc", E::ExpectedLineEnd),
        (b":\r\n", E::InvalidInteger),
        (b":-\r\n", E::InvalidInteger),
        (b":1.5\r\n", E::InvalidInteger),
        (b":9223372036854775808\r\n", E::InvalidInteger),
        (b",\r\n", E::InvalidDouble),
        (b",1,5\r\n", E::InvalidDouble),
        (b"#x\r\n", E::InvalidBoolean),
        (b"#tt\r\n", E::InvalidBoolean),
        (b"_x\r\n", E::InvalidNull),
        (b"(\r\n", E::InvalidBigNumber),
        (b"(-\r\n", E::InvalidBigNumber),
        (b"(1a\r\n", E::InvalidBigNumber),
        (b"=3\r\ntxt\r\n", E::InvalidVerbatim),
        (b"=5\r\ntxt!x\r\n", E::InvalidVerbatim),
        (b"$-2\r\n", E::InvalidBulkLength),
        (b"!-1\r\n", E::InvalidBulkLength),
        (b"=-1\r\n", E::InvalidBulkLength),
        (b"$16777217\r\n", E::InvalidBulkLength),
        (b"*-2\r\n", E::InvalidMultibulkLength),
        (b"%-1\r\n", E::InvalidMultibulkLength),
        (b"*1048577\r\n", E::InvalidMultibulkLength),
        (b"%524289\r\n", E::InvalidMultibulkLength),
        (b"%9223372036854775807\r\n", E::InvalidMultibulkLength),
    ];
    for (stream, expected) in table {
        assert_eq!(replies_in(stream), (vec![], Some(*expected)), "{}", stream.escape_ascii());
        let bytes = replies(Limits::default(), stream.chunks(1));
        assert_eq!(bytes, (vec![], Some(*expected)), "{}", stream.escape_ascii());
    }
}

#[test]
fn depth_is_limited_in_both_directions() {
    let deepest = "*1\r\n".repeat(MAX_DEPTH - 1) + "*0\r\n";
    let (found, error) = replies_in(deepest.as_bytes());
    assert_eq!((found.len(), error), (1, None));
    assert_eq!(encoded(&found[0], Version::Resp3), deepest.as_bytes());
    let one_more = "*1\r\n".repeat(MAX_DEPTH) + "*0\r\n";
    assert_eq!(replies_in(one_more.as_bytes()), (vec![], Some(ProtocolError::TooDeep)));
    for kind in ["*1\r\n", "~1\r\n", ">1\r\n", "%1\r\n+k\r\n", "|1\r\n+k\r\n"] {
        let deeper = kind.repeat(1_000_000);
        assert_eq!(replies_in(deeper.as_bytes()), (vec![], Some(ProtocolError::TooDeep)), "{kind}");
    }
}

#[test]
#[should_panic(expected = "nests deeper")]
fn a_reply_that_nobody_could_read_is_a_bug() {
    let nested = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    nested.encode(Version::Resp3, &mut BytesMut::new());
}

#[test]
fn limits_are_exact() {
    let limits = Limits {
        max_arguments: 4,
        max_bulk_bytes: 10,
        max_inline_bytes: 5,
        max_command_bytes: 24,
        authenticated: true,
    };
    let outcome = |stream: &[u8]| {
        let whole = replies(limits, std::iter::once(stream));
        assert_eq!(whole, replies(limits, stream.chunks(1)), "{}", stream.escape_ascii());
        whole.1.map_or(Ok(whole.0.len()), Err)
    };
    assert_eq!(outcome(b"+12345\r\n"), Ok(1));
    assert_eq!(outcome(b"+123456\r\n"), Err(ProtocolError::TooBigLine));
    assert_eq!(outcome(b"+1234567"), Err(ProtocolError::TooBigLine));
    assert_eq!(outcome(b"$10\r\n0123456789\r\n"), Ok(1));
    assert_eq!(outcome(b"$11\r\n"), Err(ProtocolError::InvalidBulkLength));
    assert_eq!(outcome(b"*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"), Ok(1));
    assert_eq!(outcome(b"*5\r\n"), Err(ProtocolError::InvalidMultibulkLength));
    assert_eq!(outcome(b"%2\r\n:1\r\n:1\r\n:1\r\n:1\r\n"), Ok(1));
    assert_eq!(outcome(b"%3\r\n"), Err(ProtocolError::InvalidMultibulkLength));
    // 4 + 5 * 4 bytes fit, one more does not; each reply starts anew; attributes count.
    assert_eq!(outcome(b"*4\r\n:1\r\n:1\r\n:1\r\n:12\r\n"), Ok(1));
    assert_eq!(outcome(b"*4\r\n:1\r\n:1\r\n:1\r\n:12345\r\n"), Ok(1));
    assert_eq!(outcome(b"*4\r\n:1\r\n:1\r\n:12\r\n:12345\r\n"), Err(ProtocolError::TooBig));
    assert_eq!(outcome(b"*2\r\n:1\r\n$10\r\n"), Err(ProtocolError::TooBig));
    assert_eq!(outcome(&b"$10\r\n0123456789\r\n".repeat(10)), Ok(10));
    assert_eq!(outcome(&b"|0\r\n".repeat(7)), Err(ProtocolError::TooBig));
}

#[test]
fn values() {
    assert!(Value::ok().is_ok() && Value::Status(Bytes::from_static(b"OK")).is_ok());
    assert_eq!(Value::ok(), Value::Status(Bytes::from_static(b"OK")));
    assert_ne!(Value::ok(), Value::bulk("OK"));
    assert_ne!(Value::bulk("OK"), Value::ok());
    assert_ne!(Value::Null, Value::NullArray);
    assert!(Value::Null.is_null() && Value::NullArray.is_null() && !Value::Array(vec![]).is_null());
    assert_ne!(Value::Array(vec![]), Value::Set(vec![]));
    assert_eq!(verbatim("x").as_bytes(), Some(&b"x"[..]));
    assert_eq!(Value::Integer(1).as_bytes(), None);
    assert_eq!(WRONG_TYPE.to_string(), "WRONGTYPE wrong kind of value");
    assert_eq!(ErrorReply::err("no").to_string(), "ERR no");
    assert_eq!(ErrorReply::new("NOAUTH", "").to_string(), "NOAUTH");
    assert!(size_of::<Value>() <= 56, "replies are moved about: {} bytes", size_of::<Value>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn doubles_read_back_the_same(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(!number.is_nan());
        let text = format!("{:?}", DoubleText::new(number));
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text);
    }

    #[test]
    fn an_attribute_changes_nothing(items in proptest::collection::vec(value(), 0..6), attribute in value()) {
        let attribute = [&b"|1\r\n+key\r\n"[..], &encoded(&attribute, Version::Resp3)].concat();
        let mut stream = attribute.clone();
        stream.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
        for item in &items {
            stream.extend_from_slice(&attribute);
            stream.extend_from_slice(&encoded(item, Version::Resp3));
        }
        prop_assert_eq!(replies_in(&stream), (vec![Value::Array(items)], None));
    }
}
