//! Runs seeds of scenario `node` and prints what fails: `seeds FIRST COUNT`.

use keypact_lab::NodeScenario;
use keypact_simulator::{Report, run_seed};

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("a number"));
    let first = args.next().unwrap_or(1);
    let count = args.next().unwrap_or(20);
    let mut all = Report::default();
    for seed in first..first + count {
        let printer: Option<keypact_simulator::Printer> =
            (count == 1).then(|| Box::new(|line: std::fmt::Arguments<'_>| println!("{line}")) as _);
        let report = run_seed(&NodeScenario, seed, printer);
        for failure in &report.failures {
            println!("seed {}: {}", failure.seed, failure.violation);
        }
        all.merge(&report);
    }
    println!("{all:#?}");
}
