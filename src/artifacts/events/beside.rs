//! Events of commands that run no model: how fresh sources are, and what became of tables under care.

use serde_json::{Value, json};

use super::node_info::NodeInfo;
use super::of_run::{RunEvents, big, ended_now};
use super::{Level, LogEvent};
use crate::names::TableName;
use crate::run::{FreshnessResult, FreshnessStatus, Maintained};

impl RunEvents {
    /// How fresh a source is.
    pub fn freshness(&self, result: &FreshnessResult, lake: &Value) -> LogEvent {
        let mut said = self.said.lock().expect("no holder panics");
        let info = NodeInfo::of_source(&self.runtime.project, &result.source);
        let (status, level) = match result.status {
            FreshnessStatus::Pass => ("pass", Level::Info),
            FreshnessStatus::Warn => ("warn", Level::Warn),
            FreshnessStatus::Error => ("error", Level::Error),
            FreshnessStatus::RuntimeError => ("runtime error", Level::Error),
        };
        let index = said.next();
        let what = match (&result.error, result.age()) {
            (Some(error), _) => error.clone(),
            (None, age) => format!("{:.0} seconds old", age.unwrap_or_default()),
        };
        let data = json!({
            "node_info": info.json(status, ended_now(result.seconds)),
            "status": status,
            "index": index,
            "total": self.total,
            "execution_time": result.seconds,
            "source_name": result.source.schema,
            "table_name": result.source.table,
            "lake": lake,
        });
        let message = format!("{index} of {} {} freshness of {}: {what}", self.total, big(status), result.source);
        LogEvent::new("LogFreshnessResult", "Q018", level, message, data)
    }

    /// What became of a table under care.
    pub fn maintained(&self, result: &Maintained) -> LogEvent {
        let mut said = self.said.lock().expect("no holder panics");
        let project = &self.runtime.project;
        let (schema, table) = result.name.split_once('.').unwrap_or(("", &result.name));
        let name = TableName::new(schema, table);
        let info = match project.models.get(&name) {
            Some(model) => NodeInfo::of_model(project, model),
            None => NodeInfo::of_table(project, &name),
        };
        let (status, level) = match (&result.error, result.skipped.is_some() || result.is_nothing()) {
            (Some(_), _) => ("error", Level::Error),
            (None, true) => ("no-op", Level::Info),
            (None, false) => ("success", Level::Info),
        };
        let index = said.next();
        let why = result.error.as_deref().or(result.skipped).unwrap_or_default();
        let message = format!("{index} of {} {} maintain {}", self.total, big(status), result.name);
        let data = json!({
            "node_info": info.json(status, None),
            "description": format!("maintain {}", result.name),
            "status": status,
            "index": index,
            "total": self.total,
            "execution_time": 0.0,
            "msg": why,
            "lake": result,
        });
        let message = if why.is_empty() { message } else { format!("{message}: {why}") };
        LogEvent::new("LogNodeResult", "Q008", level, message, data)
    }
}
