//! `cargo xtask bench`: every criterion bench of the workspace, briefly, in one table.

use crate::process::{Failure, Task};
use crate::repository::Repository;

/// One benchmark's figures, as criterion printed them.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    time: String,
    throughput: String,
}

/// Runs the benches of all packages whose benchmark names contain `filter`, and prints a table.
///
/// # Errors
///
/// If a bench does not build or run, or if nothing was measured.
pub(crate) fn bench(repository: &Repository, filter: Option<&str>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for package in &repository.packages {
        for name in package.benches() {
            eprintln!("{} {name}", package.bare_name());
            let task =
                Task::cargo(repository, ["bench", "--quiet", "-p", &package.name, "--bench", name, "--"])
                    .arguments(["--quick", "--noplot"])
                    .arguments(filter);
            rows.extend(measured(&task.output()?));
        }
    }
    if rows.is_empty() {
        return Err(Failure::found("no benchmark ran: no bench target, or no name contains the filter"));
    }
    print!("{}", table(&rows));
    Ok(())
}

/// The middle one of criterion's `[low middle high]`.
fn middle(interval: &str) -> Option<String> {
    let words: Vec<&str> = interval.trim().strip_prefix('[')?.strip_suffix(']')?.split_whitespace().collect();
    let [_, _, value, unit, _, _] = words[..] else { return None };
    Some(format!("{value} {unit}"))
}

/// Criterion writes `name   time:   [..]`, with a long name on a line of its own before; `thrpt:` may follow.
fn measured(output: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut before = "";
    for line in output.lines() {
        if let Some((name, interval)) = line.split_once("time:") {
            let name = if name.trim().is_empty() { before.trim() } else { name.trim() };
            if let Some(time) = middle(interval) {
                rows.push(Row { name: name.to_string(), time, throughput: String::new() });
            }
        } else if let Some((_, interval)) = line.split_once("thrpt:")
            && let (Some(row), Some(throughput)) = (rows.last_mut(), middle(interval))
        {
            row.throughput = throughput;
        }
        before = line;
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let line = |row: &Row| {
        let text = format!("{:width$}  {:>12}  {:>14}", row.name, row.time, row.throughput);
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_criterions_output() {
        let output = "\
Benchmarking decode/set
decode/set              time:   [1.0000 µs 1.1000 µs 1.2000 µs]
                        thrpt:  [10.000 MiB/s 11.000 MiB/s 12.000 MiB/s]
a/name/so/long/that/criterion/breaks/the/line
                        time:   [5.0000 ns 6.0000 ns 7.0000 ns]
                        change: [-1.0% +0.0% +1.0%] (p = 0.50 > 0.05)
broken                  time:   [1.0]
";
        let row = |name: &str, time: &str, throughput: &str| Row {
            name: name.to_string(),
            time: time.to_string(),
            throughput: throughput.to_string(),
        };
        let long = "a/name/so/long/that/criterion/breaks/the/line";
        let rows = [row("decode/set", "1.1000 µs", "11.000 MiB/s"), row(long, "6.0000 ns", "")];
        assert_eq!(measured(output), rows);

        let drawn = "\
decode/set                                        1.1000 µs    11.000 MiB/s
a/name/so/long/that/criterion/breaks/the/line     6.0000 ns
";
        assert_eq!(table(&rows), drawn);
    }
}
