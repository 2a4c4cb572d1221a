//! Templates with marks: the same text, and at each piece of it a call that tells where the piece stands.
//!
//! A mark is `{{ __lake_mark(7) }}`. It writes a few private-use characters that name a [`Mark`], so that what comes out
//! of macros, loops, captures and calls still tells who wrote it; [`super::expansion`] reads them.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostics::SourceFile;

/// The function that marks call.
pub(super) const FUNCTION: &str = "__lake_mark";

/// What a mark says about what follows it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) kind: Kind,
    pub(super) file: Arc<SourceFile>,
    /// The raw text, the expression or the tag.
    pub(super) range: Range<usize>,
    /// The mark that opened the body in which this one stands; none at the top of a model.
    pub(super) owner: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Raw text follows, byte for byte.
    Text,
    /// What follows is written, or called, by an expression or a tag.
    Site,
    /// The body of a macro begins.
    Enter(String),
    /// The body of a `call` block begins.
    EnterCaller,
    /// The body ends.
    Leave,
}

/// The first of the characters that only marks may use: the last part of Unicode's last private-use plane.
const FIRST: u32 = 0x10_E000;
const DIGITS: u32 = 0x1000;
const START: char = '\u{10FFF0}';

/// Whether a character belongs to a mark.
pub(super) fn is_mark(c: char) -> bool {
    c as u32 >= FIRST
}

/// The characters that a mark writes.
pub(super) fn encode(mark: usize) -> String {
    let mark = u32::try_from(mark).unwrap_or(u32::MAX);
    let digit = |value: u32| char::from_u32(FIRST + value % DIGITS).expect("all of them are characters");
    [START, digit(mark / DIGITS / DIGITS), digit(mark / DIGITS), digit(mark)].iter().collect()
}

/// The mark at the start of `text`, and its length in bytes.
pub(super) fn decode(text: &str) -> Option<(usize, usize)> {
    let mut letters = text.strip_prefix(START)?.chars();
    let mut number = 0;
    for _ in 0..3 {
        let digit = (letters.next()? as u32).checked_sub(FIRST).filter(|digit| *digit < DIGITS)?;
        number = number * DIGITS as usize + digit as usize;
    }
    Some((number, 4 * START.len_utf8()))
}

/// Copies a file with a mark at each piece. In a file of macros only bodies are marked.
/// `None` if the file has characters that marks need, or does not parse.
pub(super) fn marked(file: &Arc<SourceFile>, is_library: bool, marks: &mut Vec<Mark>) -> Option<Arc<SourceFile>> {
    if file.text.contains(is_mark) {
        return None;
    }
    let mut writer = Writer { file, marks, out: String::with_capacity(file.text.len() * 2), bodies: Vec::new() };
    for piece in pieces(&file.text)? {
        if is_library && writer.bodies.is_empty() && !piece.word(&file.text).is_some_and(is_body) {
            writer.out.push_str(&file.text[piece.whole]);
        } else {
            writer.piece(&piece);
        }
    }
    Some(Arc::new(SourceFile { path: file.path.clone(), text: writer.out }))
}

fn is_body(word: &str) -> bool {
    matches!(word, "macro" | "test" | "call")
}

struct Writer<'a> {
    file: &'a Arc<SourceFile>,
    marks: &'a mut Vec<Mark>,
    out: String,
    /// The marks of the bodies around the current place.
    bodies: Vec<usize>,
}

impl Writer<'_> {
    fn mark(&mut self, kind: Kind, range: Range<usize>) -> usize {
        let mark = self.marks.len();
        self.out.push_str(&format!("{{{{ {FUNCTION}({mark}) }}}}"));
        let owner = self.bodies.last().copied();
        self.marks.push(Mark { kind, file: Arc::clone(self.file), range, owner });
        mark
    }

    fn enter(&mut self, kind: Kind, range: Range<usize>) {
        let mark = self.mark(kind, range);
        self.bodies.push(mark);
    }

    fn piece(&mut self, piece: &Piece) {
        let (text, range) = (&self.file.text, piece.range.clone());
        let copy = &text[range.clone()];
        match piece.kind {
            PieceKind::Text if copy.is_empty() => {}
            PieceKind::Text => {
                self.mark(Kind::Text, range);
                // White space that the tags around take away is gone here, since a mark would protect it.
                self.out.push_str(copy);
            }
            PieceKind::Raw => {
                self.mark(Kind::Text, range);
                self.out.push_str(&format!("{{% raw %}}{copy}{{% endraw %}}"));
            }
            // It parts white space from a tag behind it that would take it away.
            PieceKind::Comment => self.out.push_str("{##}"),
            PieceKind::Variable => {
                self.mark(Kind::Site, range);
                self.out.push_str(copy);
            }
            PieceKind::Tag => match piece.word(text).unwrap_or_default() {
                "macro" | "test" => {
                    self.out.push_str(copy);
                    self.enter(Kind::Enter(macro_name(copy)), range);
                }
                "call" => {
                    self.mark(Kind::Site, range.clone());
                    self.out.push_str(copy);
                    self.enter(Kind::EnterCaller, range);
                }
                "endmacro" | "endtest" | "endcall" => {
                    self.mark(Kind::Leave, range);
                    self.bodies.pop();
                    self.out.push_str(copy);
                }
                "set" | "do" | "for" | "if" | "filter" | "with" | "include" => {
                    self.mark(Kind::Site, range);
                    self.out.push_str(copy);
                }
                _ => self.out.push_str(copy),
            },
        }
    }
}

/// `cents` of `{%- macro cents(column) %}`.
fn macro_name(tag: &str) -> String {
    let words = tag.trim_start_matches(['{', '%', '-', '+']).trim_start();
    let rest = words.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// A piece of a template as minijinja's lexer cuts it.
struct Piece {
    kind: PieceKind,
    /// What is written or evaluated: text without the white space that tags take away.
    range: Range<usize>,
    /// All of it.
    whole: Range<usize>,
}

#[derive(PartialEq, Eq)]
enum PieceKind {
    Text,
    /// The text of a `raw` block; the whole piece includes its tags.
    Raw,
    Comment,
    Variable,
    Tag,
}

impl Piece {
    /// The first word of a tag.
    fn word<'t>(&self, text: &'t str) -> Option<&'t str> {
        if self.kind != PieceKind::Tag {
            return None;
        }
        let inner = text[self.range.clone()].get(2..)?.trim_start_matches(['-', '+']).trim_start();
        Some(&inner[..inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len())])
    }
}

/// Cuts a template into pieces; `None` if something is not closed.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut found = Vec::new();
    let (mut at, mut trim) = (0, false);
    while at < text.len() {
        let open = next_open(text, at);
        let stop = open.unwrap_or(text.len());
        let takes = open.is_some_and(|open| text[open + 2..].starts_with('-'));
        let range = trimmed(text, at..stop, trim, takes);
        found.push(Piece { kind: PieceKind::Text, range, whole: at..stop });
        let Some(open) = open else { break };
        let mut piece = match text.as_bytes()[open + 1] {
            b'#' => {
                let end = open + 2 + text[open + 2..].find("#}")? + 2;
                Piece { kind: PieceKind::Comment, range: open..end, whole: open..end }
            }
            b'{' => {
                let end = close(text, open + 2, "}}")?;
                Piece { kind: PieceKind::Variable, range: open..end, whole: open..end }
            }
            _ => {
                let end = close(text, open + 2, "%}")?;
                Piece { kind: PieceKind::Tag, range: open..end, whole: open..end }
            }
        };
        let mut last = piece.whole.end - 3;
        if piece.word(text) == Some("raw") {
            let (body, end) = raw_body(text, piece.whole.end)?;
            let starts = text.as_bytes()[last] == b'-';
            let ends = text[body.end + 2..].starts_with('-');
            piece = Piece { kind: PieceKind::Raw, range: trimmed(text, body, starts, ends), whole: open..end };
            last = end - 3;
        }
        trim = last >= open + 2 && text.as_bytes()[last] == b'-';
        at = piece.whole.end;
        found.push(piece);
    }
    Some(found)
}

fn next_open(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|at| bytes[*at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

fn trimmed(text: &str, range: Range<usize>, start: bool, end: bool) -> Range<usize> {
    let mut inner = &text[range.clone()];
    let mut from = range.start;
    if start {
        inner = inner.trim_start();
        from = range.end - inner.len();
    }
    if end {
        inner = inner.trim_end();
    }
    from..from + inner.len()
}

/// The end of an expression or tag whose inner text starts at `from`: brackets and strings may hold the delimiter.
fn close(text: &str, from: usize, delimiter: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (from, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            _ if depth == 0 && bytes[at..].starts_with(delimiter.as_bytes()) => return Some(at + 2),
            quote @ (b'\'' | b'"') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The text of a `raw` block that starts at `from`, and where its end tag ends.
fn raw_body(text: &str, from: usize) -> Option<(Range<usize>, usize)> {
    let mut at = from;
    loop {
        let open = at + text[at..].find("{%")?;
        let inner = text[open + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = inner.strip_prefix("endraw") {
            let end = text.len() - rest.len() + rest.find("%}")? + 2;
            return Some((from..open, end));
        }
        at = open + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        for number in [0, 1, 4095, 4096, 123_456_789] {
            assert_eq!(decode(&(encode(number) + "x")), Some((number, 16)));
        }
        assert_eq!(decode("x"), None);
    }

    #[test]
    fn a_marked_template_writes_the_same_text() {
        let template = "a {%- raw -%} {{ x }} {%- endraw %}\n{%- set d = {'a': {'b': '}}'}} -%}  b {{- d.a.b -}} c\
            {# note -#}  d {% for i in [1, 2] -%} {{ i }}, {% endfor %}{% macro m(x) -%} <{{ x }}> {%- endmacro %}{{ m(1) }}\n";
        let mut marks = Vec::new();
        let file = Arc::new(SourceFile { path: "m.sql".into(), text: template.into() });
        let copy = marked(&file, false, &mut marks).unwrap();
        let mut environment = minijinja::Environment::new();
        environment.set_syntax(crate::template::syntax());
        environment.add_function(FUNCTION, encode);
        let expected = environment.render_str(template, ()).unwrap();
        let text = environment.render_str(&copy.text, ()).unwrap();
        assert_eq!(text.replace(is_mark, ""), expected);
    }
}
