//! Checks histories by hand: `check --expected FILE.tsv`, or `check MODEL [--init VALUE] FILE..`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use keypact_checker::{Initial, Limits, ModelKind, Options, check_expected, check_file};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--expected", table] => expected(Path::new(table)),
        [model, "--init", initial, files @ ..] => check(model, Initial::parse(initial), files),
        [model, files @ ..] => check(model, Initial::Usual, files),
        [] => {
            eprintln!("check --expected FILE.tsv | check MODEL [--init VALUE] FILE..");
            ExitCode::from(2)
        }
    }
}

fn expected(table: &Path) -> ExitCode {
    let start = Instant::now();
    let rows = check_expected(table, &Limits::default(), |row| {
        let (verdict, ms) = row
            .report
            .as_ref()
            .map_or(("-".to_owned(), 0.0), |report| (format!("{:?}", report.verdict), report.elapsed_ms));
        let mark = if row.right { "right" } else { "WRONG" };
        println!("{mark} {verdict:16} {ms:10.2} ms  {} {}", row.path, row.error.as_deref().unwrap_or(""));
    });
    match rows {
        Ok(rows) => {
            let right = rows.iter().filter(|row| row.right).count();
            println!("{right} of {} rows right, {:.3} s", rows.len(), start.elapsed().as_secs_f64());
            ExitCode::from(u8::from(right != rows.len()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn check(model: &str, initial: Initial, files: &[&str]) -> ExitCode {
    let Some(model) = ModelKind::from_name(model) else {
        eprintln!("no model {model:?}");
        return ExitCode::from(2);
    };
    for file in files {
        let options = Options { initial: initial.clone(), ..Options::new(model.clone()) };
        match check_file(Path::new(file), &options) {
            Ok(report) => {
                println!(
                    "{file}: {:?}, {} operations, {:.2} ms",
                    report.verdict, report.operations, report.elapsed_ms
                );
                if let Some(violation) = report.violation {
                    println!("{}", violation.text);
                }
            }
            Err(error) => println!("{error}"),
        }
    }
    ExitCode::SUCCESS
}
