//! Which macros a template reaches, and what they say: without comments and layout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostics::SourceFile;

/// The macros of a project by name.
#[derive(Debug, Default)]
pub struct MacroTexts {
    macros: BTreeMap<String, MacroText>,
}

#[derive(Debug)]
struct MacroText {
    digest: String,
    calls: BTreeSet<String>,
}

impl MacroTexts {
    /// Reads the macros of these files. Of two with one name the last counts.
    pub fn new(files: &[Arc<SourceFile>]) -> Self {
        let mut macros = BTreeMap::new();
        for file in files {
            for (name, text) in definitions(file.text()) {
                let text = without_comments(text);
                let digest = blake3::hash(without_layout(&text).as_bytes()).to_hex()[..16].to_owned();
                macros.insert(name.to_owned(), MacroText { digest, calls: words_in_tags(&text) });
            }
        }
        Self { macros }
    }

    /// The macros that a template calls, directly and through other macros, with a digest of the text of each.
    pub fn reached(&self, template: &str) -> BTreeMap<&str, &str> {
        let mut found = BTreeMap::new();
        if self.macros.is_empty() {
            return found;
        }
        let mut pending: Vec<String> = words_in_tags(template).into_iter().collect();
        while let Some(word) = pending.pop() {
            for (name, text) in self.named(&word) {
                if found.insert(name.as_str(), text.digest.as_str()).is_none() {
                    pending.extend(text.calls.iter().cloned());
                }
            }
        }
        found
    }

    /// The macro of a name, and those that `adapter.dispatch` finds for it: `default__name`, `lake__name`.
    fn named(&self, word: &str) -> impl Iterator<Item = (&String, &MacroText)> {
        let names = [word.to_owned(), format!("default__{word}"), format!("lake__{word}")];
        names.into_iter().filter_map(|name| self.macros.get_key_value(&name))
    }
}

/// Each `{% macro name(...) %} ... {% endmacro %}` with its whole text.
fn definitions(text: &str) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    let mut done = Vec::new();
    for (at, _) in text.match_indices("{%") {
        let tag = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = tag.strip_prefix("macro").filter(|rest| rest.starts_with(char::is_whitespace)) {
            found.push((word(rest.trim_start()), at));
        } else if tag.starts_with("endmacro")
            && let Some((name, start)) = found.pop()
        {
            done.push((name, &text[start..at]));
        }
    }
    done
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word(text: &str) -> &str {
    &text[..text.find(|letter| !is_word(letter)).unwrap_or(text.len())]
}

/// A text without comments of Jinja and SQL.
fn without_comments(text: &str) -> String {
    let kept = without(&without(text, "{#", "#}"), "/*", "*/");
    kept.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// A text without white space and what controls it. Where white space matters, the SQL of the model tells.
fn without_layout(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    [("{%-", "{%"), ("-%}", "%}"), ("{{-", "{{"), ("-}}", "}}")]
        .iter()
        .fold(text, |text, (with, without)| text.replace(with, without))
}

/// A text without what stands between two marks.
fn without(text: &str, start: &str, end: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        kept.push_str(&rest[..at]);
        rest = rest[at..].split_once(end).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

/// Every word between `{{` and `}}`, and between `{%` and `%}`.
fn words_in_tags(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{']) {
        let tag = &rest[at..];
        let end = match tag.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                rest = &tag[1..];
                continue;
            }
        };
        let (inside, after) = tag[2..].split_once(end).unwrap_or((&tag[2..], ""));
        if end != "#}" {
            words.extend(inside.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).map(str::to_owned));
        }
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> MacroTexts {
        MacroTexts::new(&[Arc::new(SourceFile::new("m.sql", text))])
    }

    #[test]
    fn macros_are_reached_through_others_and_not_through_comments_or_sql() {
        let macros = texts(
            "{% macro a(x) %}{{ b(x) }}{% endmacro %}{%- macro b(x) -%} 1 {%- endmacro -%}\
             {% macro c() %}{{ c() }}{% endmacro %}{% macro default__d() %}4{% endmacro %}",
        );
        let names = |text: &str| macros.reached(text).into_keys().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names("select {{ a(1) }}, c"), ["a", "b"]);
        assert_eq!(names("{# a #} {% set x = c() %}"), ["c"]);
        assert_eq!(names("{{ adapter.dispatch('d')() }}"), ["default__d"]);
        assert!(names("select a from b").is_empty());
    }

    #[test]
    fn comments_and_layout_are_no_change() {
        let of = |text: &str| texts(text).reached("{{ a() }}").values().map(ToString::to_string).collect::<Vec<_>>();
        let first = of("{% macro a() %}\n  1 + 2\n{% endmacro %}");
        assert_eq!(first, of("{% macro a() %} {# why #}\n  1 + /* so */  2 -- because\n{% endmacro %}"));
        assert_ne!(first, of("{% macro a() %}\n  1 + 3\n{% endmacro %}"));
    }
}
