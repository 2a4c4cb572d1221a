//! `lake profile`: what a table holds, and what changed since the version before.

use std::sync::Arc;

use super::args::{Global, ProfileArgs};
use super::printer::{Paint, Printer, aligned, cut};
use super::show::named;
use super::{ExitStatus, Pipeline};
use crate::names::TableName;
use crate::project::{Profile, Project};
use crate::run::{ColumnProfile, Failure, Inputs, TableProfile};
use crate::words::{plural, thousands};

/// Characters of a value that are shown.
const LONGEST: usize = 24;

pub(super) fn run(global: &Global, args: &ProfileArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Ok(pipeline) = Pipeline::load(global, printer)? else { return Ok(ExitStatus::Wrong) };
    let name = with_table(&pipeline.project, &args.model)?;
    let Ok(compiled) = pipeline.compile(printer)? else { return Ok(ExitStatus::Wrong) };
    let (runtime, async_runtime) = compiled.into_runtime()?;
    let inputs = Inputs::new(Arc::clone(&runtime));
    let (profile, before) = async_runtime.block_on(profiles(&inputs, &name, args))?;
    let Some(profile) = profile else {
        printer.note(&format!("`{name}` is not built yet"));
        return Ok(ExitStatus::Fine);
    };
    let changes = before.as_ref().map(|before| (before.version, changes(before, &profile)));
    if printer.is_json() {
        let changes =
            changes.map(|(version, changes)| serde_json::json!({"since_version": version, "changes": changes}));
        printer.json(&serde_json::json!({"profile": without_sketches(profile), "changed": changes}));
        return Ok(ExitStatus::Fine);
    }
    print(&profile, changes, printer);
    if !profile.columns.iter().any(ColumnProfile::is_full) {
        let wanted = runtime.project.models[&name].config.profile;
        let keeps = if wanted == Profile::Full { "" } else { ", and `profile: full` keeps them with every version" };
        printer.note(&format!("--full reads the rows for distinct and common values, means and quantiles{keeps}"));
    }
    Ok(ExitStatus::Fine)
}

/// A model with a table, by its short or full name.
pub(super) fn with_table(project: &Project, name: &str) -> anyhow::Result<TableName> {
    let found = named(project, name)?;
    match project.models.get(found) {
        Some(model) if model.is_stored() => Ok(found.clone()),
        Some(model) => {
            anyhow::bail!("`{found}` is of materialization `{}`: it has no table", model.config.materialized.name())
        }
        None => anyhow::bail!("`{found}` is a source: only models have tables"),
    }
}

/// The profile that is asked for, and the one before it.
async fn profiles(
    inputs: &Inputs,
    name: &TableName,
    args: &ProfileArgs,
) -> Result<(Option<TableProfile>, Option<TableProfile>), Failure> {
    let now = match args.version {
        Some(version) => {
            let kept = inputs.kept_profile(name, version).await?;
            let kept =
                kept.ok_or_else(|| Failure::Text(format!("no profile of version {version} of `{name}` is kept")))?;
            Some(kept)
        }
        None => {
            let newest = inputs.profile_now(name, args.full).await?;
            let kept = match &newest {
                Some(newest) => inputs.kept_profile(name, newest.version).await?,
                None => None,
            };
            // What is kept says when it was, and may say more than the statistics.
            if args.full { newest } else { kept.or(newest) }
        }
    };
    let before = match &now {
        Some(now) => inputs.profile_before(name, now.version).await?,
        None => None,
    };
    Ok((now, before))
}

/// Sketches are for later versions, and for nobody to read.
fn without_sketches(mut profile: TableProfile) -> TableProfile {
    profile.columns.iter_mut().for_each(|column| column.sketch = None);
    profile
}

fn print(profile: &TableProfile, changes: Option<(u64, Vec<String>)>, printer: &Printer) {
    let at = profile.at.replace('T', " ");
    let facts = [
        format!("version {} of {} UTC", profile.version, at.get(..19).unwrap_or(&at)),
        plural(profile.rows, "row"),
        plural(profile.files, "file"),
        format!("{} bytes", thousands(profile.bytes)),
    ];
    printer.result(&format!("{}  {}", printer.paint(Paint::Bold, &profile.node), facts.join(", ")));
    let is_full = profile.columns.iter().any(ColumnProfile::is_full);
    let mut head = vec!["column", "type", "NULL", "min", "max"];
    if is_full {
        head.splice(3..3, ["distinct"]);
        head.extend(["mean", "median", "most common"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
    rows.extend(profile.columns.iter().map(|column| cells(column, profile.rows, is_full)));
    // Words stand left, numbers right.
    let numbers: &[usize] = if is_full { &[2, 3, 6, 7] } else { &[2] };
    for (at, line) in aligned(&rows, numbers).into_iter().enumerate() {
        printer.result(&if at == 0 { printer.paint(Paint::Dim, &line) } else { line });
    }
    let Some((version, changes)) = changes else { return };
    if changes.is_empty() {
        printer.note(&format!("nothing of this changed since version {version}"));
        return;
    }
    printer.result(&format!("since version {version}:"));
    changes.iter().for_each(|change| printer.result(&format!("  {change}")));
}

fn cells(column: &ColumnProfile, rows: u64, is_full: bool) -> Vec<String> {
    let hidden = |value: &Option<String>| match value {
        Some(value) => shown(value),
        None if column.masked => "***".to_owned(),
        None => String::new(),
    };
    let number = |value: Option<f64>| value.map(short).unwrap_or_default();
    let mut cells = vec![
        column.column_name.clone(),
        column.data_type.clone(),
        column.nulls.map(|nulls| share(nulls, rows)).unwrap_or_default(),
        hidden(&column.min),
        hidden(&column.max),
    ];
    if is_full {
        cells.insert(3, distinct(column));
        let common: Vec<String> = column
            .common()
            .iter()
            .take(3)
            .map(|(value, count)| format!("{} {}", shown(value), percent(*count, rows)))
            .collect();
        cells.extend([number(column.mean), number(column.p50), common.join(", ")]);
    }
    cells
}

fn distinct(column: &ColumnProfile) -> String {
    match (column.distinct_values, column.distinct_is_exact) {
        (Some(values), Some(true)) => thousands(values),
        (Some(values), _) => format!("~{}", thousands(values)),
        (None, _) => String::new(),
    }
}

fn share(count: u64, rows: u64) -> String {
    if count == 0 { "0".to_owned() } else { format!("{} ({})", thousands(count), percent(count, rows)) }
}

fn percent(count: u64, rows: u64) -> String {
    let percent = if rows == 0 { 0.0 } else { count as f64 / rows as f64 * 100.0 };
    if percent > 0.0 && percent < 0.1 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1e6 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn shown(text: &str) -> String {
    cut(&text.replace(['\n', '\r', '\t'], " "), LONGEST)
}

/// What changed, in words.
fn changes(before: &TableProfile, now: &TableProfile) -> Vec<String> {
    let mut found = Vec::new();
    if before.rows != now.rows {
        let (sign, by) =
            if now.rows > before.rows { ("+", now.rows - before.rows) } else { ("-", before.rows - now.rows) };
        let part = if before.rows == 0 { String::new() } else { format!(", {sign}{}", percent(by, before.rows)) };
        found.push(format!(
            "rows {} -> {} ({sign}{}{part})",
            thousands(before.rows),
            thousands(now.rows),
            thousands(by)
        ));
    }
    for column in &now.columns {
        match before.columns.iter().find(|known| known.column_name == column.column_name) {
            None => found.push(format!("{}: new column", column.column_name)),
            Some(known) => {
                let changes = of_column(known, column, before.rows, now.rows);
                found.extend((!changes.is_empty()).then(|| format!("{}: {}", column.column_name, changes.join("; "))));
            }
        }
    }
    let is_gone = |column: &&ColumnProfile| !now.columns.iter().any(|other| other.column_name == column.column_name);
    found.extend(before.columns.iter().filter(is_gone).map(|column| format!("{}: gone", column.column_name)));
    found
}

fn of_column(before: &ColumnProfile, now: &ColumnProfile, rows_before: u64, rows: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, before: String, now: String| {
        if before != now && !before.is_empty() && !now.is_empty() {
            found.push(format!("{what} {before} -> {now}"));
        }
    };
    differ("type", before.data_type.clone(), now.data_type.clone());
    let nulls = |column: &ColumnProfile, rows| column.nulls.map(|nulls| share(nulls, rows)).unwrap_or_default();
    differ("NULL", nulls(before, rows_before), nulls(now, rows));
    differ("distinct", distinct(before), distinct(now));
    let bound = |value: &Option<String>| value.as_deref().map(shown).unwrap_or_default();
    differ("min", bound(&before.min), bound(&now.min));
    differ("max", bound(&before.max), bound(&now.max));
    let mean = |column: &ColumnProfile| column.mean.map(short).unwrap_or_default();
    differ("mean", mean(before), mean(now));
    let known: Vec<String> = before.common().into_iter().map(|(value, _)| value).collect();
    let new: Vec<String> =
        now.common().into_iter().map(|(value, _)| value).filter(|value| !known.contains(value)).collect();
    if before.distinct_is_exact == Some(true)
        && now.distinct_is_exact == Some(true)
        && !new.is_empty()
        && known.len() < 10
    {
        found.push(format!("new values {}", new.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", ")));
    }
    found
}
