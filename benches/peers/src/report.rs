//! The results, as tables for people and as JSON.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::compare::{Cell, Placement, Row, Spread, Summary};
use crate::failover::{Failovers, Runs};
use crate::floor::{Floor, Step, WRITERS};
use crate::generator::Sample;
use crate::raft::Proposals;
use crate::recovery::Cost;
use crate::systems::Explained;
use crate::targets::Target;

/// All that a run gave.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The peer's name.
    pub(crate) peer: &'static str,
    /// How it was measured.
    pub(crate) settings: Vec<(&'static str, Value)>,
    /// The sides and their durability.
    pub(crate) sides: Vec<Explained>,
    /// Throughput and latency.
    pub(crate) rows: Vec<Row>,
    /// In process, against raft-rs.
    pub(crate) proposals: Vec<Proposals>,
    /// In process, against other libraries.
    pub(crate) costs: Vec<Cost>,
    /// The disk and the loopback.
    pub(crate) floor: Option<Floor>,
    /// The generator against an echo.
    pub(crate) echo: Option<Vec<(Cell, Sample)>>,
    /// Killed leaders.
    pub(crate) failovers: Option<Failovers>,
    /// What was wanted.
    pub(crate) targets: Vec<Target>,
}

fn round_to(figure: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (figure * scale).round() / scale
}

fn placement_name(placement: Placement) -> &'static str {
    match placement {
        Placement::Leader => "leader",
        Placement::Spread => "spread",
    }
}

impl Report {
    /// The report as JSON. Fields are added in later versions, never renamed.
    pub(crate) fn json(&self) -> Value {
        let settings: Map<String, Value> =
            self.settings.iter().map(|(name, value)| (String::from(*name), value.clone())).collect();
        let sides: Map<String, Value> =
            self.sides.iter().map(|(name, what)| (String::from(*name), json!(what))).collect();
        let mut rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        rows.extend(self.proposals.iter().map(proposals_json));
        rows.extend(self.costs.iter().map(cost_json));
        json!({
            "peer": self.peer,
            "settings": settings,
            "sides": sides,
            "rows": rows,
            "floor": self.floor.as_ref().map(floor_json),
            "echo": self.echo.as_ref().map(|echo| echo.iter().map(echo_json).collect::<Vec<Value>>()),
            "failover": self.failovers.as_ref().map(|failovers| json!({
                "ours": runs_json(&failovers.ours),
                "theirs": runs_json(&failovers.theirs),
            })),
            "targets": self.targets.iter().map(target_json).collect::<Vec<Value>>(),
        })
    }

    /// The report as tables.
    pub(crate) fn text(&self) -> String {
        let mut parts = Vec::new();
        let lines = |pairs: Vec<String>| pairs.join("\n");
        parts.push(lines(self.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect()));
        if !self.sides.is_empty() {
            parts.push(lines(self.sides.iter().map(|(name, what)| format!("{name}: {what}")).collect()));
        }
        parts.extend(
            pairs(&self.rows).into_iter().map(|(title, rows)| format!("{title}\n{}", rows_table(&rows))),
        );
        if !self.proposals.is_empty() {
            parts.push(format!(
                "Raft in process, three nodes in memory, one thread\n{}",
                proposals_table(&self.proposals)
            ));
        }
        if !self.costs.is_empty() {
            parts.push(format!("A call, in process, one thread\n{}", costs_table(&self.costs)));
        }
        if let Some(echo) = &self.echo {
            parts.push(format!("Echo under the same generator\n{}", echo_table(echo)));
        }
        if let Some(floor) = &self.floor {
            parts.push(format!("Floor\n{}", floor_table(floor)));
        }
        if let Some(failovers) = &self.failovers {
            parts.push(format!("Leader killed with SIGKILL, one writer\n{}", failover_table(failovers)));
        }
        if !self.targets.is_empty() {
            parts.push(format!("Targets\n{}", targets_table(&self.targets)));
        }
        parts.join("\n\n")
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Rows of the same two sides, together.
fn pairs(rows: &[Row]) -> Vec<(String, Vec<&Row>)> {
    let mut grouped: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let title = format!("{} beside {}", row.ours_name, row.theirs_name);
        match grouped.last_mut().filter(|group| group.0 == title) {
            Some(group) => group.1.push(row),
            None => grouped.push((title, vec![row])),
        }
    }
    grouped
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| String::from("-"), |value| format!("{value:.digits$}"))
}

fn spread_text(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || String::from("-"),
        |Spread { median, min, max }| format!("{median:.digits$} ({min:.digits$}..{max:.digits$})"),
    )
}

/// Two figures of one side: p50/p99, or processor time of servers/generator.
fn two(summary: Option<Summary>, digits: usize, pick: fn(&Sample) -> (f64, f64)) -> String {
    summary.map_or_else(
        || String::from("-"),
        |summary| {
            let (first, second) = pick(&summary.0);
            format!("{first:.digits$}/{second:.digits$}")
        },
    )
}

const LATENCIES: fn(&Sample) -> (f64, f64) = |sample| (sample.p50_us, sample.p99_us);
const PROCESSORS: fn(&Sample) -> (f64, f64) = |sample| (sample.server_cpu_us, sample.generator_cpu_us);

fn rows_table(rows: &[&Row]) -> String {
    let head = [
        "op",
        "at",
        "bytes",
        "clients",
        "pipe",
        "ours/s",
        "theirs/s",
        "ratio",
        "ours p50/p99 us",
        "theirs p50/p99 us",
        "ours cpu us, server/generator",
        "theirs cpu us",
    ];
    let line = |row: &&Row| {
        let ops = |side: Option<Summary>| figure(side.map(|side| side.0.ops_per_s), 0);
        [
            String::from(row.op),
            String::from(placement_name(row.cell.placement)),
            row.cell.value_bytes.to_string(),
            row.cell.clients.to_string(),
            row.cell.pipelining.to_string(),
            ops(row.ours),
            ops(row.theirs),
            spread_text(row.ratio, 2),
            two(row.ours, 0, LATENCIES),
            two(row.theirs, 0, LATENCIES),
            two(row.ours, 1, PROCESSORS),
            two(row.theirs, 1, PROCESSORS),
        ]
    };
    table(head, rows.iter().map(line))
}

fn row_json(row: &Row) -> Value {
    let of = |side: Option<Summary>, pick: fn(&Sample) -> f64, digits| {
        side.map(|summary| round_to(pick(&summary.0), digits))
    };
    let ratio = |pick: fn(Spread) -> f64| row.ratio.map(|spread| round_to(pick(spread), 3));
    json!({
        "op": row.op,
        "clients": row.cell.clients,
        "pipelining": row.cell.pipelining,
        "value_bytes": row.cell.value_bytes,
        "placement": placement_name(row.cell.placement),
        "ours_side": row.ours_name,
        "theirs_side": row.theirs_name,
        "ours": of(row.ours, |sample| sample.ops_per_s, 1),
        "theirs": of(row.theirs, |sample| sample.ops_per_s, 1),
        "ratio": ratio(|spread| spread.median),
        "ratio_min": ratio(|spread| spread.min),
        "ratio_max": ratio(|spread| spread.max),
        "ours_p50_us": of(row.ours, |sample| sample.p50_us, 1),
        "ours_p99_us": of(row.ours, |sample| sample.p99_us, 1),
        "theirs_p50_us": of(row.theirs, |sample| sample.p50_us, 1),
        "theirs_p99_us": of(row.theirs, |sample| sample.p99_us, 1),
        "ours_cpu_us": of(row.ours, |sample| sample.server_cpu_us, 2),
        "theirs_cpu_us": of(row.theirs, |sample| sample.server_cpu_us, 2),
        "ours_generator_cpu_us": of(row.ours, |sample| sample.generator_cpu_us, 2),
        "theirs_generator_cpu_us": of(row.theirs, |sample| sample.generator_cpu_us, 2),
        "ours_refused": row.ours.map(|summary| summary.0.refused),
        "theirs_refused": row.theirs.map(|summary| summary.0.refused),
        "rounds": row.rounds.len(),
        "each_round": row.rounds.iter().map(|(ours, theirs)| json!([round_to(*ours, 1), round_to(*theirs, 1)])).collect::<Vec<Value>>(),
    })
}

fn proposals_table(proposals: &[Proposals]) -> String {
    let head = ["clients", "ours/s", "theirs/s", "ratio"];
    let line = |row: &Proposals| {
        [
            row.clients.to_string(),
            figure(row.ours.map(|spread| spread.median), 0),
            figure(row.theirs.map(|spread| spread.median), 0),
            spread_text(row.ratio, 2),
        ]
    };
    table(head, proposals.iter().map(line))
}

fn proposals_json(row: &Proposals) -> Value {
    let median = |spread: Option<Spread>| spread.map(|spread| round_to(spread.median, 1));
    json!({
        "op": "propose",
        "clients": row.clients,
        "value_bytes": row.command_bytes,
        "ours": median(row.ours),
        "theirs": median(row.theirs),
        "ratio": row.ratio.map(|ratio| round_to(ratio.median, 3)),
        "ratio_min": row.ratio.map(|ratio| round_to(ratio.min, 3)),
        "ratio_max": row.ratio.map(|ratio| round_to(ratio.max, 3)),
        "rounds": row.rounds,
    })
}

fn echo_table(echo: &[(Cell, Sample)]) -> String {
    let head = ["bytes", "clients", "messages/s", "p50/p99 us", "cpu us, server/generator"];
    let line = |(cell, sample): &(Cell, Sample)| {
        [
            cell.value_bytes.to_string(),
            cell.clients.to_string(),
            format!("{:.0}", sample.ops_per_s),
            two(Some(Summary(*sample)), 0, LATENCIES),
            two(Some(Summary(*sample)), 1, PROCESSORS),
        ]
    };
    table(head, echo.iter().map(line))
}

fn echo_json((cell, sample): &(Cell, Sample)) -> Value {
    json!({
        "clients": cell.clients,
        "value_bytes": cell.value_bytes,
        "messages_per_s": round_to(sample.ops_per_s, 1),
        "p50_us": round_to(sample.p50_us, 1),
        "p99_us": round_to(sample.p99_us, 1),
        "server_cpu_us": round_to(sample.server_cpu_us, 2),
        "generator_cpu_us": round_to(sample.generator_cpu_us, 2),
    })
}

fn costs_table(costs: &[Cost]) -> String {
    let head = ["call", "peer", "ours ns", "theirs ns", "ratio, median (min..max)"];
    let line = |cost: &Cost| {
        [
            String::from(cost.call),
            String::from(cost.peer),
            spread_text(cost.ours_ns, 1),
            spread_text(cost.theirs_ns, 1),
            spread_text(cost.ratio, 2),
        ]
    };
    table(head, costs.iter().map(line))
}

fn cost_json(cost: &Cost) -> Value {
    let median = |spread: Option<Spread>| spread.map(|spread| round_to(spread.median, 2));
    json!({
        "op": cost.call,
        "ours_side": "keypact-recovery",
        "theirs_side": cost.peer,
        "ours_ns": median(cost.ours_ns),
        "theirs_ns": median(cost.theirs_ns),
        "ratio": median(cost.ratio),
        "ratio_min": cost.ratio.map(|ratio| round_to(ratio.min, 3)),
        "ratio_max": cost.ratio.map(|ratio| round_to(ratio.max, 3)),
        "rounds": cost.rounds,
    })
}

fn floor_table(floor: &Floor) -> String {
    let head = ["step", "p50 us", "p99 us", "per s"];
    let together = format!("4 KiB + fdatasync, {WRITERS} writers at once");
    let steps = [
        ("4 KiB + fdatasync, one writer", floor.alone),
        (together.as_str(), floor.together),
        ("64 bytes over the loopback and back", floor.round_trip),
    ];
    let line = |(name, step): (&str, Step)| {
        [
            String::from(name),
            format!("{:.0}", step.p50_us),
            format!("{:.0}", step.p99_us),
            format!("{:.0}", step.per_s),
        ]
    };
    let sum = format!(
        "{WRITERS} writers' fdatasync and a round trip: {:.0} us",
        floor.together.p50_us + floor.round_trip.p50_us
    );
    format!("{}\n{sum}", table(head, steps.into_iter().map(line)))
}

fn floor_json(floor: &Floor) -> Value {
    let step = |step: Step| {
        json!({
            "p50_us": round_to(step.p50_us, 1),
            "p99_us": round_to(step.p99_us, 1),
            "per_s": round_to(step.per_s, 1),
        })
    };
    json!({
        "fdatasync_one_writer": step(floor.alone),
        "fdatasync_three_writers": step(floor.together),
        "round_trip": step(floor.round_trip),
        "sum_p50_us": round_to(floor.together.p50_us + floor.round_trip.p50_us, 1),
    })
}

fn failover_table(failovers: &Failovers) -> String {
    let head = ["side", "runs", "write gap ms, median (min..max)", "acknowledged", "lost"];
    let sides = [("ours", &failovers.ours), ("theirs", &failovers.theirs)];
    let line = |(name, runs): (&str, &Runs)| {
        [
            String::from(name),
            runs.gaps_ms.len().to_string(),
            spread_text(runs.spread(), 0),
            runs.acknowledged.to_string(),
            runs.lost.to_string(),
        ]
    };
    table(head, sides.into_iter().map(line))
}

fn runs_json(runs: &Runs) -> Value {
    json!({
        "runs": runs.gaps_ms.len(),
        "gaps_ms": runs.gaps_ms.iter().map(|gap| round_to(*gap, 1)).collect::<Vec<f64>>(),
        "median_ms": runs.spread().map(|spread| round_to(spread.median, 1)),
        "acknowledged": runs.acknowledged,
        "lost": runs.lost,
    })
}

fn targets_table(targets: &[Target]) -> String {
    let line = |target: &Target| {
        let met = match target.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        let wanted = Some(target.wanted).filter(|wanted| wanted.is_finite());
        [target.name.clone(), figure(wanted, 1), figure(target.measured, 2), String::from(met)]
    };
    table(["target", "wanted", "measured", ""], targets.iter().map(line))
}

fn target_json(target: &Target) -> Value {
    json!({
        "name": target.name,
        "wanted": Some(target.wanted).filter(|wanted| wanted.is_finite()).map(|wanted| round_to(wanted, 3)),
        "measured": target.measured.map(|measured| round_to(measured, 3)),
        "met": target.met,
    })
}
