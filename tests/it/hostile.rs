//! A machine that does not help: many writers at once, a disk that is full, storage that goes away, a clock that goes back.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::materialize::rows;
use crate::sandbox::{Run, Sandbox, finished, names, node};

const SOURCES: &str = "sources:
  - name: raw
    root: in
    tables:
      - name: items
        path: items/
        format: csv
        columns:
          - { name: id, data_type: bigint }
          - { name: delivery, data_type: bigint }
          - { name: amount, data_type: bigint }
";

/// One model that appends and one that merges; a delivery is right if its ten amounts come to nothing.
fn ledger() -> Sandbox {
    let select = "select id, delivery, amount from {{ source('raw', 'items') }}";
    let whole = "select delivery from {{ ref('MODEL') }} group by delivery having sum(amount) <> 0 or count(*) <> 10";
    Sandbox::new(&[
        ("sources.yml", SOURCES),
        ("models/silver/entries.sql", &format!("{{{{ config(materialized='incremental') }}}} {select}")),
        (
            "models/silver/newest.sql",
            &format!("{{{{ config(materialized='incremental', unique_key='id', sequence_by='delivery') }}}} {select}"),
        ),
        ("tests/whole_entries.sql", &whole.replace("MODEL", "entries")),
        ("tests/whole_newest.sql", &whole.replace("MODEL", "newest")),
    ])
}

/// A file of ten amounts, which appears whole; they come to `wrong`.
fn deliver(sandbox: &Sandbox, delivery: i64, wrong: i64) {
    let amount = |id: i64| if id % 2 == 0 { delivery } else { -delivery } + if id == 0 { wrong } else { 0 };
    let lines: String = (0..10).map(|id| format!("{id},{delivery},{}\n", amount(id))).collect();
    let hidden = format!("in/items/.{delivery}.csv");
    sandbox.write(&hidden, format!("id,delivery,amount\n{lines}"));
    std::fs::rename(sandbox.path(&hidden), sandbox.path(&format!("in/items/{delivery}.csv"))).unwrap();
}

/// Reads both tables until told to stop; says how often, or what was wrong.
fn read_on(sandbox: &Sandbox, stop: &AtomicBool) -> Result<u32, String> {
    const STATE: &str = "select count(*) as n, count(distinct delivery) as deliveries, sum(amount) as total, \
                         max(delivery) as newest, min(delivery) as oldest from {{ ref('MODEL') }}";
    let (mut reads, mut seen) = (0, [0, 0]);
    while !stop.load(Ordering::SeqCst) {
        for (at, model) in ["entries", "newest"].into_iter().enumerate() {
            let state = sandbox.query(&STATE.replace("MODEL", model))[0].clone();
            let get = |name: &str| state[name].as_i64().unwrap_or_default();
            let whole = match model {
                "entries" => get("n") == 10 * get("deliveries"),
                _ => get("n") == 10 && get("newest") == get("oldest"),
            };
            let progress = if model == "entries" { get("n") } else { get("newest") };
            if !whole || get("total") != 0 || progress < seen[at] {
                return Err(format!("{model}: {state} after {}", seen[at]));
            }
            seen[at] = progress;
            reads += 1;
        }
    }
    Ok(reads)
}

#[test]
fn four_writers_and_four_readers_see_whole_deliveries_only() {
    let rounds: i64 = std::env::var("LAKE_SOAK_ROUNDS").map_or(3, |count| count.parse().unwrap());
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    sandbox.ok(&["build"]);
    let stop = AtomicBool::new(false);
    let (runs, reads) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| read_on(&sandbox, &stop))).collect();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let sandbox = &sandbox;
                scope.spawn(move || -> Vec<Run> {
                    let write = |round: i64| {
                        deliver(sandbox, 2 + round * 4 + writer, 0);
                        sandbox.lake(&["build"])
                    };
                    (0..rounds).map(write).collect()
                })
            })
            .collect();
        let runs: Vec<Run> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        stop.store(true, Ordering::SeqCst);
        (runs, readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>())
    });
    for run in &runs {
        // A build that others were faster than several times says so, and has changed nothing.
        assert!(run.code == 0 || run.stdout.contains("at the same time"), "{run:#?}");
    }
    for reads in reads {
        assert!(reads.unwrap() > 0);
    }
    sandbox.ok(&["build"]);
    let last = 1 + rounds * 4;
    let state = sandbox.query("select count(*) as n, count(distinct delivery) as d from {{ ref('entries') }}");
    assert_eq!(state, [json!({"n": 10 * last, "d": last})]);
    assert_eq!(sandbox.value("select min(delivery) from {{ ref('newest') }}"), last);
}

#[test]
fn rows_of_a_failed_audit_are_never_seen() {
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    sandbox.ok(&["build"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read_on(&sandbox, &stop))).collect();
        for delivery in 11..14 {
            deliver(&sandbox, delivery, 7);
            let run = sandbox.lake(&["build"]);
            assert!(run.code == 1 && run.stdout.contains("whole_entries"), "{run:#?}");
            // The delivery is put right.
            deliver(&sandbox, delivery, 0);
            sandbox.ok(&["build"]);
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().unwrap().unwrap() > 0);
        }
    });
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 40);
}

#[test]
fn a_disk_that_is_full_leaves_the_old_version() {
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    sandbox.ok(&["build"]);
    let big: String =
        (0..200_000_i64).map(|id| format!("{},{},0\n", id * 7_919 % 1_000_003, id * 104_729 % 999_983)).collect();
    sandbox.write("in/items/big.csv", format!("id,delivery,amount\n{big}"));
    // No file may be longer than this many blocks: what a full disk does to a write, without filling one.
    let lake = env!("CARGO_BIN_EXE_lake");
    let script = format!("trap '' XFSZ; ulimit -f 300; exec {lake} run --select entries");
    let run = Command::new("bash").args(["-c", &script]).current_dir(sandbox.path(".")).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("File too large") && !told.contains("panicked"), "{told}");
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 10);
    sandbox.ok(&["run", "--select", "entries"]);
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 200_010);
}

#[test]
fn what_a_killed_run_spilled_is_taken_away() {
    let mut sandbox = ledger();
    let temporary = sandbox.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    sandbox.environment(&[("TMPDIR".to_owned(), temporary.display().to_string())]);
    deliver(&sandbox, 1, 0);
    let killed = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", "staged").output().unwrap();
    assert_eq!(killed.status.code(), None);
    let left = names(&temporary);
    assert!(left.len() == 1 && left[0].starts_with("lake-spill-"), "{left:?}");
    // While a run lives, no other touches its folder.
    let run = while_asleep(&sandbox, "staged", || {
        let alive = names(&temporary);
        assert!(alive.len() == 1 && alive != left, "{left:?} {alive:?}");
        sandbox.ok(&["compile"]);
        assert_eq!(names(&temporary).len(), 1);
    });
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(names(&temporary), [""; 0]);
}

/// The program as a user who may not do everything: tests run as root in containers, which no permission stops.
fn as_nobody(sandbox: &Sandbox, args: &[&str]) -> Run {
    let plain = sandbox.command(args);
    let program = sandbox.path("lake-program");
    if !program.exists() && std::fs::hard_link(plain.get_program(), &program).is_err() {
        std::fs::copy(plain.get_program(), &program).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(plain.get_args()).current_dir(sandbox.path(".")).env_clear().env("NO_COLOR", "1");
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        const NOBODY: u32 = 65_534;
        // What is to be writable is theirs; what the test closed stays closed.
        for path in everything(&sandbox.path(".")).iter().filter(|path| !path.ends_with("lake-program")) {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    finished(&command.output().unwrap())
}

/// A folder and all that is below it.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(everything(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn a_permission_that_is_lost_leaves_the_old_version() {
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    let first = as_nobody(&sandbox, &["build"]);
    assert_eq!(first.code, 0, "{first:#?}");
    deliver(&sandbox, 2, 0);
    // Where rows are staged, where they are committed, and where it is noted what was taken in.
    let table = "lake/silver/entries";
    for closed in ["", "_delta_log", "_lake"] {
        let place = sandbox.path(table).join(closed);
        let allow = |mode| std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
        allow(0o555);
        let run = as_nobody(&sandbox, &["build"]);
        allow(0o755);
        run.assert_failed(1, "Permission denied");
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(told.contains("silver.entries") && !told.contains("panicked"), "{closed}: {told}");
        assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 10, "{closed}");
    }
    // A file that may not be read is told by name.
    let file = sandbox.path("in/items");
    let newest = std::fs::read_dir(&file).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    std::fs::set_permissions(&newest, std::fs::Permissions::from_mode(0o000)).unwrap();
    let run = as_nobody(&sandbox, &["build"]);
    std::fs::set_permissions(&newest, std::fs::Permissions::from_mode(0o644)).unwrap();
    run.assert_failed(1, &newest.file_name().unwrap().to_string_lossy());
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 10);
    let last = as_nobody(&sandbox, &["build"]);
    assert_eq!(last.code, 0, "{last:#?}");
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 20);
}

/// Builds, and sleeps at a point while something happens.
fn while_asleep(sandbox: &Sandbox, point: &str, happens: impl FnOnce()) -> Run {
    let mut command = sandbox.command(&["build", "--select", "entries"]);
    let build = command.env("LAKE_FAIL_POINT", format!("stop {point}")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let build = build.spawn().unwrap();
    let (start, status) = (Instant::now(), format!("/proc/{}/stat", build.id()));
    let asleep = || std::fs::read_to_string(&status).unwrap().contains(") T ");
    while !asleep() {
        assert!(start.elapsed() < Duration::from_secs(60), "{point} was not reached");
        std::thread::sleep(Duration::from_millis(20));
    }
    happens();
    assert!(Command::new("kill").args(["-CONT", &build.id().to_string()]).status().unwrap().success());
    finished(&build.wait_with_output().unwrap())
}

#[test]
fn storage_that_goes_away_before_the_commit_leaves_the_old_version() {
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    sandbox.ok(&["build"]);
    deliver(&sandbox, 2, 0);
    let (log, aside) = (sandbox.path("lake/silver/entries/_delta_log"), sandbox.path("aside"));
    let run = while_asleep(&sandbox, "staged", || {
        std::fs::rename(&log, &aside).unwrap();
        // What stands in its place takes no files, also for a user who may do everything.
        std::fs::write(&log, "").unwrap();
    });
    run.assert_failed(1, "silver.entries");
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("panicked"), "{run:#?}");
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 10);
    sandbox.ok(&["build"]);
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 20);
}

#[test]
fn another_version_that_comes_while_one_is_staged_is_built_upon() {
    let sandbox = ledger();
    deliver(&sandbox, 1, 0);
    sandbox.ok(&["build"]);
    deliver(&sandbox, 2, 0);
    let run = while_asleep(&sandbox, "staged", || {
        deliver(&sandbox, 3, 0);
        sandbox.ok(&["build"]);
    });
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 30);
}

/// The clock of the program, moved by this much; nothing without `faketime`, which CI has.
fn at(sandbox: &Sandbox, offset: &str, args: &[&str]) -> Option<Run> {
    let plain = sandbox.command(args);
    let mut command = Command::new("faketime");
    command.args(["-f", offset]).arg(plain.get_program()).args(plain.get_args()).current_dir(sandbox.path("."));
    match command.env("NO_COLOR", "1").output() {
        Ok(output) => Some(finished(&output)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no faketime: {error}");
            eprintln!("skipped: no faketime: {error}");
            None
        }
    }
}

#[test]
fn a_clock_that_goes_back_loses_nothing_and_takes_nothing_twice() {
    let sandbox = ledger();
    for (delivery, offset) in [(1, "+0"), (2, "+400d"), (3, "-3650d"), (4, "-3650d"), (5, "+0")] {
        deliver(&sandbox, delivery, 0);
        let Some(run) = at(&sandbox, offset, &["build"]) else { return };
        assert_eq!(run.code, 0, "{offset}: {run:#?}");
        assert_eq!(sandbox.value("select count(*) from {{ ref('entries') }}"), 10 * delivery, "{offset}");
        assert_eq!(sandbox.value("select min(delivery) from {{ ref('newest') }}"), delivery, "{offset}");
        let Some(again) = at(&sandbox, "-2000d", &["build", "--output", "json"]) else { return };
        let report: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
        assert_eq!(node(&report, "silver.entries")["status"], "skipped", "{offset}: {report}");
    }
    assert_eq!(rows(&sandbox, "newest").len(), 10);
}
