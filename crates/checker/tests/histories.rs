//! The histories beside this crate have the verdicts that their table says; each format and model has a right and a wrong one.

use std::path::{Path, PathBuf};

use keypact_checker::report::Judgement;
use keypact_checker::{
    CheckError, Limits, ModelKind, Options, Problem, ReadOptions, check_expected, check_file, format,
    read_file,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("histories")
}

#[test]
fn all_rows_are_right() {
    let mut told = 0;
    let rows = check_expected(&folder().join("expected.tsv"), &Limits::default(), |_| told += 1).unwrap();
    assert_eq!(told, rows.len());
    for row in &rows {
        assert!(row.right, "{row:#?}");
    }
    for model in ModelKind::ALL {
        for valid in [true, false] {
            let of_model = |check: &str| Options::parse(check, Limits::default()).unwrap().model == model;
            assert!(rows.iter().any(|row| row.valid == valid && of_model(&row.check)), "{model:?} {valid}");
        }
    }
}

#[test]
fn a_wrong_expectation_and_an_undecided_history_count_as_wrong() {
    let table = std::env::temp_dir().join(format!("keypact-checker-expected-{}.tsv", std::process::id()));
    let file = folder().join("register-stale-read.jsonl");
    let line = |valid| format!("{}\tlinearizable:register(init nil)\t{valid}\n", file.display());
    let missing = "missing.jsonl\tlinearizable:register\ttrue\n";
    std::fs::write(&table, format!("path\tcheck\tvalid\n{}{}{missing}", line(true), line(false))).unwrap();
    let rights = |limits: &Limits| -> Vec<bool> {
        check_expected(&table, limits, |_| ()).unwrap().iter().map(|row| row.right).collect()
    };
    assert_eq!(rights(&Limits::default()), [false, true, false]);
    assert_eq!(rights(&Limits::steps(1)), [false, false, false]);

    for (text, place) in [
        ("path\tverdict\n", (1, 1)),
        ("path\tcheck\tvalid\na\tlinearizable:register\n", (2, 1)),
        ("path\tcheck\tvalid\na\tlinearizable:register\tmaybe\n", (2, 25)),
        ("path\tcheck\tvalid\na\tlinearizable:queue\ttrue\n", (2, 3)),
    ] {
        std::fs::write(&table, text).unwrap();
        match check_expected(&table, &Limits::default(), |_| ()) {
            Err(CheckError::Expected { line, column, .. }) => assert_eq!((line, column), place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    std::fs::remove_file(&table).unwrap();
}

#[test]
fn the_report_names_the_line_and_shows_two_operations() {
    let report =
        check_file(&folder().join("register-stale-read.jsonl"), &Options::new(ModelKind::Register)).unwrap();
    assert_eq!(report.verdict, Judgement::NotLinearizable);
    let violation = report.violation.as_ref().unwrap();
    assert_eq!((violation.operation.line, violation.operation.returned_line), (5, Some(6)));
    // The first write does not matter: the second one overwrote it before the read.
    let witness: Vec<&str> = violation.witness.iter().map(|operation| operation.call.as_str()).collect();
    assert_eq!(witness, ["write 2", "read"]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "not-linearizable");
    assert_eq!(json["violation"]["operation"]["answer"], "1");
    assert!(violation.text.contains("process 0 read => 1 (line 5)"), "{}", violation.text);
}

#[test]
fn operations_outside_the_model_are_refused_with_their_line() {
    let path = folder().join("cas-register-race.jsonl");
    match check_file(&path, &Options::new(ModelKind::Register)) {
        Err(CheckError::History(error)) => {
            assert_eq!((error.line, error.file.as_deref()), (3, Some(path.as_path())));
            assert!(matches!(error.problem, Problem::NotInModel { model: "register", .. }), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// Whatever we read we can write in both formats, and the verdict stays.
#[test]
fn written_histories_have_the_same_verdict() {
    let rows = check_expected(&folder().join("expected.tsv"), &Limits::default(), |_| ()).unwrap();
    let copy = std::env::temp_dir().join(format!("keypact-checker-copy-{}", std::process::id()));
    for row in rows {
        let options = Options::parse(&row.check, Limits::default()).unwrap();
        let (_, history) = read_file(&folder().join(&row.path), &options.read).unwrap();
        let options = Options { read: ReadOptions::default(), ..options };
        for text in [format::write_jsonl(&history), format::write_edn(&history)] {
            // A read of nil says nothing in EDN without keys: the one thing that it can't hold.
            std::fs::write(&copy, text).unwrap();
            let report = check_file(&copy, &options).unwrap();
            assert_eq!(report.verdict == Judgement::Linearizable, row.valid, "{}: {report:#?}", row.path);
        }
    }
    std::fs::remove_file(&copy).unwrap();
}
