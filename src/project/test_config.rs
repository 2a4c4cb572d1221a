//! What every test takes beside its arguments: how its result counts, which rows it looks at, who looks after it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::thresholds::Threshold;
use super::yaml::{Mapping, Node, Reader};
use crate::diagnostics::{Diagnostic, Id};
use crate::names::nearest;
use crate::template::Config;

/// How the result of a test counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestConfig {
    /// Whether failing rows stop the publish.
    pub severity: TestSeverity,
    /// From how many failures on it warns.
    pub warn_if: Threshold,
    /// From how many failures on it fails, with severity `error`.
    pub error_if: Threshold,
    /// Rows to look at: a SQL condition.
    pub filter: Option<String>,
    /// How many failing rows are kept and shown at most.
    pub limit: Option<u64>,
    /// What the number of failures is, as SQL over the failing rows: `count(*)`, if nothing else is said.
    pub fail_calc: Option<String>,
    /// Whether failing rows are kept in the lake, if it says so.
    pub store_failures: Option<bool>,
    /// What becomes of failing rows.
    pub on_violation: Violation,
    /// It decides whether the table is published; else it runs after the publish.
    pub audit: bool,
    /// Who looks after it.
    pub owner: Option<String>,
    /// For selection.
    pub tags: Vec<String>,
    /// Anything else that users note of it.
    pub meta: Value,
    /// It runs.
    pub enabled: bool,
    /// A promise of a contract: it gates every publish, also of `lake run`.
    pub contract: bool,
}

impl Default for TestConfig {
    fn default() -> Self {
        Self {
            severity: TestSeverity::default(),
            warn_if: Threshold::default(),
            error_if: Threshold::default(),
            filter: None,
            limit: None,
            fail_calc: None,
            store_failures: None,
            on_violation: Violation::default(),
            audit: true,
            owner: None,
            tags: Vec::new(),
            meta: Value::Null,
            enabled: true,
            contract: false,
        }
    }
}

/// Whether failing rows stop the publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestSeverity {
    /// They do.
    #[default]
    Error,
    /// They are counted and shown.
    Warn,
}

/// What becomes of the rows that fail a row-level test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// They stop the publish, as `severity` says.
    #[default]
    Fail,
    /// They are published, counted and shown.
    Warn,
    /// They are left out.
    Drop,
    /// They are left out, and kept in the quarantine of the model.
    Quarantine,
}

impl Violation {
    /// Whether failing rows are not published.
    pub fn leaves_out(self) -> bool {
        matches!(self, Self::Drop | Self::Quarantine)
    }
}

/// What every test takes beside its arguments.
pub const KEYS: &[&str] = &[
    "severity",
    "warn_if",
    "error_if",
    "where",
    "limit",
    "fail_calc",
    "store_failures",
    "on_violation",
    "audit",
    "owner",
    "tags",
    "meta",
    "enabled",
];

impl TestConfig {
    /// How many failures, of so many rows, count for how much.
    pub fn verdict(&self, failures: u64, rows: Option<u64>) -> Verdict {
        let fails = self.severity == TestSeverity::Error && self.on_violation != Violation::Warn;
        if fails && self.error_if.is_met(failures, rows) {
            Verdict::Fail
        } else if self.warn_if.is_met(failures, rows) {
            Verdict::Warn
        } else {
            Verdict::Pass
        }
    }

    /// As [`Self::verdict`], for rows that are not published: they are told, and fail only where a limit of theirs says so.
    pub fn verdict_of_left_out(&self, failures: u64, rows: Option<u64>) -> Verdict {
        match failures {
            0 => Verdict::Pass,
            _ if self.error_if != Threshold::default() && self.error_if.is_met(failures, rows) => Verdict::Fail,
            _ => Verdict::Warn,
        }
    }

    /// Whether a pass means that no row fails.
    pub fn allows_nothing(&self) -> bool {
        self.severity == TestSeverity::Error
            && self.on_violation == Violation::Fail
            && self.error_if == Threshold::default()
    }

    /// Whether the number of rows decides anything.
    pub fn needs_rows(&self) -> bool {
        self.warn_if.is_percent() || self.error_if.is_percent()
    }

    /// Takes what belongs here out of a mapping, apart from keys that mean something else in it.
    pub(super) fn read(
        &mut self,
        mapping: &mut Mapping<'_>,
        means_else: impl Fn(&str) -> bool,
        reader: &mut Reader<'_>,
    ) {
        for key in KEYS.iter().filter(|key| !means_else(key)) {
            if let Some(node) = mapping.take(key)
                && let Err(message) = self.set(key, &node.to_json())
            {
                reader.diagnostics.push(Diagnostic::error(Id::InvalidValue, message).at(node.span.clone()));
            }
        }
    }

    /// Reads an inner `config:`.
    pub(super) fn read_inner(&mut self, node: &Node, reader: &mut Reader<'_>) {
        if let Some(mut inner) = reader.mapping(node, "test config") {
            self.read(&mut inner, |_| false, reader);
            inner.finish(reader);
        }
    }

    /// Sets one key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` takes a text, not {value}"));
        let flag = || value.as_bool().ok_or_else(|| format!("`{key}` is `true` or `false`, not {value}"));
        match key {
            "severity" => self.severity = word(key, value, SEVERITIES)?,
            "on_violation" => self.on_violation = word(key, value, VIOLATIONS)?,
            "warn_if" => self.warn_if = threshold(value)?,
            "error_if" => self.error_if = threshold(value)?,
            "where" => self.filter = Some(text()?),
            "limit" => {
                let limit = value.as_u64().ok_or_else(|| format!("`limit` is a number of rows, not {value}"))?;
                self.limit = Some(limit);
            }
            "fail_calc" => self.fail_calc = Some(text()?),
            "store_failures" => self.store_failures = Some(flag()?),
            "audit" => self.audit = flag()?,
            "enabled" => self.enabled = flag()?,
            "owner" => self.owner = Some(text()?),
            "meta" => self.meta = value.clone(),
            "tags" => {
                self.tags = match value {
                    Value::Array(items) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
                    _ => vec![text()?],
                };
            }
            _ => {
                let near = nearest(key, KEYS.iter().copied()).map(|near| format!(" (did you mean `{near}`?)"));
                let near = near.unwrap_or_default();
                return Err(format!("unknown config `{key}`{near}; known: {}", KEYS.join(", ")));
            }
        }
        Ok(())
    }

    /// The settings of a singular test; those that are wrong were reported.
    pub(super) fn of(values: &Config) -> Self {
        let mut config = Self::default();
        for (key, value) in values {
            let _ = config.set(key, value);
        }
        config
    }
}

/// How the result of a test counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not at all.
    Pass,
    /// It is shown.
    Warn,
    /// It stops the publish.
    Fail,
}

pub(super) const SEVERITIES: &[(&str, TestSeverity)] = &[("error", TestSeverity::Error), ("warn", TestSeverity::Warn)];
pub(super) const VIOLATIONS: &[(&str, Violation)] = &[
    ("fail", Violation::Fail),
    ("warn", Violation::Warn),
    ("drop", Violation::Drop),
    ("quarantine", Violation::Quarantine),
];

fn word<T: Copy>(key: &str, value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let found = value.as_str().and_then(|text| words.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)));
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("`{shown}` is not a value of `{key}`; known: {}", known.join(", ")))
}

fn threshold(value: &Value) -> Result<Threshold, String> {
    Threshold::parse(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// Checks one key of `config()` in a singular test.
pub(super) fn check(key: &str, value: &Value) -> Result<(), String> {
    TestConfig::default().set(key, value)
}
