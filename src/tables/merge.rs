//! Placing new rows among those of a table: by key, by partition, or by a condition.
//!
//! The new rows are staged as they are. Of the published files those that can hold one of their keys are told by the
//! log (`prune`), then those that do by a semi join on the keys alone, and only these are written again, without
//! the rows that the new ones replace. Keys compare with `is not distinct from`: NULL equals NULL, so a row with a NULL
//! key does not multiply. Where a part of the table is replaced as a whole, `overwrite` says which files are touched.
//!
//! New rows are the small side of each join: it is them that a join holds in memory, or spills.

use std::collections::{BTreeSet, HashSet};

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Column, JoinType, NullEquality, ToDFSchema};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use deltalake::kernel::Add;

use super::overwrite::{files_that_meet, refuse_outside, same_partitions};
use super::read::{Files, exact, files_of, named, scan};
use super::stage::{Staged, collect, discard, stage};
use super::{Lake, Published, TableError, prune, tombstones};
use crate::exact_files::rows_of;

/// Tells rows that have an old one from others.
const KNOWN_COLUMN: &str = "__lake_known";

/// Counts the rows of a key.
const TIMES_COLUMN: &str = "__lake_times";

/// How many keys a message names.
const EXAMPLES: usize = 5;

/// Where new rows go among those of a published table.
#[derive(Debug)]
pub enum Placement<'a> {
    /// Beside all others.
    Beside,
    /// Each takes the place of the old row of its key; no key has two of them.
    Merge(Merge<'a>),
    /// In place of all old rows of their keys, however many there are of either.
    OverKeys {
        /// The columns that tell which rows go.
        key: &'a [String],
        /// A condition in SQL: a new row that meets it takes the old rows of its key away, and is none itself.
        delete_when: Option<&'a str>,
    },
    /// In place of all old rows of their partitions.
    OverPartitions,
    /// In place of all old rows that meet a condition, which all new rows have to meet.
    OverRows {
        /// The condition in SQL.
        condition: String,
    },
}

/// How rows are merged by key.
#[derive(Debug)]
pub struct Merge<'a> {
    /// The columns that tell rows apart.
    pub key: &'a [String],
    /// The columns of which an old row takes the new values, if not all.
    pub updates: Option<Vec<String>>,
    /// The column that tells how new a row is: one that is older than what its key has does not count.
    pub sequence_by: Option<&'a str>,
    /// A condition in SQL: a new row that meets it takes the old row of its key away.
    pub delete_when: Option<&'a str>,
}

/// Turns staged new rows into a staged change of the published version; `None` is a table that is made anew.
///
/// # Errors
/// [`TableError::Rows`] when a key to merge by stands twice among the new rows; otherwise the query's or the storage's.
pub async fn place(
    lake: &Lake,
    published: Option<&Published>,
    staged: Staged,
    placement: &Placement<'_>,
    session: &SessionState,
) -> Result<Staged, TableError> {
    let name = staged.name.clone();
    let delivered = staged.paths();
    let mut placing = Placing { lake, published, session, written: staged.adds.clone() };
    let placed = match placement {
        Placement::Beside => Ok(staged),
        Placement::Merge(merge) => placing.merge(staged, merge).await,
        Placement::OverKeys { key, delete_when } => placing.over_keys(staged, key, *delete_when).await,
        Placement::OverPartitions => match published.map(|published| same_partitions(published, &staged)) {
            Some(paths) => paths.map(|paths| Staged { removed: paths, ..staged }),
            None => Ok(staged),
        },
        Placement::OverRows { condition } => placing.over_rows(staged, condition).await,
    };
    let used: HashSet<&str> = placed.iter().flat_map(|placed| &placed.adds).map(|add| add.path.as_str()).collect();
    placing.written.retain(|add| !used.contains(add.path.as_str()));
    discard(lake, &name, &placing.written).await;
    placed.map(|placed| match placed.paths() == delivered {
        true => placed,
        // The sums are those of the rows as they were delivered.
        false => Staged { content: None, ..placed },
    })
}

/// One change in the making.
struct Placing<'a> {
    lake: &'a Lake,
    published: Option<&'a Published>,
    session: &'a SessionState,
    /// All files so far; those that are not part of the change go in the end.
    written: Vec<Add>,
}

impl Placing<'_> {
    async fn write(&mut self, plan: LogicalPlan, like: &Staged) -> Result<Vec<Add>, TableError> {
        let written = stage(self.lake, &like.name, plan, &like.schema, &like.partition_by, self.session).await?;
        self.written.extend(written.adds.iter().cloned());
        Ok(written.adds)
    }

    async fn merge(&mut self, mut staged: Staged, merge: &Merge<'_>) -> Result<Staged, TableError> {
        let mut twice = keys_twice(&staged, merge.key, self.session).await?;
        if !twice.is_empty() && merge.sequence_by.is_some() {
            // What is delivered twice as it is counts once.
            let distinct = LogicalPlanBuilder::from(staged.rows_plan()?).distinct()?.build()?;
            staged.adds = self.write(distinct, &staged).await?;
            twice = keys_twice(&staged, merge.key, self.session).await?;
        }
        refuse(&twice, merge)?;
        let touched = match self.published {
            Some(published) => touched_files(published, &staged, merge.key, self.session).await?,
            None => BTreeSet::new(),
        };
        let old = self.rows_of_files(&touched, &staged).await?;
        let graves = tombstones::read(self.lake, self.published, &staged, merge).await?;
        if let Some(sequence) = merge.sequence_by
            && (old.is_some() || graves.is_some())
        {
            let latest = not_older(&staged, [old.clone(), graves.clone()], merge.key, sequence)?;
            staged.adds = self.write(latest, &staged).await?;
        }
        // From here on, `staged` are the rows that count, deletes among them.
        let mut placed = staged.clone();
        if let Some(condition) = merge.delete_when {
            let (gone, stay) = deletes(&staged, condition, self.session)?;
            placed.adds =
                self.write(LogicalPlanBuilder::from(staged.rows_plan()?).filter(stay)?.build()?, &staged).await?;
            placed.heads.extend(tombstones::write(self.lake, graves, &staged, gone, merge, self.session).await?);
        }
        if let Some(old) = old {
            if let Some(updates) = &merge.updates {
                placed.adds = self.write(updated_rows(old.clone(), &placed, merge.key, updates)?, &staged).await?;
            }
            placed = self.beside_kept(old, placed, &staged, merge.key).await?;
        }
        placed.removed = touched;
        Ok(placed)
    }

    async fn over_keys(
        &mut self,
        staged: Staged,
        key: &[String],
        delete_when: Option<&str>,
    ) -> Result<Staged, TableError> {
        let mut placed = staged.clone();
        if let Some(condition) = delete_when {
            let (_, stay) = deletes(&staged, condition, self.session)?;
            placed.adds =
                self.write(LogicalPlanBuilder::from(staged.rows_plan()?).filter(stay)?.build()?, &staged).await?;
        }
        let Some(published) = self.published else { return Ok(placed) };
        let touched = touched_files(published, &staged, key, self.session).await?;
        let Some(old) = self.rows_of_files(&touched, &staged).await? else { return Ok(placed) };
        let mut placed = self.beside_kept(old, placed, &staged, key).await?;
        placed.removed = touched;
        Ok(placed)
    }

    async fn over_rows(&mut self, mut staged: Staged, condition: &str) -> Result<Staged, TableError> {
        // A table that is made anew has all rows of the query.
        let Some(published) = self.published else { return Ok(staged) };
        refuse_outside(&staged, condition, self.session).await?;
        let touched = files_that_meet(published, &staged, condition, self.session).await?;
        let Some(old) = self.rows_of_files(&touched, &staged).await? else { return Ok(staged) };
        let stays = parsed(condition, &staged, self.session)?.is_not_true();
        let kept = self.write(LogicalPlanBuilder::from(old).filter(stays)?.build()?, &staged).await?;
        staged.kept_files.extend(kept.iter().map(|add| add.path.clone()));
        staged.adds.extend(kept);
        staged.removed = touched;
        Ok(staged)
    }

    /// The rows of published files in the columns of the table as it will be; `None` of no files.
    async fn rows_of_files(&self, paths: &BTreeSet<String>, like: &Staged) -> Result<Option<LogicalPlan>, TableError> {
        match self.published.filter(|_| !paths.is_empty()) {
            Some(published) => Ok(Some(rows_of(scan(published, Files::Only(paths), false).await?, &like.schema)?)),
            None => Ok(None),
        }
    }

    /// Adds the old rows that no row of `new` replaces.
    async fn beside_kept(
        &mut self,
        old: LogicalPlan,
        mut placed: Staged,
        new: &Staged,
        key: &[String],
    ) -> Result<Staged, TableError> {
        let kept = join(named(old, "old")?, new, key, JoinType::LeftAnti)?;
        let kept = self.write(kept, new).await?;
        placed.kept_files.extend(kept.iter().map(|add| add.path.clone()));
        placed.adds.extend(kept);
        Ok(placed)
    }
}

/// The new rows of keys of which none of `known` has a newer row.
fn not_older(
    staged: &Staged,
    known: impl IntoIterator<Item = Option<LogicalPlan>>,
    key: &[String],
    sequence: &str,
) -> Result<LogicalPlan, TableError> {
    let of = |table: &str, name: &str| Expr::Column(Column::new(Some(table), name));
    let columns: Vec<Expr> = key.iter().map(String::as_str).chain([sequence]).map(exact).collect();
    let keys = |table: &str| -> Vec<_> { key.iter().map(|name| Column::new(Some(table), name)).collect() };
    let (newer, mine) = (of("known", sequence), of("new", sequence));
    let is_older = newer.clone().gt(mine.clone()).or(newer.is_not_null().and(mine.is_null()));
    let mut rows = LogicalPlanBuilder::from(named(staged.rows_plan()?, "new")?);
    for known in known.into_iter().flatten() {
        let known = named(LogicalPlanBuilder::from(known).project(columns.clone())?.build()?, "known")?;
        let equal = NullEquality::NullEqualsNull;
        let on = (keys("new"), keys("known"));
        rows = rows.join_detailed(known, JoinType::LeftAnti, on, Some(is_older.clone()), equal)?;
    }
    Ok(rows.build()?)
}

/// A condition over the columns of the table.
pub(super) fn parsed(condition: &str, staged: &Staged, session: &SessionState) -> Result<Expr, TableError> {
    Ok(session.create_logical_expr(condition, &staged.schema.as_ref().clone().to_dfschema()?)?)
}

/// Which new rows are deletes, and which are not.
fn deletes(staged: &Staged, condition: &str, session: &SessionState) -> Result<(Expr, Expr), TableError> {
    let condition = parsed(condition, staged, session)?;
    Ok((condition.clone().is_true(), condition.is_not_true()))
}

/// The new rows, with the old values of all columns but `updates` where there is an old row of the key.
fn updated_rows(
    old: LogicalPlan,
    staged: &Staged,
    key: &[String],
    updates: &[String],
) -> Result<LogicalPlan, TableError> {
    let of = |table: &str, name: &str| Expr::Column(Column::new(Some(table), name));
    let mut columns: Vec<Expr> = staged.schema.fields().iter().map(|field| exact(field.name())).collect();
    columns.push(lit(true).alias(KNOWN_COLUMN));
    let old = named(LogicalPlanBuilder::from(old).project(columns)?.build()?, "old")?;
    let keys = |table: &str| -> Vec<_> { key.iter().map(|name| Column::new(Some(table), name)).collect() };
    let new = LogicalPlanBuilder::from(named(staged.rows_plan()?, "new")?);
    let both =
        new.join_detailed(old, JoinType::Left, (keys("new"), keys("old")), None, NullEquality::NullEqualsNull)?;
    let values: Result<Vec<Expr>, DataFusionError> = staged
        .schema
        .fields()
        .iter()
        .map(|field| {
            let (name, new) = (field.name(), of("new", field.name()));
            if updates.contains(name) {
                return Ok(new.alias(name));
            }
            let known = of("old", KNOWN_COLUMN).is_not_null();
            Ok(when(known, of("old", name)).otherwise(new)?.alias(name))
        })
        .collect();
    Ok(both.project(values?)?.build()?)
}

/// Some keys that several new rows have, in words.
async fn keys_twice(staged: &Staged, key: &[String], session: &SessionState) -> Result<Vec<String>, TableError> {
    let columns: Vec<_> = key.iter().map(|name| exact(name)).collect();
    let twice = LogicalPlanBuilder::from(staged.rows_plan()?)
        .aggregate(columns.clone(), vec![count(lit(1)).alias(TIMES_COLUMN)])?
        .filter(exact(TIMES_COLUMN).gt(lit(1)))?
        .project(columns)?
        .limit(0, Some(EXAMPLES))?
        .build()?;
    let batches = collect(twice, session).await?;
    let options = FormatOptions::default().with_null("NULL");
    let mut examples = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let values: Result<Vec<String>, DataFusionError> = batch
                .columns()
                .iter()
                .zip(key)
                .map(|(column, name)| {
                    let formatter = ArrayFormatter::try_new(column, &options)?;
                    Ok(format!("{name}={}", formatter.value(row)))
                })
                .collect();
            examples.push(format!("({})", values?.join(", ")));
        }
    }
    Ok(examples)
}

/// Two new rows of one key: which one is right cannot be known.
fn refuse(twice: &[String], merge: &Merge<'_>) -> Result<(), TableError> {
    if twice.is_empty() {
        return Ok(());
    }
    let help = match merge.sequence_by {
        None => "make them distinct, or set `sequence_by` to the column that tells which one is the latest; where each file \
                 has newer rows than the one before, `max_files_per_batch: 1` of the source takes one at a time"
            .to_owned(),
        Some(column) => format!("and the same `{column}`, but other values: one of them is wrong"),
    };
    Err(TableError::Values(format!("several new rows have one unique key: {}; {help}", twice.join(", "))))
}

/// Paths of the published files that hold a key of the new rows.
async fn touched_files(
    published: &Published,
    staged: &Staged,
    key: &[String],
    session: &SessionState,
) -> Result<BTreeSet<String>, TableError> {
    let candidates = prune::candidates(published, staged, key, session).await?;
    if candidates.is_empty() {
        return Ok(candidates);
    }
    let table = scan(published, Files::Only(&candidates), true).await?;
    let plan = LogicalPlanBuilder::scan("old", provider_as_source(table), None)?;
    let matched = join(plan.build()?, staged, key, JoinType::LeftSemi)?;
    files_of(published, matched, &candidates, session).await
}

fn join(old: LogicalPlan, staged: &Staged, key: &[String], how: JoinType) -> Result<LogicalPlan, TableError> {
    let keys: Vec<_> = key.iter().map(|name| exact(name)).collect();
    let new = LogicalPlanBuilder::from(staged.rows_plan()?).project(keys)?.alias("new")?.build()?;
    let left: Vec<_> = key.iter().map(|name| Column::new(Some("old"), name)).collect();
    let right: Vec<_> = key.iter().map(|name| Column::new(Some("new"), name)).collect();
    let builder = LogicalPlanBuilder::from(old);
    Ok(builder.join_detailed(new, how, (left, right), None, NullEquality::NullEqualsNull)?.build()?)
}
