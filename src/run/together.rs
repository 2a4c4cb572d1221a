//! Models that are published together: staged and audited in their order, each seeing the others as they will be, and
//! committed in one burst when all have passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::session_state::SessionState;

use super::defer::version_of_other;
use super::inputs::Inputs;
use super::materialize::{Failure, Node};
use super::report::TestResult;
use super::schedule::Step;
use crate::names::TableName;
use crate::project::{Project, Publish};
use crate::tables::{self, Changes, Commit, Lake, Prepared, Published, Staged, TableError};

/// A table that is staged and waits for the others of its group.
pub(super) struct Held {
    prepared: Prepared,
    published: Option<Published>,
    staged: Staged,
    /// The table as it will be.
    pub(super) future: Arc<dyn TableProvider>,
}

impl Held {
    pub(super) fn name(&self) -> &TableName {
        &self.prepared.table
    }
}

/// Puts the steps whose models say `publish: together` into sets, by the group that they belong to.
pub(super) fn assign(project: &Project, steps: &mut [Step]) {
    let mut sets: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps.iter_mut() {
        let config = &project.models[&step.name].config;
        let group = config.group.as_deref();
        let by_group = group.and_then(|name| project.groups.get(name)).is_some_and(|group| group.together);
        if config.publish == Some(Publish::Together) || config.publish.is_none() && by_group {
            let next = sets.len();
            step.together = Some(*sets.entry(group.unwrap_or_default()).or_insert(next));
        }
    }
    close(steps);
    alone(steps);
}

/// A set of one has nobody to wait for.
fn alone(steps: &mut [Step]) {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    steps.iter().filter_map(|step| step.together).for_each(|set| *sizes.entry(set).or_default() += 1);
    for step in steps.iter_mut().filter(|step| step.together.is_some_and(|set| sizes[&set] == 1)) {
        step.together = None;
    }
}

/// What stands between two members of a set reads one of them and is read by the other, so it belongs to the set, and two
/// sets that stand between each other's members are one.
fn close(steps: &mut [Step]) {
    let mut sets: BTreeSet<usize> = steps.iter().filter_map(|step| step.together).collect();
    while let Some(set) = sets.pop_first() {
        for between in between(steps, set) {
            match steps[between].together {
                Some(other) if other == set => continue,
                Some(other) => {
                    sets.remove(&other);
                    let of_other = steps.iter_mut().filter(|step| step.together == Some(other));
                    of_other.for_each(|step| step.together = Some(set));
                }
                None => steps[between].together = Some(set),
            }
            // It may reach further now.
            sets.insert(set);
        }
    }
}

/// Steps that wait for a member and that a member waits for. Who waits for a member of another set waits for all of it.
fn between(steps: &[Step], set: usize) -> Vec<usize> {
    let (mut below, mut above) = (vec![false; steps.len()], vec![false; steps.len()]);
    let is_member = |index: usize| steps[index].together == Some(set);
    let mut known = 0;
    loop {
        // Parents stand before their children.
        for (index, step) in steps.iter().enumerate() {
            below[index] |= step.after.iter().any(|parent| below[*parent] || is_member(*parent));
        }
        for (index, step) in steps.iter().enumerate().rev() {
            if above[index] || is_member(index) {
                step.after.iter().for_each(|parent| above[*parent] = true);
            }
        }
        for reached in [&mut below, &mut above] {
            let sets = steps.iter().zip(reached.iter()).filter(|(_, reached)| **reached);
            let sets: BTreeSet<usize> =
                sets.filter_map(|(step, _)| step.together).filter(|other| *other != set).collect();
            for (index, step) in steps.iter().enumerate() {
                reached[index] |= step.together.is_some_and(|other| sets.contains(&other));
            }
        }
        let found = below.iter().chain(&above).filter(|reached| **reached).count();
        if found == std::mem::replace(&mut known, found) {
            break;
        }
    }
    (0..steps.len()).filter(|index| below[*index] && above[*index] && !is_member(*index)).collect()
}

impl Held {
    /// The version that it will be, and of which table.
    pub(super) fn version(&self) -> (u64, Option<String>) {
        let known = self.published.as_ref().and_then(Published::table_id);
        (self.prepared.version, known.or_else(|| self.prepared.table_id()))
    }

    /// What will have changed since another version.
    pub(super) async fn changes(
        &self,
        lake: &Lake,
        asked: Changes<'_>,
        session: &SessionState,
    ) -> Result<Arc<dyn TableProvider>, Failure> {
        let future = (self.published.as_ref(), &self.staged, self.prepared.version);
        Ok(tables::future_changes(lake, future, asked, session).await?)
    }

    /// What sets of columns hold of it.
    pub(super) fn projections(&self) -> BTreeMap<String, String> {
        self.staged.projections()
    }
}

impl Node<'_> {
    /// Whether its table waits for others.
    pub(super) fn is_held(&self) -> bool {
        self.inputs.is_together(&self.model.name)
    }

    /// Keeps a staged and audited table back, for the burst. Says which version it will be.
    pub(super) async fn hold(
        &self,
        published: Option<&Published>,
        staged: Staged,
        commit: &Commit,
    ) -> Result<u64, Failure> {
        let lake = &self.inputs.runtime().lake;
        let made = async {
            let future = tables::future_table(published, &staged).await?;
            Ok((Prepared::publish(lake, published, &staged, commit).await?, future))
        };
        match made.await {
            Ok((prepared, future)) => {
                let version = prepared.version;
                self.inputs.hold(Held { prepared, published: published.cloned(), staged, future });
                Ok(version)
            }
            Err(error) => {
                staged.discard(lake).await;
                Err(error)
            }
        }
    }

    /// The tests that do not gate, over a table that is held back: they only report.
    pub(super) async fn audit_held(&self) -> Result<Vec<TestResult>, Failure> {
        let Some(held) = self.inputs.held(&self.model.name) else { return Ok(Vec::new()) };
        let due: Vec<_> = self.tests.iter().filter(|test| !self.is_gate(test)).copied().collect();
        Ok(super::audit::audit(self.inputs, &due, Some((&self.model.name, Arc::clone(&held.future)))).await)
    }
}

impl Inputs {
    /// The version of a table that made its rows what they are, as this run sees it and commits have it: of one that is held
    /// back, the one that it will be; of one of another lake, which lake and table that is.
    pub(super) async fn version_of(&self, name: &TableName) -> Result<Option<String>, Failure> {
        let version = |version: u64| format!("version {version}");
        if let Some(held) = self.held(name) {
            return Ok(Some(version(held.prepared.version)));
        }
        match (&self.runtime().deferral, self.deferred(name).await?) {
            (Some(deferral), Some(other)) => Ok(Some(version_of_other(&deferral.target, &other))),
            _ => Ok(self.known(name).await?.map(|known| version(known.rows_since()))),
        }
    }

    /// Publishes tables that are held back, in this order. Says why some of them failed all the same.
    pub(super) async fn publish_held(&self, names: &[TableName]) -> Result<BTreeMap<TableName, String>, Failure> {
        let runtime = self.runtime();
        let held: Vec<Arc<Held>> = names.iter().filter_map(|name| self.held(name)).collect();
        if held.is_empty() {
            return Ok(BTreeMap::new());
        }
        let commits = held.iter().map(|held| held.prepared.clone()).collect();
        let overtaken = match runtime.lake.publish_together(&runtime.options.invocation_id, commits).await {
            Ok(overtaken) => overtaken,
            Err(error @ TableError::Conflict { .. }) => return Err(error.into()),
            Err(error) => {
                // The journal may stand: what it names has to stay.
                names.iter().for_each(|name| drop(self.release(name)));
                return Err(Failure::text(format!("{error}; what had begun is finished by the next run")));
            }
        };
        let mut failed = BTreeMap::new();
        for name in names {
            let held = self.release(name);
            self.forget(name);
            if overtaken.contains(name) {
                if let Some(held) = held {
                    held.staged.clone().discard(&runtime.lake).await;
                }
                failed.insert(name.clone(), "another run published to it, or to a table whose changes it reads, while the others were published".to_owned());
            } else if let Err(failure) = self.settle_published(name).await {
                failed.insert(name.clone(), format!("{failure}; what it built is published"));
            }
        }
        Ok(failed)
    }

    /// Makes the quarantines of a table say what its new version means; after a crash the next build does it.
    async fn settle_published(&self, name: &TableName) -> Result<(), Failure> {
        let Some(published) = self.published(name).await? else { return Ok(()) };
        super::quarantine::settle_all(self, &self.runtime().project.models[name], &published).await
    }

    /// Takes away what is held back of these tables: it will not be published.
    pub(super) async fn drop_held(&self, names: &[TableName]) {
        for name in names {
            if let Some(held) = self.release(name) {
                held.staged.clone().discard(&self.runtime().lake).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, after: &[usize], together: Option<usize>) -> Step {
        Step { name: TableName::new("s", name), after: after.to_vec(), tests: Vec::new(), together }
    }

    #[test]
    fn what_stands_between_members_belongs_to_them() {
        let mut steps = vec![
            step("above", &[], None),
            step("first", &[0], Some(0)),
            step("between", &[1], None),
            step("beside", &[1], None),
            step("last", &[2], Some(0)),
            step("below", &[4, 3], None),
        ];
        close(&mut steps);
        let sets: Vec<_> = steps.iter().map(|step| step.together).collect();
        assert_eq!(sets, [None, Some(0), Some(0), None, Some(0), None]);
    }

    #[test]
    fn sets_that_wait_for_one_another_are_one() {
        // The first waits for `b1`, so for `b2`, so for itself.
        let mut steps = vec![
            step("a1", &[], Some(0)),
            step("b1", &[], Some(1)),
            step("b2", &[0], Some(1)),
            step("a2", &[1], Some(0)),
            step("c", &[3], Some(2)),
        ];
        close(&mut steps);
        let sets: Vec<_> = steps.iter().map(|step| step.together).collect();
        assert!(sets[..4].iter().all(|set| *set == sets[0] && set.is_some()), "{sets:?}");
        assert_eq!(sets[4], Some(2));
    }
}
