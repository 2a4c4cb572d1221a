//! Exports against the columns of their models: names, what a format can hold, and what must not leave the lake.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::DataType;

use super::{ColumnName, CompiledModel, Sensitive};
use crate::catalog::sql_type;
use crate::diagnostics::{Diagnostic, Id, Span};
use crate::names::TableName;
use crate::project::{Export, ExportFormat, Project};

/// What is wrong with the exports of models that compiled.
pub(super) fn check(
    project: &Project,
    models: &BTreeMap<TableName, CompiledModel>,
    sensitive: &Sensitive,
) -> Vec<Diagnostic> {
    let known = project.exports.values().filter_map(|export| Some((export, models.get(export.model())?)));
    known.flat_map(|(export, model)| of_one(export, model, sensitive)).collect()
}

fn of_one(export: &Export, model: &CompiledModel, sensitive: &Sensitive) -> Vec<Diagnostic> {
    let names: Vec<&str> = model.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let named = export.columns.iter().map(|(column, span)| ("columns", column, span));
    let ordered = export.order_by.iter().map(|(order, span)| ("order_by", &order.column, span));
    let mut problems: Vec<Diagnostic> = named
        .chain(ordered)
        .filter(|(_, column, _)| !names.contains(&column.as_str()))
        .map(|(key, column, span)| {
            let message = format!("`{key}` names `{column}`, which `{}` does not have", model.name);
            let diagnostic = Diagnostic::error(Id::UnknownColumn, message).at(span.clone());
            diagnostic.suggest(column, names.iter().copied())
        })
        .collect();
    for (column, span) in written(export, &names) {
        let data_type = model.schema.field_with_name(column).map(|field| field.data_type());
        if let (ExportFormat::Csv(_), Ok(data_type)) = (&export.format, data_type)
            && data_type.is_nested()
        {
            problems.push(not_in_csv(column, data_type, span));
        }
        let full = ColumnName { table: model.name.clone(), column: column.to_owned() };
        if let (false, Some(path)) = (export.allow_sensitive, sensitive.get(&full)) {
            problems.push(unmasked(export, &full, path, span));
        }
    }
    problems
}

/// The columns of the file, and where each is said.
fn written<'a>(export: &'a Export, names: &[&'a str]) -> Vec<(&'a str, &'a Span)> {
    match export.columns.as_slice() {
        [] => names.iter().map(|name| (*name, &export.span)).collect(),
        some => some.iter().map(|(name, span)| (name.as_str(), span)).collect(),
    }
}

fn not_in_csv(column: &str, data_type: &DataType, span: &Span) -> Diagnostic {
    let message = format!("column `{column}` is {}, which a CSV file cannot hold", sql_type(data_type));
    let diagnostic = Diagnostic::error(Id::TypeMismatch, message).at(span.clone());
    diagnostic.help("leave it out of `columns`, make text of it in the model, or write ndjson or parquet")
}

fn unmasked(export: &Export, column: &ColumnName, path: &[ColumnName], span: &Span) -> Diagnostic {
    let message = format!("export `{}` would write sensitive column `{}` as it is", export.name.table, column.column);
    let shown: Vec<String> =
        path.iter().chain([column]).map(|column| format!("{}.{}", column.table, column.column)).collect();
    let diagnostic = Diagnostic::error(Id::SensitiveColumn, message).at(span.clone()).label(shown.join(" -> "));
    diagnostic.help("leave it out of `columns`, mask it in the model, or say `allow_sensitive: true`")
}
