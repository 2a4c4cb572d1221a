//! What channels were told: `_lake.notifications`, so that no failure is told twice, whichever machine runs next.

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;

use super::chronicle;
use super::inputs::Inputs;
use super::materialize::Failure;
use super::own_tables::columns;
use crate::catalog::utc;

/// The newest thing that a channel was told of a subject, where it is not that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerted {
    /// The channel.
    pub channel: String,
    /// What it is about: `test.not_null_views_user_id`, `model.silver.views`.
    pub subject: String,
    /// `failure`, `warning`, `freshness`.
    pub event: String,
    /// What tells this failure from another one of the same subject.
    pub digest: String,
    /// When it was told first.
    pub since: DateTime<Utc>,
    /// When it was told last.
    pub at: DateTime<Utc>,
}

/// A row of `_lake.notifications`.
#[derive(Debug, Clone, Serialize)]
pub struct AlertRow {
    /// The run.
    pub invocation_id: String,
    /// When it was told.
    pub sent_at: DateTime<Utc>,
    /// To whom.
    pub channel: String,
    /// Of what.
    pub subject: String,
    /// `failure`, `warning`, `freshness`, `recovery`.
    pub event: &'static str,
    /// `error`, `warn`; of a recovery nothing.
    pub severity: Option<&'static str>,
    /// What was said.
    pub message: String,
    /// See [`Alerted::digest`].
    pub digest: String,
    /// See [`Alerted::since`].
    pub since: DateTime<Utc>,
    /// `sent`; `failed`, and the next run says it again; `unheard`, where the channel does not listen to recoveries.
    pub outcome: &'static str,
    /// Why it could not be sent.
    pub error: Option<String>,
}

fn alert_columns() -> SchemaRef {
    const TEXT: DataType = DataType::Utf8;
    columns(&[
        ("invocation_id", TEXT),
        ("sent_at", utc()),
        ("channel", TEXT),
        ("subject", TEXT),
        ("event", TEXT),
        ("severity", TEXT),
        ("message", TEXT),
        ("digest", TEXT),
        ("since", utc()),
        ("outcome", TEXT),
        ("error", TEXT),
    ])
}

/// What channels know and has not been taken back.
///
/// # Errors
/// When the table cannot be read.
pub async fn alerted(inputs: &Inputs) -> Result<Vec<Alerted>, Failure> {
    let sql = "select channel, subject, event, digest, cast(since as bigint) as since, cast(sent_at as bigint) as sent_at from \
               (select *, row_number() over (partition by channel, subject order by sent_at desc) as nth \
                from _lake.notifications where outcome <> 'failed') as told where nth = 1 and event <> 'recovery'";
    let mut found = Vec::new();
    inputs
        .each("notifications", sql, |row| {
            found.push(Alerted {
                channel: row.text(0),
                subject: row.text(1),
                event: row.text(2),
                digest: row.text(3),
                since: row.time(4),
                at: row.time(5),
            });
        })
        .await?;
    Ok(found)
}

/// Remembers what channels were told.
///
/// # Errors
/// When the table cannot be written.
pub async fn note_alerts(inputs: &Inputs, rows: &[AlertRow]) -> Result<(), Failure> {
    chronicle::append(inputs, "notifications", alert_columns(), rows).await
}
