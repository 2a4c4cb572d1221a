//! Settings of `incremental_strategy: microbatch`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::config::{boolean, text, word};
use crate::intervals::{self, BatchSize};

/// How a model's time is cut into batches; each is `None` unless set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchConfig {
    /// `batch_size`.
    pub size: Option<BatchSize>,
    /// `begin`: where time begins for the model.
    pub begin: Option<DateTime<Utc>>,
    /// `lookback`: batches before the current one that are run again for rows that came late.
    pub lookback: Option<u32>,
    /// `concurrent_batches`: `false` for one batch after another.
    pub concurrent: Option<bool>,
}

/// The keys of [`BatchConfig`].
pub(super) const KEYS: [&str; 4] = ["batch_size", "begin", "lookback", "concurrent_batches"];

const SIZES: &[(&str, BatchSize)] =
    &[("hour", BatchSize::Hour), ("day", BatchSize::Day), ("month", BatchSize::Month), ("year", BatchSize::Year)];

/// What dbt looks back if a model does not say.
const LOOKBACK: u32 = 1;

impl BatchConfig {
    /// Sets one of [`KEYS`].
    pub(super) fn set(&mut self, key: &str, value: &serde_json::Value) -> Result<(), String> {
        match key {
            "batch_size" => self.size = Some(word(key, value, SIZES)?),
            "concurrent_batches" => self.concurrent = Some(boolean(key, value)?),
            "lookback" => {
                let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
                self.lookback =
                    Some(count.ok_or_else(|| format!("`lookback` takes a number of batches, not {value}"))?);
            }
            _ => {
                let given = text(key, value)?;
                let moment = intervals::moment(&given);
                self.begin = Some(moment.ok_or_else(|| {
                    format!("`{given}` is not a moment; write `begin` as 2026-01-31 or 2026-01-31T12:00:00 (UTC)")
                })?);
            }
        }
        Ok(())
    }

    /// Batches to look back.
    pub fn lookback(&self) -> u32 {
        self.lookback.unwrap_or(LOOKBACK)
    }

    /// The first of the settings that is set.
    pub fn first_set(&self) -> Option<&'static str> {
        let set = [self.size.is_some(), self.begin.is_some(), self.lookback.is_some(), self.concurrent.is_some()];
        KEYS.into_iter().zip(set).find(|(_, is_set)| *is_set).map(|(key, _)| key)
    }
}
