//! One record after the other, each with its text: for files in which some do not fit. Slower than Arrow's decoders,
//! and asked only when these refuse something.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::DataType;
use serde::de::IgnoredAny;

use super::header::{Dialect, RecordEnds};
use super::layout::Layout;
use super::rows::{BadFile, NO_QUOTE};
use super::values::is_nested;
use crate::project::{Format, SourceOptions};
use crate::words::shown;

/// Between the records of a JSON document: it stands in no JSON.
pub(super) const SEPARATOR: u8 = 0x1e;

/// A record as it stands in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    /// From 1.
    pub(super) row: u64,
    /// The line on which it begins, where lines mean something.
    pub(super) line: Option<u64>,
    /// Where it begins in the text.
    pub(super) offset: u64,
    pub(super) text: String,
    /// It ends as records do, and not with the file.
    pub(super) ended: bool,
    /// It was quarantined by this batch, and is read again.
    pub(super) batch: Option<i64>,
    /// The header that it stood below then.
    pub(super) header: Option<String>,
    /// Why it cannot be read again.
    pub(super) lost: Option<String>,
}

/// The records of a text.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    ends: Ends,
    line: u64,
    offset: u64,
    row: u64,
    limit: usize,
}

enum Ends {
    Delimited(RecordEnds),
    /// Records are lines, or have this byte after them.
    Byte(u8),
}

impl Records {
    /// `input` is the plain text; of JSON, with [`SEPARATOR`]s.
    pub(super) fn new(input: Box<dyn BufRead + Send>, format: Format, options: &SourceOptions) -> Self {
        let ends = match format {
            _ if format.is_delimited() => Ends::Delimited(RecordEnds::new(Dialect::new(options, format))),
            Format::Json => Ends::Byte(SEPARATOR),
            _ => Ends::Byte(b'\n'),
        };
        let line = 1 + options.skip_lines;
        Self { input, ends, line, offset: 0, row: 0, limit: options.max_line_bytes }
    }

    /// The next record that is not blank and no comment, as bytes without its end.
    fn next_bytes(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<(u64, u64, bool)>> {
        loop {
            bytes.clear();
            let (line, offset) = (self.line, self.offset);
            let mut ended = false;
            while !ended {
                let buffer = self.input.fill_buf()?;
                if buffer.is_empty() {
                    break;
                }
                let mut read = 0;
                for byte in buffer {
                    read += 1;
                    self.line += u64::from(*byte == b'\n');
                    ended = match &mut self.ends {
                        Ends::Delimited(ends) => ends.step(*byte),
                        Ends::Byte(end) => byte == end,
                    };
                    if ended {
                        break;
                    }
                    bytes.push(*byte);
                }
                self.input.consume(read);
                self.offset += read as u64;
                if bytes.len() > self.limit {
                    let why = format!("a record is longer than `max_line_bytes: {}`", self.limit);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
            let comment = match &self.ends {
                Ends::Delimited(ends) => ends.comment,
                Ends::Byte(_) => None,
            };
            let blank = match &self.ends {
                Ends::Delimited(_) => bytes.is_empty() || bytes.first().copied() == comment,
                Ends::Byte(_) => bytes.iter().all(u8::is_ascii_whitespace),
            };
            if !blank {
                return Ok(Some((line, offset, ended)));
            }
            if !ended {
                return Ok(None);
            }
        }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Record>, BadFile> {
        let mut bytes = Vec::new();
        let Some((line, offset, ended)) = self.next_bytes(&mut bytes)? else { return Ok(None) };
        self.row += 1;
        let line = (!matches!(self.ends, Ends::Byte(SEPARATOR))).then_some(line);
        let text = String::from_utf8(bytes).map_err(|_| BadFile::not_utf8(usize::try_from(self.row).ok()))?;
        Ok(Some(Record { row: self.row, line, offset, text, ended, ..Record::default() }))
    }

    /// Takes the first record off: it was a header.
    pub(super) fn header(&mut self) -> Result<Option<String>, BadFile> {
        let header = self.next()?;
        self.row = 0;
        Ok(header.map(|record| record.text))
    }
}

/// What is wrong with a record, and with which column of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) column: Option<String>,
    pub(super) why: String,
}

/// The texts of a record's fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// One for each column that is read.
    pub(super) texts: Vec<Option<String>>,
    pub(super) problem: Option<Problem>,
    /// What belongs to no column, with a name for it.
    pub(super) surplus: Vec<(String, String)>,
}

/// Record -> fields.
pub(super) enum Splitter {
    Delimited {
        reader: Box<csv_core::Reader>,
        /// The names in the header, or those that were declared.
        count: usize,
        /// For each column that is read: where it is among them.
        places: Vec<Option<usize>>,
        /// Columns that are rescued, and where they are.
        new: Vec<(String, usize)>,
        delimiter: char,
        may_be_short: bool,
        output: Vec<u8>,
    },
    Objects {
        columns: Vec<Member>,
        /// What is declared, if other members are rescued.
        declared: Option<BTreeSet<String>>,
    },
}

/// A column that is read of objects.
pub(super) struct Member {
    name: String,
    /// Its values have parts.
    is_nested: bool,
    is_text: bool,
    is_sensitive: bool,
}

impl Splitter {
    /// Of a file with so many columns, those that are read, and those that are rescued.
    pub(super) fn delimited(
        dialect: Dialect<'_>,
        count: usize,
        places: Vec<Option<usize>>,
        new: Vec<(String, usize)>,
    ) -> Self {
        let options = dialect.options;
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(dialect.delimiter).quote(options.quote.unwrap_or(NO_QUOTE)).escape(options.escape);
        let reader = Box::new(builder.build());
        let (delimiter, may_be_short) = (char::from(dialect.delimiter), options.truncated_rows);
        Self::Delimited { reader, count, places, new, delimiter, may_be_short, output: Vec::new() }
    }

    /// Of JSON with these columns of the layout.
    pub(super) fn objects(layout: &Layout, wanted: &[usize]) -> Self {
        let column = |at: &usize| {
            let field = layout.columns.field(*at);
            Member {
                name: field.name().clone(),
                is_nested: is_nested(field.data_type()),
                is_text: field.data_type() == &DataType::Utf8,
                is_sensitive: layout.options.sensitive.contains(field.name()),
            }
        };
        let declared = || layout.columns.fields().iter().map(|field| field.name().clone()).collect();
        let declared = layout.options.rescues_new_columns.then(declared);
        Self::Objects { columns: wanted.iter().map(column).collect(), declared }
    }

    /// # Errors
    /// A file that is cut off.
    pub(super) fn split(&mut self, record: &Record) -> Result<Fields, BadFile> {
        Ok(match self {
            Self::Objects { columns, declared } => object(record, columns, declared.as_ref())?,
            Self::Delimited { reader, count, places, new, delimiter, may_be_short, output } => {
                let parts = parts(reader, &record.text, *delimiter, output);
                let text = |place: &Option<usize>| parts.get((*place)?).filter(|part| !part.is_empty()).cloned();
                let texts = places.iter().map(text).collect();
                let short = parts.len() < *count && !*may_be_short;
                let problem = (short || parts.len() > *count)
                    .then(|| Problem { column: None, why: format!("expected {count} fields, found {}", parts.len()) });
                let rescued = new.iter().filter_map(|(name, at)| Some((name.clone(), text(&Some(*at))?)));
                let mut surplus: Vec<(String, String)> = rescued.collect();
                if let Some(more) = parts.get(*count..).filter(|more| !more.is_empty()) {
                    surplus.push(("_surplus_fields".to_owned(), more.join(&delimiter.to_string())));
                }
                Fields { texts, problem, surplus }
            }
        })
    }
}

fn parts(reader: &mut csv_core::Reader, record: &str, delimiter: char, output: &mut Vec<u8>) -> Vec<String> {
    reader.reset();
    output.resize(record.len().max(1), 0);
    let mut ends = vec![0; record.matches(delimiter).count() + 1];
    let (result, read, written, mut fields) = reader.read_record(record.as_bytes(), output, &mut ends);
    if matches!(result, csv_core::ReadRecordResult::InputEmpty) {
        let (_, _, _, more) =
            reader.read_record(&record.as_bytes()[read..], &mut output[written..], &mut ends[fields..]);
        fields += more;
    }
    let mut from = 0;
    let part = |end: &usize| {
        let part = String::from_utf8_lossy(&output[from..*end]).into_owned();
        from = *end;
        part
    };
    ends[..fields].iter().map(part).collect()
}

/// The texts of an object's values: of plain ones as they are, of lists and objects as JSON.
fn object(record: &Record, columns: &[Member], declared: Option<&BTreeSet<String>>) -> Result<Fields, BadFile> {
    let text = record.text.trim();
    let malformed = |why: String| Fields {
        texts: vec![None; columns.len()],
        problem: Some(Problem { column: None, why }),
        surplus: vec![("_corrupt_record".to_owned(), text.to_owned())],
    };
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        if error.is_eof() && !record.ended {
            return Err(BadFile::from(io::Error::other("the file ends in the middle of a JSON value")));
        }
        let why = error.to_string();
        let why = why.split(" at line").next().unwrap_or_default();
        return Ok(malformed(format!("it is not JSON: {why}")));
    }
    let Some(values) = members(text) else { return Ok(malformed("it is not a JSON object".to_owned())) };
    let mut problem = None;
    let mut surplus = Vec::new();
    let value_of = |Member { name, is_nested, is_text, is_sensitive }: &Member| {
        let value = *values.get(name)?;
        let text = match value.as_bytes().first()? {
            b'n' => return None,
            // Half of a letter is JSON, and no text.
            b'"' if !is_nested => serde_json::from_str(value).ok(),
            b'{' | b'[' if *is_text => None,
            _ => Some(value.to_owned()),
        };
        if text.is_none() {
            let why = format!("column `{name}`: `{}` is not a varchar", shown(value, *is_sensitive));
            problem.get_or_insert(Problem { column: Some(name.clone()), why });
            surplus.push((name.clone(), value.to_owned()));
        }
        text
    };
    let texts = columns.iter().map(value_of).collect();
    let is_new = |name: &String| declared.is_some_and(|declared| !declared.contains(name));
    for (name, value) in values.iter().filter(|(name, value)| is_new(name) && **value != "null") {
        let text = serde_json::from_str(value).unwrap_or_else(|_| (*value).to_owned());
        surplus.push((name.clone(), text));
    }
    Ok(Fields { texts, problem, surplus })
}

/// The members of an object that is known to be JSON, each value as it stands there.
fn members(object: &str) -> Option<BTreeMap<String, &str>> {
    let inner = object.strip_prefix('{')?.strip_suffix('}')?;
    let mut found = BTreeMap::new();
    let (mut depth, mut string, mut escaped) = (0, false, false);
    let (mut start, mut key) = (0, None);
    let mut end = |key: &mut Option<String>, value: &'_ std::ops::Range<usize>| {
        if let Some(key) = key.take() {
            found.insert(key, inner[value.clone()].trim());
        }
    };
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            _ if string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b':' if depth == 0 => {
                key = serde_json::from_str::<String>(inner[start..at].trim()).ok();
                start = at + 1;
            }
            b',' if depth == 0 => {
                end(&mut key, &(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    end(&mut key, &(start..inner.len()));
    Some(found)
}

/// Rows of texts as columns.
pub(super) fn columns(count: usize, rows: Vec<Vec<Option<String>>>) -> Vec<StringArray> {
    let mut columns: Vec<Vec<Option<String>>> = (0..count).map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        for (column, text) in columns.iter_mut().zip(row) {
            column.push(text);
        }
    }
    columns.into_iter().map(StringArray::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_as_they_stand() {
        let found = members(r#"{"a": 1.10, "b": {"c": [1, "}"]}, "\u0064":"x,\"y", "e" : null}"#).unwrap();
        let expected = [("a", "1.10"), ("b", r#"{"c": [1, "}"]}"#), ("d", r#""x,\"y""#), ("e", "null")];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert!(members("{}").unwrap().is_empty() && members("[1]").is_none());
    }

    #[test]
    fn what_is_no_text_is_a_problem_and_what_is_not_declared_is_kept() {
        let columns = ["a", "b"].map(|name| Member {
            name: name.to_owned(),
            is_nested: false,
            is_text: true,
            is_sensitive: false,
        });
        let declared = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let text = r#"{"a": "\ud800", "b": "é", "c": "x\ny", "d": [1], "e": null, "f": 1.0, "g": "\ud800"}"#;
        let record = Record { text: text.to_owned(), ended: true, ..Record::default() };
        let fields = object(&record, &columns, Some(&declared)).unwrap();
        assert_eq!(fields.texts, [None, Some("é".to_owned())]);
        assert_eq!(fields.problem.unwrap().why, r#"column `a`: `"\ud800"` is not a varchar"#);
        let kept = [("a", r#""\ud800""#), ("c", "x\ny"), ("d", "[1]"), ("f", "1.0"), ("g", r#""\ud800""#)];
        assert_eq!(fields.surplus, kept.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_record_is_split_as_the_fast_reader_does() {
        let mut reader = csv_core::Reader::new();
        let mut split = |text: &str| parts(&mut reader, text, ',', &mut Vec::new());
        assert_eq!(split("a,\"b\n\"\"c\",,d"), ["a", "b\n\"c", "", "d"]);
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split("x\"y\",\"z\"z"), ["x\"y\"", "zz"]);
    }
}
