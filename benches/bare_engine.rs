//! The work of the sample lake's first build on a bare engine: DataFusion reads the CSV files, casts, makes rows
//! distinct, joins, aggregates, and writes Parquet. No types checked before, no manifest, no tests, no Delta log.
//! `bench/sample.py` runs it beside `lake build`: what `lake` takes more is what its guarantees cost.
//!
//! `bare_engine plan FOLDER` parses, plans and analyses the SQL files below a folder, in the order of their names, each
//! over the schemas of those before it: `bench/compile.py` runs it beside `lake compile`.
//!
//! `bare_engine copy FOLDER OUT` casts the CSV files of a folder and writes them as Parquet: `bench/bronze.py` runs it
//! beside a `lake build` that takes the same files in.
//!
//! `bare_engine sql FILE [MEMORY]` runs the statements of a file one after another, with the compression of `lake`'s own
//! files and perhaps with as much memory, and tells the seconds of each: `bench/tpch.py` runs it beside `lake build`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datafusion::catalog::MemorySchemaProvider;
use datafusion::common::TableReference;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};

const VIEWS: &str = "select distinct try_cast(\"timestamp\" as timestamp) as viewed_at, user_id, platform, \
    try_cast(course_id as bigint) as course_id, try_cast(chapter_id as bigint) as chapter_id, \
    cast('2026-01-01' as timestamp) as loaded_at from bronze_views";
const PART: &str = "case when extract(hour from viewed_at) < 12 then 'morning' \
    when extract(hour from viewed_at) < 17 then 'afternoon' else 'evening' end";

#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, bronze, out, ..] = arguments.as_slice() else {
        // `cargo bench` calls every bench target, with flags of its own.
        return Ok(());
    };
    if bronze.starts_with('-') {
        return Ok(());
    }
    match (bronze.as_str(), arguments.get(3)) {
        ("plan", _) => return plan(Path::new(out)).await,
        ("sql", memory) => return sql(out, memory.map(String::as_str)).await,
        ("copy", Some(goal)) => return copy(out, goal).await,
        _ => {}
    }
    let context = SessionContext::new();
    let text = |name: &&str| Field::new(*name, DataType::Utf8, true);
    let names = ["timestamp", "user_id", "platform", "course_id", "chapter_id"];
    let schema = Schema::new(names.iter().map(text).collect::<Vec<_>>());
    let options = CsvReadOptions::new().schema(&schema);
    context.register_csv("bronze_views", &format!("{bronze}/views/"), options).await?;
    context.register_csv("courses", &format!("{bronze}/courses/"), CsvReadOptions::new()).await?;
    write(&context, VIEWS, out, "views").await?;
    context.register_parquet("views", format!("{out}/views"), ParquetReadOptions::default()).await?;
    let most_viewed = format!(
        "select title, views.course_id, {PART} as part, count(*) as n, count(distinct user_id) as users from views \
         join courses on courses.course_id = views.course_id where viewed_at is not null group by 1, 2, 3"
    );
    let platforms = format!(
        "select platform, {PART} as part, count(*) as n, count(distinct user_id) as users from views \
         where viewed_at is not null and platform is not null group by 1, 2"
    );
    let progress = "select user_id, views.course_id, title, count(distinct chapter_id) as viewed, chapters, \
         min(viewed_at) as first_viewed_at, max(viewed_at) as last_viewed_at from views \
         join courses on courses.course_id = views.course_id \
         where user_id is not null and chapter_id is not null group by 1, 2, 3, 5";
    write(&context, &most_viewed, out, "most_viewed_courses").await?;
    write(&context, &platforms, out, "users_platforms").await?;
    write(&context, progress, out, "course_progress").await
}

/// The types of `bench/bronze.py`, and the compression of `lake`'s own files.
async fn copy(folder: &str, goal: &str) -> datafusion::error::Result<()> {
    let columns = [
        ("id", "bigint"),
        ("amount", "double"),
        ("price", "decimal(18,2)"),
        ("happened_at", "timestamp"),
        ("day", "date"),
        ("city", "varchar"),
        ("note", "varchar"),
    ];
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.compression = Some("zstd(1)".to_owned());
    let context = SessionContext::new_with_config(config);
    let schema =
        Schema::new(columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>());
    context.register_csv("files", folder, CsvReadOptions::new().schema(&schema)).await?;
    let casts: Vec<String> = columns.iter().map(|(name, to)| format!("cast({name} as {to}) as {name}")).collect();
    let sql = format!("copy (select {} from files) to '{goal}' stored as parquet", casts.join(", "));
    context.sql(&sql).await?.collect().await?;
    Ok(())
}

#[allow(clippy::print_stdout)]
async fn sql(file: &str, memory: Option<&str>) -> datafusion::error::Result<()> {
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.compression = Some("zstd(1)".to_owned());
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(memory) = memory {
        let gigabytes: usize = memory.trim_end_matches("GB").parse().expect("memory is written as 2GB");
        runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(gigabytes * 1_000_000_000)));
    }
    let context = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
    for statement in std::fs::read_to_string(file)?.split(";\n") {
        let start = Instant::now();
        context.sql(statement).await?.collect().await?;
        // The place that it writes to tells the statements apart.
        println!("{:.2}s  {}", start.elapsed().as_secs_f64(), statement.rsplit(" to ").next().unwrap_or_default());
    }
    Ok(())
}

async fn write(context: &SessionContext, sql: &str, out: &str, name: &str) -> datafusion::error::Result<()> {
    let frame = context.sql(sql).await?;
    frame.write_parquet(&format!("{out}/{name}/"), DataFrameWriteOptions::new(), None).await?;
    Ok(())
}

/// Plans every `layer/folder/model.sql`; the names of generated models have an order in which none reads a later one.
async fn plan(folder: &Path) -> datafusion::error::Result<()> {
    let context = SessionContext::new();
    let catalog = context.catalog("datafusion").expect("every session has one");
    let bronze = Arc::new(MemorySchemaProvider::new());
    catalog.register_schema("bronze", bronze)?;
    let columns = [
        ("id", DataType::Int64),
        ("amount", DataType::Float64),
        ("happened_at", MICROSECONDS),
        ("kind", DataType::Utf8),
    ];
    let events = Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    for number in 0..50 {
        let table = Arc::new(EmptyTable::new(Arc::new(events.clone())));
        context.register_table(TableReference::partial("bronze", format!("events_{number}")), table)?;
    }
    let mut files = Vec::new();
    for layer in std::fs::read_dir(folder)? {
        let layer = layer?.path();
        let name = layer.file_name().expect("a listed folder has a name").to_string_lossy().into_owned();
        catalog.register_schema(&name, Arc::new(MemorySchemaProvider::new()))?;
        for group in std::fs::read_dir(&layer)? {
            let models = std::fs::read_dir(group?.path())?.map(|file| Ok((file?.path(), name.clone())));
            files.extend(models.collect::<std::io::Result<Vec<(PathBuf, String)>>>()?);
        }
    }
    files.sort_by(|a, b| a.0.file_name().cmp(&b.0.file_name()));
    let state = context.state();
    for (file, layer) in files {
        let plan = state.create_logical_plan(&std::fs::read_to_string(&file)?).await?;
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
        let table = Arc::new(EmptyTable::new(Arc::new(plan.schema().as_arrow().clone())));
        let name = file.file_stem().expect("a listed file has a name").to_string_lossy();
        context.register_table(TableReference::partial(layer, name.as_ref()), table)?;
    }
    Ok(())
}

const MICROSECONDS: DataType = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None);
