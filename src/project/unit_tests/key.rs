//! What decides the verdict of a unit test, in a hash: not where it stands, nor what is said of it.

use super::{Cell, Overrides, Rows, Tolerance, UnitSubject};
use crate::memo::{Key, KeyMaker};

/// The hash of a test.
pub(super) fn of(overrides: &Overrides, tolerance: &Tolerance, subject: &UnitSubject) -> Key {
    let key = KeyMaker::new("unit test").value(&(overrides, tolerance));
    match subject {
        UnitSubject::Model(case) => {
            let mut key = key.value(&(&case.model, case.incremental, case.of_table));
            for run in &case.runs {
                key = key.value(&run.now);
                for given in &run.given {
                    key = rows(key.value(&given.input), &given.rows);
                }
            }
            key = rows(key.text("expect"), &case.expect);
            case.chain.iter().filter_map(|link| link.own.as_ref()).fold(key, |key, model| key.key(model.key)).finish()
        }
        UnitSubject::Macro(cases) => {
            let add = |key: KeyMaker, (sql, expect): (&String, &Cell)| key.text(sql).value(&expect.value);
            cases.cases.iter().map(|case| (&case.sql, &case.expect)).fold(key, add).finish()
        }
    }
}

fn rows(key: KeyMaker, rows: &Rows) -> KeyMaker {
    match rows {
        Rows::Query { sql, .. } => key.text("query").text(sql),
        Rows::Table(table) => {
            let names: Vec<&String> = table.columns.iter().map(|(name, _)| name).collect();
            let row = |row: &Vec<(usize, Cell)>| row.iter().map(|(at, cell)| (*at, cell.value.clone())).collect();
            let values: Vec<Vec<_>> = table.rows.iter().map(row).collect();
            key.value(&(names, values))
        }
    }
}
