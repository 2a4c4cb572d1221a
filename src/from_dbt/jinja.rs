//! Templates as text: what of a file is SQL and what is Jinja, calls with their arguments, and literals.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Copies of a text, each with spaces in place of what is something else, so that places are those of the text.
pub(super) struct Masks {
    /// SQL without texts in quotes and comments.
    pub(super) sql: String,
    /// The inside of `{{ }}` and `{% %}` without texts in quotes.
    pub(super) jinja: String,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Sql,
    Quoted,
    LineComment,
    BlockComment,
}

/// Tells SQL from Jinja.
pub(super) fn masks(text: &str) -> Masks {
    let (mut sql, mut jinja) = (blank(text), blank(text));
    let bytes = text.as_bytes();
    let (mut at, mut state) = (0, At::Sql);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"{#") {
            at = find(bytes, at + 2, b"#}") + 2;
        } else if rest.starts_with(b"{{") || rest.starts_with(b"{%") {
            let close: &[u8; 2] = if rest[1] == b'{' { b"}}" } else { b"%}" };
            let end = expression_end(bytes, at + 2, close);
            let inner = text.get(at + 2..end).unwrap_or_default();
            if close == b"%}" && inner.trim_matches(['-', ' ', '+']) == "raw" {
                let past = text[end..].find("endraw").map_or(bytes.len(), |found| end + found);
                at = find(bytes, past, b"%}") + 2;
                continue;
            }
            unquoted(bytes, at + 2..end, &mut jinja);
            at = end + 2;
        } else {
            at = plain(bytes, at, &mut state, &mut sql);
        }
    }
    // Bytes of ASCII alone were put back.
    Masks { sql: String::from_utf8(sql).unwrap_or_default(), jinja: String::from_utf8(jinja).unwrap_or_default() }
}

/// One byte of SQL; returns where the next one is.
fn plain(bytes: &[u8], at: usize, state: &mut At, sql: &mut [u8]) -> usize {
    let rest = &bytes[at..];
    let two = rest.get(..2).unwrap_or_default();
    let (next, width) = match *state {
        At::Sql if rest[0] == b'\'' => (At::Quoted, 1),
        At::Sql if two == b"--" => (At::LineComment, 2),
        At::Sql if two == b"/*" => (At::BlockComment, 2),
        At::Sql => {
            if rest[0].is_ascii() {
                sql[at] = rest[0];
            }
            (At::Sql, 1)
        }
        At::Quoted if two == b"''" => (At::Quoted, 2),
        At::Quoted if rest[0] == b'\'' => (At::Sql, 1),
        At::LineComment if rest[0] == b'\n' => (At::Sql, 1),
        At::BlockComment if two == b"*/" => (At::Sql, 2),
        other => (other, 1),
    };
    *state = next;
    at + width
}

/// Spaces, with the line ends of a text.
fn blank(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let from = from.min(bytes.len());
    let found = bytes[from..].windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |found| from + found)
}

/// Where an expression ends: its closing bracket outside of quotes.
fn expression_end(bytes: &[u8], from: usize, close: &[u8]) -> usize {
    let (mut at, mut quote) = (from, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (None, b'"' | b'\'') => quote = Some(bytes[at]),
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (None, _) if bytes[at..].starts_with(close) => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Puts an expression into a mask, without its quotes and what they hold.
fn unquoted(bytes: &[u8], range: Range<usize>, mask: &mut [u8]) {
    let (mut at, mut quote) = (range.start, None);
    while at < range.end {
        match (quote, bytes[at]) {
            (None, b'"' | b'\'') => quote = Some(bytes[at]),
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (None, byte) if byte.is_ascii() => mask[at] = byte,
            _ => {}
        }
        at += 1;
    }
}

/// A call in a template.
#[derive(Debug)]
pub(super) struct Call {
    /// What is called, with dots.
    pub(super) name: String,
    /// From the name to the closing bracket.
    pub(super) range: Range<usize>,
    pub(super) arguments: Vec<Argument>,
}

/// An argument of a call.
#[derive(Debug)]
pub(super) struct Argument {
    /// Of `name=value`.
    pub(super) name: Option<String>,
    /// With its name.
    pub(super) range: Range<usize>,
    /// The value alone.
    pub(super) value: Range<usize>,
}

static CALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"([A-Za-z_][A-Za-z0-9_.]*)\s*\(").expect("a regular expression"));
static NAMED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*([A-Za-z_][A-Za-z0-9_-]*)\s*=[^=]").expect("a regular expression"));

/// All calls of a template, those inside of others too.
pub(super) fn calls(text: &str, jinja: &str) -> Vec<Call> {
    let found = CALL.captures_iter(jinja).filter_map(|captures| {
        let (whole, name) = (captures.get(0)?, captures.get(1)?);
        // A method of a value is no name of its own.
        if jinja[..name.start()].trim_end().ends_with('.') {
            return None;
        }
        let (end, commas) = arguments_end(jinja, whole.end())?;
        let mut arguments = Vec::new();
        let mut start = whole.end();
        for stop in commas.into_iter().chain([end]) {
            arguments.extend(argument(text, jinja, start..stop));
            start = stop + 1;
        }
        Some(Call { name: name.as_str().to_owned(), range: name.start()..end + 1, arguments })
    });
    found.collect()
}

/// The entries of the mapping that is the one argument of a call, `f({'a': 1})`, as if they were arguments.
pub(super) fn entries(text: &str, jinja: &str, call: &Call) -> Option<(Range<usize>, Vec<Argument>)> {
    let [Argument { name: None, range, .. }] = call.arguments.as_slice() else { return None };
    if !jinja[range.clone()].starts_with('{') {
        return None;
    }
    let (end, commas) = arguments_end(jinja, range.start + 1)?;
    let (mut found, mut start) = (Vec::new(), range.start + 1);
    for stop in commas.into_iter().chain([end]) {
        let written = &text[start..stop];
        if !written.trim().is_empty() {
            let first = start + (written.len() - written.trim_start().len());
            let colon = first + jinja[first..stop].find(':')?;
            let last = start + written.trim_end().len();
            let value = colon + 1 + (text[colon + 1..last].len() - text[colon + 1..last].trim_start().len());
            let name = text[first..colon].trim().trim_matches(['\'', '"']).to_owned();
            found.push(Argument { name: Some(name), range: first..last, value: value..last });
        }
        start = stop + 1;
    }
    Some((range.start..end + 1, found))
}

/// Where the bracket closes, and the commas before it.
fn arguments_end(jinja: &str, from: usize) -> Option<(usize, Vec<usize>)> {
    let (mut depth, mut commas) = (0, Vec::new());
    for (at, byte) in jinja.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b'}' if depth == 0 => return Some((at, commas)),
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => commas.push(at),
            _ => {}
        }
    }
    None
}

fn argument(text: &str, jinja: &str, range: Range<usize>) -> Option<Argument> {
    let written = &text[range.clone()];
    if written.trim().is_empty() {
        return None;
    }
    let lead = written.len() - written.trim_start().len();
    let (start, end) = (range.start + lead, range.start + written.trim_end().len());
    let named = NAMED.captures(&jinja[start..range.end]).and_then(|captures| captures.get(1));
    let name = named.map(|name| name.as_str().to_owned());
    let value = match named {
        Some(name) => {
            let sign = start + name.end() + jinja[start + name.end()..].find('=')? + 1;
            sign + (text[sign..end].len() - text[sign..end].trim_start().len())
        }
        None => start,
    };
    Some(Argument { name, range: start..end, value: value..end })
}

/// A literal of Jinja as JSON: texts, numbers, booleans, lists and mappings of these.
pub(super) fn literal(text: &str) -> Option<Value> {
    let mut rest = text.trim();
    let value = one(&mut rest)?;
    rest.trim().is_empty().then_some(value)
}

fn one(rest: &mut &str) -> Option<Value> {
    *rest = rest.trim_start();
    match rest.chars().next()? {
        quote @ ('"' | '\'') => quoted(rest, quote).map(Value::String),
        '[' => list(rest, ']').map(Value::Array),
        '(' => list(rest, ')').map(Value::Array),
        '{' => mapping(rest).map(Value::Object),
        _ => {
            let end = rest.find([',', ']', ')', '}', ':']).unwrap_or(rest.len());
            let word = rest[..end].trim();
            *rest = &rest[end..];
            match word {
                "true" | "True" => Some(Value::Bool(true)),
                "false" | "False" => Some(Value::Bool(false)),
                "none" | "None" => Some(Value::Null),
                _ => serde_json::from_str::<serde_json::Number>(word).ok().map(Value::Number),
            }
        }
    }
}

fn quoted(rest: &mut &str, quote: char) -> Option<String> {
    let (mut found, mut is_escaped) = (String::new(), false);
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if is_escaped => {
                found.push(if letter == 'n' { '\n' } else { letter });
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            _ if letter == quote => {
                *rest = &rest[at + letter.len_utf8()..];
                return Some(found);
            }
            _ => found.push(letter),
        }
    }
    None
}

fn list(rest: &mut &str, close: char) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    *rest = &rest[1..];
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(close) {
            *rest = after;
            return Some(found);
        }
        found.push(one(rest)?);
        *rest = rest.trim_start();
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn mapping(rest: &mut &str) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    *rest = &rest[1..];
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            *rest = after;
            return Some(found);
        }
        let key = one(rest)?;
        *rest = rest.trim_start().strip_prefix(':')?;
        let value = one(rest)?;
        found.insert(key.as_str()?.to_owned(), value);
        *rest = rest.trim_start();
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_and_jinja_are_told_apart() {
        let text = "select 'it''s {{ a('x)') }}', b -- c {{ d }}\n{# e #}{% raw %}{{ f }}{% endraw %} /* g */ from h";
        let masks = masks(text);
        assert_eq!(masks.sql.split_whitespace().collect::<Vec<_>>(), ["select", ",", "b", "from", "h"]);
        assert_eq!(masks.jinja.split_whitespace().collect::<Vec<_>>(), ["a(", ")", "d"]);
        assert_eq!((masks.sql.len(), masks.jinja.len()), (text.len(), text.len()));
    }

    #[test]
    fn calls_have_their_arguments() {
        let text = "{{ config(materialized='table', tags=['a', \"b,\"], meta = {'x': f(1, 2)}) }}";
        let found = calls(text, &masks(text).jinja);
        let names: Vec<_> = found.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["config", "f"]);
        let arguments: Vec<_> =
            found[0].arguments.iter().map(|a| (a.name.as_deref(), &text[a.value.clone()])).collect();
        assert_eq!(
            arguments,
            [(Some("materialized"), "'table'"), (Some("tags"), "['a', \"b,\"]"), (Some("meta"), "{'x': f(1, 2)}")]
        );
        assert_eq!(&text[found[0].range.clone()], &text[3..text.len() - 3]);
    }

    #[test]
    fn literals_are_read() {
        assert_eq!(literal("['a', \"b\", 1, True, None,]"), Some(serde_json::json!(["a", "b", 1, true, null])));
        assert_eq!(literal("{'field': 'day', 'n': {}}"), Some(serde_json::json!({"field": "day", "n": {}})));
        assert_eq!(literal("var('x')"), None);
        assert_eq!(literal("'a' ~ 'b'"), None);
    }
}
