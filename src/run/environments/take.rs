//! One table on its way: its files, its state, its quarantines.

use std::collections::BTreeSet;

use super::{Between, Outcome, Ready, Taken, Taking};
use crate::bronze::{self, manifest, quarantine as notes};
use crate::names::TableName;
use crate::project::{Model, OnNewColumn};
use crate::run::materialize::Failure;
use crate::run::{left_out, quarantine};
use crate::tables::{self, Commit, Owner, Prepared, Published, TableState};

impl<'a> Between<'a> {
    /// Finds out what becomes of a table, and puts its files in place.
    pub(super) async fn prepare(&mut self, model: &'a Model) -> Result<Outcome, Failure> {
        let name = &model.name;
        let target = self.other.target.clone();
        let Some(source) = self.there(name).await? else {
            return Ok(match self.wanted.taking {
                Taking::Clone => Outcome::Same(format!("it has no table in {target}")),
                Taking::Promote => Outcome::Refused(format!("it has no table in {target}: build it there first")),
            });
        };
        let Some(state) = source.state.clone() else {
            let version = source.version();
            return Ok(Outcome::Refused(format!(
                "version {version} of {target} was not written by lake: build it there first"
            )));
        };
        let over = self.inputs.published(name).await?;
        let is_same = |over: &&Published| match self.wanted.taking {
            Taking::Clone => over.is_copy_of(&source),
            Taking::Promote => over.has_rows_of(&source),
        };
        if let Some(over) = over.as_ref().filter(is_same)
            && self.is_as_translated(model, &source, over).await?
        {
            return Ok(Outcome::Same(format!("its rows are those of version {} of {target}", source.rows_since())));
        }
        let owner = self.inputs.runtime().owner();
        if let Some(why) = self.not_ours(over.as_ref(), &owner).await? {
            return Ok(Outcome::Refused(why));
        }
        let translated = match self.wanted.taking {
            Taking::Clone => self.translate(model, &source, &state).await?,
            Taking::Promote => match self.agreed(model, &source, &state, over.as_ref()).await? {
                Ok(translated) => translated,
                Err(why) => return Ok(Outcome::Refused(why)),
            },
        };
        let same_rows = over.as_ref().filter(|over| over.has_rows_of(&source));
        let version = over.as_ref().map_or(0, |over| over.version() + 1);
        let rows = same_rows.map_or(version, Published::rows_since);
        let table = source.table_id().unwrap_or_default();
        let origin = tables::Origin { target: target.clone(), table, version: source.rows_since(), at: rows };
        let state = TableState {
            owner: Some(owner),
            origin: Some(origin),
            invocation_id: self.inputs.runtime().options.invocation_id.clone(),
            ..translated.state
        };
        if self.wanted.dry_run {
            let table_id = over.as_ref().and_then(Published::table_id);
            self.taken.insert(name.clone(), Taken { rows, version, table_id });
            return Ok(Outcome::Foreseen(Box::new(source)));
        }
        let commit = Commit::new(state, translated.transactions);
        let ready = self.ready(model, source, over.as_ref(), &commit).await?;
        let table_id = over.as_ref().map_or_else(|| ready.prepared.table_id(), Published::table_id);
        self.taken.insert(name.clone(), Taken { rows, version, table_id });
        Ok(Outcome::Ready(Box::new(ready)))
    }

    /// Whether a copy says of what it has read what it would say now.
    async fn is_as_translated(&mut self, model: &Model, source: &Published, over: &Published) -> Result<bool, Failure> {
        let (Some(there), Some(here)) = (&source.state, &over.state) else { return Ok(false) };
        let translated = self.translate(model, source, there).await?.state;
        Ok(translated.inputs == here.inputs
            && translated.tests == here.tests
            && translated.definition == here.definition)
    }

    /// Why a table of this lake is not to be replaced.
    async fn not_ours(&self, over: Option<&Published>, owner: &Owner) -> Result<Option<String>, Failure> {
        let Some(over) = over else { return Ok(None) };
        let found = over.made_by().await?.0;
        Ok(match found {
            Some(found) if found == *owner => None,
            found => Some(format!(
                "{}; drop that table, or give the targets roots of their own",
                whose(found.as_ref(), self.here())
            )),
        })
    }

    /// Brings the files and prepares the commit.
    async fn ready(
        &self,
        model: &Model,
        source: Published,
        over: Option<&Published>,
        commit: &Commit,
    ) -> Result<Ready, Failure> {
        let (lake, other) = (&self.inputs.runtime().lake, &self.other.lake);
        let project = &self.inputs.runtime().project;
        for source in quarantine::sources_of(self.inputs, model) {
            if project.sources[&source].ingestion.on_new_column == OnNewColumn::Add {
                bronze::carry_columns(&other.files(), &lake.files(), &source).await?;
            }
        }
        let arrived = tables::bring((other, &source), (lake, over), self.apps(model, &source)).await?;
        let prepared = Prepared::taking_over(lake, &source, over, &arrived, commit).await?;
        Ok(Ready { prepared, arrived, source })
    }

    /// The applications whose heads a table may have.
    fn apps(&self, model: &Model, source: &Published) -> BTreeSet<String> {
        let name = &model.name;
        let mut apps = BTreeSet::from([tables::tombstones_of(name), left_out::app_id(name)]);
        for source in quarantine::sources_of(self.inputs, model) {
            apps.extend([manifest::app_id(name, &source), notes::app_id(name, &source)]);
        }
        let consumed = source.state.iter().flat_map(|state| state.consumed.keys());
        apps.extend(consumed.filter_map(|other| self.model_named(other)).map(|other| manifest::app_id(name, &other)));
        apps
    }

    /// A model by its name as commits have it.
    pub(super) fn model_named(&self, name: &str) -> Option<TableName> {
        let (schema, table) = name.split_once('.')?;
        let name = TableName::new(schema, table);
        self.inputs.runtime().project.models.contains_key(&name).then_some(name)
    }

    /// Makes the rows that a table has left out those of the other lake, before the commit that makes it what it is there:
    /// after a crash in between, the next build makes them what they were.
    pub(super) async fn bring_quarantines(&self, source: &Published) -> Result<(), Failure> {
        let model = &self.inputs.runtime().project.models[&source.name];
        for of in quarantine::sources_of(self.inputs, model) {
            quarantine::bring(self.inputs, &self.other.lake, (&model.name, &of)).await?;
        }
        left_out::bring(self.inputs, &self.other.lake, &model.name).await
    }
}

/// Who made a table, in words, if it is not the environment that asks.
pub(super) fn whose(owner: Option<&Owner>, target: &str) -> String {
    match owner {
        Some(owner) => {
            format!("its table in {target} was made by target `{}` of project `{}`", owner.target, owner.project)
        }
        None => format!("its table in {target} does not say who made it: another program, or an earlier lake"),
    }
}
