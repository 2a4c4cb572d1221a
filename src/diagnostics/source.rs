//! A user's file, and a place in it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::memo;

/// A file of the project: its path, and its text, which is read when somebody first needs it.
#[derive(Debug)]
pub struct SourceFile {
    /// Relative to the project folder, with `/` between folders.
    pub path: String,
    /// The project folder; `None` if the text was never in a file.
    folder: Option<Arc<Path>>,
    /// Tells the content without reading it, where that is possible.
    pub stamp: Option<memo::Key>,
    text: OnceLock<String>,
}

impl SourceFile {
    /// A text that stands in no file of a project.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), folder: None, stamp: None, text: OnceLock::from(text.into()) }
    }

    /// A file that is not read yet.
    pub fn on_disk(folder: &Arc<Path>, path: impl Into<String>) -> Self {
        Self::stamped(folder, path, None)
    }

    /// A file that is not read yet, and what tells its content.
    pub fn stamped(folder: &Arc<Path>, path: impl Into<String>, stamp: Option<memo::Key>) -> Self {
        Self { path: path.into(), folder: Some(Arc::clone(folder)), stamp, text: OnceLock::new() }
    }

    /// Reads the text, if it was not read already.
    ///
    /// # Errors
    /// When there is no such file any more, or it is not UTF-8.
    pub fn fetch(&self) -> std::io::Result<&str> {
        if let (None, Some(folder)) = (self.text.get(), &self.folder) {
            let _ = self.text.set(read(folder, &self.path)?);
        }
        Ok(self.text())
    }

    /// The whole text; nothing, if the file cannot be read.
    pub fn text(&self) -> &str {
        match (self.text.get(), &self.folder) {
            (Some(text), _) => text,
            (None, Some(folder)) => self.text.get_or_init(|| read(folder, &self.path).unwrap_or_default()),
            (None, None) => "",
        }
    }

    /// Line and column of a byte offset, both counted from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text()[..floor_char_boundary(self.text(), offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The byte offset of a line and column as [`SourceFile::position`] counts them; past the end gives the end.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let line_start: usize = self.text().split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = &self.text()[line_start..];
        let column = column.saturating_sub(1);
        line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }
}

/// Without a byte-order mark.
fn read(folder: &Path, path: &str) -> std::io::Result<String> {
    let text = std::fs::read_to_string(folder.join(path))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A range of bytes in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        let start = floor_char_boundary(file.text(), start);
        let end = floor_char_boundary(file.text(), end.max(start));
        Self { file: Arc::clone(file), start, end }
    }

    /// The start of a file: for what is wrong with the file as a whole.
    pub fn file_start(file: &Arc<SourceFile>) -> Self {
        let end = file.text().find('\n').unwrap_or(file.text().len());
        Self::new(file, 0, end)
    }

    /// The text that the span covers.
    pub fn text(&self) -> &str {
        self.file.text().get(self.start..self.end).unwrap_or_default()
    }

    /// Line and column of the start, both counted from 1.
    pub fn position(&self) -> (usize, usize) {
        self.file.position(self.start)
    }

    /// `models/silver.yml:12`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.path, self.position().0)
    }
}

/// A product that is kept between runs names the file; its text is read again when it is shown.
impl Serialize for SourceFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourceFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::on_disk(&memo::folder(), String::deserialize(deserializer)?))
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
        let file = SourceFile::new("a.sql", "select ü,\n  b\nfrom c");
        for (offset, _) in file.text().char_indices() {
            let (line, column) = file.position(offset);
            assert_eq!(file.offset(line, column), offset);
        }
        assert_eq!(file.offset(99, 1), file.text().len());
    }
}
