//! The simulator is played by a shell script that prints what a real one would: so a missed plant, a violation, a crash, a hang
//! and a trace that differs are each seen to be judged as they must be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;

/// A script in a file of its own, removed when dropped.
struct Script(PathBuf);

impl Script {
    /// In `body`, `$seeds` is the argument of `--seeds`.
    fn new(body: &str) -> Script {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keypact-xtask-{}-{number}.sh", std::process::id()));
        let find = "for a in \"$@\"; do case $a in *..*) seeds=$a;; esac; done";
        fs::write(&path, format!("#!/bin/sh\n{find}\n{body}\n"))
            .expect("the temporary folder can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is our file");
        Script(path)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn repository() -> Repository {
    Repository::find().expect("the tests run in the repository")
}

const SHORT: Budget = Budget { seeds: 30, time: Duration::from_secs(20) };

const CLEAN: &str = r#"echo '{"violations":[],"sometimes":{"leader_changed":1},"trace_hash":"aa"}'"#;
const VIOLATED: &str = r#"echo '{"violations":[{"seed":7,"property":"election safety","command":"keypact sim --seed 7"}],
"sometimes":{"leader_changed":1},"trace_hash":"aa","extra":1}'; exit 1"#;
const VACUOUS: &str =
    r#"echo '{"violations":[],"sometimes":{"leader_changed":0},"trace_hash":"aa"}'; exit 1"#;

#[test]
fn a_plant_is_caught_by_a_violation_and_by_nothing_else() {
    let rows = [
        (VIOLATED, "seed 7: election safety; keypact sim --seed 7"),
        (CLEAN, "not caught in 30 seeds"),
        (VACUOUS, "not caught in 30 seeds"),
        ("exit 2", "ended with exit status: 2"),
        ("exit 101", "ended with exit status: 101"),
        ("kill -9 $$", "ended with signal: 9"),
        ("echo hello", "printed something else"),
        (r#"echo '{"violations":[],"trace_hash":"aa"}'; exit 1"#, "exit 1 without a violation"),
    ];
    for (body, expected) in rows {
        let script = Script::new(body);
        let said = match catch(&repository(), &script.0, "bug", SHORT) {
            Ok(violation) => violation.to_string(),
            Err(failure) => failure.to_string(),
        };
        assert!(said.contains(expected), "{body}: {said}");
    }
}

#[test]
fn a_run_that_hangs_is_not_a_catch() {
    let script = Script::new("sleep 1000");
    let budget = Budget { seeds: 200, time: Duration::from_millis(200) };
    let failure = catch(&repository(), &script.0, "bug", budget).expect_err("nothing was caught");
    assert!(matches!(failure, Failure::TooLong { .. }), "{failure}");
}

#[test]
fn fresh_seeds_are_all_run_and_judged_together() {
    // Ten seeds, then the twenty that are left: only in the second run the counter rises.
    let rare = r#"case $seeds in 100..110) n=0;; 110..130) n=1;; *) exit 3;; esac
echo "{\"violations\":[],\"sometimes\":{\"conflict\":$n},\"trace_hash\":\"aa\"}"; [ $n = 1 ]"#;
    let rows: [(&str, &[&str]); 4] = [
        (rare, &[]),
        (CLEAN, &[]),
        (VACUOUS, &["`leader_changed` never happened in 30 seeds"]),
        (VIOLATED, &["seed 7: election safety; keypact sim --seed 7"]),
    ];
    for (body, wrong) in rows {
        let script = Script::new(body);
        let swept = sweep(&repository(), &script.0, "raft", 100, SHORT).expect("each run has a verdict");
        assert_eq!(swept.wrong(), wrong, "{body}");
        assert_eq!(swept.seeds, if body == VIOLATED { 10 } else { 30 });
    }
}

#[test]
fn a_report_fits_its_exit_code() {
    let violation = json!([{ "seed": 1, "property": "p" }]);
    let rows = [
        (true, json!([]), json!({ "a": 1 }), None),
        (true, json!([]), json!({ "a": 0 }), None),
        (false, violation.clone(), json!({ "a": 1 }), None),
        (false, json!([]), json!({ "a": 0 }), None),
        (false, json!([]), json!({ "a": 1 }), Some("exit 1 without a violation")),
        (true, violation, json!({ "a": 1 }), Some("exit 0 with violations")),
    ];
    for (success, violations, sometimes, wrong) in rows {
        let json = json!({ "violations": violations, "sometimes": sometimes, "trace_hash": "aa" });
        let report = serde_json::from_value(json).expect("a report");
        assert_eq!(judged(success, report).err(), wrong);
    }
}

#[test]
fn the_simulator_is_called_as_documented() {
    let run = |scenario, plant| Run {
        binary: Path::new("keypact"),
        scenario,
        plant,
        seeds: (5, 25),
        limit: Duration::from_secs(1),
    };
    let rows = [
        (run(Some("raft"), None), "sim --scenario raft --seeds 5..25 --json"),
        (run(None, Some("bug")), "sim --plant bug --seeds 5..25 --json"),
    ];
    for (run, line) in rows {
        assert_eq!(run.arguments().join(" "), line);
    }
}

#[test]
fn seeds_are_planned_by_what_they_took() {
    let budget = Budget { seeds: 200, time: Duration::from_secs(20) };
    let rows = [
        (0, 0, 10),
        // Ten in a second: eight a second over the 19 that are left.
        (10, 1_000, 152),
        (10, 1, 190),
        (10, 15_000, 2),
        (10, 19_999, 1),
        (199, 100, 1),
        (10, 0, 190),
    ];
    for (done, elapsed_ms, count) in rows {
        assert_eq!(
            next_seeds(done, Duration::from_millis(elapsed_ms), budget),
            count,
            "{done} in {elapsed_ms} ms"
        );
    }
    assert_eq!(next_seeds(0, Duration::ZERO, Budget { seeds: 4, ..budget }), 4);
}

#[test]
fn names_are_read_from_each_shape_of_list() {
    let both = Some(vec!["raft".to_string(), "node".to_string()]);
    let rows = [
        (r#"["raft", "node"]"#, both.clone()),
        (r#"[{"name": "raft", "about": "x"}, {"name": "node"}]"#, both.clone()),
        (r#"{"scenarios": ["raft", "node"]}"#, both.clone()),
        (r#"{"scenarios": [{"name": "raft"}, {"name": "node"}]}"#, both),
        ("[]", None),
        ("[1]", None),
        (r#"{"plants": ["x"]}"#, None),
        ("raft\nnode", None),
    ];
    for (json, expected) in rows {
        assert_eq!(names(json, "scenarios"), expected, "{json}");
    }
}

#[test]
fn traces_differ_unless_all_are_equal_and_there() {
    let rows = [
        (vec![json!("aa"), json!("aa"), json!("aa")], None),
        (vec![json!(5), json!(5)], None),
        (vec![json!("aa"), json!("ab")], Some("a \"aa\", b \"ab\"")),
        (vec![json!(""), json!("")], Some("a \"\", b \"\"")),
        (vec![Value::Null, Value::Null], Some("a null, b null")),
    ];
    for (hashes, expected) in rows {
        let named: Vec<(&str, Value)> = ["a", "b", "c"].into_iter().zip(hashes).collect();
        assert_eq!(unequal(&named).as_deref(), expected);
    }
}

#[test]
fn fresh_seeds_differ_and_are_short() {
    let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| fresh_seed()).collect();
    assert!(seeds.len() > 1);
    assert!(seeds.iter().all(|seed| *seed < SEED_SPACE));
}
