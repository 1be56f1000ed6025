//! Interaction scripts of the partitioners: golden tables, commands in, drawings out. `interaction/{range,hash,ring}/*.txt`.

mod stories;

use keypact_simulator::script::{replay_lines, run_files};
use stories::Story;

fn run(folder: &str) {
    let path = format!("{}/../../interaction/{folder}", env!("CARGO_MANIFEST_DIR"));
    run_files(path, |text| {
        let mut story = Story::default();
        replay_lines(text, |line, output| {
            let words: Vec<&str> = line.split_whitespace().collect();
            story.tell(&words, output)
        })
    });
}

#[test]
fn range() {
    run("range");
}

#[test]
fn hash() {
    run("hash");
}

#[test]
fn ring() {
    run("ring");
}
