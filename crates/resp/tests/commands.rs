//! Commands as clients send them: tables of what is taken, what is refused and with which words.

mod common;

use bytes::BytesMut;
use common::*;
use keypact_resp::{Arguments, CommandParser, Limits, ProtocolError, Value, encode_command};
use proptest::prelude::*;

fn list(commands: &[Arguments]) -> Vec<Vec<Vec<u8>>> {
    commands.iter().map(|command| command.iter().map(<[u8]>::to_vec).collect()).collect()
}

#[test]
fn streams_of_commands() {
    type Commands = [&'static [&'static [u8]]];
    let table: &[(&[u8], &Commands)] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &[&[b"SET", b"k", b""]]),
        (b"*1\r\n$2\r\n\r\n\r\n", &[&[b"\r\n"]]),
        (b"*0\r\n*-1\r\n*-9999999999\r\n*1\r\n$1\r\nx\r\n*0\r\n", &[&[b"x"]]),
        (b"\r\n\n  \r\n\t\nPING\r\n\r\n", &[&[b"PING"]]),
        (b"PING\nECHO hi\r\n", &[&[b"PING"], &[b"ECHO", b"hi"]]),
        (
            b"GET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nGET k\r\n",
            &[&[b"GET", b"k"], &[b"GET", b"k"], &[b"GET", b"k"]],
        ),
        (b"$1\r\n", &[&[b"$1"]]),
        (b"+OK\r\n", &[&[b"+OK"]]),
        (b"*2\r\n$4\r\nPOST\r\n$5\r\nHost:\r\n", &[&[b"POST", b"Host:"]]),
    ];
    for (stream, expected) in table {
        let (found, error) = commands_in(stream);
        assert_eq!((list(&found), error), (list_of(expected), None), "{}", stream.escape_ascii());
    }
}

fn list_of(commands: &[&[&[u8]]]) -> Vec<Vec<Vec<u8>>> {
    commands.iter().map(|command| command.iter().map(|part| part.to_vec()).collect()).collect()
}

/// The words are Redis' own, as clients and its test suite look at them.
#[test]
fn refusals() {
    let long_count = [b'1'; 40];
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*\r\n", "Protocol error: invalid multibulk length"),
        (b"*01\r\n", "Protocol error: invalid multibulk length"),
        (b"*+1\r\n", "Protocol error: invalid multibulk length"),
        (b"*-0\r\n", "Protocol error: invalid multibulk length"),
        (b"*3000000000\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-10\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$16777217\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$blabla\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$\r\n", "Protocol error: invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "Protocol error: expected '$', got 'f'"),
        (b"*1\r\n\r\n", "Protocol error: expected '$', got '\\r'"),
        (b"*1\r\n\x00", "Protocol error: expected '$', got '\\x00'"),
        (b"*1\rx", "Protocol error: expected a line end"),
        (b"*1\r\n$1\rx", "Protocol error: expected a line end"),
        (b"*1\r\n$1\r\nabc", "Protocol error: expected a line end"),
        (b"*1\r\n$1\r\na\rb", "Protocol error: expected a line end"),
        (b"*2\r\n$3\r\nGET\n$", "Protocol error: expected a line end"),
        (b"set \"\"\"test-key\"\"\" test-value\r\n", "Protocol error: unbalanced quotes in request"),
    ];
    for (stream, text) in cases {
        let (found, error) = commands_in(stream);
        assert!(found.is_empty());
        assert_eq!(error.expect("an error").to_string(), *text, "{}", stream.escape_ascii());
    }
    let count = commands_in(&[b"*", &long_count[..]].concat()).1;
    assert_eq!(count.unwrap().to_string(), "Protocol error: too big mbulk count string");
    let bulk = commands_in(&[b"*1\r\n$", &long_count[..]].concat()).1;
    assert_eq!(bulk.unwrap().to_string(), "Protocol error: too big bulk count string");
}

/// What came before an error is answered.
#[test]
fn commands_before_an_error_are_found() {
    let (found, error) = commands_in(b"*1\r\n$4\r\nPING\r\nECHO hi\r\n*x\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(list(&found), list_of(&[&[b"PING"], &[b"ECHO", b"hi"]]));
    assert_eq!(error, Some(ProtocolError::InvalidMultibulkLength));
}

#[test]
fn browsers_are_recognised() {
    for stream in ["POST / HTTP/1.1\r\n", "post /\r\n", "Host: localhost:7001\r\n", "HOST: x\r\n"] {
        let (found, error) = commands_in(stream.as_bytes());
        assert_eq!((found.len(), error), (0, Some(ProtocolError::HttpRequest)), "{stream}");
    }
    assert_eq!(ProtocolError::HttpRequest.reply(), None);
    let reply = ProtocolError::UnbalancedQuotes.reply().unwrap();
    assert_eq!(reply, Value::error("ERR", "Protocol error: unbalanced quotes in request"));
    // GET is a command, and the next header ends it.
    let (found, error) = commands_in(b"GET / HTTP/1.1\r\nHost: x\r\n");
    assert_eq!((found.len(), error), (1, Some(ProtocolError::HttpRequest)));
}

#[test]
fn limits_are_exact() {
    let limits = Limits {
        max_arguments: 3,
        max_bulk_bytes: 10,
        max_inline_bytes: 16,
        max_command_bytes: 40,
        authenticated: true,
    };
    let outcome = |stream: &[u8]| {
        let whole = commands(limits, std::iter::once(stream));
        assert_eq!(whole, commands(limits, stream.chunks(1)), "{}", stream.escape_ascii());
        whole.1.map_or(Ok(whole.0.len()), Err)
    };
    assert_eq!(outcome(b"*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"), Ok(1));
    assert_eq!(outcome(b"*4\r\n"), Err(ProtocolError::InvalidMultibulkLength));
    assert_eq!(outcome(b"a b c\r\n"), Ok(1));
    assert_eq!(outcome(b"a b c d\r\n"), Err(ProtocolError::InvalidMultibulkLength));
    assert_eq!(outcome(b"*1\r\n$10\r\n0123456789\r\n"), Ok(1));
    assert_eq!(outcome(b"*1\r\n$11\r\n"), Err(ProtocolError::InvalidBulkLength));
    assert_eq!(outcome(b"0123456789abcdef\r\n"), Ok(1));
    assert_eq!(outcome(b"0123456789abcdef\n"), Ok(1));
    assert_eq!(outcome(b"0123456789abcdefg\r\n"), Err(ProtocolError::TooBigInlineRequest));
    assert_eq!(outcome(b"0123456789abcdefg\n"), Err(ProtocolError::TooBigInlineRequest));
    assert_eq!(outcome(b"0123456789abcdefgh"), Err(ProtocolError::TooBigInlineRequest));
    // 4 + (5 + 10 + 2) + (4 + 9 + 2) is 36, and 40 with 4 for an empty argument's header: its CR LF is too much.
    let start = b"*3\r\n$10\r\n0123456789\r\n$9\r\n012345678\r\n";
    assert_eq!(outcome(&[&start[..], b"$0\r\n"].concat()), Err(ProtocolError::TooBig));
    assert_eq!(outcome(b"*3\r\n$10\r\n0123456789\r\n$7\r\n0123456\r\n$0\r\n\r\n"), Ok(1));
}

#[test]
fn before_authentication() {
    let outcome = |stream: &[u8]| commands(Limits::before_authentication(), std::iter::once(stream));
    let refused = |stream: &[u8]| outcome(stream).1.expect("an error").to_string();
    assert_eq!(refused(b"*11\r\n"), "Protocol error: unauthenticated multibulk length");
    assert_eq!(refused(b"*2\r\n$16385\r\n"), "Protocol error: unauthenticated bulk length");
    assert_eq!(refused(b"*x\r\n"), "Protocol error: invalid multibulk length");
    // All that is allowed is allowed at once.
    let mut stream = BytesMut::new();
    encode_command(&[&[b'x'; 16 * 1024][..]; 10], &mut stream);
    assert_eq!(outcome(&stream).0.len(), 1);
}

#[test]
fn limits_can_be_raised_between_commands() {
    let mut parser = CommandParser::new(Limits::before_authentication());
    let mut input = BytesMut::from(&b"AUTH password\r\n*11\r\n"[..]);
    assert_eq!(parser.next(&mut input).unwrap().unwrap().get(0), Some(&b"AUTH"[..]));
    parser.set_limits(Limits::default());
    assert_eq!(parser.next(&mut input), Ok(None));
}

/// `sdssplitargs`, case by case.
#[test]
fn inline_quoting() {
    let table: &[(&[u8], &[&[u8]])] = &[
        (br#"a b"#, &[b"a", b"b"]),
        (b" \t a \x0b \x0c b ", &[b"a", b"b"]),
        (b"a\x0bb", &[b"a\x0bb"]),
        (br#""a b" c"#, &[b"a b", b"c"]),
        (br#"'a b' c"#, &[b"a b", b"c"]),
        (br#""" ''"#, &[b"", b""]),
        (br#"a"b c""#, &[b"ab c"]),
        (br#"a'b c'"#, &[b"ab c"]),
        (br#""\n\r\t\b\a""#, &[b"\n\r\t\x08\x07"]),
        (br#""\x00\xfF\x7z\xg""#, &[b"\x00\xffx7zxg"]),
        (br#""\"\\\q""#, &[b"\"\\q"]),
        (br#"'\'\"\n\\ '"#, &[b"'\\\"\\n\\\\ "]),
        (br#"a\nb"#, &[b"a\\nb"]),
        (br#""it's""#, &[b"it's"]),
        (b"a\x00b c", &[b"a\x00b", b"c"]),
        (b"a\rb", &[b"a", b"b"]),
        (b"\xff\xfe", &[b"\xff\xfe"]),
    ];
    for (line, expected) in table {
        let (found, error) = commands_in(&[line, &b"\r\n"[..]].concat());
        assert_eq!((list(&found), error), (list_of(&[expected]), None), "{}", line.escape_ascii());
    }
    for line in [r#"""#, "'", r#""a"b"#, "'a'b", r#""a\"#, r#""a\""#, r"'a\'", r#""a" "b"#, r#""a"'b'"#] {
        let (found, error) = commands_in(format!("{line}\r\n").as_bytes());
        assert_eq!((found.len(), error), (0, Some(ProtocolError::UnbalancedQuotes)), "{line}");
    }
}

#[test]
fn arguments() {
    let arguments = Arguments::from_parts(&[b"SET", b"key", b"", b"\xff"]);
    assert_eq!((arguments.len(), arguments.is_empty()), (4, false));
    assert_eq!(arguments.get(1), Some(&b"key"[..]));
    assert_eq!(arguments.get(2), Some(&b""[..]));
    assert_eq!(arguments.get(4), None);
    assert_eq!(&arguments.slice(1)[..], b"key");
    assert_eq!(arguments.iter().rev().map(<[u8]>::len).collect::<Vec<_>>(), [1, 0, 3, 3]);
    assert_eq!(format!("{arguments:?}"), "[\"SET\", \"key\", \"\", \"\u{fffd}\"]");
    assert_eq!(arguments, arguments.clone());
    assert_ne!(arguments, Arguments::from_parts(&[b"SET", b"key", b""]));
    // Equal arguments at other offsets.
    let parsed = &commands_in(b"*2\r\n$1\r\na\r\n$2\r\nbc\r\n").0[0];
    assert_eq!(*parsed, Arguments::from_parts(&[b"a", b"bc"]));
    assert_ne!(*parsed, Arguments::from_parts(&[b"ab", b"c"]));
}

#[test]
#[should_panic(expected = "argument 2 of 2")]
fn no_slice_of_an_argument_that_is_missing() {
    Arguments::from_parts(&[b"GET", b"key"]).slice(2);
}

/// As `sdscatrepr` quotes for people; anything that `redis-cli` prints can be pasted back.
fn quoted(argument: &[u8], hex_only: bool) -> String {
    let mut text = String::from("\"");
    for &byte in argument {
        match byte {
            _ if hex_only => text += &format!("\\x{byte:02x}"),
            b'\n' => text += "\\n",
            b'\r' => text += "\\r",
            b'\t' => text += "\\t",
            0x08 => text += "\\b",
            0x07 => text += "\\a",
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text += &format!("\\x{byte:02X}"),
        }
    }
    text + "\""
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quoted_arguments_arrive(command in command(), hex_only in any::<bool>()) {
        let line: Vec<String> = command.iter().map(|argument| quoted(argument, hex_only)).collect();
        let line = line.join(" ") + "\r\n";
        prop_assume!(line.len() < 64 * 1024);
        let (found, error) = commands_in(line.as_bytes());
        prop_assert_eq!(error, None);
        prop_assert_eq!(list(&found), vec![command]);
    }
}
