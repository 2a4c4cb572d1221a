//! Rows as CSV, in YAML or in a fixture.

use std::sync::Arc;

use super::{At, Cell, CellValue, RowTable};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};

/// Where a CSV stands in its file.
pub(super) enum Place {
    /// Line by line from here on.
    Lines(usize),
    /// All of it here.
    Whole(At),
}

/// Reads CSV whose first line names the columns. An empty field is NULL.
pub(super) fn table(text: &str, file: &Arc<SourceFile>, place: Place, problems: &mut Vec<Diagnostic>) -> RowTable {
    let lines = Lines::new(file, place);
    let mut records = records(text).into_iter();
    let mut table = RowTable { file: Arc::clone(file), columns: Vec::new(), rows: Vec::new() };
    let Some((line, header)) = records.next() else {
        let diagnostic = Diagnostic::error(Id::InvalidUnitTest, "this CSV has no header");
        problems.push(diagnostic.at(lines.span(0)).help("its first line names the columns: `id,name`"));
        return table;
    };
    for name in header {
        let name = name.trim().to_owned();
        let wrong = match name.as_str() {
            "" => Some("a column of this CSV has no name".to_owned()),
            name if table.columns.iter().any(|(known, _)| known == name) => {
                Some(format!("column `{name}` stands twice in this CSV"))
            }
            _ => None,
        };
        if let Some(message) = wrong {
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(lines.span(line));
            problems.push(diagnostic.help("its first line names the columns, each once: `id,name`"));
        }
        table.columns.push((name, lines.at(line)));
    }
    for (line, fields) in records {
        if fields.len() != table.columns.len() {
            let (has, wants) = (fields.len(), table.columns.len());
            let message = format!("this row has {has} fields, and the header names {wants} columns");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(lines.span(line));
            problems.push(diagnostic.help("put a value with a comma into double quotes"));
            continue;
        }
        let cell = |text: String| Cell {
            value: if text.is_empty() { CellValue::Null } else { CellValue::Text(text) },
            at: lines.at(line),
        };
        table.rows.push(fields.into_iter().map(cell).enumerate().collect());
    }
    table
}

/// The fields of each record, and the line at which it starts, from 0.
fn records(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut reader = csv_core::Reader::new();
    let (mut fields, mut ends) = (vec![0; text.len() + 1], vec![0; text.len() + 2]);
    let (mut input, mut found) = (text.as_bytes(), Vec::new());
    let (mut line, mut written, mut ended) = (0, 0, 0);
    loop {
        if written == 0 && ended == 0 {
            let rest = &text[text.len() - input.len()..];
            let start = text.len() - rest.trim_start_matches(['\r', '\n']).len();
            line = text[..start].matches('\n').count();
        }
        let (result, read, more, count) = reader.read_record(input, &mut fields[written..], &mut ends[ended..]);
        input = &input[read..];
        written += more;
        ended += count;
        match result {
            csv_core::ReadRecordResult::Record => {
                let mut start = 0;
                let field = |end: &usize| {
                    let text = String::from_utf8_lossy(&fields[start..*end]).into_owned();
                    start = *end;
                    text
                };
                found.push((line, ends[..ended].iter().map(field).collect()));
                (written, ended) = (0, 0);
            }
            csv_core::ReadRecordResult::InputEmpty => {}
            // The buffers hold the whole text: they are never full.
            _ => return found,
        }
    }
}

/// The lines of a CSV in its file.
struct Lines<'a> {
    file: &'a Arc<SourceFile>,
    at: Vec<At>,
}

impl<'a> Lines<'a> {
    fn new(file: &'a Arc<SourceFile>, place: Place) -> Self {
        let start = match place {
            Place::Whole(at) => return Self { file, at: vec![at] },
            Place::Lines(start) => start,
        };
        let mut begin = start;
        let line = |line: &str| {
            let first = begin + (line.len() - line.trim_start().len());
            let at = (first, first + line.trim().len().max(1));
            begin += line.len();
            at
        };
        let at = file.text().get(start..).unwrap_or_default().split_inclusive('\n').map(line).collect();
        Self { file, at }
    }

    fn at(&self, line: usize) -> At {
        self.at.get(line).or(self.at.last()).copied().unwrap_or((0, 1))
    }

    fn span(&self, line: usize) -> Span {
        let (start, end) = self.at(line);
        Span::new(self.file, start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_their_lines() {
        let found = records("id,name\n\n1,\"a, b\"\n2,\n");
        let texts = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        assert_eq!(found, [(0, texts(&["id", "name"])), (2, texts(&["1", "a, b"])), (3, texts(&["2", ""]))]);
        assert_eq!(records("a\n1").len(), 2);
        assert!(records("\n").is_empty());
    }

    #[test]
    fn an_empty_field_is_null_and_a_ragged_row_is_a_mistake() {
        let file = Arc::new(SourceFile::new("x.csv", "id,name\n1,\n2\n"));
        let mut problems = Vec::new();
        let table = table(file.text(), &file, Place::Lines(0), &mut problems);
        assert_eq!(table.rows.len(), 1);
        assert_eq!(table.rows[0][1].1.value, CellValue::Null);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].span.as_ref().map(|span| span.position().0), Some(3));
    }
}
