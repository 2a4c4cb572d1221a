//! Whether a target would make of a model what another one has made: then its table can be published there as it is.

use super::Between;
use super::translate::Translated;
use crate::bronze::{self, Listing, Manifest, manifest};
use crate::compile::{CompiledModel, Input};
use crate::names::TableName;
use crate::project::{Materialization, Model};
use crate::run::defer::shown;
use crate::run::intake::{Intake, manifest_of, takes_in};
use crate::run::materialize::{Failure, Node};
use crate::tables::{Published, TableState};
use crate::template::SourceRead;
use crate::words::plural;

/// The state of a table as it is here, or why it is not what this target would make.
type Agreed = Result<Translated, String>;

impl<'a> Between<'a> {
    /// Looks at all that decides the rows of a model.
    pub(super) async fn agreed(
        &mut self,
        model: &'a Model,
        source: &Published,
        state: &TableState,
        over: Option<&Published>,
    ) -> Result<Agreed, Failure> {
        let (inputs, other) = (self.inputs, self.other.target.clone());
        let runtime = inputs.runtime();
        let Some(compiled) = runtime.compiled.models.get(&model.name) else {
            return Ok(Err("it was not checked: something it reads is broken".to_owned()));
        };
        if let Some(why) = self.reads_refused(compiled) {
            return Ok(Err(why));
        }
        if state.definition != compiled.definition {
            let now = crate::compile::parts(&runtime.project, model, &runtime.compiled.models);
            let told = crate::compile::changed_parts(&state.parts, &now, &model.path);
            let told = if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) };
            let here = self.here();
            return Ok(Err(format!("its definition for {here} is not the one that {other} has built{told}")));
        }
        if let Some(function) = &compiled.volatile {
            return Ok(Err(format!("its rows depend on {function}: every build makes others")));
        }
        for input in &compiled.inputs {
            let why = match input {
                Input::Table(name) => self.other_rows(name, state).await?,
                Input::Source(name, SourceRead::Changes) if takes_in(&runtime.project, model, name) => {
                    self.other_files_taken(model, source, name, over).await?
                }
                Input::Source(name, _) => {
                    let now = inputs.source_state(name).await?.0;
                    let then = state.inputs.get(name.as_str());
                    (then != Some(&now)).then(|| format!("files of {name} are not those that {other} has read"))
                }
            };
            if let Some(why) = why {
                return Ok(Err(why));
            }
        }
        if compiled
            .content
            .as_ref()
            .is_some_and(|content| state.inputs.get(&model.path) != Some(&format!("content {content}")))
        {
            return Ok(Err(format!("{} is not the file that {other} has loaded", model.path)));
        }
        if let Some(why) = self.other_past(model, source, state, over).await? {
            return Ok(Err(why));
        }
        if let Some(why) = self.not_passed(model, compiled, state).await? {
            return Ok(Err(why));
        }
        Ok(Ok(self.translate(model, source, state).await?))
    }

    /// Nothing is promoted below what is not.
    fn reads_refused(&self, compiled: &CompiledModel) -> Option<String> {
        let refused = compiled.inputs.iter().find_map(|input| match input {
            Input::Table(name) => self.refused.contains(name).then_some(name),
            Input::Source(..) => None,
        });
        refused.map(|name| format!("`{name}`, which it reads, is refused"))
    }

    /// Why a table that it reads has other rows here.
    async fn other_rows(&mut self, name: &TableName, state: &TableState) -> Result<Option<String>, Failure> {
        let other = self.other.target.clone();
        let Some(read) = state.inputs.get(name.as_str()) else {
            return Ok(Some(format!("{other} has built it when it did not read {name}: build it there again")));
        };
        let now = self.as_it_was_read(name, read, state).await?;
        if self.as_here(name, &now).await?.is_some() {
            return Ok(None);
        }
        let there = self.there(name).await?.map(|there| format!("version {}", there.rows_since()));
        let is_newest = there.as_deref() == Some(now.as_str());
        Ok(Some(match there {
            Some(_) if is_newest => {
                format!("{name} has other rows in {} than in {other}: promote it, too", self.here())
            }
            there => {
                let there = there.unwrap_or_else(|| "gone".to_owned());
                let is = shown(read);
                format!("it has read {is} of {name}, which is {there} in {other} now: build it there again")
            }
        }))
    }

    /// Why this target would not take in the files of a source that the other one has.
    async fn other_files_taken(
        &self,
        model: &Model,
        source: &Published,
        of: &TableName,
        over: Option<&Published>,
    ) -> Result<Option<String>, Failure> {
        let (inputs, other) = (self.inputs, &self.other.target);
        let head = source.transaction(&manifest::app_id(&model.name, of)).await?;
        let store = self.other.lake.files_of(&model.name);
        let there = Manifest::read(&store, &model.name, of, head).await?;
        let here = match over {
            Some(_) => manifest_of(inputs, &model.name, of).await?,
            None => Manifest::default(),
        };
        let listing = match inputs.runtime().project.sources[of].ingestion.snapshot {
            true => inputs.deliveries(of).await?,
            false => inputs.listing(of).await?,
        };
        Ok(difference(of, (other, &there), (self.here(), &here), &listing))
    }

    /// Why its rows are not a function of what it reads, so that those of this target may not be replaced by others.
    async fn other_past(
        &mut self,
        model: &Model,
        source: &Published,
        state: &TableState,
        over: Option<&Published>,
    ) -> Result<Option<String>, Failure> {
        let (here, other) = (self.here().to_owned(), self.other.target.clone());
        for name in state.consumed.keys() {
            let Some(table) = self.model_named(name) else { continue };
            if self.consumed_here(model, source, state, &table).await?.is_none() {
                return Ok(Some(format!("the changes of {name} that it has read in {other} are not those of {here}")));
            }
        }
        let Some(over) = over else { return Ok(None) };
        if model.is_microbatch() {
            let known = over.last_known_state().await?.and_then(|state| state.intervals);
            let has = state.intervals.clone().unwrap_or_default();
            let lacks = known.iter().flat_map(|known| known.ranges()).any(|range| !has.covers(*range));
            return Ok(lacks.then(|| format!("{here} has batches that {other} has not: build them there first")));
        }
        let remembers = matches!(model.config.materialized, Materialization::Incremental | Materialization::Scd2);
        if !remembers || !state.sources.is_empty() {
            return Ok(None);
        }
        // Which rows it has depends on when it was built: nothing here may be lost.
        let mut goes_on = source.made_by().await?.1.is_some_and(|origin| origin.is(over));
        // What is here was taken from there, and that table has gone on since.
        if let (false, Some(version)) = (goes_on, over.copied_version(source)) {
            goes_on = source.goes_on_since(version).await?;
        }
        Ok((!goes_on).then(|| {
            format!("it keeps rows of earlier builds, and {other} does not go on from version {} of {here}: clone it there first", over.version())
        }))
    }

    /// The first test that would gate its publish and that its version has not passed.
    async fn not_passed(
        &mut self,
        model: &'a Model,
        compiled: &'a CompiledModel,
        state: &TableState,
    ) -> Result<Option<String>, Failure> {
        let inputs = self.inputs;
        let runtime = inputs.runtime();
        let step = self.schedule.steps.iter().find(|step| step.name == model.name);
        let tests = step.iter().flat_map(|step| &step.tests).map(|at| &runtime.compiled.tests[*at]).collect();
        let node = Node { inputs, model, compiled, tests, intake: Intake { inputs, model } };
        for test in node.gates() {
            if self.stamp_here(model, test, state).await?.is_none() {
                let other = &self.other.target;
                let others = test.reads.iter().filter(|name| **name != model.name);
                let others: Vec<&str> = others.map(TableName::as_str).collect();
                let beside = match others.is_empty() {
                    true => String::new(),
                    false => format!(", with the rows that {} has of {}", self.here(), others.join(", ")),
                };
                return Ok(Some(format!(
                    "version {} of {other} has not passed test {}{beside}: build it there, with --force where nothing changed",
                    self.there(&model.name).await?.map_or(0, |there| there.version()),
                    test.name
                )));
            }
        }
        Ok(None)
    }
}

/// What the manifests of two tables and the folder do not agree on.
fn difference(
    of: &TableName,
    (other, there): (&str, &Manifest),
    (own, here): (&str, &Manifest),
    listing: &Listing,
) -> Option<String> {
    if there.base().is_some_and(|base| base != listing.base) {
        let base = there.base().unwrap_or_default();
        return Some(format!("{other} has read {of} from `{base}`, and {own} would from `{}`", listing.base));
    }
    let told = |what: String, files: Vec<&str>| {
        let first = files.first()?;
        let verb = if files.len() == 1 { "is" } else { "are" };
        Some(format!("{} of {of} {verb} {what}, such as `{first}`", plural(files.len() as u64, "file")))
    };
    let waits = |file: &&bronze::BronzeFile| !there.files().get(&file.path).is_some_and(|entry| entry.is(file));
    let waiting = listing.files.iter().filter(waits).map(|file| file.path.as_str()).collect();
    let only_here = here.files().iter().filter(|(path, entry)| {
        let same = |known: &bronze::Entry| (known.size, known.modified) == (entry.size, entry.modified);
        !there.files().get(*path).is_some_and(same)
    });
    let only_here = only_here.map(|(path, _)| path.as_str()).collect();
    let only_there =
        there.files().keys().filter(|path| listing.get(path).is_none() && !here.files().contains_key(*path));
    let only_there = only_there.map(String::as_str).collect();
    told(format!("not taken in by {other} yet"), waiting)
        .or_else(|| told(format!("taken in by {own} and not by {other}"), only_here))
        .or_else(|| told(format!("taken in by {other}, and {own} would not find them"), only_there))
}
