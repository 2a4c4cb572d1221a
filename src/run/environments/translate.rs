//! What a commit of one lake says, as it is in another.

use std::collections::BTreeMap;

use super::Between;
use crate::bronze::manifest;
use crate::compile::{CompiledTest, Input};
use crate::names::TableName;
use crate::project::Model;
use crate::run::commit::{Stamp, StampPart, parts_of_stamp};
use crate::run::defer::{origin, version_of_other};
use crate::run::materialize::Failure;
use crate::tables::{Published, TableState};

/// A state as it is in the other lake.
pub(super) struct Translated {
    pub(super) state: TableState,
    /// Versions of tables whose changes it has read.
    pub(super) transactions: Vec<(String, i64)>,
}

impl<'a> Between<'a> {
    /// The state of a table as it is here. What has no counterpart here stays what it is there.
    pub(super) async fn translate(
        &mut self,
        model: &Model,
        source: &Published,
        state: &TableState,
    ) -> Result<Translated, Failure> {
        let mut inputs = BTreeMap::new();
        for (name, version) in &state.inputs {
            inputs.insert(name.clone(), self.input_here(name, version, state).await?);
        }
        let mut tests = state.tests.clone();
        for test in self.tests_in(state) {
            if let Some(stamp) = self.stamp_here(model, test, state).await? {
                tests.insert(test.name.clone(), stamp);
            }
        }
        let (mut consumed, mut transactions) = (state.consumed.clone(), Vec::new());
        for name in state.consumed.keys() {
            let Some(other) = self.model_named(name) else { continue };
            if let Some((id, version)) = self.consumed_here(model, source, state, &other).await? {
                consumed.insert(name.clone(), id);
                transactions.push((manifest::app_id(&model.name, &other), version));
            }
        }
        Ok(Translated { state: TableState { inputs, tests, consumed, ..state.clone() }, transactions })
    }

    /// The tests of the project that a state says were passed.
    fn tests_in(&self, state: &TableState) -> Vec<&'a CompiledTest> {
        let tests = &self.inputs.runtime().compiled.tests;
        tests.iter().filter(|test| state.tests.contains_key(&test.name)).collect()
    }

    async fn input_here(&mut self, name: &str, version: &str, state: &TableState) -> Result<String, Failure> {
        let Some(table) = self.model_named(name) else { return Ok(version.to_owned()) };
        let now = self.as_it_was_read(&table, version, state).await?;
        if let Some(here) = self.as_here(&table, &now).await? {
            return Ok(here);
        }
        let is_of_there = version.starts_with("version ") && origin(version).is_none();
        let id = self.there(&table).await?.and_then(|there| there.table_id());
        Ok(match id.filter(|_| is_of_there) {
            Some(id) => format!("{version} of {}, table {id}", self.other.target),
            None => version.to_owned(),
        })
    }

    /// The newest version there of what was read, if the columns that were read hold what they held; else the one that was.
    pub(super) async fn as_it_was_read(
        &mut self,
        table: &TableName,
        version: &str,
        state: &TableState,
    ) -> Result<String, Failure> {
        let there = self.there(table).await?.filter(|_| origin(version).is_none() && version != "absent");
        let read = state.read.get(table.as_str());
        let holds = |there: &Published| {
            let known = there.state.as_ref().map(|state| &state.projections);
            read.is_some_and(|read| known.and_then(|known| known.get(&read.of)) == Some(&read.content))
        };
        Ok(match there.filter(holds) {
            Some(there) => format!("version {}", there.rows_since()),
            None => version.to_owned(),
        })
    }

    /// What commits here call the version that one there has read of a table; `None` if no version here has its rows.
    pub(super) async fn as_here(&mut self, table: &TableName, version: &str) -> Result<Option<String>, Failure> {
        let here = self.inputs.published(table).await?;
        let taken = self.taken.get(table).map(|taken| taken.rows);
        if version == "absent" {
            return Ok((here.is_none() && taken.is_none()).then(|| version.to_owned()));
        }
        let named = |rows: u64| format!("version {rows}");
        if origin(version).is_some() {
            // It was read from here.
            let same = here.filter(|here| taken.is_none() && version_of_other(self.here(), here) == version);
            return Ok(same.map(|here| named(here.rows_since())));
        }
        let Some(there) = self.there(table).await? else { return Ok(None) };
        if version != named(there.rows_since()) {
            return Ok(None);
        }
        let same = here.filter(|here| here.has_rows_of(&there)).map(|here| here.rows_since());
        Ok(taken.or(same).map(named))
    }

    /// What a pass of a test is called here; `None` if it was not passed as things are there, or if they are not so here.
    pub(super) async fn stamp_here(
        &mut self,
        model: &Model,
        test: &CompiledTest,
        state: &TableState,
    ) -> Result<Option<String>, Failure> {
        let Some(known) = state.tests.get(&test.name) else { return Ok(None) };
        let (mut there, mut here) = (Stamp::new(test), Stamp::new(test));
        for part in parts_of_stamp(self.inputs.runtime(), test, &model.name) {
            match part {
                StampPart::View(name, definition) => {
                    there.view(&name, &definition);
                    here.view(&name, &definition);
                }
                StampPart::Input(Input::Table(name)) => {
                    let version = self.there(&name).await?.map(|there| format!("version {}", there.rows_since()));
                    // It may have been read from here.
                    let deferred = self.inputs.published(&name).await?;
                    let deferred = deferred.map(|here| version_of_other(self.here(), &here));
                    let is_known = |version: &String| known.contains(&Stamp::of_table(&name, Some(version)));
                    let version = deferred.filter(is_known).or(version);
                    let same = self.as_here(&name, version.as_deref().unwrap_or("absent")).await?;
                    let Some(same) = same else { return Ok(None) };
                    there.table(&name, version.as_deref());
                    here.table(&name, Some(same.as_str()).filter(|same| *same != "absent"));
                }
                StampPart::Input(Input::Source(name, _)) => {
                    let files = self.inputs.source_state(&name).await?.0;
                    there.source(&name, &files);
                    here.source(&name, &files);
                }
            }
        }
        Ok((*known == there.0).then_some(here.0))
    }

    /// The table here, and its version, whose changes are read from now on; `None` if there is none with the rows that were
    /// read last.
    pub(super) async fn consumed_here(
        &mut self,
        model: &Model,
        source: &Published,
        state: &TableState,
        other: &TableName,
    ) -> Result<Option<(String, i64)>, Failure> {
        let head = source.transaction(&manifest::app_id(&model.name, other)).await?;
        let Some(there) = self.there(other).await? else { return Ok(None) };
        let is_newest = head == i64::try_from(there.version()).ok();
        if !is_newest || state.consumed.get(other.as_str()) != there.table_id().as_ref() {
            return Ok(None);
        }
        let version = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
        if let Some(taken) = self.taken.get(other) {
            return Ok(taken.table_id.clone().map(|id| (id, version(taken.version))));
        }
        let here = self.inputs.published(other).await?.filter(|here| here.has_rows_of(&there));
        Ok(here.and_then(|here| Some((here.table_id()?, version(here.version())))))
    }
}
