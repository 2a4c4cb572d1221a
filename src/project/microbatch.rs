//! Settings of `incremental_strategy: microbatch`.

use super::config::ModelConfig;
use super::values::{boolean, text, word};
use crate::intervals::{self, BatchSize};

/// The settings that mean nothing elsewhere.
pub(super) const KEYS: [&str; 4] = ["batch_size", "begin", "lookback", "concurrent_batches"];

pub(super) const SIZES: &[(&str, BatchSize)] =
    &[("hour", BatchSize::Hour), ("day", BatchSize::Day), ("month", BatchSize::Month), ("year", BatchSize::Year)];

/// What dbt looks back if a model does not say.
const LOOKBACK: u32 = 1;

impl ModelConfig {
    /// Sets one of [`KEYS`].
    pub(super) fn set_batches(&mut self, key: &str, value: &serde_json::Value) -> Result<(), String> {
        match key {
            "batch_size" => self.batch_size = Some(word(key, value, SIZES)?),
            "concurrent_batches" => self.concurrent_batches = Some(boolean(key, value)?),
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

    /// The first setting of batches that is set.
    pub fn first_of_batches(&self) -> Option<&'static str> {
        let (size, begin) = (self.batch_size.is_some(), self.begin.is_some());
        let set = [size, begin, self.lookback.is_some(), self.concurrent_batches.is_some()];
        KEYS.into_iter().zip(set).find(|(_, is_set)| *is_set).map(|(key, _)| key)
    }
}
