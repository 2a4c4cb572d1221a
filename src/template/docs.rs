//! `{% docs name %}...{% enddocs %}`: blocks of documentation in Markdown files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tags::{self, Tag};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::names::check_identifier;

/// All blocks of the files by name. What is wrong with a block is reported, and the block left out.
pub fn read(files: &[Arc<SourceFile>], problems: &mut Vec<Diagnostic>) -> BTreeMap<String, String> {
    let mut blocks: BTreeMap<String, (String, Span)> = BTreeMap::new();
    for file in files.iter().filter(|file| file.text().contains("docs")) {
        for (name, text, span) in read_file(file, problems) {
            if let Some((_, first)) = blocks.get(&name) {
                let diagnostic = Diagnostic::error(Id::DuplicateName, format!("two docs blocks are called `{name}`"));
                problems.push(diagnostic.at(span).related(first.clone(), "first here"));
                continue;
            }
            blocks.insert(name, (text, span));
        }
    }
    blocks.into_iter().map(|(name, (text, _))| (name, text)).collect()
}

/// Name, text and path of every block. What is wrong with one has been told.
pub fn blocks(files: &[Arc<SourceFile>]) -> Vec<(String, String, String)> {
    let of_file = |file: &Arc<SourceFile>| {
        let found = read_file(file, &mut Vec::new()).into_iter();
        found.map(|(name, text, span)| (name, text, span.file.path.clone())).collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

fn read_file(file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Vec<(String, String, Span)> {
    let mut found = Vec::new();
    let mut open: Option<(String, Tag)> = None;
    for tag in tags::tags(file.text()) {
        let words: Vec<&str> = file.text()[tag.inner.clone()].split_whitespace().collect();
        let span = Span::new(file, tag.start, tag.end);
        let mut refuse = |message: &str, help: &str| {
            problems.push(Diagnostic::error(Id::Template, message.to_owned()).at(span.clone()).help(help.to_owned()));
        };
        match words.as_slice() {
            ["docs", ..] if open.is_some() => {
                refuse("a docs block cannot stand in another", "end the first one with `{% enddocs %}`")
            }
            ["docs", name] if check_identifier(name).is_ok() => open = Some(((*name).to_owned(), tag)),
            ["docs", ..] => {
                refuse("a docs block has one name", "write `{% docs name %}`, of letters, digits and `_`");
                open = Some((String::new(), tag));
            }
            ["enddocs"] => match open.take() {
                Some((name, _)) if name.is_empty() => {}
                Some((name, start)) => {
                    let text = file.text()[start.end..tag.start].trim().to_owned();
                    found.push((name, text, Span::new(file, start.start, start.end)));
                }
                None => refuse("this ends no docs block", "start one with `{% docs name %}`"),
            },
            // What else looks like a tag is text.
            _ => {}
        }
    }
    if let Some((name, start)) = open.filter(|(name, _)| !name.is_empty()) {
        let diagnostic = Diagnostic::error(Id::Template, format!("docs block `{name}` does not end"));
        problems.push(diagnostic.at(Span::new(file, start.start, start.end)).help("end it with `{% enddocs %}`"));
    }
    found
}
