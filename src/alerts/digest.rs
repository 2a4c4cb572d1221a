//! What tells one failure of a subject from another: its words, without what differs from run to run.

use super::Problem;
use super::words::severity;

/// Words with digits are counts, times, names of files and ids: they do not make another failure.
pub(super) fn digest(problem: &Problem) -> String {
    let plain: Vec<&str> = problem
        .message
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|word| !word.is_empty() && !word.contains(|c: char| c.is_ascii_digit()))
        // `1 row fails`, `2 rows fail`
        .map(|word| word.trim_end_matches('s'))
        .collect();
    let text = format!("{} {} {}", problem.event.name(), severity(problem.severity), plain.join(" "));
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
