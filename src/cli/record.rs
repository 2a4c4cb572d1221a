//! `lake test record`: a unit test of real rows, as YAML.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::args::Global;
use super::infer::yaml_scalar;
use super::printer::Printer;
use super::show::named;
use super::test_args::RecordArgs;
use super::{ExitStatus, Pipeline};
use crate::names::TableName;
use crate::project::{Model, Project};
use crate::run::{self, Inputs, Recorded};
use crate::words::plural;

pub(super) fn run(global: &Global, args: &RecordArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let name = named(&pipeline.project, &args.model)?.clone();
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let Some(model) = compiled.project.models.get(&name).filter(|model| model.seed.is_none()) else {
        anyhow::bail!("`{name}` has no SQL to test: record a model that reads it");
    };
    let title = match &args.name {
        Some(title) if is_taken(&compiled.project, title) => anyhow::bail!("there is a test `{title}` already"),
        Some(title) => title.clone(),
        None => free_name(&compiled.project, model),
    };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let model = &runtime.project.models[&name];
    let inputs = Inputs::new(Arc::clone(&runtime));
    let recorded = async_runtime.block_on(run::record(&inputs, model, args.rows))?;
    if recorded.given.iter().all(|(_, rows)| rows.num_rows() == 0) {
        anyhow::bail!("what `{name}` reads has no rows: build it first");
    }
    let yaml = item(&title, model, &recorded, &runtime.project)?;
    match &args.output_file {
        None => printer.result(format!("unit_tests:\n{yaml}").trim_end()),
        Some(path) => {
            let path = runtime.folder.join(path);
            append(&path, &yaml)?;
            printer.note(&format!("`{title}` was written to {}", path.display()));
        }
    }
    let rows: usize = recorded.given.iter().map(|(_, rows)| rows.num_rows()).sum();
    let made = plural(recorded.expect.num_rows() as u64, "row");
    printer.note(&format!("{} of its inputs, and the {made} that `{name}` makes of them", plural(rows as u64, "row")));
    if !recorded.masked.is_empty() {
        printer.note(&format!("masked: {}", recorded.masked.join(", ")));
    }
    Ok(ExitStatus::Fine)
}

fn is_taken(project: &Project, name: &str) -> bool {
    project.unit_tests.iter().any(|test| test.name == name) || project.data_tests.iter().any(|test| test.name == name)
}

fn free_name(project: &Project, model: &Model) -> String {
    let plain = format!("{}_recorded", model.name.table);
    let numbered = (2..).map(|number| format!("{plain}_{number}"));
    [plain.clone()].into_iter().chain(numbered).find(|name| !is_taken(project, name)).unwrap_or(plain)
}

/// The test as an item of `unit_tests:`.
fn item(title: &str, model: &Model, recorded: &Recorded, project: &Project) -> anyhow::Result<String> {
    let mut text = format!("  - name: {title}\n    model: {}\n", model.name.table);
    let vars: Vec<(&String, &serde_json::Value)> =
        model.vars.iter().filter_map(|name| Some((name, project.vars.get(name)?))).collect();
    let shows_clock = model.timeless.is_some() || names_clock(&model.full.sql);
    if !vars.is_empty() || shows_clock {
        text.push_str("    overrides:\n");
    }
    if shows_clock {
        writeln!(text, "      now: {}", recorded.now.format("%Y-%m-%dT%H:%M:%SZ"))?;
    }
    if !vars.is_empty() {
        text.push_str("      vars:\n");
        for (name, value) in vars {
            writeln!(text, "        {name}: {value}")?;
        }
    }
    let is_float = |field: &Arc<Field>| matches!(field.data_type(), DataType::Float32 | DataType::Float64);
    if recorded.expect.schema().fields().iter().any(is_float) {
        // Sums of floating-point numbers depend on the order of rows in their last digits.
        text.push_str("    tolerance: 0.000001\n");
    }
    text.push_str("    given:\n");
    for (name, rows) in &recorded.given {
        writeln!(text, "      - input: {}", reference(project, name))?;
        rows_of(&mut text, rows, "        ", true)?;
    }
    text.push_str("    expect:\n");
    rows_of(&mut text, &recorded.expect, "      ", false)?;
    Ok(text)
}

/// Whether SQL may ask for the time.
fn names_clock(sql: &str) -> bool {
    let sql = sql.to_lowercase();
    ["now(", "current_date", "current_timestamp", "current_time", "today("].iter().any(|word| sql.contains(word))
}

fn reference(project: &Project, name: &TableName) -> String {
    match project.models.contains_key(name) {
        true => format!("ref('{}')", name.table),
        false => format!("source('{}', '{}')", name.schema, name.table),
    }
}

/// `rows:`, a line each. What is not said of a given row is NULL; what is not said of an expected one is not compared.
fn rows_of(text: &mut String, rows: &RecordBatch, indent: &str, leaves_out_null: bool) -> anyhow::Result<()> {
    if rows.num_rows() == 0 {
        writeln!(text, "{indent}rows: []")?;
        return Ok(());
    }
    writeln!(text, "{indent}rows:")?;
    let options = FormatOptions::default();
    let schema = rows.schema();
    for row in 0..rows.num_rows() {
        let mut cells = Vec::new();
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            let name = yaml_scalar(field.name());
            if column.is_null(row) {
                if !leaves_out_null {
                    cells.push(format!("{name}: null"));
                }
                continue;
            }
            let value = match column.data_type() {
                data_type if data_type.is_nested() => nested(rows, field.name(), row)?,
                data_type => {
                    let shown = ArrayFormatter::try_new(column, &options)?.value(row).to_string();
                    let is_plain = data_type.is_numeric() && shown.parse::<f64>().is_ok_and(f64::is_finite)
                        || *data_type == DataType::Boolean;
                    if is_plain { shown } else { serde_json::to_string(&shown)? }
                }
            };
            cells.push(format!("{name}: {value}"));
        }
        writeln!(text, "{indent}  - {{ {} }}", cells.join(", "))?;
    }
    Ok(())
}

/// A list or an object, as JSON, which is YAML too.
fn nested(rows: &RecordBatch, column: &str, row: usize) -> anyhow::Result<String> {
    let one = rows.project(&[rows.schema().index_of(column)?])?.slice(row, 1);
    let mut writer = datafusion::arrow::json::ArrayWriter::new(Vec::new());
    writer.write(&one)?;
    writer.finish()?;
    let written: serde_json::Value = serde_json::from_slice(&writer.into_inner())?;
    Ok(written[0][column].to_string())
}

/// Adds an item to the list of a YAML file, or the list to the file.
fn append(path: &Path, item: &str) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => anyhow::bail!("cannot read `{}`: {error}", path.display()),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, appended(&text, item))
        .map_err(|error| anyhow::anyhow!("cannot write `{}`: {error}", path.display()))
}

fn appended(text: &str, item: &str) -> String {
    let heading = text.lines().position(|line| line.trim_end() == "unit_tests:");
    let Some(heading) = heading else {
        let gap = if text.is_empty() || text.ends_with("\n\n") {
            ""
        } else if text.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        return format!("{text}{gap}unit_tests:\n{item}");
    };
    // At the head of the list, indented as its items are.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = lines[heading + 1..].iter().find(|line| line.trim_start().starts_with("- "));
    let indent = first.map_or(2, |line| line.len() - line.trim_start().len());
    let moved = item.lines().map(|line| format!("{:indent$}{}\n", "", line.strip_prefix("  ").unwrap_or(line)));
    let moved: String = moved.collect();
    let mut whole: String = lines[..=heading].concat();
    if !whole.ends_with('\n') {
        whole.push('\n');
    }
    whole + &moved + &lines[heading + 1..].concat()
}

#[cfg(test)]
mod tests {
    use super::appended;

    #[test]
    fn an_item_is_added_to_the_list_that_there_is() {
        let item = "  - name: new\n    model: a\n";
        assert_eq!(appended("", item), "unit_tests:\n  - name: new\n    model: a\n");
        assert_eq!(appended("models: []\n", item), "models: []\n\nunit_tests:\n  - name: new\n    model: a\n");
        let there = "unit_tests:\n- name: old\n";
        assert_eq!(appended(there, item), "unit_tests:\n- name: new\n  model: a\n- name: old\n");
    }
}
