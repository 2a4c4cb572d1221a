//! Integration tests: the real `lake` on small real projects in temporary folders.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "a test says why it was skipped")]

mod anomalies;
mod appended;
mod architecture;
mod artifacts;
mod atomic;
mod bad_rows;
mod board;
mod care;
mod changes;
mod compact;
mod crash;
mod diagnostics;
mod diff;
mod environments;
mod events;
mod every_way;
mod examples;
mod exports;
mod file_sources;
mod foreign;
mod formats;
mod fuzz;
mod generic_tests;
mod guarantees;
mod heals;
mod history;
mod hostile;
mod idioms;
mod incremental;
mod ingest;
mod jinja;
mod lineage;
mod maintain;
mod materialize;
mod merge;
mod microbatch;
mod mutations;
mod new_columns;
mod object_stores;
mod openlineage;
mod profiles;
mod proofs;
mod quality;
mod reader;
mod running;
mod sample;
mod sandbox;
mod scd2;
mod scd2_truth;
mod schema;
mod schema_changes;
mod secrets;
mod seeds;
mod selection;
mod sensitive;
mod services;
mod site;
mod size;
mod skipping;
mod staged;
mod state;
mod strategies;
mod terminal;
mod text_files;
mod together;
#[cfg(feature = "otel")]
mod traces;
mod types;
mod unit_record;
mod unit_runs;
mod unit_tests;
mod why;
