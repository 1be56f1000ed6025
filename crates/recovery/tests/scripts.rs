//! Interaction scripts: event tables with expected states, waits and answers. `UPDATE=1` rewrites them.
//!
//! All begin with a line of settings, `key=value`; times are milliseconds. `at T` sets the time. Each story explains its own commands.

#[path = "stories/circuit_breaker.rs"]
mod circuit_breaker;
#[path = "stories/idempotency.rs"]
mod idempotency;
#[path = "stories/retry.rs"]
mod retry;

use keypact_simulator::script::{replay_lines, run_files};

/// One story: takes a command line, adds what came of it.
trait Story: Default {
    fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String>;
}

fn run<S: Story>(name: &str) {
    let folder = format!("{}/../../interaction/{name}", env!("CARGO_MANIFEST_DIR"));
    run_files(folder, |text| {
        let mut story = S::default();
        replay_lines(text, |line, out| {
            let words: Vec<&str> = line.split_whitespace().collect();
            story.tell(&words, out)
        })
    });
}

#[test]
fn idempotency_scripts() {
    run::<idempotency::Ledgers>("idempotency");
}

#[test]
fn retry_scripts() {
    run::<retry::Retries>("retry");
}

#[test]
fn circuit_breaker_scripts() {
    run::<circuit_breaker::Breaker>("circuit-breaker");
}

/// The value of `key=value` among these words.
fn setting<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// A number among the settings, or what it is without.
fn number_or(words: &[&str], key: &str, default: u64) -> Result<u64, String> {
    setting(words, key).map_or(Ok(default), number)
}
