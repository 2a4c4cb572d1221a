//! Lineage as text, Mermaid, Graphviz and JSON, and the documentation page.

mod lineage;
mod site;

pub use lineage::{Lineage, dot, json, mermaid, tree};
pub use site::page;
