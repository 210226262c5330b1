//! Output: tables for people, JSON and YAML for programs. Rendering is pure; only [`Format::print`] writes.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

/// How a value is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

impl Format {
    /// The text of a value, ending in a line feed; `table` gives the form for people.
    pub fn render<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<String> {
        match self {
            Format::Table => Ok(table(value)),
            Format::Json => Ok(serde_json::to_string_pretty(value)? + "\n"),
            Format::Yaml => Ok(serde_saphyr::to_string(value)?),
        }
    }

    /// Renders a value and writes it to standard output.
    pub fn print<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        print_text(&self.render(value, table)?)
    }
}

/// Writes text to standard output. A reader that has gone away (`hopwise routes | head -1`) is no error.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Lays rows out in columns under a heading, two spaces apart, without spaces at line ends. An empty cell shows as `-`.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |cell: &str| if cell.is_empty() { "-".to_owned() } else { cell.to_owned() };
    let lines: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned))
        .chain(rows.iter().map(|row| row.clone().map(|c| shown(&c))))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(padded, "{cell:<width$}  ");
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["node1".to_owned(), String::new()], ["a".to_owned(), "b".to_owned()]];
        assert_eq!(table(["NODE", "STATE"], &rows), "NODE   STATE\nnode1  -\na      b\n");
        assert_eq!(table(["NODE"], &[]), "NODE\n");
    }
}
