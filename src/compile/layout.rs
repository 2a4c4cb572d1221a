//! Settings of a table's files that must fit its columns and each other.

use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, SchemaRef};

use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id};
use crate::names::nearest;
use crate::project::{Model, RETENTION, property_columns, property_interval};
use crate::words::plural;

/// More columns than that leave none of them in order.
const MOST_ZORDERED: usize = 6;

/// Columns that have statistics in the log, unless a property says another number.
const WITH_STATISTICS: usize = 32;

const INDEXED: &str = "delta.dataSkippingNumIndexedCols";
const STATISTICS: &str = "delta.dataSkippingStatsColumns";
const REMOVED: &str = "delta.deletedFileRetentionDuration";

/// What is wrong with how the files of a model are laid out.
pub(super) fn check(model: &Model, schema: &SchemaRef) -> Vec<Diagnostic> {
    let (config, name, mut problems) = (&model.config, &model.name, Vec::new());
    let error = |message: String| Diagnostic::error(Id::InvalidValue, message).at(model.span());
    if !config.sort_by.is_empty() && !config.zorder_by.is_empty() {
        let message = format!("`{name}` has both `sort_by` and `zorder_by`: rows can be in one order only");
        let help =
            "keep `sort_by` if queries filter by its first column, and `zorder_by` if they filter by any of them";
        problems.push(error(message).help(help));
    }
    if config.zorder_by.len() > MOST_ZORDERED {
        let message = format!("`zorder_by` of `{name}` has {} columns", config.zorder_by.len());
        let help = format!(
            "keep those that queries filter by most, {MOST_ZORDERED} at most: each one more weakens the others"
        );
        problems.push(error(message).help(help));
    }
    for (at, column) in config.partition_by.iter().enumerate() {
        if config.partition_by[..at].contains(column) {
            problems.push(error(format!("`partition_by` of `{name}` names `{column}` twice")).help("name it once"));
        }
        // Delta writes such a value as text that readers do not read back (protocol, "Partition Value Serialization").
        problems.extend(fits(model, schema, "partition_by", column, |data_type| {
            !data_type.is_nested() && !matches!(data_type, DataType::Binary)
        }));
    }
    if !config.partition_by.is_empty() && schema.fields().iter().all(|field| config.partition_by.contains(field.name()))
    {
        let message = format!("`partition_by` of `{name}` names all of its columns, and nothing is left for its files");
        problems.push(error(message).help("leave one of them out"));
    }
    for (setting, columns) in [("sort_by", &config.sort_by), ("zorder_by", &config.zorder_by)] {
        for column in columns {
            if config.partition_by.contains(column) {
                let message = format!("`{setting}` of `{name}` names `{column}`, which the table is partitioned by");
                let help = "leave it out: all rows of a file have one value of it";
                problems.push(error(message).help(help));
                continue;
            }
            problems.extend(fits(model, schema, setting, column, |data_type| !data_type.is_nested()));
            problems.extend(without_statistics(model, schema, setting, column));
        }
    }
    for column in &config.bloom_filter_columns {
        let can = |data_type: &DataType| !data_type.is_nested() && *data_type != DataType::Boolean;
        problems.extend(fits(model, schema, "bloom_filter_columns", column, can));
    }
    for column in config.tblproperties.get(STATISTICS).map(|text| property_columns(text)).unwrap_or_default() {
        let top = column.split('.').next().unwrap_or_default();
        if schema.field_with_name(&column).is_err() && schema.field_with_name(top).is_err() {
            let message = format!("`{STATISTICS}` names `{column}`, which `{name}` does not have");
            let mut diagnostic = Diagnostic::error(Id::UnknownColumn, message).at(model.span());
            if let Some(near) = nearest(&column, schema.fields().iter().map(|field| field.name().as_str())) {
                diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
            }
            problems.push(diagnostic);
        }
    }
    problems.extend(short_retention(model));
    problems
}

/// The type of a column does not suit a setting.
fn fits(
    model: &Model,
    schema: &SchemaRef,
    setting: &str,
    column: &str,
    can: impl Fn(&DataType) -> bool,
) -> Option<Diagnostic> {
    let field = schema.field_with_name(column).ok().filter(|field| !can(field.data_type()))?;
    let message =
        format!("`{setting}` of `{}` names `{column}`, which is `{}`", model.name, sql_type(field.data_type()));
    let diagnostic = Diagnostic::error(Id::InvalidValue, message).at(model.span());
    Some(diagnostic.help("name columns of numbers, texts, dates or times; select a field of it as a column of its own"))
}

/// An order that no reader can make use of: the log has no minimum and maximum of the column.
fn without_statistics(model: &Model, schema: &SchemaRef, setting: &str, column: &str) -> Option<Diagnostic> {
    let properties = &model.config.tblproperties;
    let has = match properties.get(STATISTICS) {
        Some(text) => property_columns(text).iter().any(|name| name == column),
        None => {
            let count = properties.get(INDEXED).map_or(Ok(WITH_STATISTICS), |text| text.parse());
            let in_files = schema.fields().iter().filter(|field| !model.config.partition_by.contains(field.name()));
            let at = in_files.into_iter().position(|field| field.name() == column)?;
            // -1 stands for all.
            count.map_or(true, |count| at < count)
        }
    };
    if has {
        return None;
    }
    let message = format!("`{setting}` of `{}` names `{column}`, which has no statistics in the log", model.name);
    let help =
        format!("move it to the front of the select list, or name it in `tblproperties: {{ {STATISTICS}: ... }}`");
    Some(Diagnostic::warning(Id::InvalidValue, message).at(model.span()).help(help))
}

/// `lake maintain` must not take away what the table promises to readers of older versions.
fn short_retention(model: &Model) -> Option<Diagnostic> {
    let retention = model.config.maintain.retention?;
    let promised = model.config.tblproperties.get(REMOVED).and_then(|text| property_interval(text));
    let least = promised.unwrap_or(RETENTION);
    if retention >= least {
        return None;
    }
    let days = |time: Duration| match time.as_secs() / 3600 {
        hours if hours % 24 == 0 => plural(hours / 24, "day"),
        hours => plural(hours, "hour"),
    };
    let message = format!(
        "`maintain` of `{}` removes files after {}, and the table keeps them for {} for readers of older versions",
        model.name,
        days(retention),
        days(least)
    );
    let help =
        format!("set `tblproperties: {{ {REMOVED}: interval {} }}` as well, or a longer retention", days(retention));
    Some(Diagnostic::error(Id::InvalidValue, message).at(model.span()).help(help))
}
