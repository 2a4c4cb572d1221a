//! `lake history` and `lake rollback`: what runs did to tables, and taking it back.

use serde_json::json;

use super::args::{Global, HistoryArgs, RollbackArgs};
use super::printer::{Paint, Printer, aligned};
use super::show::stored;
use super::{ExitStatus, Pipeline, targets};
use crate::graph::SelectError;
use crate::names::TableName;
use crate::project::Project;
use crate::tables::{self, Lake, Published, RunOnTable, TableError, Version};
use crate::words::{plural, thousands};

pub(super) fn history(global: &Global, args: &HistoryArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    pipeline.is_incomplete(printer);
    let lake = targets::open(&pipeline.project, &pipeline.project.target)?;
    let async_runtime = runtime()?;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let Some(model) = &args.model else {
        let mut runs = async_runtime.block_on(all_runs(&lake, &pipeline.project, limit))?;
        runs.truncate(limit);
        print_runs(&runs, printer)?;
        return Ok(ExitStatus::Fine);
    };
    let (name, versions) = async_runtime.block_on(async {
        let name = table_named(&lake, &pipeline.project, model).await?;
        let versions = match lake.inspect(&name).await? {
            Some(published) => tables::history(&lake, &published, limit).await?,
            None => Vec::new(),
        };
        anyhow::Ok((name, versions))
    })?;
    print_versions(&name, &versions, printer)?;
    Ok(ExitStatus::Fine)
}

/// Enough to look at tables: nothing is queried.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(super::STACK).build()?)
}

/// One run, and what it did to each table.
type Run = (String, Vec<RunOnTable>);

/// Runs that published to tables of the project, newest first.
async fn all_runs(lake: &Lake, project: &Project, limit: usize) -> Result<Vec<Run>, TableError> {
    let mut runs: Vec<Run> = Vec::new();
    for model in project.models.values().filter(|model| model.is_stored()) {
        let Some(published) = lake.inspect(&model.name).await? else { continue };
        for found in tables::runs(&published, limit).await? {
            match runs.iter_mut().find(|(run, _)| *run == found.invocation_id) {
                Some((_, tables)) => tables.push(found),
                None => runs.push((found.invocation_id.clone(), vec![found])),
            }
        }
    }
    runs.sort_by_key(|(run, tables)| {
        std::cmp::Reverse((tables.iter().filter_map(|table| table.at).max(), run.clone()))
    });
    Ok(runs)
}

fn print_runs(runs: &[Run], printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        let runs: Vec<_> = runs.iter().map(|(run, tables)| json!({"invocation_id": run, "tables": tables})).collect();
        printer.json(&serde_json::to_value(runs)?);
        return Ok(());
    }
    for (run, tables) in runs {
        let at = tables.iter().filter_map(|table| table.at).max();
        let at = at.map_or_else(String::new, |at| at.format("%F %T").to_string());
        printer.result(&format!("{at}  {}", printer.paint(Paint::Bold, run)));
        let width = tables.iter().map(|table| table.table.to_string().chars().count()).max().unwrap_or_default();
        for table in tables {
            let versions = match (table.first, table.last) {
                (first, last) if first == last => format!("version {last}"),
                (first, last) => format!("versions {first} to {last}"),
            };
            printer.result(&format!("    {:<width$}  {versions}, {}", table.table.to_string(), table.operation));
        }
    }
    if runs.is_empty() {
        printer.note("no run has published anything yet");
    }
    Ok(())
}

fn print_versions(name: &TableName, versions: &[Version], printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        printer.json(&serde_json::to_value(versions)?);
        return Ok(());
    }
    if versions.is_empty() {
        printer.note(&format!("`{name}` is not built yet"));
        return Ok(());
    }
    let head = ["version", "when (UTC)", "operation", "rows", "files", "+", "-", "tests", "run"].map(str::to_owned);
    let rows = versions.iter().map(|version| {
        [
            version.version.to_string(),
            version.at.map_or_else(String::new, |at| at.format("%F %T").to_string()),
            version.operation.clone(),
            version.rows.map_or_else(|| "?".to_owned(), thousands),
            version.files.map_or_else(|| "?".to_owned(), |files| files.to_string()),
            version.added.to_string(),
            version.removed.to_string(),
            version.tests.to_string(),
            match &version.invocation_id {
                Some(run) => run.clone(),
                None if version.upkeep => "upkeep".to_owned(),
                None => "another writer".to_owned(),
            },
        ]
    });
    let table: Vec<Vec<String>> = std::iter::once(head).chain(rows).map(Vec::from).collect();
    for (at, line) in aligned(&table, &[0, 3, 4, 5, 6, 7]).into_iter().enumerate() {
        printer.result(&if at == 0 { printer.paint(Paint::Dim, &line) } else { line });
    }
    Ok(())
}

pub(super) fn rollback(global: &Global, args: &RollbackArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    if pipeline.is_incomplete(printer) && args.to.is_none() {
        // The run may have published to a model that is not known now.
        anyhow::bail!(
            "a run is taken back from all of its tables, and a model may be missing while the project has mistakes: correct them, or take tables back \
             one by one with `lake rollback SCHEMA.TABLE --to VERSION`"
        );
    }
    let project = &pipeline.project;
    let lake = targets::open(project, &project.target)?;
    let id = printer.invocation_id().to_owned();
    let back = runtime()?.block_on(async {
        lake.resume().await?;
        let wanted: Vec<(Published, Option<u64>)> = match args.to {
            Some(version) => vec![(one_table(&lake, project, &args.what, version).await?, Some(version))],
            None => tables_of_run(&lake, project, &args.what).await?,
        };
        let (mut commits, mut back) = (Vec::new(), Vec::new());
        for (published, to) in &wanted {
            commits.push(tables::prepare_rollback(&lake, published, *to, &id).await?);
            back.push((published.name.clone(), published.version() + 1, *to));
        }
        let overtaken = lake.publish_together(&id, commits).await?;
        back.retain(|(table, ..)| !overtaken.contains(table));
        for table in overtaken {
            printer.failure(&TableError::Conflict { table }.to_string());
        }
        anyhow::Ok(back)
    })?;
    if printer.is_json() {
        let back: Vec<_> = back
            .iter()
            .map(|(table, version, to)| json!({"table": table, "version": version, "restored": to}))
            .collect();
        printer.json(&json!({"invocation_id": id, "tables": back}));
        return Ok(ExitStatus::Fine);
    }
    for (table, version, to) in &back {
        printer.result(&match to {
            Some(to) => format!("{table}  version {version} is what version {to} was"),
            None => format!("{table}  version {version} is empty: the run made the table"),
        });
    }
    printer.note("what was taken in since is taken in again by the next build");
    Ok(ExitStatus::Fine)
}

/// The table of a model, by its short or full name; where the model itself is wrong or gone, its full name will do.
async fn table_named(lake: &Lake, project: &Project, name: &str) -> anyhow::Result<TableName> {
    let unknown = match stored(project, name) {
        Ok(name) => return Ok(name),
        Err(unknown) => unknown,
    };
    let plain = |part: &str| part.starts_with(char::is_alphanumeric) && !part.contains(['.', '/', '\\']);
    if let Some((schema, table)) = name.split_once('.').filter(|(schema, table)| plain(schema) && plain(table)) {
        let name = TableName::new(schema, table);
        let is_free = !project.models.contains_key(&name) && !project.sources.contains_key(&name);
        if is_free && lake.inspect(&name).await?.is_some() {
            return Ok(name);
        }
    }
    Err(unknown)
}

async fn one_table(lake: &Lake, project: &Project, name: &str, version: u64) -> anyhow::Result<Published> {
    let name = table_named(lake, project, name).await?;
    let Some(published) = lake.inspect(&name).await? else { anyhow::bail!("`{name}` is not built yet") };
    let newest = published.version();
    anyhow::ensure!(version <= newest, "`{name}` has no version {version}: its newest one is {newest}");
    anyhow::ensure!(version < newest, "`{name}` is at version {version} already");
    Ok(published)
}

/// The tables that a run published to, and the version of each before it.
async fn tables_of_run(lake: &Lake, project: &Project, run: &str) -> anyhow::Result<Vec<(Published, Option<u64>)>> {
    let mut found = all_runs(lake, project, usize::MAX).await?;
    found.retain(|(id, _)| id.starts_with(run));
    if found.len() > 1 {
        let ids: Vec<String> = found.into_iter().map(|(id, _)| id).collect();
        anyhow::bail!("`{run}` is the beginning of {}: {}", plural(ids.len() as u64, "run"), ids.join(", "));
    }
    let Some((id, on_tables)) = found.pop() else {
        let help = match stored(project, run) {
            Ok(model) => format!("to take `{model}` back, say to which version: lake rollback {model} --to VERSION"),
            Err(_) => "`lake history` lists the runs that published something".to_owned(),
        };
        return Err(
            SelectError { message: format!("no run `{run}` is in the logs of the tables"), help: Some(help) }.into()
        );
    };
    let mut wanted = Vec::new();
    for on in on_tables {
        let alone = on.newest == on.last && on.versions == on.last - on.first + 1;
        anyhow::ensure!(
            alone,
            "`{}` was published to by another run since `{id}` began: take that run back first, or one table at a time \
             with --to VERSION",
            on.table
        );
        let published = lake.inspect(&on.table).await?;
        wanted.extend(published.map(|published| (published, on.first.checked_sub(1))));
    }
    Ok(wanted)
}
