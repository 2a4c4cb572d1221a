//! What the flags select, with what is known before and after compiling.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Pipeline;
use super::args::{ResourceKind, SelectArgs};
use super::pipeline::Compiled;
use crate::artifacts::{self, ARTIFACTS_FOLDER, StateError};
use crate::compile::CompiledProject;
use crate::compile::state::{self, Picture};
use crate::graph::{ColumnEdge, Facts, Needs, Request, ResourceType, SelectError, Selection, Wanted};

/// A selection that is made, or that waits for the compiled project.
pub(super) struct Choice {
    request: Request,
    needs: Needs,
    facts: Facts,
    before: Option<Picture>,
    made: Option<Selection>,
}

impl Pipeline {
    /// Reads the flags of a selection. What needs no compiled project is evaluated at once.
    pub(super) fn choose(&self, args: &SelectArgs) -> anyhow::Result<Choice> {
        let types =
            |kinds: &[ResourceKind]| -> Vec<ResourceType> { kinds.iter().flat_map(|kind| kind.types()).collect() };
        let request = Request::parse(
            &self.project,
            &Wanted {
                select: &args.select,
                exclude: &args.exclude,
                selector: args.selector.as_deref(),
                resource_types: &types(&args.resource_type),
                excluded_types: &types(&args.exclude_resource_type),
                indirect: args.indirect_selection.into(),
            },
        )?;
        let (needs, mut facts) = (request.needs(), Facts::default());
        let mut before = None;
        if needs.state {
            let folder = args.state.as_ref().ok_or_else(|| SelectError {
                message: "`state:` compares with another compile, and no --state was given".to_owned(),
                help: Some("give --state DIR, a folder with the manifest.json of that compile (its .lake/)".to_owned()),
            })?;
            before = Some(artifacts::read_picture(folder)?);
        }
        if needs.results {
            let own = || self.project.folder.join(ARTIFACTS_FOLDER);
            facts.results = artifacts::read_results(&args.state.clone().unwrap_or_else(own), &self.project)?;
        }
        if needs.freshness {
            let folder = args.state.as_ref().ok_or_else(|| SelectError {
                message: "`source_status:` compares with an older look at the sources, and no --state was given"
                    .to_owned(),
                help: Some("give --state DIR, a folder with the sources.json of that look (its .lake/)".to_owned()),
            })?;
            facts.fresher = artifacts::read_fresher(folder, &self.project.folder.join(ARTIFACTS_FOLDER))?;
        }
        let made = match needs.compile() {
            true => None,
            false => Some(request.evaluate(&self.project, &self.graph, &facts)?),
        };
        Ok(Choice { request, needs, facts, before, made })
    }
}

impl Choice {
    /// The selection, if it needs no compiled project.
    pub(super) fn made(&self) -> Option<&Selection> {
        self.made.as_ref()
    }

    /// The selection, over the compiled project.
    pub(super) fn over(mut self, compiled: &Compiled) -> anyhow::Result<Selection> {
        if let Some(made) = self.made {
            return Ok(made);
        }
        if let Some(before) = &self.before {
            self.facts.state = state::compare(before, &state::picture(&compiled.project, &compiled.compiled));
        }
        if self.needs.columns {
            (self.facts.columns, self.facts.column_edges) = columns(&compiled.compiled);
        }
        Ok(self.request.evaluate(&compiled.project, &compiled.graph, &self.facts)?)
    }
}

/// All columns, and how values flow between them.
fn columns(compiled: &CompiledProject) -> (BTreeSet<(crate::names::TableName, String)>, Vec<ColumnEdge>) {
    let models = compiled.models.values().map(|model| (&model.name, &*model.schema));
    let names = models.chain(&compiled.sources).flat_map(|(table, schema)| {
        let fields = schema.fields().iter();
        fields.map(|field| (table.clone(), field.name().clone())).collect::<Vec<_>>()
    });
    let edges = compiled.models.values().flat_map(|model| {
        let made = model
            .lineage
            .columns
            .iter()
            .flat_map(|(column, from)| from.keys().map(move |from| (column.as_str(), from)));
        made.chain(model.lineage.filters.iter().map(|from| ("*", from))).map(|(column, from)| ColumnEdge {
            from: (from.table.clone(), from.column.clone()),
            to: (model.name.clone(), column.to_owned()),
        })
    });
    (names.collect(), edges.collect())
}

/// The folder that a command compares with.
pub(super) fn state_folder(folder: Option<&PathBuf>) -> Result<&PathBuf, StateError> {
    folder.ok_or_else(|| StateError {
        message: "there is nothing to compare with: no --state was given".to_owned(),
        help: "give --state DIR, a folder with the manifest.json of another compile (its .lake/)".to_owned(),
    })
}
