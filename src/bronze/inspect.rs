//! Sources -> [`Catalog`]: declared columns, or those of the files.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::session_state::SessionState;

use super::{BronzeError, infer_schema, list, scan::declared_schema};
use crate::catalog::Catalog;
use crate::diagnostics::{Diagnostic, Diagnostics, Id};
use crate::project::{Project, Source};

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

/// Types that YAML declares win over those of the files.
fn declared_over(source: &Source, inferred: &SchemaRef, session: &SessionState) -> SchemaRef {
    let fields: Vec<Field> = inferred
        .fields()
        .iter()
        .map(|field| {
            let column = source.columns.iter().find(|column| column.name == *field.name());
            let declared = column.and_then(|column| column.data_type.as_ref());
            match declared.and_then(|(text, _)| crate::session::parse_data_type(session, text).ok()) {
                Some(data_type) => Field::new(field.name(), data_type, true),
                None => field.as_ref().clone(),
            }
        })
        .collect();
    Arc::new(Schema::new(fields))
}
