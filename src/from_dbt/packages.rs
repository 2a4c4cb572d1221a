//! `packages.yml` and `dependencies.yml`: what of them is built in, and what must be copied.

use super::edits::{entries, get, items};
use super::finding::{Findings, Level};
use super::{properties, sql};
use crate::project::Node;

/// The packages that a file names, with what is to be done about each.
pub(super) fn read(path: &str, text: &str, findings: &mut Findings) -> Vec<String> {
    let Some(root) = properties::parse(path, text, findings) else { return Vec::new() };
    let mut names = Vec::new();
    for package in get(&root, "packages").map(items).unwrap_or_default() {
        let line = sql::line(text, package.span.start);
        let Some(name) = name_of(package) else { continue };
        let (level, action) = match name.as_str() {
            "dbt_utils" => (Level::Done, "its tests, and the macros that people use daily, are built in".to_owned()),
            "dbt_expectations" => (Level::Done, "most of its tests are built in: `lake test --list`".to_owned()),
            "codegen" => (Level::Done, "is not needed: `lake source infer`, `lake test suggest`".to_owned()),
            "audit_helper" => (Level::Done, "is not needed: `lake diff`".to_owned()),
            name => {
                let action = format!(
                    "there are no packages: copy the macros that you call to macros/{name}/ (they are {name}.macro() then), \
                     and its models to models/"
                );
                (Level::Todo, action)
            }
        };
        findings.push(level, path, line, format!("package `{name}`"), action);
        names.push(name);
    }
    for project in get(&root, "projects").map(items).unwrap_or_default() {
        let line = sql::line(text, project.span.start);
        let name = get(project, "name").map(Node::plain_text).unwrap_or_default();
        let action = "is another project: declare its tables as sources with `format: delta`";
        findings.push(Level::Todo, path, line, format!("project `{name}`"), action);
    }
    names
}

/// `dbt-labs/dbt_utils`, a git address or a folder: the last word of it.
fn name_of(package: &Node) -> Option<String> {
    let place = ["package", "git", "local", "tarball", "private"].iter().find_map(|key| get(package, key));
    let place = place.or_else(|| entries(package).first().map(|(_, value)| value))?.plain_text();
    let last = place.trim_end_matches('/').rsplit('/').next()?.trim_end_matches(".git").trim_end_matches(".tar.gz");
    let name = last.trim_start_matches("dbt-").replace('-', "_");
    (!name.is_empty()).then_some(name)
}
