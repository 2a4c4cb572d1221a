//! Models that run in batches: whether their settings make batches, and which of their inputs are cut by time.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};

use super::{Compiler, Input};
use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::intervals::BatchSize;
use crate::names::TableName;
use crate::project::{Model, OnBadRow, Project, ref_span};
use crate::session;
use crate::template::{SourceRead, source_relation};

/// The relations of which a batch reads its own interval, each with the column that tells the time.
pub(crate) fn cut_by_time(project: &Project, model: &Model) -> BTreeMap<TableName, String> {
    let mut named = BTreeSet::new();
    for rendered in [Some(&*model.full), model.incremental.as_deref()].into_iter().flatten() {
        // SQL that does not parse has been told.
        let tables = session::parse(&rendered.sql).and_then(|statement| session::tables_of(&statement));
        named.extend(tables.unwrap_or_default());
    }
    let refs = model.refs.iter().filter_map(|name| {
        let column = project.models.get(name)?.config.event_time.clone()?;
        Some((name.clone(), column))
    });
    let sources = model.sources.iter().filter(|(_, read)| *read == SourceRead::Changes).filter_map(|(name, read)| {
        let (column, _) = project.sources.get(name)?.event_time.clone()?;
        Some((source_relation(name, *read), column))
    });
    refs.chain(sources).filter(|(relation, _)| named.contains(relation)).collect()
}

impl Compiler<'_> {
    /// What is wrong with a model's batches.
    pub(super) fn check_batches(&self, model: &Model, schema: &SchemaRef) -> Vec<Diagnostic> {
        let config = &model.config;
        if !model.is_microbatch() {
            let Some(setting) = config.first_of_batches() else { return Vec::new() };
            let message = format!("`{setting}` does nothing here: it is for a model that runs in batches");
            let help = "set `materialized='incremental'` and `incremental_strategy='microbatch'`, or leave it out";
            return vec![Diagnostic::warning(Id::InvalidValue, message).at(setting_span(model, setting)).help(help)];
        }
        let mut problems = missing(model);
        problems.extend(self.check_own_time(model, schema));
        if !config.unique_key.is_empty() {
            let message = format!("`unique_key` does nothing in `{}`: a batch replaces its whole interval", model.name);
            let help = "leave it out, or use `merge`, which replaces by key";
            let span = setting_span(model, "unique_key");
            problems.push(Diagnostic::warning(Id::InvalidValue, message).at(span).help(help));
        }
        problems.extend(self.check_inputs(model));
        problems.extend(self.refuse_quarantine(model));
        problems
    }

    fn check_own_time(&self, model: &Model, schema: &SchemaRef) -> Option<Diagnostic> {
        let column = model.config.event_time.as_ref()?;
        // A column that is not there has been told with the other settings.
        let field = schema.field_with_name(column).ok()?;
        let at = || setting_span(model, "event_time");
        if let Some(diagnostic) = not_a_time(schema, column, &format!("`{}`", model.name)) {
            return Some(diagnostic.at(at()));
        }
        let is_date = matches!(field.data_type(), DataType::Date32);
        (is_date && model.config.batch_size == Some(BatchSize::Hour)).then(|| {
            let message = format!("`{}` runs by the hour, and its `event_time` `{column}` is a date", model.name);
            let help = "set `batch_size` to `day`, or `event_time` to a column with the time of the day";
            Diagnostic::error(Id::InvalidValue, message).at(at()).help(help)
        })
    }

    fn check_inputs(&self, model: &Model) -> Vec<Diagnostic> {
        let (mut problems, cut) = (Vec::new(), cut_by_time(self.project, model));
        for (name, column) in &cut {
            let Some(schema) = self.schema_of(name) else { continue };
            let problem = if schema.field_with_name(column).is_err() {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let message = format!("`event_time` of `{name}` is `{column}`, which it does not have");
                Some(Diagnostic::error(Id::UnknownColumn, message).suggest(column, names))
            } else {
                not_a_time(schema, column, &format!("`{name}`"))
            };
            let place = match self.project.sources.get(name).and_then(|source| source.event_time.clone()) {
                Some((_, span)) => span,
                None => ref_span(&model.span(), name),
            };
            problems.extend(problem.map(|diagnostic| diagnostic.at(place)));
        }
        let reads_nothing = model.refs.is_empty() && model.sources.is_empty();
        if cut.is_empty() && !reads_nothing {
            let message = format!("every batch of `{}` reads all of its inputs: none has an `event_time`", model.name);
            let help = "set `event_time` on the models and sources whose rows belong to one moment";
            problems.push(Diagnostic::warning(Id::MissingKey, message).at(model.span()).help(help));
        }
        problems
    }

    /// A batch reads all files of a source, and leaves out what is not of its interval: it could not say which of the
    /// bad rows are its own.
    fn refuse_quarantine(&self, model: &Model) -> Option<Diagnostic> {
        let (inputs, _) = self.inputs(model);
        let source = inputs.iter().find_map(|input| match input {
            Input::Source(name, _) => {
                let source = self.project.sources.get(name)?;
                (source.options.on_bad_row == OnBadRow::Quarantine).then_some(name)
            }
            Input::Table(_) => None,
        })?;
        let message = format!("`{}` runs in batches, and reads `{source}`, whose bad rows are quarantined", model.name);
        let help = "read the source in an incremental model of its own, and that model here";
        Some(Diagnostic::error(Id::InvalidValue, message).at(source_span(model, source)).help(help))
    }
}

/// Settings without which there are no batches.
fn missing(model: &Model) -> Vec<Diagnostic> {
    let (config, name) = (&model.config, &model.name);
    let needed = [
        (
            config.event_time.is_none(),
            "event_time",
            "the column that tells when a row happened: event_time='viewed_at'",
        ),
        (config.batch_size.is_none(), "batch_size", "how long a batch is: batch_size='hour', 'day', 'month' or 'year'"),
        (config.begin.is_none(), "begin", "where the first batch begins: begin='2026-01-01'"),
    ];
    let missing = needed.into_iter().filter(|(is_missing, ..)| *is_missing);
    let diagnostic = |(_, key, help): (bool, &str, &str)| {
        let message = format!("`{name}` runs in batches, and has no `{key}`");
        Diagnostic::error(Id::MissingKey, message).at(model.span()).help(format!("set {help}"))
    };
    missing.map(diagnostic).collect()
}

fn not_a_time(schema: &Schema, column: &str, whose: &str) -> Option<Diagnostic> {
    let field = schema.field_with_name(column).ok()?;
    let is_time = matches!(field.data_type(), DataType::Date32 | DataType::Timestamp(..));
    (!is_time).then(|| {
        let message = format!("`event_time` of {whose} is `{column}`, a `{}`", sql_type(field.data_type()));
        Diagnostic::error(Id::TypeMismatch, message).help("it has to be a date or a timestamp: cast it")
    })
}

/// Where the model's own file names a setting; its start if it is set elsewhere.
fn setting_span(model: &Model, setting: &str) -> Span {
    let text = model.file.text();
    match text.find(setting) {
        Some(at) => Span::new(&model.file, at, at + setting.len()),
        None => model.span(),
    }
}

fn source_span(model: &Model, source: &TableName) -> Span {
    ref_span(&model.span(), source)
}
