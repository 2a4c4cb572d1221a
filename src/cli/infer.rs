//! `lake source infer PATH`: the YAML of a new source, from its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::ExitStatus;
use super::args::{Global, SourceInferArgs};
use super::printer::Printer;
use crate::bronze;
use crate::catalog::sql_type;
use crate::diagnostics::Diagnostics;
use crate::names::check_identifier;
use crate::paths;
use crate::project::{self, Compression, Format};
use crate::session::{self, Resources};

/// How much of a file is looked at to guess its shape.
const LOOKED_AT: u64 = 64 * 1024;

/// What the first lines of a file say.
#[derive(Debug, Default, PartialEq)]
struct Shape {
    delimiter: Option<char>,
    /// The names of columns that no header gives.
    nameless: Vec<String>,
}

pub(super) fn run(global: &Global, args: &SourceInferArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let folder = paths::absolute(&std::env::current_dir()?, &global.project_dir)?;
    let (format, example) = look(&folder, &args.path, args.format.as_deref())?;
    let has_shape = (format == "csv" || format == "tsv") && is_plain(&example);
    let shape = if has_shape { shape(&example, &format)? } else { Shape::default() };
    let (schema, table) = names(args)?;
    let yaml = Yaml { schema: &schema, table: &table, path: &args.path, format: &format, shape: &shape };
    let mut diagnostics = Diagnostics::new();
    let Some(source) = project::one_source(&folder, &yaml.text(&[]), &mut diagnostics) else {
        printer.diagnostics(&diagnostics);
        return Ok(ExitStatus::Wrong);
    };
    let async_runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let session = session::state(Resources { threads: 1, memory: None }, None)?;
    let found = async_runtime.block_on(async {
        let listing = bronze::list(&source, &folder, None).await?;
        bronze::infer_schema(&source, &listing, &session, &folder).await
    })?;
    let columns: Vec<(String, String)> = match shape.nameless.as_slice() {
        [] => found.fields().iter().map(|field| (field.name().clone(), sql_type(field.data_type()))).collect(),
        nameless => nameless.iter().map(|name| (name.clone(), "varchar".to_owned())).collect(),
    };
    let text = yaml.text(&columns);
    if printer.is_json() {
        let columns: Vec<_> =
            columns.iter().map(|(name, kind)| serde_json::json!({"name": name, "data_type": kind})).collect();
        printer.json(&serde_json::json!({
            "source": schema, "table": table, "path": args.path, "format": format, "columns": columns, "yaml": text,
        }));
    } else {
        printer.result(text.trim_end());
    }
    Ok(ExitStatus::Fine)
}

/// The format of the files at a path, and one of them.
fn look(folder: &Path, path: &str, format: Option<&str>) -> anyhow::Result<(String, PathBuf)> {
    let mut found: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    let base =
        path.find(['*', '?', '[', '{']).map_or(path, |wild| path[..wild].rsplit_once('/').map_or(".", |(b, _)| b));
    let base = paths::absolute(folder, base)?;
    if !base.exists() {
        bail!("`{path}` does not exist");
    }
    let mut folders = vec![base];
    while let Some(next) = folders.pop() {
        // What a Delta table consists of are not files that arrive.
        if next.join("_delta_log").is_dir() {
            continue;
        }
        if next.is_dir() {
            let entries = std::fs::read_dir(&next).with_context(|| format!("cannot read `{}`", next.display()))?;
            let visible =
                entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with(['.', '_']));
            folders.extend(visible.map(|entry| entry.path()));
            continue;
        }
        if let Some(format) = Format::Auto.of_file(&next.to_string_lossy()) {
            found.entry(format.name()).or_default().push(next);
        }
    }
    let most = found.into_iter().filter(|(known, _)| format.is_none_or(|asked| asked == *known));
    let Some((format, mut files)) = most.max_by_key(|(_, files)| files.len()) else {
        let endings: Vec<String> = Format::Auto.extensions().iter().map(|ending| format!(".{ending}")).collect();
        bail!("no files at `{path}` end in {}", endings.join(", "));
    };
    files.sort();
    let example = files.swap_remove(0);
    // A `.json` file may be an array or an object a line.
    let lines = format == "json" && is_plain(&example) && !start_of(&example)?.trim_start().starts_with('[');
    Ok((if lines { "ndjson" } else { format }.to_owned(), example))
}

/// Whether the first bytes of a file are text: a compressed one is taken to be as its format usually is.
fn is_plain(path: &Path) -> bool {
    Compression::Auto.of_file(&path.to_string_lossy()) == Compression::None
}

fn start_of(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    file.take(LOOKED_AT).read_to_end(&mut bytes).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned())
}

fn shape(example: &Path, format: &str) -> anyhow::Result<Shape> {
    let text = start_of(example)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(20).collect();
    let Some(first) = lines.first() else { bail!("`{}` is empty: there is nothing to look at", example.display()) };
    let usual = if format == "tsv" { '\t' } else { ',' };
    let count = |line: &str, delimiter| fields(line, delimiter).len();
    // The delimiter that splits every line into equally many fields, and into the most of them.
    let fits = |delimiter: &char| lines.iter().all(|line| count(line, *delimiter) == count(first, *delimiter));
    let most = [usual, ',', ';', '\t', '|'].into_iter().filter(fits).rev().max_by_key(|d| count(first, *d));
    let delimiter = most.filter(|delimiter| count(first, *delimiter) > 1).unwrap_or(usual);
    let names = fields(first, delimiter);
    let is_name = |name: &String| !name.is_empty() && name.parse::<f64>().is_err();
    let has_header = names.iter().all(is_name);
    let nameless = (1..=names.len()).filter(|_| !has_header).map(|at| format!("column_{at}")).collect();
    Ok(Shape { delimiter: Some(delimiter).filter(|delimiter| *delimiter != usual), nameless })
}

/// The fields of a line; quotes hide delimiters.
fn fields(line: &str, delimiter: char) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter == delimiter && !quoted => fields.push(String::new()),
            _ => {
                if let Some(last) = fields.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    fields.into_iter().map(|field| field.trim().to_owned()).collect()
}

/// `--name bronze.views`, or the last two folders of the path.
fn names(args: &SourceInferArgs) -> anyhow::Result<(String, String)> {
    if let Some(name) = &args.name {
        let Some((schema, table)) = name.split_once('.') else {
            bail!("--name takes SOURCE.TABLE, such as bronze.views");
        };
        for part in [schema, table] {
            check_identifier(part).map_err(|why| anyhow::anyhow!("--name: `{part}` is not a valid name: {why}"))?;
        }
        return Ok((schema.to_owned(), table.to_owned()));
    }
    let plain = |part: &str| {
        let stem = part.split('.').next().unwrap_or(part);
        let name: String =
            stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        name.trim_matches('_').to_owned()
    };
    let parts = args.path.split('/').filter(|part| !part.contains(['*', '?', '[', '{']));
    let mut parts: Vec<String> = parts.map(plain).filter(|name| check_identifier(name).is_ok()).collect();
    let table = parts.pop().unwrap_or_else(|| "files".to_owned());
    Ok((parts.pop().unwrap_or_else(|| "bronze".to_owned()), table))
}

struct Yaml<'a> {
    schema: &'a str,
    table: &'a str,
    path: &'a str,
    format: &'a str,
    shape: &'a Shape,
}

impl Yaml<'_> {
    fn text(&self, columns: &[(String, String)]) -> String {
        let mut text = format!(
            "sources:\n  - name: {}\n    tables:\n      - name: {}\n        path: {}\n        format: {}\n",
            self.schema,
            self.table,
            yaml_scalar(self.path),
            self.format
        );
        let mut options = Vec::new();
        options.extend((!self.shape.nameless.is_empty()).then(|| "header: false".to_owned()));
        options.extend(self.shape.delimiter.map(|delimiter| match delimiter {
            '\t' => "delimiter: \"\\t\"".to_owned(),
            other => format!("delimiter: \"{other}\""),
        }));
        if !options.is_empty() {
            text.push_str(&format!("        options: {{ {} }}\n", options.join(", ")));
        }
        let nameless: Vec<(String, String)>;
        let columns = if columns.is_empty() {
            nameless = self.shape.nameless.iter().map(|name| (name.clone(), "varchar".to_owned())).collect();
            &nameless
        } else {
            columns
        };
        if !columns.is_empty() {
            text.push_str("        columns:\n");
        }
        for (name, data_type) in columns {
            text.push_str(&format!(
                "          - {{ name: {}, data_type: {} }}\n",
                yaml_scalar(name),
                yaml_scalar(data_type)
            ));
        }
        text
    }
}

/// A YAML scalar, in quotes if it would mean something else without.
pub(super) fn yaml_scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | ' ');
    let word = text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && text.trim() == text && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(text: &str) -> Shape {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, text).unwrap();
        shape(&path, "csv").unwrap()
    }

    #[test]
    fn the_first_lines_tell_delimiter_and_header() {
        assert_eq!(shape_of("a,b\n1,2\n"), Shape::default());
        assert_eq!(shape_of("a;b\n\"1;5\";2,5\n").delimiter, Some(';'));
        assert_eq!(shape_of("only\none\n"), Shape::default());
        assert_eq!(shape_of("1|x\n2|y\n").nameless, ["column_1", "column_2"]);
    }

    #[test]
    fn words_that_yaml_reads_otherwise_are_quoted() {
        assert_eq!(yaml_scalar("data/bronze/views/"), "data/bronze/views/");
        assert_eq!(
            (yaml_scalar("no"), yaml_scalar("in/*.csv"), yaml_scalar("1st")),
            ("\"no\"".into(), "\"in/*.csv\"".into(), "\"1st\"".into())
        );
    }
}
