//! Running hooks: SQL over the lake as it is at that moment, or a command with its output captured.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use datafusion::logical_expr::LogicalPlan;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::Serialize;

use super::Runtime;
use super::inputs::Inputs;
use super::intake::Progress;
use super::materialize::Failure;
use super::report::Status;
use crate::paths;
use crate::project::{Hook, Model, OwnedHooks};
use crate::session;
use crate::stores;
use crate::tables::{Phase, TableError};

/// How much of a command's output is kept.
const OUTPUT_BYTES: usize = 64 << 10;

/// How many lines of it a message shows.
const SHOWN_LINES: usize = 10;

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What became of a hook.
#[derive(Debug, Clone, Serialize)]
pub struct HookResult {
    /// `pre_hook of silver.items`, `on-run-end`.
    pub name: String,
    /// What ran, after Jinja.
    pub statement: String,
    /// It did what it should.
    pub ok: bool,
    /// What a command printed, or how many rows a query gave.
    pub output: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The note, beside a table, of the runs after which its `post_hook` is due.
fn post_hook_note() -> Path {
    Path::from_iter(["_lake", "post_hook_due"])
}

/// Runs that a note names: those before them are not the last to have published any more.
const MOST_OWED: usize = 8;

fn keeps_note(model: &Model) -> bool {
    model.is_stored() && !model.config.post_hook.is_empty()
}

fn not_noted(model: &Model, source: object_store::Error) -> TableError {
    TableError::File { table: model.name.clone(), path: post_hook_note().to_string(), source }
}

impl Inputs {
    /// Runs hooks one after another, up to the first that fails.
    pub(super) async fn run_hooks(
        &self,
        owner: &OwnedHooks<'_>,
        status: Option<&str>,
        results: &mut Vec<HookResult>,
    ) -> Result<(), Failure> {
        for hook in owner.hooks {
            let start = Instant::now();
            let hook = self.rendered(owner, hook)?;
            let done = match &hook {
                Hook::Sql(sql) => self.sql_hook(owner, sql).await,
                Hook::Shell(line) => {
                    let mut command = Command::new("sh");
                    command.args(["-c", line]);
                    self.command_hook(owner, command, status).await
                }
                Hook::Command(words) => {
                    let mut command = Command::new(&words[0]);
                    command.args(&words[1..]);
                    self.command_hook(owner, command, status).await
                }
            };
            let (ok, output) = match &done {
                Ok(output) => (true, output.clone()),
                Err(failure) => (false, failure.to_string()),
            };
            let statement = hook.texts().join(" ");
            results.push(HookResult {
                name: owner.title(),
                statement,
                ok,
                output,
                seconds: start.elapsed().as_secs_f64(),
            });
            if let Err(failure) = done {
                return Err(Failure::text(format!("{} failed: {failure}", owner.title())));
            }
        }
        Ok(())
    }

    /// Runs the hooks before a model, once.
    pub(super) async fn begin(&self, model: &Model, progress: &mut Progress) -> Result<(), Failure> {
        if !std::mem::replace(&mut progress.began, true) {
            self.run_model_hooks(model, "pre_hook", &mut progress.hooks).await?;
            if keeps_note(model) {
                let mut owed = self.owed(model).await?;
                owed.push(self.runtime().options.invocation_id.clone());
                owed.drain(..owed.len().saturating_sub(MOST_OWED));
                self.note_owed(model, &owed).await?;
            }
        }
        Ok(())
    }

    /// Runs the hooks after a model, if they are due: says whether they ran. They are due after a publish, also one of an
    /// earlier run whose hooks failed, or that was killed before they ended.
    pub(super) async fn end(
        &self,
        model: &Model,
        status: Status,
        results: &mut Vec<HookResult>,
    ) -> Result<bool, Failure> {
        let owed = if keeps_note(model) { self.owed(model).await? } else { Vec::new() };
        let is_due = match status {
            Status::Success => true,
            Status::Skipped if !owed.is_empty() => {
                let published = self.published(&model.name).await?;
                published.and_then(|published| published.state).is_some_and(|state| owed.contains(&state.invocation_id))
            }
            _ => false,
        };
        if is_due {
            self.run_model_hooks(model, "post_hook", results).await?;
        }
        if is_due && keeps_note(model) {
            let mut left = self.owed(model).await?;
            left.retain(|run| !owed.contains(run));
            self.note_owed(model, &left).await?;
        }
        Ok(is_due)
    }

    /// Runs that were to publish a table, after which its `post_hook` has not come to its end.
    async fn owed(&self, model: &Model) -> Result<Vec<String>, Failure> {
        let note = stores::read_if_there(&self.runtime().lake.files_of(&model.name), &post_hook_note()).await;
        let note = note.map_err(|error| not_noted(model, error))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&note).lines().map(str::to_owned).collect())
    }

    async fn note_owed(&self, model: &Model, runs: &[String]) -> Result<(), Failure> {
        let store = self.runtime().lake.files_of(&model.name);
        let done = match runs.is_empty() {
            true => stores::if_there(store.delete(&post_hook_note()).await).map(drop),
            false => store.put(&post_hook_note(), PutPayload::from(runs.join("\n").into_bytes())).await.map(drop),
        };
        Ok(done.map_err(|error| not_noted(model, error))?)
    }

    /// Runs the hooks before or after a model.
    async fn run_model_hooks(
        &self,
        model: &Model,
        key: &'static str,
        results: &mut Vec<HookResult>,
    ) -> Result<(), Failure> {
        let hooks = if key == "pre_hook" { &model.config.pre_hook } else { &model.config.post_hook };
        if !hooks.is_empty() {
            self.enter(&model.name, Phase::Hooks);
        }
        self.run_hooks(&OwnedHooks { model: Some(model), key, hooks }, None, results).await
    }

    fn rendered(&self, owner: &OwnedHooks<'_>, hook: &Hook) -> Result<Hook, Failure> {
        let project = &self.runtime().project;
        let render = |text: &String| match project.render_hook(owner, text) {
            Ok(done) => Ok(done.rendered.sql),
            Err(diagnostic) => Err(Failure::text(format!("{}: {}", owner.title(), diagnostic.message))),
        };
        Ok(hook.with_texts(hook.texts().iter().map(render).collect::<Result<_, _>>()?))
    }

    async fn sql_hook(&self, owner: &OwnedHooks<'_>, sql: &str) -> Result<String, Failure> {
        let Runtime { session, folder, .. } = self.runtime();
        let statement = session::parse(sql)?;
        let mut names = super::inputs::named_tables(&statement)?;
        names.extend(owner.model.map(|model| model.name.clone()));
        names.retain(|name| self.knows(name));
        let tables = self.tables_named(&names).await?;
        let mut plan = session::plan_hook(session, statement, &tables)?;
        let is_copy = if let LogicalPlan::Copy(copy) = &mut plan {
            // As every path of the project, it is relative to the project's folder.
            if !copy.output_url.contains("://") {
                let path =
                    paths::absolute(folder, &copy.output_url).map_err(|error| Failure::text(error.to_string()))?;
                let end = if copy.output_url.ends_with('/') { "/" } else { "" };
                copy.output_url = format!("{}{end}", path.display());
            }
            true
        } else {
            false
        };
        let done = session::query(session, plan).collect().await;
        let batches = done.map_err(|error| Failure::text(self.runtime().in_words(&error.into(), &names)))?;
        let rows: usize = batches.iter().map(datafusion::arrow::array::RecordBatch::num_rows).sum();
        Ok(if is_copy { "copied".to_owned() } else { format!("{rows} rows") })
    }

    async fn command_hook(
        &self,
        owner: &OwnedHooks<'_>,
        mut command: Command,
        status: Option<&str>,
    ) -> Result<String, Failure> {
        let Runtime { project, lake, options, folder, .. } = self.runtime();
        command
            .current_dir(folder)
            .env("LAKE_MODEL", owner.model.map(|model| model.name.to_string()).unwrap_or_default())
            .env("LAKE_TARGET", &project.target.name)
            .env(
                "LAKE_ROOT",
                lake.root().to_file_path().map_or_else(|()| lake.root().to_string(), |p| p.display().to_string()),
            )
            .env("LAKE_INVOCATION_ID", &options.invocation_id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(status) = status {
            command.env("LAKE_STATUS", status);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| Failure::text(format!("cannot start `{program}`: {error}")))?;
        let mut running = Running(child);
        let outputs = [
            running.0.stdout.take().map(|pipe| std::thread::spawn(move || drain(pipe))),
            running.0.stderr.take().map(|pipe| std::thread::spawn(move || drain(pipe))),
        ];
        let ended = loop {
            match running.0.try_wait() {
                Ok(Some(ended)) => break ended,
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(Failure::text(format!("cannot wait for `{program}`: {error}"))),
            }
        };
        // A child that the command left behind may hold the pipes: what it prints later is nobody's.
        let waited = Instant::now();
        while outputs.iter().flatten().any(|thread| !thread.is_finished()) && waited.elapsed() < Duration::from_secs(1)
        {
            tokio::time::sleep(LOOK).await;
        }
        let texts = outputs.into_iter().flatten().filter(std::thread::JoinHandle::is_finished);
        let output: String = texts.filter_map(|thread| thread.join().ok()).collect();
        let output = output.trim_end().to_owned();
        if ended.success() {
            return Ok(output);
        }
        let code = ended.code().map_or_else(|| "a signal ended it".to_owned(), |code| format!("exit code {code}"));
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n        ");
        Err(Failure::text(if last.is_empty() { code } else { format!("{code}\n        {last}") }))
    }
}

/// A command that does not outlive who waits for it: a timeout or Ctrl-C ends it, and what it has started.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // It may have ended just now.
            #[cfg(unix)]
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).output();
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Reads to the end, so that the command never waits for a reader; the last part is kept.
pub(crate) fn drain(mut pipe: impl Read) -> String {
    let (mut kept, mut part) = (Vec::new(), [0; 8192]);
    while let Ok(read @ 1..) = pipe.read(&mut part) {
        kept.extend_from_slice(&part[..read]);
        if kept.len() > 2 * OUTPUT_BYTES {
            kept.drain(..kept.len() - OUTPUT_BYTES);
        }
    }
    let start = kept.len().saturating_sub(OUTPUT_BYTES);
    String::from_utf8_lossy(&kept[start..]).into_owned()
}
