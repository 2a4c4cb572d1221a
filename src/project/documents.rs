//! YAML files: the lists that stand in them, and what they say of models, read in parallel and kept between runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::data_tests::DataTest;
use super::files::ProjectFiles;
use super::load::Loading;
use super::models::{self, Properties};
use super::unit_tests::{self, Declaration};
use super::yaml::{self, Node, Reader};
use super::{files, yaml_texts};
use crate::diagnostics::{Diagnostic, Diagnostics, Id, SourceFile};
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::template::{KnownNames, Recording, Witnesses};

/// The lists of one YAML file.
#[derive(Default)]
pub(super) struct Document {
    pub(super) sources: Option<Node>,
    pub(super) exposures: Option<Node>,
    pub(super) exports: Option<Node>,
    pub(super) groups: Option<Node>,
    models: Option<Node>,
    seeds: Option<Node>,
    unit_tests: Option<Node>,
    /// What its templates saw.
    seen: Vec<Recording>,
}

/// A YAML file on its way.
struct Entry<'a> {
    file: &'a Arc<SourceFile>,
    /// What it says of models is kept under this key.
    key: Option<Key>,
    content: Content,
    /// The unit tests that it declares.
    unit_tests: Vec<Declaration>,
}

enum Content {
    /// It says something of models only, and an earlier run has read it.
    Kept(Kept),
    Read(Box<Document>),
    /// It is empty or does not parse.
    Nothing,
}

/// What is kept of a file that says something of models only, and has no mistake.
#[derive(Serialize, Deserialize)]
struct Kept {
    models: Vec<Properties>,
    unit_tests: Vec<Declaration>,
    witnesses: Witnesses,
}

/// All YAML files of a project.
pub(super) struct Documents<'a> {
    entries: Vec<Entry<'a>>,
}

/// Reads every file, apart from those that an earlier run has read.
pub(super) fn read<'a>(files: &'a ProjectFiles, loading: &Loading<'_>, diagnostics: &mut Diagnostics) -> Documents<'a> {
    let all: Vec<&Arc<SourceFile>> = files.sources.iter().chain(&files.properties).collect();
    let read: Vec<(Entry<'_>, Diagnostics)> = all
        .into_par_iter()
        .map(|file| {
            let key = file.stamp.map(|stamp| KeyMaker::new("properties").key(loading.key).key(stamp).finish());
            let mut problems = Diagnostics::new();
            let content = match key.and_then(|key| loading.memo.get(key)) {
                Some(kept) => Content::Kept(kept),
                None => document(file, loading, &mut problems).map_or(Content::Nothing, Content::Read),
            };
            // A mistake is told in every run.
            let key = key.filter(|_| problems.is_empty());
            (Entry { file, key, content, unit_tests: Vec::new() }, problems)
        })
        .collect();
    let mut entries = Vec::with_capacity(read.len());
    for (entry, problems) in read {
        diagnostics.absorb(problems);
        entries.push(entry);
    }
    Documents { entries }
}

fn document(file: &Arc<SourceFile>, loading: &Loading<'_>, diagnostics: &mut Diagnostics) -> Option<Box<Document>> {
    if let Err(error) = file.fetch() {
        diagnostics.push(files::unreadable(file, &error));
        return None;
    }
    let mut root = yaml::parse(file, diagnostics)?;
    let mut reader = Reader { diagnostics };
    let seen = yaml_texts::render(&mut root, loading.templates, loading.docs, &mut reader);
    let mut mapping = reader.mapping(&root, "properties file")?;
    mapping.take("version");
    let mut list = |name: &'static str| mapping.take(name).cloned();
    let document = Document {
        sources: list("sources"),
        models: list("models"),
        seeds: list("seeds"),
        unit_tests: list("unit_tests"),
        exposures: list("exposures"),
        exports: list("exports"),
        groups: list("groups"),
        seen,
    };
    mapping.finish(&mut reader);
    Some(Box::new(document))
}

impl Documents<'_> {
    /// The files that may have other lists than that of models.
    pub(super) fn read(&self) -> impl Iterator<Item = &Document> {
        self.entries.iter().filter_map(|entry| match &entry.content {
            Content::Read(document) => Some(&**document),
            Content::Kept(_) | Content::Nothing => None,
        })
    }

    /// What all files say of models and seeds, and the tests that they declare.
    pub(super) fn properties(
        &mut self,
        known: &KnownNames,
        loading: &Loading<'_>,
        diagnostics: &mut Diagnostics,
    ) -> (BTreeMap<TableName, Properties>, Vec<Arc<DataTest>>) {
        let found: Vec<(Vec<Properties>, Diagnostics)> =
            self.entries.par_iter_mut().map(|entry| entry.properties(known, loading)).collect();
        let mut properties: BTreeMap<TableName, Properties> = BTreeMap::new();
        let mut tests = Vec::new();
        for (models, problems) in found {
            diagnostics.absorb(problems);
            for mut model in models {
                tests.append(&mut model.tests);
                if let Some(first) = properties.get(&model.name) {
                    let message = format!("`{}` is described twice", model.name);
                    let diagnostic = Diagnostic::error(Id::DuplicateName, message).at((*model.span).clone());
                    diagnostics.push(diagnostic.related((*first.span).clone(), "first here"));
                    continue;
                }
                properties.insert(model.name.clone(), model);
            }
        }
        (properties, tests)
    }

    /// The unit tests that all files declare, once their properties are read.
    pub(super) fn unit_tests(&mut self) -> Vec<Declaration> {
        self.entries.iter_mut().flat_map(|entry| std::mem::take(&mut entry.unit_tests)).collect()
    }
}

impl Entry<'_> {
    fn properties(&mut self, known: &KnownNames, loading: &Loading<'_>) -> (Vec<Properties>, Diagnostics) {
        let mut problems = Diagnostics::new();
        let document = match std::mem::replace(&mut self.content, Content::Nothing) {
            Content::Kept(kept) => {
                if kept.models.iter().all(|model| known.has_model(&model.name))
                    && loading.templates.still_hold(known, &kept.witnesses)
                {
                    self.unit_tests = kept.unit_tests;
                    return (kept.models, problems);
                }
                document(self.file, loading, &mut problems)
            }
            Content::Read(document) => Some(document),
            Content::Nothing => None,
        };
        let Some(document) = document else { return (Vec::new(), problems) };
        let mut reader = Reader { diagnostics: &mut problems };
        let mut models = Vec::new();
        for (list, is_seed) in [(&document.models, false), (&document.seeds, true)] {
            let Some(list) = list else { continue };
            models.extend(models::read_properties(list, is_seed, known, loading.templates, &mut reader));
        }
        let unit_tests = document.unit_tests.iter().flat_map(|list| unit_tests::read(list, &mut reader)).collect();
        let others = [&document.sources, &document.exposures, &document.exports, &document.groups];
        let is_alone = others.iter().all(|list| list.is_none());
        let asks_clock = document.seen.iter().any(|recording| recording.asked_clock);
        let mut kept = Kept { models, unit_tests, witnesses: Witnesses::new() };
        if let Some(key) = self.key.filter(|_| is_alone && !asks_clock && problems.is_empty()) {
            kept.witnesses = loading.templates.witnesses(known, &document.seen);
            loading.memo.put(key, &kept);
        }
        self.content = Content::Read(document);
        self.unit_tests = kept.unit_tests;
        (kept.models, problems)
    }
}
