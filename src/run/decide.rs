//! Skip, full or incremental: a pure function of what is known, and the reason in words.
//!
//! One path leads to a skip of a table: same definition, same inputs, nothing volatile, and a version that
//! `lake` wrote. Any doubt builds.

use std::collections::{BTreeMap, BTreeSet};

use super::defer::shown;
use crate::project::Materialization;
use crate::tables::TableState;

/// What to do with a stored model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Skip(String),
    /// Read everything, replace everything.
    Full(String),
    /// Read what is new, add it.
    Incremental(String),
}

/// What the decision is made of.
pub(super) struct Facts<'a> {
    pub(super) materialized: Materialization,
    /// There is a published version.
    pub(super) exists: bool,
    /// That version is a rollback to before the first one.
    pub(super) emptied: bool,
    pub(super) full_refresh: bool,
    /// What the published version says of itself.
    pub(super) state: Option<&'a TableState>,
    pub(super) definition: &'a str,
    /// What changed in it, in words after a colon; empty where that is not known.
    pub(super) what_changed: String,
    /// Inputs of another version whose columns that are read hold what they held.
    pub(super) as_they_were: BTreeSet<String>,
    /// What is unchanged is built all the same.
    pub(super) forced: bool,
    pub(super) volatile: Option<&'a str>,
    /// Versions of tables and hashes of file lists, by name.
    pub(super) inputs: &'a BTreeMap<String, String>,
    /// Files to do something about, by source, for a model that takes files in.
    pub(super) pending: &'a BTreeMap<String, Counts>,
    /// It reads models by their changes.
    pub(super) reads_changes: bool,
    /// What changed in them, if something did.
    pub(super) changes: Option<String>,
    /// Why old rows that have to go cannot be told apart from others.
    pub(super) rebuild: Option<&'a str>,
    /// Only some of the files were asked for.
    pub(super) sliced: bool,
    /// Nothing that the model reads exists yet: empty folders, unbuilt tables.
    pub(super) nothing_to_read: bool,
    /// Rows are added and never replaced: to add the same ones again would double them.
    pub(super) appends: bool,
    /// A manifest of the table has a head.
    pub(super) has_manifest: bool,
    /// Nothing but quarantined rows is taken in.
    pub(super) replays: bool,
}

/// Files of a source to do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// To take in.
    pub(super) new: usize,
    /// To take in anew, in place of their old rows.
    pub(super) changed: usize,
    /// Known and asked for again.
    pub(super) again: usize,
    /// To take out.
    pub(super) removed: usize,
    /// To remember under another name.
    pub(super) renamed: usize,
    /// With quarantined rows to read again.
    pub(super) replayed: usize,
}

impl Counts {
    fn words(self) -> Vec<String> {
        let Self { new, changed, again, removed, renamed, replayed } = self;
        let counts = [
            (new, "new"),
            (changed, "changed"),
            (again, "again"),
            (removed, "removed"),
            (renamed, "renamed"),
            (replayed, "replayed"),
        ];
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect()
    }
}

/// Why a table is built as for the first time after a rollback.
pub(super) const EMPTIED: &str = "it was rolled back to before its first build";

pub(super) fn decide(facts: &Facts<'_>) -> Action {
    if !facts.exists {
        if facts.nothing_to_read {
            return Action::Skip("there is nothing to read yet".to_owned());
        }
        return Action::Full("first build".to_owned());
    }
    if facts.replays {
        return match what_to_take_in(facts.pending) {
            Some(reason) => Action::Incremental(reason),
            None => Action::Skip("nothing is quarantined that could be read again".to_owned()),
        };
    }
    if facts.full_refresh {
        return Action::Full("full refresh".to_owned());
    }
    if facts.emptied {
        return Action::Full(EMPTIED.to_owned());
    }
    match facts.materialized {
        Materialization::Incremental | Materialization::Scd2 => incremental(facts),
        _ => table(facts),
    }
}

fn table(facts: &Facts<'_>) -> Action {
    let Some(state) = facts.state else {
        return Action::Full("its last version was not written by lake".to_owned());
    };
    if state.definition != facts.definition {
        return Action::Full(format!("its definition changed{}", facts.what_changed));
    }
    if let Some(change) = changed_input(state, facts.inputs, &facts.as_they_were) {
        return Action::Full(change);
    }
    if let Some(function) = facts.volatile {
        return Action::Full(format!("its rows depend on {function}"));
    }
    if facts.forced {
        return Action::Full("forced".to_owned());
    }
    let newer = |name: &&String| facts.inputs.get(*name) != state.inputs.get(*name);
    let newer: Vec<String> = facts.as_they_were.iter().filter(newer).cloned().collect();
    if newer.is_empty() {
        return Action::Skip(format!("unchanged: {}", same_inputs(facts.inputs)));
    }
    Action::Skip(format!("unchanged: what it reads of {} is as it was", newer.join(", ")))
}

fn incremental(facts: &Facts<'_>) -> Action {
    let was_incremental = match facts.state {
        Some(state) => state.materialized == facts.materialized.name(),
        None => facts.has_manifest || facts.pending.is_empty(),
    };
    if !was_incremental {
        // Which files its rows came from is not known: to add some might double them.
        return Action::Full(format!("it was not {} before", facts.materialized.name()));
    }
    if let Some(why) = facts.rebuild {
        return Action::Full(why.to_owned());
    }
    if let Some(reason) = what_to_take_in(facts.pending) {
        return Action::Incremental(reason);
    }
    if let Some(reason) = &facts.changes {
        return Action::Incremental(reason.clone());
    }
    let Some(state) = facts.state else {
        if facts.inputs.is_empty() {
            return Action::Skip(format!("no new files in {}", names(facts.pending)));
        }
        if facts.reads_changes {
            return Action::Skip(format!("unchanged: {}", same_inputs(facts.inputs)));
        }
        if facts.appends {
            let hint = "to add rows again might double them, and --full-refresh rebuilds it";
            return Action::Skip(format!("its last version was not written by lake; {hint}"));
        }
        return Action::Incremental("its last version was not written by lake".to_owned());
    };
    if let Some(change) = changed_input(state, facts.inputs, &BTreeSet::new()) {
        return Action::Incremental(change);
    }
    let hint = if state.definition == facts.definition {
        ""
    } else if facts.materialized == Materialization::Scd2 {
        "; its definition changed, and counts from the next delivery on"
    } else {
        "; its definition changed, and --full-refresh would apply it to the rows that are there"
    };
    if !facts.pending.is_empty() && facts.sliced {
        return Action::Skip(format!("no files in {} are asked for", names(facts.pending)));
    }
    if !facts.pending.is_empty() {
        return Action::Skip(format!("no new files in {}{hint}", names(facts.pending)));
    }
    if state.definition != facts.definition {
        if facts.appends || facts.reads_changes {
            return Action::Skip(format!("{}{hint}", same_inputs(facts.inputs)));
        }
        return Action::Incremental(format!("its definition changed{}", facts.what_changed));
    }
    if let Some(function) = facts.volatile.filter(|_| !facts.reads_changes) {
        return Action::Incremental(format!("its rows depend on {function}"));
    }
    // To add rows again would double them.
    if facts.forced && !facts.appends && !facts.reads_changes {
        return Action::Incremental("forced".to_owned());
    }
    Action::Skip(format!("unchanged: {}", same_inputs(facts.inputs)))
}

/// `new: 2 files in bronze.views`, or `files in bronze.views: 2 new, 1 changed`.
fn what_to_take_in(pending: &BTreeMap<String, Counts>) -> Option<String> {
    let some: Vec<_> = pending.iter().filter(|(_, counts)| **counts != Counts::default()).collect();
    if some.is_empty() {
        return None;
    }
    if some.iter().all(|(_, counts)| **counts == Counts { new: counts.new, ..Counts::default() }) {
        let sources: Vec<String> =
            some.iter().map(|(source, counts)| format!("{} in {source}", files(counts.new))).collect();
        return Some(format!("new: {}", sources.join(", ")));
    }
    let sources: Vec<String> =
        some.iter().map(|(source, counts)| format!("files in {source}: {}", counts.words().join(", "))).collect();
    Some(sources.join("; "))
}

/// The first input that is not what it was, in words.
pub(super) fn changed_input(
    state: &TableState,
    now: &BTreeMap<String, String>,
    as_they_were: &BTreeSet<String>,
) -> Option<String> {
    for (name, version) in now {
        match state.inputs.get(name) {
            Some(old) if old == version || as_they_were.contains(name) => {}
            Some(_) if version == "absent" => return Some(format!("{name} is gone")),
            Some(old) if version.starts_with("version") => return Some(moved(name, old, version)),
            Some(_) if version.starts_with("content") => return Some(format!("{name} changed")),
            Some(_) => return Some(format!("files of {name} changed")),
            None => return Some(format!("it reads {name} for the first time")),
        }
    }
    let gone = state.inputs.keys().find(|name| !now.contains_key(*name))?;
    Some(format!("it no longer reads {gone}"))
}

/// A table that was read at one version and is at another one.
pub(super) fn moved(name: &str, before: &str, now: &str) -> String {
    format!("{name} changed: {} -> {}", shown(before), shown(now).trim_start_matches("version "))
}

fn same_inputs(inputs: &BTreeMap<String, String>) -> String {
    if inputs.is_empty() {
        return "it reads nothing".to_owned();
    }
    let list: Vec<String> = inputs
        .iter()
        .map(|(name, version)| match shown(version).strip_prefix("version ") {
            Some(version) => format!("{name} is still at version {version}"),
            None if version.starts_with("content") => format!("{name} is as it was"),
            None => format!("{name} has the same files"),
        })
        .collect();
    list.join(", ")
}

fn names(pending: &BTreeMap<String, Counts>) -> String {
    pending.keys().cloned().collect::<Vec<_>>().join(", ")
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(change: impl FnOnce(&mut Facts<'_>)) -> Action {
        let inputs = BTreeMap::from([("silver.views".to_owned(), "version 3".to_owned())]);
        let materialized = "incremental".to_owned();
        let state =
            TableState { definition: "d".into(), materialized, inputs: inputs.clone(), ..TableState::default() };
        let pending = BTreeMap::new();
        let mut facts = Facts {
            materialized: Materialization::Table,
            exists: true,
            emptied: false,
            full_refresh: false,
            state: Some(&state),
            definition: "d",
            what_changed: String::new(),
            as_they_were: BTreeSet::new(),
            forced: false,
            volatile: None,
            inputs: &inputs,
            pending: &pending,
            reads_changes: false,
            changes: None,
            rebuild: None,
            sliced: false,
            nothing_to_read: false,
            has_manifest: true,
            replays: false,
            appends: false,
        };
        change(&mut facts);
        decide(&facts)
    }

    #[test]
    fn only_one_path_leads_to_a_skip() {
        assert_eq!(action(|_| {}), Action::Skip("unchanged: silver.views is still at version 3".into()));
        assert!(matches!(action(|f| f.full_refresh = true), Action::Full(_)));
        assert!(matches!(action(|f| f.state = None), Action::Full(_)));
        assert!(matches!(action(|f| f.definition = "other"), Action::Full(_)));
        assert!(matches!(action(|f| f.volatile = Some("now()")), Action::Full(_)));
        assert!(matches!(action(|f| f.forced = true), Action::Full(_)));
        assert!(matches!(action(|f| f.exists = false), Action::Full(_)));
        let newer = BTreeMap::from([("silver.views".to_owned(), "version 4".to_owned())]);
        let inputs: &'static _ = Box::leak(Box::new(newer));
        assert_eq!(action(|f| f.inputs = inputs), Action::Full("silver.views changed: version 3 -> 4".into()));
    }

    #[test]
    fn an_incremental_model_runs_for_new_files_only() {
        let pending = |counts: Counts| -> &'static BTreeMap<String, Counts> {
            Box::leak(Box::new(BTreeMap::from([("bronze.views".to_owned(), counts)])))
        };
        let none = pending(Counts::default());
        let two = pending(Counts { new: 2, ..Counts::default() });
        let mixed = pending(Counts { new: 2, changed: 1, removed: 3, ..Counts::default() });
        let run = |pending, definition: &'static str| {
            action(|f| {
                f.materialized = Materialization::Incremental;
                f.pending = pending;
                f.definition = definition;
            })
        };
        assert_eq!(run(none, "d"), Action::Skip("no new files in bronze.views".into()));
        assert!(matches!(run(none, "e"), Action::Skip(why) if why.contains("--full-refresh")));
        assert_eq!(run(two, "d"), Action::Incremental("new: 2 files in bronze.views".into()));
        let reason = "files in bronze.views: 2 new, 1 changed, 3 removed";
        assert_eq!(run(mixed, "d"), Action::Incremental(reason.into()));
    }
}
