//! Interaction scripts: one story a file, commands in, effects out.
//!
//! ```text
//! # What the story is, and which bug it guards against.
//!
//! nodes 3 election_ms=150
//! ----
//!
//! request n1 propose hello
//! deliver n1>n2
//! ----
//! n1 append l1 1@1 "hello"
//! n1 > n2 Append(1)          (held until l1)
//! ```
//!
//! A file is blocks between blank lines: command lines, `----`, and the output they gave. A test runs the commands again and compares;
//! with `UPDATE=1` in the environment it rewrites the output instead.
//!
//! | command | meaning |
//! |---|---|
//! | `nodes N [key=value ..]` | begins: N nodes on empty disks; the keys go to [`Story::config`], but for `chunk_bytes=` and `timers=on` (show timers being set) |
//! | `request n1 propose TEXT`, `request n1 read linearizable\|lease\|stale [key=N]` | the parent asks |
//! | `deliver [n1>n2 ..] [n1 ..] [count=N] [drop=n1>n2 ..] [all]` | delivers what is in flight on these links (from these nodes), dropping some; `all`: and what that gives rise to |
//! | `drop n1>n2`, `duplicate n1>n2` | loses, doubles what is in flight there |
//! | `delay n1>n2`, `arrive` | takes what is in flight there out of the way; all that was taken arrives now, after later messages |
//! | `hold n1>n2`, `release n1>n2` | what is and will be in flight there waits; goes on |
//! | `say n0>n1 TEXT` | n1 is told this by n0, who is not on the stage; see [`Story::said`] |
//! | `messages` | shows what is in flight |
//! | `durable n1 ..` | the disk has everything: log, checkpoint, snapshot |
//! | `hang n1`, `unhang n1` | the disk does not answer; does again |
//! | `timer n1 NAME` | the timer comes due now: time goes on to it if need be |
//! | `tick 150ms` | time goes on; due timers fire, in order |
//! | `run 2s` | the same; after each timer all is delivered and synced |
//! | `crash n1 [lose=unsynced\|none\|disk]`, `restart n1` | the process ends; begins anew; `disk`: with an empty one, see [`Story::reborn`] |
//! | `partition n1 \| n2 n3`, `cut n1>n2`, `heal` | links are cut; all whole again |
//! | `stabilize` | delivers and syncs everything until all is quiet; no time goes by |
//! | `state [n1]`, `log n1` | shows |
//! | `unreachable n1 n2` | n1 is told that n2 is gone |
//! | `checkpoint n1` | asks for a checkpoint ([`keypact_protocol::Input::Compact`]) |
//! | `skew n1 -5s`, `drift n1 200ppm` | the wall clock is off; the monotonic clock runs fast |
//! | `pause n1`, `resume n1`, `pause n1 100ms` | inputs gather; come as one batch; both, with so much time between |
//! | `quiet COMMAND` | shows only deliveries and replies |
//! | `expect-panic COMMAND` | an assertion of the protocol must fail; the process is then dead |

mod command;
mod outlet;
mod stage;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use keypact_protocol::{NodeId, Protocol};

use stage::Stage;

/// What a protocol needs to be told in scripts.
pub trait Story {
    /// The protocol.
    type Protocol: Protocol;

    /// One node's configuration.
    ///
    /// # Errors
    /// A setting that is not understood; shown to the author.
    fn config(
        &self,
        id: NodeId,
        members: &[NodeId],
        settings: &Settings,
    ) -> Result<<Self::Protocol as Protocol>::Config, String>;

    /// The node's disk was lost so often: it begins anew with an empty one.
    fn reborn(&self, config: &mut <Self::Protocol as Protocol>::Config, losses: u64) {
        let _ = (config, losses);
    }

    /// The protocol's state, in a line.
    fn state(&self, protocol: &Self::Protocol) -> String;

    /// A message, in a line.
    fn message(&self, message: &<Self::Protocol as Protocol>::Message) -> String {
        format!("{message:?}")
    }

    /// Reads a message that somebody outside the stage says, for `say`.
    ///
    /// # Errors
    /// It is not understood; shown to the author.
    fn said(&self, text: &str) -> Result<<Self::Protocol as Protocol>::Message, String> {
        Err(format!("nobody outside says `{text}` to this protocol"))
    }

    /// A record, in a line.
    fn record(&self, record: &<Self::Protocol as Protocol>::Record) -> String {
        format!("{record:?}")
    }

    /// A timer's name.
    fn timer(&self, timer: <Self::Protocol as Protocol>::Timer) -> String {
        format!("{timer:?}").to_lowercase()
    }

    /// A command's text; what is proposed in scripts is text.
    fn command(&self, command: &[u8]) -> String {
        format!("\"{}\"", String::from_utf8_lossy(command))
    }
}

/// The `key=value` settings of `nodes`.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// A setting as it stands.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A setting as a number.
    ///
    /// # Errors
    /// If it is there and no number.
    pub fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{key}={text} is no number"))
    }

    /// The names of all settings.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What is wrong with a script, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// The line, counted from 1.
    pub line: usize,
    /// What.
    pub what: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScriptError {}

/// Runs a script's commands; returns the script with the output that they gave.
///
/// # Errors
/// [`ScriptError`] if a line is not understood, or an assertion of the protocol failed unexpectedly.
pub fn replay<S: Story>(text: &str, story: S) -> Result<String, ScriptError> {
    let mut stage = Stage::new(story);
    replay_lines(text, |line, output| {
        let what = command::run(&mut stage, line);
        output.append(&mut stage.take_lines());
        what
    })
}

/// The same for what is no [`Protocol`]: `tell` runs one command line and adds what it gave to the output.
///
/// # Errors
/// [`ScriptError`] if `tell` does not understand a line.
pub fn replay_lines(
    text: &str,
    mut tell: impl FnMut(&str, &mut Vec<String>) -> Result<(), String>,
) -> Result<String, ScriptError> {
    let mut replayed = String::new();
    let mut in_output = false;
    let mut gathered: Vec<String> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_end();
        if in_output {
            // The old output is passed over, up to the blank line that ends it.
            in_output = !trimmed.is_empty();
            if !in_output {
                replayed.push('\n');
            }
            continue;
        }
        replayed.push_str(trimmed);
        replayed.push('\n');
        if trimmed == "----" {
            for output in gathered.drain(..) {
                replayed.push_str(&output);
                replayed.push('\n');
            }
            in_output = true;
        } else if !trimmed.is_empty() && !trimmed.starts_with('#') {
            tell(trimmed, &mut gathered).map_err(|what| ScriptError { line: number + 1, what })?;
        }
    }
    if !gathered.is_empty() {
        let what = "the last commands have no `----` after them".into();
        return Err(ScriptError { line: text.lines().count(), what });
    }
    Ok(replayed)
}

/// Runs every `*.txt` in `folder` and compares; with `UPDATE=1` in the environment rewrites what differs.
///
/// # Panics
/// If the folder has no script, a script fails, or (without `UPDATE=1`) its output differs: the message shows the first line that does.
pub fn run_scripts<S: Story>(folder: impl AsRef<Path>, story: impl Fn() -> S) {
    run_files(folder, |text| replay(text, story()));
}

/// The same for scripts that `replay` runs, mostly by [`replay_lines`]: it takes a script and gives it back with its output.
///
/// # Panics
/// As [`run_scripts`].
pub fn run_files(folder: impl AsRef<Path>, replay: impl Fn(&str) -> Result<String, ScriptError>) {
    let folder = folder.as_ref();
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let listed = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = listed
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no script", folder.display());
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.display();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        match replay(&text) {
            Err(error) => wrong.push(format!("{name}, {error}")),
            Ok(replayed) if replayed == text => {}
            Ok(replayed) if update => {
                std::fs::write(&path, replayed).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            Ok(replayed) => wrong.push(format!("{name}, {}", first_difference(&text, &replayed))),
        }
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE=1 rewrites the expected output)", wrong.join("\n"));
}

fn first_difference(expected: &str, got: &str) -> String {
    let mut pairs = (1..).zip(
        expected
            .lines()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(got.lines().map(Some).chain(std::iter::repeat(None))),
    );
    match pairs.find(|(_, (expected, got))| expected != got || expected.is_none()) {
        Some((line, (expected, got))) => {
            format!(
                "line {line}:\n  expected: {}\n  got:      {}",
                expected.unwrap_or("(end)"),
                got.unwrap_or("(end)")
            )
        }
        None => unreachable!("both end somewhere"),
    }
}
