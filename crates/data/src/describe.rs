//! The `COMMAND` family: the table, told to clients in Redis 7.0's shapes.

mod syntax;

use bytes::Bytes;
use keypact_resp::{Arguments, ErrorReply, Value};

use crate::command::Command;
use crate::glob;
use crate::table::{self, Flags, Spec, TABLE};

/// Answers `COMMAND` and its subcommands. The arguments are those of a [`Command`] whose row is one of these.
///
/// # Panics
/// If `command` is none of the family.
pub fn answer(command: &Command) -> Value {
    let arguments = command.arguments();
    match command.spec().name {
        "command" => all(),
        "command|count" => count(),
        "command|info" => info(arguments),
        "command|docs" => docs(arguments),
        "command|list" => list(arguments),
        "command|getkeys" => keys(arguments),
        "command|help" => help("command"),
        other => panic!("{other} is not of the COMMAND family"),
    }
}

/// `COMMAND`: every command.
pub fn all() -> Value {
    Value::Array(commands().map(row).collect())
}

/// `COMMAND COUNT`
pub fn count() -> Value {
    Value::Integer(commands().count() as i64)
}

/// `COMMAND INFO [name ...]`; a name that is not known gives a null.
pub fn info(arguments: &Arguments) -> Value {
    if arguments.len() == 2 {
        return all();
    }
    Value::Array(arguments.iter().skip(2).map(|name| named(name).map_or(Value::Null, row)).collect())
}

/// `COMMAND DOCS [name ...]`; names that are not known are left out.
pub fn docs(arguments: &Arguments) -> Value {
    let entry = |spec: &'static Spec| (Value::bulk(spec.name), doc(spec));
    if arguments.len() == 2 {
        return Value::Map(commands().map(entry).collect());
    }
    Value::Map(arguments.iter().skip(2).filter_map(named).map(entry).collect())
}

/// `COMMAND LIST [FILTERBY ...]`, subcommands included.
pub fn list(arguments: &Arguments) -> Value {
    let names = |wanted: &dyn Fn(&&Spec) -> bool| {
        Value::Array(TABLE.iter().filter(wanted).map(|spec| Value::bulk(spec.name)).collect())
    };
    let (Some(filter), Some(value)) = (arguments.get(3), arguments.get(4)) else {
        return if arguments.len() == 2 { names(&|_| true) } else { Value::Error(crate::strings::SYNTAX) };
    };
    if !arguments.get(2).unwrap_or_default().eq_ignore_ascii_case(b"filterby") || arguments.len() != 5 {
        return Value::Error(crate::strings::SYNTAX);
    }
    if filter.eq_ignore_ascii_case(b"pattern") {
        names(&|spec| glob::matches(value, spec.name.as_bytes()))
    } else if filter.eq_ignore_ascii_case(b"aclcat") {
        names(&|spec| categories(spec).any(|category| category.as_bytes()[1..].eq_ignore_ascii_case(value)))
    } else if filter.eq_ignore_ascii_case(b"module") {
        names(&|_| false)
    } else {
        Value::Error(crate::strings::SYNTAX)
    }
}

/// `COMMAND GETKEYS command [arg ...]`
pub fn keys(arguments: &Arguments) -> Value {
    let name = arguments.get(2).unwrap_or_default();
    let inner = arguments.len() - 2;
    let Some(spec) = table::find(name) else {
        return Value::Error(ErrorReply::err("Invalid command specified"));
    };
    // No container has keys of its own, and no subcommand of today's has any.
    if spec.first_key == 0 {
        return Value::Error(ErrorReply::err("The command has no key arguments"));
    }
    if !spec.takes(inner) {
        return Value::Error(ErrorReply::err("Invalid number of arguments specified for command"));
    }
    Value::Array(spec.key_indices(inner).map(|index| Value::Bulk(arguments.slice(index + 2))).collect())
}

/// `CLIENT HELP` and the like: the subcommands of a container, made of the table.
///
/// # Panics
/// If there is no such container.
pub fn help(container: &str) -> Value {
    let spec = table::find(container.as_bytes()).expect("a container of the table");
    let title = container.to_ascii_uppercase();
    let mut lines = vec![format!("{title} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in spec.subcommands() {
        let name = sub.name.split_once('|').map_or("", |(_, name)| name).to_ascii_uppercase();
        lines.push(format!("{name} {}", sub.syntax).trim_end().to_owned());
        lines.push(format!("    {}", sub.summary));
    }
    Value::Array(lines.into_iter().map(|line| Value::Status(Bytes::from(line))).collect())
}

/// Rows that are no subcommands.
fn commands() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().filter(|spec| spec.container().is_none())
}

fn named(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => table::find_subcommand(table::find(&name[..bar])?.name, &name[bar + 1..]),
        None => table::find(name),
    }
}

/// The ten elements of `COMMAND INFO`.
fn row(spec: &'static Spec) -> Value {
    let statuses = |names: Vec<&'static str>| Value::Set(names.into_iter().map(Value::Simple).collect());
    Value::Array(vec![
        Value::bulk(spec.name),
        Value::Integer(spec.arity.into()),
        statuses(flag_names(spec.flags)),
        Value::Integer(spec.first_key.into()),
        Value::Integer(spec.last_key.into()),
        Value::Integer(spec.key_step.into()),
        statuses(categories(spec).collect()),
        Value::Array(spec.tips.iter().map(|&tip| Value::bulk(tip)).collect()),
        Value::Array(key_specification(spec).into_iter().collect()),
        Value::Array(spec.subcommands().map(row).collect()),
    ])
}

fn flag_names(flags: Flags) -> Vec<&'static str> {
    let names = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];
    names.into_iter().filter(|&(flag, _)| flags.contains(flag)).map(|(_, name)| name).collect()
}

/// The ACL categories, which group and flags decide.
fn categories(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let has = |flag| spec.flags.contains(flag);
    let keyed = spec.place() == table::Place::Partition;
    let connection = spec.group == table::Group::Connection || spec.name.starts_with("command");
    let all = [
        (keyed && spec.group != table::Group::String, "@keyspace"),
        (has(Flags::READONLY), "@read"),
        (has(Flags::WRITE), "@write"),
        (keyed && spec.group == table::Group::String, "@string"),
        (has(Flags::ADMIN), "@admin"),
        (has(Flags::FAST), "@fast"),
        (!has(Flags::FAST), "@slow"),
        (has(Flags::DANGEROUS), "@dangerous"),
        (connection && (!has(Flags::CONTAINER) || spec.arity == -1), "@connection"),
    ];
    all.into_iter().filter(|&(given, _)| given).map(|(_, name)| name)
}

/// Where the keys are and what happens to them, if there are any.
fn key_specification(spec: &Spec) -> Option<Value> {
    let pair = |name: &'static str, value: Value| (Value::bulk(name), value);
    let step = |kind: &'static str, inner: Vec<(Value, Value)>| {
        Value::Map(vec![pair("type", Value::bulk(kind)), pair("spec", Value::Map(inner))])
    };
    if spec.first_key == 0 {
        return None;
    }
    // A range's end is counted from the first key, or from the end.
    let last = if spec.last_key < 0 { spec.last_key } else { spec.last_key - spec.first_key };
    Some(Value::Map(vec![
        pair("flags", Value::Set(spec.key_flags.iter().map(|&flag| Value::Simple(flag)).collect())),
        pair("begin_search", step("index", vec![pair("index", Value::Integer(spec.first_key.into()))])),
        pair(
            "find_keys",
            step(
                "range",
                vec![
                    pair("lastkey", Value::Integer(last.into())),
                    pair("keystep", Value::Integer(spec.key_step.into())),
                    pair("limit", Value::Integer(0)),
                ],
            ),
        ),
    ]))
}

fn doc(spec: &'static Spec) -> Value {
    let text = |name: &'static str, value: &'static str| (Value::bulk(name), Value::bulk(value));
    let mut fields = vec![
        text("summary", spec.summary),
        text("since", spec.since),
        text("group", spec.group.name()),
        text("complexity", spec.complexity),
    ];
    let arguments = syntax::arguments(spec.syntax);
    if !arguments.is_empty() {
        fields.push((Value::bulk("arguments"), Value::Array(arguments)));
    }
    let subcommands: Vec<_> = spec.subcommands().map(|sub| (Value::bulk(sub.name), doc(sub))).collect();
    if !subcommands.is_empty() {
        fields.push((Value::bulk("subcommands"), Value::Map(subcommands)));
    }
    Value::Map(fields)
}

#[cfg(test)]
mod tests;
