//! `keypact lab`: what the textbook claims of the patterns, measured.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keypact_lab::claims::{self, CLAIMS, CapEnd, CapRow, Effort, Figure, Measured, NOT_HERE, Side};

use crate::failure::Failure;
use crate::output::{note, say, say_json, table};

const AFTER: &str = "\
Examples:
  keypact lab claims                          all claims, one after the other
  keypact lab claims 1 35                     two of them
  keypact lab claims --html claims.html       a page with plots that opens without a network
  keypact lab claims --list
  keypact lab cap                             each replication, cut in two";

const CLAIMS_AFTER: &str = "\
Examples:
  keypact lab claims 1 35                     two of them
  keypact lab claims 35 --seeds 20            with more seeds
  keypact lab claims --html claims.html       a page with plots that opens without a network
  keypact lab claims --list

Exit codes: 0 measured, whatever the verdicts are; 1 a control did not come out otherwise, so that a measurement shows less than it \
should; 2 can't be run.";

const CAP_AFTER: &str = "\
Examples:
  keypact lab cap
  keypact lab cap --seed 7 --json

Simulated: three nodes each of Raft, chain, leader-follower and gossip; node 1, which leads where somebody does, is cut off for 5 s. Equal seeds, equal answers.";

/// Measure what the textbook claims of the patterns
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Lab {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Claims(Claims),
    Cap(Cap),
}

/// Measure the textbook's claims, each beside a control in which it should fail
#[derive(Args)]
#[command(after_help = CLAIMS_AFTER)]
struct Claims {
    /// Numbers of claims [default: all]
    #[arg(value_name = "N")]
    numbers: Vec<u8>,
    /// List the claims and measure none
    #[arg(long, conflicts_with_all = ["numbers", "html"])]
    list: bool,
    /// Seeds for each simulated figure; claims about safety take many for each
    #[arg(long, value_name = "N", default_value_t = Effort::default().seeds)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = Effort::default().first_seed)]
    first_seed: u64,
    /// Write a page with plots, which needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Cut through a group of each replication, and show what each side answers, and how it ends
#[derive(Args)]
#[command(after_help = CAP_AFTER)]
struct Cap {
    /// The seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Lab {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Claims(claims) => claims.run(),
            What::Cap(cap) => cap.run(),
        }
    }
}

impl Claims {
    fn run(self) -> Result<(), Failure> {
        if self.list {
            return list(self.json);
        }
        let effort = Effort { seeds: self.seeds, first_seed: self.first_seed };
        let mut shown = |measured: &Measured| {
            if !self.json {
                say(text(measured));
            } else {
                note(format!("claim {}: {}", measured.number, measured.finding.verdict.words()));
            }
        };
        let report = claims::claims(&self.numbers, effort, &mut shown).map_err(Failure::cannot)?;
        if let Some(path) = &self.html {
            std::fs::write(path, claims::html(&report))
                .map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))?;
            note(format!("wrote {}", path.display()));
        }
        if self.json {
            say_json(&report)?;
        }
        let weak: Vec<_> = report.claims.iter().filter(|claim| !claim.finding.control.differs).collect();
        if weak.is_empty() {
            return Ok(());
        }
        let numbers: Vec<_> = weak.iter().map(|claim| claim.number.to_string()).collect();
        let text = format!(
            "the control of {} did not come out otherwise: that measurement shows less than it should",
            numbers.join(", ")
        );
        Err(Failure::wrong(text))
    }
}

fn list(json: bool) -> Result<(), Failure> {
    if json {
        let entry = |claim: &claims::Claim| serde_json::json!({ "number": claim.number, "part": claim.part, "claim": claim.text, "how": claim.how });
        let entries: Vec<_> = CLAIMS.iter().map(entry).collect();
        return say_json(&serde_json::json!({ "claims": entries, "not_here": NOT_HERE }));
    }
    let here =
        CLAIMS.iter().map(|claim| [claim.number.to_string(), claim.part.into(), claim.text.into()].to_vec());
    say(table(&["number", "part", "claim"], &["number"], &here.collect::<Vec<_>>()));
    if !NOT_HERE.is_empty() {
        let rest = NOT_HERE
            .iter()
            .map(|claim| [claim.number.to_string(), claim.claim.into(), claim.why.into()].to_vec());
        say(table(&["number", "not measured here", "why"], &["number"], &rest.collect::<Vec<_>>()));
    }
    Ok(())
}

/// A claim with its figures, for people.
fn text(measured: &Measured) -> String {
    let finding = &measured.finding;
    let mut text = format!(
        "{}. {}: {}\n   {}\n",
        measured.number,
        measured.claim,
        finding.verdict.words().to_uppercase(),
        finding.because
    );
    let mut add = |figures: &[Figure]| {
        for figure in figures {
            text.push_str(&format!("     {:<56} {:>14} {}\n", figure.name, shown(figure.value), figure.unit));
        }
    };
    add(&finding.figures);
    let failed = if finding.control.differs {
        "it comes out otherwise, as it should"
    } else {
        "IT DOES NOT COME OUT OTHERWISE"
    };
    let control = format!("   control: {}; {failed}\n", finding.control.what);
    let mut rest = String::new();
    for figure in &finding.control.figures {
        rest.push_str(&format!("     {:<56} {:>14} {}\n", figure.name, shown(figure.value), figure.unit));
    }
    text.push_str(&control);
    text.push_str(&rest);
    text.push_str(&format!("   {} seeds, {:.1} s; {}\n", finding.seeds, measured.seconds, measured.command));
    text
}

/// A number with about three digits.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size == size.trunc() || size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

impl Cap {
    fn run(self) -> Result<(), Failure> {
        let report = claims::cap(self.seed);
        if self.json {
            return say_json(&report);
        }
        say(format!(
            "Node 1, which leads where somebody leads, is cut off from nodes 2 and 3 for {} s.\n",
            report.cut_s
        ));
        let seconds =
            |value: Option<f64>| value.map_or_else(|| String::from("-"), |value| format!("{value:.2} s"));
        let cells = |row: &CapRow| {
            let side = if row.side == Side::One { "node 1" } else { "nodes 2, 3" };
            [
                row.replication.to_owned(),
                side.to_owned(),
                row.operation.to_owned(),
                format!("{:.0} %", row.available_percent),
                seconds(row.stopped_after_s),
                seconds(row.resumed_after_s),
                seconds(row.after_healing_s),
            ]
            .to_vec()
        };
        let head =
            ["replication", "side", "asked", "answered", "stops after", "resumes after", "after healing"];
        say(table(&head, &head[3..], &report.rows.iter().map(cells).collect::<Vec<_>>()));
        say("If nobody writes after the healing:\n");
        let cells = |end: &CapEnd| {
            [
                end.replication.to_owned(),
                seconds(end.agree_after_s),
                end.acknowledged.to_string(),
                end.lost.to_string(),
            ]
            .to_vec()
        };
        let head = ["replication", "all agree after", "acknowledged", "of these lost"];
        say(table(&head, &head[1..], &report.ends.iter().map(cells).collect::<Vec<_>>()));
        Ok(())
    }
}
