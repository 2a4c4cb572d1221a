//! Schedule -> programs of orchestrators, which start `lake` for a part of the project at a time.
//!
//! [`Workload`] says which nodes one process builds and which processes wait for which; [`airflow`] writes it down as a
//! DAG of Airflow. Pure: files and the command line are unknown here.

pub mod airflow;
mod inputs;
mod selectors;
mod tasks;

pub use inputs::Inputs;
pub use tasks::{Cut, Task, Workload};
