//! A dbt project -> a project of `lake`: `lake init --from-dbt`.
//!
//! The texts of files come in, and texts go out, with as few changes as possible: layouts, keys and settings that are
//! other here, and snapshots, which are models. Whatever was changed or could not be converted is a [`Finding`] at its
//! line. Pure: nothing is read or written here.

mod dialect;
mod edits;
mod finding;
mod jinja;
mod layout;
mod packages;
mod profiles;
mod project_yml;
mod properties;
mod snapshots;
mod sources;
mod sql;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use edits::{Edits, entries, get, items, texts};
use finding::Findings;
pub use finding::{Counts, Finding, Level, markdown, totals};
use layout::{Area, Layout};
use profiles::Targets;
use properties::Page;
use sql::{Kind, Sql};

use crate::names::check_identifier;
use crate::project::{self, Node};

/// A file of a dbt project.
#[derive(Debug, Clone)]
pub struct DbtFile {
    /// Relative to the project, with `/` between folders.
    pub path: String,
    /// What it says; `None` where nobody looks into it.
    pub text: Option<String>,
}

/// A file of the new project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// With this text.
    Text(String),
    /// As this file of the dbt project.
    Copy(String),
}

/// A converted project.
#[derive(Debug)]
pub struct Conversion {
    /// Its name.
    pub name: String,
    /// Its files by path.
    pub files: BTreeMap<String, Made>,
    /// What is to be said of them, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// How much was converted.
    pub counts: Counts,
    /// The files of the dbt project that new ones are made of.
    pub origins: BTreeMap<String, String>,
}

/// What every file of the conversion may ask about the others.
struct World {
    /// The name of the dbt project.
    name: String,
    /// The layer of models that stand in no folder.
    layer: String,
    /// These models.
    top_models: BTreeSet<String>,
    /// Folders of models and seeds.
    folders: BTreeSet<String>,
    /// Packages that the project asks for.
    packages: Vec<String>,
    /// Macros of the project.
    macros: BTreeSet<String>,
    /// Generic tests of the project.
    generic_tests: BTreeSet<String>,
    /// Snapshots.
    snapshots: BTreeSet<String>,
    /// Models and seeds whose names had to change.
    renamed: BTreeMap<String, String>,
    /// Models of files.
    models: BTreeSet<String>,
    /// Contracts are enforced by folder.
    has_contracts: bool,
    /// Keys of YAML mappings, by what their reader calls them.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// From the new project to the dbt project, for paths of files: `../shop_dbt/`.
    way_back: String,
}

impl World {
    /// A path of the dbt project as the new one says it.
    fn path_of(&self, path: &str) -> String {
        let is_elsewhere = path.starts_with('/') || path.contains("://") || path.starts_with("{{");
        if is_elsewhere { path.to_owned() } else { format!("{}{}", self.way_back, path.trim_start_matches("./")) }
    }

    /// The model of a version: `orders_v2`, or `orders` if that is the file of the newest.
    fn versioned(&self, name: &str, version: &str) -> String {
        let own = format!("{name}_v{version}");
        if self.models.contains(&own) || !self.models.contains(name) { own } else { name.to_owned() }
    }
}

/// Converts the files of a dbt project. `way_back` leads from the folder of the new project to that of the old one, and is
/// empty or ends with `/`.
///
/// # Errors
/// When there is no `dbt_project.yml`, or it is none.
pub fn convert(files: &[DbtFile], way_back: &str) -> Result<Conversion, String> {
    let mut findings = Findings::default();
    let text_of = |names: &[&str]| {
        let file = files.iter().find(|file| names.contains(&file.path.as_str()))?;
        Some((file.path.as_str(), file.text.as_deref()?))
    };
    let Some((path, text)) = text_of(&["dbt_project.yml", "dbt_project.yaml"]) else {
        return Err("there is no dbt_project.yml".to_owned());
    };
    let Some(root) = properties::parse(path, text, &mut findings) else {
        let why = findings.sorted().first().map_or_else(|| "it is empty".to_owned(), |first| first.action.clone());
        return Err(format!("{path}: {why}"));
    };
    let Some(name) = get(&root, "name").map(Node::plain_text).filter(|name| check_identifier(name).is_ok()) else {
        return Err(format!("{path}: a project has a `name` of letters, digits and `_`"));
    };
    let targets = match text_of(&["profiles.yml", "profiles.yaml"]) {
        Some((path, text)) => {
            let profile = get(&root, "profile").map(Node::plain_text);
            profiles::read(path, text, profile.as_deref(), &mut findings)
        }
        None => Targets::one(),
    };
    let mut asked = Vec::new();
    for names in [["packages.yml", "packages.yaml"], ["dependencies.yml", "dependencies.yaml"]] {
        if let Some((path, text)) = text_of(&names) {
            asked.extend(packages::read(path, text, &mut findings));
        }
    }
    let layout = Layout::new(&root);
    let layer = targets.schema.clone().unwrap_or_else(|| name.clone());
    let world = world(
        files,
        &layout,
        World {
            packages: asked,
            way_back: way_back.to_owned(),
            has_contracts: text.contains("contract:") && text.contains("enforced: true"),
            ..empty(name, layer)
        },
    );
    let mut conversion = Converter {
        world: &world,
        layout: &layout,
        findings,
        files: BTreeMap::new(),
        counts: Counts::default(),
        origins: BTreeMap::new(),
    };
    for file in files {
        conversion.file(file);
    }
    conversion.versions(files);
    conversion.name_schemas();
    let mut page = Page {
        path,
        text,
        edits: Edits::default(),
        world: &world,
        findings: &mut conversion.findings,
        made: Vec::new(),
        sources: 0,
    };
    layout.report(&mut page, &root);
    let project = page.project(&root, &targets);
    conversion.files.insert("project.yml".to_owned(), Made::Text(project));
    let Converter { findings, files, counts, origins, .. } = conversion;
    Ok(Conversion { name: world.name, files, findings: findings.sorted(), counts, origins })
}

fn empty(name: String, layer: String) -> World {
    World {
        name,
        layer,
        top_models: BTreeSet::new(),
        folders: BTreeSet::new(),
        packages: Vec::new(),
        macros: BTreeSet::new(),
        generic_tests: BTreeSet::new(),
        snapshots: BTreeSet::new(),
        renamed: BTreeMap::new(),
        models: BTreeSet::new(),
        has_contracts: false,
        keys: project::known_keys(),
        way_back: String::new(),
    }
}

/// What there is, before anything is converted.
fn world(files: &[DbtFile], layout: &Layout, mut world: World) -> World {
    for file in files {
        let Some((area, rest)) = layout.place(&file.path) else { continue };
        let text = file.text.as_deref().unwrap_or_default();
        let (folder, stem) = layout::parts(rest);
        match (area, layout::ending(rest)) {
            (Area::Models, "sql") | (Area::Seeds, "csv") => {
                if let Some(folder) = folder {
                    world.folders.insert(folder.to_owned());
                } else if area == Area::Models {
                    world.top_models.insert(stem.to_owned());
                }
                let new = identifier(stem);
                if new != stem {
                    world.renamed.insert(stem.to_owned(), new.clone());
                }
                world.models.insert(new);
            }
            (Area::Snapshots, "sql") => world.snapshots.extend(snapshots::names(text)),
            (Area::Macros | Area::Tests, "sql") => {
                world.macros.extend(sql::defined(text, "macro"));
                world.generic_tests.extend(sql::defined(text, "test"));
            }
            (Area::Models | Area::Snapshots | Area::Seeds, "yml" | "yaml") if text.contains("snapshots:") => {
                if let Some(root) = properties::parse(&file.path, text, &mut Findings::default()) {
                    let found = get(&root, "snapshots").map(items).unwrap_or_default();
                    world.snapshots.extend(found.iter().filter_map(|item| get(item, "name")).map(Node::plain_text));
                }
            }
            _ => {}
        }
    }
    world
}

/// A name that can be that of a table: other characters become `_`.
fn identifier(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The place of a file below a layer whose name can be that of a schema.
fn in_layer(rest: &str) -> String {
    match rest.split_once('/') {
        Some((folder, inner)) => format!("{}/{inner}", identifier(folder)),
        None => rest.to_owned(),
    }
}

/// A conversion on its way.
struct Converter<'a> {
    world: &'a World,
    layout: &'a Layout,
    findings: Findings,
    files: BTreeMap<String, Made>,
    counts: Counts,
    origins: BTreeMap<String, String>,
}

impl Converter<'_> {
    fn file(&mut self, file: &DbtFile) {
        let path = file.path.as_str();
        if matches!(path, "selectors.yml" | "selectors.yaml") {
            return self.put(path, path, Made::Copy(path.to_owned()));
        }
        let Some((area, rest)) = self.layout.place(path) else { return };
        let text = file.text.as_deref();
        match (area, layout::ending(rest), text) {
            (Area::Models, "sql", Some(text)) => {
                self.counts.models += 1;
                let target = self.model_path(path, rest);
                self.sql(path, text, &target, Kind::Model);
            }
            (Area::Models, "py", _) => {
                let action = "there are no models in Python: write it as SQL, or let another program write a table that is a source";
                self.findings.push(Level::Todo, path, 1, "a model in Python", action);
            }
            (Area::Snapshots, "sql", Some(text)) => {
                for (target, text) in snapshots::of_sql(path, text, self.world, &mut self.findings) {
                    self.counts.snapshots += 1;
                    self.put(path, &target, Made::Text(text));
                }
            }
            (Area::Models | Area::Snapshots | Area::Seeds, "yml" | "yaml", Some(text)) => {
                self.properties(path, text, area, rest);
            }
            (Area::Seeds, "csv", _) => {
                self.counts.seeds += 1;
                let target = format!("seeds/{}", self.renamed(path, rest, "csv"));
                self.put(path, &target, Made::Copy(path.to_owned()));
            }
            (Area::Macros, "sql", Some(text)) => {
                self.counts.macros += 1;
                self.sql(path, text, &format!("macros/{rest}"), Kind::Macro);
            }
            (Area::Macros, "yml" | "yaml", _) => {
                let action = "is not taken over: describe a macro in a comment above it, {# ... #}";
                self.findings.push(Level::Look, path, 1, "properties of macros", action);
            }
            (Area::Tests, "sql", Some(text)) if rest.starts_with("fixtures/") => {
                let _ = text;
                self.put(path, &format!("tests/{rest}"), Made::Copy(path.to_owned()));
            }
            (Area::Tests, "csv", _) => self.put(path, &format!("tests/{rest}"), Made::Copy(path.to_owned())),
            (Area::Tests, "sql", Some(text)) => {
                self.counts.tests += 1;
                self.sql(path, text, &format!("tests/{rest}"), Kind::Test);
            }
            (Area::Tests, "yml" | "yaml", _) => {
                let action = "is not taken over: a singular test is described by the settings in its SQL";
                self.findings.push(Level::Look, path, 1, "properties of tests", action);
            }
            (Area::Analyses, "sql", _) => {
                let action = "was copied to analyses/, which `lake` does not read: ask it with `lake show --inline`";
                self.findings.push(Level::Look, path, 1, "an analysis", action);
                self.put(path, &format!("analyses/{rest}"), Made::Copy(path.to_owned()));
            }
            (area, "md", Some(text)) if text.contains("docs ") && text.contains("enddocs") => {
                let target = match area {
                    Area::Models => format!("models/{}", in_layer(rest)),
                    _ => format!("docs/{rest}"),
                };
                self.put(path, &target, Made::Copy(path.to_owned()));
            }
            _ => {}
        }
    }

    /// Editors look for the schema of a file where its first line says.
    fn name_schemas(&mut self) {
        for (path, made) in &mut self.files {
            if let (true, Made::Text(text)) = (path.ends_with(".yml") || path.ends_with(".yaml"), made) {
                let up = "../".repeat(path.matches('/').count());
                *text = format!("# yaml-language-server: $schema={up}.lake/schemas/models.json\n{}", text.trim_start());
            }
        }
    }

    /// Two files for one place are a finding; the first one stays.
    fn put(&mut self, from: &str, target: &str, made: Made) {
        if self.files.contains_key(target) {
            let action = format!("was left out: there is another file for {target}");
            self.findings.push(Level::Todo, from, 1, "a file of the same name", action);
            return;
        }
        self.files.insert(target.to_owned(), made);
        self.origins.insert(target.to_owned(), from.to_owned());
    }

    fn sql(&mut self, path: &str, text: &str, target: &str, kind: Kind) {
        let mut file = Sql::new(path, text, kind);
        file.convert(self.world, &mut self.findings);
        let Sql { edits, .. } = file;
        self.put(path, target, Made::Text(edits.apply(text)));
    }

    fn properties(&mut self, path: &str, text: &str, area: Area, rest: &str) {
        let target = match area {
            Area::Models => format!("models/{}", in_layer(rest)),
            Area::Snapshots => format!("models/{}/{rest}", snapshots::LAYER),
            _ => format!("seeds/{rest}"),
        };
        let converted = properties::convert(path, text, &target, self.world, &mut self.findings);
        self.counts.sources += converted.sources;
        for (target, text) in converted.files {
            self.counts.snapshots += usize::from(target.starts_with("models/snapshots/") && target.ends_with(".sql"));
            self.put(path, &target, Made::Text(text));
        }
    }

    /// `customers.sql` -> `models/main/customers.sql`: a model stands in a layer.
    fn model_path(&mut self, path: &str, rest: &str) -> String {
        let rest = self.renamed(path, rest, "sql");
        if rest.contains('/') {
            return format!("models/{rest}");
        }
        let target = format!("models/{}/{rest}", self.world.layer);
        let action = format!("stands in the layer `{}` now: {target}", self.world.layer);
        self.findings.push(Level::Done, path, 1, "a model outside of a folder", action);
        target
    }

    /// The same place with names that tables can have.
    fn renamed(&mut self, path: &str, rest: &str, ending: &str) -> String {
        let (folder, stem) = layout::parts(rest);
        let inner = rest.strip_suffix(&format!("{stem}.{ending}")).unwrap_or_default();
        let inner = match folder {
            Some(folder) => format!("{}{}", identifier(folder), &inner[folder.len()..]),
            None => inner.to_owned(),
        };
        let made = format!("{inner}{}.{ending}", identifier(stem));
        if made != rest {
            self.findings.push(Level::Look, path, 1, "a name that is none of a table", format!("is {made} now"));
        }
        made
    }

    /// `ref('orders')` of a model that has versions reads the newest one.
    fn versions(&mut self, files: &[DbtFile]) {
        for file in files {
            let Some((Area::Models, rest)) = self.layout.place(&file.path) else { continue };
            let (Some(text), "yml" | "yaml") = (&file.text, layout::ending(rest)) else { continue };
            let Some(root) = text
                .contains("versions:")
                .then(|| properties::parse(&file.path, text, &mut Findings::default()))
                .flatten()
            else {
                continue;
            };
            for model in get(&root, "models").map(items).unwrap_or_default() {
                let Some(name) = get(model, "name").map(Node::plain_text) else { continue };
                let numbers: Vec<String> = get(model, "versions")
                    .map(items)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|version| get(version, "v"))
                    .map(Node::plain_text)
                    .collect();
                let newest = get(model, "latest_version").map(Node::plain_text).or_else(|| numbers.last().cloned());
                let Some(newest) = newest.map(|version| self.world.versioned(&name, &version)) else { continue };
                let suffix = format!("/{newest}.sql");
                let place = self.files.keys().find(|path| path.ends_with(&suffix)).cloned();
                if let (Some(place), true) = (place, newest != name) {
                    let target = place.replace(&suffix, &format!("/{name}.sql"));
                    let line = sql::line(text, model.span.start);
                    let action = format!("is {target}, a view of the newest version");
                    self.findings.push(Level::Done, &file.path, line, format!("`ref('{name}')`"), action);
                    self.put(&file.path, &target, Made::Text(format!("select * from {{{{ ref('{newest}') }}}}\n")));
                }
            }
        }
    }
}
