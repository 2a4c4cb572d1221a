//! `lake init --from-dbt DIR`: reads a dbt project, writes one of `lake`, and reports what could not be converted.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use super::ExitStatus;
use super::args::{Global, InitArgs, Output};
use super::printer::Printer;
use crate::artifacts;
use crate::diagnostics::{Diagnostics, Severity};
use crate::from_dbt::{self, Conversion, DbtFile, Level, Made};
use crate::memo::Memo;
use crate::paths;
use crate::project;

/// The report, beside the new project.
const REPORT: &str = "FROM_DBT.md";

/// Folders of a dbt project that it makes itself, or that are no part of it.
const LEFT_OUT: &[&str] = &["target", "dbt_packages", "dbt_modules", "logs", "node_modules", "venv", "env"];

/// Endings of files that somebody looks into.
const TEXT: &[&str] = &["sql", "yml", "yaml", "md"];

pub(super) fn run(global: &Global, dbt: &Path, args: &InitArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let here = std::env::current_dir()?;
    let (old, new) = (paths::absolute(&here, dbt)?, paths::absolute(&here, &args.folder)?);
    let mut files = Vec::new();
    read(&old, &old, &new, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let conversion = match from_dbt::convert(&files, &way(&new, &old)) {
        Ok(conversion) => conversion,
        Err(why) => bail!("`{}` is no dbt project: {why}", dbt.display()),
    };
    write(&conversion, &old, &new)?;
    let left = left(&conversion, &new, global)?;
    let report = from_dbt::markdown(&conversion.name, &conversion.counts, &conversion.findings);
    put(&new.join(REPORT), &format!("{report}{}", section(&left)))?;
    artifacts::write_schemas(&new)?;
    if printer.is_json() || args.format.is_some_and(|format| matches!(format, Output::Json)) {
        let left: Vec<_> =
            left.iter().map(|left| serde_json::json!({"at": left.at, "message": left.message})).collect();
        printer.json(&serde_json::json!({
            "project": conversion.name, "counts": conversion.counts, "findings": conversion.findings, "compile": left,
            "files": conversion.files.keys().collect::<Vec<_>>(),
        }));
        return Ok(ExitStatus::Fine);
    }
    conversion.findings.iter().for_each(|finding| printer.result(&finding.text()));
    if !left.is_empty() {
        printer.result("\nin the new project:");
        left.iter().for_each(|left| printer.result(&format!("todo  {}  {}", left.at, left.message)));
    }
    let totals = from_dbt::totals(&conversion.findings);
    printer.result(&format!("\nconverted {}: {totals}", conversion.counts.text()));
    let shown = args.folder.display();
    let go = if args.folder == Path::new(".") { String::new() } else { format!("cd {shown} && ") };
    printer.note(&format!("the report is in {}", args.folder.join(REPORT).display()));
    printer.note(&format!("next: {go}lake compile"));
    Ok(ExitStatus::Fine)
}

/// The files below a folder, without those that tools make, and without projects inside of it.
fn read(folder: &Path, root: &Path, new: &Path, found: &mut Vec<DbtFile>) -> anyhow::Result<()> {
    let cannot = || format!("cannot read `{}`", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().with_context(cannot)?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            let is_other = path.join("dbt_project.yml").exists() || path.join("project.yml").exists() || path == new;
            if !is_other && !LEFT_OUT.contains(&name.as_str()) {
                read(&path, root, new, found)?;
            }
            continue;
        }
        let parts = path.strip_prefix(root).context("a file stands below its folder")?.components();
        let inner: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let is_text = TEXT.contains(&path.extension().map(|e| e.to_string_lossy()).unwrap_or_default().as_ref());
        let text = match is_text {
            true => Some(text(&path)?),
            false => None,
        };
        found.push(DbtFile { path: inner.join("/"), text });
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text).replace("\r\n", "\n")),
        Err(_) => bail!("`{}` is not UTF-8 text: save it as UTF-8", path.display()),
    }
}

/// How a path of one folder is said in another: `../shop_dbt/`.
fn way(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) = (from.components().collect(), to.components().collect());
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[same..].iter().map(|_| "../".to_owned());
    let down = to[same..].iter().map(|part| format!("{}/", part.as_os_str().to_string_lossy()));
    up.chain(down).collect()
}

/// Writes the files of the new project, and none if one of them is there.
fn write(conversion: &Conversion, old: &Path, new: &Path) -> anyhow::Result<()> {
    let own = ["project.yml", "project.yaml", "sources.yml", REPORT];
    let all: BTreeSet<&str> = conversion.files.keys().map(String::as_str).chain(own).collect();
    let taken: Vec<&str> = all.into_iter().filter(|path| new.join(path).exists()).collect();
    if !taken.is_empty() {
        let shown = taken.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if taken.len() > 5 { format!(" and {} more", taken.len() - 5) } else { String::new() };
        bail!(
            "`{}` has files that would be overwritten: {shown}{more}; name a new folder: lake init --from-dbt DIR NEW_DIR",
            new.display()
        );
    }
    for (path, made) in &conversion.files {
        let target = new.join(path);
        match made {
            Made::Text(text) => put(&target, text)?,
            Made::Copy(from) => {
                folder_of(&target)?;
                std::fs::copy(old.join(from), &target)
                    .with_context(|| format!("cannot copy `{from}` to `{}`", target.display()))?;
            }
        }
    }
    let ignored = new.join(".gitignore");
    if !ignored.exists() {
        put(&ignored, "/.lake/\n/data/lake*/\n")?;
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    folder_of(path)?;
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

fn folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))
}

/// What the new project still has wrong, by its own reader.
struct Left {
    at: String,
    message: String,
}

/// Reads the new project; what is told of a line already is not told again.
fn left(conversion: &Conversion, new: &Path, global: &Global) -> anyhow::Result<Vec<Left>> {
    let files = project::read(new)?;
    let options = project::LoadOptions {
        target: global.target.clone(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        ..project::LoadOptions::default()
    };
    let mut diagnostics = Diagnostics::new();
    let _ = project::load(&files, &options, &Memo::none(), &mut diagnostics);
    let is_told = |path: &str, line: usize| {
        let path = conversion.origins.get(path).map_or(path, String::as_str);
        let mut todo = conversion.findings.iter().filter(|finding| finding.level == Level::Todo);
        todo.any(|finding| finding.file == path && finding.line == line)
    };
    let mut left = Vec::new();
    for diagnostic in diagnostics.sorted() {
        let Some(span) = diagnostic.span.as_ref().filter(|_| diagnostic.severity == Severity::Error) else { continue };
        let (line, _) = span.position();
        if !is_told(&span.file.path, line) {
            let help = diagnostic.help.first().map(|help| format!(": {help}")).unwrap_or_default();
            left.push(Left {
                at: format!("{}:{line}", span.file.path),
                message: format!("{}{help}", diagnostic.message),
            });
        }
    }
    Ok(left)
}

fn section(left: &[Left]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let lines: String = left.iter().map(|left| format!("- `{}` {}\n", left.at, left.message)).collect();
    format!("\n## In the new project\n\nLines are those of the new project.\n\n{lines}")
}
