//! What fuzzing calls: any bytes may come, nothing may panic or hang. Used by `fuzz_targets/` and by `tests/it/fuzz.rs`.

use std::path::Path;
use std::sync::Arc;

use lake::bronze;
use lake::diagnostics::render::{self, Color};
use lake::diagnostics::{Diagnostics, SourceFile};
use lake::memo::Memo;
use lake::project::{self, LoadOptions, Project, ProjectFiles};
use lake::session::{self, Resources};

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

/// Files that readers are given: a name, and how the source is declared. The first byte of an input chooses.
pub const READERS: &[(&str, &str)] = &[
    ("a.csv", "format: csv"),
    (
        "a.csv",
        "format: csv, options: { quote: \"'\", escape: '!', comment: '#', skip_lines: 1, truncated_rows: true, null_values: [x] }",
    ),
    (
        "a.tsv",
        "format: tsv, metadata_columns: [_row_number, _file_path], options: { quote: false, decimal_separator: ',' }",
    ),
    ("a.csv", "format: csv, options: { encoding: utf-16, header: false }"),
    ("a.csv", "format: csv, options: { encoding: shift_jis }"),
    ("a.json", "format: ndjson"),
    ("a.json", "format: json"),
    ("a.json", "format: json, options: { record_path: a.b }"),
    ("a.csv.gz", "format: csv"),
    ("a.json.bz2", "format: json"),
    ("a.csv.xz", "format: csv"),
    ("a.json.zst", "format: ndjson"),
    ("a.parquet", "format: parquet, metadata_columns: [_row_number]"),
    ("a.avro", "format: avro"),
    ("a.arrow", "format: arrow"),
];

/// Columns that may be declared: every way to read a value.
const COLUMNS: &str = "columns: [\
    { name: a, data_type: bigint }, { name: b, data_type: 'decimal(20,4)' }, \
    { name: c, data_type: date, format: ['%d.%m.%Y', epoch_s] }, \
    { name: d, data_type: timestamp, time_zone: Europe/Berlin }, { name: e, data_type: boolean }, \
    { name: f, data_type: 'bigint[]' }, { name: g, data_type: varchar }, { name: h, data_type: double }]";

/// Columns of files that know their types.
const TYPED: &str = "columns: [\
    { name: a, data_type: double }, { name: b, data_type: 'decimal(10,2)' }, { name: g, data_type: varchar }, \
    { name: more, data_type: date }]";

/// One file, read with columns that are inferred and with declared ones; what is wrong with it.
pub fn rows(input: &[u8]) -> Vec<String> {
    let Some((choice, bytes)) = input.split_first() else { return Vec::new() };
    let mut errors = Vec::new();
    let (name, settings) = READERS[usize::from(*choice) % READERS.len()];
    let folder = std::env::temp_dir().join(format!("lake-fuzz-rows-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    std::fs::write(folder.join(name), bytes).expect("the temporary folder can be written");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built");
    let session =
        session::state(Resources { threads: 1, memory: Some(256 << 20) }, None).expect("a session can be made");
    let binary = ["parquet", "avro", "arrow"].iter().any(|format| settings.contains(format));
    let declared = if binary { TYPED } else { COLUMNS };
    let rescue = "fail, on_new_column: rescue";
    for (columns, rule) in [("", "fail"), (declared, "fail"), (declared, "quarantine"), (declared, rescue)] {
        if (columns.is_empty() || rule == rescue) && settings.contains("header: false") || rule == rescue && binary {
            continue;
        }
        let comma = if columns.is_empty() { "" } else { ", " };
        let limits = "max_line_bytes: 1MB, max_decompression_ratio: 50, max_file_bytes: 100MB";
        let settings = match settings.split_once("options: {") {
            Some((before, after)) => format!("{before}options: {{ {limits}, {after}"),
            None if binary => settings.to_owned(),
            None => format!("{settings}, options: {{ {limits} }}"),
        };
        let table = format!("{{ name: data, path: '{name}', {settings}, on_bad_row: {rule}{comma}{columns} }}");
        let sources = format!("sources:\n  - name: raw\n    tables:\n      - {table}\n");
        let files = ProjectFiles { folder: Arc::from(folder.as_path()), ..files(PROJECT, &sources) };
        let mut diagnostics = Diagnostics::new();
        let project =
            project::load(&files, &LoadOptions::default(), &Memo::none(), &mut diagnostics).expect("the project loads");
        assert!(!diagnostics.has_errors(), "{table}");
        errors.extend(runtime.block_on(read(&project, &session, &folder)));
    }
    let _ = std::fs::remove_dir_all(&folder);
    errors
}

async fn read(
    project: &Project,
    session: &datafusion::execution::session_state::SessionState,
    folder: &Path,
) -> Vec<String> {
    let mut diagnostics = Diagnostics::new();
    let (catalog, _) = bronze::inspect(project, None, session, &Memo::none(), &mut diagnostics).await;
    let mut errors: Vec<String> = diagnostics.sorted().into_iter().map(|found| found.message.clone()).collect();
    for source in project.sources.values() {
        let Some(schema) = catalog.sources.get(&source.name) else { continue };
        let listing = bronze::list(source, folder, None).await.expect("the file is there");
        // Reads all rows, and says what is wrong with them.
        let culprits = bronze::find_culprits(source, schema, &listing.files, session, folder, 1).await;
        if let Some((_, error)) = culprits.into_iter().next() {
            errors.push(error.to_string());
        }
    }
    errors
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
        fixtures: Vec::new(),
        docs: Vec::new(),
        project: file("project.yml", project),
        sources: Some(file("sources.yml", sources)),
        models: Vec::new(),
        properties: Vec::new(),
        seeds: Vec::new(),
        snapshots: Vec::new(),
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
