//! `docs/commands.md` lists what the table has. UPDATE=1 rewrites its tables.
#![allow(
    clippy::disallowed_methods,
    reason = "a test reads and writes the document; the crate itself has no files"
)]

use std::fmt::Write;
use std::path::Path;

use keypact_data::{Group, Place, table};

const START: &str = "<!-- table -->\n";
const END: &str = "<!-- end -->\n";

fn tables() -> String {
    let mut text = String::new();
    for (title, group, place) in [
        ("Strings", Group::String, Place::Partition),
        ("Keys", Group::Generic, Place::Partition),
        ("Whole keyspace", Group::Server, Place::Partition),
        ("Connection", Group::Connection, Place::Node),
        ("Node", Group::Server, Place::Node),
    ] {
        write!(text, "\n## {title}\n\n| command | arguments | since | time |\n|---|---|---|---|\n")
            .expect("a string");
        for row in table::TABLE.iter().filter(|row| row.group == group && row.place() == place) {
            let name = row.name.to_ascii_uppercase().replace('|', " ");
            let syntax = match row.syntax {
                "" => String::new(),
                syntax => format!("`{}`", syntax.replace('|', "\\|")),
            };
            writeln!(text, "| `{name}` | {syntax} | {} | {} |", row.since, row.complexity).expect("a string");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_document_has_every_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(START).unwrap();
    let (written, tail) = rest.split_once(END).unwrap();
    let expected = tables();
    assert!(expected.matches("\n| `").count() == table::TABLE.len(), "every row is in one of the tables");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{head}{START}{expected}{END}{tail}")).unwrap();
    } else {
        assert_eq!(written, expected, "run again with UPDATE=1");
    }
}
