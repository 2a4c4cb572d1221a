//! From rendered SQL back to the file that was rendered, without the way through macros.
//!
//! minijinja writes the raw text of a template as slices borrowed from its source, so the address of
//! a written slice tells its offset in the template. What an expression wrote has no such address: it
//! belongs to the `{{ ... }}` that stands where the raw text before it ended.

use std::io::Write;
use std::sync::Arc;

use minijinja::{Error, Template, Value};

use crate::diagnostics::{SourceFile, Span};

/// Where each piece of a rendered text came from.
#[derive(Debug)]
pub(super) struct PointerMap {
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

impl PointerMap {
    /// Leads every place on by `original`, for a template that was rewritten before it was rendered. Raw text was not.
    pub(super) fn relocate(&mut self, original: impl Fn(usize) -> usize) {
        for piece in &mut self.pieces {
            piece.origin = match piece.origin {
                Origin::Text(at) => Origin::Text(original(at)),
                Origin::Expression(start, end) => Origin::Expression(original(start), original(end)),
            };
        }
    }

    /// The place in the template of the bytes from `start` to `last` of the text.
    pub(super) fn locate(&self, file: &Arc<SourceFile>, start: usize, last: usize) -> Span {
        let (from, from_end) = self.origin(start);
        let (_, to_end) = self.origin(last);
        Span::new(file, from, to_end.max(from_end))
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

/// Renders `template`, whose first `prefix` bytes are not the user's.
pub(super) fn render(template: &Template<'_, '_>, context: Value, prefix: usize) -> Result<PointerMap, Error> {
    let mut recorder = Recorder { source: template.source(), prefix, cursor: prefix, written: 0, pieces: Vec::new() };
    template.render_captured_to(context, &mut recorder)?;
    Ok(PointerMap { pieces: recorder.pieces })
}

struct Recorder<'a> {
    source: &'a str,
    prefix: usize,
    /// Where in the template the last piece ended.
    cursor: usize,
    written: usize,
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
            self.pieces.push(Piece { start: self.written, origin });
            self.written += written.len();
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

    fn rendered(text: &str) -> (String, PointerMap, Arc<SourceFile>) {
        let mut environment = minijinja::Environment::new();
        environment.set_syntax(crate::template::syntax());
        let template = environment.template_from_named_str("m.sql", text).unwrap();
        let context = minijinja::context! { a => "AAAA", n => 12 };
        let map = render(&template, context.clone(), 0).unwrap();
        let file = SourceFile::new("m.sql", text);
        (template.render(context).unwrap(), map, Arc::new(file))
    }

    #[test]
    fn raw_text_maps_to_itself_through_loops_and_expressions() {
        let (sql, map, file) = rendered("{% for x in [1, 2] %}\n{{ x }} one {{ a }}{{ n }}\n{% endfor %}two");
        for (word, expected) in [("one", "o"), ("two", "t"), ("AAAA", "{{ a }}"), ("12", "{{ n }}")] {
            let at = sql.rfind(word).unwrap();
            assert_eq!(map.locate(&file, at, at).text(), expected, "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_raw_byte_points_at_an_equal_byte(parts in proptest::collection::vec("[a-z \n]{0,6}", 0..6)) {
            let text = parts.join("{{ a }}{% if n %} x{% endif %}");
            let (sql, map, file) = rendered(&text);
            for (offset, c) in sql.char_indices().filter(|(_, c)| c.is_ascii_lowercase()) {
                let span = map.locate(&file, offset, offset);
                proptest::prop_assert_eq!(span.text(), c.to_string());
            }
        }
    }
}
