//! Sources -> [`Catalog`]: declared columns, or those of the files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::execution::session_state::SessionState;
use object_store::ObjectStore;

use super::scan::{column_type, declared_schema, with_file_columns};
use super::{BronzeError, Listing, infer_schema, list, new_columns};
use crate::catalog::{Catalog, sql_type};
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::memo::{KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{Column, Format, OnNewColumn, Project, Source};

/// The schema of every source of files. Only sources with undeclared columns are looked at; a Delta table of this kind
/// is left to who can read it. Files that an earlier run has looked at are not read again.
///
/// Sources that add new columns are looked at as they are now, in the lake whose files are `lake`; a run reads the
/// files that were listed here, whose columns are known.
pub async fn inspect(
    project: &Project,
    lake: Option<&Arc<dyn ObjectStore>>,
    session: &SessionState,
    memo: &Memo,
    diagnostics: &mut Diagnostics,
) -> (Catalog, Listings) {
    let (mut catalog, mut listings) = (Catalog::default(), Listings::new());
    for source in project.sources.values() {
        if source.ingestion.on_new_column == OnNewColumn::Add {
            match growing(source, lake, session, &project.folder, memo).await {
                Ok((schema, listing)) => {
                    check_formats(source, Some(&schema), diagnostics);
                    catalog.sources.insert(source.name.clone(), schema);
                    // A folder that is missing is looked for again by whoever reads it, and told then.
                    listings.extend(listing.map(|listing| (source.name.clone(), Arc::new(listing))));
                }
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
            continue;
        }
        match schema(source, session, &project.folder, memo).await {
            Ok(schema) => {
                check_formats(source, schema.as_ref(), diagnostics);
                catalog.sources.extend(schema.map(|schema| (source.name.clone(), schema)));
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    (catalog, listings)
}

/// Listings by source.
pub type Listings = BTreeMap<TableName, Arc<Listing>>;

/// The columns of a source that adds new ones, and the files that they were found in; `None` where there is no folder.
async fn growing(
    source: &Source,
    lake: Option<&Arc<dyn ObjectStore>>,
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<(SchemaRef, Option<Listing>), Box<Diagnostic>> {
    declared_types(source, session)?;
    let known = match lake {
        Some(lake) => new_columns::known(lake, &source.name).await.map_err(|error| misplaced(source, &error))?,
        None => Vec::new(),
    };
    let listing = match list(source, folder, None).await {
        // Nothing was delivered yet, and what is declared is known.
        Err(BronzeError::Missing { .. }) if !source.columns.is_empty() => None,
        listing => Some(listing.map_err(|error| misplaced(source, &error))?),
    };
    let files = listing.as_ref().map(|listing| listing.files.as_slice()).unwrap_or_default();
    if files.is_empty() && source.columns.is_empty() && known.is_empty() {
        return Err(nothing_known(source));
    }
    let schema = new_columns::with_new_columns(source, &known, files, session, folder, memo).await;
    Ok((schema.map_err(|error| misplaced(source, &error))?, listing))
}

/// The declared columns, if all of their types are.
fn declared_types(source: &Source, session: &SessionState) -> Result<Option<SchemaRef>, Box<Diagnostic>> {
    declared_schema(source, session).map_err(|(at, why)| {
        let span = source.columns[at].data_type.as_ref().map_or(&source.span, |(_, span)| span);
        Box::new(Diagnostic::error(Id::InvalidValue, why).at(span.clone()))
    })
}

fn misplaced(source: &Source, error: &BronzeError) -> Box<Diagnostic> {
    let diagnostic = Diagnostic::error(Id::SourceFiles, error.to_string()).at(source.path_span.clone());
    Box::new(match error {
        BronzeError::Missing { .. } => diagnostic.help("create it, or correct `path`"),
        _ => diagnostic,
    })
}

fn nothing_known(source: &Source) -> Box<Diagnostic> {
    let message = format!("source `{}` has no files and no declared columns", source.name);
    let diagnostic = Diagnostic::error(Id::SourceFiles, message).at(source.path_span.clone());
    Box::new(diagnostic.help("declare its `columns` with `data_type`, or add a file"))
}

async fn schema(
    source: &Source,
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<Option<SchemaRef>, Box<Diagnostic>> {
    let declared = declared_types(source, session)?;
    if declared.is_some() || source.format == Format::Delta {
        return Ok(declared);
    }
    let bad = |error: BronzeError| misplaced(source, &error);
    let listing = list(source, folder, None).await.map_err(bad)?;
    if listing.files.is_empty() {
        return Err(nothing_known(source));
    }
    let how = format!("{} {:?} {:?} {:?}", source.name, source.path, source.format, source.options);
    let key = KeyMaker::new("inferred schema").text(&how).text(&listing.fingerprint()).finish();
    let inferred = match memo.get::<SchemaRef>(key) {
        Some(known) => known,
        None => {
            let inferred = infer_schema(source, &listing, session, folder).await.map_err(bad)?;
            memo.put(key, &inferred);
            inferred
        }
    };
    let mut schema = declared_over(source, &inferred, session);
    if source.ingestion.on_new_column == OnNewColumn::Fail {
        let is_declared = |name: &str| source.columns.iter().any(|column| column.name == name);
        let known =
            schema.fields().iter().filter(|field| is_declared(field.name())).map(|field| field.as_ref().clone());
        schema = with_file_columns(source, known.collect());
    }
    Ok(Some(schema))
}

/// Only dates and timestamps have a format, and only timestamps a zone.
fn check_formats(source: &Source, schema: Option<&SchemaRef>, diagnostics: &mut Diagnostics) {
    for column in &source.columns {
        let Some(format) = source.options.columns.get(&column.name) else { continue };
        let Some(field) = schema.and_then(|schema| schema.field_with_name(&column.name).ok()) else { continue };
        let (is_date, is_timestamp) =
            (field.data_type() == &DataType::Date32, matches!(field.data_type(), DataType::Timestamp(..)));
        let text = source.format.is_text() || source.format == Format::Auto;
        let wrong = if !text {
            Some("`format` and `time_zone` are for text: these files know the types of their columns".to_owned())
        } else if !format.formats.is_empty() && !is_date && !is_timestamp {
            Some(format!(
                "`format` is for dates and timestamps; `{}` is a {}",
                column.name,
                sql_type(field.data_type())
            ))
        } else if format.time_zone.is_some() && !is_timestamp {
            Some(format!("`time_zone` is for timestamps; `{}` is a {}", column.name, sql_type(field.data_type())))
        } else {
            None
        };
        if let Some(why) = wrong {
            let span = column.data_type.as_ref().map_or(&column.span, |(_, span)| span);
            diagnostics.push(Diagnostic::error(Id::InvalidValue, why).at(span.clone()));
        }
    }
}

/// Types that YAML declares win over those of the files; a declared column need not be in any of them.
pub fn declared_over(source: &Source, inferred: &SchemaRef, session: &SessionState) -> SchemaRef {
    let declared = |column: &Column| column_type(session, &column.data_type.as_ref()?.0).ok();
    let mut fields: Vec<Field> = inferred
        .fields()
        .iter()
        .map(|field| {
            let column = source.columns.iter().find(|column| column.name == *field.name());
            match column.and_then(declared) {
                Some(data_type) => Field::new(field.name(), data_type, true),
                None => field.as_ref().clone(),
            }
        })
        .collect();
    for column in &source.columns {
        if inferred.field_with_name(&column.name).is_err()
            && let Some(data_type) = declared(column)
        {
            fields.push(Field::new(&column.name, data_type, true));
        }
    }
    with_file_columns(source, fields)
}
