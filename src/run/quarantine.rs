//! The quarantine of a source: a Delta table of the rows that its models left out.
//!
//! What belongs into it follows from the notes that the commits of the models name (`bronze::quarantine`), so a crash
//! leaves it to the next run: before a model is built, the note of its last commit is settled.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::provider_as_source;

use super::audit::Seen;
use super::inputs::{Chosen, Delivery, Inputs};
use super::intake::chosen;
use super::left_out;
use super::materialize::{Failure, Mode, Node};
use super::own_tables::{ATTEMPTS, columns};
use super::profiling::Sketched;
use super::sieve::Sieve;
use super::staging::Traces;
use super::world::World;
use crate::bronze::quarantine::{self, Draft, Note, app_id};
use crate::bronze::{self, BadRow, BadRows, BronzeError};
use crate::catalog::utc;
use crate::fail_points;
use crate::names::TableName;
use crate::project::{Format, Model, OnBadRow};
use crate::session::{self, Tables};
use crate::tables::{self, Commit, Lake, Published, Staged, TableError};
use crate::template::SourceRead;
use crate::words::sql_text;

/// Where the quarantine of a source is: `<root>/_lake/quarantine/<source>__<table>`.
pub(super) fn table_of(source: &TableName) -> TableName {
    TableName::new("_lake/quarantine", format!("{}__{}", source.schema, source.table))
}

/// The sources that a model reads, also through views, whose bad rows may be kept.
pub(super) fn sources_of(inputs: &Inputs, model: &Model) -> BTreeSet<TableName> {
    let project = &inputs.runtime().project;
    let mut found = BTreeSet::new();
    let mut waiting = vec![model];
    while let Some(model) = waiting.pop() {
        found.extend(model.sources.iter().map(|(name, _)| name.clone()));
        let below = model.refs.iter().filter_map(|name| project.models.get(name));
        waiting.extend(below.filter(|model| !model.is_stored()));
    }
    found.retain(|name| project.sources[name].format != Format::Delta);
    found
}

/// Makes the quarantine of a source say what the last commit of a model means for it.
pub(super) async fn settle(inputs: &Inputs, published: &Published, source: &TableName) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (model, app_id) = (&published.name, app_id(&published.name, source));
    let Some(head) = published.transaction(&app_id).await? else {
        let is_rolled_back = published.is_rolled_back(&app_id).await?;
        return if is_rolled_back { undo(inputs, (model, source), None).await } else { Ok(()) };
    };
    let store = runtime.lake.files_of(model);
    for _ in 0..ATTEMPTS {
        let current = runtime.lake.inspect(&table_of(source)).await?;
        let done = match &current {
            Some(current) => current.transaction(&app_id).await?,
            None => None,
        };
        match done {
            Some(done) if done == head => return Ok(()),
            // Another run went on, or a rollback went back.
            Some(done) if done > head => {
                let now = runtime.lake.inspect(model).await?;
                let went_on = match &now {
                    Some(now) => now.transaction(&app_id).await?.is_some_and(|now| now >= done),
                    None => true,
                };
                return if went_on { Ok(()) } else { undo(inputs, (model, source), Some(head)).await };
            }
            _ => {}
        }
        let note = quarantine::read(&store, (model, source), head).await?;
        match publish(inputs, current.as_ref(), &note, (model, source)).await {
            Err(Failure::Table(TableError::Conflict { .. })) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
    Err(Failure::Table(TableError::Conflict { table: table_of(source) }))
}

async fn publish(
    inputs: &Inputs,
    current: Option<&Published>,
    note: &Note,
    (model, source): (&TableName, &TableName),
) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, session) = (&runtime.lake, &runtime.session);
    let rewrites = current.is_some() && (note.replaces_all || note.supersedes || note.replays.is_some());
    let mut tables = Tables::new();
    let lines = quarantine::lines(note, &lake.place_of(model), source).await?;
    tables.insert(TableName::new("q", "lines"), provider_as_source(lines));
    if let Some(current) = current {
        tables.insert(TableName::new("q", "current"), provider_as_source(tables::table_provider(current).await?));
    }
    let plan = session::plan(session, session::parse(&sql(note, (model, source), rewrites))?, &tables)?;
    let staged = tables::stage(lake, &table_of(source), plan, &schema(), &[], session).await?;
    let staged = if rewrites { staged.replacing_all() } else { staged };
    let commit = Commit::of_run(&note.invocation_id, vec![(app_id(model, source), note.id)]);
    fail_points::reached("quarantine-staged");
    tables::publish(lake, current, staged, &commit).await?;
    fail_points::reached("quarantined");
    Ok(())
}

/// Makes the rows of a model in a quarantine what they were at a head that a rollback went back to; at `None` there are none.
pub(super) async fn undo(
    inputs: &Inputs,
    (model, source): (&TableName, &TableName),
    head: Option<i64>,
) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, session) = (&runtime.lake, &runtime.session);
    let app_id = app_id(model, source);
    for _ in 0..ATTEMPTS {
        let Some(current) = lake.inspect(&table_of(source)).await? else { return Ok(()) };
        if current.transaction(&app_id).await? == head {
            return Ok(());
        }
        let then = match head {
            Some(head) => tables::version_at_head(lake, &current, &app_id, head).await?,
            None => None,
        };
        let mut tables = Tables::new();
        tables.insert(TableName::new("q", "current"), provider_as_source(tables::table_provider(&current).await?));
        let before = then.as_ref().unwrap_or(&current);
        tables.insert(TableName::new("q", "before"), provider_as_source(tables::table_provider(before).await?));
        let name = sql_text(model.as_str());
        // Where the log of the quarantine no longer tells, what came later is known by its batch.
        let sql = format!(
            "select * from q.current where model <> {name} union all \
             select * from q.before where model = {name} and batch_id <= {}",
            head.unwrap_or(-1)
        );
        let plan = session::plan(session, session::parse(&sql)?, &tables)?;
        let staged = tables::stage(lake, &table_of(source), plan, &schema(), &[], session).await?;
        let transactions = vec![(app_id.clone(), head.unwrap_or(tables::NO_HEAD))];
        let commit = Commit::of_run(&runtime.options.invocation_id, transactions);
        match tables::publish(lake, Some(&current), staged.replacing_all(), &commit).await {
            Err(TableError::Conflict { .. }) => tokio::task::yield_now().await,
            outcome => return Ok(outcome.map(|_| ())?),
        }
    }
    Err(Failure::Table(TableError::Conflict { table: table_of(source) }))
}

/// Makes the rows of a model in a quarantine those that another lake has of it.
pub(super) async fn bring(
    inputs: &Inputs,
    from: &Lake,
    (model, source): (&TableName, &TableName),
) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let (lake, session, app_id) = (&runtime.lake, &runtime.session, app_id(model, source));
    let Some(there) = from.inspect(&table_of(source)).await? else { return Ok(()) };
    let Some(head) = there.transaction(&app_id).await? else { return Ok(()) };
    for _ in 0..ATTEMPTS {
        let current = lake.inspect(&table_of(source)).await?;
        let mut tables = Tables::new();
        tables.insert(TableName::new("q", "there"), provider_as_source(tables::table_provider(&there).await?));
        let name = sql_text(model.as_str());
        let mut sql = format!("select * from q.there where model = {name}");
        if let Some(current) = &current {
            if current.transaction(&app_id).await? == Some(head) {
                return Ok(());
            }
            tables.insert(TableName::new("q", "current"), provider_as_source(tables::table_provider(current).await?));
            sql.push_str(&format!(" union all select * from q.current where model <> {name}"));
        }
        let plan = session::plan(session, session::parse(&sql)?, &tables)?;
        let staged = tables::stage(lake, &table_of(source), plan, &schema(), &[], session).await?.replacing_all();
        let commit = Commit::of_run(&runtime.options.invocation_id, vec![(app_id.clone(), head)]);
        match tables::publish(lake, current.as_ref(), staged, &commit).await {
            Err(TableError::Conflict { .. }) => tokio::task::yield_now().await,
            outcome => return Ok(outcome.map(|_| ())?),
        }
    }
    Err(Failure::Table(TableError::Conflict { table: table_of(source) }))
}

/// The rows that a note adds, and those of before as they are now, if they are written again.
fn sql(note: &Note, (model, source): (&TableName, &TableName), rewrites: bool) -> String {
    let folder = note.folder.trim_end_matches('/');
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let time = format!("arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')", note.id);
    let (model, source, folder, run) =
        (sql_text(model.as_str()), sql_text(source.as_str()), sql_text(&folder), sql_text(&note.invocation_id));
    let added = format!(
        "select {source} as source, {model} as model, {folder} || file as file_path, row as row_number, line, \
         text as raw_text, header, \"column\" as column_name, reason, cast({} as bigint) as batch_id, \
         {run} as invocation_id, {time} as quarantined_at, arrow_cast(null, 'Timestamp(Microsecond, Some(\"UTC\"))') \
         as replayed_at from q.lines where kind = 'row'",
        note.id
    );
    if !rewrites {
        return added;
    }
    let same = "c.file_path = b.path and (c.row_number is not distinct from b.row) and c.batch_id = b.batch";
    let of_kind =
        |kind: &str| format!("select distinct {folder} || file as path, row, batch from q.lines where kind = '{kind}'");
    let goes = if note.replaces_all { "true" } else { "(s.path is not null or u.path is not null)" };
    let (still, superseded, kept) = (of_kind("still"), of_kind("superseded"), of_kind("kept"));
    let unreadable = format!("{} and row is null", of_kind("row"));
    let replays = note.replays.unwrap_or(0);
    format!(
        "{added} union all select c.source, c.model, c.file_path, c.row_number, c.line, c.raw_text, c.header, \
         c.column_name, c.reason, c.batch_id, c.invocation_id, c.quarantined_at, \
         case when c.model = {model} and c.replayed_at is null and c.batch_id <= {replays} and b.path is null and k.path is null then {time} \
         else c.replayed_at end as replayed_at \
         from q.current c \
         left join ({still}) b on {same} \
         left join (select distinct path from ({kept})) k on c.file_path = k.path \
         left join (select distinct path from ({unreadable})) u on c.file_path = u.path and c.row_number is null \
         left join (select distinct path from ({superseded})) s on c.file_path = s.path \
         where not (c.model = {model} and {goes})"
    )
}

fn schema() -> SchemaRef {
    columns(&[
        ("source", DataType::Utf8),
        ("model", DataType::Utf8),
        ("file_path", DataType::Utf8),
        ("row_number", DataType::Int64),
        ("line", DataType::Int64),
        ("raw_text", DataType::Utf8),
        ("header", DataType::Utf8),
        ("column_name", DataType::Utf8),
        ("reason", DataType::Utf8),
        ("batch_id", DataType::Int64),
        ("invocation_id", DataType::Utf8),
        ("quarantined_at", utc()),
        ("replayed_at", utc()),
    ])
}

/// What could be read of a batch.
pub(super) struct Readable<'a> {
    pub(super) staged: Staged,
    pub(super) traces: Traces,
    pub(super) chosen: Chosen,
    pub(super) bad_rows: Arc<BadRows>,
    /// What tests saw while the rows were written.
    pub(super) seen: Seen,
    /// What was counted while they were.
    pub(super) sketched: Option<Sketched>,
    /// What tests left out.
    pub(super) sieve: Option<Sieve<'a>>,
}

/// Makes all quarantines of a model say what its published version means for them.
pub(super) async fn settle_all(inputs: &Inputs, model: &Model, published: &Published) -> Result<(), Failure> {
    for source in sources_of(inputs, model) {
        settle(inputs, published, &source).await?;
    }
    left_out::settle(inputs, model, published).await
}

impl Node<'_> {
    /// The published version, when its quarantines say what it means for them.
    pub(super) async fn settled(&self) -> Result<Option<Published>, Failure> {
        let published = self.inputs.published(&self.model.name).await?;
        if let Some(published) = &published {
            self.settle(published).await?;
        }
        Ok(published)
    }

    pub(super) async fn settle(&self, published: &Published) -> Result<(), Failure> {
        settle_all(self.inputs, self.model, published).await
    }

    /// Stages a batch, without the files that cannot be read where these are quarantined.
    pub(super) async fn stage_readable(&self, world: &mut World, mode: Mode) -> Result<Readable<'_>, Failure> {
        let runtime = self.inputs.runtime();
        let mut chosen = chosen(&world.taken);
        let mut bad_files: Vec<(TableName, BadRow)> = Vec::new();
        let proved = self.proved(world, mode).await?;
        let on_the_way = self.on_the_way(world, mode, &proved).await;
        loop {
            let bad_rows = Arc::new(BadRows::new(&runtime.session));
            let staged = match self.check_columns(&chosen).await {
                Ok(()) => self.stage(world, mode, &chosen, &bad_rows, &on_the_way).await,
                Err(failure) => Err(failure),
            };
            match staged {
                Ok((staged, traces)) => {
                    // A replay leaves them where they are.
                    for (source, row) in bad_files.iter().filter(|_| runtime.options.replay.is_none()) {
                        bad_rows.add_file(source, row).map_err(|error| Failure::text(error.to_string()))?;
                    }
                    if let Err(failure) = self.check_limits(&bad_rows) {
                        staged.discard(&runtime.lake).await;
                        return Err(failure);
                    }
                    let mut seen = on_the_way.seen(&staged).await;
                    seen.extend(proved);
                    let sketched = on_the_way.sketched(&staged).await;
                    let sieve = on_the_way.sieve;
                    return Ok(Readable { staged, traces, chosen, bad_rows, seen, sketched, sieve });
                }
                Err(_) if self.intake.moved_meanwhile(&chosen).await => return Err(self.conflict()),
                Err(failure @ Failure::Bronze(BronzeError::NewColumns { .. })) => return Err(failure),
                Err(failure) if failure.is_transient() => return Err(failure),
                Err(failure) => {
                    let found = self.unreadable(&mut chosen).await?;
                    if found.is_empty() {
                        return Err(self.blame(failure, &chosen).await);
                    }
                    for (source, row) in &found {
                        if let Some(taken) = world.taken.get_mut(source) {
                            taken.pending.set_aside(&row.file, &row.reason);
                        }
                    }
                    bad_files.extend(found);
                }
            }
        }
    }

    /// Takes the files that cannot be read out of those that are.
    async fn unreadable(&self, chosen: &mut Chosen) -> Result<Vec<(TableName, BadRow)>, Failure> {
        let runtime = self.inputs.runtime();
        let mut found = Vec::new();
        for (name, read) in &self.model.sources {
            let source = &runtime.project.sources[name];
            if source.options.on_bad_row != OnBadRow::Quarantine || *read != SourceRead::Changes {
                continue;
            }
            if !chosen.contains_key(name) {
                let files = self.inputs.listing(name).await?.files.clone();
                chosen.insert(name.clone(), Delivery { batch: None, files });
            }
            let Some(Delivery { files, .. }) = chosen.get_mut(name) else { continue };
            let schema = &runtime.compiled.sources[name];
            let (session, folder) = (&runtime.session, &runtime.folder);
            let culprits = bronze::find_culprits(source, schema, files, session, folder, usize::MAX).await;
            for (at, error) in culprits.into_iter().rev() {
                // What was compacted could be read: not the file is wrong, but what is declared now.
                let BronzeError::File { why, .. } = error else { return Err(error.into()) };
                if files[at].compacted.is_some() {
                    let file = files[at].shown(folder);
                    return Err(BronzeError::File { file, why }.into());
                }
                let file = files.remove(at);
                let row = BadRow { file: file.path, reason: why, ..BadRow::default() };
                found.push((name.clone(), row));
            }
        }
        Ok(found)
    }

    fn check_limits(&self, bad_rows: &BadRows) -> Result<(), Failure> {
        for name in bad_rows.sources() {
            let Some(limit) = self.inputs.runtime().project.sources[&name].ingestion.max_bad_rows else { continue };
            let (rows, bad) = bad_rows.counts(&name);
            if limit.is_exceeded(bad, rows) {
                return Err(Failure::text(format!(
                    "{bad} of {rows} rows of `{name}` do not fit, and `max_bad_rows: {limit}` allows no more: {}",
                    bad_rows.examples(&name).join("; ")
                )));
            }
        }
        Ok(())
    }

    /// Rows and files that were left out.
    pub(super) fn quarantined(&self, bad_rows: &BadRows) -> u64 {
        let sources = &self.inputs.runtime().project.sources;
        let kept = bad_rows.sources();
        let kept = kept.iter().filter(|name| sources[*name].options.on_bad_row == OnBadRow::Quarantine);
        kept.map(|name| bad_rows.counts(name).1).sum()
    }

    /// Notes what a batch has left out, for the commit that makes it count.
    pub(super) async fn note_bad_rows(
        &self,
        world: &World,
        mode: Mode,
        bad_rows: &BadRows,
    ) -> Result<Vec<(String, i64)>, Failure> {
        let runtime = self.inputs.runtime();
        let store = runtime.lake.files_of(&self.model.name);
        let mut transactions = Vec::new();
        for source in sources_of(self.inputs, self.model) {
            let app_id = app_id(&self.model.name, &source);
            let before = match &world.published {
                Some(published) => published.transaction(&app_id).await?,
                None => None,
            };
            let taken = world.taken.get(&source);
            let replayed = runtime.options.replay.as_ref() == Some(&source);
            let is_kept = runtime.project.sources[&source].options.on_bad_row == OnBadRow::Quarantine;
            if before.is_none() && !is_kept {
                continue;
            }
            let superseded = taken.into_iter().flat_map(|taken| taken.pending.superseded_files());
            let listing = match taken {
                Some(taken) => Arc::clone(&taken.listing),
                None => self.inputs.listing(&source).await?,
            };
            let draft = Draft {
                folder: &listing.base,
                invocation_id: &runtime.options.invocation_id,
                replaces_all: before.is_some() && (taken.is_none() || mode == Mode::Full),
                superseded: superseded.filter(|_| before.is_some()).map(str::to_owned).collect(),
                still_unreadable: before.is_some()
                    && taken.is_some_and(|taken| taken.pending.bad.iter().any(|(read, _)| read.retried)),
                replays: before.filter(|_| replayed),
                kept: taken.map(|taken| taken.pending.kept.clone()).unwrap_or_default(),
            };
            let note = quarantine::write(&store, (&self.model.name, &source), bad_rows, draft, before).await?;
            transactions.extend(note.map(|note| (app_id, note.id)));
        }
        Ok(transactions)
    }
}
