//! One term of a selection: `[@][n+][method:]value[+n]`.

use globset::{Glob, GlobMatcher};

use super::facts::{Needs, RESULTS, SOURCE_STATES, STATES};
use super::{Indirect, SelectError};
use crate::names::nearest;
use crate::project::{self, METHODS, MethodDefinition};

/// One term.
#[derive(Debug)]
pub(super) struct Term {
    /// As the user wrote it.
    pub(super) text: String,
    pub(super) method: Option<&'static str>,
    /// What follows the dot of a method.
    pub(super) key: Option<String>,
    pub(super) value: String,
    pub(super) pattern: Pattern,
    /// Steps up; `Some(None)` is without end.
    pub(super) upstream: Option<Option<usize>>,
    pub(super) downstream: Option<Option<usize>>,
    pub(super) childrens_parents: bool,
    /// The mode of its own, from `selectors.yml`.
    pub(super) indirect: Option<Indirect>,
}

impl Term {
    pub(super) fn parse(text: &str) -> Result<Self, SelectError> {
        let bad = |why: &str| SelectError::new(format!("selector `{text}` {why}"), None);
        let mut rest = text;
        let childrens_parents = rest.starts_with('@');
        rest = rest.strip_prefix('@').unwrap_or(rest);
        let mut upstream = None;
        if let Some((depth, after)) = rest.split_once('+')
            && depth.chars().all(|c| c.is_ascii_digit())
        {
            upstream = Some(steps(depth).ok_or_else(|| bad("has too large a number"))?);
            rest = after;
        }
        let mut downstream = None;
        if let Some((before, depth)) = rest.rsplit_once('+')
            && depth.chars().all(|c| c.is_ascii_digit())
        {
            downstream = Some(steps(depth).ok_or_else(|| bad("has too large a number"))?);
            rest = before;
        }
        if childrens_parents && (upstream.is_some() || downstream.is_some()) {
            return Err(bad("mixes `@` with `+`"));
        }
        let (method, value) = match rest.split_once(':') {
            Some((method, value)) => (Some(method), value),
            None => (None, rest),
        };
        let term = Self::checked(text, method, value)?;
        Ok(Self { upstream, downstream, childrens_parents, ..term })
    }

    /// A method of `selectors.yml`.
    pub(super) fn of_definition(definition: &MethodDefinition) -> Result<Self, SelectError> {
        let text = format!("{}:{}", definition.method, definition.value);
        let term = Self::checked(&text, Some(&definition.method), &definition.value)?;
        Ok(Self {
            upstream: definition.parents,
            downstream: definition.children,
            childrens_parents: definition.childrens_parents,
            indirect: definition.indirect.as_deref().map(Indirect::named),
            ..term
        })
    }

    fn checked(text: &str, method: Option<&str>, value: &str) -> Result<Self, SelectError> {
        let bad = |why: &str| SelectError::new(format!("selector `{text}` {why}"), None);
        if value.is_empty() {
            return Err(bad("names nothing"));
        }
        let (name, key) = match method.and_then(|method| method.split_once('.')) {
            Some((name, key)) => (Some(name), Some(key)),
            None => (method, None),
        };
        let method = name.map(|name| known_method(name, text)).transpose()?;
        match (method, key) {
            (Some("config"), None) => return Err(bad("needs a key, as in `config.materialized:table`")),
            (None | Some("config"), _) | (_, None) => {}
            (Some(name), Some(key)) => {
                return Err(SelectError::new(
                    format!("selector `{text}`: `{name}` has no `.{key}`"),
                    Some(format!("write `{name}:{value}`")),
                ));
            }
        }
        if method == Some("state") {
            one_of(text, "state", value, STATES)?;
        }
        if method == Some("result") {
            one_of(text, "result", value, RESULTS)?;
        }
        if method == Some("source_status") {
            one_of(text, "source_status", value, SOURCE_STATES)?;
        }
        Ok(Self {
            text: text.to_owned(),
            method,
            key: key.map(str::to_owned),
            value: value.to_owned(),
            pattern: Pattern::new(value)?,
            upstream: None,
            downstream: None,
            childrens_parents: false,
            indirect: None,
        })
    }

    pub(super) fn needs(&self, needs: &mut Needs) {
        match self.method {
            Some("state") => needs.state = true,
            Some("result") => needs.results = true,
            Some("source_status") => needs.freshness = true,
            Some("column") => needs.columns = true,
            _ => {}
        }
    }
}

fn known_method(name: &str, text: &str) -> Result<&'static str, SelectError> {
    METHODS.iter().copied().find(|known| *known == name).ok_or_else(|| {
        let (message, help) = project::unknown_method(name);
        SelectError::new(format!("{message}, in `{text}`"), Some(help))
    })
}

fn one_of(text: &str, method: &str, value: &str, known: &[&str]) -> Result<(), SelectError> {
    if known.contains(&value) {
        return Ok(());
    }
    let help = match nearest(value, known.iter().copied()) {
        Some(near) => format!("did you mean `{method}:{near}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    Err(SelectError::new(format!("selector `{text}`: there is no {method} `{value}`"), Some(help)))
}

/// The digits beside a `+`: none is without end.
fn steps(digits: &str) -> Option<Option<usize>> {
    if digits.is_empty() { Some(None) } else { digits.parse().ok().map(Some) }
}

/// A name, or a glob with `*`, `?` and `[...]`.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    glob: Option<GlobMatcher>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, SelectError> {
        let glob = if text.contains(['*', '?', '[']) {
            let glob = Glob::new(text)
                .map_err(|error| SelectError::new(format!("`{text}` is not a pattern: {}", error.kind()), None))?;
            Some(glob.compile_matcher())
        } else {
            None
        };
        Ok(Self { text: text.to_owned(), glob })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(name),
            None => self.text == name,
        }
    }

    /// A file, a folder above it, or a glob over its path.
    pub(super) fn matches_path(&self, path: &str) -> bool {
        let folder = self.text.trim_start_matches("./").trim_end_matches('/');
        self.matches(path)
            || path == folder
            || (self.text.contains('/') || folder == "models")
                && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }
}
