//! One connection to one node.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use keypact_resp::{Limits, Value, ValueParser, encode_command};

use crate::ClientError;

/// Commands that may wait for their answers at a time.
pub const PIPELINE_LIMIT: usize = 1_024;
/// Commands gathered beyond this are written out without a [`Connection::flush`], bytes.
const GATHER_BYTES: usize = 64 << 10;
/// Read at a time, bytes.
const READ_BYTES: usize = 16 << 10;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, per address of the name.
    pub connect: Duration,
    /// For one answer, from the moment somebody waits for it; and for the node to take what is sent.
    pub answer: Duration,
}

impl Default for Timeouts {
    /// A second, and ten: longer than a node waits for a leader, so that its own word comes first.
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(1), answer: Duration::from_secs(10) }
    }
}

/// A blocking connection: commands go out in order, and answers come back in the same order.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answer: Duration,
    parser: ValueParser,
    input: BytesMut,
    output: BytesMut,
    awaited: usize,
    ended: bool,
}

impl Connection {
    /// Connects to `host:port`; of several addresses of the name, the first that answers.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Connect`].
    pub fn open(address: &str, timeouts: Timeouts) -> Result<Connection, ClientError> {
        let named = |source| ClientError::Address { address: address.to_owned(), source };
        let connect = |source| ClientError::Connect { address: address.to_owned(), source };
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for socket_address in address.to_socket_addrs().map_err(named)? {
            match TcpStream::connect_timeout(&socket_address, timeouts.connect) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(connect)?;
                    stream.set_write_timeout(Some(timeouts.answer)).map_err(connect)?;
                    return Ok(Connection::on(stream, timeouts.answer));
                }
                Err(error) => last = error,
            }
        }
        Err(connect(last))
    }

    fn on(stream: TcpStream, answer: Duration) -> Connection {
        Connection {
            stream,
            answer,
            parser: ValueParser::new(Limits::default()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            awaited: 0,
            ended: false,
        }
    }

    /// Says the password.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's words; otherwise as [`Connection::call`].
    pub fn auth(&mut self, password: &str) -> Result<(), ClientError> {
        match self.call(&[b"AUTH", password.as_bytes()])? {
            Value::Error(reply) => Err(ClientError::Refused(reply)),
            _ => Ok(()),
        }
    }

    /// Sends one command and waits for its answer. An error reply is an answer: [`Value::Error`].
    ///
    /// # Errors
    /// As [`Connection::send`], [`Connection::flush`] and [`Connection::receive`].
    ///
    /// # Panics
    /// If there are no arguments, or answers to earlier commands have not been received: this would take theirs.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Result<Value, ClientError> {
        assert!(self.awaited == 0, "answers to {} commands were not received", self.awaited);
        self.send(arguments)?;
        self.flush()?;
        let value = self.receive()?;
        assert!(self.awaited == 0, "one command, one answer");
        Ok(value)
    }

    /// Adds a command to those that go out together.
    ///
    /// # Errors
    /// [`ClientError::PipelineFull`]; [`ClientError::Ended`]; what [`Connection::flush`] says, if so much gathered that it is written now.
    ///
    /// # Panics
    /// If there are no arguments.
    pub fn send(&mut self, arguments: &[&[u8]]) -> Result<(), ClientError> {
        if self.ended {
            return Err(ClientError::Ended);
        }
        if self.awaited >= PIPELINE_LIMIT {
            return Err(ClientError::PipelineFull);
        }
        encode_command(arguments, &mut self.output);
        self.awaited += 1;
        if self.output.len() >= GATHER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes out what gathered.
    ///
    /// # Errors
    /// [`ClientError::Lost`], [`ClientError::TimedOut`]: what was sent so far may or may not be applied.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        if self.ended {
            return Err(ClientError::Ended);
        }
        let written = self.stream.write_all(&self.output);
        self.output.clear();
        written.map_err(|error| self.end(error))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`ClientError::NothingAsked`]; [`ClientError::Lost`], [`ClientError::TimedOut`], [`ClientError::Protocol`], after which the connection
    /// is of no more use.
    pub fn receive(&mut self) -> Result<Value, ClientError> {
        if self.ended {
            return Err(ClientError::Ended);
        }
        if self.awaited == 0 {
            return Err(ClientError::NothingAsked);
        }
        let deadline = Instant::now() + self.answer;
        loop {
            match self.parser.next(&mut self.input) {
                // Nobody here subscribes: a push is not an answer.
                Ok(Some(Value::Push(_))) => continue,
                Ok(Some(value)) => {
                    self.awaited -= 1;
                    return Ok(value);
                }
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Err(ClientError::Protocol(error));
                }
            }
            self.read(deadline)?;
        }
    }

    /// Commands that wait for their answers.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.awaited
    }

    fn read(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.end(ErrorKind::TimedOut.into()));
        }
        self.stream.set_read_timeout(Some(left)).map_err(|error| self.end(error))?;
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(self.end(io::Error::new(ErrorKind::UnexpectedEof, "closed by the node"))),
            Ok(length) => {
                self.input.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.end(error)),
        }
    }

    fn end(&mut self, source: io::Error) -> ClientError {
        self.ended = true;
        match source.kind() {
            // A socket's time limit is reported as either, by the system.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => ClientError::TimedOut,
            _ => ClientError::Lost { source },
        }
    }
}
