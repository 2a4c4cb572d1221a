//! The versions of one key: those of before, the rows that are delivered now, and what becomes of both. Pure.
//!
//! Times are microseconds. Versions never overlap and are never empty, and only the last one can be without an end.

use crate::project::{HardDeletes, HistoryStrategy};

/// What decides how versions follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) strategy: HistoryStrategy,
    /// The delivery is the whole state: a key that is not among it is gone.
    pub(super) whole: bool,
    pub(super) deletes: HardDeletes,
    /// The time of the delivery.
    pub(super) now: i64,
}

/// A version of before, in the order of their beginnings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) from: i64,
    pub(super) to: Option<i64>,
    /// It says that the row is deleted.
    pub(super) deleted: bool,
    /// Its `updated_at`.
    pub(super) updated: Option<i64>,
}

/// Where the values of a version come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// A version of before.
    Old(usize),
    /// A row of the delivery.
    New(usize),
}

/// A version as it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) from: i64,
    pub(super) to: Option<i64>,
    pub(super) deleted: bool,
    pub(super) values: Values,
    /// The row of the delivery that gives the values of columns that are new to the table.
    pub(super) added: Option<usize>,
    updated: Option<i64>,
}

impl Version {
    fn is_live(&self) -> bool {
        self.to.is_none() && !self.deleted
    }
}

/// What the rows of a key are compared by.
pub(super) trait Compare {
    /// Whether a delivered row differs from a version in a checked column.
    fn differs(&self, new: usize, old: usize) -> bool;
    /// Whether a delivered row has a value in a column that is new to the table.
    fn adds(&self, new: usize) -> bool;
}

/// The versions of a key after a delivery; `new` has the `updated_at` of each row, sorted and each once. `None` if
/// nothing changes.
pub(super) fn next(old: &[Old], new: &[Option<i64>], rules: &Rules, compare: &dyn Compare) -> Option<Vec<Version>> {
    let versions = old.iter().enumerate().map(|(at, old)| Version {
        from: old.from,
        to: old.to,
        deleted: old.deleted,
        values: Values::Old(at),
        added: None,
        updated: old.updated,
    });
    let mut key = Key { versions: versions.collect(), rules, changed: false };
    match rules.strategy {
        HistoryStrategy::Timestamp => key.by_timestamp(new, compare),
        HistoryStrategy::Check => key.by_check(new, compare),
    }
    if rules.whole && new.is_empty() {
        key.delete();
    }
    key.changed.then_some(key.versions)
}

struct Key<'a> {
    versions: Vec<Version>,
    rules: &'a Rules,
    changed: bool,
}

impl Key<'_> {
    fn by_timestamp(&mut self, new: &[Option<i64>], compare: &dyn Compare) {
        for (at, updated) in new.iter().enumerate() {
            let same = |version: &&mut Version| !version.deleted && version.updated == *updated;
            // The newest of them, where the row came back.
            match self.versions.iter_mut().rev().find(same) {
                Some(known) if compare.adds(at) => {
                    known.added = Some(at);
                    self.changed = true;
                }
                Some(_) => {}
                None => self.place(at, updated.unwrap_or(i64::MIN)),
            }
        }
        // It was gone and is there, with a time of before it went.
        if let Some(newest) = new.len().checked_sub(1)
            && self.rules.whole
            && !self.versions.last().is_some_and(Version::is_live)
        {
            self.begin(self.rules.now, newest, new[newest]);
        }
    }

    fn by_check(&mut self, new: &[Option<i64>], compare: &dyn Compare) {
        let Some(updated) = new.first().copied() else { return };
        let last = self.versions.last().copied();
        let after = last.map(|last| last.to.unwrap_or(last.from));
        let start = updated.filter(|updated| after.is_none_or(|after| *updated > after)).unwrap_or(self.rules.now);
        match last {
            Some(Version { values: Values::Old(old), .. }) if last.is_some_and(|last| last.is_live()) => {
                if compare.differs(0, old) {
                    self.begin(start, 0, updated);
                } else if compare.adds(0) {
                    self.versions.last_mut().expect("there is a last one").added = Some(0);
                    self.changed = true;
                }
            }
            _ => self.begin(start, 0, updated),
        }
    }

    /// Puts a version that began at a time among the others.
    fn place(&mut self, new: usize, mut from: i64) {
        // A version that begins there already is of another row: it was born by the clock of a run.
        while self.versions.iter().any(|version| version.from == from) {
            from += 1;
        }
        let at = self.versions.partition_point(|version| version.from < from);
        let following = self.versions.get(at).map(|next| next.from);
        let mut to = following;
        if let Some(before) = at.checked_sub(1).map(|before| &mut self.versions[before])
            && before.to.is_none_or(|end| end > from)
        {
            to = before.to;
            before.to = Some(from);
        }
        self.insert(at, from, to, new);
    }

    fn insert(&mut self, at: usize, from: i64, to: Option<i64>, new: usize) {
        let version = Version { from, to, deleted: false, values: Values::New(new), added: Some(new), updated: None };
        self.versions.insert(at, version);
        self.changed = true;
    }

    /// A version after all others, ending the last one; never at its beginning or before its end.
    fn begin(&mut self, from: i64, new: usize, updated: Option<i64>) {
        let mut from = from;
        if let Some(last) = self.versions.last_mut() {
            from = from.max(last.to.unwrap_or(last.from) + 1);
            last.to.get_or_insert(from);
        }
        self.insert(self.versions.len(), from, None, new);
        self.versions.last_mut().expect("one was inserted").updated = updated;
    }

    /// The key is not among the whole state.
    fn delete(&mut self) {
        let Some(last) = self.versions.last_mut().filter(|last| last.is_live()) else { return };
        if self.rules.deletes == HardDeletes::Ignore {
            return;
        }
        let end = self.rules.now.max(last.from + 1);
        last.to = Some(end);
        self.changed = true;
        if self.rules.deletes == HardDeletes::NewRecord {
            let gone = Version { from: end, to: None, deleted: true, ..*last };
            self.versions.push(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Same(bool);

    impl Compare for Same {
        fn differs(&self, _: usize, _: usize) -> bool {
            !self.0
        }

        fn adds(&self, _: usize) -> bool {
            false
        }
    }

    const TIMESTAMP: Rules =
        Rules { strategy: HistoryStrategy::Timestamp, whole: false, deletes: HardDeletes::Invalidate, now: 100 };
    const CHECK: Rules = Rules { strategy: HistoryStrategy::Check, whole: true, ..TIMESTAMP };

    fn old(from: i64, to: Option<i64>) -> Old {
        Old { from, to, deleted: false, updated: Some(from) }
    }

    fn spans(found: Option<Vec<Version>>) -> Vec<(i64, Option<i64>)> {
        found.unwrap_or_default().iter().map(|version| (version.from, version.to)).collect()
    }

    #[test]
    fn a_late_row_takes_its_place() {
        let known = [old(10, Some(20)), old(20, None)];
        let add = |updated: &[i64]| {
            let new: Vec<_> = updated.iter().copied().map(Some).collect();
            spans(next(&known, &new, &TIMESTAMP, &Same(true)))
        };
        assert_eq!(add(&[10, 20]), []);
        assert_eq!(add(&[5]), [(5, Some(10)), (10, Some(20)), (20, None)]);
        assert_eq!(add(&[15]), [(10, Some(15)), (15, Some(20)), (20, None)]);
        assert_eq!(add(&[25, 30]), [(10, Some(20)), (20, Some(25)), (25, Some(30)), (30, None)]);
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let known = [old(10, Some(20)), old(30, Some(40))];
        let add = |updated: i64| spans(next(&known, &[Some(updated)], &TIMESTAMP, &Same(true)));
        assert_eq!(add(15), [(10, Some(15)), (15, Some(20)), (30, Some(40))]);
        assert_eq!(add(25), [(10, Some(20)), (25, Some(30)), (30, Some(40))]);
        assert_eq!(add(45), [(10, Some(20)), (30, Some(40)), (45, None)]);
    }

    #[test]
    fn a_key_goes_and_comes_back() {
        let whole = Rules { whole: true, ..TIMESTAMP };
        assert_eq!(spans(next(&[old(10, None)], &[], &whole, &Same(true))), [(10, Some(100))]);
        assert_eq!(spans(next(&[old(200, None)], &[], &whole, &Same(true))), [(200, Some(201))]);
        let again = next(&[old(10, Some(90))], &[Some(10)], &whole, &Same(true));
        assert_eq!(spans(again), [(10, Some(90)), (100, None)]);
        let record = Rules { deletes: HardDeletes::NewRecord, ..whole };
        let gone = next(&[old(10, None)], &[], &record, &Same(true)).unwrap();
        assert_eq!((gone[1].from, gone[1].to, gone[1].deleted), (100, None, true));
        let deleted = Old { deleted: true, ..old(100, None) };
        let back = next(&[old(10, Some(100)), deleted], &[Some(150)], &record, &Same(true));
        assert_eq!(spans(back), [(10, Some(100)), (100, Some(150)), (150, None)]);
        assert_eq!(spans(next(&[old(10, Some(100)), deleted], &[], &record, &Same(true))), []);
    }

    #[test]
    fn a_checked_row_begins_when_it_is_seen() {
        assert_eq!(spans(next(&[], &[None], &CHECK, &Same(true))), [(100, None)]);
        assert_eq!(spans(next(&[old(10, None)], &[None], &CHECK, &Same(true))), []);
        assert_eq!(spans(next(&[old(10, None)], &[None], &CHECK, &Same(false))), [(10, Some(100)), (100, None)]);
        assert_eq!(spans(next(&[old(10, None)], &[Some(50)], &CHECK, &Same(false))), [(10, Some(50)), (50, None)]);
        // The clock went back.
        assert_eq!(spans(next(&[old(100, None)], &[None], &CHECK, &Same(false))), [(100, Some(101)), (101, None)]);
        assert_eq!(spans(next(&[old(10, Some(30))], &[Some(20)], &CHECK, &Same(true))), [(10, Some(30)), (100, None)]);
    }
}
