//! `data_tests:` lists: tests that are built in or the project's own stay; others become comments.

use super::edits::{entries, get, items};
use super::finding::Level;
use super::properties::Page;
use crate::checks;
use crate::names::nearest;
use crate::project::{self, Node, Raw, TEST_KEYS};

impl Page<'_> {
    /// The tests of a table or a column.
    pub(super) fn tests(&mut self, of: &Node) {
        for key in ["data_tests", "tests"] {
            let Some(list) = get(of, key) else { continue };
            for (at, test) in items(list).iter().enumerate() {
                self.test(list, at, test);
            }
        }
    }

    fn test(&mut self, list: &Node, at: usize, test: &Node) {
        let (name, arguments) = match &test.value {
            Raw::Map(found) => match found.iter().find(|(key, _)| key.plain_text() == "test_name") {
                Some((_, name)) => (name.plain_text(), Some(test)),
                None => match found.first() {
                    Some((key, value)) => (key.plain_text(), Some(value)),
                    None => return,
                },
            },
            _ => (test.plain_text(), None),
        };
        let plain = name.rsplit('.').next().unwrap_or(&name);
        let is_own = self.world.generic_tests.contains(plain);
        let Some(built_in) = checks::find(plain).map(Some).or(is_own.then_some(None)) else {
            let action = match nearest(plain, checks::all().flat_map(|test| test.names.iter().copied())) {
                Some(near) => format!("is a comment now: `{near}` is built in; `lake test --list` shows all"),
                None => "is a comment now: write it in tests/generic/, or as a query in tests/".to_owned(),
            };
            self.say(Level::Todo, test, format!("test `{name}` is not built in"), action);
            if !self.take_item(list, at) {
                self.say(Level::Todo, test, format!("test `{name}`"), "take it out by hand");
            }
            return;
        };
        let Some(arguments) = arguments else { return };
        if let (Some(built_in), false) = (built_in, is_own) {
            let inner = get(arguments, "arguments");
            let known = |key: &str| {
                ["name", "description", "config", "arguments", "test_name", "column_name", "row_condition"]
                    .contains(&key)
                    || TEST_KEYS.contains(&key)
                    || built_in.parameters.iter().any(|parameter| parameter.names.contains(&key))
            };
            for mapping in [Some(arguments), inner].into_iter().flatten() {
                self.test_keys(mapping, &name, known);
            }
        }
        if let Some(config) = get(arguments, "config") {
            self.test_keys(config, &name, |key| TEST_KEYS.contains(&key));
        }
    }

    fn test_keys(&mut self, mapping: &Node, test: &str, known: impl Fn(&str) -> bool) {
        for (at, (key, _)) in entries(mapping).iter().enumerate() {
            let name = key.plain_text();
            if !known(&name) {
                let action = project::instead_of(&name).unwrap_or("is a comment now: it means nothing here");
                self.say(Level::Look, key, format!("`{name}` of the test `{test}`"), action);
                self.take(mapping, at);
            }
        }
    }
}
