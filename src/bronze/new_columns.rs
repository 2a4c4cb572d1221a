//! Columns of files that their source does not declare: what they are, and what a source has come to know of them.
//!
//! With `on_new_column: add` a source has the declared columns, then those that it was given before, then those of its
//! files. What it was given before stands beside the tables, in `_lake/columns/<source>/`: one file for each time that
//! something was new, written before the rows are published and never changed. What a source knows is what all of these
//! files say together, so two runs at once cannot take a column away from each other, and no file of the source has to
//! stay for its columns to stay.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::session_state::SessionState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::scan::{column_type, common_type, concrete, with_file_columns};
use super::text::Sample;
use super::{BronzeError, BronzeFile, file_columns, formats};
use crate::catalog::{sql_type, widens};
use crate::fail_points;
use crate::memo::{KeyMaker, Memo};
use crate::names::TableName;
use crate::project::{OnBadRow, OnNewColumn, Source};

/// Files whose columns are looked at at once.
const AT_ONCE: usize = 8;
/// How many new columns a message names.
const EXAMPLES: usize = 8;

/// What one run had to add to what a source knows.
#[derive(Serialize, Deserialize)]
struct Known {
    columns: Vec<Field>,
}

pub(super) fn known_folder(source: &TableName) -> StorePath {
    StorePath::from_iter(["_lake", "columns", &source.to_string()])
}

/// The columns that a source was given before, in the lake whose files are these.
///
/// # Errors
/// When they cannot be read.
pub(super) async fn known(lake: &Arc<dyn ObjectStore>, source: &TableName) -> Result<Vec<Field>, BronzeError> {
    let bad = |path: &StorePath, why: String| BronzeError::KnownColumns {
        source_name: source.clone(),
        path: path.to_string(),
        why,
    };
    let folder = known_folder(source);
    let found: Result<Vec<_>, _> = lake.list(Some(&folder)).try_collect().await;
    let mut paths: Vec<StorePath> =
        found.map_err(|error| bad(&folder, error.to_string()))?.into_iter().map(|meta| meta.location).collect();
    // Their names increase with time.
    paths.sort();
    let mut columns = DataType::Struct(Vec::<Field>::new().into());
    for path in paths {
        let found = lake.get(&path).await.map_err(|error| bad(&path, error.to_string()))?;
        let bytes = found.bytes().await.map_err(|error| bad(&path, error.to_string()))?;
        let known: Known = serde_json::from_slice(&bytes).map_err(|error| bad(&path, error.to_string()))?;
        let more = DataType::Struct(known.columns.into());
        columns = grown(None, Some(&columns), Some(&more)).unwrap_or(columns);
    }
    Ok(fields_of(columns))
}

fn fields_of(columns: DataType) -> Vec<Field> {
    match columns {
        DataType::Struct(fields) => fields.iter().map(|field| field.as_ref().clone()).collect(),
        _ => Vec::new(),
    }
}

/// Writes down what a source knows with `schema` and did not know before. Called before rows with new columns are
/// published: a table never has a column that its source does not know.
///
/// # Errors
/// When it cannot be read or written.
pub async fn remember(
    lake: &Arc<dyn ObjectStore>,
    source: &Source,
    schema: &SchemaRef,
    session: &SessionState,
) -> Result<(), BronzeError> {
    if source.ingestion.on_new_column != OnNewColumn::Add {
        return Ok(());
    }
    let of_files = file_columns::fields(source);
    let declared = declared(source, session);
    let added: Vec<Field> = schema
        .fields()
        .iter()
        .filter(|field| !of_files.iter().any(|known| known.name() == field.name()))
        .filter(|field| {
            !declared.iter().any(|(name, is)| name == field.name() && is.as_ref() == Some(field.data_type()))
        })
        .map(|field| field.as_ref().clone())
        .collect();
    let known = DataType::Struct(known(lake, &source.name).await?.into());
    let all = grown(None, Some(&known), Some(&DataType::Struct(added.clone().into())));
    if added.is_empty() || all.as_ref() == Some(&known) {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(&Known { columns: added }).expect("columns are JSON");
    let mut id = chrono::Utc::now().timestamp_micros();
    loop {
        let path = known_folder(&source.name).join(format!("{id:019}.json"));
        match lake.put_opts(&path, PutPayload::from(text.clone()), PutMode::Create.into()).await {
            Ok(_) => break,
            Err(object_store::Error::AlreadyExists { .. }) => id += 1,
            Err(error) => {
                let (source_name, path) = (source.name.clone(), path.to_string());
                return Err(BronzeError::KnownColumns { source_name, path, why: error.to_string() });
            }
        }
    }
    fail_points::reached("columns-known");
    Ok(())
}

/// Names of the declared columns, with the types that are declared.
fn declared(source: &Source, session: &SessionState) -> Vec<(String, Option<DataType>)> {
    let declared = source.columns.iter().map(|column| {
        let data_type = match &column.data_type {
            Some((text, _)) => column_type(session, text).ok(),
            None => source.format.is_delimited().then_some(DataType::Utf8),
        };
        (column.name.clone(), data_type)
    });
    declared.collect()
}

/// The columns of a source that adds new ones: declared, known, and those of its files.
///
/// # Errors
/// A file that is not what it should be, or two columns whose names differ by case only.
pub(super) async fn with_new_columns(
    source: &Source,
    known: &[Field],
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<SchemaRef, BronzeError> {
    let declared = declared(source, session);
    let names: Vec<String> = declared.iter().map(|(name, _)| name.clone()).collect();
    let found = look(source, &names, files, session, folder, memo).await?;
    let mut all = DataType::Struct(Vec::<Field>::new().into());
    let mut valueless: Vec<String> = Vec::new();
    for (_, columns) in &found {
        all = common_type(&all, &DataType::Struct(columns.fields().clone()));
        valueless.extend(columns.fields().iter().map(|field| field.name().clone()));
    }
    let types: Vec<Field> =
        declared.iter().filter_map(|(name, is)| Some(Field::new(name, is.clone()?, true))).collect();
    let types = DataType::Struct(types.into());
    let grown =
        fields_of(grown(Some(&types), Some(&DataType::Struct(known.to_vec().into())), Some(&all)).unwrap_or(types));
    // In the order of the declaration; a column that is only named there and has no values anywhere is text.
    let mut fields: Vec<Field> = Vec::new();
    for name in &names {
        let is = grown.iter().find(|field| field.name() == name);
        fields.push(is.cloned().unwrap_or_else(|| Field::new(name, DataType::Utf8, true)));
    }
    fields.extend(grown.into_iter().filter(|field| !names.contains(field.name())));
    if source.columns.is_empty() {
        for name in valueless {
            if !fields.iter().any(|field| *field.name() == name) {
                fields.push(Field::new(name, DataType::Utf8, true));
            }
        }
    }
    let of_files = file_columns::fields(source);
    fields.retain(|field| !of_files.iter().any(|known| known.name() == field.name()));
    if let Some((first, second)) = same_but_for_case(&fields) {
        let culprit = found.iter().find(|(_, columns)| columns.field_with_name(second).is_ok());
        return Err(BronzeError::File {
            file: culprit.map_or_else(|| source.path.clone(), |(file, _)| file.shown(folder)),
            why: format!(
                "column `{second}` differs from `{first}` by case only, and no table can have both; declare one of them, \
                 and set `on_new_column: ignore`"
            ),
        });
    }
    Ok(with_file_columns(source, fields))
}

fn same_but_for_case(fields: &[Field]) -> Option<(&str, &str)> {
    let mut seen: std::collections::BTreeMap<String, &str> = std::collections::BTreeMap::new();
    fields
        .iter()
        .find_map(|field| Some((seen.insert(field.name().to_lowercase(), field.name())?, field.name().as_str())))
}

/// A type with what was found beside it: declared types stay, known ones become wider where all values fit, and fields
/// of objects that are in neither come after them. `None` if no value was seen that has a type.
fn grown(declared: Option<&DataType>, known: Option<&DataType>, found: Option<&DataType>) -> Option<DataType> {
    let all = [declared, known, found];
    match declared.or(known).or(found)? {
        DataType::Struct(_) => {
            let mut names: Vec<&str> = Vec::new();
            let structs = all.map(|is| match is {
                Some(DataType::Struct(fields)) => Some(fields),
                _ => None,
            });
            for field in structs.iter().flatten().flat_map(|fields| fields.iter()) {
                if !names.contains(&field.name().as_str()) {
                    names.push(field.name());
                }
            }
            let field = |name: &str| {
                let of = structs.map(|fields| Some(fields?.find(name)?.1.data_type()));
                Some(Field::new(name, grown(of[0], of[1], of[2])?, true))
            };
            let fields: Vec<Field> = names.into_iter().filter_map(field).collect();
            (!fields.is_empty()).then(|| DataType::Struct(fields.into()))
        }
        DataType::List(first) => {
            let items = all.map(|is| match is {
                Some(DataType::List(item)) => Some(item.data_type()),
                _ => None,
            });
            let item = grown(items[0], items[1], items[2])?;
            Some(DataType::List(Arc::new(Field::new(first.name(), item, true))))
        }
        _ => match (declared, known, found) {
            (Some(declared), ..) => Some(declared.clone()),
            (None, Some(known), Some(found)) if widens(known, found) => Some(found.clone()),
            (None, Some(known), _) => Some(known.clone()),
            (None, None, Some(DataType::Null) | None) => None,
            (None, None, Some(found)) => concrete(found),
        },
    }
}

/// The columns of files; types only of those that are not `known` by name.
async fn look(
    source: &Source,
    known: &[String],
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<Vec<(BronzeFile, SchemaRef)>, BronzeError> {
    let sample = &Sample::AllBut(known.to_vec());
    let how = format!("{:?} {:?} {known:?}", source.format, source.options);
    let how = KeyMaker::new("columns of a file").text(&how).finish();
    let one = |file: BronzeFile| async move {
        let stamp = (file.shown(folder), file.meta.size, file.modified());
        let key = KeyMaker::new("columns of one file").key(how).value(&stamp).finish();
        if let Some(columns) = memo.get::<SchemaRef>(key) {
            return Ok((file, columns));
        }
        let columns = match formats::schema_of(source, &file, sample, session, folder).await {
            // Whoever reads it finds out and leaves it out.
            Err(BronzeError::File { .. }) if source.options.on_bad_row == OnBadRow::Quarantine => {
                return Ok((file, Arc::new(Schema::empty())));
            }
            columns => columns?,
        };
        let columns = with_declared_letters(&columns, known);
        memo.put(key, &columns);
        Ok((file, columns))
    };
    futures::stream::iter(files.iter().cloned().map(one)).buffered(AT_ONCE).try_collect().await
}

/// A header means the declared column in whatever case its letters are.
fn with_declared_letters(columns: &SchemaRef, known: &[String]) -> SchemaRef {
    let fields = columns.fields().iter().map(|field| {
        let same = |name: &&String| name.to_lowercase() == field.name().to_lowercase();
        match known.iter().find(same).filter(|name| columns.field_with_name(name).is_err()) {
            Some(name) if field.data_type() == &DataType::Null => Field::new(name, DataType::Null, true),
            _ => field.as_ref().clone(),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The names of the columns that any of the files has beside those that are declared.
///
/// # Errors
/// When a file is not what it should be.
pub async fn undeclared_columns(
    source: &Source,
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<BTreeSet<String>, BronzeError> {
    let declared: Vec<String> = declared(source, session).into_iter().map(|(name, _)| name).collect();
    let found = look(source, &declared, files, session, folder, memo).await?;
    let names = found.iter().flat_map(|(_, columns)| columns.fields().iter().map(|field| field.name().clone()));
    Ok(names.collect())
}

/// The first of the files that has columns which `schema` has not, and which files have some.
///
/// # Errors
/// [`BronzeError::NewColumns`], or a file that is not what it should be.
pub async fn refuse_new_columns(
    source: &Source,
    schema: &SchemaRef,
    files: &[BronzeFile],
    session: &SessionState,
    folder: &Path,
    memo: &Memo,
) -> Result<(), BronzeError> {
    let mut first: Option<(String, Vec<(String, DataType)>)> = None;
    let mut others = BTreeSet::new();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    for (file, columns) in look(source, &names, files, session, folder, memo).await? {
        let known = DataType::Struct(schema.fields().clone());
        let new = beside("", &known, &DataType::Struct(columns.fields().clone()));
        match &first {
            _ if new.is_empty() => {}
            None => first = Some((file.shown(folder), new)),
            Some(_) => drop(others.insert(file.path)),
        }
    }
    let Some((file, columns)) = first else { return Ok(()) };
    Err(BronzeError::NewColumns {
        source_name: source.name.clone(),
        file,
        others: others.len(),
        columns: told(&columns),
    })
}

fn told(columns: &[(String, DataType)]) -> String {
    let mut told: Vec<String> = columns
        .iter()
        .take(EXAMPLES)
        .map(|(name, is)| format!("{{ name: {name}, data_type: {} }}", sql_type(is)))
        .collect();
    if columns.len() > EXAMPLES {
        told.push(format!("and {} more", columns.len() - EXAMPLES));
    }
    told.join(", ")
}

/// What is in `found` and not in `known`, with the way to it.
fn beside(way: &str, known: &DataType, found: &DataType) -> Vec<(String, DataType)> {
    match (known, found) {
        (DataType::Struct(known), DataType::Struct(found)) => found
            .iter()
            .flat_map(|field| {
                let name = if way.is_empty() { field.name().clone() } else { format!("{way}.{}", field.name()) };
                match known.find(field.name()) {
                    Some((_, known)) => beside(&name, known.data_type(), field.data_type()),
                    None => vec![(name, concrete(field.data_type()).unwrap_or(DataType::Utf8))],
                }
            })
            .collect(),
        (DataType::List(known), DataType::List(found)) => beside(way, known.data_type(), found.data_type()),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(fields: &[(&str, DataType)]) -> DataType {
        DataType::Struct(fields.iter().map(|(name, is)| Field::new(*name, is.clone(), true)).collect())
    }

    #[test]
    fn declared_types_stay_known_ones_widen_and_new_ones_come_last() {
        use DataType::{Date32, Float64, Int32, Int64, Null, Utf8};
        let declared = object(&[("id", Int32), ("who", object(&[("name", Utf8)]))]);
        let known = object(&[("price", Int64), ("when", Int64), ("who", object(&[("age", Int64)]))]);
        let who = object(&[("zip", Utf8), ("age", Int64), ("none", Null)]);
        let found = object(&[("day", Date32), ("when", Utf8), ("price", Float64), ("id", Float64), ("who", who)]);
        let grown = grown(Some(&declared), Some(&known), Some(&found)).unwrap();
        let who = object(&[("name", Utf8), ("age", Int64), ("zip", Utf8)]);
        let wanted = [("id", Int32), ("who", who), ("price", Float64), ("when", Int64), ("day", Date32)];
        assert_eq!(grown, object(&wanted));
        assert_eq!(
            beside("", &declared, &found).into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["day", "when", "price", "who.zip", "who.age", "who.none"]
        );
    }
}
