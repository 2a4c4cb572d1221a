//! Tables of another target that stand in for those that this one lacks: `--defer-to`.
//!
//! What a build has read of another lake stands in its commit with the target and the id of the table, so it is never taken
//! for a version of this lake: once the table exists here, or the other one is another table, the model is built again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::decide::Action;
use super::inputs::Inputs;
use super::materialize::{Failure, Node};
use super::world::World;
use crate::compile::Input;
use crate::names::TableName;
use crate::tables::{Lake, Published};

/// Another target's lake, and what is not read from it.
#[derive(Debug, Clone)]
pub struct Deferral {
    /// The name of the target.
    pub target: String,
    /// Its lake.
    pub lake: Lake,
    /// Its tables go before those of this lake: `--favor-state`.
    pub favored: bool,
    /// What this run builds, or is asked about: these are read as they are here.
    pub own: BTreeSet<TableName>,
}

/// A version of a table of another lake, as it stands among what a commit has read.
pub(super) fn version_of_other(target: &str, published: &Published) -> String {
    let id = published.table_id().unwrap_or_default();
    format!("version {} of {target}, table {id}", published.rows_since())
}

/// `version 12 of prod`: what people see of it.
pub(super) fn shown(version: &str) -> &str {
    version.split_once(", table ").map_or(version, |(shown, _)| shown)
}

/// Where a version comes from, if it is not of the own lake.
pub(super) fn origin(version: &str) -> Option<&str> {
    version.split_once(" of ").map(|(_, origin)| origin)
}

impl Inputs {
    /// The version of the other lake that stands in for a table; `None` if it is read as it is here.
    pub(super) async fn deferred(&self, name: &TableName) -> Result<Option<Published>, Failure> {
        let Some(deferral) = &self.runtime().deferral else { return Ok(None) };
        if deferral.own.contains(name) || !deferral.favored && self.published(name).await?.is_some() {
            return Ok(None);
        }
        let cell = Arc::clone(self.of_other.lock().expect("no holder panics").entry(name.clone()).or_default());
        Ok(cell.get_or_try_init(|| deferral.lake.inspect(name)).await?.clone())
    }

    /// The version of a table that this run reads; `None` if there is no table.
    pub(super) async fn readable(&self, name: &TableName) -> Result<Option<Published>, Failure> {
        match self.deferred(name).await? {
            Some(other) => Ok(Some(other)),
            None => self.published(name).await,
        }
    }

    /// The lake that a table is read from.
    pub(super) async fn lake_of(&self, name: &TableName) -> Result<&Lake, Failure> {
        let runtime = self.runtime();
        match (&runtime.deferral, self.deferred(name).await?) {
            (Some(deferral), Some(_)) => Ok(&deferral.lake),
            _ => Ok(&runtime.lake),
        }
    }

    /// Where a table is read from, if it is not the own lake: `prod (version 12)`.
    pub(super) async fn read_from(&self, name: &TableName) -> Result<Option<String>, Failure> {
        let Some(deferral) = &self.runtime().deferral else { return Ok(None) };
        let other = self.deferred(name).await?;
        Ok(other.map(|other| format!("{} (version {})", deferral.target, other.rows_since())))
    }

    /// What was read of the other lake so far: the tables, and where they are from, such as `prod (version 12)`.
    pub fn read_elsewhere(&self) -> Vec<(TableName, String)> {
        let Some(deferral) = &self.runtime().deferral else { return Vec::new() };
        let read = self.of_other.lock().expect("no holder panics");
        let version = |cell: &OnceCell<Option<Published>>| Some(cell.get()?.as_ref()?.rows_since());
        let told = |version| format!("{} (version {version})", deferral.target);
        read.iter().filter_map(|(name, cell)| Some((name.clone(), told(version(cell)?)))).collect()
    }

    /// The tables that models read from the other lake, or look for in vain, each with where it is read from.
    ///
    /// # Errors
    /// When a table cannot be looked at.
    pub async fn deferred_inputs<'n>(
        &self,
        models: impl IntoIterator<Item = &'n TableName>,
    ) -> Result<Vec<(TableName, Option<String>)>, Failure> {
        let compiled = &self.runtime().compiled.models;
        let inputs = models.into_iter().filter_map(|name| compiled.get(name)).flat_map(|model| &model.inputs);
        let read: BTreeSet<&TableName> = inputs.filter_map(Input::table).collect();
        let mut found = Vec::new();
        for name in read {
            let from = self.read_from(name).await?;
            if from.is_some() || self.readable(name).await?.is_none() {
                found.push((name.clone(), from));
            }
        }
        Ok(found)
    }

    /// A hint for a table that neither lake has; empty without another lake.
    pub(super) fn in_neither(&self, name: &TableName) -> String {
        let runtime = self.runtime();
        match &runtime.deferral {
            Some(deferral) if !deferral.own.contains(name) => format!(
                "; {name} is neither in {} nor in {}: build it in one of them, or select it",
                runtime.project.target.name, deferral.target
            ),
            _ => String::new(),
        }
    }
}

impl Node<'_> {
    /// What is done, with what is read of the other lake, or looked for in vain.
    pub(super) fn with_deferred(&self, world: &World, action: Action) -> Action {
        match action {
            Action::Skip(reason) if world.published.is_none() => Action::Skip(reason + &self.in_vain(world)),
            Action::Skip(reason) => Action::Skip(reason),
            Action::Full(reason) => Action::Full(reason + &self.told_deferred(world)),
            Action::Incremental(reason) => Action::Incremental(reason + &self.told_deferred(world)),
        }
    }

    /// The tables that are read from the other lake, in words after a reason.
    pub(super) fn told_deferred(&self, world: &World) -> String {
        let told = |(name, version): (&String, &String)| {
            let (version, target) = shown(version).strip_prefix("version ")?.split_once(" of ")?;
            Some(format!("; {name} read from {target} (version {version})"))
        };
        world.versions.iter().filter_map(told).collect::<String>() + &self.in_vain(world)
    }

    fn in_vain(&self, world: &World) -> String {
        let absent = |input: &Input| match input {
            Input::Table(name) if world.versions.get(name.as_str()).is_some_and(|version| version == "absent") => {
                Some(self.inputs.in_neither(name))
            }
            _ => None,
        };
        self.compiled.inputs.iter().filter_map(absent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_says_where_it_is_from() {
        let other = "version 12 of prod, table 6f1c";
        assert_eq!((shown(other), shown("version 12")), ("version 12 of prod", "version 12"));
        assert_eq!((origin(other), origin("version 12")), (Some("prod, table 6f1c"), None));
    }
}
