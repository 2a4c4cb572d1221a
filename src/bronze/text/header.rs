//! The header of a delimited file, and the lines of its records.

use std::io::{BufRead, Cursor, Read};
use std::sync::Arc;

use datafusion::arrow::csv::reader::Format as CsvFormat;
use datafusion::arrow::datatypes::{Field, Schema};

use super::layout::Layout;
use super::rows::{BadFile, NO_QUOTE};
use crate::project::{Format, SourceOptions};

/// How one file is delimited.
#[derive(Clone, Copy)]
pub(super) struct Dialect<'a> {
    pub(super) delimiter: u8,
    pub(super) options: &'a SourceOptions,
}

impl<'a> Dialect<'a> {
    pub(super) fn new(options: &'a SourceOptions, format: Format) -> Self {
        Self { delimiter: options.delimiter(format), options }
    }
}

/// Takes the names of the columns off the start of a text; none if it is empty.
pub(super) fn take(
    mut text: Box<dyn BufRead + Send>,
    dialect: Dialect<'_>,
) -> Result<(Vec<String>, Box<dyn BufRead + Send>), BadFile> {
    let options = dialect.options;
    let mut ends = RecordEnds::new(dialect);
    let mut bytes = Vec::new();
    let (mut start, mut end) = (0, None);
    while end.is_none() {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            end = Some(bytes.len());
            break;
        }
        let (from, length) = (bytes.len(), buffer.len());
        bytes.extend_from_slice(buffer);
        text.consume(length);
        for at in from..bytes.len() {
            if ends.step(bytes[at]) {
                if bytes[start..at].is_empty() || Some(bytes[start]) == options.comment {
                    start = at + 1;
                } else {
                    end = Some(at + 1);
                    break;
                }
            }
        }
        if end.is_none() && bytes.len() - start > options.max_line_bytes {
            return Err(BadFile::whole("its header is longer than `max_line_bytes`".to_owned()));
        }
    }
    let end = end.unwrap_or(bytes.len());
    let names = names(&bytes[start..end], dialect)?;
    let rest = Cursor::new(bytes.split_off(end));
    Ok((names, Box::new(rest.chain(text))))
}

fn names(record: &[u8], dialect: Dialect<'_>) -> Result<Vec<String>, BadFile> {
    if record.is_empty() || Some(record[0]) == dialect.options.comment {
        return Ok(Vec::new());
    }
    let names = match plain_names(record, dialect) {
        Some(names) => names,
        None => parsed_names(record, dialect)?,
    };
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => {
            Err(BadFile::whole(format!("its header names column `{}` twice", dialect.options.shown_name(twice[0]))))
        }
        None => Ok(names),
    }
}

/// The names of a header without quotes: of many small files, a parser for each header would be a tenth of the work.
fn plain_names(record: &[u8], dialect: Dialect<'_>) -> Option<Vec<String>> {
    let SourceOptions { quote, escape, .. } = *dialect.options;
    let text = std::str::from_utf8(record).ok()?.trim_end_matches(['\r', '\n']);
    let special = |byte: &u8| Some(*byte) == quote || Some(*byte) == escape;
    if text.is_empty() || text.bytes().any(|byte| special(&byte)) {
        return None;
    }
    Some(text.split(char::from(dialect.delimiter)).map(|name| name.trim().to_owned()).collect())
}

fn parsed_names(record: &[u8], dialect: Dialect<'_>) -> Result<Vec<String>, BadFile> {
    let (schema, _) = format(dialect).infer_schema(record, Some(0)).map_err(|error| {
        let utf8 = std::str::from_utf8(record).is_err();
        let why = if utf8 {
            "it is not UTF-8: set `encoding` in `options`, such as `latin1`".to_owned()
        } else {
            format!("its header does not parse: {error}")
        };
        BadFile::whole(why)
    })?;
    Ok(schema.fields().iter().map(|field| field.name().trim().to_owned()).collect())
}

/// The format for Arrow's inference: the same options as those of the decoder.
pub(super) fn format(dialect: Dialect<'_>) -> CsvFormat {
    let options = dialect.options;
    let mut format = CsvFormat::default()
        .with_header(true)
        .with_delimiter(dialect.delimiter)
        .with_quote(options.quote.unwrap_or(NO_QUOTE))
        .with_truncated_rows(options.truncated_rows);
    if let Some(escape) = options.escape {
        format = format.with_escape(escape);
    }
    if let Some(comment) = options.comment {
        format = format.with_comment(comment);
    }
    format
}

/// The names of a header as those of the columns that they mean.
pub(super) fn known_names(names: &[String], layout: &Layout) -> Result<Vec<String>, BadFile> {
    let schema = &layout.columns;
    let known: Vec<String> = names.iter().map(|name| declared_name(name, names, schema)).collect();
    if !known.is_empty() && !known.iter().any(|name| schema.field_with_name(name).is_ok()) {
        let declared: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let why = format!(
            "its header `{}` names none of the columns of `{}`: {}",
            names.iter().map(|name| layout.options.shown_name(name)).collect::<Vec<_>>().join(", "),
            layout.source,
            declared.join(", ")
        );
        return Err(BadFile::whole(why));
    }
    Ok(known)
}

/// The declared column that a header means: by its exact name, else by its letters in any case.
fn declared_name(name: &str, header: &[String], schema: &Schema) -> String {
    let same = |field: &&Arc<Field>| field.name().to_lowercase() == name.to_lowercase();
    let mut near = schema.fields().iter().filter(same);
    match (near.next(), near.next()) {
        (Some(only), None) if !header.contains(only.name()) => only.name().clone(),
        _ => name.to_owned(),
    }
}

/// Columns of a file that are rescued, and where they are in it.
pub(super) fn new_names(names: &[String], layout: &Layout) -> Vec<(String, usize)> {
    let is_new = |name: &&String| layout.options.rescues_new_columns && layout.columns.field_with_name(name).is_err();
    let places = names.iter().enumerate().map(|(at, name)| (name, at));
    places.filter(|(name, _)| is_new(name)).map(|(name, at)| (name.clone(), at)).collect()
}

/// Finds the ends of delimited records, byte by byte, as CSV readers do.
pub(super) struct RecordEnds {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    pub(super) comment: Option<u8>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    RecordStart,
    FieldStart,
    Plain,
    Comment,
    Quoted,
    Escaped,
}

impl RecordEnds {
    pub(super) fn new(dialect: Dialect<'_>) -> Self {
        let SourceOptions { quote, escape, comment, .. } = *dialect.options;
        Self { delimiter: dialect.delimiter, quote, escape, comment, place: Place::RecordStart }
    }

    /// Whether a line that is no part of a longer record ends here; it may be blank or a comment.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        use Place::{Comment, Escaped, FieldStart, Plain, Quoted, RecordStart};
        let ends = matches!(byte, b'\n' | b'\r');
        self.place = match self.place {
            RecordStart if Some(byte) == self.comment => Comment,
            Comment if byte != b'\n' => Comment,
            Escaped => Quoted,
            Quoted if Some(byte) == self.escape => Escaped,
            // A doubled quote closes and opens.
            Quoted if Some(byte) == self.quote => FieldStart,
            Quoted => Quoted,
            RecordStart | FieldStart if Some(byte) == self.quote => Quoted,
            _ if ends => RecordStart,
            _ if byte == self.delimiter => FieldStart,
            _ => Plain,
        };
        ends && self.place == RecordStart
    }
}

/// The line on which a record begins, from 1. For a message: the text is read once more.
pub(super) fn line_of(text: &mut dyn BufRead, record: usize, dialect: Dialect<'_>) -> Option<usize> {
    let options = dialect.options;
    let mut ends = RecordEnds::new(dialect);
    let (mut line, mut records, mut first) = (1 + options.skip_lines as usize, 0, None);
    let wanted = record + usize::from(options.header);
    loop {
        let buffer = text.fill_buf().ok()?;
        if buffer.is_empty() {
            return None;
        }
        for byte in buffer {
            let blank = matches!(byte, b'\n' | b'\r') || Some(*byte) == options.comment;
            if first.is_none() && !matches!(byte, b'\n' | b'\r') {
                first = Some(*byte);
                records += usize::from(!blank);
                if records == wanted {
                    // Not read to its end, as it may have none.
                    return Some(line);
                }
            }
            if ends.step(*byte) {
                first = None;
            }
            line += usize::from(*byte == b'\n');
        }
        let all = buffer.len();
        text.consume(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_lines_are_not_the_same() {
        let options = SourceOptions { comment: Some(b'#'), skip_lines: 2, ..SourceOptions::new() };
        let text = "# c\na,b\r\n\r\n1,\"x\n\"\"y\n\"\n#\n2,5\" z\n3,3";
        let line = |record| line_of(&mut text.as_bytes(), record, Dialect::new(&options, Format::Csv));
        // Two lines were skipped before the text.
        assert_eq!([line(1), line(2), line(3), line(4)], [Some(6), Some(10), Some(11), None]);
    }

    #[test]
    fn a_header_is_one_record() {
        let options = SourceOptions { comment: Some(b'#'), ..SourceOptions::new() };
        let text = || Box::new("\n#a,b\n\" x\ny\",b\r\n1,2\n".as_bytes()) as Box<dyn BufRead + Send>;
        let (names, mut rest) = take(text(), Dialect::new(&options, Format::Csv)).unwrap();
        assert_eq!(names, ["x\ny", "b"]);
        let mut left = String::new();
        rest.read_to_string(&mut left).unwrap();
        assert_eq!(left, "\n1,2\n");
        assert!(
            take(Box::new("a,a\n".as_bytes()), Dialect::new(&options, Format::Csv))
                .is_err_and(|error| error.why.contains("twice"))
        );
        assert_eq!(take(Box::new("".as_bytes()), Dialect::new(&options, Format::Csv)).unwrap().0, Vec::<String>::new());
    }
}
