//! Unit tests in a selection: by their own names and words, and with the model that they test.

use super::evaluate::Evaluator;
use super::matching::config_matches;
use super::term::Term;
use crate::project::UnitTest;

impl Evaluator<'_> {
    /// The unit tests that a term names.
    pub(super) fn unit_tests<'e>(&'e self, term: &'e Term) -> impl Iterator<Item = &'e str> {
        let tests = self.project.unit_tests.iter().filter(|test| self.unit_test_matches(test, term));
        tests.map(|test| test.name.as_str())
    }

    fn unit_test_matches(&self, test: &UnitTest, term: &Term) -> bool {
        let pattern = &term.pattern;
        match term.method {
            None | Some("fqn" | "unit_test" | "test_name") => pattern.matches(&test.name),
            Some("test_type") => pattern.matches("unit"),
            Some("resource_type") => pattern.matches("unit_test"),
            Some("tag") => test.config.tags.iter().any(|tag| pattern.matches(tag)),
            Some("path") => pattern.matches_path(&test.span.file.path),
            Some("file") => {
                let path = &test.span.file.path;
                pattern.matches(path.rsplit('/').next().unwrap_or(path))
            }
            Some("package") => self.is_own_package(term),
            Some("config") => {
                let config = serde_json::json!({"tags": test.config.tags, "meta": test.config.meta, "enabled": true});
                config_matches(&config, term)
            }
            Some("state") => self.facts.state.tests.get(&test.name).is_some_and(|standing| standing.is(&term.value)),
            Some("result") => self.ended(&test.name, &term.value),
            _ => false,
        }
    }
}
