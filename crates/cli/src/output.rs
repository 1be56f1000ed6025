//! What people and programs read.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Writes a line to standard output, at once even into a pipe. Whoever closed it does not want it: that is no error.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
}

/// Writes a line to standard error, for people who wait.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{}", text.as_ref());
}

/// Writes a value as one line of JSON.
pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::cannot(format!("cannot write JSON: {error}")))?;
    say(text);
    Ok(())
}

/// A table without frame; columns named in `right` are numbers.
pub(crate) fn table(header: &[&str], right: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(ToString::to_string));
    for row in rows {
        assert_eq!(row.len(), header.len(), "a row has a cell for each column");
        table.add_row(row);
    }
    for (index, name) in header.iter().enumerate() {
        if right.contains(name)
            && let Some(column) = table.column_mut(index)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Digits in groups of three: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_table_aligns_numbers_right() {
        let rows = [vec!["a".to_owned(), "5".to_owned()], vec!["bb".to_owned(), "10".to_owned()]];
        let text = table(&["name", "count"], &["count"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with(" 5") && lines[2].ends_with("10"), "{text}");
        assert_eq!(lines[1].len(), lines[2].len(), "{text}");
    }
}
