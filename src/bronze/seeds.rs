//! The files of seeds: one CSV file of the project each, read to its end when the project is compiled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::session_state::SessionState;
use object_store::ObjectMeta;
use object_store::path::Path as StorePath;

use super::scan::{self, column_type, concrete};
use super::text::Sample;
use super::{BronzeError, BronzeFile, find_culprits, formats};
use crate::catalog::SeedFile;
use crate::diagnostics::{Diagnostic, Diagnostics, Id, SourceFile, Span};
use crate::memo::{KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{Project, Source};
use crate::stores::Store;

/// Columns and content of every seed. A file that an earlier run has looked at is not read again.
pub async fn inspect_seeds(
    project: &Project,
    session: &SessionState,
    memo: &Memo,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<TableName, SeedFile> {
    let mut found = BTreeMap::new();
    for model in project.models.values() {
        let Some(seed) = &model.seed else { continue };
        match inspect(seed, &model.file, session, &project.folder, memo).await {
            Ok(file) => {
                found.insert(seed.name.clone(), file);
            }
            Err(problems) => diagnostics.extend(problems),
        }
    }
    found
}

async fn inspect(
    seed: &Source,
    file: &Arc<SourceFile>,
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<SeedFile, Vec<Diagnostic>> {
    let of_stamp = file.stamp.map(|stamp| KeyMaker::new("content of a seed").key(stamp).finish());
    let content = match of_stamp.and_then(|key| memo.get::<String>(key)) {
        Some(content) => content,
        None => {
            let content = seed_content(seed, folder).map_err(|error| vec![wrong(file, &error)])?;
            of_stamp.inspect(|key| memo.put(*key, &content));
            content
        }
    };
    let types: Vec<_> = seed.columns.iter().map(|column| (&column.name, &column.data_type)).collect();
    let how = format!("{types:?} {:?}", seed.options);
    let key = KeyMaker::new("columns of a seed").text(&content).text(&how).finish();
    if let Some(schema) = memo.get::<SchemaRef>(key) {
        return Ok(SeedFile { schema, content });
    }
    let schema = columns(seed, file, session, folder).await?;
    memo.put(key, &schema);
    Ok(SeedFile { schema, content })
}

/// The columns of a seed, with the types that are declared, or that all of its values have. Every value is read: a row
/// that does not fit is told here.
async fn columns(
    seed: &Source,
    text: &Arc<SourceFile>,
    session: &SessionState,
    folder: &Path,
) -> Result<SchemaRef, Vec<Diagnostic>> {
    let bad = |error: BronzeError| vec![wrong(text, &error)];
    let file = file_of(seed, folder).map_err(bad)?;
    let mut declared = BTreeMap::new();
    let mut problems = Vec::new();
    for column in &seed.columns {
        let Some((data_type, span)) = &column.data_type else { continue };
        match column_type(session, data_type) {
            Ok(data_type) => drop(declared.insert(column.name.as_str(), data_type)),
            Err(why) => problems.push(Diagnostic::error(Id::InvalidValue, why).at(span.clone())),
        }
    }
    let typed = Sample::AllBut(declared.keys().map(|name| (*name).to_owned()).collect());
    let found = formats::schema_of(seed, &file, &typed, session, folder).await.map_err(bad)?;
    if found.fields().is_empty() {
        let diagnostic = Diagnostic::error(Id::SourceFiles, format!("`{}` is empty", seed.path));
        return Err(vec![diagnostic.at(seed.path_span.clone()).help("the first line of a seed names its columns")]);
    }
    if let Some(at) = found.fields().iter().position(|field| field.name().trim().is_empty()) {
        let message = format!("`{}`: column {} has no name", seed.path, at + 1);
        let diagnostic = Diagnostic::error(Id::SourceFiles, message).at(Span::file_start(text));
        return Err(vec![diagnostic.help("the first line of a seed names its columns")]);
    }
    let names: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
    for column in seed.columns.iter().filter(|column| !names.contains(&column.name.as_str())) {
        let message = format!("`{}` has no column `{}`, which has a type here", seed.path, column.name);
        let diagnostic = Diagnostic::error(Id::UnknownColumn, message).at(column.span.clone());
        problems.push(diagnostic.suggest(&column.name, names.iter().copied()));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let fields = found.fields().iter().filter_map(|field| {
        let data_type = declared.get(field.name().as_str()).cloned();
        Some(Field::new(field.name(), data_type.or_else(|| concrete(field.data_type()))?, true))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let culprits = find_culprits(seed, &schema, &[file], session, folder, 1).await;
    match culprits.into_iter().next() {
        Some((_, error)) => Err(bad(error)),
        None => Ok(schema),
    }
}

/// What is wrong with a file, at the line that the error names.
fn wrong(text: &Arc<SourceFile>, error: &BronzeError) -> Diagnostic {
    let message = error.to_string();
    let line = message.split_once("line ").map(|(_, rest)| rest);
    let line = line.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    // A file that is not text has no lines to show.
    let is_text = !text.fetch().is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData);
    let span = match line.filter(|_| is_text) {
        Some(line) => {
            let start = text.offset(line, 1);
            let length = text.text()[start..].find(['\n', '\r']).unwrap_or(text.text().len() - start);
            Span::new(text, start, start + length)
        }
        None => Span { file: Arc::clone(text), start: 0, end: 0 },
    };
    match is_text {
        true => Diagnostic::error(Id::SourceFiles, message).at(span),
        false => Diagnostic::error(Id::UnreadableFile, format!("`{}` is not text in UTF-8", text.path))
            .at(span)
            .help("save it as UTF-8, or declare it as a source, whose files may have another `encoding`"),
    }
}

/// The hash of the bytes of a seed's file, as it is now.
///
/// # Errors
/// When it cannot be read.
pub fn seed_content(seed: &Source, folder: &Path) -> Result<String, BronzeError> {
    let bytes = std::fs::read(folder.join(&seed.path)).map_err(|error| unreadable(seed, &error))?;
    Ok(blake3::hash(&bytes).to_hex()[..32].to_owned())
}

/// The rows of a seed, in the columns of `schema`.
///
/// # Errors
/// When its file cannot be read.
pub async fn seed_rows(
    seed: &Source,
    schema: &SchemaRef,
    folder: &Path,
) -> Result<Arc<dyn TableProvider>, BronzeError> {
    scan::scan(seed, schema, &[file_of(seed, folder)?], folder, None, None).await
}

/// Found by its name and not by a pattern: a name may have letters that mean something there.
fn file_of(seed: &Source, folder: &Path) -> Result<BronzeFile, BronzeError> {
    let path = folder.join(&seed.path);
    let found = std::fs::metadata(&path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (size, modified) = found.map_err(|error| unreadable(seed, &error))?;
    let location = StorePath::from_absolute_path(&path).map_err(|error| unreadable(seed, &error))?;
    let meta = ObjectMeta { location, last_modified: modified.into(), size, e_tag: None, version: None };
    Ok(BronzeFile::new(seed.path.clone(), Store::local(), meta))
}

fn unreadable(seed: &Source, error: &dyn std::fmt::Display) -> BronzeError {
    BronzeError::File { file: seed.path.clone(), why: error.to_string() }
}
