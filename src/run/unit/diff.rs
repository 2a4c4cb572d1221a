//! What was expected and what came, row by row: a pure comparison in which the order of rows means nothing.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;

use crate::project::Tolerance;

/// The rows that are not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// Names of the compared columns.
    pub columns: Vec<String>,
    /// The rows: those that were expected in their order, then those that were not.
    pub rows: Vec<DiffRow>,
}

impl Diff {
    /// How many rows are of a kind.
    pub fn count(&self, kind: DiffKind) -> usize {
        self.rows.iter().filter(|row| row.kind() == kind).count()
    }
}

/// The values of a row as texts; `None` is NULL.
pub type Values = Vec<Option<String>>;

/// A row that is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffRow {
    /// What was expected; `None` for a row that nobody expected.
    pub expected: Option<Values>,
    /// What came in its place; `None` for a row that is missing.
    pub actual: Option<Values>,
    /// The columns that differ, where there are both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<usize>,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffKind {
    /// It did not come.
    Missing,
    /// Nobody expected it.
    Unexpected,
    /// It came with other values.
    Differs,
}

impl DiffRow {
    /// What is wrong with it.
    pub fn kind(&self) -> DiffKind {
        match (&self.expected, &self.actual) {
            (Some(_), None) => DiffKind::Missing,
            (None, _) => DiffKind::Unexpected,
            (Some(_), Some(_)) => DiffKind::Differs,
        }
    }
}

/// More pairs of rows than this are not looked at: then what is left is missing on one side and unexpected on the other.
const MOST_PAIRS: usize = 1 << 20;

/// Compares rows of the same columns and types; `None` if they are the same.
pub(super) fn compare(
    columns: &[String],
    expected: &[RecordBatch],
    actual: &[RecordBatch],
    tolerance: &Tolerance,
) -> Option<Diff> {
    compare_values(columns, values_of(expected), values_of(actual), tolerance)
}

/// Compares rows of texts.
pub(super) fn compare_values(
    columns: &[String],
    expected: Vec<Values>,
    actual: Vec<Values>,
    tolerance: &Tolerance,
) -> Option<Diff> {
    let tolerances: Vec<Option<f64>> = columns.iter().map(|column| tolerance.of(column)).collect();
    let (mut expected, mut actual) = without_equal(expected, actual);
    if tolerances.iter().any(Option::is_some) {
        (expected, actual) = without_near(expected, actual, &tolerances);
    }
    if expected.is_empty() && actual.is_empty() {
        return None;
    }
    Some(Diff { columns: columns.to_vec(), rows: paired(expected, actual, &tolerances) })
}

fn values_of(batches: &[RecordBatch]) -> Vec<Values> {
    let options = FormatOptions::default();
    let mut rows: Vec<Values> = Vec::new();
    for batch in batches {
        let formatters: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).ok()).collect();
        for row in 0..batch.num_rows() {
            let value = |(column, formatter): (&std::sync::Arc<dyn Array>, &Option<ArrayFormatter<'_>>)| {
                let formatter = formatter.as_ref().filter(|_| !column.is_null(row))?;
                Some(formatter.value(row).try_to_string().unwrap_or_else(|error| error.to_string()))
            };
            rows.push(batch.columns().iter().zip(&formatters).map(value).collect());
        }
    }
    rows
}

/// What is left of both when equal rows are taken out, each against one.
fn without_equal(expected: Vec<Values>, actual: Vec<Values>) -> (Vec<Values>, Vec<Values>) {
    let mut counts: HashMap<Values, usize> = HashMap::with_capacity(expected.len());
    for row in &expected {
        *counts.entry(row.clone()).or_default() += 1;
    }
    let mut left = actual;
    left.retain(|row| match counts.get_mut(row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    // What is still counted was not found; of equal rows the last ones.
    let mut missing = Vec::new();
    for row in expected.into_iter().rev() {
        if let Some(count) = counts.get_mut(&row).filter(|count| **count > 0) {
            *count -= 1;
            missing.push(row);
        }
    }
    missing.reverse();
    (missing, left)
}

fn is_near(expected: &Option<String>, actual: &Option<String>, tolerance: Option<f64>) -> bool {
    if expected == actual {
        return true;
    }
    let number = |text: &Option<String>| text.as_ref()?.parse::<f64>().ok();
    match (tolerance, number(expected), number(actual)) {
        (Some(tolerance), Some(a), Some(b)) => (a - b).abs() <= tolerance,
        _ => false,
    }
}

/// What is left of both when rows within the tolerance are taken out: a matching of greatest size, found by augmenting
/// paths, so that no row takes the only partner of another one.
fn without_near(expected: Vec<Values>, actual: Vec<Values>, tolerances: &[Option<f64>]) -> (Vec<Values>, Vec<Values>) {
    if expected.len().saturating_mul(actual.len()) > MOST_PAIRS {
        return (expected, actual);
    }
    let near =
        |a: &Values, b: &Values| a.iter().zip(b).zip(tolerances).all(|((a, b), tolerance)| is_near(a, b, *tolerance));
    let partners: Vec<Vec<usize>> =
        expected.iter().map(|row| (0..actual.len()).filter(|other| near(row, &actual[*other])).collect()).collect();
    let mut taken: Vec<Option<usize>> = vec![None; actual.len()];
    for row in 0..expected.len() {
        find_partner(row, &partners, &mut taken, &mut vec![false; actual.len()]);
    }
    let matched: Vec<usize> = taken.iter().flatten().copied().collect();
    let expected =
        expected.into_iter().enumerate().filter(|(at, _)| !matched.contains(at)).map(|(_, row)| row).collect();
    let actual = actual.into_iter().zip(taken).filter(|(_, taken)| taken.is_none()).map(|(row, _)| row).collect();
    (expected, actual)
}

fn find_partner(row: usize, partners: &[Vec<usize>], taken: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for partner in &partners[row] {
        if std::mem::replace(&mut seen[*partner], true) {
            continue;
        }
        let is_free = match taken[*partner] {
            None => true,
            Some(other) => find_partner(other, partners, taken, seen),
        };
        if is_free {
            taken[*partner] = Some(row);
            return true;
        }
    }
    false
}

/// Pairs rows that have most in common, best first; a pair has a third of its values in common.
fn paired(expected: Vec<Values>, actual: Vec<Values>, tolerances: &[Option<f64>]) -> Vec<DiffRow> {
    let differing = |a: &Values, b: &Values| -> Vec<usize> {
        (0..tolerances.len()).filter(|at| !is_near(&a[*at], &b[*at], tolerances[*at])).collect()
    };
    let mut candidates: Vec<(usize, usize, usize, usize)> = Vec::new();
    if expected.len().saturating_mul(actual.len()) <= MOST_PAIRS {
        for (left, a) in expected.iter().enumerate() {
            for (right, b) in actual.iter().enumerate() {
                let differs = differing(a, b);
                let same = tolerances.len() - differs.len();
                if same > 0 && same * 3 >= tolerances.len() {
                    // Keys stand first: of equal counts the pair whose first columns agree is the better one.
                    let prefix = differs.first().copied().unwrap_or(tolerances.len());
                    candidates.push((differs.len(), tolerances.len() - prefix, left, right));
                }
            }
        }
    }
    candidates.sort_unstable();
    let (mut partner, mut is_taken) = (vec![None; expected.len()], vec![false; actual.len()]);
    for (_, _, left, right) in candidates {
        if partner[left].is_none() && !is_taken[right] {
            partner[left] = Some(right);
            is_taken[right] = true;
        }
    }
    let mut rows: Vec<DiffRow> = Vec::with_capacity(expected.len() + actual.len());
    for (row, partner) in expected.into_iter().zip(partner) {
        let came = partner.map(|right: usize| actual[right].clone());
        let differs = came.as_ref().map(|came| differing(&row, came)).unwrap_or_default();
        rows.push(DiffRow { expected: Some(row), actual: came, differs });
    }
    let left = actual.into_iter().zip(is_taken).filter(|(_, is_taken)| !is_taken);
    rows.extend(left.map(|(row, _)| DiffRow { expected: None, actual: Some(row), differs: Vec::new() }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Values> {
        let value = |text: &&str| (*text != "NULL").then(|| (*text).to_owned());
        rows.iter().map(|row| row.iter().map(value).collect()).collect()
    }

    fn diff(expected: &[&[&str]], actual: &[&[&str]], tolerance: &Tolerance) -> Vec<String> {
        let columns: Vec<String> = ["id", "name", "n"].map(str::to_owned)[..expected[0].len()].to_vec();
        let Some(diff) = compare_values(&columns, rows(expected), rows(actual), tolerance) else { return Vec::new() };
        let shown = |values: &Option<Values>| match values {
            Some(values) => values.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" "),
            None => "-".to_owned(),
        };
        diff.rows
            .iter()
            .map(|row| format!("{} | {} {:?}", shown(&row.expected), shown(&row.actual), row.differs))
            .collect()
    }

    #[test]
    fn the_order_of_rows_means_nothing_and_their_number_does() {
        let exact = Tolerance::default();
        assert!(diff(&[&["1", "a"], &["2", "b"]], &[&["2", "b"], &["1", "a"]], &exact).is_empty());
        assert_eq!(diff(&[&["1", "a"]], &[&["1", "a"], &["1", "a"]], &exact), ["- | 1 a []"]);
        assert_eq!(diff(&[&["1", "NULL"]], &[&["1", "null"]], &exact), ["1 NULL | 1 null [1]"]);
    }

    #[test]
    fn rows_are_paired_by_what_they_have_in_common() {
        let found = diff(
            &[&["1", "a", "5"], &["2", "b", "6"], &["3", "c", "7"]],
            &[&["2", "b", "9"], &["8", "x", "0"], &["1", "z", "5"]],
            &Tolerance::default(),
        );
        assert_eq!(found, ["1 a 5 | 1 z 5 [1]", "2 b 6 | 2 b 9 [2]", "3 c 7 | - []", "- | 8 x 0 []"]);
    }

    #[test]
    fn a_tolerance_takes_no_partner_away_from_another_row() {
        let near = Tolerance { all: Some(0.1), ..Tolerance::default() };
        assert!(diff(&[&["1.0"], &["1.1"]], &[&["1.05"], &["0.95"]], &near).is_empty());
        let one = Tolerance { columns: [("n".to_owned(), 1.0)].into(), ..Tolerance::default() };
        assert_eq!(diff(&[&["1", "a", "5"]], &[&["2", "a", "5.5"]], &one), ["1 a 5 | 2 a 5.5 [0]"]);
    }
}
