//! What fuzzing calls: any bytes may come, nothing may panic or hang. Used by `fuzz_targets/` and by `tests/it/fuzz.rs`.

use std::path::Path;
use std::sync::Arc;

use lake::diagnostics::render::{self, Color};
use lake::diagnostics::{Diagnostics, SourceFile};
use lake::memo::Memo;
use lake::project::{self, LoadOptions, Project, ProjectFiles};

/// A byte that parts the files in an input; it stands in no text.
pub const PART: u8 = 0xff;

const PROJECT: &str = "name: fuzz\ntargets:\n  dev: { root: lake }\nvars: { a: 1, list: [x, y] }\n";
const SOURCES: &str = "sources:\n  - name: bronze\n    tables:\n      - { name: views, path: views/, format: csv, columns: [{ name: id, data_type: bigint }] }\n";

/// A model, a file of macros and a singular test: rendered, and each byte of the SQL traced back.
pub fn template(input: &[u8]) {
    let mut parts = parts(input);
    let (model, macros, test) = (parts.next(), parts.next(), parts.next());
    let mut files = files(PROJECT, SOURCES);
    files.models =
        vec![file("models/silver/other.sql", "select 1 as id"), file("models/gold/m.sql", &model.unwrap_or_default())];
    files.macros = macros.map(|text| file("macros/m.sql", &text)).into_iter().collect();
    files.tests = test.map(|text| file("tests/t.sql", &text)).into_iter().collect();
    let Some(project) = load(&files) else { return };
    for model in project.models.values() {
        for rendered in [Some(&model.full), model.incremental.as_ref()].into_iter().flatten() {
            let trace = project.trace_model(model, rendered);
            let step = 1 + rendered.sql.len() / 64;
            for start in (0..=rendered.sql.len()).step_by(step) {
                trace.locate(start, start + 3);
            }
        }
    }
}

/// `project.yml`, `sources.yml` and the properties of models.
pub fn yaml(input: &[u8]) {
    let mut parts = parts(input);
    let first = parts.next().unwrap_or_default();
    for (project, sources, properties) in [(PROJECT, SOURCES, &*first), (PROJECT, &*first, ""), (&*first, SOURCES, "")]
    {
        let mut files = files(project, sources);
        files.models = vec![file("models/gold/m.sql", "select 1 as id")];
        files.properties = vec![file("models/gold/m.yml", properties)];
        load(&files);
    }
}

fn parts(input: &[u8]) -> impl Iterator<Item = String> {
    input.split(|byte| *byte == PART).map(|part| String::from_utf8_lossy(part).into_owned())
}

fn file(path: &str, text: &str) -> Arc<SourceFile> {
    Arc::new(SourceFile::new(path, text))
}

fn files(project: &str, sources: &str) -> ProjectFiles {
    ProjectFiles {
        folder: Arc::from(Path::new("/fuzz")),
        selectors: None,
        docs: Vec::new(),
        project: file("project.yml", project),
        sources: Some(file("sources.yml", sources)),
        models: Vec::new(),
        properties: Vec::new(),
        macros: Vec::new(),
        tests: Vec::new(),
    }
}

/// Loads, and shows every diagnostic in both ways.
fn load(files: &ProjectFiles) -> Option<Project> {
    let mut diagnostics = Diagnostics::new();
    let project = project::load(files, &LoadOptions::default(), &Memo::none(), &mut diagnostics);
    for diagnostic in diagnostics.sorted() {
        render::text(diagnostic, Color::Never);
        render::json(diagnostic);
    }
    project
}
