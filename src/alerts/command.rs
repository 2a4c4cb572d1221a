//! A message to a program of the user's: JSON on its standard input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::message::Message;
use super::words::cut;
use crate::run::{Running, drain};

/// How often the program is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What is waited for the rest of its output, and how much of that is shown.
const LAST_WORDS: Duration = Duration::from_millis(500);
const SHOWN: usize = 200;

/// Runs it to its end, or to the end of its time.
pub(super) fn run(
    words: &[String],
    folder: &Path,
    channel: &str,
    message: &Message,
    timeout: Duration,
) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Err("`command` is empty".to_owned()) };
    let until = Instant::now() + timeout;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LAKE_CHANNEL", channel);
    command.envs(message.environment.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn().map_err(|error| format!("cannot start `{program}`: {error}"))?;
    // When it is dropped, the program and all that it started end.
    let mut running = Running(child);
    let input = running.0.stdin.take();
    let text = format!("{:#}\n", message.json);
    // A program need not read what it is told.
    std::thread::spawn(move || input.map(|mut input| input.write_all(text.as_bytes())));
    let errors = running.0.stderr.take().map(|pipe| std::thread::spawn(move || drain(pipe)));
    let ended = loop {
        match running.0.try_wait() {
            Ok(Some(ended)) => break ended,
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(None) => return Err(format!("`{program}` did not end within {}s, and was ended", timeout.as_secs())),
            Err(error) => return Err(format!("cannot wait for `{program}`: {error}")),
        }
    };
    if ended.success() {
        return Ok(());
    }
    let waited = Instant::now();
    while errors.as_ref().is_some_and(|thread| !thread.is_finished()) && waited.elapsed() < LAST_WORDS {
        std::thread::sleep(LOOK);
    }
    let said = errors.filter(std::thread::JoinHandle::is_finished).and_then(|thread| thread.join().ok());
    let said = said.unwrap_or_default();
    let last = said.trim_end().lines().last().map(|line| format!(": {}", cut(line, SHOWN))).unwrap_or_default();
    let code = ended.code().map_or_else(|| "a signal ended it".to_owned(), |code| format!("exit code {code}"));
    Err(format!("`{program}`: {code}{last}"))
}
