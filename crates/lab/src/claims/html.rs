//! The report for a browser: one file that opens without a network.

use super::ClaimsReport;

const SCRIPT: &str = include_str!("../../vendor/uplot/uPlot.iife.min.js");
const STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");
const PAGE: &str = include_str!("report.html");

/// The whole page. Everything that it shows is in it.
///
/// # Panics
/// Never: a report is always JSON.
#[must_use]
pub fn html(report: &ClaimsReport) -> String {
    let data = serde_json::to_string(report).expect("a report has only strings and numbers");
    // Within a script `</` would end it.
    let data = data.replace("</", "<\\/");
    PAGE.replacen("/*STYLE*/", STYLE, 1).replacen("/*UPLOT*/", SCRIPT, 1).replacen("/*DATA*/null", &data, 1)
}
