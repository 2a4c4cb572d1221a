//! What a unit test puts in the place of variables, the environment, macros and the clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Templates;
use super::macros::Macro;

/// What stands in for what a template would see.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// Values of `var()`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Values of `env_var()`.
    pub env_vars: BTreeMap<String, String>,
    /// What calls of macros give, by `name` or `package.name`.
    pub macros: BTreeMap<String, serde_json::Value>,
    /// The clock: `run_started_at`, `modules.datetime.datetime.now()`, and `now()` in SQL.
    pub now: Option<DateTime<Utc>>,
    /// `invocation_id`.
    pub invocation_id: Option<String>,
}

impl Overrides {
    /// Whether templates see the world as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What calls of a macro give, if something else than the macro.
    pub(super) fn of_macro(&self, found: &Macro) -> Option<&serde_json::Value> {
        // Most renders have none.
        if self.macros.is_empty() {
            return None;
        }
        self.macros.get(&found.name).or_else(|| self.macros.get(&found.full_name()))
    }
}

impl Templates {
    /// Whether somebody can call a macro of this name: `name` or `package.name`.
    pub fn has_macro(&self, name: &str) -> bool {
        let (package, name) = split(name);
        self.library.resolve(name, package, "").is_ok()
    }

    /// The macro that a mistyped name most likely meant.
    pub fn near_macro(&self, name: &str) -> Option<String> {
        let (package, name) = split(name);
        let near = self.library.near(name, package)?;
        Some(package.map_or_else(|| near.clone(), |package| format!("{package}.{near}")))
    }
}

fn split(name: &str) -> (Option<&str>, &str) {
    name.split_once('.').map_or((None, name), |(package, name)| (Some(package), name))
}
