//! Hooks are checked when the project compiles, and run only by a run: Jinja renders, and SQL plans.

use super::{Compiler, errors, schema_source};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::names::TableName;
use crate::project::{Hook, OwnedHooks};
use crate::session::{self, Tables};
use crate::template::{SourceRead, source_relation};

impl Compiler<'_> {
    /// Reports what is wrong with the hooks of the run and of the models that compiled.
    pub(super) fn check_hooks(&self, diagnostics: &mut Diagnostics) {
        for owner in self.project.hooks() {
            if owner.model.is_some_and(|model| !self.done.contains_key(&model.name)) {
                continue;
            }
            for hook in owner.hooks {
                let mut found = self.check_hook(&owner, hook);
                if let Some(model) = owner.model {
                    found =
                        found.into_iter().map(|d| d.related(model.span(), "the model that it belongs to")).collect();
                }
                diagnostics.extend(found);
            }
        }
    }

    fn check_hook(&self, owner: &OwnedHooks<'_>, hook: &Hook) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for text in hook.texts() {
            let rendered = match self.project.render_hook(owner, text) {
                Ok(rendered) => rendered,
                Err(diagnostic) => {
                    found.push(*diagnostic);
                    continue;
                }
            };
            let readable = rendered.reads.iter().all(|name| self.schema_of(name).is_some());
            if !matches!(hook, Hook::Sql(_)) || !readable {
                continue;
            }
            let mut visible = Tables::new();
            for name in &rendered.reads {
                if let Some(schema) = self.schema_of(name) {
                    for relation in [name.clone(), source_relation(name, SourceRead::All)] {
                        visible.insert(relation, schema_source(schema));
                    }
                }
            }
            let written =
                errors::Written::new(&rendered.rendered, || self.project.trace_hook(owner, &rendered.rendered));
            let place = errors::Place::Template(&written);
            let own = owner.model.map_or_else(|| TableName::new("hooks", owner.key), |model| model.name.clone());
            match session::parse(&rendered.rendered.sql) {
                Err(error) => found.push(errors::syntax(&error, &place)),
                Ok(statement) => {
                    if let Err(error) = session::plan_hook(self.session, statement, &visible) {
                        let around = errors::Surroundings { visible: &visible, project: self.project, own: &own };
                        found.extend(errors::plan(&error, &place, &around));
                    }
                }
            }
        }
        found
    }
}
