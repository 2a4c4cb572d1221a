//! Which steps of a run wait, and for what; of those that are ready, the one with the longest way below it goes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::schedule::Schedule;
use crate::names::TableName;

/// The state of every step.
pub(super) struct Board<'a> {
    schedule: &'a Schedule,
    /// For each step, the weight of the heaviest path from it to an end.
    ranks: Vec<u64>,
    /// Who waits for each step.
    children: Vec<Vec<usize>>,
    /// How many steps each one waits for.
    unmet: Vec<usize>,
    /// Steps that have not begun, and those of them that can, the first one first.
    waiting: BTreeSet<usize>,
    ready: BTreeSet<(Reverse<u64>, usize)>,
    /// Steps that failed or were blocked since somebody asked, with the one at the root of it.
    failed: Vec<(usize, TableName)>,
    /// Steps that failed and let the ones below them run.
    passed_over: BTreeSet<usize>,
    /// Steps that are staged and wait for the others of their set.
    staged: BTreeSet<usize>,
    /// Steps of each set that have not ended.
    left: BTreeMap<usize, usize>,
    /// Sets of which a step failed, and which one.
    spoiled: BTreeMap<usize, TableName>,
    /// Exports whose models are published.
    exports: VecDeque<TableName>,
}

/// What a set of steps came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SetEnd {
    /// All are staged: they can be published.
    Complete(Vec<usize>),
    /// One failed: those that are staged are not published.
    Spoiled(Vec<usize>, TableName),
}

impl<'a> Board<'a> {
    pub(super) fn new(schedule: &'a Schedule, seconds: &BTreeMap<TableName, f64>) -> Self {
        let steps = &schedule.steps;
        let mut children = vec![Vec::new(); steps.len()];
        for (index, step) in steps.iter().enumerate() {
            step.after.iter().for_each(|parent| children[*parent].push(index));
        }
        let mut left = BTreeMap::new();
        for set in steps.iter().filter_map(|step| step.together) {
            *left.entry(set).or_default() += 1;
        }
        let mut board = Self {
            schedule,
            ranks: ranks(schedule, seconds),
            children,
            unmet: steps.iter().map(|step| step.after.len()).collect(),
            waiting: (0..steps.len()).collect(),
            ready: BTreeSet::new(),
            failed: Vec::new(),
            passed_over: BTreeSet::new(),
            staged: BTreeSet::new(),
            left,
            spoiled: BTreeMap::new(),
            exports: VecDeque::new(),
        };
        board.make_exports_ready(None);
        (0..steps.len()).filter(|index| steps[*index].after.is_empty()).for_each(|index| board.make_ready(index));
        board
    }

    fn make_ready(&mut self, index: usize) {
        self.ready.insert((Reverse(self.ranks[index]), index));
    }

    fn make_exports_ready(&mut self, step: Option<usize>) {
        let ready = self.schedule.exports.iter().filter(|export| export.after == step);
        self.exports.extend(ready.map(|export| export.name.clone()));
    }

    /// The export to write next.
    pub(super) fn take_export(&mut self) -> Option<TableName> {
        self.exports.pop_front()
    }

    /// The step to start next.
    pub(super) fn take_ready(&mut self) -> Option<usize> {
        while let Some((_, index)) = self.ready.pop_first() {
            // It may have been blocked since.
            if self.waiting.remove(&index) {
                return Some(index);
            }
        }
        None
    }

    /// Some of those that wait for a step need wait no more.
    fn meet(&mut self, index: usize, which: impl Fn(Option<usize>) -> bool) {
        for child in self.children[index].clone() {
            if which(self.schedule.steps[child].together) {
                self.unmet[child] -= 1;
                if self.unmet[child] == 0 {
                    self.make_ready(child);
                }
            }
        }
    }

    /// Steps below a failed one, or of a set that cannot be complete any more, each with what failed.
    pub(super) fn take_blocked(&mut self) -> Vec<(usize, TableName)> {
        let mut blocked = Vec::new();
        while let Some((failed, root)) = self.failed.pop() {
            let step = &self.schedule.steps[failed];
            let beside = step.together.filter(|set| self.spoiled.contains_key(set)).map(|set| {
                let is_member = |index: &usize| self.schedule.steps[*index].together == Some(set);
                self.waiting.iter().copied().filter(is_member).collect::<Vec<_>>()
            });
            for index in self.children[failed].clone().into_iter().chain(beside.unwrap_or_default()) {
                if self.waiting.remove(&index) {
                    self.end(index, Some(&root));
                    self.failed.push((index, root.clone()));
                    blocked.push((index, root.clone()));
                }
            }
        }
        blocked.sort_by_key(|(index, _)| *index);
        blocked
    }

    /// A step has ended, and spoils its set if it failed.
    fn end(&mut self, index: usize, failed: Option<&TableName>) {
        let Some(set) = self.schedule.steps[index].together else { return };
        if let Some(left) = self.left.get_mut(&set) {
            *left -= 1;
        }
        if let Some(root) = failed {
            self.spoiled.entry(set).or_insert_with(|| root.clone());
        }
    }

    /// A set whose steps have all ended, once.
    pub(super) fn take_set(&mut self) -> Option<SetEnd> {
        let set = self.left.iter().find(|(_, left)| **left == 0).map(|(set, _)| *set)?;
        self.left.remove(&set);
        let is_member = |index: &usize| self.schedule.steps[*index].together == Some(set);
        let (staged, others): (Vec<usize>, Vec<usize>) =
            std::mem::take(&mut self.staged).into_iter().partition(is_member);
        self.staged.extend(others);
        match self.spoiled.get(&set).cloned() {
            None => Some(SetEnd::Complete(staged)),
            Some(root) => {
                self.failed.extend(staged.iter().map(|index| (*index, root.clone())));
                Some(SetEnd::Spoiled(staged, root))
            }
        }
    }

    /// Steps that are staged and were never published: the run ended before.
    pub(super) fn unpublished(&self) -> Vec<usize> {
        self.staged.iter().copied().collect()
    }

    /// A step is as it should be. A member of a set reads the others as they will be; everybody else waits until they are.
    pub(super) fn succeed(&mut self, index: usize) {
        match self.schedule.steps[index].together {
            None => {
                self.make_exports_ready(Some(index));
                self.meet(index, |_| true);
            }
            own => {
                self.staged.insert(index);
                self.end(index, None);
                self.meet(index, |set| set == own);
            }
        }
    }

    /// A step of a set is published with it.
    pub(super) fn publish(&mut self, index: usize) {
        self.make_exports_ready(Some(index));
        let own = self.schedule.steps[index].together;
        self.meet(index, |set| set != own);
    }

    /// A step failed: nothing below it runs.
    pub(super) fn fail(&mut self, index: usize) {
        self.end(index, Some(&self.schedule.steps[index].name.clone()));
        self.failed.push((index, self.schedule.steps[index].name.clone()));
    }

    /// A step failed, and those below it run all the same.
    pub(super) fn pass_over(&mut self, index: usize) {
        self.passed_over.insert(index);
        self.meet(index, |_| true);
    }

    /// The failed steps that a step did not wait for.
    pub(super) fn stale_parents(&self, index: usize) -> Vec<TableName> {
        let parents = self.schedule.steps[index].after.iter().filter(|parent| self.passed_over.contains(parent));
        parents.map(|parent| self.schedule.steps[*parent].name.clone()).collect()
    }
}

/// A step weighs a second, and the seconds that it last took: small ones stay in the order of the schedule.
fn ranks(schedule: &Schedule, seconds: &BTreeMap<TableName, f64>) -> Vec<u64> {
    let mut ranks: Vec<u64> = schedule
        .steps
        .iter()
        .map(|step| 1 + seconds.get(&step.name).map_or(0, |seconds| seconds.clamp(0.0, 1e9).round() as u64))
        .collect();
    // Parents stand before their children.
    let weights = ranks.clone();
    for index in (0..ranks.len()).rev() {
        for parent in &schedule.steps[index].after {
            ranks[*parent] = ranks[*parent].max(weights[*parent] + ranks[index]);
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Step;

    fn step(name: &'static str, after: &[usize]) -> Step {
        Step { name: TableName::new("s", name), after: after.to_vec(), tests: Vec::new(), together: None }
    }

    #[test]
    fn the_heaviest_path_goes_first() {
        let steps = vec![step("alone", &[]), step("first", &[]), step("second", &[1]), step("third", &[2])];
        let schedule = Schedule { steps, ..Schedule::default() };
        let order = |seconds: &[(&'static str, f64)]| {
            let seconds = seconds.iter().map(|(name, seconds)| (TableName::new("s", *name), *seconds)).collect();
            let mut board = Board::new(&schedule, &seconds);
            let mut order = Vec::new();
            while let Some(index) = board.take_ready() {
                order.push(schedule.steps[index].name.table.to_owned());
                board.succeed(index);
            }
            order
        };
        assert_eq!(order(&[]), ["first", "second", "alone", "third"]);
        assert_eq!(order(&[("alone", 60.0)]), ["alone", "first", "second", "third"]);
        assert_eq!(order(&[("third", 9.0), ("alone", 5.0)]), ["first", "second", "third", "alone"]);
    }

    #[test]
    fn a_set_is_done_when_all_of_it_is() {
        let mut steps = vec![step("a", &[]), step("b", &[0]), step("c", &[]), step("below", &[0])];
        steps[..3].iter_mut().for_each(|step| step.together = Some(0));
        let schedule = Schedule { steps, ..Schedule::default() };
        let mut board = Board::new(&schedule, &BTreeMap::new());
        assert_eq!([board.take_ready(), board.take_ready(), board.take_ready()], [Some(0), Some(2), None]);
        board.succeed(0);
        assert_eq!([board.take_ready(), board.take_ready()], [Some(1), None]);
        board.succeed(1);
        assert_eq!(board.take_set(), None);
        board.succeed(2);
        assert_eq!(board.take_set(), Some(SetEnd::Complete(vec![0, 1, 2])));
        assert_eq!((board.take_set(), board.take_ready()), (None, None));
        (0..3).for_each(|index| board.publish(index));
        assert_eq!(board.take_ready(), Some(3));

        let mut board = Board::new(&schedule, &BTreeMap::new());
        assert_eq!([board.take_ready(), board.take_ready()], [Some(0), Some(2)]);
        board.succeed(0);
        board.fail(2);
        let c = schedule.steps[2].name.clone();
        assert_eq!(board.take_blocked(), [(1, c.clone())]);
        assert_eq!(board.take_set(), Some(SetEnd::Spoiled(vec![0], c.clone())));
        assert_eq!(board.take_blocked(), [(3, c)]);
    }
}
