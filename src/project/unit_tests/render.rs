//! Templates as the overrides of a unit test make them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{ChainModel, ModelCase, UnitTest};
use crate::diagnostics::{Diagnostic, SourceFile};
use crate::memo::KeyMaker;
use crate::project::config::{self, ModelConfig};
use crate::project::{Materialization, Model, Project, models};
use crate::template::{Failure, KnownNames, Overrides, Rendered, Scope, Templates, Trace};

/// A model, rendered again with overrides.
pub(super) fn model(
    model: &Model,
    overrides: &Arc<Overrides>,
    templates: &Templates,
    known: &Arc<KnownNames>,
) -> Result<Model, Box<Failure>> {
    let scope = scope_of(model, overrides, known);
    let (full, recording) = templates.render(&model.file, scope.clone())?;
    let mut values = (**model.outer_config).clone();
    config::overlay(&mut values, &recording.config);
    let mut own = model.clone();
    own.key = KeyMaker::new("overridden").key(model.key).value(&**overrides).text(&full.sql).finish();
    let body = &mut own.body;
    body.config = ModelConfig::from_values(&values);
    body.refs.clear();
    body.sources.clear();
    body.ref_reads.clear();
    body.vars.clear();
    body.full = full.into();
    body.incremental = None;
    body.absorb(&recording);
    if recording.asked_incremental && body.config.materialized == Materialization::Incremental {
        let (rendered, recording) = templates.render(&model.file, Scope { incremental: true, ..scope })?;
        body.absorb(&recording);
        own.key = KeyMaker::new("incremental").key(own.key).text(&rendered.sql).finish();
        body.incremental = Some(rendered.into());
    }
    Ok(own)
}

fn scope_of(model: &Model, overrides: &Arc<Overrides>, known: &Arc<KnownNames>) -> Scope {
    let scope = models::model_scope(&model.name, &model.file, &model.description, &model.outer_config, known);
    Scope { overrides: Arc::clone(overrides), ..scope }
}

/// What a macro writes when it is called with these arguments.
pub(super) fn call(
    name: &str,
    arguments: &str,
    overrides: &Arc<Overrides>,
    templates: &Templates,
    known: &Arc<KnownNames>,
) -> Result<String, Box<Diagnostic>> {
    let file = Arc::new(SourceFile::new(CALL, format!("{{{{ {name}({arguments}) }}}}")));
    let scope = Scope { overrides: Arc::clone(overrides), ..models::bare_scope(CALL, CALL, known) };
    match templates.render(&file, scope) {
        Ok((rendered, _)) => Ok(rendered.sql.trim().to_owned()),
        Err(failure) => Err(Box::new(failure.diagnostic)),
    }
}

/// The file that a call of a macro is written into: no file of the project.
pub(super) const CALL: &str = "unit test";

impl Project {
    /// A model of a unit test: as its overrides make it, or as it is.
    pub fn unit_model<'a>(&'a self, link: &'a ChainModel) -> Option<&'a Model> {
        link.own.as_deref().or_else(|| self.models.get(&link.name))
    }

    /// The SQL of a model of a unit test.
    pub fn unit_sql<'a>(&'a self, case: &ModelCase, link: &'a ChainModel) -> Option<&'a Rendered> {
        let model = self.unit_model(link)?;
        Some(model.rendered(case.incremental && link.name == case.model))
    }

    /// The SQL of a first run of a model that starts at this moment.
    ///
    /// # Errors
    /// What is wrong with its template.
    pub fn rendered_at(&self, model: &Model, now: DateTime<Utc>) -> Result<String, Box<Diagnostic>> {
        if model.timeless.is_none() {
            return Ok(model.full.sql.clone());
        }
        let overrides = Arc::new(Overrides { now: Some(now), ..Overrides::default() });
        let rendered = self.templates.render(&model.file, scope_of(model, &overrides, &self.known));
        rendered.map(|(rendered, _)| rendered.sql).map_err(|failure| Box::new(failure.diagnostic))
    }

    /// Finds out who wrote each byte of that SQL.
    pub fn trace_unit(&self, test: &UnitTest, model: &Model, rendered: &Rendered) -> Trace {
        let scope = scope_of(model, &test.overrides, &self.known);
        let incremental = model.incremental.as_ref().is_some_and(|incremental| std::ptr::eq(&**incremental, rendered));
        self.templates.trace(rendered, Scope { incremental, ..scope })
    }
}
