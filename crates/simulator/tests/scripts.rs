//! Interaction scripts, shown on the toy protocol; and what the runner says to a script that is wrong.

mod primary;

use keypact_protocol::NodeId;
use keypact_simulator::script::{Settings, Story, replay, run_scripts};
use primary::{Bug, Config, Entry, Message, Primary};

struct Toy;

impl Story for Toy {
    type Protocol = Primary;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let bug = match settings.text("bug") {
            None => Bug::None,
            Some("panics") => Bug::Panics,
            Some(other) => return Err(format!("no bug {other}")),
        };
        let checkpoint_every = settings.number("checkpoint_every")?.unwrap_or(100);
        Ok(Config { id, nodes: members.len() as u64, bug, checkpoint_every })
    }

    fn state(&self, primary: &Primary) -> String {
        format!("last {} commit {}", primary.last(), primary.commit())
    }

    fn message(&self, message: &Message) -> String {
        match message {
            Message::Append { entries, commit } => {
                let indices: Vec<u64> = entries.iter().map(|entry| entry.index).collect();
                format!("append {indices:?} commit {commit}")
            }
            Message::Chunk(chunk) => format!("chunk {}", chunk.chunk),
            other => format!("{other:?}"),
        }
    }

    fn record(&self, entry: &Entry) -> String {
        format!("{} {}", entry.index, self.command(&entry.command))
    }
}

#[test]
fn scripts() {
    run_scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"), || Toy);
}

fn error_of(script: &str) -> String {
    replay(script, Toy).expect_err("the script is wrong").to_string()
}

#[test]
fn a_wrong_script_is_told_where_and_why() {
    let cases = [
        ("deliver\n----\n", "line 1: a script begins with `nodes`"),
        ("nodes 0\n----\n", "line 1: between 1 and 9 nodes"),
        ("nodes 3\njump n1\n----\n", "line 2: what is `jump`?"),
        ("nodes 3\ncrash n4\n----\n", "line 2: there is no n4"),
        ("nodes 3\ntimer n1 election\n----\n", "line 2: n1 has no timer election; set are: resend"),
        ("nodes 3\ndeliver\n----\n", "line 2: nothing to deliver"),
        ("nodes 3\ntick 10\n----\n", "line 2: `10` is no duration; `150ms` is"),
        ("nodes 3\nrestart n1\n----\n", "line 2: n1 is alive"),
        ("nodes 3\nhang n1\ndurable n1\n----\n", "line 3: the disk of n1 hangs"),
        ("nodes 3 bug=big\n----\n", "line 1: no bug big"),
        ("nodes 3\nexpect-panic request n1 propose a\n----\n", "line 2: no assertion failed"),
        ("nodes 3\nrequest n1 propose a\n", "line 2: the last commands have no `----` after them"),
    ];
    for (script, expected) in cases {
        assert_eq!(error_of(script), expected, "{script}");
    }
}

#[test]
fn an_assertion_that_fails_fails_the_script() {
    let mut script = String::from("nodes 1 bug=panics\n");
    for _ in 0..20 {
        script.push_str("request n1 propose a\n");
    }
    script.push_str("----\n");
    assert!(error_of(&script).starts_with("line 21: n1 panics: planted panic"), "{}", error_of(&script));
}

#[test]
fn old_output_is_replaced_and_comments_stay() {
    let script = "# A story.\n\nnodes 1\n----\nnonsense\n\n# More.\nrequest n1 propose a\n----\nold\n";
    let replayed = replay(script, Toy).expect("the script is right");
    let expected =
        "# A story.\n\nnodes 1\n----\n\n# More.\nrequest n1 propose a\n----\nn1 append l1 1 \"a\"\n";
    assert_eq!(replayed, expected);
}
