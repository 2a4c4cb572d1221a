//! The work of the sample lake's first build on a bare engine: DataFusion reads the CSV files, casts, makes rows
//! distinct, joins, aggregates, and writes Parquet. No types checked before, no manifest, no tests, no Delta log.
//! `bench/sample.py` runs it beside `lake build`: what `lake` takes more is what its guarantees cost.

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};

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

async fn write(context: &SessionContext, sql: &str, out: &str, name: &str) -> datafusion::error::Result<()> {
    let frame = context.sql(sql).await?;
    frame.write_parquet(&format!("{out}/{name}/"), DataFrameWriteOptions::new(), None).await?;
    Ok(())
}
