//! The runs of a unit test: its models, typed over the tables and files that are given to them.

use std::collections::BTreeMap;

use datafusion::execution::session_state::SessionState;

use super::{CompiledProject, Compiler, Sensitive, source_key};
use crate::catalog::{Catalog, stored_schema};
use crate::diagnostics::Diagnostic;
use crate::memo::Memo;
use crate::project::{ModelCase, Project};

/// Compiles the part of a project that [`Project::for_unit_test`] made; what is given has the columns that it has in
/// `whole`, the compiled project that it is a part of.
///
/// # Errors
/// What is wrong with one of its models.
pub fn compile_runs(
    part: &Project,
    case: &ModelCase,
    whole: &CompiledProject,
    session: &SessionState,
) -> Result<CompiledProject, Vec<Diagnostic>> {
    let sources = part.sources.keys().filter_map(|name| Some((name.clone(), whole.sources.get(name)?.clone())));
    let catalog = Catalog { sources: sources.collect(), seeds: BTreeMap::new() };
    let source_keys = catalog.sources.iter().map(|(name, schema)| (name.clone(), source_key(part, name, schema)));
    let (source_keys, memo) = (source_keys.collect(), Memo::none());
    let mut compiler =
        Compiler { project: part, session, catalog: &catalog, memo: &memo, source_keys, done: BTreeMap::new() };
    for (name, compiled) in &whole.models {
        let runs = case.chain.iter().any(|link| link.name == *name);
        let is_table = part.models.get(name).is_some_and(|model| model.refs.is_empty() && model.sources.is_empty());
        if part.models.contains_key(name) && (!runs || is_table && case.model != *name) {
            let mut given = compiled.clone();
            // A view that is given is a table here.
            if let Ok(stored) = stored_schema(&given.schema) {
                given.schema = stored.into();
            }
            compiler.done.insert(name.clone(), given);
        }
    }
    for link in case.chain.iter().filter(|link| !compiler.done.contains_key(&link.name)).collect::<Vec<_>>() {
        let (compiled, _) = compiler.model(&part.models[&link.name])?;
        compiler.done.insert(link.name.clone(), compiled);
    }
    Ok(CompiledProject {
        sensitive: Sensitive::new(),
        models: compiler.done,
        tests: Vec::new(),
        tests_on: BTreeMap::new(),
        unit_tests: Vec::new(),
        sources: catalog.sources,
        unchecked: Vec::new(),
    })
}
