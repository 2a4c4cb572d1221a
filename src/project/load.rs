//! [`load`]: from the text of all files to a [`Project`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::data_tests::{DataTest, TestKind};
use super::documents::{self, Documents};
use super::files::{self, ProjectFiles};
use super::history;
use super::models::{self, Properties};
use super::openlineage::OpenLineageSettings;
use super::settings::{ConfigTree, Settings};
use super::targets::{self, Targets};
use super::test_lists;
use super::yaml::{self, Reader};
use super::{
    Column, Export, Model, Project, Source, Target, contracts, custom_tests, exports, exposures, groups, notifications,
    seeds, selectors, settings, sources, unit_tests,
};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, SourceFile, Span};
use crate::memo::{Key, KeyMaker, Memo};
use crate::names::{TableName, nearest};
use crate::template::{self, KnownNames, MacroTexts, Recording, Templates, Witnesses};

/// What the command line says about loading.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--target`.
    pub target: Option<String>,
    /// `--vars`, over those of `project.yml`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// The process environment, for `env_var()`.
    pub environment: BTreeMap<String, String>,
    /// When this run started.
    pub run_started_at: chrono::DateTime<chrono::Utc>,
    /// The id of this run.
    pub invocation_id: String,
}

/// What every part of loading reads.
pub(super) struct Loading<'a> {
    pub(super) memo: &'a Memo,
    /// What every product depends on.
    pub(super) key: Key,
    pub(super) templates: &'a Templates,
    pub(super) docs: &'a BTreeMap<String, String>,
    /// Settings of models in `project.yml`.
    pub(super) tree: &'a ConfigTree,
}

/// A product of a template, as it is kept between runs.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept<T> {
    pub(super) product: T,
    pub(super) warnings: Vec<Diagnostic>,
    witnesses: Witnesses,
    /// Models and sources that it names.
    refs: Vec<TableName>,
    sources: Vec<TableName>,
}

impl Loading<'_> {
    /// The key of what a file becomes; `None` if the file cannot be told from what it may become at once.
    pub(super) fn key_of<T: Serialize>(&self, kind: &str, file: &SourceFile, beside: &T) -> Option<Key> {
        file.stamp.map(|stamp| KeyMaker::new(kind).key(self.key).key(stamp).value(beside).finish())
    }

    /// What an earlier run made, if all that it saw is as it was.
    pub(super) fn kept<T: DeserializeOwned>(&self, key: Option<Key>, known: &KnownNames) -> Option<Kept<T>> {
        let kept: Kept<T> = self.memo.get(key?)?;
        let names_hold = kept.refs.iter().all(|name| known.has_model(name))
            && kept.sources.iter().all(|name| known.sources.contains(name));
        (names_hold && self.templates.still_hold(known, &kept.witnesses)).then_some(kept)
    }

    /// Keeps a product with what its renders saw, unless it shows the clock.
    pub(super) fn keep<T: Serialize>(
        &self,
        key: Option<Key>,
        product: T,
        warnings: Vec<Diagnostic>,
        seen: &[Recording],
        witnesses: Witnesses,
    ) -> (T, Vec<Diagnostic>) {
        let mut kept = Kept { product, warnings, witnesses, refs: Vec::new(), sources: Vec::new() };
        if let Some(key) = key.filter(|_| seen.iter().all(|recording| !recording.asked_clock)) {
            kept.refs = seen.iter().flat_map(|recording| recording.refs.iter().cloned()).collect();
            let sources = seen.iter().flat_map(|recording| &recording.sources);
            kept.sources = sources.map(|(name, _)| name.clone()).collect();
            self.memo.put(key, &kept);
        }
        (kept.product, kept.warnings)
    }
}

/// Reads the texts of the files that every run needs.
fn fetch_small(files: &ProjectFiles, diagnostics: &mut Diagnostics) {
    let needed = [&files.project].into_iter().chain(&files.selectors).chain(&files.macros).chain(&files.docs);
    for file in needed.chain(files.tests.iter().filter(|file| is_generic(file))) {
        if let Err(error) = file.fetch() {
            diagnostics.push(files::unreadable(file, &error));
        }
    }
}

fn read_settings(files: &ProjectFiles, diagnostics: &mut Diagnostics) -> Option<Settings> {
    let Some(root) = yaml::parse(&files.project, diagnostics) else {
        if !diagnostics.has_errors() {
            let diagnostic = Diagnostic::error(Id::MissingKey, "project.yml is empty");
            diagnostics.push(diagnostic.at(Span::file_start(&files.project)).help("start with `name:` and `targets:`"));
        }
        return None;
    };
    settings::read(&root, &mut Reader { diagnostics })
}

/// Loads a project. `None` if there is too little of it to go on; every mistake is in the sink.
pub fn load(
    files: &ProjectFiles,
    options: &LoadOptions,
    memo: &Memo,
    diagnostics: &mut Diagnostics,
) -> Option<Project> {
    fetch_small(files, diagnostics);
    let settings = read_settings(files, diagnostics)?;
    let target = choose_target(&settings, options, files, diagnostics)?;
    let mut problems = Vec::new();
    let macros: Vec<_> =
        files.macros.iter().chain(files.tests.iter().filter(|file| is_generic(file))).cloned().collect();
    let templates = Templates::new(template_settings(&settings, &target, options), &macros, &mut problems);
    let docs = template::read_docs(&files.docs, &mut problems);
    diagnostics.extend(problems);

    let key = KeyMaker::new("loading").key(templates.key()).text(&format!("{:?}", settings.models)).finish();
    let loading = Loading { memo, key, templates: &templates, docs: &docs, tree: &settings.models };
    history::refuse_snapshots(&files.snapshots, diagnostics);
    let mut documents = documents::read(files, &loading, diagnostics);
    let mut reader = Reader { diagnostics };
    let mut data_tests = Vec::new();
    let mut declared = load_sources(&documents, &templates, &mut data_tests, &mut reader);
    declared.values_mut().for_each(|source| source.storage = Arc::clone(&target.storage));
    let mut named = name_models(files, &settings, &mut reader);
    let mut known = KnownNames {
        models: named.iter().map(|(name, _)| (name.table, name.clone())).collect(),
        sources: declared.keys().cloned().collect(),
        docs: docs.clone(),
        ..KnownNames::default()
    };
    let (properties, tests) = documents.properties(&known, &loading, reader.diagnostics);
    data_tests.extend(tests);
    know_columns(&mut known, &declared, &properties, &data_tests);
    let known = Arc::new(known);
    seeds::check_lists(&properties, &named, &mut reader);
    let seeds: Vec<_> = named.extract_if(.., |(_, file)| seeds::is_seed(file)).collect();
    for (tree, named, top) in [(&settings.models, &named, "models"), (&settings.seeds, &seeds, "seeds")] {
        check_config_folders(tree, named, top, &files.project, &mut reader);
    }
    let seeds = seeds.iter().map(|(name, file)| seeds::load(name, file, properties.get(name), &settings.seeds));
    let seeds = seeds.map(|seed| (Some(seed), Vec::new())).collect();
    let models = load_models(&named, seeds, &properties, &loading, &known, &mut reader);
    data_tests.extend(contracts::tests(&models, &mut reader));
    load_singular_tests(files, &loading, &known, &mut data_tests, &mut reader);
    let (mut exposures, mut groups) = (BTreeMap::new(), BTreeMap::new());
    let all = || documents.read();
    all().flat_map(|document| &document.exposures).for_each(|list| exposures::read(list, &mut exposures, &mut reader));
    all().flat_map(|document| &document.groups).for_each(|list| groups::read(list, &mut groups, &mut reader));
    exposures::resolve(&mut exposures, &known, &models, &declared, &mut reader);
    groups::check(&groups, &models, &exposures, &mut reader);
    let selectors = selectors::load(files.selectors.as_ref(), &templates, &mut reader);
    let data_tests = finish_tests(data_tests, &loading, &known, &models, &mut reader);
    let (fixtures, data) = (&files.fixtures, &data_tests);
    let world = unit_tests::World { known: &known, models: &models, templates: &templates, fixtures, data_tests: data };
    let unit_tests = unit_tests::finish(documents.unit_tests(), &world, &mut reader);
    let bare = base_settings(&settings, options);
    Some(Project {
        exports: load_exports(&documents, &templates, &known, &models, &mut reader),
        vars: bare.vars.clone(),
        name: settings.name,
        folder: files.folder.to_path_buf(),
        target,
        openlineage: OpenLineageSettings::new(settings.openlineage, bare.clone()),
        notifications: notifications::bound(settings.notifications, &bare),
        targets: Targets::new(settings.targets, bare),
        sources: declared,
        models,
        data_tests,
        unit_tests,
        exposures,
        groups,
        selectors,
        macros: MacroTexts::new(&files.macros),
        docs: files.docs.clone(),
        forbid_unmasked_in: settings.forbid_unmasked_in,
        on_run_start: settings.on_run_start,
        on_run_end: settings.on_run_end,
        templates: Arc::new(templates),
        known,
    })
}

fn choose_target(
    settings: &Settings,
    options: &LoadOptions,
    files: &ProjectFiles,
    diagnostics: &mut Diagnostics,
) -> Option<Target> {
    let names: Vec<&str> = settings.targets.keys().map(String::as_str).collect();
    let wanted = match (&options.target, &settings.default_target, names.as_slice()) {
        (Some(name), _, _) | (None, Some(name), _) => name.clone(),
        (None, None, [only]) => (*only).to_owned(),
        (None, None, []) => return None,
        (None, None, _) => {
            let diagnostic = Diagnostic::error(Id::MissingKey, "there are several targets and no default")
                .at(Span::file_start(&files.project))
                .help(format!("add `target: {}` to project.yml, or call with --target", names[0]));
            diagnostics.push(diagnostic);
            return None;
        }
    };
    let Some(target) = settings.targets.get(&wanted) else {
        let diagnostic = Diagnostic::error(Id::InvalidValue, format!("there is no target `{wanted}`"))
            .at(Span::file_start(&files.project))
            .suggest(&wanted, names);
        diagnostics.push(diagnostic);
        return None;
    };
    match targets::rendered(target.clone(), &base_settings(settings, options)) {
        Ok(target) => Some(target),
        Err((span, why)) => {
            diagnostics.push(Diagnostic::error(Id::Template, why).at(span));
            None
        }
    }
}

pub(super) fn base_settings(settings: &Settings, options: &LoadOptions) -> template::Settings {
    let mut vars = settings.vars.clone();
    vars.extend(options.vars.clone());
    template::Settings {
        target: serde_json::Value::Null,
        vars,
        environment: options.environment.clone(),
        secrets: false,
        run_started_at: options.run_started_at,
        invocation_id: options.invocation_id.clone(),
        project: settings.name.clone(),
        yaml: yaml::for_templates(),
    }
}

fn template_settings(settings: &Settings, target: &Target, options: &LoadOptions) -> template::Settings {
    let json = serde_json::json!({
        "name": target.name, "target_name": target.name, "root": target.root, "type": "lake", "threads": target.threads,
    });
    template::Settings { target: json, ..base_settings(settings, options) }
}

/// The one source that a text in the words of `sources.yml` declares, in a project of nothing else.
pub fn one_source(folder: &std::path::Path, yaml: &str, diagnostics: &mut Diagnostics) -> Option<Source> {
    let files = ProjectFiles {
        folder: folder.into(),
        project: Arc::new(SourceFile::new("project.yml", "name: new\ntargets:\n  dev: { root: lake }\n")),
        sources: Some(Arc::new(SourceFile::new("sources.yml", yaml))),
        selectors: None,
        models: Vec::new(),
        properties: Vec::new(),
        seeds: Vec::new(),
        snapshots: Vec::new(),
        macros: Vec::new(),
        tests: Vec::new(),
        fixtures: Vec::new(),
        docs: Vec::new(),
    };
    let project = load(&files, &LoadOptions::default(), &Memo::none(), diagnostics)?;
    project.sources.into_values().next().filter(|_| !diagnostics.has_errors())
}

fn load_sources(
    documents: &Documents<'_>,
    templates: &Templates,
    tests: &mut Vec<Arc<DataTest>>,
    reader: &mut Reader<'_>,
) -> BTreeMap<TableName, Source> {
    let mut declared: BTreeMap<TableName, Source> = BTreeMap::new();
    for list in documents.read().flat_map(|document| &document.sources) {
        let (found, found_tests) = sources::read(list, templates, reader);
        tests.extend(found_tests);
        for source in found {
            if let Some(first) = declared.get(&source.name) {
                let message = format!("source `{}` is declared twice", source.name);
                let diagnostic = Diagnostic::error(Id::DuplicateName, message).at(source.span);
                reader.diagnostics.push(diagnostic.related(first.span.clone(), "first here"));
                continue;
            }
            declared.insert(source.name.clone(), source);
        }
    }
    declared
}

fn load_exports(
    documents: &Documents<'_>,
    templates: &Templates,
    known: &KnownNames,
    models: &BTreeMap<TableName, Model>,
    reader: &mut Reader<'_>,
) -> BTreeMap<TableName, Export> {
    let mut found = BTreeMap::new();
    for list in documents.read().flat_map(|document| &document.exports) {
        exports::read(list, templates, &mut found, reader);
    }
    exports::resolve(&mut found, known, models, reader);
    found
}

/// Every model and seed with its name; the short name is unique in the project.
fn name_models(
    files: &ProjectFiles,
    settings: &Settings,
    reader: &mut Reader<'_>,
) -> Vec<(TableName, Arc<SourceFile>)> {
    let mut named: Vec<(TableName, Arc<SourceFile>)> = Vec::new();
    let mut seen: HashMap<&str, Arc<SourceFile>> = HashMap::new();
    for file in files.models.iter().chain(&files.seeds) {
        let name = match seeds::is_seed(file) {
            true => seeds::name_of(file, &settings.seeds, reader),
            false => models::name_of(file, reader),
        };
        let Some(name) = name else { continue };
        if let Some(first) = seen.insert(name.table, Arc::clone(file)) {
            let message = format!("two models are called `{}`", name.table);
            let diagnostic = Diagnostic::error(Id::DuplicateName, message)
                .at(Span::file_start(file))
                .related(Span::file_start(&first), "the other one")
                .help("a model's file name is unique in the project, also across layers");
            reader.diagnostics.push(diagnostic);
            continue;
        }
        named.push((name, Arc::clone(file)));
    }
    named
}

/// A folder below `models:` or `seeds:` in project.yml that does not exist sets nothing: most likely a typo.
fn check_config_folders(
    tree: &ConfigTree,
    named: &[(TableName, Arc<SourceFile>)],
    top: &str,
    file: &Arc<SourceFile>,
    reader: &mut Reader<'_>,
) {
    let layers: Vec<&str> = named.iter().filter_map(|(_, file)| file.path.split('/').nth(1)).collect();
    let layers: Vec<&str> = layers.into_iter().map(|part| part.strip_suffix(".csv").unwrap_or(part)).collect();
    for folder in tree.folder_names().filter(|folder| !layers.contains(folder)) {
        let start = file.text().find(&format!("{folder}:")).unwrap_or_default();
        let known: BTreeSet<&str> = layers.iter().copied().collect();
        let mut diagnostic = Diagnostic::warning(Id::Orphan, format!("there is no folder `{top}/{folder}`"))
            .at(Span::new(file, start, start + folder.len()))
            .label(format!("these settings reach no {}", top.trim_end_matches('s')));
        if let Some(near) = nearest(folder, known) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        reader.diagnostics.push(diagnostic);
    }
}

fn load_models(
    named: &[(TableName, Arc<SourceFile>)],
    seeds: Vec<(Option<Model>, Vec<Diagnostic>)>,
    properties: &BTreeMap<TableName, Properties>,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
    reader: &mut Reader<'_>,
) -> BTreeMap<TableName, Model> {
    let mut rendered: Vec<_> =
        named.par_iter().map(|(name, file)| models::load(name, file, properties.get(name), loading, known)).collect();
    rendered.extend(seeds);
    let (mut models, mut disabled) = (BTreeMap::new(), Vec::new());
    for (model, problems) in rendered {
        reader.diagnostics.extend(problems);
        match model {
            Some(model) if model.config.enabled => {
                models.insert(model.name.clone(), model);
            }
            Some(model) => disabled.push(model.name),
            None => {}
        }
    }
    for model in models.values() {
        for name in model.refs.iter().filter(|name| disabled.contains(name)) {
            let diagnostic = Diagnostic::error(Id::UnknownRef, format!("model `{name}` is disabled"));
            reader.diagnostics.push(diagnostic.at(ref_span(&model.span(), name)).label("referenced here"));
        }
    }
    models
}

/// Where a file names a model in quotes, as `ref('x')` does.
pub fn ref_span(file: &Span, name: &TableName) -> Span {
    let text = file.file.text();
    [format!("'{}'", name.table), format!("\"{}\"", name.table)]
        .iter()
        .find_map(|quoted| text.find(quoted.as_str()).map(|at| Span::new(&file.file, at, at + quoted.len())))
        .unwrap_or_else(|| file.clone())
}

/// `tests/generic/*.sql` define generic tests; other files of `tests/` are tests.
fn is_generic(file: &SourceFile) -> bool {
    file.path.starts_with("tests/generic/")
}

/// What YAML alone tells of columns: all of them where a source or a contract lists them, values where a test does.
fn know_columns(
    known: &mut KnownNames,
    sources: &BTreeMap<TableName, Source>,
    properties: &BTreeMap<TableName, Properties>,
    tests: &[Arc<DataTest>],
) {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect();
    for source in sources.values().filter(|source| !source.columns.is_empty()) {
        known.columns.insert(source.name.clone(), names(&source.columns));
    }
    for (name, described) in properties {
        if described.has_contract {
            known.columns.insert(name.clone(), names(&described.columns));
        }
    }
    for test in tests {
        if let (Some((column, values)), Some(table)) = (test.accepted_values(), &test.table) {
            known.accepted_values.insert((table.clone(), column.to_owned()), values.to_vec());
        }
    }
}

fn load_singular_tests(
    files: &ProjectFiles,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
    tests: &mut Vec<Arc<DataTest>>,
    reader: &mut Reader<'_>,
) {
    let singular: Vec<&Arc<SourceFile>> = files.tests.iter().filter(|file| !is_generic(file)).collect();
    let loaded: Vec<_> = singular.into_par_iter().map(|file| models::load_singular(file, loading, known)).collect();
    for result in loaded {
        match result {
            Ok((test, warnings)) => {
                tests.push(test);
                reader.diagnostics.extend(warnings);
            }
            Err(problems) => reader.diagnostics.extend(problems),
        }
    }
}

/// Fills in the layer of `ref('x')` in tests, drops tests of disabled models, and makes names unique.
fn finish_tests(
    tests: Vec<Arc<DataTest>>,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
    models: &BTreeMap<TableName, Model>,
    reader: &mut Reader<'_>,
) -> Vec<Arc<DataTest>> {
    let mut finished: Vec<Arc<DataTest>> = Vec::with_capacity(tests.len());
    let mut names: HashSet<String> = HashSet::with_capacity(tests.len());
    for mut shared in tests {
        let test = Arc::get_mut(&mut shared).expect("nobody else has seen the test");
        let mut changed = match test_lists::resolve(test, known) {
            Ok(changed) => changed,
            Err(diagnostic) => {
                reader.diagnostics.push(*diagnostic);
                continue;
            }
        };
        if matches!(test.kind, TestKind::Custom { .. }) {
            changed = true;
            if !custom_tests::finish(test, loading, known, reader) {
                continue;
            }
        }
        if test.reads.iter().any(|name| !models.contains_key(name) && !known.sources.contains(name)) {
            continue;
        }
        if !names.insert(test.name.clone()) {
            changed = true;
            let numbered = (2..).map(|number| format!("{}_{number}", test.name));
            test.name = numbered.into_iter().find(|name| names.insert(name.clone())).expect("numbers do not end");
        }
        if changed {
            test.set_key();
        }
        finished.push(shared);
    }
    finished
}

/// Variables of the command line: a YAML mapping.
///
/// # Errors
/// Why it is not one.
pub fn parse_vars(text: &str) -> Result<BTreeMap<String, serde_json::Value>, String> {
    let file = Arc::new(SourceFile::new("--vars", text));
    let mut diagnostics = Diagnostics::new();
    let node = yaml::parse(&file, &mut diagnostics);
    if let Some(first) = diagnostics.sorted().first() {
        return Err(first.message.clone());
    }
    match node.map(|node| node.to_json()) {
        None => Ok(BTreeMap::new()),
        Some(serde_json::Value::Object(entries)) => Ok(entries.into_iter().collect()),
        Some(other) => Err(format!("found {other}")),
    }
}
