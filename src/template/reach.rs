//! Which macros a template reaches, and what they say: without comments and layout.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::macros::DISPATCH;
use super::tags::{self, DefinitionKind};
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
    file: Arc<SourceFile>,
    place: Range<usize>,
}

impl MacroTexts {
    /// Reads the macros of these files. Of two with one name the last counts.
    pub fn new(files: &[Arc<SourceFile>]) -> Self {
        let mut macros = BTreeMap::new();
        for file in files {
            let macros_of_file = tags::definitions(file.text()).into_iter().filter(|d| d.kind == DefinitionKind::Macro);
            for definition in macros_of_file {
                let text = without_comments(&file.text()[definition.start..definition.body.end]);
                let digest = blake3::hash(without_layout(&text).as_bytes()).to_hex()[..16].to_owned();
                let calls = tags::words(&text).map(str::to_owned).collect();
                let place = definition.start..definition.end;
                let text = MacroText { digest, calls, file: Arc::clone(file), place };
                macros.insert(definition.name, text);
            }
        }
        Self { macros }
    }

    /// Name, text and path of each, by name.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.macros.iter().map(|(name, text)| {
            (name.as_str(), text.file.text().get(text.place.clone()).unwrap_or_default(), text.file.path.as_str())
        })
    }

    /// The macros that a template calls, directly and through other macros, with a digest of the text of each.
    pub fn reached(&self, template: &str) -> BTreeMap<&str, &str> {
        let mut found = BTreeMap::new();
        if self.macros.is_empty() {
            return found;
        }
        let mut pending: Vec<String> = tags::words(template).map(str::to_owned).collect();
        while let Some(word) = pending.pop() {
            for (name, text) in self.named(&word) {
                if found.insert(name.as_str(), text.digest.as_str()).is_none() {
                    pending.extend(text.calls.iter().cloned());
                }
            }
        }
        found
    }

    /// The macro of a name, and those that `adapter.dispatch` finds for it.
    fn named(&self, word: &str) -> impl Iterator<Item = (&String, &MacroText)> {
        let names = [""].into_iter().chain(DISPATCH).map(move |prefix| format!("{prefix}{word}"));
        names.filter_map(|name| self.macros.get_key_value(&name))
    }
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
