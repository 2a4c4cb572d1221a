//! From rendered SQL back to the template.
//!
//! minijinja writes the raw text of a template as slices borrowed from its source, so the address of
//! a written slice tells its offset in the template. What an expression wrote has no such address: it
//! belongs to the `{{ ... }}` that stands where the raw text before it ended.

use std::io::Write;
use std::sync::Arc;

use minijinja::{Error, Template, Value};

use crate::diagnostics::{SourceFile, Span};

/// The SQL of a model, and where each piece of it came from.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The rendered text.
    pub sql: String,
    /// The template.
    pub file: Arc<SourceFile>,
    pieces: Vec<Piece>,
}

/// A run of rendered text with one origin.
#[derive(Debug, Clone)]
struct Piece {
    /// Where it starts in the rendered text.
    start: usize,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    /// Raw text: starts at this offset of the template, byte for byte.
    Text(usize),
    /// Written by the expression in this range of the template.
    Expression(usize, usize),
}

impl Rendered {
    /// Leads every place on by `original`, for a template that was rewritten before it was rendered. Raw text was not.
    pub(super) fn relocate(&mut self, original: impl Fn(usize) -> usize) {
        for piece in &mut self.pieces {
            piece.origin = match piece.origin {
                Origin::Text(at) => Origin::Text(original(at)),
                Origin::Expression(start, end) => Origin::Expression(original(start), original(end)),
            };
        }
    }

    /// The place in the template of a range of the SQL.
    pub fn locate(&self, start: usize, end: usize) -> Span {
        let (from, from_end) = self.origin(start);
        let (_, to_end) = self.origin(end.saturating_sub(1).max(start));
        Span::new(&self.file, from, to_end.max(from_end))
    }

    /// The place in the template of a line and column (from 1, in characters) of the SQL.
    pub fn locate_position(&self, start: (usize, usize), end: (usize, usize)) -> Span {
        let text = SourceFile { path: String::new(), text: self.sql.clone() };
        let from = text.offset(start.0, start.1);
        self.locate(from, text.offset(end.0, end.1).max(from + 1))
    }

    /// The range of the template that made the byte at `offset` of the SQL.
    fn origin(&self, offset: usize) -> (usize, usize) {
        let at = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        match self.pieces.get(at) {
            Some(Piece { start, origin: Origin::Text(template) }) => {
                let place = template + (offset - start);
                (place, place + 1)
            }
            Some(Piece { origin: Origin::Expression(start, end), .. }) => (*start, *end),
            None => (0, 0),
        }
    }
}

/// What a render wrote, before the prefix is taken off.
pub(super) struct Map {
    output: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Map {
    pub(super) fn into_rendered(self, file: Arc<SourceFile>) -> Rendered {
        let sql = String::from_utf8_lossy(&self.output).into_owned();
        Rendered { sql, file, pieces: self.pieces }
    }
}

/// Renders `template`, whose first `prefix` bytes are not the user's, into text and map.
pub(super) fn render(template: &Template<'_, '_>, context: Value, prefix: usize) -> Result<Map, Error> {
    let mut recorder =
        Recorder { source: template.source(), prefix, cursor: prefix, output: Vec::new(), pieces: Vec::new() };
    template.render_captured_to(context, &mut recorder)?;
    Ok(Map { output: recorder.output, pieces: recorder.pieces })
}

struct Recorder<'a> {
    source: &'a str,
    prefix: usize,
    /// Where in the template the last piece ended.
    cursor: usize,
    output: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Recorder<'_> {
    fn origin(&mut self, written: &[u8]) -> Origin {
        let base = self.source.as_ptr() as usize;
        let address = written.as_ptr() as usize;
        if address >= base && address + written.len() <= base + self.source.len() {
            let offset = address - base;
            self.cursor = offset + written.len();
            return Origin::Text(offset - self.prefix.min(offset));
        }
        if let Some((start, end)) = next_expression(self.source, self.cursor) {
            self.cursor = end;
            return Origin::Expression(start - self.prefix, end - self.prefix);
        }
        match self.pieces.last() {
            Some(Piece { origin: Origin::Expression(start, end), .. }) => Origin::Expression(*start, *end),
            _ => Origin::Expression(self.cursor - self.prefix, self.cursor - self.prefix),
        }
    }
}

impl Write for Recorder<'_> {
    fn write(&mut self, written: &[u8]) -> std::io::Result<usize> {
        if !written.is_empty() {
            let origin = self.origin(written);
            self.pieces.push(Piece { start: self.output.len(), origin });
            self.output.extend_from_slice(written);
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The next `{{ ... }}` at or after `from`, with nothing but tags, comments and blanks before it: anything
/// else would have been written on its own.
fn next_expression(source: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let rest = &source[at..];
        let blank = rest.len() - rest.trim_start().len();
        let here = &rest[blank..];
        let close = if here.starts_with("{{") {
            let end = here.find("}}")? + 2;
            return Some((at + blank, at + blank + end));
        } else if here.starts_with("{%") {
            "%}"
        } else if here.starts_with("{#") {
            "#}"
        } else {
            return None;
        };
        at += blank + here.find(close)? + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Rendered {
        let mut environment = minijinja::Environment::new();
        environment.set_syntax(crate::template::syntax());
        let template = environment.template_from_named_str("m.sql", text).unwrap();
        let map = render(&template, minijinja::context! { a => "AAAA", n => 12 }, 0).unwrap();
        map.into_rendered(Arc::new(SourceFile { path: "m.sql".into(), text: text.into() }))
    }

    #[test]
    fn raw_text_maps_to_itself_through_loops_and_expressions() {
        let map = rendered("{% for x in [1, 2] %}\n{{ x }} one {{ a }}{{ n }}\n{% endfor %}two");
        for (word, expected) in [("one", "o"), ("two", "t"), ("AAAA", "{{ a }}"), ("12", "{{ n }}")] {
            let at = map.sql.rfind(word).unwrap();
            assert_eq!(map.locate(at, at + 1).text(), expected, "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_raw_byte_points_at_an_equal_byte(parts in proptest::collection::vec("[a-z \n]{0,6}", 0..6)) {
            let text = parts.join("{{ a }}{% if n %} x{% endif %}");
            let map = rendered(&text);
            for (offset, c) in map.sql.char_indices().filter(|(_, c)| c.is_ascii_lowercase()) {
                let span = map.locate(offset, offset + 1);
                proptest::prop_assert_eq!(span.text(), c.to_string());
            }
        }
    }
}
