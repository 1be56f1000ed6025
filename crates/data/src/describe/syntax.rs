//! A command's syntax line as the `arguments` of `COMMAND DOCS`.

use keypact_resp::Value;

/// The line's parts: words and brackets.
///
/// ```text
/// line    = choice            choice = run { "|" run }        run = { part [ "..." ] }
/// part    = "[" choice "]" | WORD [ name .. ] | name
/// ```
pub(super) fn arguments(line: &str) -> Vec<Value> {
    let spaced = line.replace('[', " [ ").replace(']', " ] ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let parts = choice(&mut rest);
    assert!(rest.is_empty(), "brackets close: {line}");
    parts.iter().map(Part::value).collect()
}

/// One argument, or several that belong together.
#[derive(Default)]
struct Part {
    name: String,
    token: Option<String>,
    /// `oneof` or `block`; none for a plain argument.
    group: Option<&'static str>,
    inner: Vec<Part>,
    optional: bool,
    multiple: bool,
}

/// Parts up to a closing bracket or the end; alternatives become one part.
fn choice(rest: &mut &[&str]) -> Vec<Part> {
    let mut alternatives = vec![run(rest)];
    while rest.first() == Some(&"|") {
        *rest = &rest[1..];
        alternatives.push(run(rest));
    }
    if alternatives.len() == 1 {
        return alternatives.pop().unwrap_or_default();
    }
    let inner: Vec<Part> = alternatives.into_iter().map(|parts| together(parts, "block")).collect();
    let name = inner.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("-or-");
    vec![Part { name, group: Some("oneof"), inner, ..Part::default() }]
}

fn run(rest: &mut &[&str]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    while let Some((&word, behind)) = rest.split_first() {
        match word {
            "|" | "]" => break,
            "..." => {
                // Everything before it that is not the first of a run of names repeats as a whole: `key value ...`.
                let repeated = together(parts.split_off(0), "block");
                parts.push(Part { multiple: true, ..repeated });
                *rest = behind;
            }
            "[" => {
                *rest = behind;
                let inner = together(choice(rest), "block");
                parts.push(Part { optional: true, ..inner });
                *rest = rest.get(1..).unwrap_or_default();
            }
            word => {
                *rest = behind;
                parts.push(plain(word, rest));
            }
        }
    }
    parts
}

/// A name, or a token with the name behind it.
fn plain(word: &str, rest: &mut &[&str]) -> Part {
    let is_token = |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || c == '-');
    if !is_token(word) {
        return Part { name: word.to_owned(), ..Part::default() };
    }
    let token = Some(word.to_owned());
    match rest.first() {
        Some(&name) if !is_token(name) && !["|", "[", "]", "..."].contains(&name) => {
            *rest = &rest[1..];
            Part { name: name.to_owned(), token, ..Part::default() }
        }
        _ => Part { name: word.to_ascii_lowercase(), token, group: Some("pure-token"), ..Part::default() },
    }
}

fn together(mut parts: Vec<Part>, group: &'static str) -> Part {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("-");
    Part { name, group: Some(group), inner: parts, ..Part::default() }
}

impl Part {
    fn value(&self) -> Value {
        let text = |name: &'static str, value: String| (Value::bulk(name), Value::bulk(value));
        let kind = self.group.unwrap_or(match self.name.as_str() {
            "key" => "key",
            "pattern" => "pattern",
            "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
            "seconds" | "milliseconds" | "increment" | "decrement" | "start" | "end" | "offset"
            | "cursor" | "COUNT" | "count" | "index" | "protover" => "integer",
            _ => "string",
        });
        let mut fields = vec![text("name", self.name.clone()), text("type", kind.to_owned())];
        if kind == "key" {
            fields.push((Value::bulk("key_spec_index"), Value::Integer(0)));
        }
        if let Some(token) = &self.token {
            fields.push(text("token", token.clone()));
        }
        let flags: Vec<Value> = [(self.optional, "optional"), (self.multiple, "multiple")]
            .into_iter()
            .filter(|&(given, _)| given)
            .map(|(_, name)| Value::Simple(name))
            .collect();
        if !flags.is_empty() {
            fields.push((Value::bulk("flags"), Value::Set(flags)));
        }
        if !self.inner.is_empty() {
            fields
                .push((Value::bulk("arguments"), Value::Array(self.inner.iter().map(Part::value).collect())));
        }
        Value::Map(fields)
    }
}
