//! Profiles of tables: what is known of each column of each version, in `_lake/profiles`.

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::materialize::Failure;
use super::own_tables::columns;
use super::profiling::{Sketched, Sketches, merged, sketch};
use crate::catalog::{sql_type, utc};
use crate::compile::CompiledProject;
use crate::names::TableName;
use crate::project::Profile;
use crate::session::{self, Sketch};
use crate::tables::{self, Known, Published};
use crate::words::sql_text;

/// Common values that are kept.
const COMMON: usize = 10;

/// What is known of a version of a table.
#[derive(Debug, Clone, Serialize)]
pub struct TableProfile {
    /// The model.
    pub node: String,
    /// The version of its table.
    pub version: u64,
    /// When it was published, or looked at.
    pub at: String,
    /// Rows.
    pub rows: u64,
    /// Data files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Its columns, in order.
    pub columns: Vec<ColumnProfile>,
}

/// What is known of a column.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnProfile {
    /// Its name.
    pub column_name: String,
    /// Its type, as SQL has it.
    pub data_type: String,
    /// NULLs.
    pub nulls: Option<u64>,
    /// Different values.
    pub distinct_values: Option<u64>,
    /// Whether that is exact.
    pub distinct_is_exact: Option<bool>,
    /// The least value.
    pub min: Option<String>,
    /// The greatest value.
    pub max: Option<String>,
    /// The mean of numbers.
    pub mean: Option<f64>,
    /// Below it lie 5 % of the numbers.
    pub p05: Option<f64>,
    /// Below it lie 25 %.
    pub p25: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// Below it lie 75 %.
    pub p75: Option<f64>,
    /// Below it lie 95 %.
    pub p95: Option<f64>,
    /// The length of the shortest text, in characters.
    pub min_length: Option<u64>,
    /// The length of the longest text.
    pub max_length: Option<u64>,
    /// The mean length of texts.
    pub mean_length: Option<f64>,
    /// The most common values as a JSON list of pairs: the value, and how often it is there at least.
    pub top_values: Option<String>,
    /// It is sensitive: what would show a value is left out.
    pub masked: bool,
    /// What later versions add to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sketch: Option<String>,
}

impl ColumnProfile {
    /// Whether values were looked at, and not statistics alone.
    pub fn is_full(&self) -> bool {
        self.distinct_values.is_some()
    }

    /// Leaves out what would show a value.
    pub(super) fn hide(&mut self) {
        let column = std::mem::take(self);
        *self = Self {
            column_name: column.column_name,
            data_type: column.data_type,
            nulls: column.nulls,
            distinct_values: column.distinct_values,
            distinct_is_exact: column.distinct_is_exact,
            masked: true,
            ..Self::default()
        };
    }

    /// The most common values.
    pub fn common(&self) -> Vec<(String, u64)> {
        self.top_values.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// A row of `_lake.profiles`.
#[derive(Serialize)]
pub(super) struct ProfileRow {
    invocation_id: String,
    at: String,
    node: String,
    version: u64,
    rows: u64,
    files: u64,
    bytes: u64,
    #[serde(flatten)]
    column: ColumnProfile,
}

pub(super) fn profile_columns() -> SchemaRef {
    const TEXT: DataType = DataType::Utf8;
    const WHOLE: DataType = DataType::Int64;
    const REAL: DataType = DataType::Float64;
    columns(&[
        ("invocation_id", TEXT),
        ("at", utc()),
        ("node", TEXT),
        ("version", WHOLE),
        ("rows", WHOLE),
        ("files", WHOLE),
        ("bytes", WHOLE),
        ("column_name", TEXT),
        ("data_type", TEXT),
        ("nulls", WHOLE),
        ("distinct_values", WHOLE),
        ("distinct_is_exact", DataType::Boolean),
        ("min", TEXT),
        ("max", TEXT),
        ("mean", REAL),
        ("p05", REAL),
        ("p25", REAL),
        ("p50", REAL),
        ("p75", REAL),
        ("p95", REAL),
        ("min_length", WHOLE),
        ("max_length", WHOLE),
        ("mean_length", REAL),
        ("top_values", TEXT),
        ("masked", DataType::Boolean),
        ("sketch", TEXT),
    ])
}

impl TableProfile {
    /// Adds a column as it was kept. One that was not sensitive when it was gathered may be now.
    pub(super) fn recall(&mut self, mut column: ColumnProfile, name: &TableName, compiled: &CompiledProject) {
        if compiled.hides(name, &column.column_name) {
            column.hide();
        }
        // A version that was taken back has been there twice.
        self.columns.retain(|known| known.column_name != column.column_name);
        self.columns.push(column);
    }

    pub(super) fn into_rows(self, invocation_id: &str) -> impl Iterator<Item = ProfileRow> {
        let invocation_id = invocation_id.to_owned();
        self.columns.into_iter().map(move |column| ProfileRow {
            invocation_id: invocation_id.clone(),
            at: self.at.clone(),
            node: self.node.clone(),
            version: self.version,
            rows: self.rows,
            files: self.files,
            bytes: self.bytes,
            column,
        })
    }
}

impl Inputs {
    /// The profile of what a run published, as its model wants it.
    pub(super) async fn profile_of_build(
        &self,
        name: &TableName,
        version: u64,
        sketched: Option<&Sketched>,
    ) -> Result<Option<TableProfile>, Failure> {
        let wanted = self.runtime().project.models.get(name).map(|model| model.config.profile);
        let Some(wanted) = wanted.filter(|wanted| *wanted != Profile::Off) else { return Ok(None) };
        // Another run may have published since.
        let Some(published) = self.published(name).await?.filter(|published| published.version() == version) else {
            return Ok(None);
        };
        let sketches = match (wanted, sketched) {
            (Profile::Full, Some(sketched)) => self.added_up(name, sketched).await?,
            _ => None,
        };
        let profile = self.profile(&published, sketches, wanted == Profile::Full).await?;
        Ok(Some(profile))
    }

    /// The profile of a published version; with `full` its rows are read, unless there are sketches of them.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn profile_now(&self, name: &TableName, full: bool) -> Result<Option<TableProfile>, Failure> {
        match self.published(name).await? {
            Some(published) => Ok(Some(self.profile(&published, None, full).await?)),
            None => Ok(None),
        }
    }

    async fn profile(
        &self,
        published: &Published,
        sketches: Option<Sketches>,
        full: bool,
    ) -> Result<TableProfile, Failure> {
        let sketches = match sketches {
            None if full => Some(sketch(tables::table_provider(published).await?, &self.runtime().session).await?),
            known => known,
        };
        let known = Known::of(Some(published), None)?;
        let bounds = known.as_ref().map(Known::shown_bounds).unwrap_or_default();
        let mut columns = Vec::new();
        for (at, field) in published.schema.fields().iter().enumerate() {
            let masked = self.runtime().compiled.hides(&published.name, field.name());
            let mut column = ColumnProfile {
                column_name: field.name().clone(),
                data_type: sql_type(field.data_type()),
                nulls: known.as_ref().and_then(|known| known.nulls(field.name())),
                masked,
                ..ColumnProfile::default()
            };
            if let Some((min, max)) = bounds.get(field.name().as_str()).filter(|_| !masked) {
                (column.min, column.max) = (min.as_ref().and_then(text), max.as_ref().and_then(text));
            }
            if let Some(sketch) = sketches.as_ref().and_then(|sketches| sketches.get(at)) {
                column.tell(sketch);
            }
            columns.push(column);
        }
        let rows = match (&known, &sketches) {
            (Some(known), _) => known.rows(),
            (None, Some(sketches)) => sketches.first().map_or(0, |sketch| sketch.values + sketch.nulls),
            (None, None) => 0,
        };
        Ok(TableProfile {
            node: published.name.to_string(),
            version: published.version(),
            at: chrono::Utc::now().to_rfc3339(),
            rows,
            files: known.as_ref().map_or(0, |known| known.file_count() as u64),
            bytes: known.as_ref().map_or(0, |known| known.bytes),
            columns,
        })
    }

    /// The sketches of the whole table: those of the new rows, on top of those of the version that they were added to.
    async fn added_up(&self, name: &TableName, sketched: &Sketched) -> Result<Option<Sketches>, Failure> {
        let Some(version) = sketched.added_to else { return Ok(Some(sketched.columns.clone())) };
        let Some(before) = self.kept_profile(name, version).await? else { return Ok(None) };
        let read = |column: &ColumnProfile| serde_json::from_str::<Sketch>(column.sketch.as_deref()?).ok();
        let before: Option<Sketches> = before.columns.iter().map(read).collect();
        Ok(before.and_then(|before| merged(before, &sketched.columns)))
    }

    /// The profile that is kept of a version of a table.
    ///
    /// # Errors
    /// When the table of profiles cannot be read.
    pub async fn kept_profile(&self, name: &TableName, version: u64) -> Result<Option<TableProfile>, Failure> {
        self.kept(name, &format!("version = {version}")).await
    }

    /// The newest profile that is kept of the versions before one.
    ///
    /// # Errors
    /// As there.
    pub async fn profile_before(&self, name: &TableName, version: u64) -> Result<Option<TableProfile>, Failure> {
        let node = sql_text(&name.to_string());
        let newest = format!("select max(version) from _lake.profiles where node = {node} and version < {version}");
        self.kept(name, &format!("version = ({newest})")).await
    }

    async fn kept(&self, name: &TableName, condition: &str) -> Result<Option<TableProfile>, Failure> {
        let runtime = self.runtime();
        if runtime.lake.inspect(&super::chronicle::profiles()).await?.is_none() {
            return Ok(None);
        }
        let node = sql_text(&name.to_string());
        let sql = format!("select * from _lake.profiles where node = {node} and {condition} order by \"at\"");
        let plan = self.plan_query(&sql).await?;
        let batches = session::query(&runtime.session, plan).collect().await?;
        let mut found: Option<TableProfile> = None;
        for row in rows_as_json(&batches)? {
            let number = |key: &str| row[key].as_u64().unwrap_or_default();
            let string = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let profile = found.get_or_insert_with(|| TableProfile {
                node: string("node"),
                version: number("version"),
                at: string("at"),
                rows: number("rows"),
                files: number("files"),
                bytes: number("bytes"),
                columns: Vec::new(),
            });
            let read: serde_json::Result<ColumnProfile> = serde_json::from_value(row.clone());
            let column = read.map_err(|error| Failure::text(format!("the profile of `{name}`: {error}")))?;
            profile.recall(column, name, &runtime.compiled);
        }
        Ok(found)
    }
}

impl ColumnProfile {
    /// Takes over what a sketch says.
    fn tell(&mut self, sketch: &Sketch) {
        let (distinct, is_exact) = sketch.distinct();
        self.nulls = Some(sketch.nulls);
        (self.distinct_values, self.distinct_is_exact) = (Some(distinct), Some(is_exact));
        if self.masked {
            return;
        }
        self.mean = sketch.mean();
        [self.p05, self.p25, self.p50, self.p75, self.p95] =
            [0.05, 0.25, 0.5, 0.75, 0.95].map(|part| sketch.quantile(part));
        if let Some(lengths) = sketch.lengths {
            (self.min_length, self.max_length) = (Some(lengths.min), Some(lengths.max));
            self.mean_length = Some(lengths.mean());
        }
        let common = sketch.most_common(COMMON);
        self.top_values = (!common.is_empty()).then(|| serde_json::json!(common).to_string());
        self.sketch = serde_json::to_string(sketch).ok();
    }
}

/// A value as people read it.
fn text(value: &ScalarValue) -> Option<String> {
    array_value_to_string(&value.to_array().ok()?, 0).ok()
}

/// Rows as JSON objects.
fn rows_as_json(batches: &[RecordBatch]) -> Result<Vec<serde_json::Value>, Failure> {
    let mut writer = datafusion::arrow::json::LineDelimitedWriter::new(Vec::new());
    let unreadable = |error: datafusion::arrow::error::ArrowError| Failure::text(error.to_string());
    for batch in batches.iter().filter(|batch| !batch.column(0).is_empty()) {
        writer.write(batch).map_err(unreadable)?;
    }
    writer.finish().map_err(unreadable)?;
    let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| Failure::text(error.to_string()))).collect()
}
