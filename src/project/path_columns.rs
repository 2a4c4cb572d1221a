//! Columns that stand in the paths of files: Hive's `dt=2024-08-01/` folders, and patterns such as
//! `views_{date:%Y%m%d}.csv`.

use regex::Regex;

use super::source_options::check_pattern;
use super::yaml::{Mapping, Node, Raw, Reader};
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::check_identifier;

/// The columns that paths give.
#[derive(Debug, Clone, Default)]
pub struct PathColumns {
    /// `path_pattern`, as a regular expression over the end of a path, and as it was written.
    pub pattern: Option<(Regex, String)>,
    /// In the order of their declaration: those of folders, then those of the pattern.
    pub columns: Vec<PathColumn>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathColumn {
    /// Its name; also that of its folder, or of its group in the pattern.
    pub name: String,
    /// Its type.
    pub kind: PathType,
    /// How a date is written; ISO if not said.
    pub format: Option<String>,
    /// It stands in the pattern, not in a `name=value` folder.
    pub in_pattern: bool,
}

/// Types that a part of a path can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathType {
    /// `varchar`
    Text,
    /// `int`
    Int,
    /// `bigint`
    BigInt,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
}

pub(super) const TYPES: &[(&str, PathType)] = &[
    ("varchar", PathType::Text),
    ("text", PathType::Text),
    ("string", PathType::Text),
    ("int", PathType::Int),
    ("integer", PathType::Int),
    ("bigint", PathType::BigInt),
    ("date", PathType::Date),
    ("timestamp", PathType::Timestamp),
];

/// Reads `partition_columns:` and `path_pattern:` of a source table.
pub(super) fn read(table: &mut Mapping<'_>, reader: &mut Reader<'_>) -> PathColumns {
    let mut found = PathColumns::default();
    if let Some(node) = table.take("partition_columns") {
        for node in reader.list(node) {
            if let Some((column, span)) = partition_column(node, reader) {
                add(&mut found, column, &span, reader);
            }
        }
    }
    if let Some(node) = table.take("path_pattern")
        && let Some(text) = reader.text(node)
    {
        match pattern(&text) {
            Ok((regex, columns)) => {
                found.pattern = Some((regex, text));
                columns.into_iter().for_each(|column| add(&mut found, column, &node.span, reader));
            }
            Err(why) => {
                let help = "such as `views_{date:%Y%m%d}_{part:int}.csv`; `*` stands for anything";
                reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, why).at(node.span.clone()).help(help));
            }
        }
    }
    found
}

fn add(found: &mut PathColumns, column: PathColumn, span: &Span, reader: &mut Reader<'_>) {
    if found.columns.iter().any(|known| known.name == column.name) {
        let message = format!("column `{}` stands twice in paths", column.name);
        reader.diagnostics.push(Diagnostic::error(Id::DuplicateName, message).at(span.clone()));
        return;
    }
    found.columns.push(column);
}

/// `dt`, or `{ name: dt, data_type: date, format: "%Y%m%d" }`.
fn partition_column(node: &Node, reader: &mut Reader<'_>) -> Option<(PathColumn, Span)> {
    if !matches!(node.value, Raw::Map(_)) {
        let name = reader.text(node)?;
        return Some((PathColumn { name, kind: PathType::Text, format: None, in_pattern: false }, node.span.clone()));
    }
    let mut mapping = reader.mapping(node, "partition column")?;
    let name = mapping.require("name", reader).and_then(|node| Some((reader.text(node)?, node.span.clone())));
    let kind = mapping.take("data_type").and_then(|node| reader.choice(node, "type of a part of a path", TYPES));
    let format = mapping.take("format").and_then(|node| {
        let text = reader.text(node)?;
        check_pattern(&text).map_err(|why| reader.invalid(&node.span, why)).ok()?;
        Some(text)
    });
    mapping.finish(reader);
    let (name, span) = name?;
    let kind = kind.unwrap_or_else(|| format.as_deref().map_or(PathType::Text, kind_of_format));
    Some((PathColumn { name, kind, format, in_pattern: false }, span))
}

/// A date, unless the format has a time in it.
fn kind_of_format(format: &str) -> PathType {
    let time = ["%H", "%I", "%M", "%S", "%s", "%T", "%R", "%f", "%3f", "%p"];
    // `%-H` is an hour, too.
    let plain = ["%-", "%_", "%0"].iter().fold(format.to_owned(), |text, padded| text.replace(padded, "%"));
    if time.iter().any(|part| plain.contains(part)) { PathType::Timestamp } else { PathType::Date }
}

/// `views_{date:%Y%m%d}.csv` -> a regular expression with a group for each name.
fn pattern(text: &str) -> Result<(Regex, Vec<PathColumn>), String> {
    let (mut expression, mut columns, mut rest) = (String::from("(?:^|/)"), Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        if first == '{' {
            let (inside, after) = rest[1..].split_once('}').ok_or_else(|| format!("`{text}`: a `{{` has no `}}`"))?;
            let (column, matched) = group(inside)?;
            expression.push_str(&format!("({matched})"));
            columns.push(column);
            rest = after;
            continue;
        }
        match first {
            '*' => expression.push_str("[^/]*"),
            '}' => return Err(format!("`{text}`: a `}}` has no `{{`")),
            other => expression.push_str(&regex::escape(&other.to_string())),
        }
        rest = &rest[first.len_utf8()..];
    }
    expression.push('$');
    if columns.is_empty() {
        return Err(format!("`{text}` names no column"));
    }
    let regex = Regex::new(&expression).map_err(|_| format!("`{text}` is too long a pattern"))?;
    Ok((regex, columns))
}

fn group(inside: &str) -> Result<(PathColumn, String), String> {
    let (name, what) = inside.split_once(':').map_or((inside, None), |(name, what)| (name, Some(what)));
    check_identifier(name).map_err(|why| format!("`{name}` is not a valid name: {why}"))?;
    let column = |kind, format| PathColumn { name: name.to_owned(), kind, format, in_pattern: true };
    let Some(what) = what else { return Ok((column(PathType::Text, None), "[^/]+?".to_owned())) };
    if what.contains('%') {
        check_pattern(what)?;
        return Ok((column(kind_of_format(what), Some(what.to_owned())), expression_of(what)));
    }
    let kind = TYPES.iter().find(|(known, _)| *known == what).map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| {
        let near = crate::names::nearest(what, TYPES.iter().map(|(name, _)| *name));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("`{what}` is neither a date pattern nor a type of a part of a path{hint}")
    })?;
    let digits = matches!(kind, PathType::Int | PathType::BigInt);
    Ok((column(kind, None), if digits { "-?[0-9]+" } else { "[^/]+?" }.to_owned()))
}

/// What a date pattern can match: digits of known length where there are some.
fn expression_of(format: &str) -> String {
    let mut expression = String::new();
    let mut chars = format.chars();
    while let Some(letter) = chars.next() {
        if letter != '%' {
            expression.push_str(&regex::escape(&letter.to_string()));
            continue;
        }
        expression.push_str(match chars.next() {
            Some('Y' | 'G') => "[0-9]{4}",
            Some('m' | 'd' | 'H' | 'I' | 'M' | 'S' | 'y' | 'V' | 'U' | 'W') => "[0-9]{2}",
            Some('j') => "[0-9]{3}",
            Some('F') => "[0-9]{4}-[0-9]{2}-[0-9]{2}",
            Some('s') => "[0-9]+",
            Some('b' | 'h' | 'a') => "[A-Za-z]{3}",
            // A width or a padding, and then a letter.
            Some('-' | '_' | '0' | '3' | '6' | '9') => {
                chars.next();
                "[0-9 ]+"
            }
            _ => "[^/]+?",
        });
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern_text: &str, path: &str) -> Option<Vec<String>> {
        let (regex, _) = pattern(pattern_text).unwrap();
        let captures = regex.captures(path)?;
        Some(captures.iter().skip(1).map(|part| part.unwrap().as_str().to_owned()).collect())
    }

    #[test]
    fn a_pattern_finds_the_parts_of_a_path() {
        assert_eq!(found("views_{d:%Y%m%d}.csv", "a/views_20240801.csv").unwrap(), ["20240801"]);
        assert_eq!(found("views_{d:%Y%m%d}.csv", "a/old_views_20240801.csv"), None);
        assert_eq!(found("{shop}/{y:%Y}/*_{n:int}.csv", "x/berlin/2024/part_7.csv").unwrap(), ["berlin", "2024", "7"]);
        assert_eq!(found("{a}_{b}.json", "one_two_three.json").unwrap(), ["one", "two_three"]);
    }

    #[test]
    fn hours_without_a_leading_zero_are_times() {
        let text = "{at:%Y-%m-%d-%-H-%-M-%-S}-events.json";
        assert_eq!(pattern(text).unwrap().1[0].kind, PathType::Timestamp);
        assert_eq!(pattern("{day:%Y-%-m-%-d}.csv").unwrap().1[0].kind, PathType::Date);
        assert_eq!(found(text, "2019-06-01-15-17-4-events.json").unwrap(), ["2019-06-01-15-17-4"]);
    }

    #[test]
    fn a_pattern_that_cannot_be_is_refused() {
        for (text, why) in [
            ("views.csv", "names no column"),
            ("{d:%Q}", "no date has"),
            ("{d:bigit}", "did you mean `bigint`"),
            ("{1st}", "not a valid name"),
            ("{d", "has no `}`"),
        ] {
            let error = pattern(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
