//! Models that keep a history: settings that must fit together, and the columns that the table has beside the query's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::lineage::{ColumnName, Lineage, Use};
use super::shape::{ColumnShape, Shape, digest};
use crate::catalog::{sql_type, utc};
use crate::diagnostics::{Diagnostic, Id};
use crate::names::TableName;
use crate::project::{
    CheckCols, HardDeletes, HistoryStrategy, MetaNames, Model, ModelConfig, OnChangedFile, OnSchemaChange, Source,
};

/// What is wrong with the settings of a history; `columns` are those of its query.
pub(super) fn check(model: &Model, sources: &BTreeMap<TableName, Source>, columns: &Schema) -> Vec<Diagnostic> {
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    if !model.config.is_history() {
        let given = history_settings(&model.config);
        return given
            .into_iter()
            .map(|setting| {
                error(format!("`{setting}` does nothing here: it is for a model that keeps a history"))
                    .help("set `materialized='scd2'`, or leave it out")
            })
            .collect();
    }
    let mut problems = lacking(model);
    problems.extend(unknown_columns(model, columns));
    problems.extend(unfit_columns(model, columns));
    problems.extend(unfit_sources(model, sources));
    problems
}

fn history_settings(config: &ModelConfig) -> Vec<&'static str> {
    let given = [
        (config.strategy.is_some(), "strategy"),
        (config.updated_at.is_some(), "updated_at"),
        (config.check_cols.is_some(), "check_cols"),
        (config.hard_deletes.is_some(), "hard_deletes"),
        (config.snapshot_meta_column_names != MetaNames::default(), "snapshot_meta_column_names"),
    ];
    given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect()
}

/// Settings that are missing, and settings that mean nothing beside others.
fn lacking(model: &Model) -> Vec<Diagnostic> {
    let (config, name) = (&model.config, &model.name);
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    let mut problems = Vec::new();
    if config.unique_key.is_empty() {
        let message = format!("`{name}` keeps a history, and has no `unique_key`");
        problems.push(error(message).help("set `unique_key` to the columns that tell which versions are of one row"));
    }
    match (config.strategy, &config.updated_at, &config.check_cols) {
        (None, _, _) => problems.push(
            error(format!("`{name}` keeps a history, and has no `strategy`"))
                .help("`strategy='timestamp', updated_at='changed_at'`: a column says when a row changed")
                .help("or `strategy='check', check_cols='all'`: columns are compared"),
        ),
        (Some(HistoryStrategy::Timestamp), None, _) => problems.push(
            error(format!("`{name}` tells versions by `timestamp`, and has no `updated_at`"))
                .help("set `updated_at` to the column that says when a row changed, or use `strategy='check'`"),
        ),
        (Some(HistoryStrategy::Timestamp), Some(updated_at), Some(_)) => problems.push(
            error(format!("`check_cols` does nothing in `{name}`: `{updated_at}` tells its versions"))
                .help("leave it out, or use `strategy='check'`"),
        ),
        (Some(HistoryStrategy::Check), _, None) => problems.push(
            error(format!("`{name}` tells versions by `check`, and has no `check_cols`"))
                .help("set `check_cols` to a list of columns, or to `all`"),
        ),
        _ => {}
    }
    if config.on_schema_change == Some(OnSchemaChange::SyncAllColumns) {
        let message =
            format!("`{name}` keeps a history, and `sync_all_columns` would take what is gone out of its versions");
        problems.push(
            error(message).help("say `append_new_columns`, which is how histories are anyway, `fail` or `ignore`"),
        );
    }
    if config.full_refresh == Some(true) {
        let message = format!("`{name}` keeps a history, and `full_refresh: true` would lose it in every run");
        problems.push(error(message).help("leave it out: no run builds a history again"));
    }
    problems
}

/// Columns that the settings name and the query does not have.
fn unknown_columns(model: &Model, columns: &Schema) -> Vec<Diagnostic> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let checked = match &model.config.check_cols {
        Some(CheckCols::Columns(checked)) => checked.as_slice(),
        _ => &[],
    };
    let key = model.config.unique_key.iter().map(|column| ("unique_key", column));
    let updated_at = model.config.updated_at.iter().map(|column| ("updated_at", column));
    let checked = checked.iter().map(|column| ("check_cols", column));
    let named = key.chain(updated_at).chain(checked).filter(|(_, column)| !names.contains(&column.as_str()));
    let unknown = named.map(|(setting, column)| {
        let message = format!("`{setting}` names `{column}`, which the query of `{}` does not give", model.name);
        Diagnostic::error(Id::UnknownColumn, message).at(model.span()).suggest(column, names.iter().copied())
    });
    unknown.collect()
}

/// Columns whose types or names cannot be those of a history.
fn unfit_columns(model: &Model, columns: &Schema) -> Vec<Diagnostic> {
    let config = &model.config;
    let mut problems = Vec::new();
    let field = config.updated_at.as_ref().and_then(|name| columns.field_with_name(name).ok());
    if let Some(field) = field.filter(|field| time_type(field.data_type()).is_none()) {
        let is = sql_type(field.data_type());
        let message = format!("`updated_at` names `{}`, which is `{is}` and no time", field.name());
        let help = format!("cast it in the query: cast({} as timestamp) as {}", field.name(), field.name());
        problems.push(Diagnostic::error(Id::TypeMismatch, message).at(model.span()).help(help));
    }
    let is_nested = |data_type: &DataType| data_type.is_nested();
    let nested = config.unique_key.iter().filter_map(|name| columns.field_with_name(name).ok());
    for field in nested.filter(|field| is_nested(field.data_type())) {
        let is = sql_type(field.data_type());
        let message = format!("`unique_key` names `{}`, which is `{is}`: a key is a plain value", field.name());
        let help = "name columns of numbers, text or times";
        problems.push(Diagnostic::error(Id::TypeMismatch, message).at(model.span()).help(help));
    }
    let mut taken: BTreeSet<String> = columns.fields().iter().map(|field| field.name().to_lowercase()).collect();
    for name in config.snapshot_meta_column_names.of(config.deletes()) {
        if !taken.insert(name.to_lowercase()) {
            let message = format!("the history of `{}` adds a column `{name}`, and there is one already", model.name);
            let help = format!(
                "call one of them otherwise: snapshot_meta_column_names={{'{}': '...'}}",
                role(&config.snapshot_meta_column_names, name)
            );
            problems.push(Diagnostic::error(Id::DuplicateName, message).at(model.span()).help(help));
        }
    }
    problems
}

/// What the column of a history is called unless it has another name.
fn role(names: &MetaNames, name: &str) -> &'static str {
    let roles = [
        (&names.is_deleted, "is_deleted"),
        (&names.is_current, "is_current"),
        (&names.valid_to, "valid_to"),
        (&names.valid_from, "valid_from"),
    ];
    roles.into_iter().find(|(is, _)| *is == name).map_or("valid_from", |(_, role)| role)
}

/// Sources that do not come as the settings need them.
fn unfit_sources(model: &Model, sources: &BTreeMap<TableName, Source>) -> Vec<Diagnostic> {
    let (config, name) = (&model.config, &model.name);
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    let arriving = model.arriving(sources);
    let mut problems = Vec::new();
    let parts = arriving.iter().find(|source| !source.ingestion.snapshot);
    if let Some(source) = parts.filter(|_| config.deletes() != HardDeletes::Ignore) {
        let (schema, table) = (source.name.schema, source.name.table);
        problems.push(
            error(format!(
                "`{name}` reads what is new of `{}`: a key that is not among it is not deleted",
                source.name
            ))
            .label("`hard_deletes` needs the whole state")
            .help("set `snapshot: true` on the source, if each of its deliveries is the whole data set")
            .help(format!("or read all of it in every run: source('{schema}', '{table}', changes=false)"))
            .help("or leave `hard_deletes` out"),
        );
    }
    if arriving.len() > 1
        && let Some(source) = arriving.iter().find(|source| model.by_delivery(source))
    {
        let other = arriving.iter().find(|other| other.name != source.name);
        let other = other.map(|other| &other.name).unwrap_or(&source.name);
        problems.push(
            error(format!("`{name}` takes in deliveries of `{}` one by one, and files of `{other}` too", source.name))
                .label("the order between them is not known")
                .help(format!(
                    "read all of one in every run: source('{}', '{}', changes=false)",
                    other.schema, other.table
                )),
        );
    }
    for source in arriving.iter().filter(|source| !source.ingestion.snapshot && source.ingestion.needs_traces()) {
        let setting = match source.ingestion.on_changed_file {
            OnChangedFile::Replace => "on_changed_file: replace",
            _ => "on_removed_file: delete_rows",
        };
        problems.push(
            error(format!("`{name}` keeps a history, and `{setting}` of `{}` would take rows out of it", source.name))
                .help("say `on_changed_file: append`: the new rows of a file are another delivery")
                .help("leave `on_removed_file` out: what is history stays"),
        );
    }
    problems
}

/// What `valid_from` is made of: a time with or without a zone.
fn time_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Date32 => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(data_type.clone()),
        _ => None,
    }
}

/// The columns of the table: those of the query, and those of the history.
pub(super) fn with_meta(model: &Model, schema: &SchemaRef) -> SchemaRef {
    let config = &model.config;
    if !config.is_history() {
        return Arc::clone(schema);
    }
    let updated_at = config.updated_at.as_ref().and_then(|name| schema.field_with_name(name).ok());
    let time = updated_at.and_then(|field| time_type(field.data_type())).unwrap_or_else(utc);
    let names = &config.snapshot_meta_column_names;
    let meta = names.of(config.deletes()).into_iter().map(|name| {
        let is_time = name == names.valid_from || name == names.valid_to;
        Field::new(name, if is_time { time.clone() } else { DataType::Boolean }, true)
    });
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone()).chain(meta).collect::<Vec<_>>()))
}

/// What the columns of the history are made of, and what decides which rows there are.
pub(super) fn add_origins(model: &Model, lineage: &mut Lineage, shape: &mut Shape) {
    let config = &model.config;
    if !config.is_history() {
        return;
    }
    let checked: Vec<String> = match &config.check_cols {
        Some(CheckCols::Columns(columns)) => columns.clone(),
        Some(CheckCols::All) => lineage.columns.keys().cloned().collect(),
        None => Vec::new(),
    };
    let times: Vec<&String> = config.updated_at.iter().collect();
    let deciding: Vec<&String> = config.unique_key.iter().chain(&config.updated_at).chain(&checked).collect();
    let of = |lineage: &Lineage, columns: &[&String]| -> BTreeSet<ColumnName> {
        columns.iter().filter_map(|name| lineage.columns.get(*name)).flat_map(|uses| uses.keys().cloned()).collect()
    };
    let made = |columns: &[&String]| -> String {
        columns.iter().filter_map(|name| shape.columns.get(*name)).map(|column| column.made.as_str()).collect()
    };
    let (rows, made_of) = (made(&deciding), made(&times));
    let from: BTreeMap<ColumnName, Use> =
        of(lineage, &times).into_iter().map(|column| (column, Use::Derived)).collect();
    let filters = of(lineage, &deciding);
    let names = &config.snapshot_meta_column_names;
    for name in names.of(config.deletes()) {
        let is_time = *name == names.valid_from || *name == names.valid_to;
        lineage.columns.insert(name.to_owned(), if is_time { from.clone() } else { BTreeMap::new() });
        let column = ColumnShape {
            made: digest(&["history", role(names, name), if is_time { &made_of } else { "" }]),
            nullable: name == names.valid_to,
        };
        shape.columns.insert(name.to_owned(), column);
    }
    lineage.filters.extend(filters);
    shape.rows = digest(&["history", &shape.rows, &rows, &format!("{:?} {:?}", config.strategy, config.deletes())]);
}
