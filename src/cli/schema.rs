//! `lake schema`: JSON Schemas of the YAML files, for editors.

use clap::{Args, ValueEnum};

use super::ExitStatus;
use super::args::Global;
use super::printer::Printer;
use crate::artifacts;
use crate::project::YamlFile;

/// `lake schema`
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The file to print the schema of
    #[arg(value_enum, required_unless_present = "write")]
    file: Option<File>,
    /// Write the schemas of all files to .lake/schemas/, where the headers of the files look for them
    #[arg(long, conflicts_with = "file")]
    write: bool,
}

/// A kind of file.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum File {
    /// project.yml
    Project,
    /// sources.yml
    Sources,
    /// models/**/*.yml and seeds/**/*.yml
    Models,
    /// selectors.yml
    Selectors,
}

impl From<File> for YamlFile {
    fn from(file: File) -> Self {
        match file {
            File::Project => Self::Project,
            File::Sources => Self::Sources,
            File::Models => Self::Models,
            File::Selectors => Self::Selectors,
        }
    }
}

pub(super) fn run(global: &Global, args: &SchemaArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    if let Some(file) = args.file {
        printer.result(&serde_json::to_string_pretty(&YamlFile::from(file).schema())?);
        return Ok(ExitStatus::Fine);
    }
    let folder = crate::project::read(&global.project_dir)?.folder;
    let written = artifacts::write_schemas(&folder)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({ "written": written }));
        return Ok(ExitStatus::Fine);
    }
    written.iter().for_each(|path| printer.result(&format!("wrote {}", path.display())));
    printer.note("in project.yml write: # yaml-language-server: $schema=.lake/schemas/project.json");
    Ok(ExitStatus::Fine)
}
