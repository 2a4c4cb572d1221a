//! Integration tests: the real `lake` on small real projects in temporary folders.

mod architecture;
mod crash;
mod diagnostics;
mod formats;
mod materialize;
mod reader;
mod sample;
mod sandbox;
mod selection;
mod terminal;
