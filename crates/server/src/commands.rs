//! Commands that the node itself answers, not a partition: on the connection and on the server.

use bytes::Bytes;
use keypact_coordination::raft::ChangeRefusal;
use keypact_data::{Command, Flags, Place, describe};
use keypact_node::{CATALOG, DEFAULT, Member, NodeInput, Order, OrderRefusal, SessionId};
use keypact_protocol::NodeId;
use keypact_resp::{Arguments, CommandParser, ErrorReply, Limits as RespLimits, Value, Version};
use sha2::{Digest, Sha256};

use crate::batch::Core;
use crate::clock;
use crate::connection::Connection;
use crate::info;

/// The version of Redis whose behaviour is followed, for clients that ask.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

/// What a reader does after it gave what it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Read more.
    Read,
    /// Wait for room.
    Wait,
    /// Nothing more is read.
    End,
}

impl Core {
    /// The bounds on a connection's commands.
    pub(crate) fn resp_limits(&self, is_authenticated: bool) -> RespLimits {
        if !is_authenticated {
            return RespLimits::before_authentication();
        }
        let value_bytes = self.node.config().value_limit_bytes;
        let default = RespLimits::default();
        RespLimits {
            max_bulk_bytes: value_bytes,
            max_command_bytes: default.max_command_bytes.max(value_bytes.saturating_add(64 << 10)),
            ..default
        }
    }

    /// Takes all whole commands out of what a connection has received.
    pub(crate) fn take_commands(
        &mut self,
        id: SessionId,
        parser: &mut CommandParser,
        input: &mut bytes::BytesMut,
    ) -> Next {
        let now_ns = clock::now_ns();
        loop {
            let Some(connection) = self.world.connections.at(id) else { return Next::End };
            if connection.is_closing() {
                return Next::End;
            }
            if connection.must_wait(&self.limits, self.world.in_flight_bytes) {
                self.world.touch(id);
                return Next::Wait;
            }
            match parser.next(input) {
                Ok(Some(arguments)) => self.take_command(id, arguments, parser, now_ns),
                Ok(None) => return Next::Read,
                Err(error) => {
                    self.world.figures.protocol_errors += 1;
                    if let Some(reply) = error.reply() {
                        connection.say(reply);
                    }
                    connection.close_when_said();
                    self.world.touch(id);
                    return Next::End;
                }
            }
        }
    }

    fn take_command(&mut self, id: SessionId, arguments: Arguments, parser: &mut CommandParser, now_ns: u64) {
        let bytes = arguments.buffer.len();
        let parsed = Command::parse(arguments);
        let connection = self.world.connections.at(id).expect("the caller has just seen it");
        connection.commands += 1;
        let command = match parsed {
            Ok(command) => command,
            Err(error) => return self.say(id, Value::Error(error)),
        };
        let spec = command.spec();
        self.world.figures.count_command(spec.id.0);
        if !connection.is_authenticated && !spec.flags.contains(Flags::NO_AUTH) {
            return self.say(id, Value::error("NOAUTH", "Authentication required."));
        }
        match spec.place() {
            Place::Partition => {
                let seq = connection.place(bytes, now_ns);
                self.world.in_flight_bytes += bytes;
                self.inbox.push(NodeInput::Command { session: id, seq, command });
            }
            Place::Node => {
                let was_authenticated = connection.is_authenticated;
                let reply = self.answer(id, &command).unwrap_or_else(Value::Error);
                self.say(id, reply);
                self.after_answer(id, &command, parser, was_authenticated);
            }
        }
    }

    /// Answers in the connection's order.
    fn say(&mut self, id: SessionId, value: Value) {
        if let Value::Error(error) = &value {
            self.world.figures.count_error(&error.code);
        }
        if let Some(connection) = self.world.connections.at(id) {
            connection.say(value);
        }
        self.world.touch(id);
    }

    fn after_answer(
        &mut self,
        id: SessionId,
        command: &Command,
        parser: &mut CommandParser,
        was_authenticated: bool,
    ) {
        let Some(connection) = self.world.connections.at(id) else { return };
        if command.spec().name == "quit" {
            connection.close_when_said();
        }
        let is_authenticated = connection.is_authenticated;
        if is_authenticated != was_authenticated {
            parser.set_limits(self.resp_limits(is_authenticated));
        }
    }

    fn answer(&mut self, id: SessionId, command: &Command) -> Result<Value, ErrorReply> {
        let connection = self.world.connections.at(id).expect("the caller has just seen it");
        let argument = |index: usize| command.argument(index).unwrap_or_default();
        match command.spec().name {
            "ping" => ping(command),
            "echo" => Ok(Value::bulk(copy(argument(1)))),
            "quit" => Ok(Value::ok()),
            "reset" => {
                connection.version = Version::Resp2;
                connection.name = Bytes::new();
                connection.is_authenticated = self.password.is_none();
                Ok(Value::Simple("RESET"))
            }
            "select" => select(argument(1)),
            "auth" => {
                let (user, password) = match command.arguments().len() {
                    2 => (&b"default"[..], argument(1)),
                    3 => (argument(1), argument(2)),
                    _ => return Err(ErrorReply::err("syntax error")),
                };
                if self.password.is_none() && command.arguments().len() == 2 {
                    return Err(ErrorReply::err(NO_PASSWORD_SET));
                }
                authenticate(self.password.as_deref(), user, password)?;
                connection.is_authenticated = true;
                Ok(Value::ok())
            }
            "hello" => hello(connection, self.password.as_deref(), command.arguments()),
            "client|setname" => {
                connection.name = client_name(argument(2))?;
                Ok(Value::ok())
            }
            "client|getname" => Ok(match connection.name.is_empty() {
                true => Value::Null,
                false => Value::Bulk(connection.name.clone()),
            }),
            "client|setinfo" => set_info(connection, argument(2), argument(3)),
            "client|id" => Ok(Value::Integer(i64::try_from(connection.number).unwrap_or(i64::MAX))),
            "client|info" => Ok(verbatim(info::client_line(connection, clock::now_ns()))),
            "command" | "command|count" | "command|info" | "command|docs" | "command|list"
            | "command|getkeys" => Ok(describe::answer(command)),
            "config|get" => Ok(info::config_get(self, command.arguments())),
            "info" => Ok(verbatim(info::info(self, command.arguments()))),
            "keypact" => self.keypact(command),
            other => Err(ErrorReply::err(format!("'{other}' is not served yet"))),
        }
    }

    fn keypact(&mut self, command: &Command) -> Result<Value, ErrorReply> {
        let sub = command.argument(1).unwrap_or_default();
        if sub.eq_ignore_ascii_case(b"NODE") {
            return self.operate(command);
        }
        if !sub.eq_ignore_ascii_case(b"STATUS") {
            return Err(ErrorReply::err("unknown subcommand. Try KEYPACT STATUS."));
        }
        let text = serde_json::to_vec(&self.node.status())
            .map_err(|error| ErrorReply::err(format!("the status can't be written: {error}")))?;
        Ok(Value::bulk(text))
    }

    /// An operator's order, carried out in the middle of taking commands: what follows from it leaves with the batch that comes next.
    fn operate(&mut self, command: &Command) -> Result<Value, ErrorReply> {
        let order = order(command)?;
        let result = self.node.operate(&order, clock::context(), &mut self.world);
        tracing::info!(?order, ?result, "an operator's order");
        result.map(|()| Value::ok()).map_err(|why| refusal(&why))
    }
}

/// `KEYPACT NODE ADD id incarnation resp peer http | REMOVE id | TRANSFER group id`
fn order(command: &Command) -> Result<Order, ErrorReply> {
    let text = |at: usize| std::str::from_utf8(command.argument(at).unwrap_or_default()).ok();
    let number = |at: usize| text(at).and_then(|text| text.parse::<u64>().ok());
    let usage = || ErrorReply::err(NODE_USAGE);
    let verb = text(2).unwrap_or_default().to_ascii_uppercase();
    match (verb.as_str(), command.arguments().len()) {
        ("ADD", 8) => {
            let address = |at: usize| text(at).map(str::to_owned).ok_or_else(usage);
            Ok(Order::Add(Member {
                id: number(3).ok_or_else(usage)?,
                incarnation: number(4).ok_or_else(usage)?,
                resp: address(5)?,
                peer: address(6)?,
                http: address(7)?,
            }))
        }
        ("REMOVE", 4) => Ok(Order::Remove(NodeId(number(3).ok_or_else(usage)?))),
        ("TRANSFER", 5) => {
            let group = match text(3) {
                Some("catalog") => CATALOG,
                Some("default") => DEFAULT,
                _ => return Err(usage()),
            };
            Ok(Order::Transfer { group, to: NodeId(number(4).ok_or_else(usage)?) })
        }
        _ => Err(usage()),
    }
}

/// A refusal as a reply: `NOTLEADER` names the leader first, `TRYAGAIN` will pass, `REFUSED` will not by itself.
fn refusal(refusal: &OrderRefusal) -> ErrorReply {
    let text = refusal.to_string();
    match refusal {
        OrderRefusal::Group(ChangeRefusal::NotLeader { leader }) => {
            ErrorReply::new("NOTLEADER", format!("{leader} {text}"))
        }
        OrderRefusal::Group(ChangeRefusal::NotReady | ChangeRefusal::UnderWay)
        | OrderRefusal::UnderWay
        | OrderRefusal::NotFounded => ErrorReply::new("TRYAGAIN", text),
        _ => ErrorReply::new("REFUSED", text),
    }
}

const NODE_USAGE: &str =
    "try KEYPACT NODE ADD id incarnation resp peer http, REMOVE id, or TRANSFER group id";
const NO_PASSWORD_SET: &str = "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const HELLO_NEEDS_AUTH: &str = "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn verbatim(text: String) -> Value {
    Value::Verbatim { format: *b"txt", text: Bytes::from(text) }
}

fn ping(command: &Command) -> Result<Value, ErrorReply> {
    match command.arguments().len() {
        1 => Ok(Value::Simple("PONG")),
        2 => Ok(Value::bulk(copy(command.argument(1).unwrap_or_default()))),
        _ => Err(ErrorReply::err("wrong number of arguments for 'ping' command")),
    }
}

fn select(index: &[u8]) -> Result<Value, ErrorReply> {
    let index = std::str::from_utf8(index).ok().and_then(|text| text.parse::<i32>().ok());
    match index {
        Some(0) => Ok(Value::ok()),
        Some(_) => Err(ErrorReply::err("DB index is out of range")),
        None => Err(ErrorReply::err("value is not an integer or out of range")),
    }
}

/// Compares digests, so that the time it takes tells nothing of the password.
pub(crate) fn is_password(expected: &str, given: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(expected.as_bytes()), Sha256::digest(given));
    a.iter().zip(b.iter()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

fn authenticate(expected: Option<&str>, user: &[u8], given: &[u8]) -> Result<(), ErrorReply> {
    let is_right = match expected {
        // As Redis' `nopass`: any password will do.
        None => true,
        Some(expected) => is_password(expected, given),
    };
    match is_right && user == b"default" {
        true => Ok(()),
        false => Err(ErrorReply::fixed("WRONGPASS", "invalid username-password pair or user is disabled.")),
    }
}

fn client_name(name: &[u8]) -> Result<Bytes, ErrorReply> {
    match name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => Ok(copy(name)),
        false => Err(ErrorReply::err("Client names cannot contain spaces, newlines or special characters.")),
    }
}

fn set_info(connection: &mut Connection, field: &[u8], value: &[u8]) -> Result<Value, ErrorReply> {
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let field = String::from_utf8_lossy(field).into_owned();
        return Err(ErrorReply::err(format!(
            "{field} cannot contain spaces, newlines or special characters."
        )));
    }
    if field.eq_ignore_ascii_case(b"LIB-NAME") {
        connection.library.0 = copy(value);
    } else if field.eq_ignore_ascii_case(b"LIB-VER") {
        connection.library.1 = copy(value);
    } else {
        let field = String::from_utf8_lossy(field).into_owned();
        return Err(ErrorReply::err(format!("Unrecognized option '{field}'")));
    }
    Ok(Value::ok())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing changes unless all of it is right.
fn hello(
    connection: &mut Connection,
    password: Option<&str>,
    arguments: &Arguments,
) -> Result<Value, ErrorReply> {
    let mut version = connection.version;
    let mut is_authenticated = connection.is_authenticated;
    let mut name = None;
    if let Some(text) = arguments.get(1) {
        version = match text {
            b"2" => Version::Resp2,
            b"3" => Version::Resp3,
            _ if text.iter().all(u8::is_ascii_digit) => {
                return Err(ErrorReply::fixed("NOPROTO", "unsupported protocol version"));
            }
            _ => return Err(ErrorReply::err("Protocol version is not an integer or out of range")),
        };
    }
    let mut at = 2;
    while let Some(option) = arguments.get(at) {
        match (arguments.get(at + 1), arguments.get(at + 2)) {
            (Some(user), Some(given)) if option.eq_ignore_ascii_case(b"AUTH") => {
                authenticate(password, user, given)?;
                is_authenticated = true;
                at += 3;
            }
            (Some(text), _) if option.eq_ignore_ascii_case(b"SETNAME") => {
                name = Some(client_name(text)?);
                at += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(&option[..option.len().min(128)]).into_owned();
                return Err(ErrorReply::err(format!("Syntax error in HELLO option '{option}'")));
            }
        }
    }
    if !is_authenticated {
        return Err(ErrorReply::fixed("NOAUTH", HELLO_NEEDS_AUTH));
    }
    connection.is_authenticated = true;
    connection.version = version;
    connection.name = name.unwrap_or(std::mem::take(&mut connection.name));
    let text = |text: &'static str| Value::bulk(text.as_bytes());
    Ok(Value::Map(vec![
        (text("server"), text("keypact")),
        (text("version"), text(REDIS_VERSION)),
        (text("proto"), Value::Integer(if version == Version::Resp3 { 3 } else { 2 })),
        (text("id"), Value::Integer(i64::try_from(connection.number).unwrap_or(i64::MAX))),
        (text("mode"), text("standalone")),
        (text("role"), text("master")),
        (text("modules"), Value::Array(Vec::new())),
    ]))
}
