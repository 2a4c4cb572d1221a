//! Sources -> [`Catalog`]: declared columns, or those of the files.

use std::path::Path;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::execution::session_state::SessionState;

use super::scan::{column_type, declared_schema, with_file_columns};
use super::{BronzeError, infer_schema, list};
use crate::catalog::Catalog;
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::project::{Column, Project, Source};

/// The schema of every source. Only sources with undeclared columns are looked at.
pub async fn inspect(project: &Project, session: &SessionState, diagnostics: &mut Diagnostics) -> Catalog {
    let mut catalog = Catalog::default();
    for source in project.sources.values() {
        match schema(source, session, &project.folder).await {
            Ok(schema) => {
                catalog.sources.insert(source.name.clone(), schema);
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    catalog
}

async fn schema(source: &Source, session: &SessionState, folder: &Path) -> Result<SchemaRef, Box<Diagnostic>> {
    let declared = declared_schema(source, session).map_err(|(at, why)| {
        let span = source.columns[at].data_type.as_ref().map_or(&source.span, |(_, span)| span);
        Box::new(Diagnostic::error(Id::InvalidValue, why).at(span.clone()))
    })?;
    if let Some(schema) = declared {
        return Ok(schema);
    }
    let bad = |error: BronzeError| {
        let diagnostic = Diagnostic::error(Id::SourceFiles, error.to_string()).at(source.path_span.clone());
        Box::new(match error {
            BronzeError::Missing { .. } => diagnostic.help("create it, or correct `path`"),
            _ => diagnostic,
        })
    };
    let listing = list(source, folder).await.map_err(bad)?;
    if listing.files.is_empty() {
        let message = format!("source `{}` has no files and no declared columns", source.name);
        let diagnostic = Diagnostic::error(Id::SourceFiles, message).at(source.path_span.clone());
        return Err(Box::new(diagnostic.help("declare its `columns` with `data_type`, or add a file")));
    }
    let inferred = infer_schema(source, &listing, session, folder).await.map_err(bad)?;
    Ok(declared_over(source, &inferred, session))
}

/// Types that YAML declares win over those of the files; a declared column need not be in any of them.
fn declared_over(source: &Source, inferred: &SchemaRef, session: &SessionState) -> SchemaRef {
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
