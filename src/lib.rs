//! lake
pub mod artifacts;
pub mod bronze;
pub mod catalog;
pub mod cli;
pub mod compile;
pub mod diagnostics;
pub mod docs;
pub mod exact_files;
pub mod graph;
pub mod names;
pub mod project;
pub mod run;
pub mod session;
pub mod tables;
pub mod template;
