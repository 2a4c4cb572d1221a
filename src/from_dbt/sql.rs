//! Templates of SQL: models, snapshots, tests and macros. Settings and names that mean something else here are
//! rewritten; what `lake` cannot do is reported at its line.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::edits::Edits;
use super::finding::{Findings, Level};
use super::jinja::{self, Argument, Call, Masks};
use super::{World, dialect};
use crate::project::{self, CONFIG_KEYS, TEST_KEYS};
use crate::template;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Snapshot,
    Test,
    Macro,
}

/// A file on its way.
pub(super) struct Sql<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) kind: Kind,
    pub(super) masks: Masks,
    pub(super) edits: Edits,
}

impl<'a> Sql<'a> {
    pub(super) fn new(path: &'a str, text: &'a str, kind: Kind) -> Self {
        Self { path, text, kind, masks: jinja::masks(text), edits: Edits::default() }
    }

    pub(super) fn line(&self, at: usize) -> usize {
        line(self.text, at)
    }

    /// Rewrites what can be, and reports all of it.
    pub(super) fn convert(&mut self, world: &World, findings: &mut Findings) {
        self.materializations(findings);
        let calls = jinja::calls(self.text, &self.masks.jinja);
        for call in &calls {
            match call.name.as_str() {
                "config" if self.kind != Kind::Macro => self.settings(call, findings),
                "ref" => self.reference(call, world, findings),
                "source" if self.kind == Kind::Snapshot => self.whole_source(call, findings),
                _ => {}
            }
            self.call(call, world, findings);
        }
        self.names(findings);
        self.macros(findings);
        for (at, what, instead) in dialect::foreign(&self.masks.sql) {
            self.report(Level::Todo, at, format!("{what} is of another engine"), instead, findings);
        }
        for (at, table) in dialect::tables(&self.masks.sql) {
            let action = "declare it as a source, and write {{ source('name', 'table') }}, or {{ ref('model') }}";
            self.report(Level::Todo, at, format!("table `{table}` is named without Jinja"), action, findings);
        }
        if self.kind == Kind::Model {
            self.increments(&calls, findings);
        }
        for found in META_COLUMN.find_iter(&self.masks.sql).filter(|_| !world.snapshots.is_empty()) {
            let action = "a history has `dbt_valid_from`, `dbt_valid_to` and `is_current`; write dbt_utils.generate_surrogate_key(...)";
            self.report(Level::Todo, found.start(), format!("column `{}`", found.as_str()), action, findings);
        }
    }

    /// A finding at a place; in a macro it matters only where somebody calls it.
    fn report(
        &self,
        level: Level,
        at: usize,
        what: impl Into<String>,
        action: impl Into<String>,
        findings: &mut Findings,
    ) {
        let (level, action) = match (self.kind, level) {
            (Kind::Macro, Level::Todo) => (Level::Look, format!("where the macro is called, {}", action.into())),
            _ => (level, action.into()),
        };
        findings.push(level, self.path, self.line(at), what, action);
    }

    /// `config(...)`: takes out what means nothing here.
    fn settings(&mut self, call: &Call, findings: &mut Findings) {
        let mut gone: Vec<usize> = Vec::new();
        let entries = jinja::entries(self.text, &self.masks.jinja, call);
        if let Some((mapping, arguments)) = &entries {
            // `config({'a': 1})` is `config(a=1)`.
            self.edits.replace(mapping.start..mapping.start + 1, "");
            self.edits.replace(mapping.end - 1..mapping.end, "");
            for argument in arguments {
                let name = argument.name.as_deref().unwrap_or_default();
                self.edits.replace(argument.range.start..argument.value.start, format!("{name}="));
            }
            self.report(Level::Done, call.range.start, "config() of a mapping", "takes named arguments now", findings);
        }
        let arguments = entries.as_ref().map_or(&call.arguments, |(_, arguments)| arguments);
        for (at, argument) in arguments.iter().enumerate() {
            let Some(name) = &argument.name else { continue };
            let value = jinja::literal(&self.text[argument.value.clone()]);
            let verdict = match self.kind {
                Kind::Test => test_setting(name),
                _ => setting(name, value.as_ref()),
            };
            match verdict {
                Verdict::Keep => {}
                Verdict::Replace(key, value, level, what, action) => {
                    let value = value.to_string().replace('"', "'").replace("':", "': ").replace(",'", ", '");
                    self.edits.replace(argument.range.clone(), format!("{key}={value}"));
                    self.report(level, argument.range.start, what, action, findings);
                }
                Verdict::Remove(level, what, action) => {
                    gone.push(at);
                    self.report(level, argument.range.start, what, action, findings);
                }
            }
        }
        if !gone.is_empty() && gone.len() == arguments.len() {
            return self.edits.replace(self.whole(&call.range), "");
        }
        for range in without(arguments, &gone) {
            self.edits.replace(range, "");
        }
    }

    /// An expression that is one call, with its braces and the line end behind it.
    fn whole(&self, call: &Range<usize>) -> Range<usize> {
        let (before, after) = (self.text[..call.start].trim_end(), self.text[call.end..].trim_start());
        let (open, close) = (before.trim_end_matches('-'), after.trim_start_matches('-'));
        match (open.strip_suffix("{{"), close.strip_prefix("}}")) {
            (Some(open), Some(rest)) => {
                let rest = rest.strip_prefix('\n').unwrap_or(rest);
                open.len()..self.text.len() - rest.len()
            }
            _ => call.clone(),
        }
    }

    /// `ref('x', v=1)` and names that had to change.
    fn reference(&mut self, call: &Call, world: &World, findings: &mut Findings) {
        let places: Vec<&Argument> = call.arguments.iter().filter(|argument| argument.name.is_none()).collect();
        let texts: Vec<Option<String>> =
            places.iter().map(|a| jinja::literal(&self.text[a.value.clone()])?.as_str().map(str::to_owned)).collect();
        let (Some(last), Some(Some(name))) = (places.last(), texts.last()) else { return };
        if let [Some(package), Some(_)] = texts.as_slice()
            && *package != world.name
        {
            let what = format!("a model of the package `{package}`");
            self.report(Level::Todo, call.range.start, what, "there are no packages: copy the model", findings);
        }
        let version = call.arguments.iter().find(|a| matches!(a.name.as_deref(), Some("v" | "version")));
        if let Some(version) = version {
            let value = self.text[version.value.clone()].trim_matches(['\'', '"', ' ']).to_owned();
            let model = world.versioned(name, &value);
            self.edits.replace(call.range.clone(), format!("ref('{model}')"));
            let what = format!("version {value} of `{name}`");
            self.report(Level::Done, call.range.start, what, format!("is a model: ref('{model}')"), findings);
        } else if let Some(new) = world.renamed.get(name) {
            self.edits.replace(last.value.clone(), format!("'{new}'"));
        }
    }

    /// A snapshot looks at the whole state of a source.
    fn whole_source(&mut self, call: &Call, findings: &mut Findings) {
        if let Some(last) = call.arguments.last() {
            self.edits.insert(last.range.end, ", changes=false");
            self.report(
                Level::Look,
                call.range.start,
                "a snapshot of a source",
                "reads all its files in every run (changes=false); for one file a day with all rows say `snapshot: true` of the source instead",
                findings,
            );
        }
    }

    /// What a call asks for that is not there.
    fn call(&self, call: &Call, world: &World, findings: &mut Findings) {
        let (name, at) = (call.name.as_str(), call.range.start);
        if name == "dbt_utils.get_column_values" {
            let action = template::instead_of_asking(name);
            return self.report(Level::Todo, at, "`dbt_utils.get_column_values` asks the database", action, findings);
        }
        if template::asks_database(name) && !name.starts_with("graph") {
            let action = template::instead_of_asking(name);
            return self.report(Level::Todo, at, format!("`{name}` asks the database"), action, findings);
        }
        if name == "adapter.dispatch" {
            return;
        }
        if let Some((package, macro_name)) = name.split_once('.') {
            let is_known = template::is_built_in(package, macro_name) || world.macros.contains(macro_name);
            let of_package = matches!(package, "dbt" | "dbt_utils") || world.packages.iter().any(|p| p == package);
            if of_package && !is_known {
                let action = format!("copy the macro to macros/{package}/, or write what it does as SQL");
                self.report(Level::Todo, at, format!("`{name}` is not built in"), action, findings);
            }
        }
        if name == "env_var" && self.text[call.range.clone()].contains("DBT_ENV_SECRET") {
            let action = "secrets are for `targets` in project.yml: what is rendered here is written to files";
            self.report(Level::Todo, at, "a secret of the environment in a template", action, findings);
        }
    }

    /// Names that dbt's templates have.
    fn names(&self, findings: &mut Findings) {
        for found in NAME.find_iter(&self.masks.jinja) {
            let before = self.masks.jinja[..found.start()].trim_end();
            let full = found.as_str();
            if before.ends_with('.') {
                continue;
            }
            let first = full.split('.').next().unwrap_or(full);
            let is_own = before.ends_with("set") || before.ends_with("for") || self.defines(first);
            let two: String = full.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
            let known = template::instead_of_name(full)
                .map(|help| (full, help))
                .or_else(|| template::instead_of_name(&two).map(|help| (two.as_str(), help)))
                .or_else(|| template::instead_of_name(first).map(|help| (first, help)));
            if let (Some((name, help)), false) = (known, is_own) {
                self.report(Level::Todo, found.start(), format!("`{name}` is of dbt and not of lake"), help, findings);
            } else if let Some(field) = full.strip_prefix("target.") {
                self.target(field.split('.').next().unwrap_or(field), found.start(), findings);
            } else if full == "flags.FULL_REFRESH" {
                let action = "write `is_incremental()`, which is false in a full refresh";
                self.report(Level::Todo, found.start(), "`flags.FULL_REFRESH` is not known", action, findings);
            } else if full == "graph" || full.starts_with("graph.") {
                let action = template::instead_of_asking("graph");
                self.report(Level::Todo, found.start(), "`graph` is not known", action, findings);
            }
        }
    }

    fn target(&self, field: &str, at: usize, findings: &mut Findings) {
        match field {
            "name" | "target_name" | "threads" | "root" => {}
            "type" => {
                let action = "is `lake` here: no branch for another adapter is taken";
                self.report(Level::Look, at, "`target.type`", action, findings);
            }
            _ => {
                let action =
                    "a target has `name`, `root`, `threads` and `type`: go by `target.name`, or use a variable";
                self.report(Level::Todo, at, format!("`target.{field}` is not known"), action, findings);
            }
        }
    }

    /// Whether a template gives a name a meaning of its own.
    fn defines(&self, name: &str) -> bool {
        ["set ", "for ", "(", ", "].iter().any(|before| self.masks.jinja.contains(&format!("{before}{name} =")))
            || ["set ", "for "].iter().any(|before| self.masks.jinja.contains(&format!("{before}{name} ")))
            || MACRO
                .captures_iter(&self.masks.jinja)
                .filter_map(|found| found.get(2))
                .any(|parameters| parameters.as_str().split(['(', ',', ')', '=']).any(|part| part.trim() == name))
    }

    /// Materializations of the project, which go.
    fn materializations(&mut self, findings: &mut Findings) {
        for found in MATERIALIZATION.captures_iter(self.text) {
            let (whole, name) = (found.get(0).map_or(0..0, |m| m.range()), &found[1]);
            if self.masks.jinja[whole.clone()].trim().is_empty() {
                continue;
            }
            let action = "was left out: the models that use it are tables, and what it did around the query is a macro that they call";
            findings.push(
                Level::Todo,
                self.path,
                self.line(whole.start),
                format!("the materialization `{name}`"),
                action,
            );
            for mask in [&mut self.masks.sql, &mut self.masks.jinja] {
                let spaces = mask[whole.clone()].replace(|c: char| c != '\n', " ");
                mask.replace_range(whole.clone(), &spaces);
            }
            self.edits.replace(whole, format!("{{# the materialization `{name}` of dbt stood here #}}"));
        }
    }

    /// Macros that nobody calls here.
    fn macros(&self, findings: &mut Findings) {
        for found in MACRO.captures_iter(&self.masks.jinja) {
            let (name, at) = (&found[1], found.get(1).map_or(0, |m| m.start()));
            if matches!(name, "generate_schema_name" | "generate_alias_name" | "generate_database_name") {
                let action = "is not called: the folder below models/ is the schema, and the file's name the table";
                findings.push(Level::Look, self.path, self.line(at), format!("macro `{name}`"), action);
            }
            if let Some((adapter, plain)) = name.split_once("__")
                && ADAPTERS.contains(&adapter)
            {
                let action =
                    format!("adapter.dispatch looks for `lake__{plain}`, `datafusion__{plain}` and `default__{plain}`");
                findings.push(Level::Look, self.path, self.line(at), format!("macro `{name}` is not called"), action);
            }
        }
    }

    /// An incremental model that reads a source takes in new files only.
    fn increments(&self, calls: &[Call], findings: &mut Findings) {
        let asks = calls.iter().find(|call| call.name == "is_incremental");
        let reads: Vec<&Call> = calls.iter().filter(|call| call.name == "source").collect();
        if let (Some(_), [first, more @ ..]) = (asks, reads.as_slice()) {
            let what = "an incremental model of a source";
            let action = "takes in only files that are new: a condition over {{ this }} is not needed, and loses rows that come late";
            self.report(Level::Look, first.range.start, what, action, findings);
            for call in more {
                let action = "reads only new files, too: write source(..., changes=false) where it is joined";
                self.report(Level::Look, call.range.start, "a second source of an incremental model", action, findings);
            }
        }
    }
}

static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*").expect("a regular expression"));
static MACRO: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bmacro\s+([A-Za-z_][A-Za-z0-9_]*)\s*(\([^)]*\))?").expect("a regular expression"));
static META_COLUMN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\bdbt_(?:scd_id|updated_at)\b").expect("a regular expression"));
static MATERIALIZATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)\{%-?\s*materialization\s+([A-Za-z_][A-Za-z0-9_]*).*?\{%-?\s*endmaterialization\s*-?%\}")
        .expect("a regular expression")
});

/// Adapters whose variants of a macro stand in dbt projects.
const ADAPTERS: &[&str] = &[
    "athena",
    "bigquery",
    "clickhouse",
    "databricks",
    "duckdb",
    "fabric",
    "postgres",
    "redshift",
    "snowflake",
    "spark",
    "sqlserver",
    "synapse",
    "trino",
];

/// What becomes of a setting.
pub(super) enum Verdict {
    /// It is as it was.
    Keep,
    /// Something else stands there.
    Replace(&'static str, Value, Level, String, String),
    /// It goes.
    Remove(Level, String, String),
}

/// What becomes of a setting of a model or a snapshot; a value that is no literal is not looked at.
pub(super) fn setting(name: &str, value: Option<&Value>) -> Verdict {
    let key = name.trim_start_matches('+').replace('-', "_");
    match (key.as_str(), value) {
        ("materialized", Some(Value::String(word)))
            if project::check_setting("materialized", &word.as_str().into()).is_err() =>
        {
            let what = format!("`materialized: {word}` is not of lake");
            let action = "is `table` now: built as a whole, and tested, before anybody sees it";
            Verdict::Replace("materialized", "table".into(), Level::Look, what, action.to_owned())
        }
        ("invalidate_hard_deletes", Some(Value::Bool(true))) => Verdict::Replace(
            "hard_deletes",
            "invalidate".into(),
            Level::Done,
            "`invalidate_hard_deletes`".to_owned(),
            "is `hard_deletes: invalidate`".to_owned(),
        ),
        ("check_cols", Some(Value::String(one))) if one != "all" => Verdict::Replace(
            "check_cols",
            vec![one.as_str()].into(),
            Level::Done,
            "`check_cols` of one column".to_owned(),
            "is a list".to_owned(),
        ),
        ("snapshot_meta_column_names", Some(Value::Object(names))) if names.keys().any(|name| !is_meta(name)) => {
            let kept =
                names.iter().filter(|(name, _)| is_meta(name)).map(|(name, value)| (name.clone(), value.clone()));
            let what = "columns of a snapshot that a history has not".to_owned();
            let action = "a history has `valid_from`, `valid_to`, `is_current` and `is_deleted`".to_owned();
            Verdict::Replace("snapshot_meta_column_names", Value::Object(kept.collect()), Level::Look, what, action)
        }
        ("pre_hook" | "post_hook", value) => hook(&key, value),
        ("schema" | "database" | "alias" | "target_schema" | "target_database", _) => {
            let instead = project::instead_of_setting(&key).unwrap_or_default();
            Verdict::Remove(Level::Look, format!("`{key}` is not a setting"), instead.to_owned())
        }
        (key, value) if CONFIG_KEYS.contains(&key) => match value.map(|value| project::check_setting(key, value)) {
            Some(Err(message)) => {
                let (what, action) = message.split_once("; ").unwrap_or((&message, "it was left out"));
                Verdict::Remove(Level::Todo, what.to_owned(), action.to_owned())
            }
            _ => Verdict::Keep,
        },
        (key, _) => {
            let (level, action) = match project::instead_of_setting(key) {
                Some(instead) => (Level::Look, instead),
                None => (Level::Done, "was left out: it means nothing here"),
            };
            Verdict::Remove(level, format!("`{key}` is not a setting"), action.to_owned())
        }
    }
}

/// Whether a history has such a column beside those of its query.
fn is_meta(name: &str) -> bool {
    matches!(name.strip_prefix("dbt_").unwrap_or(name), "valid_from" | "valid_to" | "is_current" | "is_deleted")
}

/// Hooks are queries and commands; nothing may change a table beside the run.
fn hook(key: &str, value: Option<&Value>) -> Verdict {
    let texts: Vec<&str> = match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !texts.is_empty() && texts.iter().all(|text| is_query(text)) {
        return Verdict::Keep;
    }
    let what = format!("`{key}` changes something in the warehouse");
    Verdict::Remove(Level::Todo, what, HOOKS.to_owned())
}

/// What hooks may be.
pub(super) const HOOKS: &str =
    "was left out: a hook is a query, a `copy (select ...) to 'file'`, or { command: \"...\" }";

/// Whether a hook only reads.
pub(super) fn is_query(text: &str) -> bool {
    let first = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_lowercase();
    matches!(first.as_str(), "select" | "with" | "copy" | "values")
}

fn test_setting(name: &str) -> Verdict {
    if TEST_KEYS.contains(&name) {
        return Verdict::Keep;
    }
    let action = project::instead_of(name).unwrap_or("was left out: it means nothing here");
    Verdict::Remove(Level::Done, format!("`{name}` is not a setting of tests"), action.to_owned())
}

/// The bytes of some arguments, with the commas that part them from others.
fn without(arguments: &[Argument], gone: &[usize]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for &at in gone {
        let argument = &arguments[at];
        let kept_before = (0..at).rev().find(|before| !gone.contains(before));
        ranges.push(match (kept_before, arguments.get(at + 1)) {
            // Behind one that stays: from its end.
            (Some(before), _) => {
                let start = if before + 1 == at { arguments[before].range.end } else { arguments[at - 1].range.end };
                start..argument.range.end
            }
            (None, Some(next)) => argument.range.start..next.range.start,
            (None, None) => argument.range.clone(),
        });
    }
    ranges
}

/// The names of the macros, or of the generic tests, that a file defines.
pub(super) fn defined(text: &str, what: &str) -> Vec<String> {
    let jinja = jinja::masks(text).jinja;
    let mut names = Vec::new();
    let mut words = jinja.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if word == what {
            names.extend(words.next().map(str::to_owned));
        }
    }
    names
}

/// The line of a place, counted from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}
