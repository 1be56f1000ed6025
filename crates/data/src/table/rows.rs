//! The rows. Numbers below 256 are commands of partitions, the others are the node's own.

use super::{CommandId, Flags, Group, Handler, Spec};
use crate::{expire, generic, numbers, scan, strings};

/// Shapes of key arguments: first, last, step.
const NONE: (i16, i16, i16) = (0, 0, 0);
const ONE: (i16, i16, i16) = (1, 1, 1);
const REST: (i16, i16, i16) = (1, -1, 1);
const PAIRS: (i16, i16, i16) = (1, -1, 2);

const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);
const WHOLE: Flags = Flags::KEYSPACE;
const FLUSH: Flags = Flags::WRITE.and(Flags::DANGEROUS).and(WHOLE);
const ALWAYS: Flags = Flags::LOADING.and(Flags::STALE);
const ALWAYS_FAST: Flags = ALWAYS.and(Flags::FAST);
const CONNECTION: Flags = ALWAYS.and(Flags::NOSCRIPT);
const LOGIN: Flags = ALWAYS_FAST.and(Flags::NOSCRIPT).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);
const OPERATOR: Flags = CONNECTION.and(Flags::ADMIN).and(Flags::DANGEROUS);

const SHARDS: &str = "request_policy:all_shards";
const MULTI: &str = "request_policy:multi_shard";
const SUM: &str = "response_policy:agg_sum";
const ALL_OK: &str = "response_policy:all_succeeded";
const VARIES: &str = "nondeterministic_output";
const ORDER_VARIES: &str = "nondeterministic_output_order";

const LOOK: &[&str] = &["RO", "access"];
const META: &[&str] = &["RO"];
const STEP: &[&str] = &["RW", "access", "update"];
const CHANGE: &[&str] = &["RW", "update"];

macro_rules! row {
    ($id:literal $name:literal $arity:literal, $flags:expr, $keys:ident $key_flags:expr, $group:ident $since:literal
     $complexity:literal, $summary:literal, $syntax:literal, $tips:expr, $handler:expr) => {
        Spec {
            id: CommandId($id),
            name: $name,
            arity: $arity,
            flags: $flags,
            first_key: $keys.0,
            last_key: $keys.1,
            key_step: $keys.2,
            key_flags: $key_flags,
            group: Group::$group,
            since: $since,
            complexity: $complexity,
            summary: $summary,
            syntax: $syntax,
            tips: $tips,
            handler: $handler,
        }
    };
}

macro_rules! read {
    ($function:path) => {
        Handler::Read($function)
    };
}

macro_rules! write {
    ($function:path) => {
        Handler::Write($function)
    };
}

use Handler::Node;

/// Every command that is known.
#[rustfmt::skip]
pub static TABLE: &[Spec] = &[
    // Strings.
    row!(1 "get" 2, READ_FAST, ONE LOOK, String "1.0.0" "O(1)",
        "Answers a key's value.", "key", &[], read!(strings::get)),
    row!(2 "set" -3, GROW, ONE &["RW", "access", "update", "variable_flags"], String "1.0.0" "O(1)",
        "Sets a key's value, whatever the key held before.",
        "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        &[], write!(strings::set)),
    row!(3 "mget" -2, READ_FAST, REST LOOK, String "1.0.0" "O(N) in keys",
        "Answers the values of several keys.", "key ...", &[MULTI], read!(strings::mget)),
    row!(4 "mset" -3, GROW, PAIRS &["OW", "update"], String "1.0.1" "O(N) in keys",
        "Sets several keys at once.", "key value ...", &[MULTI, ALL_OK], write!(strings::mset)),
    row!(5 "msetnx" -3, GROW, PAIRS &["OW", "insert"], String "1.0.1" "O(N) in keys",
        "Sets several keys at once if none of them exists.", "key value ...",
        &[MULTI, "response_policy:agg_min"], write!(strings::msetnx)),
    row!(6 "append" 3, GROW_FAST, ONE &["RW", "insert"], String "2.0.0" "O(N) in the new length",
        "Adds to the end of a value; creates the key if there is none.", "key value", &[], write!(strings::append)),
    row!(7 "strlen" 2, READ_FAST, ONE META, String "2.2.0" "O(1)",
        "Answers the length of a value in bytes.", "key", &[], read!(strings::strlen)),
    row!(8 "getrange" 4, Flags::READONLY, ONE LOOK, String "2.4.0" "O(1)",
        "Answers a part of a value.", "key start end", &[], read!(strings::getrange)),
    row!(9 "substr" 4, Flags::READONLY, ONE LOOK, String "1.0.0" "O(1)",
        "The old name of GETRANGE.", "key start end", &[], read!(strings::getrange)),
    row!(10 "setrange" 4, GROW, ONE CHANGE, String "2.2.0" "O(N) in the new length",
        "Overwrites a part of a value, padded with zero bytes up to the offset.", "key offset value",
        &[], write!(strings::setrange)),
    row!(11 "incr" 2, GROW_FAST, ONE STEP, String "1.0.0" "O(1)",
        "Adds 1 to a whole number; a missing key counts as 0.", "key", &[], write!(numbers::incr)),
    row!(12 "decr" 2, GROW_FAST, ONE STEP, String "1.0.0" "O(1)",
        "Takes 1 from a whole number; a missing key counts as 0.", "key", &[], write!(numbers::decr)),
    row!(13 "incrby" 3, GROW_FAST, ONE STEP, String "1.0.0" "O(1)",
        "Adds to a whole number; a missing key counts as 0.", "key increment", &[], write!(numbers::incrby)),
    row!(14 "decrby" 3, GROW_FAST, ONE STEP, String "1.0.0" "O(1)",
        "Takes from a whole number; a missing key counts as 0.", "key decrement", &[], write!(numbers::decrby)),
    row!(15 "incrbyfloat" 3, GROW_FAST, ONE STEP, String "2.6.0" "O(1)",
        "Adds to a decimal number; a missing key counts as 0.", "key increment", &[], write!(numbers::incrbyfloat)),
    row!(16 "getdel" 2, WRITE_FAST, ONE &["RW", "access", "delete"], String "6.2.0" "O(1)",
        "Answers a key's value and deletes the key.", "key", &[], write!(strings::getdel)),
    row!(17 "getex" -2, WRITE_FAST, ONE STEP, String "6.2.0" "O(1)",
        "Answers a key's value and changes when the key expires.",
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        &[], write!(strings::getex)),
    row!(18 "getset" 3, GROW_FAST, ONE STEP, String "1.0.0" "O(1)",
        "Sets a key's value and answers the one before.", "key value", &[], write!(strings::getset)),
    row!(19 "setnx" 3, GROW_FAST, ONE &["OW", "insert"], String "1.0.0" "O(1)",
        "Sets a key's value if the key does not exist.", "key value", &[], write!(strings::setnx)),
    row!(20 "setex" 4, GROW, ONE &["OW", "update"], String "2.0.0" "O(1)",
        "Sets a key's value, and its expiry in seconds.", "key seconds value", &[], write!(strings::setex)),
    row!(21 "psetex" 4, GROW, ONE &["OW", "update"], String "2.6.0" "O(1)",
        "Sets a key's value, and its expiry in milliseconds.", "key milliseconds value", &[], write!(strings::psetex)),
    // Keys.
    row!(40 "del" -2, Flags::WRITE, REST &["RM", "delete"], Generic "1.0.0" "O(N) in keys",
        "Deletes keys.", "key ...", &[MULTI, SUM], write!(generic::del)),
    row!(41 "unlink" -2, WRITE_FAST, REST &["RM", "delete"], Generic "4.0.0" "O(N) in keys",
        "Deletes keys, like DEL.", "key ...", &[MULTI, SUM], write!(generic::del)),
    row!(42 "exists" -2, READ_FAST, REST META, Generic "1.0.0" "O(N) in keys",
        "Counts which of the keys exist; one named twice counts twice.", "key ...", &[MULTI, SUM], read!(generic::exists)),
    row!(43 "touch" -2, READ_FAST, REST META, Generic "3.2.1" "O(N) in keys",
        "Counts which of the keys exist.", "key ...", &[MULTI, SUM], read!(generic::exists)),
    row!(44 "type" 2, READ_FAST, ONE META, Generic "1.0.0" "O(1)",
        "Answers the type of a key's value.", "key", &[], read!(generic::kind)),
    row!(45 "expire" -3, WRITE_FAST, ONE CHANGE, Generic "1.0.0" "O(1)",
        "Sets when a key expires, in seconds from now.", "key seconds [NX | XX | GT | LT]", &[], write!(expire::expire)),
    row!(46 "pexpire" -3, WRITE_FAST, ONE CHANGE, Generic "2.6.0" "O(1)",
        "Sets when a key expires, in milliseconds from now.", "key milliseconds [NX | XX | GT | LT]",
        &[], write!(expire::pexpire)),
    row!(47 "expireat" -3, WRITE_FAST, ONE CHANGE, Generic "1.2.0" "O(1)",
        "Sets when a key expires, as a Unix time in seconds.", "key unix-time-seconds [NX | XX | GT | LT]",
        &[], write!(expire::expireat)),
    row!(48 "pexpireat" -3, WRITE_FAST, ONE CHANGE, Generic "2.6.0" "O(1)",
        "Sets when a key expires, as a Unix time in milliseconds.", "key unix-time-milliseconds [NX | XX | GT | LT]",
        &[], write!(expire::pexpireat)),
    row!(49 "ttl" 2, READ_FAST, ONE LOOK, Generic "1.0.0" "O(1)",
        "Answers how many seconds a key has left.", "key", &[VARIES], read!(expire::ttl)),
    row!(50 "pttl" 2, READ_FAST, ONE LOOK, Generic "2.6.0" "O(1)",
        "Answers how many milliseconds a key has left.", "key", &[VARIES], read!(expire::pttl)),
    row!(51 "expiretime" 2, READ_FAST, ONE LOOK, Generic "7.0.0" "O(1)",
        "Answers when a key expires, as a Unix time in seconds.", "key", &[], read!(expire::expiretime)),
    row!(52 "pexpiretime" 2, READ_FAST, ONE LOOK, Generic "7.0.0" "O(1)",
        "Answers when a key expires, as a Unix time in milliseconds.", "key", &[], read!(expire::pexpiretime)),
    row!(53 "persist" 2, WRITE_FAST, ONE CHANGE, Generic "2.2.0" "O(1)",
        "Lets a key live on without an end.", "key", &[], write!(expire::persist)),
    row!(54 "dbsize" 1, READ_FAST.and(WHOLE), NONE &[], Server "1.0.0" "O(1)",
        "Counts all keys.", "", &[SHARDS, SUM], read!(generic::dbsize)),
    row!(55 "flushall" -1, FLUSH, NONE &[], Server "1.0.0" "O(1), memory is freed bit by bit",
        "Deletes all keys.", "[ASYNC | SYNC]", &[SHARDS, ALL_OK], write!(generic::flush)),
    row!(56 "flushdb" -1, FLUSH, NONE &[], Server "1.0.0" "O(1), memory is freed bit by bit",
        "Deletes all keys.", "[ASYNC | SYNC]", &[SHARDS, ALL_OK], write!(generic::flush)),
    row!(57 "keys" 2, Flags::READONLY.and(Flags::DANGEROUS).and(WHOLE), NONE &[], Generic "1.0.0" "O(N) in all keys",
        "Lists all keys that match a pattern.", "pattern", &[SHARDS, ORDER_VARIES], read!(scan::keys)),
    row!(58 "scan" -2, Flags::READONLY.and(WHOLE), NONE &[], Generic "2.8.0" "O(1) a call, O(N) for all keys",
        "Lists keys, some in each call.", "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        &[VARIES, "request_policy:special"], read!(scan::scan)),
    row!(59 "randomkey" 1, Flags::READONLY.and(WHOLE), NONE &[], Generic "1.0.0" "O(1)",
        "Answers one of the keys.", "", &[SHARDS, VARIES], read!(scan::randomkey)),
    // The node's own.
    row!(256 "ping" -1, Flags::FAST, NONE &[], Connection "1.0.0" "O(1)",
        "Answers PONG, or the message.", "[message]", &[SHARDS, ALL_OK], Node),
    row!(257 "echo" 2, ALWAYS_FAST, NONE &[], Connection "1.0.0" "O(1)",
        "Answers the message.", "message", &[], Node),
    row!(258 "quit" -1, LOGIN, NONE &[], Connection "1.0.0" "O(1)",
        "Closes the connection.", "", &[], Node),
    row!(259 "reset" 1, LOGIN, NONE &[], Connection "6.2.0" "O(1)",
        "Makes the connection as it was when new.", "", &[], Node),
    row!(260 "select" 2, ALWAYS_FAST, NONE &[], Connection "1.0.0" "O(1)",
        "Chooses a database; there is only number 0.", "index", &[], Node),
    row!(261 "hello" -1, LOGIN, NONE &[], Connection "6.0.0" "O(1)",
        "Chooses the version of the protocol, and tells of the server.",
        "[protover [AUTH username password] [SETNAME clientname]]", &[], Node),
    row!(262 "auth" -2, LOGIN, NONE &[], Connection "1.0.0" "O(1)",
        "Authenticates the connection.", "[username] password", &[], Node),
    row!(263 "info" -1, ALWAYS.and(Flags::DANGEROUS), NONE &[], Server "1.0.0" "O(1)",
        "Tells of the server.", "[section ...]", &[VARIES, SHARDS, "response_policy:special"], Node),
    row!(270 "client" -2, Flags::CONTAINER, NONE &[], Connection "2.4.0" "as its subcommands",
        "On the connection: see its subcommands.", "", &[], Node),
    row!(271 "client|setname" 3, CONNECTION, NONE &[], Connection "2.6.9" "O(1)",
        "Names the connection.", "connection-name", &[], Node),
    row!(272 "client|getname" 2, CONNECTION, NONE &[], Connection "2.6.9" "O(1)",
        "Answers the connection's name.", "", &[], Node),
    row!(273 "client|setinfo" 4, CONNECTION, NONE &[], Connection "7.2.0" "O(1)",
        "Tells the server which library the client uses.", "LIB-NAME libname | LIB-VER libver", &[], Node),
    row!(274 "client|id" 2, CONNECTION, NONE &[], Connection "5.0.0" "O(1)",
        "Answers the connection's number.", "", &[], Node),
    row!(275 "client|info" 2, CONNECTION, NONE &[], Connection "6.2.0" "O(1)",
        "Tells of the connection.", "", &[VARIES], Node),
    row!(276 "client|help" 2, ALWAYS, NONE &[], Connection "5.0.0" "O(1)",
        "Lists the subcommands of CLIENT.", "", &[], Node),
    row!(280 "command" -1, ALWAYS.and(Flags::CONTAINER), NONE &[], Server "2.8.13" "O(N) in commands",
        "Tells of all commands.", "", &[ORDER_VARIES], Node),
    row!(281 "command|count" 2, ALWAYS, NONE &[], Server "2.8.13" "O(1)",
        "Counts the commands.", "", &[], Node),
    row!(282 "command|info" -2, ALWAYS, NONE &[], Server "2.8.13" "O(N) in names",
        "Tells of some commands.", "[command-name ...]", &[ORDER_VARIES], Node),
    row!(283 "command|docs" -2, ALWAYS, NONE &[], Server "7.0.0" "O(N) in names",
        "Explains some commands, or all.", "[command-name ...]", &[ORDER_VARIES], Node),
    row!(284 "command|list" -2, ALWAYS, NONE &[], Server "7.0.0" "O(N) in commands",
        "Lists the names of commands.", "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]",
        &[ORDER_VARIES], Node),
    row!(285 "command|getkeys" -4, ALWAYS, NONE &[], Server "2.8.13" "O(N) in arguments",
        "Picks the keys out of a whole command.", "command [arg ...]", &[], Node),
    row!(286 "command|help" 2, ALWAYS, NONE &[], Server "5.0.0" "O(1)",
        "Lists the subcommands of COMMAND.", "", &[], Node),
    row!(290 "config" -2, Flags::CONTAINER, NONE &[], Server "2.0.0" "as its subcommands",
        "On the node's settings: see its subcommands.", "", &[], Node),
    row!(291 "config|get" -3, OPERATOR, NONE &[], Server "2.0.0" "O(N) in settings",
        "Answers settings by pattern.", "parameter ...", &[], Node),
    row!(292 "config|help" 2, ALWAYS, NONE &[], Server "5.0.0" "O(1)",
        "Lists the subcommands of CONFIG.", "", &[], Node),
    row!(300 "keypact" -2, Flags::ADMIN.and(ALWAYS), NONE &[], Server "0.1.0" "as its subcommand",
        "On the cluster: commands of Keypact's own.", "subcommand [argument ...]", &[], Node),
];
