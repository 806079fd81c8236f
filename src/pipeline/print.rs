//! Printing: answers as psql prints them.
//!
//! A step's answers are kept until the steps before it are printed, so that what a run prints is what
//! `psql -f` prints, whatever ran beside it. What is kept of one step has a limit; rows beyond it are
//! counted, and not shown.

use std::io::Write;

use super::client::{Column, ServerMessage, Sink};

/// Bytes of one step's answers that are kept.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Types whose values stand at the right: numbers, money, oids.
const NUMERIC: [u32; 9] = [20, 21, 23, 26, 28, 700, 701, 790, 1700];

const CHANGING: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "MERGE"];

/// What a step prints.
#[derive(Debug, Default)]
pub struct Printed {
    /// Texts, and whether each goes to standard error.
    pub texts: Vec<(String, bool)>,
    /// Rows that the answers had, or that commands have changed.
    pub rows: u64,
    table: Option<Table>,
    bytes: usize,
    /// Lines of a COPY that were not kept.
    left_out: u64,
    /// Where the statement stands, for notices.
    pub at: String,
}

#[derive(Debug)]
struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Option<String>>>,
    count: usize,
}

impl Printed {
    pub fn print(&mut self, text: &str, to_stderr: bool) {
        self.texts.push((text.to_owned(), to_stderr));
    }

    /// Writes all of it.
    pub fn write(&self) {
        self.texts.iter().for_each(|(text, to_stderr)| tell(text, *to_stderr));
    }
}

/// Writes a text. A reader that is gone is no error of the run.
pub fn tell(text: &str, to_stderr: bool) {
    match to_stderr {
        true => drop(std::io::stderr().lock().write_all(text.as_bytes())),
        false => {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
        }
    }
}

impl Sink for Printed {
    fn columns(&mut self, columns: Vec<Column>) {
        self.table = Some(Table { columns, rows: Vec::new(), count: 0 });
    }

    fn row(&mut self, values: Vec<Option<String>>) {
        let Some(table) = &mut self.table else { return };
        table.count += 1;
        let bytes: usize = values.iter().flatten().map(|value| value.len() + 24).sum();
        if self.bytes + bytes <= KEPT_BYTES_MAX {
            self.bytes += bytes;
            table.rows.push(values);
        }
    }

    fn complete(&mut self, tag: &str) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let warning = format!("{}: WARNING:  {left_out} lines of this COPY are not shown\n", self.at);
            self.texts.push((warning, true));
        }
        let counted = tag.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        self.rows += counted.unwrap_or(0);
        match self.table.take() {
            Some(table) => {
                self.texts.push((table.text(), false));
                // Of what changes rows, psql tells how many, also when it shows them.
                if CHANGING.iter().any(|word| tag.starts_with(word)) {
                    self.texts.push((format!("{tag}\n"), false));
                }
            }
            None => self.texts.push((format!("{tag}\n"), false)),
        }
    }

    fn notice(&mut self, notice: ServerMessage) {
        self.texts.push((format!("{}: {}:  {}\n", self.at, notice.severity, notice.message), true));
    }

    fn copied(&mut self, bytes: &[u8]) {
        if self.left_out == 0 && self.bytes + bytes.len() <= KEPT_BYTES_MAX {
            self.bytes += bytes.len();
            self.texts.push((String::from_utf8_lossy(bytes).into_owned(), false));
        } else {
            self.left_out += 1;
        }
    }
}

impl Table {
    /// The table as psql's aligned format has it.
    fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        let mut text = String::new();
        let headers = self.columns.iter().zip(&widths).map(|(column, width)| centred(&column.name, *width));
        text.push_str(&format!(" {} \n", headers.collect::<Vec<_>>().join(" | ")));
        let line: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        text.push_str(&format!("{}\n", line.join("+")));
        for row in &self.rows {
            self.row_text(row, &widths, &mut text);
        }
        if self.rows.len() < self.count {
            text.push_str(&format!("({} rows are not shown)\n", self.count - self.rows.len()));
        }
        let plural = if self.count == 1 { "row" } else { "rows" };
        text.push_str(&format!("({} {plural})\n\n", self.count));
        text
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)?.as_deref());
        let lines = cells.flat_map(|cell| cell.split('\n')).map(width_of);
        lines.chain([width_of(&self.columns[at].name)]).max().unwrap_or(0)
    }

    /// A row; one whose values have several lines takes several, with a `+` behind all but the last.
    fn row_text(&self, row: &[Option<String>], widths: &[usize], text: &mut String) {
        let cells: Vec<Vec<&str>> =
            row.iter().map(|cell| cell.as_deref().unwrap_or_default().split('\n').collect()).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        let last = cells.len().saturating_sub(1);
        for line in 0..height {
            for (at, cell) in cells.iter().enumerate() {
                let value = cell.get(line).copied().unwrap_or_default();
                let goes_on = line + 1 < cell.len();
                let fill = " ".repeat(widths[at].saturating_sub(width_of(value)));
                let is_number = NUMERIC.contains(&self.columns[at].type_oid);
                let shown = match (is_number, at == last && !goes_on) {
                    (true, _) => format!("{fill}{value}"),
                    (false, true) => value.to_owned(),
                    (false, false) => format!("{value}{fill}"),
                };
                let end = match (at == last, goes_on) {
                    (true, false) => "",
                    (true, true) => "+",
                    (false, true) => "+|",
                    (false, false) => " |",
                };
                text.push_str(&format!(" {shown}{end}"));
            }
            text.push('\n');
        }
    }
}

fn centred(name: &str, width: usize) -> String {
    let fill = width.saturating_sub(width_of(name));
    format!("{}{name}{}", " ".repeat(fill / 2), " ".repeat(fill - fill / 2))
}

/// Columns of a terminal, where each character takes one.
fn width_of(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_looks_as_psql_prints_it() {
        let mut printed = Printed::default();
        let column = |name: &str, type_oid| Column { name: name.to_owned(), type_oid };
        printed.columns(vec![column("n", 23), column("a name", 25), column("x", 25)]);
        printed.row(vec![Some("1".into()), Some("é".into()), Some("two\nlines".into())]);
        printed.row(vec![Some("100".into()), None, None]);
        printed.complete("SELECT 2");
        let wanted = concat!(
            "  n  | a name |   x   \n-----+--------+-------\n   1 | é      | two  +\n     |        | lines\n",
            " 100 |        | \n(2 rows)\n\n"
        );
        assert_eq!(printed.texts, [(wanted.to_owned(), false)]);
        assert_eq!(printed.rows, 2);
    }
}
