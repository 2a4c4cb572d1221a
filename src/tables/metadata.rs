//! What a table's log says of it beside rows: columns with their comments, the description, properties.

use datafusion::arrow::datatypes::Schema;
use deltalake::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{Action, Metadata, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::DeltaOperation;
use serde_json::{Map, Value, json};

use super::layout::Layout;
use super::upkeep::commit_upkeep;
use super::{Lake, Published, TableError, glance};

/// The property that tells which others `lake` has set: it takes those away again that a model no longer has.
const OWN: &str = "lake.tblproperties";

/// Gives a new table what its layout says.
pub(super) fn described(
    builder: CreateBuilder,
    schema: &Schema,
    layout: &Layout,
) -> Result<CreateBuilder, DeltaTableError> {
    let mut json = kernel_json(schema)?;
    comment(&mut json, layout);
    let schema: StructType = serde_json::from_value(json)?;
    let mut builder = builder.with_columns(schema.fields().cloned()).with_raise_if_key_not_exists(false);
    let mut configuration = Map::new();
    set_properties(&mut configuration, layout);
    let properties = configuration.into_iter().map(|(key, value)| (key, value.as_str().map(str::to_owned)));
    builder = builder.with_configuration(properties);
    Ok(match layout.description.as_deref() {
        Some(description) if !description.is_empty() => builder.with_comment(description),
        _ => builder,
    })
}

/// The metadata of the next version, if it is not that of the published one.
pub(super) fn changed(
    published: &Published,
    schema: &Schema,
    partition_by: &[String],
    layout: &Layout,
) -> Result<Option<Metadata>, DeltaTableError> {
    let old = serde_json::to_value(published.table.snapshot()?.metadata())?;
    let mut new = old.clone();
    let text = old["schemaString"].as_str().unwrap_or_default();
    let old_schema: Value = serde_json::from_str(text)?;
    let mut columns = match *published.schema == *schema {
        true => old_schema.clone(),
        false => merged(&old_schema, published, schema)?,
    };
    comment(&mut columns, layout);
    if columns != old_schema {
        new["schemaString"] = columns.to_string().into();
    }
    new["partitionColumns"] = json!(partition_by);
    if let Some(description) = &layout.description {
        let says = old["description"].as_str().unwrap_or_default();
        if says != description {
            new["description"] = if description.is_empty() { Value::Null } else { json!(description) };
        }
    }
    let mut configuration = old["configuration"].as_object().cloned().unwrap_or_default();
    set_properties(&mut configuration, layout);
    new["configuration"] = configuration.into();
    if new == old {
        return Ok(None);
    }
    new["name"] = published.name.to_string().into();
    Ok(Some(serde_json::from_value(new)?))
}

fn kernel_json(schema: &Schema) -> Result<Value, DeltaTableError> {
    let schema: StructType = schema.try_into_kernel()?;
    Ok(serde_json::to_value(schema)?)
}

/// The columns of `schema`; those that the table has keep what it says of them.
fn merged(old: &Value, published: &Published, schema: &Schema) -> Result<Value, DeltaTableError> {
    let mut new = kernel_json(schema)?;
    let empty = Vec::new();
    let known = old["fields"].as_array().unwrap_or(&empty);
    for field in new["fields"].as_array_mut().into_iter().flatten() {
        let Some(name) = field["name"].as_str().map(str::to_owned) else { continue };
        let Some(before) = known.iter().find(|field| field["name"] == name.as_str()) else { continue };
        let of = |schema: &Schema| schema.field_with_name(&name).ok().map(|field| field.data_type().clone());
        if of(&published.schema) == of(schema) {
            *field = before.clone();
        } else {
            field["metadata"] = before["metadata"].clone();
        }
    }
    Ok(new)
}

/// Writes the comments of columns.
fn comment(schema: &mut Value, layout: &Layout) {
    let Some(comments) = &layout.comments else { return };
    for field in schema["fields"].as_array_mut().into_iter().flatten() {
        let said = field["name"].as_str().and_then(|name| comments.get(name)).filter(|text| !text.is_empty());
        let said = said.cloned();
        let Some(metadata) = field["metadata"].as_object_mut() else { continue };
        match said {
            Some(text) => metadata.insert("comment".to_owned(), text.into()),
            None => metadata.remove("comment"),
        };
    }
}

fn set_properties(configuration: &mut Map<String, Value>, layout: &Layout) {
    let set: Vec<String> = match configuration.get(OWN).and_then(Value::as_str) {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None => Vec::new(),
    };
    for gone in set.iter().filter(|key| !layout.properties.contains_key(*key)) {
        configuration.remove(gone);
    }
    if layout.properties.is_empty() {
        configuration.remove(OWN);
        return;
    }
    let keys: Vec<&str> = layout.properties.keys().map(String::as_str).collect();
    configuration.insert(OWN.to_owned(), keys.join(",").into());
    for (key, value) in &layout.properties {
        configuration.insert(key.clone(), value.clone().into());
    }
}

/// Brings descriptions and properties of a published table up to date, in a commit that touches no row. Returns the
/// version that it made, and what it is about; `None` if there is nothing to say.
///
/// # Errors
/// [`TableError::Conflict`] when another writer was faster; otherwise the storage's error.
pub async fn describe(lake: &Lake, published: &Published) -> Result<Option<(Published, &'static str)>, TableError> {
    let fail = |source| TableError::Delta { table: published.name.clone(), source };
    let layout = lake.layout(&published.name);
    let partition_by = published.partition_columns().to_vec();
    let Some(metadata) = changed(published, &published.schema, &partition_by, layout).map_err(fail)? else {
        return Ok(None);
    };
    let old = published.table.snapshot().map_err(fail)?.metadata();
    let what = match old.configuration() == metadata.configuration() {
        true => "descriptions changed",
        false => "table properties changed",
    };
    let properties = metadata.configuration().clone();
    let operation = DeltaOperation::SetTableProperties { properties };
    let mut told = published.clone();
    told.said.as_mut().into_iter().for_each(|said| glance::tell(said, layout));
    let fresh = commit_upkeep(lake, &told, vec![Action::Metadata(metadata)], operation, &[]).await?;
    Ok(Some((fresh, what)))
}
