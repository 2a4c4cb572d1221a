//! What stands in the tags of a template: enough of Jinja's grammar to find macros, tests and the words they use.

use std::ops::Range;

/// `{{ ... }}` or `{% ... %}`.
#[derive(Debug)]
pub(super) struct Tag {
    /// The whole tag.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What stands between the delimiters, without marks of whitespace control.
    pub(super) inner: Range<usize>,
    pub(super) is_block: bool,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    Text,
    Number,
    Sign,
}

/// A word, number, text or sign in a tag.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    pub(super) fn text<'t>(&self, text: &'t str) -> &'t str {
        &text[self.start..self.end]
    }
}

/// The tags of a template, without comments and what is `raw`.
pub(super) fn tags(text: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|offset| at + offset) {
        let (close, is_block) = match text.as_bytes().get(open + 1) {
            Some(b'{') => ("}}", false),
            Some(b'%') => ("%}", true),
            Some(b'#') => {
                at = text[open..].find("#}").map_or(text.len(), |end| open + end + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        let Some(end) = tag_end(text, open + 2, close) else { break };
        let tag = Tag { start: open, end: end + 2, inner: trimmed(text, open + 2, end), is_block };
        at = tag.end;
        if is_block && tokens(text, tag.inner.clone()).first().is_some_and(|first| first.text(text) == "raw") {
            at = end_of_raw(text, at);
            continue;
        }
        found.push(tag);
    }
    found
}

/// Where the closing delimiter stands, past texts in quotes and past braces.
fn tag_end(text: &str, from: usize, close: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut braces) = (from, 0usize);
    while at < bytes.len() {
        if braces == 0 && text.as_bytes()[at..].starts_with(close.as_bytes()) {
            return Some(at);
        }
        match bytes[at] {
            b'\'' | b'"' => at = quoted_end(bytes, at),
            b'{' => {
                braces += 1;
                at += 1;
            }
            b'}' => {
                braces = braces.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// One past the closing quote of the text that starts at `from`.
fn quoted_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == bytes[from] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn trimmed(text: &str, from: usize, to: usize) -> Range<usize> {
    let marks = ['-', '+'];
    let inner = &text[from..to];
    let start = if inner.starts_with(marks) { from + 1 } else { from };
    let end = if inner.ends_with(marks) && to > start { to - 1 } else { to };
    start..end.max(start)
}

fn end_of_raw(text: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(open) = text[at..].find("{%").map(|offset| at + offset) {
        let Some(close) = text[open..].find("%}").map(|offset| open + offset) else { break };
        if text[open + 2..close].trim_matches(['-', '+', ' ', '\t', '\n', '\r']) == "endraw" {
            return close + 2;
        }
        at = open + 2;
    }
    text.len()
}

/// The tokens between two offsets.
pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let byte = bytes[at];
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        let (kind, end) = match byte {
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'\'' | b'"' => (TokenKind::Text, quoted_end(bytes, at).min(range.end)),
            _ if byte.is_ascii_digit() => {
                let length = bytes[at..range.end].iter().take_while(|b| is_word(**b) || **b == b'.').count();
                (TokenKind::Number, at + length)
            }
            _ if is_word(byte) => {
                (TokenKind::Word, at + bytes[at..range.end].iter().take_while(|b| is_word(**b)).count())
            }
            _ if range.end >= at + 2 && matches!(&bytes[at..at + 2], b"==" | b"!=" | b"<=" | b">=" | b"//" | b"**") => {
                (TokenKind::Sign, at + 2)
            }
            _ => (TokenKind::Sign, at + 1),
        };
        found.push(Token { kind, start: at, end });
        at = end;
    }
    found
}

/// What a definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefinitionKind {
    Macro,
    Test,
}

/// A parameter, and where its default stands.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) default: Option<Range<usize>>,
}

/// `{% macro name(...) %}...{% endmacro %}`, or the same with `test`.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) kind: DefinitionKind,
    pub(super) name: String,
    pub(super) name_range: Range<usize>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) close_paren: usize,
    pub(super) trailing_comma: bool,
    /// All of it.
    pub(super) start: usize,
    pub(super) end: usize,
    /// What stands between its tags.
    pub(super) body: Range<usize>,
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) takes_caller: bool,
}

/// The macros and generic tests that a file defines. What is not well formed is left to the parser, which says why.
pub(super) fn definitions(text: &str) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    let mut open: Option<Definition> = None;
    for tag in tags(text) {
        let tokens = tokens(text, tag.inner.clone());
        let first = tokens.first().filter(|_| tag.is_block).map_or("", |token| token.text(text));
        match first {
            "macro" if open.is_none() => open = header(text, &tag, &tokens, DefinitionKind::Macro),
            "test" if open.is_none() => open = header(text, &tag, &tokens, DefinitionKind::Test),
            "endmacro" | "endtest" => {
                if let Some(mut definition) = open.take() {
                    definition.body.end = tag.start;
                    definition.end = tag.end;
                    found.push(definition);
                }
            }
            _ => {
                if let Some(definition) = &mut open {
                    let says = |word: &str| {
                        tokens.iter().any(|token| token.kind == TokenKind::Word && token.text(text) == word)
                    };
                    definition.takes_varargs |= says("varargs");
                    definition.takes_kwargs |= says("kwargs");
                    definition.takes_caller |= says("caller");
                }
            }
        }
    }
    found
}

fn header(text: &str, tag: &Tag, tokens: &[Token], kind: DefinitionKind) -> Option<Definition> {
    let name = tokens.get(1).filter(|token| token.kind == TokenKind::Word)?;
    if tokens.get(2)?.text(text) != "(" {
        return None;
    }
    let (mut depth, mut from, mut close) = (0usize, 3, None);
    let mut parameters = Vec::new();
    for (at, token) in tokens.iter().enumerate().skip(2) {
        match token.text(text) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "," if depth == 1 => {
                parameters.extend(parameter(text, &tokens[from..at]));
                from = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            close = Some(at);
            break;
        }
    }
    let close = close?;
    let trailing_comma = close > 3 && from == close;
    parameters.extend(parameter(text, &tokens[from.min(close)..close]));
    Some(Definition {
        kind,
        name: name.text(text).to_owned(),
        name_range: name.start..name.end,
        parameters,
        close_paren: tokens[close].start,
        trailing_comma,
        start: tag.start,
        end: tag.end,
        body: tag.end..tag.end,
        takes_varargs: false,
        takes_kwargs: false,
        takes_caller: false,
    })
}

fn parameter(text: &str, tokens: &[Token]) -> Option<Parameter> {
    let name = tokens.first()?.text(text).to_owned();
    let has_default = tokens.get(1).is_some_and(|token| token.text(text) == "=");
    let default = tokens.get(2).zip(tokens.last()).filter(|_| has_default);
    Some(Parameter { name, default: default.map(|(first, last)| first.start..last.end) })
}

/// The words that a template's tags use, and those that stand alone in quotes there.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    tags(text).into_iter().flat_map(move |tag| tokens(text, tag.inner)).filter_map(move |token| match token.kind {
        TokenKind::Word => Some(token.text(text)),
        TokenKind::Text => Some(token.text(text).trim_matches(['\'', '"'])),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_braces_comments_and_raw_hide_what_looks_like_a_tag() {
        let text = "{# {{ a }} #}{{ '}}' ~ {'a': {}}['a'] }}{% raw %}{{ b }}{% endraw %}{%- set c = 1 -%}";
        let found: Vec<&str> = tags(text).into_iter().map(|tag| text[tag.inner].trim()).collect();
        assert_eq!(found, ["'}}' ~ {'a': {}}['a']", "set c = 1"]);
        assert_eq!(words("{{ f('g', h) }} i").collect::<Vec<_>>(), ["f", "g", "h"]);
    }

    #[test]
    fn headers_are_read_with_defaults() {
        let text = "{% test t(model, column_name, to=ref('x'), xs=[1, 2],) %}b{% endtest %}";
        let definition = &definitions(text)[0];
        let defaults: Vec<Option<&str>> =
            definition.parameters.iter().map(|p| p.default.clone().map(|range| &text[range])).collect();
        assert_eq!(defaults, [None, None, Some("ref('x')"), Some("[1, 2]")]);
        assert_eq!((&text[definition.body.clone()], definition.trailing_comma), ("b", true));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned_to_its_end(text in "[{}%#'\\\\a (),=\\[\\]ü-]{0,40}") {
            for definition in definitions(&text) {
                proptest::prop_assert!(definition.end <= text.len());
            }
            let _ = words(&text).count();
        }
    }
}
