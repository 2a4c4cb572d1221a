//! A user's file, and a place in it.

use std::sync::Arc;

/// A file as it was read: its path relative to the project, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the project folder, with `/` between folders.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl SourceFile {
    /// Line and column of a byte offset, both counted from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..floor_char_boundary(&self.text, offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The byte offset of a line and column as [`SourceFile::position`] counts them; past the end gives the end.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let line_start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = &self.text[line_start..];
        let column = column.saturating_sub(1);
        line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }
}

fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A range of bytes in a file.
#[derive(Debug, Clone)]
pub struct Span {
    /// The file.
    pub file: Arc<SourceFile>,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A range of `file`, cut to what the file has.
    pub fn new(file: &Arc<SourceFile>, start: usize, end: usize) -> Self {
        let start = floor_char_boundary(&file.text, start);
        let end = floor_char_boundary(&file.text, end.max(start));
        Self { file: Arc::clone(file), start, end }
    }

    /// The start of a file: for what is wrong with the file as a whole.
    pub fn file_start(file: &Arc<SourceFile>) -> Self {
        let end = file.text.find('\n').unwrap_or(file.text.len());
        Self::new(file, 0, end)
    }

    /// The text that the span covers.
    pub fn text(&self) -> &str {
        &self.file.text[self.start..self.end]
    }

    /// Line and column of the start, both counted from 1.
    pub fn position(&self) -> (usize, usize) {
        self.file.position(self.start)
    }
}

/// A place, and the macro calls that led to what is written there.
#[derive(Debug, Clone)]
pub struct Location {
    /// The place itself.
    pub span: Span,
    /// The calls with what to say about each, the innermost first.
    pub expansions: Vec<(Span, String)>,
}

impl From<Span> for Location {
    fn from(span: Span) -> Self {
        Self { span, expansions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_and_offset_are_inverse() {
        let file = SourceFile { path: "a.sql".into(), text: "select ü,\n  b\nfrom c".into() };
        for (offset, _) in file.text.char_indices() {
            let (line, column) = file.position(offset);
            assert_eq!(file.offset(line, column), offset);
        }
        assert_eq!(file.offset(99, 1), file.text.len());
    }
}
