//! YAML with a place for every key and value, and a reader that reports all mistakes of a file in one go.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Spanned, options};

use super::absent;
use crate::diagnostics::{Diagnostic, Diagnostics, Id, SourceFile, Span};
use crate::names::check_identifier;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Raw,
    /// Where it stands; of a list or a mapping only the start is sure.
    pub span: Span,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub enum Raw {
    /// Nothing.
    Null,
    /// A text, a number or a boolean.
    Scalar(serde_json::Value),
    /// Its items.
    List(Vec<Node>),
    /// Its keys and values.
    Map(Vec<(Node, Node)>),
}

/// Parses a file; a file with nothing in it is `None`. Syntax errors go to the sink.
pub fn parse(file: &Arc<SourceFile>, diagnostics: &mut Diagnostics) -> Option<Node> {
    let has_content = file.text().lines().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    });
    if !has_content {
        return None;
    }
    let budget = serde_yaml::budget! {
        max_nodes: 20_000_000, max_events: 60_000_000, max_total_scalar_bytes: 1 << 30, max_recorded_anchor_events: 100_000,
    };
    let options = options! { with_snippet: false, strict_booleans: true, budget: budget };
    match serde_yaml::from_str_with_options::<Spanned<Parsed>>(file.text(), options) {
        Ok(parsed) => Some(placed(parsed, file)),
        Err(error) => {
            let span = error.location().map_or_else(|| Span::file_start(file), |at| span_of(file, at));
            let message = error.to_string();
            let message = message.lines().next().unwrap_or("YAML does not parse").trim_start_matches("error: ");
            // What follows is advice to programmers of the YAML library.
            let cut = [" at line ", ", set DuplicateKeyPolicy", "; use from_", " by the configured policy"];
            let message = cut.iter().fold(message, |text, end| text.split(end).next().unwrap_or(text)).to_owned();
            let message = match message.split_once("budget breached: ") {
                Some((_, what)) if what.starts_with("Depth") => "this YAML is nested too deep".to_owned(),
                Some((_, what)) if what.contains("Anchor") || what.contains("Alias") => {
                    "the anchors of this YAML unfold to too much".to_owned()
                }
                Some(_) => "this YAML is too big".to_owned(),
                None => message.replace("recursion limit exceeded", "this YAML is nested too deep"),
            };
            diagnostics.push(Diagnostic::error(Id::YamlSyntax, message).at(span));
            None
        }
    }
}

/// `fromyaml` and `toyaml` of templates.
pub(super) fn for_templates() -> crate::template::Yaml {
    crate::template::Yaml {
        parse: |text| {
            let file = Arc::new(SourceFile::new("", text.to_owned()));
            let mut diagnostics = Diagnostics::new();
            let node = parse(&file, &mut diagnostics);
            (!diagnostics.has_errors()).then(|| node.map_or(serde_json::Value::Null, |node| node.to_json()))
        },
        print: |value| serde_yaml::to_string(value).ok(),
    }
}

/// The tree as the parser gives it, before places are bound to the file.
enum Parsed {
    Null,
    Scalar(serde_json::Value),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<Parsed>, Spanned<Parsed>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Parsed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Parsed, E> {
                Ok(Parsed::Null)
            }
            fn visit_none<E>(self) -> Result<Parsed, E> {
                Ok(Parsed::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
                Ok(Parsed::Scalar(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Parsed::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Parsed::Map(entries))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

fn placed(parsed: Spanned<Parsed>, file: &Arc<SourceFile>) -> Node {
    let span = span_of(file, parsed.referenced);
    let value = match parsed.value {
        Parsed::Null => Raw::Null,
        Parsed::Scalar(value) => Raw::Scalar(value),
        Parsed::List(items) => Raw::List(items.into_iter().map(|item| placed(item, file)).collect()),
        Parsed::Map(entries) => {
            Raw::Map(entries.into_iter().map(|(key, value)| (placed(key, file), placed(value, file))).collect())
        }
    };
    Node { value, span }
}

fn span_of(file: &Arc<SourceFile>, at: serde_yaml::Location) -> Span {
    let span = at.span();
    match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => {
            let (start, len) = (start as usize, len as usize);
            let text = file.text().get(start..start + len).unwrap_or_default();
            Span::new(file, start, start + text.trim_end().len().max(1))
        }
        _ => {
            let start = file.offset(at.line() as usize, at.column() as usize);
            Span::new(file, start, start + 1)
        }
    }
}

impl Node {
    /// As JSON, for values that are passed on and not interpreted.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Raw::Null => serde_json::Value::Null,
            Raw::Scalar(value) => value.clone(),
            Raw::List(items) => items.iter().map(Self::to_json).collect(),
            Raw::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, value)| (key.plain_text(), value.to_json())).collect(),
            ),
        }
    }

    /// A scalar as it was written: `010` and not 10. What stands elsewhere, and here by the name of its anchor, is its value.
    pub(super) fn written(&self) -> String {
        let text = self.span.text().trim();
        if text.starts_with('*') { self.plain_text() } else { text.to_owned() }
    }

    /// A scalar as text; empty for anything else.
    pub fn plain_text(&self) -> String {
        match &self.value {
            Raw::Scalar(serde_json::Value::String(text)) => text.clone(),
            Raw::Scalar(other) => other.to_string(),
            _ => String::new(),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.value {
            Raw::Null => "nothing",
            Raw::Scalar(serde_json::Value::String(_)) => "text",
            Raw::Scalar(serde_json::Value::Bool(_)) => "a boolean",
            Raw::Scalar(_) => "a number",
            Raw::List(_) => "a list",
            Raw::Map(_) => "a mapping",
        }
    }
}

/// Reads values and reports what does not fit.
pub(super) struct Reader<'a> {
    pub(super) diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    pub(super) fn wrong(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.kind());
        self.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(node.span.clone()));
    }

    pub(super) fn invalid(&mut self, span: &Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(span.clone()));
    }

    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Raw::Scalar(serde_json::Value::String(text)) => Some(text.clone()),
            // What a template gave.
            Raw::Scalar(value) if node.span.text().contains("{{") => Some(value.to_string()),
            // What looks like a number is text here: as it was written, `010` and not 10.
            Raw::Scalar(_) => Some(node.written()),
            _ => {
                self.wrong(node, "text");
                None
            }
        }
    }

    /// A name that follows [`check_identifier`].
    pub(super) fn identifier(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node)?;
        if let Err(why) = check_identifier(&name) {
            let diagnostic = Diagnostic::error(Id::InvalidName, format!("`{name}` is not a valid name: {why}"));
            self.diagnostics.push(diagnostic.at(node.span.clone()));
            return None;
        }
        Some(name)
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Raw::Scalar(serde_json::Value::Bool(value)) => Some(*value),
            _ => {
                self.wrong(node, "`true` or `false`");
                None
            }
        }
    }

    pub(super) fn count(&mut self, node: &Node) -> Option<u64> {
        let number = match &node.value {
            Raw::Scalar(value) => value.as_u64(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(node, "a whole number");
        }
        number
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(node)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("`{word}` is not a {what}"))
            .at(node.span.clone())
            .suggest(&word, choices.iter().map(|(name, _)| *name));
        self.diagnostics.push(diagnostic);
        None
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Raw::List(items) => items,
            Raw::Null => &[],
            _ => {
                self.wrong(node, "a list");
                &[]
            }
        }
    }

    /// One text or a list of them.
    pub(super) fn texts(&mut self, node: &Node) -> Vec<String> {
        match &node.value {
            Raw::List(items) => items.iter().filter_map(|item| self.text(item)).collect(),
            _ => self.text(node).into_iter().collect(),
        }
    }

    /// The entries of a mapping, each to be taken by name.
    pub(super) fn mapping<'n>(&mut self, node: &'n Node, what: &'static str) -> Option<Mapping<'n>> {
        match &node.value {
            Raw::Map(entries) => {
                let mut seen = std::collections::BTreeMap::new();
                for (key, _) in entries {
                    if let Some(first) = seen.insert(key.plain_text(), key.span.clone()) {
                        let message = format!("key `{}` stands twice", key.plain_text());
                        let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(key.span.clone());
                        self.diagnostics.push(diagnostic.related(first, "first here"));
                    }
                }
                Some(Mapping { entries, what, span: node.span.clone(), taken: Vec::new() })
            }
            _ => {
                self.wrong(node, &format!("a mapping with the keys of {}", with_article(what)));
                None
            }
        }
    }
}

fn with_article(what: &str) -> String {
    format!("{} {what}", if what.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" })
}

/// A mapping whose keys are taken one by one; [`Mapping::finish`] reports those that nobody took.
pub(super) struct Mapping<'n> {
    pub(super) entries: &'n [(Node, Node)],
    what: &'static str,
    pub(super) span: Span,
    taken: Vec<&'static str>,
}

impl<'n> Mapping<'n> {
    /// The value of a key, if it is there and not null.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        #[cfg(test)]
        accepted::note(self.what, key);
        self.taken.push(key);
        let (_, value) = self.entries.iter().find(|(name, _)| name.plain_text() == key)?;
        (!matches!(value.value, Raw::Null)).then_some(value)
    }

    /// The place of a key that belongs elsewhere, if it is here: it is known, and no suggestion for another one.
    pub(super) fn take_known(&mut self, key: &'static str) -> Option<&'n Span> {
        let (name, _) = self.entries.iter().find(|(name, _)| name.plain_text() == key)?;
        self.taken.push(key);
        Some(&name.span)
    }

    /// The value of the first of several spellings of a key.
    pub(super) fn take_any(&mut self, keys: &[&'static str]) -> Option<&'n Node> {
        keys.iter().filter_map(|key| self.take(key)).next_back()
    }

    /// The value of a key that must be there.
    pub(super) fn require(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            let message = format!("this {} has no `{key}`", self.what);
            let first_line = Span::new(&self.span.file, self.span.start, self.span.start + 1);
            reader.diagnostics.push(Diagnostic::error(Id::MissingKey, message).at(first_line));
        }
        found
    }

    /// Takes all entries that were not taken yet, whatever their keys.
    pub(super) fn rest(&mut self) -> Vec<&'n (Node, Node)> {
        let taken = std::mem::take(&mut self.taken);
        let entries = std::mem::take(&mut self.entries);
        entries.iter().filter(|(key, _)| !taken.iter().any(|taken| *taken == key.plain_text())).collect()
    }

    /// Reports every key that was not taken.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for (key, _) in self.entries {
            let name = key.plain_text();
            if !self.taken.iter().any(|taken| *taken == name) {
                let diagnostic = match absent::instead_of(&name) {
                    Some(instead) => {
                        let message = format!("`{name}` of {} is of dbt and not of lake", with_article(self.what));
                        Diagnostic::error(Id::NotSupported, message).at(key.span.clone()).help(instead)
                    }
                    None => {
                        let message = format!("unknown key `{name}` in {}", with_article(self.what));
                        let known = self.taken.iter().copied();
                        Diagnostic::error(Id::UnknownKey, message).at(key.span.clone()).suggest(&name, known)
                    }
                };
                reader.diagnostics.push(diagnostic);
            }
        }
    }
}

/// Which keys readers ask for, by what they call the mapping: schemas are compared with it.
#[cfg(test)]
pub(super) mod accepted {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    type Keys = BTreeMap<&'static str, BTreeSet<&'static str>>;

    thread_local! {
        static KEYS: RefCell<Keys> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn note(what: &'static str, key: &'static str) {
        KEYS.with_borrow_mut(|keys| keys.entry(what).or_default().insert(key));
    }

    /// What this thread has seen so far.
    pub(in crate::project) fn keys() -> Keys {
        KEYS.with_borrow(Keys::clone)
    }
}
