//! What a person sees on a terminal while a build runs: a pseudo-terminal starts the real program, and its screen is read.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::reader::{python_venv, run};
use crate::sandbox::Sandbox;

/// A terminal of the size that it is given.
const PACKAGES: [&str; 1] = ["pyte==0.8.2"];

const WATCH: &str = include_str!("board/watch.py");

fn python() -> Option<PathBuf> {
    match python_venv("terminal-venv", &PACKAGES) {
        Ok(venv) => Some(venv.join("bin/python")),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no Python with a terminal: {why}");
            eprintln!("skipped: no Python with a terminal: {why}");
            None
        }
    }
}

/// Thirty tables: one that waits until somebody has looked and then has many rows in files of which the first is soon whole,
/// one that fails, and small ones.
fn project() -> Sandbox {
    let sandbox = Sandbox::new(&[(
        "models/silver/all.yml",
        "models:
  - name: bad
    columns: [{ name: id, data_tests: [{ accepted_values: { arguments: { values: [2] } } }] }]
  - name: big
    config: { pre_hook: { command: \"until [ -e go ]; do sleep 0.02; done\" }, target_file_size: 256kB }
",
    )]);
    sandbox.write(
        "project.yml",
        "name: board\ntargets:\n  dev: { root: lake }\nmodels:\n  silver: { materialized: table }\n",
    );
    for at in 1..=28 {
        sandbox.write(&format!("models/silver/small_{at}.sql"), format!("select {at} as id"));
    }
    sandbox.write("models/silver/bad.sql", "select 1 as id");
    let big =
        "select value as id, value % 1000 as part, cast(value as varchar) as name from generate_series(1, 1000000)";
    sandbox.write("models/silver/big.sql", big);
    sandbox
}

/// What was seen on a terminal of this size, with these steps.
fn seen(sandbox: &Sandbox, size: (u32, u32), steps: &Value, args: &[&str]) -> Option<Value> {
    seen_with(sandbox, size, steps, args, &[])
}

/// The same with some variables of the environment.
fn seen_with(
    sandbox: &Sandbox,
    (lines, columns): (u32, u32),
    steps: &Value,
    args: &[&str],
    environment: &[(&str, &str)],
) -> Option<Value> {
    let lake = sandbox.command(args);
    let mut watch = Command::new(python()?);
    watch.args(["-c", WATCH, &lines.to_string(), &columns.to_string(), &steps.to_string(), "--"]);
    watch.arg(lake.get_program()).args(lake.get_args()).current_dir(sandbox.path("")).env_clear().env("TERM", "xterm");
    watch.envs(environment.iter().copied());
    let seen: Value = serde_json::from_str(&run(&mut watch).unwrap_or_else(|why| panic!("{why}"))).unwrap();
    assert_eq!(seen["steps_left"], 0, "{seen:#}");
    Some(seen)
}

fn texts(lines: &Value) -> Vec<String> {
    lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// The lines of each screen, without the empty ones at its end.
fn screens(seen: &Value) -> Vec<Vec<String>> {
    let mut screens: Vec<Vec<String>> = seen["screens"].as_array().unwrap().iter().map(texts).collect();
    for screen in &mut screens {
        while screen.last().is_some_and(String::is_empty) {
            screen.pop();
        }
    }
    screens
}

/// The last lines of the first screen that ends with a line of this beginning.
#[track_caller]
fn foot<'a>(screens: &'a [Vec<String>], last: &str, count: usize) -> &'a [String] {
    let is_it = |screen: &&Vec<String>| screen.last().is_some_and(|line| line.contains(last)) && screen.len() >= count;
    let screen = screens.iter().find(is_it).unwrap_or_else(|| panic!("no `{last}` in {screens:#?}"));
    &screen[screen.len() - count..]
}

/// What is left when the program has ended: no line of the board, and the cursor where the shell goes on.
#[track_caller]
fn assert_clean(seen: &Value) -> Vec<String> {
    let mut all = texts(&seen["all"]);
    while all.last().is_some_and(String::is_empty) {
        all.pop();
    }
    let of_board = |line: &String| line.contains(['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏', '━', '─']);
    assert!(!all.iter().any(of_board), "{all:#?}");
    assert_eq!((&seen["cursor"][1], &seen["hidden"]), (&0.into(), &false.into()), "{all:#?}");
    all
}

/// All but the one that waits have ended.
const GO: &str = r"29 of 30  ok 28";

#[test]
fn a_board_shows_what_runs_and_keeps_failures_in_sight() {
    let sandbox = project();
    let steps = json!([[GO, {"touch": "go"}], [r"writing .* rows .*/s", {}]]);
    let Some(seen) = seen(&sandbox, (24, 80), &steps, &["build", "--threads", "2"]) else { return };
    let screens = screens(&seen);
    let waiting = foot(&screens, "29 of 30  ok 28", 3);
    assert!(waiting[0].contains(" silver.big ") && waiting[0].ends_with("s  hooks"), "{waiting:#?}");
    assert!(waiting[1].starts_with("  FAIL  silver.bad  1 of 1 test failed: accepted_values"), "{waiting:#?}");
    assert!(waiting[1].ends_with('…'), "a line that is too long is cut: {waiting:#?}");
    assert!(waiting[2].starts_with("━━━━━━━━━━━━"), "{waiting:#?}");
    assert!(waiting[2].contains("─ 29 of 30  ok 28  warn 0  fail 1  skip 0  "), "{waiting:#?}");
    assert!(waiting[2].ends_with("MB"), "{waiting:#?}");
    // Finished nodes go by above, in the order in which they end.
    let above: Vec<&String> =
        screens.iter().find(|screen| screen.last() == Some(&waiting[2])).unwrap().iter().collect();
    assert!(above.iter().filter(|line| line.contains("of 30  ok")).count() >= 15, "{above:#?}");
    let writing = screens.iter().flatten().find(|line| line.contains("writing") && line.contains("/s"));
    assert!(writing.is_some_and(|line| line.contains(" rows ") && line.contains(" silver.big ")), "{writing:?}");
    // What has been written of its files: from the first one that is whole, or what waits to be.
    let bytes = regex::Regex::new(r"silver\.big .* rows .*[\d.]+ [kMG]?B$").unwrap();
    assert!(screens.iter().flatten().any(|line| bytes.is_match(line)), "{screens:#?}");
    let all = assert_clean(&seen);
    let ended: Vec<&String> = all.iter().filter(|line| line.contains(" of 30  ")).collect();
    assert_eq!(ended.len(), 30, "each node has one line: {all:#?}");
    assert!(ended[29].starts_with("30 of 30  ok    silver.big"), "{ended:#?}");
    // The failure is told once more at the end, since its line is out of sight.
    let end = all[all.len() - 6..].concat();
    assert!(end.contains("FAIL  silver.bad") && end.contains("29 built, 1 failed, 1 test, 1 failed  in "), "{end}");
    assert!(end.contains(", 1,000,028 rows, ") && end.contains(" of memory"), "{end}");
    assert_eq!(seen["code"], 1);
}

#[test]
fn a_narrow_terminal_cuts_and_a_terminal_that_changes_is_followed() {
    let sandbox = project();
    let steps = json!([
        [GO, {"resize": [24, 40]}],
        // Drawn once more, in the new size.
        [r"^29 of 30  ok 28", {"resize": [24, 100]}],
        [r"─ 29 of 30  ok 28", {"touch": "go"}],
    ]);
    let Some(seen) = seen(&sandbox, (24, 80), &steps, &["build", "--threads", "2"]) else { return };
    let screens = screens(&seen);
    let small = screens.iter().find(|screen| screen.last().is_some_and(|line| line.starts_with("29 of 30"))).unwrap();
    let region = &small[small.len() - 3..];
    assert!(region[0].contains(" silver.big ") && region[1].starts_with("  FAIL  silver.bad"), "{small:#?}");
    assert!(region.iter().all(|line| line.chars().count() <= 38), "{region:#?}");
    assert_clean(&seen);
}

#[test]
fn forty_columns_are_enough() {
    let sandbox = project();
    let steps = json!([[GO, {"touch": "go"}], [r"writing .* rows", {}]]);
    let Some(seen) = seen(&sandbox, (20, 40), &steps, &["build", "--threads", "2"]) else { return };
    let screens = screens(&seen);
    let waiting = foot(&screens, "29 of 30  ok 28", 3);
    assert!(waiting[0].contains(" silver.big ") && waiting[0].contains("hooks"), "{waiting:#?}");
    assert!(waiting[1].starts_with("  FAIL  silver.bad") && waiting[1].ends_with('…'), "{waiting:#?}");
    assert!(waiting[2].starts_with("29 of 30  ok 28  fail 1  ") && waiting[2].ends_with(" MB"), "{waiting:#?}");
    assert_clean(&seen);
}

#[test]
fn an_interrupt_leaves_the_terminal_clean() {
    let sandbox = project();
    let steps = json!([[GO, {"interrupt": true}]]);
    let Some(seen) = seen(&sandbox, (24, 80), &steps, &["build", "--threads", "2"]) else { return };
    assert_eq!(seen["code"], 130, "{seen:#}");
    let all = assert_clean(&seen);
    assert!(all.iter().any(|line| line.starts_with("28 built, 1 failed, 1 cancelled")), "{all:#?}");
}

#[test]
fn a_board_can_be_done_without() {
    let sandbox = project();
    sandbox.write("go", "");
    for (args, has_colors) in [
        (&["build", "--no-progress"][..], true),
        (&["build", "--no-progress", "--no-use-colors", "--force"], false),
        (&["build", "--quiet", "--no-color", "--force"], false),
    ] {
        let Some(seen) = seen(&sandbox, (40, 100), &json!([]), args) else { return };
        assert_clean(&seen);
        assert!(seen["screens"].to_string().contains("29 built, 1 failed"), "{seen:#}");
        assert_eq!(seen["escapes"].as_u64() > Some(0), has_colors, "{args:?}: {seen:#}");
    }
    // So can it by the environment, and colours with it or without.
    for (environment, has_colors) in [
        (("CI", "true"), true),
        (("LAKE_NO_PROGRESS", "1"), true),
        (("NO_COLOR", "1"), false),
        (("TERM", "dumb"), false),
    ] {
        let no_board = if environment.0 == "NO_COLOR" {
            &["build", "--force", "--no-progress"][..]
        } else {
            &["build", "--force"]
        };
        let Some(seen) = seen_with(&sandbox, (40, 100), &json!([]), no_board, &[environment]) else { return };
        assert_clean(&seen);
        assert!(seen["screens"].to_string().contains("29 built, 1 failed"), "{seen:#}");
        assert_eq!(seen["escapes"].as_u64() > Some(0), has_colors, "{environment:?}: {seen:#}");
        let drawn = seen["screens"].to_string().contains('━');
        assert!(!drawn, "{environment:?}: {seen:#}");
    }
    // Colours are for whoever asks for them, also in a file.
    let plain = sandbox.ok(&["run", "--select", "small_1"]);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let coloured = sandbox.ok(&["run", "--select", "small_1", "--use-colors"]);
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}
