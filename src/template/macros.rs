//! The macros of a project: which there are, in which package, and which files a template reaches.
//!
//! Each file of `macros/` is a template of its own. A render imports the files that its template mentions, and those
//! that their macros mention; so what is not reached costs nothing, and cannot change what a model says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use minijinja::Environment;

use super::absent;
use super::rewrite::{self, Rewritten};
use super::tags::{self, Definition, DefinitionKind};
use crate::diagnostics::{Diagnostic, Id, SourceFile, Span};
use crate::memo::{Key, KeyMaker};
use crate::names::nearest;

/// What dbt and its most used package offer, written as macros.
const BUILTIN: &[(&str, &str, &str)] = &[
    ("dbt", "dbt (built in)", include_str!("builtin/dbt.sql")),
    ("dbt_utils", "dbt_utils (built in)", include_str!("builtin/dbt_utils.sql")),
];

/// Whether a macro of a package is built in: `dbt_utils.star`.
pub fn is_built_in(package: &str, name: &str) -> bool {
    let text = BUILTIN.iter().find(|(known, _, _)| *known == package).map_or("", |(_, _, text)| text);
    text.lines().any(|line| line.split_once("macro ").is_some_and(|(_, rest)| rest.split('(').next() == Some(name)))
}

/// The prefixes under which `adapter.dispatch` looks for a macro, best first.
pub(super) const DISPATCH: [&str; 3] = ["lake__", "datafusion__", "default__"];

/// What stands before the name of a template that is the body of a generic test, since its file may have macros, too.
pub(super) const TEST: &str = "test in ";

/// A macro that somebody can call.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: String,
    /// The first folder below `macros/`; empty for the project's own files beside it.
    pub(super) package: String,
    pub(super) is_builtin: bool,
    /// Index of its file.
    pub(super) file: usize,
    pub(super) parameters: Vec<String>,
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) takes_caller: bool,
}

impl Macro {
    /// As a template calls it without doubt.
    pub(super) fn full_name(&self) -> String {
        if self.package.is_empty() { self.name.clone() } else { format!("{}.{}", self.package, self.name) }
    }
}

/// A generic test that the project defines.
#[derive(Debug)]
pub(super) struct GenericTest {
    pub(super) file: Arc<SourceFile>,
    pub(super) definition: Definition,
}

/// A file of macros.
#[derive(Debug)]
struct MacroFile {
    source: Arc<SourceFile>,
    rewritten: Rewritten,
    package: String,
    is_builtin: bool,
    /// Files whose macros its own macros may call, itself among them.
    reaches: BTreeSet<usize>,
}

/// All macros and generic tests.
#[derive(Debug, Default)]
pub(super) struct MacroLibrary {
    /// Hashes of the texts of files, by path.
    text_keys: BTreeMap<String, Key>,
    project: String,
    files: Vec<MacroFile>,
    macros: BTreeMap<String, Vec<Arc<Macro>>>,
    tests: BTreeMap<String, GenericTest>,
    /// The files that define what a word may mean in a tag.
    words: HashMap<String, BTreeSet<usize>>,
}

impl MacroLibrary {
    /// Loads the files. One that does not parse is reported and left out.
    pub(super) fn load(
        environment: &mut Environment<'static>,
        project: &str,
        files: &[Arc<SourceFile>],
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut library = Self { project: project.to_owned(), ..Self::default() };
        for file in files {
            let package = package_of(&file.path).to_owned();
            if let Err(diagnostic) = library.add(environment, file, package, false, problems) {
                problems.push(diagnostic);
            }
        }
        for (package, path, text) in BUILTIN {
            let file = Arc::new(SourceFile::new((*path).to_owned(), (*text).to_owned()));
            library
                .add(environment, &file, (*package).to_owned(), true, problems)
                .expect("what is built in parses: a test calls it");
        }
        library.find_reach();
        library
    }

    fn add(
        &mut self,
        environment: &mut Environment<'static>,
        file: &Arc<SourceFile>,
        package: String,
        is_builtin: bool,
        problems: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let rewritten = rewrite::macro_file(file.text());
        if let Err(error) = environment.add_template_owned(file.path.clone(), rewritten.text.clone()) {
            let range = error.range().unwrap_or(0..0);
            let span = Span::new(file, rewritten.original(range.start), rewritten.original(range.end));
            return Err(match absent::of(&error) {
                Some(problem) => {
                    let diagnostic = Diagnostic::error(problem.id, problem.message).at(span);
                    problem.help.into_iter().fold(diagnostic, Diagnostic::help)
                }
                None => Diagnostic::error(Id::Template, super::phrase(&error)).at(span),
            });
        }
        let at = self.files.len();
        for definition in tags::definitions(file.text()) {
            match definition.kind {
                DefinitionKind::Test => self.add_test(file, definition, problems),
                DefinitionKind::Macro => self.add_macro(file, at, &package, is_builtin, definition, problems),
            }
        }
        let source = Arc::clone(file);
        self.text_keys.insert(file.path.clone(), KeyMaker::new("macro").text(file.text()).finish());
        self.files.push(MacroFile { source, rewritten, package, is_builtin, reaches: BTreeSet::from([at]) });
        Ok(())
    }

    fn add_macro(
        &mut self,
        file: &Arc<SourceFile>,
        at: usize,
        package: &str,
        is_builtin: bool,
        definition: Definition,
        problems: &mut Vec<Diagnostic>,
    ) {
        let place = |range: &std::ops::Range<usize>| Span::new(file, range.start, range.end);
        let of_name = self.macros.entry(definition.name.clone()).or_default();
        if let Some(twin) = of_name.iter().find(|known| known.package == package && known.is_builtin == is_builtin) {
            let message = format!("two macros are called `{}`", twin.full_name());
            let other = self.files.get(twin.file).map(|file| &file.source).unwrap_or(file);
            problems.push(
                Diagnostic::error(Id::DuplicateName, message)
                    .at(place(&definition.name_range))
                    .related(definition_span(other, &definition.name), "the other one"),
            );
            return;
        }
        of_name.push(Arc::new(Macro {
            name: definition.name,
            package: package.to_owned(),
            is_builtin,
            file: at,
            parameters: definition.parameters.into_iter().map(|parameter| parameter.name).collect(),
            takes_varargs: definition.takes_varargs,
            takes_kwargs: definition.takes_kwargs,
            takes_caller: definition.takes_caller,
        }));
    }

    /// Adds a generic test, from a file of `macros/` or of `tests/generic/`.
    pub(super) fn add_test(&mut self, file: &Arc<SourceFile>, definition: Definition, problems: &mut Vec<Diagnostic>) {
        if let Some(first) = self.tests.get(&definition.name) {
            let message = format!("two generic tests are called `{}`", definition.name);
            let range = &definition.name_range;
            problems.push(
                Diagnostic::error(Id::DuplicateName, message)
                    .at(Span::new(file, range.start, range.end))
                    .related(definition_span(&first.file, &definition.name), "the other one"),
            );
            return;
        }
        self.tests.insert(definition.name.clone(), GenericTest { file: Arc::clone(file), definition });
    }

    /// Which file reaches which, through words that its tags use.
    fn find_reach(&mut self) {
        for (name, macros) in &self.macros {
            let files: BTreeSet<usize> = macros.iter().map(|found| found.file).collect();
            let undispatched = DISPATCH.iter().find_map(|prefix| name.strip_prefix(prefix));
            for word in undispatched.into_iter().chain([name.as_str()]) {
                self.words.entry(word.to_owned()).or_default().extend(&files);
            }
        }
        let direct: Vec<BTreeSet<usize>> = self.files.iter().map(|file| self.mentioned(file.source.text())).collect();
        for start in 0..self.files.len() {
            let mut pending: Vec<usize> = direct[start].iter().copied().collect();
            while let Some(next) = pending.pop() {
                if self.files[start].reaches.insert(next) {
                    pending.extend(&direct[next]);
                }
            }
        }
    }

    /// The files that define a macro which a text mentions in its tags.
    fn mentioned(&self, text: &str) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for word in tags::words(text) {
            if word == "dispatch" && dispatches_by_variable(text) || word == "context" && looks_up_by_variable(text) {
                return (0..self.files.len()).collect();
            }
            if let Some(files) = self.words.get(word) {
                found.extend(files);
            }
        }
        found
    }

    /// The statements that load what `template` reaches; empty if it reaches no macro. They give each file's module to
    /// the scope, where calls find it: see [`super::calls`].
    pub(super) fn import_statements(&self, template: &str) -> String {
        let statement = |at: usize| {
            let path = self.files[at].source.path.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{{% import \"{path}\" as __module %}}{{% do __lake.take_module({at}, __module) %}}")
        };
        self.reached_files(template).into_iter().map(statement).collect()
    }

    fn reached_files(&self, template: &str) -> BTreeSet<usize> {
        self.mentioned(template).into_iter().flat_map(|file| &self.files[file].reaches).copied().collect()
    }

    /// The paths of the files whose macros a template reaches, apart from those that are built in.
    pub(super) fn reached(&self, template: &str) -> BTreeSet<String> {
        let files = self.reached_files(template).into_iter().map(|at| &self.files[at]);
        files.filter(|file| !file.is_builtin).map(|file| file.source.path.clone()).collect()
    }

    /// The hash of the text of a file of macros.
    pub(super) fn text_key(&self, path: &str) -> Key {
        self.text_keys.get(path).copied().unwrap_or_default()
    }

    /// The hash of what all macros and generic tests are called, where they stand, and what the tests take.
    pub(super) fn names_key(&self) -> Key {
        let macros: Vec<_> = self
            .macros
            .iter()
            .map(|(name, of_name)| {
                (
                    name,
                    of_name
                        .iter()
                        .map(|found| (&found.package, &self.files[found.file].source.path))
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        let tests: Vec<_> = self.tests.values().map(|test| test.file.text()).collect();
        KeyMaker::new("names of macros").value(&macros).value(&tests).finish()
    }

    /// The macros that a template may call by a bare name, and those of packages.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.macros.keys().map(String::as_str)
    }

    /// Names before the dot: packages, and the project itself.
    pub(super) fn packages(&self) -> BTreeSet<&str> {
        let packages = self.files.iter().map(|file| file.package.as_str());
        packages.chain([self.project.as_str()]).filter(|name| !name.is_empty()).collect()
    }

    pub(super) fn test(&self, name: &str) -> Option<&GenericTest> {
        self.tests.get(name)
    }

    pub(super) fn test_names(&self) -> impl Iterator<Item = &str> {
        self.tests.keys().map(String::as_str)
    }

    /// The package of the file that is being rendered.
    pub(super) fn package_of_template(&self, template: &str) -> &str {
        let template = template.strip_prefix(TEST).unwrap_or(template);
        self.files.iter().find(|file| file.source.path == template).map_or("", |file| &file.package)
    }

    /// What a name means: in a package if one is named, else in the caller's own package, in the project, in the one
    /// folder of `macros/` that has it, and last in what is built in.
    ///
    /// # Errors
    /// The full names among which a bare name cannot choose; none if there is no such macro.
    pub(super) fn resolve(&self, name: &str, package: Option<&str>, own: &str) -> Result<&Arc<Macro>, Vec<String>> {
        let all = self.macros.get(name).map(Vec::as_slice).unwrap_or_default();
        let in_package = |package: &str| {
            let of_project = package == self.project;
            let mut found = all.iter().filter(|m| m.package == package || (of_project && !m.is_builtin));
            // A folder of this name goes before the rest of the project, and the user's before what is built in.
            let first = found.clone().find(|m| m.package == package && !m.is_builtin);
            first.or_else(|| found.clone().find(|m| m.package.is_empty())).or_else(|| found.next())
        };
        if let Some(package) = package {
            return in_package(package).ok_or_else(Vec::new);
        }
        if let Some(found) = in_package(own).or_else(|| all.iter().find(|m| m.package.is_empty())) {
            return Ok(found);
        }
        let users: Vec<&Arc<Macro>> = all.iter().filter(|m| !m.is_builtin).collect();
        match users.as_slice() {
            [only] => Ok(*only),
            // dbt's own macros need no package; those of other packages do.
            [] => all.iter().find(|m| m.package == "dbt").ok_or_else(Vec::new),
            many => Err(many.iter().map(|m| m.full_name()).collect()),
        }
    }

    /// The macro of a package, or anywhere, that a mistyped name most likely meant.
    pub(super) fn near(&self, name: &str, package: Option<&str>) -> Option<String> {
        let known = self.macros.values().flatten().filter(|m| package.is_none_or(|package| m.package == package));
        let known: Vec<&str> = known.map(|m| m.name.as_str()).collect();
        nearest(name, known).map(str::to_owned)
    }

    /// The place in the user's file of a range in the template of this name; `None` if it is no file of macros.
    pub(super) fn locate(&self, template: &str, range: Option<std::ops::Range<usize>>) -> Option<Span> {
        let file = self.files.iter().find(|file| file.source.path == template && !file.is_builtin)?;
        let Some(range) = range else { return Some(Span::file_start(&file.source)) };
        let (start, end) = (file.rewritten.original(range.start), file.rewritten.original(range.end));
        Some(Span::new(&file.source, start, end))
    }
}

/// `macros/money/x.sql` -> `money`; a file beside the folders belongs to the project itself.
fn package_of(path: &str) -> &str {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [_, package, _, ..] => package,
        _ => "",
    }
}

/// Whether a macro is looked for by a name that is not written out.
fn dispatches_by_variable(text: &str) -> bool {
    text.match_indices("dispatch").any(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        let argument = rest.strip_prefix('(').map(str::trim_start);
        let argument = argument.map(|rest| {
            rest.strip_prefix("macro_name").map_or(rest, |r| r.trim_start().trim_start_matches('=').trim_start())
        });
        argument.is_some_and(|rest| !rest.starts_with(['\'', '"']))
    })
}

/// Whether something is looked up in `context` by a name that is not written out.
fn looks_up_by_variable(text: &str) -> bool {
    text.match_indices("context").any(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        let key = rest.strip_prefix('[').or_else(|| rest.strip_prefix(".get")?.trim_start().strip_prefix('('));
        let Some(key) = key.map(str::trim_start) else { return false };
        let Some(quote) = key.chars().next().filter(|c| ['\'', '"'].contains(c)) else { return true };
        let end = key[1..].split_once(quote).map(|(_, rest)| rest.trim_start());
        !end.is_some_and(|rest| rest.starts_with([']', ')', ',']))
    })
}

/// Where a file defines a macro or test.
fn definition_span(file: &Arc<SourceFile>, name: &str) -> Span {
    let found = tags::definitions(file.text()).into_iter().find(|definition| definition.name == name);
    found.map_or_else(|| Span::file_start(file), |d| Span::new(file, d.name_range.start, d.name_range.end))
}
