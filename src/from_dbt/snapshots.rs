//! Snapshots: each is a model with `materialized: scd2`, in the layer `snapshots`.

use std::sync::LazyLock;

use regex::Regex;

use super::World;
use super::finding::{Findings, Level};
use super::jinja;
use super::sql::{self, Kind, Sql};

/// The layer of all of them.
pub(super) const LAYER: &str = "snapshots";

/// What models that read a snapshot call its columns.
const NAMES: &str = "snapshot_meta_column_names={'dbt_valid_from': 'dbt_valid_from', 'dbt_valid_to': 'dbt_valid_to'}";

static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)\{%-?\s*snapshot\s+([A-Za-z_][A-Za-z0-9_]*)\s*-?%\}(.*?)\{%-?\s*endsnapshot\s*-?%\}")
        .expect("a regular expression")
});

/// The names of the snapshots of a file of SQL.
pub(super) fn names(text: &str) -> Vec<String> {
    let masks = jinja::masks(text);
    let blocks = BLOCK.captures_iter(text).filter(|block| is_real(&masks.jinja, block));
    blocks.map(|block| block[1].to_owned()).collect()
}

fn is_real(jinja: &str, block: &regex::Captures<'_>) -> bool {
    block.get(0).is_some_and(|whole| jinja[whole.range()].trim_start().starts_with(['s', '-']))
}

/// The models that the blocks of a file become: their paths and texts.
pub(super) fn of_sql(path: &str, text: &str, world: &World, findings: &mut Findings) -> Vec<(String, String)> {
    let masks = jinja::masks(text);
    let mut made = Vec::new();
    for block in BLOCK.captures_iter(text).filter(|block| is_real(&masks.jinja, block)) {
        let (name, Some(body)) = (block[1].to_owned(), block.get(2)) else { continue };
        // As many lines as before it, so that places are those of the file.
        let before = "\n".repeat(text[..body.start()].matches('\n').count());
        let padded = format!("{before}{}", body.as_str());
        let mut file = Sql::new(path, &padded, Kind::Snapshot);
        file.convert(world, findings);
        let calls = jinja::calls(&padded, &file.masks.jinja);
        let config = calls.iter().find(|call| call.name == "config");
        let has = |key: &str| {
            config.is_some_and(|call| call.arguments.iter().any(|argument| argument.name.as_deref() == Some(key)))
        };
        let mut settings = vec!["materialized='scd2'"];
        settings.extend((!has("snapshot_meta_column_names")).then_some(NAMES));
        match config {
            Some(call) => {
                let open = call.range.start + padded[call.range.start..].find('(').map_or(0, |open| open + 1);
                let rest = &padded[open..];
                let gap = &rest[..rest.len() - rest.trim_start().len()];
                let gap = if gap.contains('\n') { gap } else { "" };
                let between = if gap.is_empty() { " " } else { "" };
                let added: String = settings.iter().map(|setting| format!("{gap}{setting},{between}")).collect();
                file.edits.insert(open, added);
            }
            None => file.edits.insert(before.len(), format!("{{{{ config({}) }}}}\n", settings.join(", "))),
        }
        let line = sql::line(text, block.get(0).map_or(0, |whole| whole.start()));
        report(path, line, &name, findings);
        let Sql { edits, .. } = file;
        made.push((model_path(&name), tidy(&edits.apply(&padded))));
    }
    made
}

/// Where the model of a snapshot stands.
pub(super) fn model_path(name: &str) -> String {
    format!("models/{LAYER}/{name}.sql")
}

/// What is said of every snapshot.
pub(super) fn report(path: &str, line: usize, name: &str, findings: &mut Findings) {
    let action = format!("is the model {} with materialized='scd2'; `dbt snapshot` is `lake build`", model_path(name));
    findings.push(Level::Done, path, line, format!("snapshot `{name}`"), action);
}

/// The settings of a snapshot of YAML, which its model has beside those that stand in YAML.
pub(super) fn settings(names_are_given: bool) -> String {
    if names_are_given { "materialized='scd2'".to_owned() } else { format!("materialized='scd2', {NAMES}") }
}

/// Without empty lines at both ends, and with one newline.
pub(super) fn tidy(text: &str) -> String {
    let start = text.find(|c: char| !c.is_whitespace()).map_or(0, |at| super::edits::line_start(text, at));
    format!("{}\n", text[start..].trim_end())
}
