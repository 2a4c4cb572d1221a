//! Lineage as text, Mermaid, Graphviz and JSON, and the documentation site.
//!
//! `site/` is the front end of the site: its source, and the one file that is made of it (`site/dist/index.html`), which is
//! part of the program. `data/` makes the document that it shows.

mod columns;
mod data;
mod lineage;
mod page;
mod reference;
mod serve;

pub use columns::{column_dot, column_json, column_mermaid, column_tree};
pub use lineage::{Lineage, dot, json, mermaid, tree};
pub use page::{Delivery, page};
pub use reference::yaml as yaml_reference;
pub use serve::{Site, serve};
