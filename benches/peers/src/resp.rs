//! A RESP2 connection: as little work per request as a client can do.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Failure;
use crate::generator::{Op, Request};

/// An answer, borrowed from the read buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer<'a> {
    /// `+OK`.
    Simple(&'a [u8]),
    /// `-ERR ...`.
    Error(&'a [u8]),
    /// `:1`.
    Integer(i64),
    /// `$3`, or `$-1` for none.
    Bulk(Option<&'a [u8]>),
}

/// Longest bulk that is believed, bytes.
const BULK_BYTES_MAX: usize = 64 << 20;

/// Reads one answer from the front of `input`; gives it and its length in bytes, or `None` if more bytes are needed.
///
/// # Errors
/// [`Failure::Malformed`] if no continuation makes an answer of the four kinds that our commands get.
pub(crate) fn parse(input: &[u8]) -> Result<Option<(Answer<'_>, usize)>, Failure> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let after = end + 2;
    let line = input.get(1..end).ok_or(Failure::Malformed("an empty line"))?;
    let answer = match input[0] {
        b'+' => Answer::Simple(line),
        b'-' => Answer::Error(line),
        b':' => Answer::Integer(number(line)?),
        b'$' => {
            let length = number(line)?;
            if length == -1 {
                return Ok(Some((Answer::Bulk(None), after)));
            }
            let length = usize::try_from(length).map_err(|_| Failure::Malformed("a bulk's length"))?;
            if length > BULK_BYTES_MAX {
                return Err(Failure::Malformed("a bulk longer than 64 MiB"));
            }
            let Some(bulk) = input.get(after..after + length + 2) else { return Ok(None) };
            return Ok(Some((Answer::Bulk(Some(&bulk[..length])), after + length + 2)));
        }
        _ => return Err(Failure::Malformed("an answer's kind")),
    };
    Ok(Some((answer, after)))
}

fn number(line: &[u8]) -> Result<i64, Failure> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Failure::Malformed("a number"))
}

/// An answer that owns its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owned {
    /// `+OK`.
    Simple(String),
    /// `-ERR ...`.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// `$3`, or `$-1` for none.
    Bulk(Option<Vec<u8>>),
}

impl From<Answer<'_>> for Owned {
    fn from(answer: Answer<'_>) -> Owned {
        match answer {
            Answer::Simple(text) => Owned::Simple(String::from_utf8_lossy(text).into_owned()),
            Answer::Error(text) => Owned::Error(String::from_utf8_lossy(text).into_owned()),
            Answer::Integer(number) => Owned::Integer(number),
            Answer::Bulk(bulk) => Owned::Bulk(bulk.map(<[u8]>::to_vec)),
        }
    }
}

/// One connection with one outstanding batch.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// Bytes of `input` that were understood already.
    taken: usize,
}

impl Connection {
    /// Takes over a connected stream.
    pub(crate) fn new(stream: TcpStream) -> Connection {
        Connection { stream, output: Vec::with_capacity(4096), input: Vec::with_capacity(64 << 10), taken: 0 }
    }

    /// Sends a batch in one write and waits for all its answers. Gives how many were refused, with the first reason.
    pub(crate) async fn batch(&mut self, request: &Request<'_>) -> Result<Refused, Failure> {
        self.output.clear();
        for key in request.keys {
            self.encode(request.op, key, request.value);
        }
        let mut expected = request.keys.len();
        if request.op == Op::SetWait {
            self.output.extend_from_slice(b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n");
            expected += 1;
        }
        self.stream.write_all(&self.output).await.map_err(Failure::io("sending"))?;
        let mut refused = Refused::default();
        let value_bytes = request.value.len();
        for at in 0..expected {
            let is_wait = at == request.keys.len();
            let op = request.op;
            let answer = self.answer().await?;
            if !(if is_wait { matches!(answer, Answer::Integer(1..)) } else { fits(op, answer, value_bytes) })
            {
                refused.add(answer);
            }
        }
        Ok(refused)
    }

    /// Sends one command given as words and waits for its answer.
    pub(crate) async fn call(&mut self, words: &[&[u8]]) -> Result<Owned, Failure> {
        self.output.clear();
        push_header(&mut self.output, b'*', words.len());
        for word in words {
            push_bulk(&mut self.output, word);
        }
        self.stream.write_all(&self.output).await.map_err(Failure::io("sending"))?;
        Ok(Owned::from(self.answer().await?))
    }

    fn encode(&mut self, op: Op, key: &[u8], value: &Bytes) {
        let out = &mut self.output;
        match op {
            Op::Set | Op::SetWait => {
                out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                push_bulk(out, key);
                push_bulk(out, value);
            }
            Op::Get => {
                out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                push_bulk(out, key);
            }
            Op::Incr => {
                out.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n");
                push_bulk(out, key);
            }
        }
    }

    async fn answer(&mut self) -> Result<Answer<'_>, Failure> {
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        let length = loop {
            if let Some((_, length)) = parse(&self.input[self.taken..])? {
                break length;
            }
            let read = self.stream.read_buf(&mut self.input).await.map_err(Failure::io("receiving"))?;
            if read == 0 {
                let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(Failure::io("the server closed the connection")(closed));
            }
        };
        let start = self.taken;
        self.taken += length;
        let (answer, _) = parse(&self.input[start..self.taken])?.expect("it was complete a moment ago");
        Ok(answer)
    }
}

fn fits(op: Op, answer: Answer<'_>, value_bytes: usize) -> bool {
    match op {
        Op::Set | Op::SetWait => answer == Answer::Simple(b"OK"),
        Op::Get => matches!(answer, Answer::Bulk(Some(bulk)) if bulk.len() == value_bytes),
        Op::Incr => matches!(answer, Answer::Integer(_)),
    }
}

/// Requests that did not get the answer they must get.
#[derive(Default, Debug)]
pub(crate) struct Refused {
    /// How many.
    pub(crate) count: u64,
    /// What the first was told.
    pub(crate) first: Option<String>,
}

impl Refused {
    fn add(&mut self, answer: Answer<'_>) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("{:?}", Owned::from(answer)));
        }
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    use std::io::Write;
    out.push(kind);
    write!(out, "{count}\r\n").expect("a vector takes any bytes");
}

fn push_bulk(out: &mut Vec<u8>, bulk: &[u8]) {
    push_header(out, b'$', bulk.len());
    out.extend_from_slice(bulk);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let cases: [(&[u8], Answer<'_>); 6] = [
            (b"+OK\r\n", Answer::Simple(b"OK")),
            (b"-ERR no\r\n", Answer::Error(b"ERR no")),
            (b":-7\r\n", Answer::Integer(-7)),
            (b"$3\r\na\r\n\r\n", Answer::Bulk(Some(b"a\r\n"))),
            (b"$0\r\n\r\n", Answer::Bulk(Some(b""))),
            (b"$-1\r\n", Answer::Bulk(None)),
        ];
        for (bytes, answer) in cases {
            if bytes != b"$3\r\na\r\n\r\n" {
                for cut in 0..bytes.len() {
                    assert!(parse(&bytes[..cut]).unwrap().is_none(), "{cut} bytes of {bytes:?}");
                }
            }
            assert_eq!(parse(bytes).unwrap(), Some((answer, bytes.len())));
        }
        for broken in [&b"*1\r\n"[..], b"\r\n", b"$-2\r\n", b":x\r\n", b"$99999999999\r\n"] {
            assert!(parse(broken).is_err(), "{broken:?}");
        }
    }
}
