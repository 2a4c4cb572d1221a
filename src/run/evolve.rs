//! How new rows fit the table that they are added to: which of them count, and which columns the table has then.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::Runtime;
use super::inputs::Chosen;
use super::materialize::{Failure, Node};
use super::world::World;
use crate::catalog::{sql_type, widens};
use crate::compile::{ColumnName, Input, Parts, parts};
use crate::names::TableName;
use crate::project::{Format, Materialization, OnNewColumn, OnSchemaChange, Strategy};
use crate::session::{self, Tables};
use crate::tables::{self, Merge, Placement, Published, Staged};
use crate::template::SourceRead;
use crate::words::quoted;

/// Of the rows of each key, those with the greatest `sequence_by`; two of them with one value are still two.
pub(super) fn latest_only(
    rows: LogicalPlan,
    key: &[String],
    sequence_by: &str,
    session: &SessionState,
) -> Result<LogicalPlan, Failure> {
    let columns: Vec<String> = rows.schema().fields().iter().map(|field| quoted(field.name())).collect();
    let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    let new = TableName::new("lake", "new_rows");
    let sql = format!(
        "select {columns} from (select {columns}, rank() over (partition by {key} order by {sequence} desc nulls last) \
         as __lake_rank from {new}) as ranked where __lake_rank = 1",
        columns = columns.join(", "),
        key = key.join(", "),
        sequence = quoted(sequence_by),
        new = new.quoted(),
    );
    let mut tables = Tables::new();
    tables.insert(new, provider_as_source(Arc::new(ViewTable::new(rows, None))));
    Ok(session::plan(session, session::parse(&sql)?, &tables)?)
}

impl Node<'_> {
    /// Where the new rows go among those of the table.
    pub(super) fn placement(&self, schema: &SchemaRef) -> Placement<'_> {
        let config = &self.model.config;
        let key = config.unique_key.as_slice();
        if self.model.merges() {
            let (only, not) = (&config.merge_update_columns, &config.merge_exclude_columns);
            let names = schema.fields().iter().map(|field| field.name().clone());
            let (sequence_by, delete_when) = (config.sequence_by.as_deref(), config.delete_when.as_deref());
            let named = |name: &String| if only.is_empty() { !not.contains(name) } else { only.contains(name) };
            // A row that took new values is as new as these, or an older row could take them back.
            let updates = names.filter(|name| named(name) || Some(name.as_str()) == sequence_by);
            let partly = !only.is_empty() || !not.is_empty();
            let updates = partly.then(|| updates.collect());
            return Placement::Merge(Merge { key, updates, sequence_by, delete_when });
        }
        match (config.materialized, config.incremental_strategy) {
            (Materialization::Incremental, Strategy::InsertOverwrite) if config.incremental_predicates.is_empty() => {
                Placement::OverPartitions
            }
            (Materialization::Incremental, Strategy::InsertOverwrite) => {
                let all: Vec<String> = config.incremental_predicates.iter().map(|one| format!("({one})")).collect();
                Placement::OverRows { condition: all.join(" and ") }
            }
            (Materialization::Incremental, Strategy::DeleteInsert) => {
                Placement::OverKeys { key, delete_when: config.delete_when.as_deref() }
            }
            _ => Placement::Beside,
        }
    }

    /// Files that stay in the table, as they should be: with its columns, and few.
    pub(super) async fn kept_in_order(
        &self,
        kept: Option<&Published>,
        staged: Staged,
        reshapes: bool,
    ) -> Result<Staged, Failure> {
        let Runtime { lake, session, .. } = self.inputs.runtime();
        Ok(match kept {
            Some(published) if reshapes => tables::reshape(lake, published, staged, session).await?,
            // A file of a source is known by the data files of its rows.
            Some(published) if self.intake.traced().is_none() => {
                tables::pack_along(lake, published, staged, session).await?
            }
            _ => staged,
        })
    }

    /// What the files of the sources below have for columns, before any of them is read.
    pub(super) async fn check_columns(&self, chosen: &Chosen) -> Result<(), Failure> {
        for input in &self.compiled.inputs {
            let Input::Source(name, read) = input else { continue };
            match (read, chosen.get(name)) {
                (SourceRead::Changes, Some(chosen)) => self.inputs.check_columns(name, &chosen.files).await?,
                _ if self.inputs.runtime().project.sources[name].format == Format::Delta => {}
                _ => self.inputs.check_columns(name, &self.inputs.listing(name).await?.files).await?,
            }
            self.inputs.remember_columns(name).await?;
        }
        Ok(())
    }

    /// Why an existing table has to be built again for a column that holds more values than before, or one that goes:
    /// where nothing stands against it, values are as exact as their files have them. `None` if there is no such
    /// column, or its files can be written again as they are.
    pub(super) async fn rebuilt_for(&self, world: &World) -> Result<Option<String>, Failure> {
        let Some(published) = &world.published else { return Ok(None) };
        let rule = self.model.config.on_schema_change;
        let found = differences(&published.schema, &self.compiled.schema);
        let Some(what) = found.iter().find(|difference| difference.reshapes(rule)) else { return Ok(None) };
        if !found.iter().all(|difference| self.allows(difference)) {
            // It will be refused.
            return Ok(None);
        }
        let untraced = self.intake.traced().is_none();
        if untraced && rule == Some(OnSchemaChange::SyncAllColumns) {
            return Ok(None);
        }
        let what = what.told();
        let gone: usize = world.taken.values().map(|taken| taken.pending.gone).sum();
        let why_not = if self.model.config.full_refresh == Some(false) {
            "the model's `full_refresh: false` forbids it".to_owned()
        } else if gone > 0 {
            let files =
                if gone == 1 { "1 file that is gone".to_owned() } else { format!("{gone} files that are gone") };
            format!("it would lose the rows of {files}; --full-refresh does it all the same")
        } else if self.is_made_of_more(world) {
            "its rows come from more than the files of a source; --full-refresh does it all the same".to_owned()
        } else if !self.model.appends() || self.asks_otherwise(world) {
            "it would not hold the rows that were taken in one after another; --full-refresh does it all the same"
                .to_owned()
        } else if published.has_foreign_commits().await? {
            "it would lose what another program wrote; --full-refresh does it all the same".to_owned()
        } else {
            return Ok(Some(what));
        };
        if untraced {
            return Ok(None);
        }
        // To write a file again would part its rows from the source file that they came from.
        Err(Failure::text(format!(
            "{what}: `{}` has to be rebuilt for it, but {why_not}, or keep the column as it was in the model",
            self.model.name
        )))
    }

    /// Whether its rows are not those of the files of sources alone, whenever they are read.
    fn is_made_of_more(&self, world: &World) -> bool {
        let reads_more = world.taken.is_empty() || !self.model.refs.is_empty() || self.compiled.volatile.is_some();
        reads_more || self.model.incremental.is_some()
    }

    /// Whether the query or the settings are not those that made the last version.
    fn asks_otherwise(&self, world: &World) -> bool {
        let Some(state) = world.state() else { return true };
        let Runtime { project, compiled, .. } = self.inputs.runtime();
        let decides = |part: &&String| *part == "sql" || part.starts_with("setting ");
        let now = parts(project, self.model, &compiled.models);
        let of = |parts: &Parts| {
            parts.iter().filter(|(part, _)| decides(part)).map(|(a, b)| (a.clone(), b.clone())).collect::<Parts>()
        };
        of(&now) != of(&state.parts)
    }

    /// The columns of an incremental model's table after this run, and whether the files that are there have to be
    /// written again for it.
    pub(super) fn evolved(&self, old: &SchemaRef) -> Result<(SchemaRef, bool), Failure> {
        let (model, new) = (self.model, &*self.compiled.schema);
        let rule = model.config.on_schema_change;
        let found = differences(old, new);
        let refused: Vec<&Difference> = found.iter().filter(|difference| !self.allows(difference)).collect();
        if !refused.is_empty() {
            let told: Vec<String> = refused.iter().map(|difference| difference.told()).collect();
            return Err(Failure::text(format!(
                "{}; {}rebuild `{}` with --full-refresh",
                told.join(", "),
                instead(&refused, rule),
                model.name
            )));
        }
        let schema = match rule {
            _ if found.is_empty() => Arc::clone(old),
            Some(OnSchemaChange::Ignore) => Arc::clone(old),
            rule => merged(old, new, rule == Some(OnSchemaChange::SyncAllColumns)),
        };
        let config = &model.config;
        let used = config.unique_key.iter().chain(&config.sequence_by).chain(&config.partition_by);
        match used.into_iter().find(|name| schema.field_with_name(name).is_err()) {
            Some(name) => Err(Failure::text(format!(
                "the model's settings use column `{name}`, which the table does not have; rebuild `{}` with --full-refresh",
                model.name
            ))),
            None => Ok((schema, found.iter().any(|difference| difference.reshapes(rule)))),
        }
    }

    /// Whether the table may become different so.
    fn allows(&self, difference: &Difference) -> bool {
        use OnSchemaChange::{AppendNewColumns, Fail, Ignore, SyncAllColumns};
        let inside = difference.path.len() > 1;
        match (&difference.what, self.model.config.on_schema_change) {
            (What::Spelled(_) | What::Other(..), _) | (_, Some(Fail)) => false,
            (_, rule) if difference.rounds() => {
                rule != Some(Ignore) && self.is_added(&self.model.name, &difference.path[0], inside)
            }
            (What::Wider(..), rule) => rule != Some(Ignore),
            (_, Some(AppendNewColumns | SyncAllColumns | Ignore)) => true,
            (What::Added, None) => self.is_added(&self.model.name, &difference.path[0], inside),
            (What::Gone(_), None) => false,
        }
    }

    /// Whether a column of a model is made of nothing but columns that a source was asked to add; `inside`, of columns of
    /// such a source.
    pub(super) fn is_added(&self, model: &TableName, column: &str, inside: bool) -> bool {
        let Runtime { project, compiled, .. } = self.inputs.runtime();
        let Some(made_of) = compiled.models.get(model).and_then(|model| model.lineage.columns.get(column)) else {
            return false;
        };
        let from = |origin: &ColumnName| match project.sources.get(&origin.table) {
            Some(source) => {
                let declared = source.columns.iter().any(|declared| declared.name == origin.column);
                source.ingestion.on_new_column == OnNewColumn::Add && (inside || !declared)
            }
            None => origin.table != *model && self.is_added(&origin.table, &origin.column, inside),
        };
        !made_of.is_empty() && made_of.keys().all(from)
    }
}

/// How a column of the model, or a field in it, is not what the table has.
struct Difference {
    /// The column, and the fields down to it.
    path: Vec<String>,
    what: What,
}

/// With the types that are told.
enum What {
    Added,
    Gone(DataType),
    /// The same letters in another case.
    Spelled(String),
    /// Every old value is one of the new type, or the `double` that is nearest to it.
    Wider(DataType, DataType),
    Other(DataType, DataType),
}

impl Difference {
    /// Large numbers would lose digits, which whoever asked a source to add what it finds has agreed to.
    fn rounds(&self) -> bool {
        matches!(self.what, What::Wider(DataType::Int64, DataType::Float64))
    }

    /// Files of the table cannot stay as they are.
    fn reshapes(&self, rule: Option<OnSchemaChange>) -> bool {
        match self.what {
            What::Wider(..) => !matches!(rule, Some(OnSchemaChange::Fail | OnSchemaChange::Ignore)),
            What::Gone(_) => rule == Some(OnSchemaChange::SyncAllColumns),
            _ => false,
        }
    }

    /// In words.
    fn told(&self) -> String {
        let column = format!("column `{}`", self.path.join("."));
        match &self.what {
            What::Added => format!("{column} is new"),
            What::Gone(was) => format!("{column} (`{}`) is gone", sql_type(was)),
            What::Spelled(now) => format!("{column} is now spelled `{now}`"),
            What::Wider(was, is) => format!("{column} was `{}` and is now `{}`", sql_type(was), sql_type(is)),
            What::Other(was, is) => format!("{column} is now `{}` and was `{}`", sql_type(is), sql_type(was)),
        }
    }
}

/// What else could be done about differences: text that ends before "rebuild".
fn instead(refused: &[&Difference], rule: Option<OnSchemaChange>) -> String {
    let all = |kind: fn(&What) -> bool| refused.iter().all(|difference| kind(&difference.what));
    if all(|what| matches!(what, What::Added)) {
        return "set on_schema_change to `append_new_columns` or `ignore`, or ".to_owned();
    }
    if all(|what| matches!(what, What::Added | What::Gone(_))) {
        return "set on_schema_change to `sync_all_columns`, or to `append_new_columns` to keep what is gone as NULL, or "
            .to_owned();
    }
    let rounds = refused.iter().any(|difference| difference.rounds());
    if all(|what| matches!(what, What::Wider(..))) && rule.is_some() && !rounds {
        return "set on_schema_change to `append_new_columns` or `sync_all_columns`, or cast it in the model, or "
            .to_owned();
    }
    let cast = rounds || refused.iter().any(|difference| matches!(difference.what, What::Other(..)));
    if cast { "cast it to what it was in the model, or ".to_owned() } else { String::new() }
}

/// All that is not the same, in the order of the columns.
fn differences(old: &Schema, new: &Schema) -> Vec<Difference> {
    let mut found = Vec::new();
    compare_fields(&mut Vec::new(), old.fields(), new.fields(), &mut found);
    found
}

fn compare_fields(path: &mut Vec<String>, old: &Fields, new: &Fields, found: &mut Vec<Difference>) {
    let named = |fields: &Fields, name: &str| fields.iter().find(|field| field.name() == name).cloned();
    let alike = |fields: &Fields, name: &str| {
        fields.iter().find(|field| field.name().to_lowercase() == name.to_lowercase()).cloned()
    };
    let mut add = |path: &[String], name: &str, what| {
        let path = path.iter().cloned().chain([name.to_owned()]).collect();
        found.push(Difference { path, what });
    };
    let mut both = Vec::new();
    for field in old {
        match (named(new, field.name()), alike(new, field.name())) {
            (Some(now), _) => both.push((Arc::clone(field), now)),
            (None, Some(now)) => add(path, field.name(), What::Spelled(now.name().clone())),
            (None, None) => add(path, field.name(), What::Gone(field.data_type().clone())),
        }
    }
    for field in new {
        if alike(old, field.name()).is_none() {
            add(path, field.name(), What::Added);
        }
    }
    for (was, is) in both {
        path.push(was.name().clone());
        compare_types(path, was.data_type(), is.data_type(), found);
        path.pop();
    }
}

fn compare_types(path: &mut Vec<String>, old: &DataType, new: &DataType, found: &mut Vec<Difference>) {
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => compare_fields(path, old, new, found),
        (DataType::List(old), DataType::List(new)) => compare_types(path, old.data_type(), new.data_type(), found),
        (old, new) if old == new => {}
        (old, new) => {
            let what = if widens(old, new) { What::Wider } else { What::Other };
            found.push(Difference { path: path.clone(), what: what(old.clone(), new.clone()) });
        }
    }
}

/// Whether a type is another one, but for fields of objects that it may lack.
pub(super) fn grows(old: &DataType, new: &DataType) -> bool {
    let mut found = Vec::new();
    compare_types(&mut Vec::new(), old, new, &mut found);
    found.iter().all(|difference| matches!(difference.what, What::Added))
}

/// The columns of a table with the types and fields of new ones, and then those that it lacks; `drops` those that are gone.
fn merged(old: &Schema, new: &Schema, drops: bool) -> SchemaRef {
    Arc::new(Schema::new(merged_fields(old.fields(), new.fields(), drops)))
}

fn merged_fields(old: &Fields, new: &Fields, drops: bool) -> Fields {
    let of = |field: &Arc<Field>| new.iter().find(|new| new.name() == field.name());
    let known = old.iter().filter(|field| !drops || of(field).is_some()).map(|field| {
        let data_type = of(field).map(|new| merged_types(field.data_type(), new.data_type(), drops));
        Field::new(field.name(), data_type.unwrap_or_else(|| field.data_type().clone()), true)
    });
    let is_new = |field: &&Arc<Field>| old.iter().all(|old| old.name() != field.name());
    known.chain(new.iter().filter(is_new).map(|field| field.as_ref().clone())).collect()
}

/// A type with the fields of another one after its own, and its type where they differ.
pub(super) fn merged_types(old: &DataType, new: &DataType, drops: bool) -> DataType {
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => DataType::Struct(merged_fields(old, new, drops)),
        (DataType::List(old), DataType::List(new)) => {
            let item = merged_types(old.data_type(), new.data_type(), drops);
            DataType::List(Arc::new(Field::new(old.name(), item, true)))
        }
        (_, new) => new.clone(),
    }
}
