//! The arguments of `lake docs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::args::SelectArgs;

/// What to document.
#[derive(Debug, Args)]
pub(super) struct DocsArgs {
    /// What to write instead of lineage.
    #[command(subcommand)]
    pub(super) command: Option<DocsCommand>,
    /// Which nodes.
    #[command(flatten)]
    pub(super) selection: SelectArgs,
    /// The lineage of one column, up and down: gold.most_viewed_courses.users
    #[arg(long, value_name = "LAYER.MODEL.COLUMN", conflicts_with_all = ["select", "exclude", "selector"])]
    pub(super) column: Option<String>,
    /// How lineage is printed
    #[arg(long, value_enum, default_value_t = LineageFormat::Tree)]
    pub(super) format: LineageFormat,
}

/// The documentation site.
#[derive(Debug, Subcommand)]
pub(super) enum DocsCommand {
    /// Write the site as one self-contained HTML file
    Generate {
        /// The file [default: .lake/docs/index.html]
        #[arg(long, value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Serve the site on this machine; it follows the project and its runs
    Serve {
        /// The port; 0 takes any that is free
        #[arg(long, value_name = "PORT", default_value_t = 8580)]
        port: u16,
    },
}

/// How lineage is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LineageFormat {
    /// An indented tree.
    Tree,
    /// A Mermaid flowchart.
    Mermaid,
    /// Graphviz.
    Dot,
    /// Nodes and edges.
    Json,
    /// Events of OpenLineage about jobs, a line each: columns, types and column lineage too.
    Openlineage,
}
