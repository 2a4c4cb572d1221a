//! `manifest.json`: the compiled project for other programs, as dbt writes it.
//!
//! Its parts are made in parallel as text. A part whose making has not changed is copied from the file that is there,
//! and a file whose parts are all as they were is left alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ARTIFACTS_FOLDER, ArtifactError, MANIFEST_VERSION, ids, nodes, resources, write_with};
use crate::compile::CompiledTest;
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{Group, Model, Project, UnitTest};
use crate::run::Runtime;

/// A piece of new text is not made much longer than this.
const LARGE: usize = 1 << 18;

/// What the last manifest was made of.
#[derive(Default, Serialize, Deserialize)]
struct Index {
    /// Size and time of the file, to see that it is still the one.
    file: Option<(u64, Duration)>,
    /// Hash of everything that is no part.
    frame: Key,
    /// Where each part stands.
    parts: Vec<(Key, usize, usize)>,
}

/// The last manifest, and its parts by what decided them.
struct Old {
    file: Option<File>,
    index: Index,
    parts: HashMap<Key, Range<usize>>,
}

/// A piece of the file: JSON text, or where it stands in the old file.
enum Part {
    Old(Range<usize>),
    New(Vec<u8>),
}

/// Writes `manifest.json`.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_manifest(runtime: &Runtime) -> Result<(), ArtifactError> {
    let (folder, memo, project) = (&runtime.folder, &runtime.memo, &runtime.project);
    let path = Path::new(ARTIFACTS_FOLDER).join("manifest.json");
    let kept = index_key(project);
    let old = Old::find(&folder.join(&path), memo.get(kept));
    let models: Vec<&Model> = project.models.values().collect();
    let models = models.par_iter();
    let models = models.map(|model| old.part(node_key(runtime, model), || entry(nodes::model(runtime, model))));
    let tests = tests_by_table(runtime);
    let tests = tests.par_iter().map(|tests| old.part(tests_key(tests), || entries(runtime, tests)));
    let nodes: Vec<(Key, Part)> = models.chain(tests).collect();
    let unit_tests = runtime.compiled.unit_tests.par_iter().map(|test| {
        let make = || serde_json::to_vec(&resources::unit_test(project, test)).expect("a test is JSON");
        old.part(unit_test_key(test), || entry((ids::unit_test(project, test), make())))
    });
    let unit_tests: Vec<(Key, Part)> = unit_tests.collect();
    let lists = frame_lists(runtime);
    let frame = frame_key(runtime, &lists);
    let is_old = nodes.iter().chain(&unit_tests).all(|(_, part)| matches!(part, Part::Old(_)));
    if is_old && frame == old.index.frame && old.parts.len() == nodes.len() + unit_tests.len() {
        return Ok(());
    }
    let file = laid_out(runtime, nodes, unit_tests, lists);
    let identity = write_with(folder, &path, |out| {
        file.pieces.iter().try_for_each(|piece| piece.write(old.file.as_ref(), out))?;
        Ok(identity(out))
    })?;
    let index = Index { file: identity, frame, parts: file.index };
    memo.put(kept, &index);
    Ok(())
}

/// Under which key the index is kept: what stands in the ids of nodes, and so in every part.
fn index_key(project: &Project) -> Key {
    let seeds: Vec<&TableName> = project.models.values().filter(|m| m.seed.is_some()).map(|m| &m.name).collect();
    let sources: Vec<&TableName> = project.sources.keys().collect();
    let key = KeyMaker::new("index of the manifest").text(&project.name).text(&project.target.name);
    key.value(&(seeds, sources)).finish()
}

/// All parts in their order.
fn laid_out(
    runtime: &Runtime,
    nodes: Vec<(Key, Part)>,
    unit_tests: Vec<(Key, Part)>,
    lists: [(&'static str, Value); 5],
) -> Writer {
    let mut file = Writer::default();
    file.json("{\"metadata\":", &metadata(runtime));
    let any = !nodes.is_empty();
    file.parts(",\"nodes\":{", nodes);
    for (at, hook) in hooks(&runtime.project).enumerate() {
        file.raw(if any || at > 0 { "," } else { "" });
        file.text(&entry(hook));
    }
    file.parts("},\"unit_tests\":{", unit_tests);
    file.raw("}");
    for (name, value) in lists {
        file.json(&format!(",\"{name}\":"), &value);
    }
    file.json(",\"macros\":", &resources::macros(&runtime.project));
    file.json(",\"docs\":", &resources::docs(&runtime.project));
    let [parents, children] = neighbours(runtime);
    file.json(",\"parent_map\":", &parents);
    file.json(",\"child_map\":", &children);
    for empty in ["metrics", "disabled", "saved_queries", "semantic_models", "functions"] {
        file.raw(&format!(",\"{empty}\":{{}}"));
    }
    file.raw("}");
    file
}

fn identity(file: &File) -> Option<(u64, Duration)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?))
}

impl Old {
    fn find(path: &Path, index: Option<Index>) -> Self {
        // Open from now on: another run may put a new manifest in its place.
        let file = File::open(path).ok();
        let identity = file.as_ref().and_then(identity);
        let index = index.filter(|index| identity.is_some() && index.file == identity).unwrap_or_default();
        let parts = index.parts.iter().map(|(key, start, end)| (*key, *start..*end)).collect();
        Self { file, index, parts }
    }

    fn part(&self, key: Key, make: impl FnOnce() -> Vec<u8>) -> (Key, Part) {
        let part = self.parts.get(&key).cloned().map_or_else(|| Part::New(make()), Part::Old);
        (key, part)
    }
}

impl Part {
    fn write(&self, old: Option<&File>, file: &mut File) -> std::io::Result<()> {
        match self {
            Self::New(text) => file.write_all(text),
            Self::Old(range) => {
                let mut old = old.ok_or(ErrorKind::NotFound)?;
                old.seek(SeekFrom::Start(range.start as u64))?;
                // The system copies from file to file by itself.
                let copied = std::io::copy(&mut old.take(range.len() as u64), file)?;
                if copied == range.len() as u64 { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
            }
        }
    }
}

/// The file on its way: few large pieces, however many parts it has.
#[derive(Default)]
struct Writer {
    pieces: Vec<Part>,
    length: usize,
    index: Vec<(Key, usize, usize)>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.text(text.as_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.length += text.len();
        match self.pieces.last_mut() {
            Some(Part::New(piece)) if piece.len() < LARGE => piece.extend_from_slice(text),
            _ => self.pieces.push(Part::New(text.to_vec())),
        }
    }

    fn old(&mut self, range: Range<usize>) {
        self.length += range.len();
        // What stood between two parts is what would stand there now.
        let comma = 1;
        match self.pieces.as_mut_slice() {
            [.., Part::Old(before), Part::New(between)] if *between == b"," && before.end + comma == range.start => {
                before.end = range.end;
                self.pieces.pop();
            }
            _ => self.pieces.push(Part::Old(range)),
        }
    }

    fn json<T: Serialize>(&mut self, before: &str, value: &T) {
        self.raw(before);
        self.text(&serde_json::to_vec(value).expect("writing to memory does not fail"));
    }

    fn parts(&mut self, before: &str, parts: Vec<(Key, Part)>) {
        self.raw(before);
        for (at, (key, part)) in parts.into_iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            let start = self.length;
            match part {
                Part::Old(range) => self.old(range),
                Part::New(text) => self.text(&text),
            }
            self.index.push((key, start, self.length));
        }
    }
}

/// Everything that decides the entry of a model.
fn node_key(runtime: &Runtime, model: &Model) -> Key {
    let compiled = runtime.compiled.models.get(&model.name).map(|compiled| compiled.made_from);
    KeyMaker::new("node").key(model.key).value(&(compiled, &model.described_in)).finish()
}

fn unit_test_key(test: &UnitTest) -> Key {
    let about = (&test.name, &test.description, &test.config, &test.span.file.path);
    KeyMaker::new("unit test").key(test.key).value(&about).finish()
}

/// `"model.shop.orders": { ... }`
fn entry((id, json): (String, Vec<u8>)) -> Vec<u8> {
    let mut text = serde_json::to_vec(&id).expect("a text is JSON");
    text.push(b':');
    text.extend(json);
    text
}

/// Tests in groups: those of one table together.
fn tests_by_table(runtime: &Runtime) -> Vec<Vec<&CompiledTest>> {
    let mut groups: BTreeMap<Option<&TableName>, Vec<&CompiledTest>> = BTreeMap::new();
    for test in &runtime.compiled.tests {
        groups.entry(test.table.as_ref()).or_default().push(test);
    }
    groups.into_values().collect()
}

fn tests_key(tests: &[&CompiledTest]) -> Key {
    tests.iter().fold(KeyMaker::new("tests"), |key, test| key.key(test.key)).finish()
}

fn entries(runtime: &Runtime, tests: &[&CompiledTest]) -> Vec<u8> {
    let entry = |test: &&CompiledTest| entry(nodes::test(&runtime.project, test));
    tests.iter().map(entry).collect::<Vec<_>>().join(&b',')
}

/// The hooks of a run.
fn hooks(project: &Project) -> impl Iterator<Item = (String, Vec<u8>)> {
    let both = [("on-run-start", &project.on_run_start), ("on-run-end", &project.on_run_end)];
    both.into_iter().flat_map(move |(title, hooks)| {
        hooks.iter().enumerate().map(move |(at, hook)| nodes::hook(project, title, at, hook))
    })
}

fn metadata(runtime: &Runtime) -> Value {
    let project = &runtime.project;
    let mut metadata = super::metadata("manifest/v12", &runtime.options);
    metadata["env"] = json!({
        "lake_version": env!("CARGO_PKG_VERSION"),
        "lake_manifest": MANIFEST_VERSION.to_string(),
        "lake_target": project.target.name,
    });
    metadata["project_name"] = project.name.as_str().into();
    metadata["adapter_type"] = super::ADAPTER.into();
    metadata["quoting"] = json!({"database": false, "schema": true, "identifier": true, "column": null});
    metadata
}

/// What is neither a model nor a test, and is told apart by what it becomes.
fn frame_lists(runtime: &Runtime) -> [(&'static str, Value); 5] {
    let project = &runtime.project;
    let with_id = |name: &TableName, value| (ids::node(project, name), value);
    let mut members: BTreeMap<&str, Vec<String>> =
        project.groups.keys().map(|group| (group.as_str(), Vec::new())).collect();
    for model in project.models.values() {
        let group = model.config.group.as_deref().and_then(|group| members.get_mut(group));
        group.into_iter().for_each(|members| members.push(ids::node(project, &model.name)));
    }
    let group = |group: &Group| (resources::group_id(project, &group.name), resources::group(project, group));
    let sources = project.sources.values().map(|s| with_id(&s.name, resources::source(runtime, s)));
    let exposures = project.exposures.values().map(|e| with_id(&e.name, resources::exposure(project, e)));
    let exports = project.exports.values().map(|e| with_id(&e.name, resources::export(project, e)));
    [
        ("sources", sources.collect()),
        ("exposures", exposures.chain(exports).collect()),
        ("groups", project.groups.values().map(group).collect()),
        ("group_map", json!(members)),
        ("selectors", resources::selectors(project)),
    ]
}

/// Everything that decides the file apart from its parts, the time and the id of the run. What models read is among
/// what decides their parts.
fn frame_key(runtime: &Runtime, lists: &[(&str, Value)]) -> Key {
    let project = &runtime.project;
    let mut key = KeyMaker::new("frame").value(&(&project.on_run_start, &project.on_run_end));
    for (name, text, path) in project.macros.texts() {
        key = key.text(name).text(text).text(path);
    }
    for file in &project.docs {
        key = key.text(&file.path).text(file.text());
    }
    for (name, value) in lists {
        key = key.text(name).text(&value.to_string());
    }
    key.finish()
}

/// Who reads whom, a node a line, by their ids.
fn neighbours(runtime: &Runtime) -> [BTreeMap<String, Vec<String>>; 2] {
    let (project, graph) = (&runtime.project, &runtime.graph);
    let (mut parents, mut children): (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) =
        Default::default();
    let mut note = |id: String, above: Vec<String>| {
        for parent in &above {
            children.entry(parent.clone()).or_default().push(id.clone());
        }
        children.entry(id.clone()).or_default();
        parents.insert(id, above);
    };
    for name in graph.order() {
        let above = graph.parents(name).into_iter().map(|parent| ids::node(project, parent));
        note(ids::node(project, name), above.collect());
    }
    for test in &runtime.compiled.tests {
        note(ids::test(project, test), test.reads.iter().map(|name| ids::node(project, name)).collect());
    }
    for test in &runtime.compiled.unit_tests {
        note(ids::unit_test(project, test), test.model().map(|name| ids::node(project, name)).into_iter().collect());
    }
    [parents, children]
}
