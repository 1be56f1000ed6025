//! Stories: commands and the replies they get, as text.
//!
//! ```text
//! # a comment
//! > SET key "a value\x00"      a command; quotes and escapes as in redis-cli
//! +OK                          its reply, on one line
//! @ 1500                       time passes, in milliseconds
//! ! DEBUG ..                   a command whose reply differs from Redis' on purpose: not checked against Redis
//! ```
//! Replies: `+status`, `-error`, `:integer`, `"bulk"`, `(nil)`, `(nil array)`, `[elements]`, and `{elements}` sorted for
//! commands that list keys in an order of their own. `~` before an integer that time changes: within 300 of it.

#![allow(
    clippy::disallowed_methods,
    reason = "a test reads its stories from files; the crate itself reads none"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use keypact_resp::Value;

pub(crate) enum Line {
    /// Kept as it is when a story is rewritten.
    Note(String),
    Advance(u64),
    Command {
        arguments: Vec<Vec<u8>>,
        text: String,
        differs: bool,
        reply: String,
    },
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands")
}

pub(crate) fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = folder()
        .read_dir()
        .expect("the folder of stories")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 5, "stories are there");
    files
}

pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).expect("a story");
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ").or(line.strip_prefix("! ")) {
            let differs = line.starts_with('!');
            let arguments = split(command);
            lines.push(Line::Command { arguments, text: line.to_owned(), differs, reply: String::new() });
        } else if let Some(time) = line.strip_prefix("@ ") {
            lines.push(Line::Advance(time.parse().expect("milliseconds")));
        } else if line.is_empty() || line.starts_with('#') {
            lines.push(Line::Note(line.to_owned()));
        } else if let Some(Line::Command { reply, .. }) = lines.last_mut() {
            assert!(reply.is_empty(), "one reply a command: {line}");
            *reply = line.to_owned();
        } else {
            panic!("neither command nor reply: {line}");
        }
    }
    lines
}

/// Runs a story against `answer`: the replies that differ; with UPDATE=1 writes the replies into it instead.
pub(crate) fn run(
    path: &Path,
    mut advance: impl FnMut(u64),
    mut answer: impl FnMut(&[&[u8]], bool) -> Option<Value>,
) -> Vec<String> {
    let update = std::env::var_os("UPDATE").is_some();
    let mut rewritten = String::new();
    let mut wrong: Vec<String> = Vec::new();
    for line in read(path) {
        match line {
            Line::Note(text) => writeln!(rewritten, "{text}").expect("a string takes all"),
            Line::Advance(time) => {
                advance(time);
                writeln!(rewritten, "@ {time}").expect("a string takes all");
            }
            Line::Command { arguments, text, differs, reply } => {
                let parts: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
                let expected = match answer(&parts, differs) {
                    Some(value) => {
                        let got = render(&value, lists_keys(&parts));
                        if agree(&reply, &got) {
                            reply
                        } else {
                            wrong.push(format!(
                                "{}: {text}\n  expected {reply}\n  got      {got}",
                                path.display()
                            ));
                            got
                        }
                    }
                    None => reply,
                };
                writeln!(rewritten, "{text}\n{expected}").expect("a string takes all");
            }
        }
    }
    if update {
        std::fs::write(path, rewritten).expect("the story can be written");
        wrong.clear();
    }
    wrong
}

fn agree(expected: &str, got: &str) -> bool {
    let about = |text: &str| text.strip_prefix("~:").and_then(|text| text.parse::<i64>().ok());
    match (about(expected), got.strip_prefix(':').and_then(|text| text.parse::<i64>().ok())) {
        (Some(expected), Some(got)) => expected.abs_diff(got) <= 300,
        _ => expected == got,
    }
}

fn lists_keys(parts: &[&[u8]]) -> bool {
    let is = |index: usize, name: &str| {
        parts.get(index).is_some_and(|part| part.eq_ignore_ascii_case(name.as_bytes()))
    };
    is(0, "keys") || is(0, "scan") || (is(0, "command") && is(1, "list"))
}

pub(crate) fn render(value: &Value, sorted: bool) -> String {
    match value {
        Value::Simple(text) => format!("+{text}"),
        Value::Status(text) => format!("+{}", text.escape_ascii()),
        Value::Error(error) => format!("-{}", error.to_string().replace(['\r', '\n'], " ")),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
        Value::Null => "(nil)".to_owned(),
        Value::NullArray => "(nil array)".to_owned(),
        Value::Array(items) | Value::Set(items) => {
            let mut texts: Vec<String> = items.iter().map(|item| render(item, sorted)).collect();
            // In a reply of SCAN, the cursor comes before the list.
            if sorted && !matches!(items.last(), Some(Value::Array(_))) {
                texts.sort();
                return format!("{{{}}}", texts.join(", "));
            }
            format!("[{}]", texts.join(", "))
        }
        Value::Map(pairs) => {
            let items = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
            render(&Value::Array(items), sorted)
        }
        other => panic!("no reply of these commands: {other:?}"),
    }
}

/// A command line in the manner of redis-cli.
fn split(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(&byte) = bytes.peek() {
        match byte {
            b' ' => {
                bytes.next();
            }
            b'"' => {
                bytes.next();
                words.push(quoted(&mut bytes));
            }
            _ => {
                let mut word = Vec::new();
                while let Some(byte) = bytes.next_if(|&byte| byte != b' ') {
                    word.push(byte);
                }
                words.push(word);
            }
        }
    }
    words
}

fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut word = Vec::new();
    loop {
        match bytes.next().expect("a quote closes") {
            b'"' => return word,
            b'\\' => match bytes.next().expect("something to escape") {
                b'x' => {
                    let digits = [
                        bytes.next().expect("more of the escape"),
                        bytes.next().expect("more of the escape"),
                    ];
                    word.push(
                        u8::from_str_radix(&String::from_utf8_lossy(&digits), 16)
                            .expect("two hexadecimal digits"),
                    );
                }
                b'n' => word.push(b'\n'),
                b'r' => word.push(b'\r'),
                b't' => word.push(b'\t'),
                // A long value: "\(a*1000)" stands for a thousand a.
                b'(' => {
                    let letter = bytes.next().expect("more of the escape");
                    assert_eq!(bytes.next(), Some(b'*'));
                    let digits: Vec<u8> = bytes.by_ref().take_while(|&byte| byte != b')').collect();
                    let count: usize = String::from_utf8_lossy(&digits).parse().expect("a count");
                    word.extend(std::iter::repeat_n(letter, count));
                }
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
}
