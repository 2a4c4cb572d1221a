//! The columns of a node: types, words, lineage, profile.

use serde::Serialize;

use super::{Maker, is_none};
use crate::catalog::sql_type;
use crate::compile::{ColumnName, Use};
use crate::names::TableName;
use crate::project::{Column, Constraint};
use crate::run::{ColumnProfile, TableProfile};

/// A column.
#[derive(Serialize)]
pub(super) struct ColumnDoc<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    data_type: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    key: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitive: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from: Vec<(usize, usize, u8)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileDoc<'a>>,
}

#[derive(Serialize)]
struct ProfileDoc<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    nulls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<u64>,
    #[serde(skip_serializing_if = "is_none")]
    exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantiles: Option<[Option<f64>; 5]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lengths: Option<(u64, u64, f64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<(String, u64)>,
    #[serde(skip_serializing_if = "is_none")]
    masked: bool,
}

impl<'a> ProfileDoc<'a> {
    fn new(profile: &'a ColumnProfile) -> Self {
        let quantiles = [profile.p05, profile.p25, profile.p50, profile.p75, profile.p95];
        Self {
            nulls: profile.nulls,
            distinct: profile.distinct_values,
            exact: profile.distinct_is_exact == Some(true),
            min: profile.min.as_deref(),
            max: profile.max.as_deref(),
            mean: profile.mean,
            quantiles: quantiles.iter().any(Option::is_some).then_some(quantiles),
            lengths: profile
                .min_length
                .zip(profile.max_length)
                .map(|(min, max)| (min, max, profile.mean_length.unwrap_or_default())),
            top: profile.common(),
            masked: profile.masked,
        }
    }
}

impl<'a> Maker<'a> {
    /// The columns of a model or source. `described` is what YAML says of them.
    pub(super) fn columns(
        &mut self,
        name: &'a TableName,
        described: &'a [Column],
        keys: &[String],
        profile: Option<&'a TableProfile>,
    ) -> Vec<ColumnDoc<'a>> {
        let Some(schema) = self.runtime.compiled.schema_of(name) else { return Vec::new() };
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let own = described.iter().find(|column| column.name == *field.name());
            let profile = profile.and_then(|profile| {
                let same = |column: &&ColumnProfile| column.column_name == *field.name();
                profile.columns.iter().find(same)
            });
            columns.push(ColumnDoc {
                name: field.name(),
                data_type: self.texts.at(&sql_type(field.data_type())),
                description: own.map_or("", |column| column.description.trim()),
                key: keys.iter().any(|key| key == field.name()),
                constraints: own.map(constraints).unwrap_or_default(),
                sensitive: self.sensitive(name, field.name()),
                from: self.origins(name, field.name()),
                profile: profile.map(ProfileDoc::new),
            });
        }
        columns
    }

    /// Why the values of a column are not for everybody, if they are not.
    fn sensitive(&self, name: &TableName, column: &str) -> Option<String> {
        let own = ColumnName { table: name.clone(), column: column.to_owned() };
        let path = self.runtime.compiled.sensitive.get(&own)?;
        if path.is_empty() {
            return Some("declared".to_owned());
        }
        let names: Vec<String> = path.iter().map(|column| format!("{}.{}", column.table, column.column)).collect();
        Some(names.join(" → "))
    }

    fn origins(&self, name: &TableName, column: &str) -> Vec<(usize, usize, u8)> {
        let Some(model) = self.runtime.compiled.models.get(name) else { return Vec::new() };
        let made = model.lineage.columns.get(column).into_iter().flatten();
        let step = |(from, how): (&ColumnName, &Use)| {
            let how = match how {
                Use::Copied => 0,
                Use::Derived => 1,
                Use::Masked => 2,
                Use::Filter => return None,
            };
            let (node, column) = self.column(from)?;
            Some((node, column, how))
        };
        made.filter(|(from, _)| from.table != *name).filter_map(step).collect()
    }

    /// The columns that decide which rows a model has.
    pub(super) fn filters(&self, name: &TableName) -> Vec<(usize, usize)> {
        let Some(model) = self.runtime.compiled.models.get(name) else { return Vec::new() };
        model.lineage.filters.iter().filter(|from| from.table != *name).filter_map(|from| self.column(from)).collect()
    }
}

fn constraints(column: &Column) -> Vec<String> {
    let word = |constraint: &Constraint| match constraint {
        Constraint::NotNull => "not null".to_owned(),
        Constraint::Unique => "unique".to_owned(),
        Constraint::PrimaryKey => "primary key".to_owned(),
        Constraint::Check(condition) => format!("check {condition}"),
    };
    column.constraints.iter().map(|(constraint, _)| word(constraint)).collect()
}
