//! `lake test suggest`: tests that a table passes today, as YAML to begin with.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::DataFusionError;

use super::args::Global;
use super::infer::yaml_scalar;
use super::printer::Printer;
use super::profile::with_table;
use super::test_args::SuggestArgs;
use super::{ExitStatus, Pipeline};
use crate::checks::Check;
use crate::compile::CompiledProject;
use crate::names::TableName;
use crate::run::{ColumnProfile, Failure, Inputs, Runtime, TableProfile};
use crate::session;
use crate::words::{quoted, thousands};

/// So many different values make a list.
const LISTED: u64 = 12;

/// A value of a list is there so often, on the average.
const OFTEN: u64 = 10;

pub(super) fn run(global: &Global, args: &SuggestArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let name = with_table(&pipeline.project, &args.model)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let found = async_runtime.block_on(suggest(&inputs, &runtime, &name))?;
    let Some((profile, columns)) = found else {
        printer.note(&format!("`{name}` is not built yet: tests are suggested for what is there"));
        return Ok(ExitStatus::Fine);
    };
    if printer.is_json() {
        let told = columns.iter().map(|(column, tests)| {
            let tests: Vec<_> =
                tests.iter().map(|test| serde_json::json!({"test": test.yaml, "why": test.why})).collect();
            (column.clone(), tests.into())
        });
        let told: serde_json::Map<String, serde_json::Value> = told.collect();
        printer.json(&serde_json::json!({"node": name.to_string(), "version": profile.version, "columns": told}));
        return Ok(ExitStatus::Fine);
    }
    if columns.is_empty() {
        printer.note(&format!("nothing that `{name}` is not tested for already"));
        return Ok(ExitStatus::Fine);
    }
    printer.result(yaml(&name, &columns).trim_end());
    let rows = thousands(profile.rows);
    printer.note(&format!("true of the {rows} rows of version {}: leave out what is true by chance", profile.version));
    Ok(ExitStatus::Fine)
}

/// A test, and what speaks for it.
struct Suggestion {
    yaml: String,
    why: String,
}

/// What is suggested for each column, in the order of the table.
type Suggestions = Vec<(String, Vec<Suggestion>)>;

async fn suggest(
    inputs: &Inputs,
    runtime: &Runtime,
    name: &TableName,
) -> Result<Option<(TableProfile, Suggestions)>, Failure> {
    let Some(newest) = inputs.profile_now(name, false).await? else { return Ok(None) };
    let kept = inputs.kept_profile(name, newest.version).await?;
    let profile = match kept.filter(|kept| kept.columns.iter().any(ColumnProfile::is_full)) {
        Some(kept) => kept,
        None => inputs.profile_now(name, true).await?.unwrap_or(newest),
    };
    let mut found = Suggestions::new();
    for column in profile.columns.iter().filter(|_| profile.rows > 0) {
        let tests = Column { inputs, runtime, name, column, rows: profile.rows }.tests().await?;
        if !tests.is_empty() {
            found.push((column.column_name.clone(), tests));
        }
    }
    Ok(Some((profile, found)))
}

/// A column to be tested.
struct Column<'a> {
    inputs: &'a Inputs,
    runtime: &'a Runtime,
    name: &'a TableName,
    column: &'a ColumnProfile,
    rows: u64,
}

impl Column<'_> {
    async fn tests(&self) -> Result<Vec<Suggestion>, Failure> {
        let declared = declared(&self.runtime.compiled, self.name, &self.column.column_name);
        let mut tests = Vec::new();
        for (test, found) in [
            ("not_null", self.not_null()),
            ("unique", self.unique().await?),
            ("accepted_values", self.accepted_values().await?),
            ("accepted_range", self.accepted_range()),
            ("relationships", self.relationships().await?),
        ] {
            tests.extend(found.filter(|_| !declared.contains(test)));
        }
        Ok(tests)
    }

    fn not_null(&self) -> Option<Suggestion> {
        let why = "no NULL".to_owned();
        (self.column.nulls == Some(0)).then(|| Suggestion { yaml: "not_null".to_owned(), why })
    }

    /// Sketches are not exact, so the table is asked.
    async fn unique(&self) -> Result<Option<Suggestion>, Failure> {
        let (distinct, values) = (self.column.distinct_values.unwrap_or_default(), self.values());
        if values < 2 || (distinct as f64) < 0.9 * values as f64 || !self.is_key() {
            return Ok(None);
        }
        let column = quoted(&self.column.column_name);
        let sql = format!("select {column} from {} group by {column} having count(*) > 1 limit 1", self.name.quoted());
        let repeated = self.texts(&sql).await?;
        let why = format!("{} different values", thousands(values));
        Ok(repeated.is_empty().then(|| Suggestion { yaml: "unique".to_owned(), why }))
    }

    async fn accepted_values(&self) -> Result<Option<Suggestion>, Failure> {
        let distinct = self.column.distinct_values.unwrap_or_default();
        let is_text = self.column.data_type.contains("char") || self.column.data_type == "string";
        if !is_text || self.column.masked || distinct == 0 || distinct > LISTED || self.values() < distinct * OFTEN {
            return Ok(None);
        }
        let column = quoted(&self.column.column_name);
        let sql = format!("select distinct {column} from {} where {column} is not null order by 1", self.name.quoted());
        let values = self.texts(&sql).await?;
        let listed: Vec<String> = values.iter().map(|value| yaml_scalar(value)).collect();
        let why = format!("{} different values in {} rows", values.len(), thousands(self.rows));
        Ok(Some(Suggestion { yaml: format!("accepted_values: {{ values: [{}] }}", listed.join(", ")), why }))
    }

    /// A number that is never below zero.
    fn accepted_range(&self) -> Option<Suggestion> {
        let least = self.column.min.as_deref().and_then(|min| min.parse::<f64>().ok())?;
        let is_number = self.column.mean.is_some() && least >= 0.0;
        let why = format!("the least value is {}", self.column.min.as_deref().unwrap_or_default());
        is_number.then(|| Suggestion { yaml: "accepted_range: { min_value: 0 }".to_owned(), why })
    }

    /// A column of the name of another table's key, whose values are all there.
    async fn relationships(&self) -> Result<Option<Suggestion>, Failure> {
        let own = &self.column.column_name;
        for (other, key) in keys(self.runtime).into_iter().filter(|(other, key)| other != self.name && key == own) {
            let schemas = (self.runtime.compiled.schema_of(&other), self.runtime.compiled.schema_of(self.name));
            let types = (
                schemas.0.and_then(|schema| schema.field_with_name(&key).ok()),
                schemas.1.and_then(|schema| schema.field_with_name(own).ok()),
            );
            if !matches!(types, (Some(there), Some(here)) if there.data_type() == here.data_type()) {
                continue;
            }
            let (column, to) = (quoted(own), other.quoted());
            let sql = format!(
                "select child.{column} from {} as child left anti join {to} as parent on child.{column} = parent.{column} \
                 where child.{column} is not null limit 1",
                self.name.quoted()
            );
            if self.texts(&sql).await?.is_empty() {
                let yaml = format!("relationships: {{ to: ref('{}'), field: {} }}", other.table, yaml_scalar(&key));
                return Ok(Some(Suggestion { yaml, why: format!("all values stand in {other}") }));
            }
        }
        Ok(None)
    }

    fn values(&self) -> u64 {
        self.rows - self.column.nulls.unwrap_or_default().min(self.rows)
    }

    /// Whether a column may tell rows from each other: measures do not, whatever they are.
    fn is_key(&self) -> bool {
        let kind = &self.column.data_type;
        kind.contains("int") || kind.contains("char") || kind == "string"
    }

    /// The values of the first column of a query, as texts.
    async fn texts(&self, sql: &str) -> Result<Vec<String>, Failure> {
        let plan = self.inputs.plan_query(sql).await?;
        let batches: Vec<RecordBatch> = session::query(&self.runtime.session, plan).collect().await?;
        let mut found = Vec::new();
        for batch in &batches {
            let column = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
            found.extend((0..column.len()).map(|row| column.as_string::<i32>().value(row).to_owned()));
        }
        Ok(found)
    }
}

/// The tests that a column has.
fn declared(compiled: &CompiledProject, table: &TableName, column: &str) -> BTreeSet<String> {
    let own = compiled.tests_on(table).filter(|test| test.column() == Some(column));
    own.map(|test| test.kind.name().to_owned()).collect()
}

/// Columns that tell the rows of a stored table apart, each alone.
fn keys(runtime: &Runtime) -> Vec<(TableName, String)> {
    let mut found = BTreeSet::new();
    for (name, model) in runtime.project.models.iter().filter(|(_, model)| model.is_stored()) {
        if let [only] = model.config.unique_key.as_slice() {
            found.insert((name.clone(), only.clone()));
        }
        found.extend(runtime.compiled.tests_on(name).filter_map(|test| match test.check() {
            Check::Unique { columns, .. } if columns.len() == 1 => Some((name.clone(), columns[0].clone())),
            _ => None,
        }));
    }
    found.into_iter().collect()
}

fn yaml(name: &TableName, columns: &Suggestions) -> String {
    let mut text = format!("models:\n  - name: {}\n    columns:\n", name.table);
    for (column, tests) in columns {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "      - name: {}\n        data_tests:", yaml_scalar(column));
        for test in tests {
            let _ = writeln!(text, "          - {}  # {}", test.yaml, test.why);
        }
    }
    text
}
