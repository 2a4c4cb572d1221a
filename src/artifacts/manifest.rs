//! `manifest.json`: the compiled project for other programs.
//!
//! Its parts are made in parallel as text. A part whose making has not changed is copied from the file that is there,
//! and a file whose parts are all as they were is left alone.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rayon::prelude::*;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    ARTIFACTS_FOLDER, ArtifactError, MANIFEST_VERSION, exposure_json, group_json, model_json, source_json, write,
};
use crate::compile::{self, CompiledTest};
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::Model;
use crate::run::Runtime;

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
    path: PathBuf,
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
    let (folder, memo) = (&runtime.folder, &runtime.memo);
    let path = Path::new(ARTIFACTS_FOLDER).join("manifest.json");
    let kept = KeyMaker::new("index of the manifest").text(&runtime.project.target.name).finish();
    let old = Old::find(folder.join(&path), memo.get(kept));
    let models: Vec<&Model> = runtime.project.models.values().collect();
    let nodes: Vec<(Key, Part)> =
        models.par_iter().map(|model| old.part(node_key(runtime, model), || node(runtime, model))).collect();
    let tests = tests_by_table(runtime);
    let tests: Vec<(Key, Part)> = tests.par_iter().map(|tests| old.part(tests_key(tests), || entries(tests))).collect();
    let lists = frame_lists(runtime);
    let frame = frame_key(runtime, &lists);
    let is_old = nodes.iter().chain(&tests).all(|(_, part)| matches!(part, Part::Old(_)));
    if is_old && frame == old.index.frame && old.parts.len() == nodes.len() + tests.len() {
        return Ok(());
    }
    let old_text = if old.parts.is_empty() { Vec::new() } else { old.read()? };
    let text = Vec::with_capacity(old_text.len() + (1 << 16));
    let mut file = Writer { text, index: Index::default(), old_text };
    file.json("{\"metadata\":", &metadata(runtime));
    file.parts(",\"nodes\":{", nodes);
    file.parts("},\"tests\":{", tests);
    file.raw("}");
    for (name, value) in lists {
        file.json(&format!(",\"{name}\":"), &value);
    }
    file.json(",\"parent_map\":", &Neighbours { runtime, upstream: true });
    file.json(",\"child_map\":", &Neighbours { runtime, upstream: false });
    file.raw("}");
    write(folder, &path, &file.text)?;
    let index = Index { file: identity(&old.path), frame, ..file.index };
    memo.put(kept, &index);
    Ok(())
}

fn identity(path: &Path) -> Option<(u64, Duration)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?))
}

impl Old {
    fn find(path: PathBuf, index: Option<Index>) -> Self {
        let file = identity(&path);
        let index = index.filter(|index| file.is_some() && index.file == file).unwrap_or_default();
        let parts = index.parts.iter().map(|(key, start, end)| (*key, *start..*end)).collect();
        Self { path, index, parts }
    }

    fn read(&self) -> Result<Vec<u8>, ArtifactError> {
        std::fs::read(&self.path).map_err(|source| ArtifactError { path: self.path.clone(), source })
    }

    fn part(&self, key: Key, make: impl FnOnce() -> Vec<u8>) -> (Key, Part) {
        let part = self.parts.get(&key).cloned().map_or_else(|| Part::New(make()), Part::Old);
        (key, part)
    }
}

/// The file on its way.
struct Writer {
    text: Vec<u8>,
    index: Index,
    old_text: Vec<u8>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn json<T: Serialize>(&mut self, before: &str, value: &T) {
        self.raw(before);
        serde_json::to_writer(&mut self.text, value).expect("writing to memory does not fail");
    }

    fn parts(&mut self, before: &str, parts: Vec<(Key, Part)>) {
        self.raw(before);
        for (at, (key, part)) in parts.into_iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            let start = self.text.len();
            match part {
                Part::Old(range) => self.text.extend_from_slice(&self.old_text[range]),
                Part::New(text) => self.text.extend_from_slice(&text),
            }
            self.index.parts.push((key, start, self.text.len()));
        }
    }
}

/// Everything that decides the entry of a model.
fn node_key(runtime: &Runtime, model: &Model) -> Key {
    let compiled = runtime.compiled.models.get(&model.name).map(|compiled| compiled.made_from);
    let tests: Vec<_> = runtime.compiled.tests_on(&model.name).map(|test| (&test.column, &test.kind)).collect();
    KeyMaker::new("node").key(model.key).value(&(compiled, tests)).finish()
}

/// `"layer.model": { ... }`
fn node(runtime: &Runtime, model: &Model) -> Vec<u8> {
    entry(&model.name.to_string(), &model_json(runtime, model))
}

fn entry(name: &str, value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec(name).expect("a text is JSON");
    text.push(b':');
    serde_json::to_writer(&mut text, value).expect("writing to memory does not fail");
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

fn entries(tests: &[&CompiledTest]) -> Vec<u8> {
    let entry = |test: &&CompiledTest| {
        let value = json!({
            "name": test.name, "test_type": test.kind, "table": test.table, "column": test.column,
            "severity": test.severity, "depends_on": test.reads, "tags": test.tags,
            "description": test.description, "failures_sql": test.failures_sql(),
            "state": {"body": compile::state::of_test(test)},
        });
        entry(&test.name, &value)
    };
    tests.iter().map(entry).collect::<Vec<_>>().join(&b',')
}

fn metadata(runtime: &Runtime) -> Value {
    json!({
        "lake_version": env!("CARGO_PKG_VERSION"),
        "manifest_version": MANIFEST_VERSION,
        "generated_at": runtime.options.started_at,
        "invocation_id": runtime.options.invocation_id,
        "project_name": runtime.project.name,
        "target": runtime.project.target.name,
    })
}

/// What is neither a model nor a test.
fn frame_lists(runtime: &Runtime) -> [(&'static str, Value); 3] {
    let project = &runtime.project;
    [
        ("sources", project.sources.values().map(|s| (s.name.to_string(), source_json(runtime, s))).collect()),
        ("exposures", project.exposures.values().map(|e| (e.name.to_string(), exposure_json(e))).collect()),
        ("groups", project.groups.values().map(|group| (group.name.clone(), group_json(group))).collect()),
    ]
}

/// Everything that decides the file apart from its parts, the time and the id of the run. What models read is among
/// what decides their parts.
fn frame_key(runtime: &Runtime, lists: &[(&str, Value)]) -> Key {
    let mut key = KeyMaker::new("frame").text(&runtime.project.name).text(&runtime.project.target.name);
    for (name, value) in lists {
        key = key.text(name).text(&value.to_string());
    }
    key.finish()
}

/// Who reads whom, a node a line.
struct Neighbours<'a> {
    runtime: &'a Runtime,
    upstream: bool,
}

impl Serialize for Neighbours<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let graph = &self.runtime.graph;
        let mut map = serializer.serialize_map(Some(graph.order().len()))?;
        for name in graph.order() {
            let others = if self.upstream { graph.parents(name) } else { graph.children(name) };
            map.serialize_entry(name, &others)?;
        }
        map.end()
    }
}
