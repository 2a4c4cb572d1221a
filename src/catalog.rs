//! What is known of tables: the catalog that `compile` reads, and the types that a Delta table can hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use serde::{Deserialize, Serialize};

use crate::names::TableName;

/// Schemas of source tables, declared or inferred. Models are not here: their schemas are what compiling finds.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    /// By name.
    pub sources: BTreeMap<TableName, SchemaRef>,
    /// What is in the files of seeds.
    pub seeds: BTreeMap<TableName, SeedFile>,
}

/// What was found in the file of a seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeedFile {
    /// Its columns.
    pub schema: SchemaRef,
    /// The hash of its bytes.
    pub content: String,
}

/// The schema that a Delta table has for rows of `schema`: every column nullable, every type one that the
/// protocol knows (Delta protocol, "Schema Serialization Format").
///
/// # Errors
/// The first column whose type cannot be stored, and why.
pub fn stored_schema(schema: &Schema) -> Result<SchemaRef, (String, String)> {
    let fields: Result<Vec<Field>, (String, String)> = schema
        .fields()
        .iter()
        .map(|field| match stored_type(field.data_type()) {
            Ok(data_type) => Ok(Field::new(field.name(), data_type, true)),
            Err(why) => Err((field.name().clone(), why)),
        })
        .collect();
    Ok(Arc::new(Schema::new(fields?)))
}

/// The columns that tell of a change, as Delta's change data feed calls them.
pub const CHANGE_COLUMNS: [&str; 3] = ["_change_type", "_commit_version", "_commit_timestamp"];

/// The columns of a table's changes.
pub fn changes_schema(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
    fields.extend(change_fields().map(Arc::new));
    Arc::new(Schema::new(fields))
}

/// A moment, as Delta's `timestamp` has it.
pub fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Those columns, with their types.
pub fn change_fields() -> [Field; 3] {
    let [change, version, timestamp] = CHANGE_COLUMNS;
    [
        Field::new(change, DataType::Utf8, true),
        Field::new(version, DataType::Int64, true),
        Field::new(timestamp, utc(), true),
    ]
}

/// What Delta's Arrow schemas call the items of a list, and the entries of a map.
const LIST_ITEM: &str = "element";
const MAP_ENTRIES: &str = "key_value";

/// Whether a type, or one inside of it, is such a one.
pub fn holds(data_type: &DataType, is: &impl Fn(&DataType) -> bool) -> bool {
    is(data_type)
        || match data_type {
            DataType::List(item) | DataType::Map(item, _) => holds(item.data_type(), is),
            DataType::Struct(fields) => fields.iter().any(|field| holds(field.data_type(), is)),
            _ => false,
        }
}

/// The nearest type that Delta can store without losing values.
fn stored_type(data_type: &DataType) -> Result<DataType, String> {
    let refused = |hint: &str| Err(format!("a Delta table has no type for {data_type}: {hint}"));
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary
        | DataType::Decimal128(_, _) => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => utc(),
        DataType::Dictionary(_, value) => stored_type(value)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => {
            let item = stored_type(item.data_type())?;
            DataType::List(Arc::new(Field::new(LIST_ITEM, item, true)))
        }
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(stored_field).collect::<Result<Vec<_>, _>>()?.into())
        }
        DataType::Map(entries, _) => DataType::Map(stored_map(entries)?, false),
        DataType::Null => return refused("cast it to a type"),
        _ => return refused("cast it to a number or to text"),
    })
}

fn stored_field(field: &FieldRef) -> Result<FieldRef, String> {
    Ok(Arc::new(Field::new(field.name(), stored_type(field.data_type())?, true)))
}

/// Keys of a map are never NULL, in Arrow and in Delta.
fn stored_map(entries: &FieldRef) -> Result<FieldRef, String> {
    let DataType::Struct(fields) = entries.data_type() else { return stored_field(entries) };
    let inner: Result<Vec<Field>, String> = fields
        .iter()
        .enumerate()
        .map(|(at, field)| {
            let name = if at == 0 { "key" } else { "value" };
            Ok(Field::new(name, stored_type(field.data_type())?, at != 0))
        })
        .collect();
    Ok(Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(inner?.into()), false)))
}

/// Whether every value of one type is one of another, so that a column may become it: a number with more digits, a date
/// as a timestamp, an object with more fields. Numbers become `double` as Delta and JSON have it, whatever their size.
pub fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, List, Struct, Timestamp};
    let digits = |integer: &DataType| match integer {
        Int8 => Some(3),
        Int16 => Some(5),
        Int32 => Some(10),
        Int64 => Some(19),
        _ => None,
    };
    match (from, to) {
        (a, b) if a == b => true,
        (Int8 | Int16 | Int32 | Int64 | Float32, Float64) | (Date32, Timestamp(..)) => true,
        (integer, Decimal128(p, s)) if digits(integer).is_some() => {
            digits(integer) <= Some(i16::from(*p) - i16::from(*s))
        }
        (Decimal128(p, s), Decimal128(more, scale)) => {
            scale >= s && i16::from(*more) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        (List(a), List(b)) => widens(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => a.iter().all(|field| {
            b.iter().any(|more| more.name() == field.name() && widens(field.data_type(), more.data_type()))
        }),
        (a, b) => digits(a).zip(digits(b)).is_some_and(|(a, b)| a < b),
    }
}

/// A type as SQL people write it.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 => "tinyint unsigned".into(),
        DataType::UInt16 => "smallint unsigned".into(),
        DataType::UInt32 => "int unsigned".into(),
        DataType::UInt64 => "bigint unsigned".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Decimal128(p, s) => format!("decimal({p},{s})"),
        DataType::Binary => "bytea".into(),
        DataType::List(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let inner: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            format!("struct<{}>", inner.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_widens_if_no_value_is_lost() {
        use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int32, Int64, Utf8};
        let at = DataType::Timestamp(TimeUnit::Microsecond, None);
        let object = |names: &[&str], data_type: &DataType| {
            DataType::Struct(names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect())
        };
        for (from, to) in [
            (Int8, Int32),
            (Int32, Int64),
            (Int64, Float64),
            (Float32, Float64),
            (Int32, Decimal128(12, 2)),
            (Decimal128(10, 2), Decimal128(12, 4)),
            (Date32, at.clone()),
            (object(&["a"], &Int32), object(&["b", "a"], &Int64)),
        ] {
            assert!(widens(&from, &to), "{from} {to}");
            assert!(!widens(&to, &from), "{to} {from}");
        }
        for (from, to) in
            [(Int32, Decimal128(11, 2)), (Decimal128(10, 2), Decimal128(11, 4)), (Int64, Utf8), (at, Utf8)]
        {
            assert!(!widens(&from, &to), "{from} {to}");
        }
    }
}
