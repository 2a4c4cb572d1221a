//! `manifest.json`: the compiled project for other programs.
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
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    ARTIFACTS_FOLDER, ArtifactError, MANIFEST_VERSION, ModelNode, export_json, exposure_json, group_json, source_json,
    unit_test_json, write_with,
};
use crate::compile::{self, CompiledTest};
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{Model, TestSeverity};
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
    let (folder, memo) = (&runtime.folder, &runtime.memo);
    let path = Path::new(ARTIFACTS_FOLDER).join("manifest.json");
    let kept = KeyMaker::new("index of the manifest").text(&runtime.project.target.name).finish();
    let old = Old::find(&folder.join(&path), memo.get(kept));
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
    let mut file = Writer::default();
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
    let identity = write_with(folder, &path, |out| {
        file.pieces.iter().try_for_each(|piece| piece.write(old.file.as_ref(), out))?;
        Ok(identity(out))
    })?;
    let index = Index { file: identity, frame, parts: file.index };
    memo.put(kept, &index);
    Ok(())
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
    let tests: Vec<_> = runtime.compiled.tests_on(&model.name).map(|test| (test.column(), test.kind.name())).collect();
    KeyMaker::new("node").key(model.key).value(&(compiled, tests)).finish()
}

/// `"layer.model": { ... }`
fn node(runtime: &Runtime, model: &Model) -> Vec<u8> {
    entry(&model.name.to_string(), &ModelNode::new(runtime, model))
}

fn entry<T: Serialize>(name: &str, value: &T) -> Vec<u8> {
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
        let node = TestNode {
            name: &test.name,
            test_type: test.kind.name(),
            table: test.table.as_ref(),
            column: test.column(),
            severity: test.config.severity,
            depends_on: &test.reads,
            tags: &test.config.tags,
            description: &test.description,
            failures_sql: test.failures_sql(),
            state: TestState { body: compile::state::of_test(test) },
        };
        entry(&test.name, &node)
    };
    tests.iter().map(entry).collect::<Vec<_>>().join(&b',')
}

/// A test for other programs.
#[derive(Serialize)]
struct TestNode<'a> {
    name: &'a str,
    test_type: &'a str,
    table: Option<&'a TableName>,
    column: Option<&'a str>,
    severity: TestSeverity,
    depends_on: &'a [TableName],
    tags: &'a [String],
    description: &'a str,
    failures_sql: String,
    state: TestState,
}

#[derive(Serialize)]
struct TestState {
    body: String,
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
fn frame_lists(runtime: &Runtime) -> [(&'static str, Value); 5] {
    let project = &runtime.project;
    [
        ("unit_tests", runtime.compiled.unit_tests.iter().map(|t| (t.name.clone(), unit_test_json(t))).collect()),
        ("sources", project.sources.values().map(|s| (s.name.to_string(), source_json(runtime, s))).collect()),
        ("exposures", project.exposures.values().map(|e| (e.name.to_string(), exposure_json(e))).collect()),
        ("exports", project.exports.values().map(|e| (e.name.to_string(), export_json(e))).collect()),
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
