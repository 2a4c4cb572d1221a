//! `lake init`: a new project that builds at once.

use std::path::Path;

use anyhow::{Context, bail};

use super::ExitStatus;
use super::args::InitArgs;
use super::printer::Printer;
use crate::artifacts;
use crate::names::check_identifier;

/// The files of a new project; `{name}` stands for its name.
pub(super) const FILES: &[(&str, &str)] = &[
    ("project.yml", include_str!("../../templates/init/project.yml")),
    ("sources.yml", include_str!("../../templates/init/sources.yml")),
    ("models/silver/orders.sql", include_str!("../../templates/init/models/silver/orders.sql")),
    ("models/silver/orders.yml", include_str!("../../templates/init/models/silver/orders.yml")),
    ("models/gold/daily_revenue.sql", include_str!("../../templates/init/models/gold/daily_revenue.sql")),
    ("models/gold/daily_revenue.yml", include_str!("../../templates/init/models/gold/daily_revenue.yml")),
    ("data/bronze/orders/2026-01-05.csv", include_str!("../../templates/init/data/bronze/orders/2026-01-05.csv")),
    (".gitignore", include_str!("../../templates/init/gitignore")),
];

pub(super) fn run(args: &InitArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let folder = std::path::absolute(&args.folder)?;
    if folder.join("project.yml").exists() {
        bail!("`{}` is a project already", folder.display());
    }
    let taken: Vec<&str> = FILES.iter().map(|(path, _)| *path).filter(|path| folder.join(path).exists()).collect();
    let taken: Vec<&str> = taken.into_iter().filter(|path| *path != ".gitignore").collect();
    if !taken.is_empty() {
        bail!("`{}` has files that would be overwritten: {}", folder.display(), taken.join(", "));
    }
    let name = project_name(&folder);
    for (path, text) in FILES {
        let path = folder.join(path);
        if path.exists() {
            continue;
        }
        let parent = path.parent().context("a file has a folder")?;
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        std::fs::write(&path, text.replace("{name}", &name))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    artifacts::write_schemas(&folder)?;
    let shown = args.folder.display();
    printer.result(&format!("made project `{name}` in {}", folder.display()));
    let go = if args.folder == Path::new(".") { String::new() } else { format!("cd {shown} && ") };
    printer.note(&format!("next: {go}lake build"));
    Ok(ExitStatus::Fine)
}

/// The folder's name, made into an identifier.
fn project_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit()).to_lowercase();
    if check_identifier(&name).is_ok() { name } else { "my_lake".to_owned() }
}
