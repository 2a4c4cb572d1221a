//! Lineage as text, Mermaid, Graphviz and JSON, and the documentation page.

mod columns;
mod lineage;
mod site;

pub use columns::{column_json, column_tree};
pub use lineage::{Lineage, dot, json, mermaid, tree};
pub use site::page;
