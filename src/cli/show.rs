//! `lake show`: rows of a model, or of a query over the lake.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;

use super::args::{Global, ShowArgs};
use super::printer::Printer;
use super::{ExitStatus, Pipeline, targets};
use crate::graph::SelectError;
use crate::names::{TableName, nearest};
use crate::project::Project;
use crate::run::{Failure, Inputs};
use crate::session;
use crate::tables::Kept;

pub(super) fn run(global: &Global, args: &ShowArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let staged = match &args.model {
        Some(name) if args.staged => Some(stored(&pipeline.project, name)?),
        _ => None,
    };
    let sql = match (&args.inline, &args.model) {
        (Some(sql), _) => match pipeline.project.render_inline(sql) {
            Ok(sql) => sql,
            Err(diagnostic) => {
                let mut diagnostics = crate::diagnostics::Diagnostics::new();
                diagnostics.push(*diagnostic);
                printer.diagnostics(&diagnostics);
                return Ok(ExitStatus::Wrong);
            }
        },
        (None, Some(name)) => model_query(&pipeline.project, name)?,
        (None, None) => String::new(),
    };
    let Ok(mut compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    // What is shown may be of either lake: nothing is built.
    compiled.deferral = args.defer.open(&compiled.project, BTreeSet::new())?;
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let rows: Result<(Vec<RecordBatch>, usize), Failure> = async_runtime.block_on(async {
        let plan = match &staged {
            Some(name) => {
                let (plan, kept) = inputs.plan_refused(name).await?;
                why_refused(name, &kept, printer);
                plan
            }
            None => inputs.plan_query(&sql).await?,
        };
        let frame = session::query(&runtime.session, plan);
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let limit = (args.limit > 0).then_some(args.limit);
        let mut batches = frame.limit(0, limit)?.collect().await?;
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok((batches, count))
    });
    let (batches, count) = rows?;
    targets::note_read(&inputs, printer);
    if printer.is_json() {
        let mut writer = datafusion::arrow::json::ArrayWriter::new(Vec::new());
        for batch in &batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        printer.result(&String::from_utf8(writer.into_inner())?);
        return Ok(ExitStatus::Fine);
    }
    let options = FormatOptions::default().with_null("NULL");
    printer.result(&pretty_format_batches_with_options(&batches, &options)?.to_string());
    if args.limit > 0 && count == args.limit {
        printer.note(&format!("the first {count} rows; --limit 0 shows all"));
    }
    Ok(ExitStatus::Fine)
}

/// A model with a table, by its short or full name.
pub(super) fn stored(project: &Project, name: &str) -> anyhow::Result<TableName> {
    let found = named(project, name)?;
    match project.models.get(found) {
        Some(model) if model.is_stored() => Ok(found.clone()),
        Some(model) => {
            let what = model.config.materialized.name();
            anyhow::bail!("`{found}` is of materialization `{what}`: it has no table of its own")
        }
        None => anyhow::bail!("`{found}` is a source, and no model"),
    }
}

/// Says what the staged rows are, before they are shown.
fn why_refused(name: &TableName, kept: &Kept, printer: &Printer) {
    let over = kept.base.map_or_else(|| "as its first version".to_owned(), |base| format!("over version {base}"));
    printer.note(&format!("{name} as it was staged {over} on {} and not published:", kept.at.format("%F %T UTC")));
    for (test, message) in &kept.failed {
        printer.note(&format!("  {test}  {message}"));
    }
}

/// All rows of a model or source, by its short or full name.
fn model_query(project: &Project, name: &str) -> anyhow::Result<String> {
    Ok(format!("select * from {}", named(project, name)?.quoted()))
}

/// A model or source by its short or full name.
pub(super) fn named<'a>(project: &'a Project, name: &str) -> anyhow::Result<&'a TableName> {
    let names = || project.models.keys().chain(project.sources.keys());
    let found = names().find(|known| known.to_string() == name).or_else(|| names().find(|known| known.table == name));
    match found {
        Some(found) => Ok(found),
        None => {
            let known: Vec<String> = names().flat_map(|n| [n.to_string(), n.table.to_owned()]).collect();
            let help = nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            Err(SelectError { message: format!("there is no model `{name}`"), help }.into())
        }
    }
}
