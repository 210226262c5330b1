//! A report as text that a person reads at a glance.

use std::collections::BTreeMap;
use std::fmt::Write;

use hopwise_api::status::FamilyName;

use super::report::{CheckReport, EndpointKind, EndpointReport, Outcome};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Whether to use colours (ANSI escape sequences).
    pub colour: bool,
    /// How many columns the terminal has. A matrix that needs more is drawn with one mark a cell.
    pub width: usize,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions { colour: false, width: 120 }
    }
}

const PASS: char = '✓';
const FAIL: char = '✗';
const SKIPPED: char = '-';
const GREEN: &str = "32";
const RED: &str = "31;1";
const DIM: &str = "2";
/// Enough to see what is wrong; the rest is in the JSON.
const MAX_FAILURES: usize = 30;

impl CheckReport {
    /// Draws a matrix a family, how nodes reach each other, and what failed.
    pub fn table(&self, options: TableOptions) -> String {
        let mut text = String::new();
        let families: Vec<FamilyName> = [FamilyName::Ipv4, FamilyName::Ipv6]
            .into_iter()
            .filter(|family| self.cells.iter().any(|cell| cell.family == *family))
            .collect();
        for family in &families {
            let title = if *family == FamilyName::Ipv4 { "IPv4" } else { "IPv6" };
            text += &Matrix::of(self, *family, options).draw(title);
            text.push('\n');
        }
        text += &self.modes_table(&families, options);
        text += &self.failures(options);
        text += &self.summary(options);
        text
    }

    fn modes_table(&self, families: &[FamilyName], options: TableOptions) -> String {
        let nodes: Vec<&str> = (self.endpoints.iter())
            .filter(|endpoint| endpoint.kind == EndpointKind::Node)
            .map(|endpoint| endpoint.name.as_str())
            .collect();
        if self.modes.is_empty() {
            return String::new();
        }
        let name_width = nodes.iter().map(|name| name.len()).max().unwrap_or(0);
        let width = name_width.max("unreachable".len()) + 2;
        if name_width + 3 + width * nodes.len() > options.width {
            return String::new();
        }
        let mut text = format!("{:name_width$}   ", "");
        text += &nodes.iter().map(|name| format!("{name:width$}")).collect::<String>();
        text = format!("{}\n", text.trim_end());
        for from in &nodes {
            let _ = write!(text, "{from:name_width$}   ");
            let mut line = String::new();
            for to in &nodes {
                let said: Vec<&super::report::ModeFinding> = families
                    .iter()
                    .filter_map(|f| {
                        self.modes.iter().find(|m| m.from == *from && m.to == *to && m.family == *f)
                    })
                    .collect();
                let mut words: Vec<&str> =
                    said.iter().map(|m| m.seen.map_or("?", |mode| mode.as_str())).collect();
                words.dedup();
                let wrong = said.iter().any(|mode| mode.seen != Some(mode.expected));
                let word = if from == to { "·".to_owned() } else { words.join("/") };
                let padding = " ".repeat(width.saturating_sub(word.chars().count()));
                line += &paint(&word, if wrong { RED } else { DIM }, options.colour && (wrong || from == to));
                line += &padding;
            }
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
        text
    }

    fn failures(&self, options: TableOptions) -> String {
        let mut lines = Vec::new();
        lines.extend(self.agents.iter().map(|agent| format!("agent of {}: {}", agent.node, agent.problem)));
        for mode in self.modes.iter().filter(|mode| mode.seen != Some(mode.expected)) {
            let seen = mode.seen.map_or("nothing", |seen| seen.as_str());
            let (from, to, family) = (&mode.from, &mode.to, mode.family.as_str());
            lines.push(format!(
                "{from} → {to} {family} mode: expected {}, the agent says {seen}",
                mode.expected.as_str()
            ));
        }
        for cell in &self.cells {
            for (name, finding) in cell.findings() {
                if finding.is_failure() {
                    let (expected, seen) = (finding.expected.as_deref(), finding.seen.as_deref());
                    lines.push(format!(
                        "{} → {} ({}) {name}: expected {}, seen {}",
                        cell.from,
                        cell.to,
                        cell.address,
                        expected.unwrap_or("-"),
                        seen.unwrap_or("nothing")
                    ));
                }
            }
        }
        let mut text = String::new();
        for line in lines.iter().take(MAX_FAILURES) {
            let _ = writeln!(text, "{} {line}", paint(&FAIL.to_string(), RED, options.colour));
        }
        if lines.len() > MAX_FAILURES {
            let _ = writeln!(text, "… and {} more; `-o json` has all", lines.len() - MAX_FAILURES);
        }
        if !lines.is_empty() {
            text.push('\n');
        }
        text
    }

    fn summary(&self, options: TableOptions) -> String {
        let n_good = self.cells.iter().filter(|cell| cell.is_ok()).count();
        let (n_all, seconds) = (self.cells.len(), self.elapsed_millis as f64 / 1000.0);
        match self.ok {
            true => {
                paint(&format!("all {n_all} paths are as they should be"), GREEN, options.colour)
                    + &format!(" ({seconds:.2} s)\n")
            }
            false => {
                paint(&format!("{n_good} of {n_all} paths are as they should be"), RED, options.colour)
                    + &format!(" ({seconds:.2} s)\n")
            }
        }
    }
}

/// How much a matrix shows. The first that fits the terminal is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// A mark for each finding of each path.
    Findings,
    /// A mark for each path.
    Paths,
    /// A mark for all paths between two hosts and their pods.
    Hosts,
}

/// The matrix of one family. Rows and columns are grouped by node.
struct Matrix<'a> {
    ends: Vec<End<'a>>,
    cells: BTreeMap<(&'a str, &'a str), [Outcome; N_MARKS]>,
    options: TableOptions,
    detail: Detail,
}

/// A row and a column.
struct End<'a> {
    name: &'a str,
    host: &'a str,
    kind: EndpointKind,
}

const N_MARKS: usize = 5;
const CORNER: &str = "from ↓ to →";

impl<'a> Matrix<'a> {
    fn of(report: &'a CheckReport, family: FamilyName, options: TableOptions) -> Matrix<'a> {
        let details = [Detail::Findings, Detail::Paths, Detail::Hosts];
        let matrices = details.map(|detail| Matrix::with_detail(report, family, options, detail));
        let fits = |matrix: &Matrix<'_>| matrix.width() <= options.width || matrix.detail == Detail::Hosts;
        let [findings, paths, hosts] = matrices;
        [findings, paths].into_iter().find(fits).unwrap_or(hosts)
    }

    fn with_detail(
        report: &'a CheckReport,
        family: FamilyName,
        options: TableOptions,
        detail: Detail,
    ) -> Matrix<'a> {
        let label = |endpoint: &'a EndpointReport| match detail {
            Detail::Findings | Detail::Paths => endpoint.name.as_str(),
            Detail::Hosts => endpoint.host.as_str(),
        };
        let labels: BTreeMap<&str, &str> =
            report.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), label(endpoint))).collect();
        let of = |name: &'a str| labels.get(name).copied().unwrap_or(name);
        let mut cells = BTreeMap::new();
        for cell in report.cells.iter().filter(|cell| cell.family == family) {
            let all = cells.entry((of(&cell.from), of(&cell.to))).or_insert([Outcome::Pass; N_MARKS]);
            for (worst, (_, finding)) in all.iter_mut().zip(cell.findings()) {
                *worst = (*worst).max(finding.result);
            }
        }
        let mut ends: Vec<End<'a>> = Vec::new();
        for endpoint in &report.endpoints {
            let name = label(endpoint);
            let involved = cells.keys().any(|(from, to)| *from == name || *to == name);
            if involved && ends.last().is_none_or(|end| end.name != name) {
                // Without pods there is nothing to group.
                let host = if detail == Detail::Hosts { "" } else { &endpoint.host };
                ends.push(End { name, host, kind: endpoint.kind });
            }
        }
        Matrix { ends, cells, options, detail }
    }

    fn is_detailed(&self) -> bool {
        self.detail == Detail::Findings
    }

    fn label_width(&self) -> usize {
        let index = if self.is_detailed() { 0 } else { 4 };
        let names = self.ends.iter().map(|end| end.name.chars().count() + index);
        names.max().unwrap_or(0).max(CORNER.chars().count())
    }

    fn column_width(&self, end: &End<'_>) -> usize {
        if !self.is_detailed() {
            return 1;
        }
        // A column of its own has room for its host's name above.
        let host = if end.kind == EndpointKind::Outside { end.host.chars().count() } else { 0 };
        short_name(end).chars().count().max(N_MARKS).max(host)
    }

    fn width(&self) -> usize {
        let columns: usize = self.ends.iter().map(|end| self.column_width(end) + 1).sum();
        self.label_width() + 1 + columns + self.groups().count()
    }

    /// The columns of each host.
    fn groups(&self) -> impl Iterator<Item = &[End<'a>]> {
        self.ends.chunk_by(|a, b| a.host == b.host)
    }

    fn draw(&self, title: &str) -> String {
        let mut text = if self.is_detailed() { self.heading(title) } else { self.numbered_heading(title) };
        for (number, from) in self.ends.iter().enumerate() {
            if !self.cells.keys().any(|(sender, _)| *sender == from.name) {
                continue;
            }
            let label = match self.detail {
                Detail::Findings => from.name.to_owned(),
                Detail::Paths | Detail::Hosts => format!("{:3} {}", number + 1, from.name),
            };
            let mut line = format!("{label:width$} ", width = self.label_width());
            for group in self.groups() {
                line.push(' ');
                for to in group {
                    line.push(' ');
                    line += &self.cell(from, to);
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        let legend = match self.detail {
            Detail::Findings => "marks: icmp, tcp, udp, mtu, source address",
            Detail::Paths => "one mark a path; columns are numbered like rows",
            Detail::Hosts => {
                "one mark for all paths between two hosts and their pods; columns are numbered like rows"
            }
        };
        text + &paint(legend, DIM, self.options.colour) + "\n"
    }

    /// Two lines: the host, and what of it.
    fn heading(&self, title: &str) -> String {
        let width = self.label_width();
        let (mut hosts, mut names) = (format!("{title:width$} "), format!("{CORNER:width$} "));
        for group in self.groups() {
            let columns = group.iter().map(|end| (short_name(end), self.column_width(end)));
            let cells: Vec<String> = columns.map(|(name, width)| format!("{name:width$}")).collect();
            let cells = cells.join(" ");
            let host = group.first().map_or("", |end| end.host);
            let width = cells.chars().count();
            let shown: String = host.chars().take(width).collect();
            let _ = write!(hosts, "  {shown:width$}");
            let _ = write!(names, "  {cells}");
        }
        format!("{}\n{}\n", hosts.trim_end(), names.trim_end())
    }

    /// A line for the tens, a line for the ones.
    fn numbered_heading(&self, title: &str) -> String {
        let width = self.label_width();
        let mut lines = [format!("{title:width$} "), format!("{CORNER:width$} ")];
        let mut number = 0;
        for group in self.groups() {
            lines.iter_mut().for_each(|line| line.push(' '));
            for _ in group {
                number += 1;
                let tens = if number % 10 == 0 || number == 1 {
                    ((number / 10) % 10).to_string()
                } else {
                    " ".into()
                };
                let _ = write!(lines[0], " {tens}");
                let _ = write!(lines[1], " {}", number % 10);
            }
        }
        format!("{}\n{}\n", lines[0].trim_end(), lines[1].trim_end())
    }

    fn cell(&self, from: &End<'_>, to: &End<'_>) -> String {
        let width = self.column_width(to);
        let mark = |outcome: Outcome| match outcome {
            Outcome::Pass => paint(&PASS.to_string(), GREEN, self.options.colour),
            Outcome::Fail => paint(&FAIL.to_string(), RED, self.options.colour),
            Outcome::Skipped => SKIPPED.to_string(),
        };
        match self.cells.get(&(from.name, to.name)) {
            None => paint("·", DIM, self.options.colour) + &" ".repeat(width - 1),
            Some(outcomes) if self.is_detailed() => {
                outcomes.map(mark).concat() + &" ".repeat(width - N_MARKS)
            }
            Some(outcomes) => mark(outcomes.iter().copied().max().unwrap_or(Outcome::Skipped)),
        }
    }
}

/// What a column is called below its host's name.
fn short_name<'a>(end: &End<'a>) -> &'a str {
    match end.kind {
        EndpointKind::Pod => end.name.strip_prefix(end.host).map_or(end.name, |rest| &rest[1..]),
        EndpointKind::Node => "node",
        EndpointKind::Outside => "outside",
    }
}

fn paint(text: &str, colour: &str, on: bool) -> String {
    if on { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
