//! `lake watch`: a run of what depends on a source when files of it arrive, one run at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::args::{Global, RunArgs, SelectArgs};
use super::environment_args::DeferArgs;
use super::printer::Printer;
use super::watched::{Difference, Look, Watched, quiet};
use super::{ExitStatus, build, channels, docs_serve, signals};
use crate::artifacts::LogEvent;
use crate::names::TableName;
use crate::words::plural;

/// Files that arrive one after another without an end are taken in after this many times the wait for quiet.
const PATIENCE: u32 = 10;

/// Sources that are named when the watch begins.
const NAMED: usize = 5;

/// What to wait for.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Which nodes.
    #[command(flatten)]
    selection: SelectArgs,
    /// Where tables are read.
    #[command(flatten)]
    defer: DeferArgs,
    /// How long no file of a source may change before a run takes them in: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    debounce: Duration,
    /// How often sources are listed that tell nothing of new files: buckets, shared folders
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    poll: Duration,
    /// Wait for edits of the project, too, and build what they change
    #[arg(long)]
    project: bool,
}

/// What ends a wait.
enum Wake {
    /// Something may be new.
    Hint,
    /// The program is asked to end.
    Stop,
}

/// What a run is about.
enum Run {
    /// All that is selected.
    Whole,
    /// What depends on these sources.
    Below(BTreeSet<TableName>),
}

struct Watch<'a> {
    global: &'a Global,
    args: &'a WatchArgs,
    printer: &'a Printer,
    watched: Watched,
    /// What the last run could see.
    seen: BTreeMap<TableName, Look>,
    /// The project as it was loaded.
    project: Option<u64>,
    watcher: Option<RecommendedWatcher>,
    places: BTreeMap<PathBuf, bool>,
    wakes: Receiver<Wake>,
    /// The last run failed: the next one is about everything.
    failed: bool,
}

pub(super) fn run(global: &Global, args: &WatchArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    signals::listen();
    let project = docs_serve::stamp(&global.project_dir, &[]);
    let Some(watched) = Watched::load(global, &args.selection, printer)? else { return Ok(ExitStatus::Wrong) };
    anyhow::ensure!(
        args.project || !watched.shown().is_empty(),
        "the selected models read no source: there is nothing to wait for; --project waits for edits of the project"
    );
    let (sender, wakes) = mpsc::channel();
    stop_on_signal(sender.clone())?;
    let watcher = match notify::recommended_watcher(hints(sender)) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            printer.failure(&format!("the system does not tell of new files, so they are looked for: {error}"));
            None
        }
    };
    let mut watch = Watch {
        global,
        args,
        printer,
        watched,
        seen: BTreeMap::new(),
        project,
        watcher,
        places: BTreeMap::new(),
        wakes,
        failed: false,
    };
    watch.announce();
    watch.follow()?;
    printer.note("stopped");
    Ok(ExitStatus::Fine)
}

/// Ends a wait when the program is asked to end.
fn stop_on_signal(sender: Sender<Wake>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start the async runtime")?;
    let thread = std::thread::Builder::new().name("stop".to_owned());
    thread.spawn(move || {
        runtime.block_on(signals::asked());
        // The watch may have ended meanwhile.
        let _ = sender.send(Wake::Stop);
    })?;
    Ok(())
}

/// Tells of changed files. That a file is read is no news: runs do it.
fn hints(sender: Sender<Wake>) -> impl Fn(notify::Result<notify::Event>) + Send + 'static {
    move |event| {
        let is_read = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(kind)
            if kind != AccessKind::Close(AccessMode::Write)));
        if !is_read {
            let _ = sender.send(Wake::Hint);
        }
    }
}

impl Watch<'_> {
    fn announce(&self) {
        let mut shown = self.watched.shown();
        let more = shown.len().saturating_sub(NAMED);
        shown.truncate(NAMED);
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        if self.args.project {
            shown.push("the project".to_owned());
        }
        let models = plural(self.watched.models as u64, "model");
        self.printer.note(&format!("watching {} for {models}; Ctrl-C ends it", shown.join(", ")));
    }

    /// Runs everything once, and then what changes, until the program is asked to end.
    fn follow(&mut self) -> anyhow::Result<()> {
        self.arm();
        self.seen = self.watched.look(&BTreeMap::new(), self.printer);
        self.build(Run::Whole);
        let mut hinted = false;
        while !signals::is_asked() {
            // Hints that came during the run are answered by this look.
            while self.wakes.try_recv().is_ok() {}
            self.arm();
            if let Some(run) = self.next()? {
                self.build(run);
                continue;
            }
            if signals::is_asked() {
                break;
            }
            // A hint can be faster than what it tells of, and of files in a folder that was just made there may be none.
            let pause = if hinted { self.args.debounce.min(self.args.poll) } else { self.args.poll };
            match self.wakes.recv_timeout(pause) {
                Ok(Wake::Hint) => hinted = true,
                Err(RecvTimeoutError::Timeout) => hinted = false,
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// What has to be built now, once the files that arrive are complete; `None` if nothing is new.
    fn next(&mut self) -> anyhow::Result<Option<Run>> {
        let started = Instant::now();
        let (mut project, mut now) = (self.stamp(), self.watched.look(&self.seen, self.printer));
        loop {
            let changed = Difference::between(&self.seen, &now);
            let is_edited = project != self.project;
            if signals::is_asked() || changed.is_empty() && !is_edited {
                return Ok(None);
            }
            if !self.sleep(self.args.debounce) {
                return Ok(None);
            }
            let (before, was) = (now, project);
            (project, now) = (self.stamp(), self.watched.look(&before, self.printer));
            if is_edited && project == was {
                if let Some(run) = self.reload(project, &now)? {
                    return Ok(Some(run));
                }
                continue;
            }
            let is_late = started.elapsed() > self.args.debounce * PATIENCE;
            let ready = quiet(changed.sources.keys().cloned(), &before, &now, is_late);
            if !ready.is_empty() {
                return Ok(Some(self.take(&ready, &changed, &now)));
            }
        }
    }

    /// These sources are as in `now` when the next run begins.
    fn take(&mut self, ready: &BTreeSet<TableName>, changed: &Difference, now: &BTreeMap<TableName, Look>) -> Run {
        for name in ready {
            self.seen.insert(name.clone(), now.get(name).cloned().unwrap_or_default());
            let (new, gone) = changed.sources.get(name).copied().unwrap_or_default();
            let parts = [(new, "new or changed"), (gone, "gone")].into_iter().filter(|(count, _)| *count > 0);
            let parts: Vec<String> =
                parts.map(|(count, what)| format!("{} {what}", plural(count as u64, "file"))).collect();
            self.printer.note(&format!("{name}: {}", parts.join(", ")));
        }
        if self.failed { Run::Whole } else { Run::Below(ready.clone()) }
    }

    /// Reads the project again after an edit. A project that is wrong is watched as it was.
    fn reload(&mut self, stamp: Option<u64>, now: &BTreeMap<TableName, Look>) -> anyhow::Result<Option<Run>> {
        self.project = stamp;
        if self.args.project {
            self.printer.note("the project has changed");
        }
        match Watched::load(self.global, &self.args.selection, self.printer) {
            Ok(Some(watched)) => self.watched = watched,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.printer.error(&error);
                return Ok(None);
            }
        }
        self.arm();
        if !self.args.project {
            return Ok(None);
        }
        self.seen = self.watched.look(now, self.printer);
        Ok(Some(Run::Whole))
    }

    /// A build. What is wrong with it has been told; the next one may be better.
    fn build(&mut self, run: Run) {
        let selection = match run {
            Run::Whole => self.args.selection.clone(),
            Run::Below(sources) => below(&self.args.selection, &sources, self.watched.default.as_deref()),
        };
        let args = RunArgs { selection, defer: self.args.defer.clone(), ..RunArgs::default() };
        // Each run is a call of its own: it has its own id in logs, artifacts and tables.
        let (printer, start) = (Printer::new(self.global, false), Instant::now());
        let global = Global { watched: (!self.global.no_notify).then_some("build"), ..self.global.clone() };
        printer.events().into_iter().for_each(|events| events.write(&LogEvent::begun()));
        let status = build::run(&global, &args, build::What::All, &printer).unwrap_or_else(|error| {
            printer.error(&error);
            if let Some(command) = global.watched {
                channels::died(&global, command, &error, &printer);
            }
            ExitStatus::Wrong
        });
        printer.events().into_iter().for_each(|events| events.end("build", status, start.elapsed()));
        self.failed = status != ExitStatus::Fine;
    }

    /// Asks the system to tell of changes. Folders come and go, and what cannot be asked for is looked for.
    fn arm(&mut self) {
        let wanted = self.watched.places(self.args.project);
        let Some(watcher) = &mut self.watcher else { return };
        for (gone, _) in self.places.iter().filter(|(place, below)| wanted.get(*place) != Some(below)) {
            // It may have gone with its folder.
            let _ = watcher.unwatch(gone);
        }
        self.places.retain(|place, below| wanted.get(place) == Some(below));
        for (place, below) in wanted {
            if self.places.contains_key(&place) {
                continue;
            }
            let mode = if below { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match watcher.watch(&place, mode) {
                Ok(()) => drop(self.places.insert(place, below)),
                Err(error) => tracing::warn!("`{}` is looked at every now and then: {error}", place.display()),
            }
        }
    }

    /// Waits; `false` if the program is asked to end meanwhile.
    fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match self.wakes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Wake::Hint) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return !signals::is_asked(),
            }
        }
    }

    fn stamp(&self) -> Option<u64> {
        docs_serve::stamp(&self.global.project_dir, &[])
    }
}

/// What depends on these sources, of what the command line selects.
fn below(selection: &SelectArgs, sources: &BTreeSet<TableName>, default: Option<&str>) -> SelectArgs {
    let named = selection
        .selector
        .as_deref()
        .or(default.filter(|_| selection.select.is_empty() && selection.exclude.is_empty()));
    let terms: Vec<String> = match named {
        Some(name) => vec![format!(",selector:{name}")],
        None if selection.select.is_empty() => vec![String::new()],
        None => {
            selection.select.iter().flat_map(|text| text.split_whitespace()).map(|term| format!(",{term}")).collect()
        }
    };
    let select = sources.iter().flat_map(|source| terms.iter().map(move |term| format!("source:{source}+{term}")));
    SelectArgs { select: select.collect(), selector: None, ..selection.clone() }
}

/// `500ms`, `2s`, `1m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time such as 500ms, 2s or 1m");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let factor = match &text[unit_at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let time = number.checked_mul(factor).filter(|time| (1..=86_400_000).contains(time));
    time.map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for text in ["", "2", "s", "0s", "-1s", "2 s", "1d", "99999999999999999999s"] {
            assert!(duration(text).unwrap_err().contains("500ms"), "{text}");
        }
    }

    #[test]
    fn a_change_runs_what_is_selected_below_it() {
        let of = |select: &[&str], selector: Option<&str>, default: Option<&str>| {
            let select = select.iter().map(|term| (*term).to_owned()).collect();
            let selection = SelectArgs { select, selector: selector.map(str::to_owned), ..SelectArgs::default() };
            let sources = [TableName::new("raw", "a"), TableName::new("raw", "b")].into();
            below(&selection, &sources, default).select
        };
        assert_eq!(of(&[], None, None), ["source:raw.a+", "source:raw.b+"]);
        assert_eq!(
            of(&[], None, Some("nightly")),
            ["source:raw.a+,selector:nightly", "source:raw.b+,selector:nightly"]
        );
        assert_eq!(of(&[], Some("hourly"), Some("nightly")).first().unwrap(), "source:raw.a+,selector:hourly");
        assert_eq!(
            of(&["gold.* +silver.x"], None, Some("nightly"))[..2],
            ["source:raw.a+,gold.*", "source:raw.a+,+silver.x"]
        );
    }
}
