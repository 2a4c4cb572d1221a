//! What decides a model's rows, apart from the rows of its inputs.
//!
//! | in the hash | because |
//! | --- | --- |
//! | the statements, parsed and printed again | comments and layout change no row |
//! | the settings that shape the table | key, strategy, partitions |
//! | definitions of the views it reads | their SQL is part of its own |
//! | format, options and columns of its sources | they decide how bytes become values |
//! | the version of `lake` | another engine may compute otherwise |
//!
//! A template that shows the clock or the id of the run has another text in every run; its hash is of the text as it
//! would be in 1970, and the model counts as volatile.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::parser::Statement;

use super::CompiledModel;
use crate::project::{Model, Project, Source};

/// A statement without comments and layout.
pub(super) fn canonical(statement: &Statement) -> String {
    statement.to_string()
}

/// Whether the rows of a filter depend on more than their own columns: on the clock, on chance, on other rows.
pub fn depends_on_more_than_its_row(plan: &LogicalPlan) -> bool {
    let looks_around = |expression: &Expr| {
        use Expr::{AggregateFunction, Exists, InSubquery, OuterReferenceColumn, ScalarSubquery, WindowFunction};
        matches!(
            expression,
            AggregateFunction(_)
                | Exists(_)
                | InSubquery(_)
                | OuterReferenceColumn(..)
                | ScalarSubquery(_)
                | WindowFunction(_)
        )
    };
    let mut found = volatile_function(plan).is_some();
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            found |= expression.exists(|inner| Ok(looks_around(inner)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found || walked.is_err()
}

/// The first function whose value may differ between two runs over equal rows.
pub(super) fn volatile_function(plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::ScalarFunction(call) = inner
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(format!("{}()", call.func.name()));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.expect("the walk itself cannot fail");
    found
}

/// What decides how a source's bytes become values.
pub(super) fn source(source: &Source) -> String {
    let columns: Vec<_> = source.columns.iter().map(|c| (&c.name, c.data_type.as_ref().map(|t| &t.0))).collect();
    format!("{} {:?} {:?} {columns:?}", source.name, source.format, source.options.of_rows())
}

/// The hash that the table records above.
pub(super) fn definition(
    model: &Model,
    statements: &[String],
    inlined: &[&CompiledModel],
    project: &Project,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    add(env!("CARGO_PKG_VERSION"));
    model.timeless.as_deref().unwrap_or(statements).iter().for_each(|statement| add(statement));
    let config = &model.config;
    add(config.materialized.name());
    add(&format!(
        "{:?} {:?} {:?} {:?}",
        config.incremental_strategy, config.unique_key, config.sequence_by, config.partition_by
    ));
    let partly = (&config.merge_update_columns, &config.merge_exclude_columns);
    if !partly.0.is_empty() || !partly.1.is_empty() {
        add(&format!("{partly:?}"));
    }
    config.delete_when.iter().chain(&config.incremental_predicates).for_each(|condition| add(condition));
    if model.is_microbatch() {
        add(&format!("{:?} {:?} {:?}", config.event_time, config.batch_size, super::cut_by_time(project, model)));
    }
    if config.is_history() {
        let names = &config.snapshot_meta_column_names;
        let told_by = (config.strategy, &config.updated_at, &config.check_cols, config.hard_deletes);
        add(&format!("{told_by:?} {names:?}"));
    }
    inlined.iter().for_each(|view| add(&view.definition));
    for (name, _) in &model.sources {
        if let Some(source) = project.sources.get(name) {
            add(&self::source(source));
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}
