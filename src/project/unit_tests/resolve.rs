//! From what a unit test names to what that is: the model, its inputs and what lies between, macros, fixtures.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rayon::prelude::*;

use super::read::{
    Declaration, DeclaredCase, DeclaredGiven, DeclaredRows, DeclaredRun, DeclaredSubject, Input, RowFormat,
};
use super::{
    ChainModel, Given, MacroCase, MacroCases, ModelCase, Rows, UnitRun, UnitSubject, UnitTest, csv, key, render,
};
use crate::diagnostics::{Diagnostic, Id, Severity, SourceFile, Span};
use crate::names::TableName;
use crate::project::yaml::Reader;
use crate::project::{DataTest, Model, files};
use crate::template::{KnownNames, Overrides, RefRead, SourceRead, Templates, ref_relation, source_relation};

/// What unit tests may name.
pub(in crate::project) struct World<'a> {
    pub(in crate::project) known: &'a Arc<KnownNames>,
    pub(in crate::project) models: &'a BTreeMap<TableName, Model>,
    pub(in crate::project) templates: &'a Templates,
    /// `tests/fixtures/`.
    pub(in crate::project) fixtures: &'a [Arc<SourceFile>],
    pub(in crate::project) data_tests: &'a [Arc<DataTest>],
}

/// Binds all unit tests to what they name; those that cannot be are reported and left out.
pub(in crate::project) fn finish(
    declared: Vec<Declaration>,
    world: &World<'_>,
    reader: &mut Reader<'_>,
) -> Vec<Arc<UnitTest>> {
    if declared.is_empty() {
        return Vec::new();
    }
    let mut names: HashMap<String, Span> =
        world.data_tests.iter().map(|test| (test.name.clone(), (*test.span).clone())).collect();
    let mut unique = Vec::with_capacity(declared.len());
    for declaration in declared {
        if let Some(first) = names.insert(declaration.name.clone(), declaration.span.clone()) {
            let message = format!("two tests are called `{}`", declaration.name);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(declaration.span.clone());
            let diagnostic = diagnostic.related(first, "the other one");
            reader.diagnostics.push(diagnostic.help("a test's name is unique in the project: `--select` goes by it"));
            continue;
        }
        unique.push(declaration);
    }
    let bound: Vec<_> = unique
        .into_par_iter()
        .filter(|declaration| declaration.config.enabled)
        .map(|declaration| Binder { world, problems: Vec::new() }.bind(declaration))
        .collect();
    let mut tests = Vec::with_capacity(bound.len());
    for (test, problems) in bound {
        reader.diagnostics.extend(problems);
        tests.extend(test.map(Arc::new));
    }
    tests
}

struct Binder<'a> {
    world: &'a World<'a>,
    problems: Vec<Diagnostic>,
}

impl Binder<'_> {
    fn bind(mut self, declared: Declaration) -> (Option<UnitTest>, Vec<Diagnostic>) {
        let Declaration { name, span, description, config, tolerance, overrides, incremental, overridden, subject } =
            declared;
        self.check_overridden(&overridden);
        let overrides = Arc::new(overrides);
        let subject = match subject {
            DeclaredSubject::Model { model, span, runs, of_table, expect } => {
                let case = Case { span, runs, of_table, expect, incremental, overrides: Arc::clone(&overrides) };
                self.model_case(&model, case).map(|case| UnitSubject::Model(Box::new(case)))
            }
            DeclaredSubject::Macro { name, span, cases } => {
                self.macro_cases(name, &span, cases, &overrides).map(UnitSubject::Macro)
            }
        };
        let subject = subject.filter(|_| self.problems.iter().all(|d| d.severity != Severity::Error));
        let test = subject.map(|subject| {
            let key = key::of(&overrides, &tolerance, &subject);
            UnitTest { name, span, description, config, tolerance, overrides, subject, key }
        });
        (test, self.problems)
    }

    fn check_overridden(&mut self, macros: &[(String, Span)]) {
        let templates = self.world.templates;
        for (name, span) in macros.iter().filter(|(name, _)| !templates.has_macro(name)) {
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, format!("there is no macro `{name}` to override"));
            let diagnostic = diagnostic.at(span.clone());
            self.problems.push(match templates.near_macro(name) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => {
                    diagnostic.help("macros stand in macros/*.sql; `is_incremental` and `invocation_id` are known too")
                }
            });
        }
    }

    fn model_case(&mut self, name: &str, case: Case) -> Option<ModelCase> {
        let world = self.world;
        let Some(full) = world.known.model(name) else {
            let diagnostic = Diagnostic::error(Id::UnknownRef, format!("model `{name}` does not exist"));
            let known = world.known.models.keys().copied();
            self.problems.push(diagnostic.at(case.span.clone()).suggest(name, known));
            return None;
        };
        // A model that is disabled has no tests, and the mistakes of one that is wrong have been told.
        let model = world.models.get(full)?;
        if model.seed.is_some() {
            let message = format!("`{full}` is a seed: it has no SQL to test");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(case.span.clone());
            self.problems.push(diagnostic.help("test a model that reads it"));
            return None;
        }
        let runs: Vec<UnitRun> = case.runs.into_iter().filter_map(|run| self.run(run, full)).collect();
        let expect = self.rows(case.expect)?;
        if case.of_table && !model.is_stored() {
            let message =
                format!("`{full}` is a `{}`: it has no table that runs could fill", model.config.materialized.name());
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(case.span.clone());
            self.problems.push(diagnostic.help("write `given` in place of `runs`"));
        }
        let is_timed = case.overrides.now.is_some() || runs.iter().all(|run| run.now.is_some());
        if case.of_table && model.is_microbatch() && !is_timed {
            let message = format!("`{full}` runs in batches up to now, and this test does not say when that is");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(case.span.clone());
            self.problems.push(diagnostic.help("give each run its clock: `- now: 2024-01-31T10:00:00Z`"));
        }
        let given = runs.iter().flat_map(|run| &run.given).map(|given| given.input.clone()).collect();
        let mut walk = Walk {
            world,
            target: full,
            given,
            overrides: &case.overrides,
            incremental: case.incremental,
            of_table: case.of_table,
            chain: Vec::new(),
            seen: BTreeSet::new(),
            reached: BTreeSet::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            is_broken: false,
        };
        walk.visit(full);
        let Walk { chain, reached, missing, problems, is_broken, .. } = walk;
        self.problems.extend(problems);
        if is_broken {
            return None;
        }
        self.check_given(&runs, &reached, (full, case.of_table));
        // An input whose name is wrong is missing, too: it is told once.
        if self.problems.is_empty() {
            self.check_missing(&missing, full, &case.span);
        }
        let (model, model_span, of_table, incremental) = (full.clone(), case.span, case.of_table, case.incremental);
        Some(ModelCase { model, model_span, incremental, runs, of_table, expect, chain })
    }

    fn run(&mut self, run: DeclaredRun, model: &TableName) -> Option<UnitRun> {
        let mut given: Vec<Given> = Vec::new();
        for declared in run.given {
            let Some(found) = self.given(declared, model) else { continue };
            if let Some(first) = given.iter().find(|first| first.input == found.input) {
                let diagnostic = Diagnostic::error(Id::InvalidUnitTest, format!("`{}` is given twice", found.input));
                let diagnostic = diagnostic.at(found.span).related(first.span.clone(), "first here");
                self.problems.push(diagnostic.help("put all of its rows into one of them"));
                continue;
            }
            given.push(found);
        }
        Some(UnitRun { given, now: run.now })
    }

    fn given(&mut self, declared: DeclaredGiven, model: &TableName) -> Option<Given> {
        let known = self.world.known;
        let input = match &declared.input {
            Input::This => model.clone(),
            Input::Ref(name) => match known.model(name) {
                Some(full) => full.clone(),
                None => {
                    let diagnostic = Diagnostic::error(Id::UnknownRef, format!("model `{name}` does not exist"));
                    let names = known.models.keys().copied();
                    self.problems.push(diagnostic.at(declared.span).suggest(name, names));
                    return None;
                }
            },
            Input::Source(source, table) => {
                let full = TableName::new(source, table);
                if !known.sources.contains(&full) {
                    let diagnostic = Diagnostic::error(Id::UnknownSource, format!("source `{full}` is not declared"));
                    let names = known.sources.iter().map(TableName::as_str);
                    self.problems.push(diagnostic.at(declared.span).suggest(full.as_str(), names));
                    return None;
                }
                full
            }
        };
        let rows = self.rows(declared.rows)?;
        Some(Given { input, span: declared.span, rows })
    }

    fn rows(&mut self, declared: DeclaredRows) -> Option<Rows> {
        let (name, span, format) = match declared {
            DeclaredRows::Here(rows) => return Some(rows),
            DeclaredRows::Fixture { name, span, format } => (name, span, format),
        };
        let stem = name
            .rsplit_once('.')
            .filter(|(_, ending)| matches!(*ending, "csv" | "sql"))
            .map_or(&*name, |(stem, _)| stem);
        let is = |file: &&Arc<SourceFile>| {
            let (path, ending) = file.path.rsplit_once('.').unwrap_or((file.path.as_str(), ""));
            let fits = match format {
                Some(RowFormat::Sql) => ending == "sql",
                Some(_) => ending == "csv",
                None => true,
            };
            fits && path.rsplit('/').next() == Some(stem)
        };
        let Some(file) = self.world.fixtures.iter().find(is) else {
            let ending = if format == Some(RowFormat::Sql) { "sql" } else { "csv" };
            let message = format!("there is no fixture tests/fixtures/{stem}.{ending}");
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(span);
            let known: Vec<&str> = self
                .world
                .fixtures
                .iter()
                .filter_map(|file| Some(file.path.rsplit('/').next()?.rsplit_once('.')?.0))
                .collect();
            self.problems.push(diagnostic.suggest(stem, known));
            return None;
        };
        if let Err(error) = file.fetch() {
            self.problems.push(files::unreadable(file, &error));
            return None;
        }
        Some(match file.path.ends_with(".sql") {
            true => Rows::Query { sql: file.text().to_owned(), span: Span::file_start(file) },
            false => Rows::Table(csv::table(file.text(), file, csv::Place::Lines(0), &mut self.problems)),
        })
    }

    /// An input that no model of the test reads has no part in it.
    fn check_given(&mut self, runs: &[UnitRun], reached: &BTreeSet<TableName>, (model, of_table): (&TableName, bool)) {
        for given in runs.iter().flat_map(|run| &run.given).filter(|given| !reached.contains(&given.input)) {
            let name = &given.input;
            let diagnostic = match name == model {
                true if of_table => {
                    let message = "`this` is what the runs make of it: the table starts without rows";
                    let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(given.span.clone());
                    diagnostic.help("leave it out, and give what makes its first rows in a run before")
                }
                true => {
                    let message = format!("`{model}` does not read `this` here");
                    let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(given.span.clone());
                    diagnostic.help("it may in an incremental run: `overrides: { macros: { is_incremental: true } }`")
                }
                false => {
                    let message =
                        format!("`{model}` does not read `{name}`, nor do the models between what is given and it");
                    let diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(given.span.clone());
                    diagnostic.suggest(name.as_str(), reached.iter().map(TableName::as_str))
                }
            };
            self.problems.push(diagnostic);
        }
    }

    /// A source that is read and not given has no rows that a test could know.
    fn check_missing(&mut self, missing: &[(TableName, TableName)], model: &TableName, span: &Span) {
        for (input, reader) in missing {
            let (message, help) = match input == model {
                true => (
                    format!("`{model}` reads its own table in an incremental run, and that is not given"),
                    "add `- input: this` with the rows that are there before; `rows: []` for none".to_owned(),
                ),
                false => (
                    format!("`{reader}` reads `{input}`, which is not given"),
                    format!(
                        "add `- input: source('{}', '{}')` with rows; `rows: []` for none",
                        input.schema, input.table
                    ),
                ),
            };
            let mut diagnostic = Diagnostic::error(Id::InvalidUnitTest, message).at(span.clone()).help(help);
            if reader != model {
                let help = format!("or give `ref('{}')`, so that it does not run for real", reader.table);
                diagnostic = diagnostic.help(help);
            }
            self.problems.push(diagnostic);
        }
    }

    fn macro_cases(
        &mut self,
        name: String,
        span: &Span,
        cases: Vec<DeclaredCase>,
        overrides: &Arc<Overrides>,
    ) -> Option<MacroCases> {
        let World { templates, known, .. } = self.world;
        if !templates.has_macro(&name) {
            let diagnostic = Diagnostic::error(Id::InvalidUnitTest, format!("there is no macro `{name}`"));
            let diagnostic = diagnostic.at(span.clone());
            self.problems.push(match templates.near_macro(&name) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help("macros stand in macros/*.sql"),
            });
            return None;
        }
        let mut found = Vec::with_capacity(cases.len());
        for case in cases {
            match render::call(&name, &case.template, overrides, templates, known) {
                Ok(sql) => {
                    let DeclaredCase { span, arguments, expect, .. } = case;
                    found.push(MacroCase { span, arguments, sql, expect });
                }
                Err(mut diagnostic) => {
                    // The call itself stands in no file.
                    diagnostic.related.retain(|(span, _)| span.file.path != render::CALL);
                    let in_call = diagnostic.span.as_ref().is_none_or(|span| span.file.path == render::CALL);
                    if in_call {
                        diagnostic.span = Some(case.span);
                    } else {
                        diagnostic.related.push((case.span, "called here".to_owned()));
                    }
                    self.problems.push(*diagnostic);
                }
            }
        }
        Some(MacroCases { name, cases: found })
    }
}

/// A declared test of a model, apart from its name.
struct Case {
    span: Span,
    runs: Vec<DeclaredRun>,
    of_table: bool,
    expect: DeclaredRows,
    incremental: bool,
    overrides: Arc<Overrides>,
}

/// What is looked at on the way from a model up to what is given.
struct Walk<'a> {
    world: &'a World<'a>,
    target: &'a TableName,
    given: BTreeSet<TableName>,
    overrides: &'a Arc<Overrides>,
    incremental: bool,
    of_table: bool,
    chain: Vec<ChainModel>,
    seen: BTreeSet<TableName>,
    /// Everything that a model of the chain reads.
    reached: BTreeSet<TableName>,
    /// Inputs without rows, each with who reads it.
    missing: Vec<(TableName, TableName)>,
    problems: Vec<Diagnostic>,
    /// Something that is read is disabled or wrong, which has been told.
    is_broken: bool,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &TableName) {
        if !self.seen.insert(name.clone()) {
            return;
        }
        let world: &'a World<'a> = self.world;
        let Some(model) = world.models.get(name) else {
            self.is_broken = true;
            return;
        };
        let mut own = None;
        if !self.overrides.is_empty() && model.seed.is_none() {
            match render::model(model, self.overrides, world.templates, world.known) {
                Ok(model) => own = Some(Box::new(model)),
                Err(failure) => {
                    self.problems.push(failure.diagnostic);
                    self.is_broken = true;
                    return;
                }
            }
        }
        for input in self.reads(own.as_deref().unwrap_or(model)) {
            self.reached.insert(input.clone());
            if self.given.contains(&input) {
                continue;
            }
            if world.models.contains_key(&input) && input != *name {
                self.visit(&input);
            } else if world.known.has_model(&input) && input != *name {
                self.is_broken = true;
            } else {
                self.missing.push((input, name.clone()));
            }
        }
        self.chain.push(ChainModel { name: name.clone(), own });
    }

    /// What the SQL of a model names: of its two variants the one that runs, or both where there are several runs.
    fn reads(&self, model: &Model) -> Vec<TableName> {
        let is_target = model.name == *self.target;
        let rendered = model.rendered(self.incremental && is_target);
        // Without a second variant all that is recorded is read.
        let has_variants = model.incremental.is_some() && !(self.of_table && is_target);
        let names = |relation: &TableName| !has_variants || rendered.sql.contains(&relation.quoted());
        let is_read = |name: &TableName| {
            let whole = [ref_relation(name, RefRead::All), ref_relation(name, RefRead::Changes)];
            names(name) || whole.iter().any(names)
        };
        let refs = model.refs.iter().filter(|name| is_read(name)).cloned();
        let is_source_read = |name: &TableName, read: &SourceRead| names(&source_relation(name, *read));
        let sources = model.sources.iter().filter(|(name, read)| is_source_read(name, read));
        let mut all: Vec<TableName> = refs.chain(sources.map(|(name, _)| name.clone())).collect();
        if self.incremental && is_target && rendered.sql.contains(&model.name.quoted()) {
            all.push(model.name.clone());
        }
        all
    }
}
