//! Against a fake node on loopback, which answers each connection by a script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use keypact_resp::{ErrorReply, ProtocolError, Value};

use crate::{ClientError, Connection, Outcome, PIPELINE_LIMIT, Timeouts};

/// A node that accepts one connection and hands it to `script`.
fn node(script: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, std::thread::spawn(move || script(listener.accept().unwrap().0)))
}

/// Reads exactly this.
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(bytes));
}

/// Reads until the client closes.
fn drain(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

fn short() -> Timeouts {
    Timeouts { connect: Duration::from_secs(5), answer: Duration::from_millis(50) }
}

fn patient() -> Timeouts {
    Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(20) }
}

#[test]
fn a_call_gets_its_answer_even_in_pieces() {
    let (address, node) = node(|mut stream| {
        expect(&mut stream, b"*2\r\n$4\r\nAUTH\r\n$3\r\nabc\r\n");
        stream.write_all(b"+OK\r\n").unwrap();
        expect(&mut stream, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
        stream.write_all(b"$5\r\nhe").unwrap();
        stream.flush().unwrap();
        stream.write_all(b"llo\r\n").unwrap();
        drain(stream);
    });
    let mut connection = Connection::open(&address, patient()).unwrap();
    connection.auth("abc").unwrap();
    assert_eq!(connection.call(&[b"SET", b"k", b"v"]).unwrap(), Value::bulk(&b"hello"[..]));
    drop(connection);
    node.join().unwrap();
}

#[test]
fn a_pipeline_gets_its_answers_in_order() {
    let (address, node) = node(|mut stream| {
        expect(&mut stream, b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n*1\r\n$1\r\nc\r\n");
        stream.write_all(b":1\r\n-ERR no\r\n*2\r\n:3\r\n$-1\r\n").unwrap();
        drain(stream);
    });
    let mut connection = Connection::open(&address, patient()).unwrap();
    for name in [b"a", b"b", b"c"] {
        connection.send(&[name]).unwrap();
    }
    connection.flush().unwrap();
    let expected =
        [Value::Integer(1), Value::error("ERR", "no"), Value::Array(vec![Value::Integer(3), Value::Null])];
    for value in expected {
        assert_eq!(connection.receive().unwrap(), value);
    }
    assert!(matches!(connection.receive(), Err(ClientError::NothingAsked)));
    drop(connection);
    node.join().unwrap();
}

#[test]
fn a_pipeline_has_a_limit() {
    let (address, node) = node(drain);
    let mut connection = Connection::open(&address, patient()).unwrap();
    for _ in 0..PIPELINE_LIMIT {
        connection.send(&[b"PING"]).unwrap();
    }
    assert!(matches!(connection.send(&[b"PING"]), Err(ClientError::PipelineFull)));
    assert_eq!(connection.awaited(), PIPELINE_LIMIT);
    drop(connection);
    node.join().unwrap();
}

#[test]
fn a_lost_connection_after_a_write_is_uncertain() {
    let (address, node) = node(|mut stream| expect(&mut stream, b"*1\r\n$4\r\nINCR\r\n"));
    let mut connection = Connection::open(&address, patient()).unwrap();
    let result = connection.call(&[b"INCR"]);
    assert!(matches!(result, Err(ClientError::Lost { .. })), "{result:?}");
    assert_eq!(Outcome::of_call(&result), Outcome::Uncertain);
    node.join().unwrap();
}

#[test]
fn no_answer_in_time_is_uncertain_and_ends_the_connection() {
    let (address, node) = node(drain);
    let mut connection = Connection::open(&address, short()).unwrap();
    let result = connection.call(&[b"INCR"]);
    assert!(matches!(result, Err(ClientError::TimedOut)), "{result:?}");
    assert_eq!(Outcome::of_call(&result), Outcome::Uncertain);
    let next = connection.send(&[b"PING"]);
    assert!(matches!(next, Err(ClientError::Ended)), "{next:?}");
    drop(connection);
    node.join().unwrap();
}

#[test]
fn what_is_no_reply_ends_the_connection() {
    let (address, node) = node(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        drain(stream);
    });
    let mut connection = Connection::open(&address, patient()).unwrap();
    let result = connection.call(&[b"PING"]);
    assert!(matches!(result, Err(ClientError::Protocol(ProtocolError::UnknownType(b'H')))), "{result:?}");
    assert!(matches!(connection.receive(), Err(ClientError::Ended)));
    drop(connection);
    node.join().unwrap();
}

#[test]
fn a_wrong_password_is_told_in_the_nodes_words() {
    let (address, node) = node(|mut stream| {
        stream.write_all(b"-WRONGPASS invalid\r\n").unwrap();
        drain(stream);
    });
    let mut connection = Connection::open(&address, patient()).unwrap();
    let error = connection.auth("x").unwrap_err();
    assert_eq!(error.to_string(), "refused: WRONGPASS invalid");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    drop(connection);
    node.join().unwrap();
}

#[test]
fn where_nobody_listens_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = Connection::open(&free, patient()).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let error = Connection::open("no port", patient()).unwrap_err();
    assert!(matches!(error, ClientError::Address { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[test]
fn replies_say_what_became_of_the_command() {
    let rows = [
        (Value::ok(), Outcome::Applied, false),
        (Value::Null, Outcome::Applied, false),
        (Value::error("CLUSTERDOWN", "NOQUORUM"), Outcome::NotApplied, true),
        (Value::error("TRYAGAIN", "OVERLOADED"), Outcome::NotApplied, true),
        (Value::error("WRONGTYPE", "x"), Outcome::NotApplied, false),
        (Value::error("UNCERTAIN", "x"), Outcome::Uncertain, false),
        (Value::Error(ErrorReply::err("UNCERTAIN in the text only")), Outcome::NotApplied, false),
    ];
    for (reply, outcome, passes) in rows {
        assert_eq!(Outcome::of(&reply), outcome, "{reply:?}");
        assert_eq!(Outcome::passes_by_itself(&reply), passes, "{reply:?}");
    }
}
