//! Shapes of the `COMMAND` replies; their contents are compared with Redis in `tests/redis.rs`.

use keypact_resp::{Arguments, Value};

use super::*;

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = map else { panic!("a map") };
    pairs.iter().find(|(key, _)| key.as_bytes() == Some(name.as_bytes())).map(|(_, value)| value)
}

fn docs_of(name: &str) -> Value {
    let Value::Map(mut pairs) = docs(&Arguments::from_parts(&[b"COMMAND", b"DOCS", name.as_bytes()])) else {
        panic!("a map")
    };
    pairs.remove(0).1
}

#[test]
fn all_is_as_long_as_count() {
    let Value::Array(rows) = all() else { panic!("rows") };
    assert_eq!(count(), Value::Integer(rows.len() as i64));
    assert!(rows.iter().all(|row| matches!(row, Value::Array(fields) if fields.len() == 10)));
}

#[test]
fn docs_of_set_tell_its_arguments() {
    let doc = docs_of("set");
    assert_eq!(field(&doc, "group"), Some(&Value::bulk("string")));
    let Some(Value::Array(arguments)) = field(&doc, "arguments") else { panic!("arguments") };
    let names: Vec<_> =
        arguments.iter().map(|argument| field(argument, "name").unwrap().as_bytes().unwrap()).collect();
    assert_eq!(names[..4], [&b"key"[..], b"value", b"nx-or-xx", b"get"]);
    assert_eq!(field(&arguments[2], "type"), Some(&Value::bulk("oneof")));
    let Some(Value::Array(expiries)) = field(&arguments[4], "arguments") else { panic!("a choice") };
    assert_eq!(field(&expiries[0], "name"), Some(&Value::bulk("seconds")));
    assert_eq!(field(&expiries[0], "token"), Some(&Value::bulk("EX")));
    assert_eq!(field(&expiries[0], "type"), Some(&Value::bulk("integer")));
    assert_eq!(field(&expiries[4], "type"), Some(&Value::bulk("pure-token")));
    assert_eq!(field(&arguments[4], "flags"), Some(&Value::Set(vec![Value::Simple("optional")])));
}

#[test]
fn docs_of_mset_repeat_the_pair() {
    let doc = docs_of("mset");
    let Some(Value::Array(arguments)) = field(&doc, "arguments") else { panic!("arguments") };
    assert_eq!(arguments.len(), 1);
    assert_eq!(field(&arguments[0], "type"), Some(&Value::bulk("block")));
    assert_eq!(field(&arguments[0], "flags"), Some(&Value::Set(vec![Value::Simple("multiple")])));
}

#[test]
fn every_syntax_line_can_be_read() {
    for spec in TABLE {
        syntax::arguments(spec.syntax);
    }
}

#[test]
fn help_lists_the_subcommands() {
    let Value::Array(lines) = help("client") else { panic!("lines") };
    assert!(lines.contains(&Value::Simple("SETNAME connection-name")));
}
