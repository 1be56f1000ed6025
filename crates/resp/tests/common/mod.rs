//! Shared by the tests: values at random, feeding in pieces, translation to the oracle's types.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use bytes::{Bytes, BytesMut};
use keypact_resp::{
    Arguments, CommandParser, ErrorReply, Limits, ProtocolError, Value, ValueParser, Version,
};
use proptest::prelude::*;

/// Everything a parser returned for a stream, then the error if there was one.
pub type Outcome<T> = (Vec<T>, Option<ProtocolError>);

/// Feeds `pieces` one after another and asks as often as there are answers.
fn feed<'a, T>(
    pieces: impl Iterator<Item = &'a [u8]>,
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<T>, ProtocolError>,
) -> Outcome<T> {
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match next(&mut input) {
                Ok(Some(one)) => found.push(one),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(next(&mut input).err(), Some(error), "an error is final");
                    return (found, Some(error));
                }
            }
        }
    }
    (found, None)
}

pub fn commands<'a>(limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome<Arguments> {
    let mut parser = CommandParser::new(limits);
    feed(pieces, |input| parser.next(input))
}

pub fn commands_in(stream: &[u8]) -> Outcome<Arguments> {
    commands(Limits::default(), std::iter::once(stream))
}

pub fn replies<'a>(limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome<Value> {
    let mut parser = ValueParser::new(limits);
    feed(pieces, |input| parser.next(input))
}

pub fn replies_in(stream: &[u8]) -> Outcome<Value> {
    replies(Limits::default(), std::iter::once(stream))
}

/// Cuts `stream` at the given fractions (of 65,536).
pub fn cut<'a>(stream: &'a [u8], at: &[u16]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = at.iter().map(|&at| stream.len() * usize::from(at) / 65_536).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in cuts {
        pieces.push(&stream[start..end]);
        start = end;
    }
    pieces.push(&stream[start..]);
    pieces
}

pub fn encoded(value: &Value, version: Version) -> Vec<u8> {
    let mut out = BytesMut::new();
    value.encode(version, &mut out);
    out.to_vec()
}

/// Arguments that look like RESP more often than chance would have it.
pub fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        2 => proptest::collection::vec(proptest::sample::select(b"$*\r\n0123456789-'\"\\ x".to_vec()), 0..20),
        1 => proptest::collection::vec(any::<u8>(), 90..1200),
    ]
}

pub fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(argument(), 1..12)
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    "[ -~]{0,20}".prop_map(String::into_bytes)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::ok()),
        line().prop_map(|text| Value::Status(Bytes::from(text))),
        ("[A-Z]{1,9}", "[!-~]([ -~]{0,20})?")
            .prop_map(|(code, message)| Value::Error(ErrorReply::new(code, message))),
        any::<i64>().prop_map(Value::Integer),
        argument().prop_map(Value::bulk),
        any::<f64>().prop_filter("NaN differs from itself", |x| !x.is_nan()).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        "-?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(Bytes::from(digits))),
        (any::<bool>(), argument()).prop_map(|(markdown, text)| Value::Verbatim {
            format: if markdown { *b"mkd" } else { *b"txt" },
            text: text.into(),
        }),
    ]
}

/// A map without equal keys: which of their values the oracle keeps is chance.
fn unique_keys(pairs: Vec<(Value, Value)>) -> Value {
    let mut unique: Vec<(Value, Value)> = Vec::new();
    for (key, value) in pairs {
        if unique.iter().all(|(other, _)| *other != key) {
            unique.push((key, value));
        }
    }
    Value::Map(unique)
}

/// Values of all types. Keys and members are scalars, as the oracle can't hash others.
pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![8 => scalar(), 1 => Just(Value::Null)];
    leaf.prop_recursive(5, 60, 8, |inner| {
        let items = || proptest::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            2 => items().prop_map(Value::Array),
            1 => proptest::collection::vec((scalar(), inner.clone()), 0..6).prop_map(unique_keys),
            1 => proptest::collection::vec(scalar(), 0..6).prop_map(Value::Set),
        ]
    })
}

/// A value or a push, which the oracle takes only from outside.
pub fn reply() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => value(),
        1 => proptest::collection::vec(value(), 0..5).prop_map(Value::Push),
    ]
}
