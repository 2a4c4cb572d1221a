//! What a render saw of the world outside of its file, so that a text that is kept can be told from one that is stale.

use super::{KnownNames, Recording, Templates};
use crate::memo::{Key, KeyMaker};

/// What was seen, by name, and the hash of how it was.
pub type Witnesses = Vec<(String, Key)>;

impl Recording {
    fn seen(&self) -> impl Iterator<Item = String> {
        let vars = self.vars.iter().map(|name| format!("var:{name}"));
        let env = self.env.iter().map(|name| format!("env:{name}"));
        let macros = self.macros.iter().map(|path| format!("macro:{path}"));
        vars.chain(env).chain(macros).chain(self.observed.iter().cloned())
    }
}

impl Templates {
    /// What the renders saw, as it is now.
    pub fn witnesses<'a>(&self, known: &KnownNames, all: impl IntoIterator<Item = &'a Recording>) -> Witnesses {
        let mut seen: Vec<String> = all.into_iter().flat_map(Recording::seen).collect();
        seen.sort();
        seen.dedup();
        seen.into_iter().map(|what| (what.clone(), self.look_at(&what, known))).collect()
    }

    /// Whether all is as it was seen.
    pub fn still_hold(&self, known: &KnownNames, witnesses: &Witnesses) -> bool {
        witnesses.iter().all(|(what, key)| self.look_at(what, known) == *key)
    }

    fn look_at(&self, what: &str, known: &KnownNames) -> Key {
        let (kind, name) = what.split_once(':').unwrap_or((what, ""));
        let key = KeyMaker::new(kind);
        match kind {
            "var" => key.value(&self.settings.vars.get(name)),
            "env" => key.value(&self.settings.environment.get(name)),
            "macro" => return self.library.text_key(name),
            "doc" => key.value(&known.docs.get(name)),
            "columns" => key.value(&known.columns.iter().find(|(table, _)| table.to_string() == name)),
            "values" => {
                let is = |(table, column): &(crate::names::TableName, String)| format!("{table}.{column}") == name;
                key.value(&known.accepted_values.iter().find(|(at, _)| is(at)).map(|(_, values)| values))
            }
            other => unreachable!("nothing is recorded as `{other}`"),
        }
        .finish()
    }

    /// What every template may see without its being recorded: the target, and which macros and generic tests there are.
    pub fn key(&self) -> Key {
        KeyMaker::new("templates")
            .text(&self.settings.target.to_string())
            .text(&self.settings.project)
            .key(self.library.names_key())
            .finish()
    }
}
