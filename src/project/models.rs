//! Models: YAML properties and SQL files, joined.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{self, ModelConfig};
use super::data_tests::{DataTest, TestKind};
use super::load::Loading;
use super::settings;
use super::test_config::{self, TestConfig};
use super::test_lists;
use super::yaml::{Node, Reader};
use super::{Column, Model, ModelBody, files, seeds, sources};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::memo::{Key, KeyMaker, Lazy};
use crate::names::{TableName, check_identifier};
use crate::template::{Config, ConfigCheck, KnownNames, Recording, Rendered, Scope, Templates, Witnesses};

/// What YAML says about one model.
#[derive(Serialize, Deserialize)]
pub(super) struct Properties {
    pub(super) name: TableName,
    pub(super) span: Lazy<Span>,
    /// The file that it stands in.
    pub(super) path: String,
    /// It stands below `seeds:`.
    pub(super) is_seed: bool,
    pub(super) description: String,
    pub(super) config: Lazy<Config>,
    pub(super) columns: Lazy<Vec<Column>>,
    /// The contract is enforced.
    pub(super) has_contract: bool,
    pub(super) has_constraints: bool,
    pub(super) tests: Vec<Arc<DataTest>>,
    /// The hash of all but the tests.
    pub(super) key: Key,
}

/// Settings that may stand beside a model's `config:` too.
const TOP_LEVEL: &[&str] = &["tags", "owner", "meta", "group", "access"];

/// Reads a `models:` or `seeds:` list. Tests are bound to the full names.
pub(super) fn read_properties(
    list: &Node,
    is_seed: bool,
    known: &KnownNames,
    templates: &Templates,
    reader: &mut Reader<'_>,
) -> Vec<Properties> {
    let (mut found, what) = (Vec::new(), if is_seed { "seed" } else { "model" });
    let check = if is_seed { seeds::check_property } else { config::check };
    for node in reader.list(list) {
        let Some(mut mapping) = reader.mapping(node, what) else { continue };
        let name_node = mapping.require("name", reader);
        let name = name_node.and_then(|node| Some((resolve(&reader.text(node)?, what, node, known, reader)?, node)));
        let description = mapping.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
        let mut config = Config::new();
        for (key, value) in mapping.entries {
            let plain = key.plain_text();
            if TOP_LEVEL.contains(&plain.as_str()) {
                settings::setting(key, &plain, value, check, &mut config, reader);
            }
        }
        for key in TOP_LEVEL {
            mapping.take(key);
        }
        if let Some(block) = mapping.take("config").and_then(|node| reader.mapping(node, "`config` block")) {
            config::overlay(&mut config, &settings::config_block(&block, check, reader));
        }
        let columns = mapping.take("columns");
        let list = mapping.take_any(&["data_tests", "tests"]);
        mapping.finish(reader);
        let Some((name, name_node)) = name else { continue };
        let mut tests = Vec::new();
        let columns =
            columns.map(|node| sources::read_columns(node, &name, &mut tests, templates, reader)).unwrap_or_default();
        tests.extend(list.map(|node| test_lists::read_list(node, &name, None, templates, reader)).unwrap_or_default());
        found.push(Properties {
            key: KeyMaker::new("described").value(&(&name, &description, &config, &columns)).finish(),
            has_contract: config.get("contract").is_some_and(|contract| contract["enforced"] == true),
            has_constraints: columns.iter().any(|column| !column.constraints.is_empty()),
            name,
            span: name_node.span.clone().into(),
            path: name_node.span.file.path.clone(),
            is_seed,
            description,
            config: config.into(),
            columns: columns.into(),
            tests,
        });
    }
    found
}

/// The full name of a model that YAML names, short or full.
fn resolve(name: &str, what: &str, node: &Node, known: &KnownNames, reader: &mut Reader<'_>) -> Option<TableName> {
    match known.model(name) {
        Some(full) => Some(full.clone()),
        None => {
            let diagnostic = Diagnostic::error(Id::Orphan, format!("there is no {what} `{name}`"))
                .at(node.span.clone())
                .suggest(name, known.models.keys().copied());
            reader.diagnostics.push(diagnostic);
            None
        }
    }
}

/// `models/silver/web/views.sql` -> `silver.views`.
pub(super) fn name_of(file: &Arc<SourceFile>, reader: &mut Reader<'_>) -> Option<TableName> {
    let parts: Vec<&str> = file.path.split('/').collect();
    let stem = parts.last().and_then(|name| name.strip_suffix(".sql")).unwrap_or_default();
    let layer = if parts.len() > 2 { parts[1] } else { "" };
    if layer.is_empty() {
        let diagnostic = Diagnostic::error(Id::InvalidName, format!("model `{stem}` stands in no layer"))
            .at(Span::file_start(file))
            .help(format!("move it to a folder of `models/`, such as models/silver/{stem}.sql"));
        reader.diagnostics.push(diagnostic);
        return None;
    }
    for name in [layer, stem] {
        if let Err(why) = check_identifier(name) {
            let diagnostic = Diagnostic::error(Id::InvalidName, format!("`{name}` is not a valid name: {why}"));
            reader.diagnostics.push(diagnostic.at(Span::file_start(file)));
            return None;
        }
    }
    Some(TableName::new(layer, stem))
}

/// Renders a model in all its variants; mistakes come back beside it.
pub(super) fn load(
    name: &TableName,
    file: &Arc<SourceFile>,
    properties: Option<&Properties>,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
) -> (Option<Model>, Vec<Diagnostic>) {
    let described = properties.map(|properties| properties.key);
    let key = loading.key_of("model", file, &described);
    let finish = |body: ModelBody| Model {
        key: KeyMaker::new("model").value(&(name, described)).key(body.key).finish(),
        name: name.clone(),
        path: file.path.clone(),
        file: Arc::clone(file),
        description: properties.map(|properties| properties.description.clone()).unwrap_or_default(),
        described_in: properties.map(|properties| properties.path.clone()),
        has_constraints: properties.is_some_and(|properties| properties.has_constraints),
        columns: properties.map_or_else(|| Vec::new().into(), |properties| properties.columns.clone()),
        seed: None,
        body,
    };
    if let Some(kept) = loading.kept::<ModelBody>(key, known) {
        return (Some(finish(kept.product)), kept.warnings);
    }
    match make(name, file, properties, loading, known) {
        Ok(Made { body, warnings, seen, witnesses }) => {
            let (body, warnings) = loading.keep(key, body, warnings, &seen, witnesses);
            (Some(finish(body)), warnings)
        }
        Err(problems) => (None, problems),
    }
}

/// What rendering a model in all its variants gives.
struct Made {
    body: ModelBody,
    warnings: Vec<Diagnostic>,
    seen: Vec<Recording>,
    witnesses: Witnesses,
}

/// Renders a model in all its variants.
fn make(
    name: &TableName,
    file: &Arc<SourceFile>,
    properties: Option<&Properties>,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
) -> Result<Made, Vec<Diagnostic>> {
    file.fetch().map_err(|error| vec![files::unreadable(file, &error)])?;
    let templates = loading.templates;
    let mut outer = loading.tree.values_for(&folders(file, name));
    if let Some(properties) = properties {
        config::overlay(&mut outer, &properties.config);
    }
    let description = properties.map(|p| p.description.as_str()).unwrap_or_default();
    let outer_config = Arc::new(outer.clone());
    let scope = model_scope(name, file, description, &outer_config, known);
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let Some((full, recording)) = render_all_mistakes(templates, file, scope.clone(), &mut problems) else {
        return Err(problems);
    };
    config::overlay(&mut outer, &recording.config);
    let mut body = ModelBody {
        outer_config: outer_config.into(),
        config: ModelConfig::from_values(&outer),
        full: full.into(),
        incremental: None,
        refs: Vec::new(),
        sources: Vec::new(),
        ref_reads: Vec::new(),
        vars: BTreeSet::new(),
        timeless: None,
        key: Key::default(),
    };
    warnings.extend(templates.warnings(file, &scope, &recording));
    body.absorb(&recording);
    let mut seen = vec![recording];
    if seen[0].asked_incremental && body.config.materialized == super::Materialization::Incremental {
        let scope = Scope { incremental: true, ..scope.clone() };
        let Some((rendered, recording)) = render_all_mistakes(templates, file, scope.clone(), &mut problems) else {
            return Err(problems);
        };
        for warning in templates.warnings(file, &scope, &recording) {
            if warnings.iter().all(|known: &Diagnostic| known.message != warning.message) {
                warnings.push(warning);
            }
        }
        body.absorb(&recording);
        body.incremental = Some(rendered.into());
        seen.push(recording);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if seen.iter().any(|recording| recording.asked_clock) {
        let variants = [false, true].map(|incremental| Scope { incremental, ..scope.clone() });
        let timeless = variants.into_iter().filter_map(|scope| templates.render_timeless(file, scope).ok());
        body.timeless = Some(timeless.collect());
    }
    let witnesses = templates.witnesses(known, &seen);
    body.key = KeyMaker::new("body").value(&body).value(&witnesses).text(file.text()).finish();
    Ok(Made { body, warnings, seen, witnesses })
}

/// The scope of a model's template in a first run.
pub(super) fn model_scope(
    name: &TableName,
    file: &SourceFile,
    description: &str,
    outer_config: &Arc<Config>,
    known: &Arc<KnownNames>,
) -> Scope {
    Scope {
        this: name.clone(),
        model: serde_json::json!({
            "name": name.table, "alias": name.table, "schema": name.schema, "path": file.path, "resource_type": "model",
            "description": description,
            "config": outer_config,
        }),
        incremental: false,
        known: Arc::clone(known),
        check_config: config::check,
        outer_config: Arc::clone(outer_config),
        tolerated: BTreeSet::new(),
        overrides: Arc::default(),
    }
}

/// The folders and the name of a model, as `project.yml` nests settings.
fn folders<'a>(file: &'a SourceFile, name: &'a TableName) -> Vec<&'a str> {
    let mut parts: Vec<&str> = file.path.split('/').skip(1).collect();
    parts.pop();
    parts.push(name.table);
    parts
}

/// Renders; after an unknown name renders on without it, so that every mistake of a file is reported at once.
fn render_all_mistakes(
    templates: &Templates,
    file: &Arc<SourceFile>,
    mut scope: Scope,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Rendered, Recording)> {
    loop {
        match templates.render(file, scope.clone()) {
            Ok(done) => return Some(done),
            Err(failure) => {
                problems.push(failure.diagnostic);
                scope.tolerated.insert(failure.missing?);
            }
        }
    }
}

/// The scope of a template that is no model.
pub(super) fn bare_scope(name: &str, path: &str, known: &Arc<KnownNames>) -> Scope {
    Scope {
        this: TableName::new("tests", name),
        model: serde_json::json!({"name": name, "path": path}),
        incremental: false,
        known: Arc::clone(known),
        check_config: test_config::check as ConfigCheck,
        outer_config: Arc::default(),
        tolerated: BTreeSet::new(),
        overrides: Arc::default(),
    }
}

/// The scope of a singular test.
pub(super) fn singular_scope(file: &SourceFile, known: &Arc<KnownNames>) -> Scope {
    let stem = file.path.rsplit('/').next().unwrap_or(&file.path).trim_end_matches(".sql");
    bare_scope(stem, &file.path, known)
}

/// Renders a query of the command line.
pub(super) fn render_inline(
    file: &Arc<SourceFile>,
    templates: &Templates,
    known: &Arc<KnownNames>,
) -> Result<String, Box<Diagnostic>> {
    match templates.render(file, bare_scope("inline", &file.path, known)) {
        Ok((rendered, _)) => Ok(rendered.sql),
        Err(failure) => Err(Box::new(failure.diagnostic)),
    }
}

/// Renders a singular test.
pub(super) fn load_singular(
    file: &Arc<SourceFile>,
    loading: &Loading<'_>,
    known: &Arc<KnownNames>,
) -> Result<(Arc<DataTest>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let key = loading.key_of("singular test", file, &());
    if let Some(kept) = loading.kept(key, known) {
        return Ok((kept.product, kept.warnings));
    }
    file.fetch().map_err(|error| vec![files::unreadable(file, &error)])?;
    let templates = loading.templates;
    let scope = singular_scope(file, known);
    let stem = scope.this.table;
    let mut problems = Vec::new();
    let rendered = render_all_mistakes(templates, file, scope.clone(), &mut problems);
    let Some((rendered, recording)) = rendered.filter(|_| problems.is_empty()) else { return Err(problems) };
    let warnings = templates.warnings(file, &scope, &recording);
    let reads: Vec<TableName> =
        recording.refs.iter().chain(recording.sources.iter().map(|(name, _)| name)).cloned().collect();
    let test = DataTest {
        name: stem.to_owned(),
        kind: TestKind::Singular { rendered: Box::new(rendered) },
        span: Span::file_start(file).into(),
        config: TestConfig::of(&recording.config),
        description: String::new(),
        table: None,
        reads,
        key: Key::default(),
    };
    let seen = [recording];
    Ok(loading.keep(key, Arc::new(test.keyed()), warnings, &seen, templates.witnesses(known, &seen)))
}
