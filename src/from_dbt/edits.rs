//! Changes of a text that leave the rest of it as it is, and of entries of YAML by what the parser says of their places.

use std::ops::Range;

use crate::project::{Node, Raw};

/// Changes of one text, by the bytes of what it was.
#[derive(Debug, Default)]
pub(super) struct Edits {
    changes: Vec<(Range<usize>, String)>,
    /// Lines that become comments, and the column at which the sign goes.
    comments: Vec<(Range<usize>, usize)>,
}

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        // What an alias of YAML refers to stands elsewhere.
        if range.start <= range.end {
            self.changes.push((range, text.into()));
        }
    }

    pub(super) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    /// Makes the lines of a range comments of YAML.
    pub(super) fn comment(&mut self, lines: Range<usize>, column: usize) {
        self.comments.push((lines, column));
    }

    /// The text with all changes. Of two that overlap the outer one counts.
    pub(super) fn apply(self, text: &str) -> String {
        let mut comments = self.comments;
        comments.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let (mut all, mut commented, mut past) = (Vec::new(), Vec::new(), 0);
        for (range, column) in comments {
            if range.start < past {
                continue;
            }
            past = range.end;
            let mut at = range.start;
            for line in text[range.clone()].split_inclusive('\n') {
                let inner = line.trim_start();
                if !inner.is_empty() && !inner.starts_with('#') {
                    let start = at + (line.len() - inner.len()).min(column);
                    all.push((start..start, "# ".to_owned()));
                }
                at += line.len();
            }
            commented.push(range);
        }
        let outside = |range: &Range<usize>| !commented.iter().any(|lines: &Range<usize>| lines.contains(&range.start));
        // A comment may move to the left as its neighbours do.
        let moves = |range: &Range<usize>, change: &str| change.is_empty() && text[range.clone()].trim().is_empty();
        all.extend(self.changes.into_iter().filter(|(range, change)| outside(range) || moves(range, change)));
        all.sort_by_key(|(range, _)| (range.start, !range.is_empty(), std::cmp::Reverse(range.end)));
        let (mut made, mut at) = (String::with_capacity(text.len()), 0);
        for (mut range, change) in all {
            if range.start < at {
                // Of two removals that overlap both count.
                if !change.is_empty() || range.end <= at {
                    continue;
                }
                range.start = at;
            }
            made.push_str(&text[at..range.start]);
            made.push_str(&change);
            at = range.end;
        }
        made.push_str(&text[at..]);
        made
    }
}

/// Where the line of a place begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line of a place ends, before its newline.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

/// Whether a list or a mapping is written with brackets.
pub(super) fn is_flow(text: &str, container: &Node) -> bool {
    text[container.span.start..].starts_with(['{', '['])
}

/// One past the last byte of a value.
pub(super) fn value_end(text: &str, value: &Node) -> usize {
    let start = value.span.start;
    match &value.value {
        Raw::Map(_) | Raw::List(_) if is_flow(text, value) => balanced_end(text, start),
        Raw::Map(entries) => entries.last().map_or(start, |(key, value)| match value.value {
            Raw::Null => key.span.end,
            _ => value_end(text, value),
        }),
        Raw::List(items) => items.last().map_or(start, |item| value_end(text, item)),
        Raw::Null => start,
        Raw::Scalar(_) => value.span.end,
    }
}

/// One past the bracket that closes the one at `start`.
fn balanced_end(text: &str, start: usize) -> usize {
    let (mut depth, mut quote) = (0usize, None);
    for (at, letter) in text[start..].char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => {
                depth -= 1;
                if depth == 0 {
                    return start + at + 1;
                }
            }
            (None, _) => {}
        }
    }
    text.len()
}

/// Spaces in front of the content of a line; a dash of a list counts as one.
pub(super) fn column_of(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// The lines that an entry of a block takes, whose key or dash stands at `start`: those that are indented deeper.
pub(super) fn block_lines(text: &str, start: usize, value: &Node) -> Range<usize> {
    let first = line_start(text, start);
    let column = column_of(text, start);
    let is_item = text[start..].starts_with("- ") || text[start..].starts_with("-\n");
    let mut end = line_end(text, start);
    let least = match value.value {
        Raw::Null => end,
        _ => line_end(text, value_end(text, value).max(start)),
    };
    let mut at = end;
    while at < text.len() {
        let next = at + 1;
        let line = &text[next..line_end(text, next)];
        let inner = line.trim_start();
        let indent = line.len() - inner.len();
        let belongs = match inner {
            "" => None,
            _ if inner.starts_with('#') => (indent > column).then_some(true),
            _ => Some(indent > column || (indent == column && !is_item && inner.starts_with("- "))),
        };
        at = next + line.len();
        match belongs {
            Some(true) => end = at,
            Some(false) => break,
            None => {}
        }
    }
    first..end.max(least)
}

/// How an entry can be taken out of its mapping or list.
pub(super) enum Removal {
    /// Its lines become a comment.
    Lines(Range<usize>, usize),
    /// It shares a line with others.
    Bytes(Range<usize>),
}

impl Removal {
    /// Notes it.
    pub(super) fn take(self, edits: &mut Edits) {
        match self {
            Self::Lines(range, column) => edits.comment(range, column),
            Self::Bytes(range) => edits.replace(range, ""),
        }
    }
}

/// The removal of entry number `at` of a mapping.
pub(super) fn removal(text: &str, mapping: &Node, at: usize) -> Option<Removal> {
    let Raw::Map(entries) = &mapping.value else { return None };
    let (key, value) = entries.get(at)?;
    let start = key.span.start;
    if is_flow(text, mapping) {
        let next = entries.get(at + 1).map(|(key, _)| key.span.start);
        let end = if matches!(value.value, Raw::Null) { key.span.end } else { value_end(text, value) };
        return Some(Removal::Bytes(flow_range(text, start, end, next)));
    }
    if text[line_start(text, start)..start].trim().is_empty() {
        return Some(Removal::Lines(block_lines(text, start, value), column_of(text, start)));
    }
    // Behind the dash of a list: the next key takes its place.
    match entries.get(at + 1) {
        Some((next, _)) => Some(Removal::Bytes(start..next.span.start)),
        None => {
            let end = block_lines(text, start, value).end;
            Some(Removal::Bytes(start..end))
        }
    }
}

/// The removal of item number `at` of a list.
pub(super) fn item_removal(text: &str, list: &Node, at: usize) -> Option<Removal> {
    let Raw::List(items) = &list.value else { return None };
    let item = items.get(at)?;
    let start = item.span.start;
    if is_flow(text, list) {
        let next = items.get(at + 1).map(|item| item.span.start);
        return Some(Removal::Bytes(flow_range(text, start, value_end(text, item), next)));
    }
    let line = line_start(text, start);
    let dash = line + text[line..].find('-')?;
    let is_alone = text[line..dash].trim().is_empty() && dash < start;
    is_alone.then(|| Removal::Lines(block_lines(text, dash, item), dash - line))
}

/// An entry between brackets, with the comma that parts it from the next or from the one before.
fn flow_range(text: &str, start: usize, end: usize, next: Option<usize>) -> Range<usize> {
    if let Some(next) = next {
        return start..next;
    }
    let before = text[..start].trim_end();
    if before.ends_with(',') { before.len() - 1..end } else { start..end }
}

/// Puts lines behind the entry of a mapping, as entries beside it.
pub(super) fn insert_beside(text: &str, mapping: &Node, at: usize, lines: &[String], edits: &mut Edits) {
    let Raw::Map(entries) = &mapping.value else { return };
    let Some((key, value)) = entries.get(at) else { return };
    if is_flow(text, mapping) {
        let plain = |line: &String| line.split(" #").next().unwrap_or(line).to_owned();
        edits.insert(value_end(text, value), lines.iter().map(|line| format!(", {}", plain(line))).collect::<String>());
        return;
    }
    let column = " ".repeat(column_of(text, key.span.start));
    let end = block_lines(text, key.span.start, value).end;
    edits.insert(end, lines.iter().map(|line| format!("\n{column}{line}")).collect::<String>());
}

/// The value of a key of a mapping, with its number.
pub(super) fn entry<'n>(mapping: &'n Node, name: &str) -> Option<(usize, &'n Node, &'n Node)> {
    let Raw::Map(entries) = &mapping.value else { return None };
    let found = entries.iter().enumerate().find(|(_, (key, _))| key.plain_text() == name);
    found.map(|(at, (key, value))| (at, key, value))
}

/// The value of a key of a mapping.
pub(super) fn get<'n>(mapping: &'n Node, name: &str) -> Option<&'n Node> {
    entry(mapping, name).map(|(_, _, value)| value)
}

/// The entries of a mapping; none of anything else.
pub(super) fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.value {
        Raw::Map(entries) => entries,
        _ => &[],
    }
}

/// The items of a list; none of anything else.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.value {
        Raw::List(items) => items,
        _ => &[],
    }
}

/// One text or a list of them.
pub(super) fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Raw::List(items) => items.iter().map(Node::plain_text).collect(),
        Raw::Null => Vec::new(),
        _ => vec![node.plain_text()],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostics::{Diagnostics, SourceFile};
    use crate::project::parse_yaml;

    fn parsed(text: &str) -> Node {
        parse_yaml(&Arc::new(SourceFile::new("x.yml", text)), &mut Diagnostics::new()).unwrap()
    }

    fn without(text: &str, path: &[&str]) -> String {
        let root = parsed(text);
        let (last, before) = path.split_last().unwrap();
        let mut node = &root;
        for part in before {
            node = match part.parse::<usize>() {
                Ok(at) => &items(node)[at],
                Err(_) => get(node, part).unwrap(),
            };
        }
        let mut edits = Edits::default();
        let found = match last.parse::<usize>() {
            Ok(at) => item_removal(text, node, at),
            Err(_) => removal(text, node, entry(node, last).unwrap().0),
        };
        found.unwrap().take(&mut edits);
        edits.apply(text)
    }

    #[test]
    fn lines_of_an_entry_become_a_comment() {
        let text =
            "models:\n  - name: a\n    docs:\n      show: true\n\n    # about b\n    b: >\n      long\n      text\n";
        assert_eq!(
            without(text, &["models", "0", "docs"]),
            "models:\n  - name: a\n    # docs:\n    #   show: true\n\n    # about b\n    b: >\n      long\n      text\n"
        );
        let folded = without(text, &["models", "0", "b"]);
        assert!(folded.ends_with("    # b: >\n    #   long\n    #   text\n"), "{folded}");
        let list = "a:\n- x: 1\n  y: 2\n- z\nb: 1\n";
        assert_eq!(without(list, &["a", "0"]), "a:\n# - x: 1\n#   y: 2\n- z\nb: 1\n");
        assert_eq!(without(list, &["a"]), "# a:\n# - x: 1\n#   y: 2\n# - z\nb: 1\n");
    }

    #[test]
    fn what_shares_a_line_is_taken_out() {
        let text = "- { name: a, quote: true, tests: [x, {y: {z: 1}}] }\n- quote: 1\n  name: b\n";
        assert_eq!(without(text, &["0", "quote"]), "- { name: a, tests: [x, {y: {z: 1}}] }\n- quote: 1\n  name: b\n");
        assert_eq!(without(text, &["0", "tests"]), "- { name: a, quote: true }\n- quote: 1\n  name: b\n");
        assert_eq!(
            without(text, &["0", "tests", "1"]),
            "- { name: a, quote: true, tests: [x] }\n- quote: 1\n  name: b\n"
        );
        assert_eq!(without(text, &["1", "quote"]), "- { name: a, quote: true, tests: [x, {y: {z: 1}}] }\n- name: b\n");
    }

    #[test]
    fn brackets_over_several_lines_end_where_they_close() {
        let text = "a: {\n  x: [1,\n  2],\n  y: 'it''s }'\n}\nb: 2\n";
        assert_eq!(without(text, &["a"]), "# a: {\n#   x: [1,\n#   2],\n#   y: 'it''s }'\n# }\nb: 2\n");
    }

    #[test]
    fn entries_are_put_beside_others() {
        for (text, expected) in [
            ("- name: a\n  b: 1\n", "- name: a\n  path: x\n  b: 1\n"),
            ("- { name: a, b: 1 }\n", "- { name: a, path: x, b: 1 }\n"),
        ] {
            let root = parsed(text);
            let mut edits = Edits::default();
            insert_beside(text, &items(&root)[0], 0, &["path: x".to_owned()], &mut edits);
            assert_eq!(edits.apply(text), expected);
        }
    }
}
