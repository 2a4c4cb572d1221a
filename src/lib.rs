//! `lake`: a compiler for lakehouse pipelines.
//!
//! YAML that declares bronze sources and SQL files that declare models go in. One typed DAG is compiled, run on
//! DataFusion, and every result is published as a Delta table, after the table's own tests have passed on the rows
//! that are about to be published.
//!
//! ```text
//! files --> project --> graph --> inspect --> compile --------> schedule --> execute -> stage -> audit -> publish --> artifacts, docs
//!           Project     Graph     Catalog     CompiledProject   Schedule     streams    Staged   results  Published   JSON, HTML
//!           pure        pure      io, once    pure              pure         io         io       io       io          io
//! ```
//!
//! Data goes one way: a stage imports the stages before it, never one after it (a test reads the `use` lines and keeps
//! it so), and hands on its own typed product. Pure stages are synchronous, read no clock, network or table, and run in
//! parallel with rayon; stages with IO are async on tokio. A user's mistake is a value, a
//! [`Diagnostic`](diagnostics::Diagnostic), not an `Err`: a stage reports it and goes on with what is left.
//!
//! | module | owns |
//! | --- | --- |
//! | [`names`] | what a table may be called, and which name a typo meant |
//! | [`words`] | numbers and nouns as people read them, names and texts as SQL |
//! | [`paths`] | absolute paths without dots |
//! | [`intervals`] | time in batches of hours, days, months and years |
//! | [`memo`] | what earlier runs worked out, by the hash of what decides it |
//! | [`fail_points`] | moments at which a test kills the program |
//! | [`diagnostics`] | mistakes of users, where they are, and how they are shown |
//! | [`catalog`] | schemas of sources, and the types that Delta can store |
//! | [`session`] | the configuration of DataFusion, and the one planner of SQL |
//! | [`stores`] | folders and buckets: addresses, options, credentials, faults |
//! | [`exact_files`] | a table over exactly the files it was given |
//! | [`checks`] | generic tests that are built in, and the SQL that they become |
//! | [`template`] | Jinja, and the way back from SQL to the template |
//! | [`project`] | files -> `Project`: YAML, settings, sources, models, tests |
//! | [`from_dbt`] | a dbt project -> the files of a project, and what could not be converted |
//! | [`graph`] | `Project` -> `Graph`: order, cycles, selection |
//! | [`compile`] | `Graph` + `Catalog` -> `CompiledProject`: types, fingerprints, tests as SQL |
//! | [`bronze`] | source files: listing, formats, manifests, inspection |
//! | [`tables`] | Delta tables: inspect, read, stage, merge, publish |
//! | [`run`] | `CompiledProject` -> `RunReport`: schedule, decide, materialise, audit |
//! | [`artifacts`] | `.lake/`: what other programs read |
//! | [`alerts`] | who is told how a run ended: Slack, Teams, webhooks, mail, commands |
//! | [`docs`] | lineage as text, and the documentation page |
//! | [`orchestrators`] | the project as tasks of programs that schedule |
//! | [`cli`] | arguments, printing, exit codes; the only module that sees all |
//!
//! `ARCHITECTURE.md` in the repository tells the reasons and the formats on disk.

// The futures of a run stand one in another, and so do the spans around them: more deeply than the compiler looks unless told.
#![recursion_limit = "256"]

// -- words that every stage speaks --

pub mod names;

pub mod words;

pub mod paths;

pub mod intervals;

pub mod memo;

pub mod fail_points;

pub mod diagnostics;

pub mod catalog;

pub mod session;

pub mod stores;

pub mod exact_files;

pub mod checks;

pub mod template;

// -- the pipeline --

pub mod project;

pub mod from_dbt;

pub mod graph;

pub mod compile;

pub mod bronze;

pub mod tables;

pub mod run;

pub mod artifacts;

pub mod alerts;

pub mod docs;

pub mod orchestrators;

pub mod cli;
