//! Sources with many files, and files that are larger than they look.

use std::process::Stdio;
use std::time::Duration;

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;

use crate::materialize::rows;
use crate::sandbox::Sandbox;
use crate::text_files::compressed;

const APPENDS: &str = "{{ config(materialized='incremental') }} select id, value from {{ source('raw', 'items') }}";

/// A project with one model over the files of `in/items/`.
fn project(model: &str, settings: &str) -> Sandbox {
    let columns = "[{ name: id, data_type: varchar }, { name: value, data_type: varchar }]";
    let sources = format!(
        "sources:\n  - name: raw\n    root: in\n    tables:\n      - {{ name: items, path: items/, columns: {columns}, {settings} }}\n"
    );
    Sandbox::new(&[("sources.yml", &sources), ("models/silver/items.sql", model)])
}

fn deliver(sandbox: &Sandbox, path: &str, id: u32) {
    sandbox.write(&format!("in/items/{path}"), format!("id,value\n{id},x\n"));
}

fn ids(sandbox: &Sandbox) -> String {
    rows(sandbox, "items").iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

const ORDERED: &str = "format: csv, incremental_listing: { lookback: 1 }";

#[test]
fn an_incremental_listing_begins_a_little_before_the_last_name() {
    let sandbox = project(APPENDS, ORDERED);
    // `2024-01` sorts before `2024-01/` in a path, and `a-b` before `a/`.
    for (at, path) in
        ["2024-01-01/a.csv", "2024-01-02/a.csv", "2024-01-02/b.csv", "2024-01-03/a.csv"].iter().enumerate()
    {
        deliver(&sandbox, path, at as u32);
    }
    sandbox.ok(&["build"]);
    assert_eq!(ids(&sandbox), "0 1 2 3");
    // A folder that no one needs is not opened: this one has no end.
    std::os::unix::fs::symlink("..", sandbox.path("in/items/2024-01-01/loop")).unwrap();
    deliver(&sandbox, "2024-01-01/late.csv", 4);
    deliver(&sandbox, "2024-01-02/c.csv", 5);
    deliver(&sandbox, "2024-01-03/b.csv", 6);
    deliver(&sandbox, "2024-01-04/deep/a.csv", 7);
    sandbox.ok(&["build"]);
    assert_eq!(ids(&sandbox), "0 1 2 3 5 6 7");
    sandbox.lake(&["build", "--full-listing"]).assert_failed(1, "loop");
    std::fs::remove_file(sandbox.path("in/items/2024-01-01/loop")).unwrap();
    sandbox.ok(&["build", "--full-listing"]);
    assert_eq!(ids(&sandbox), "0 1 2 3 4 5 6 7");
    assert!(sandbox.ok(&["build"]).contains("no new files"));
    // What is gone below is not missed, and a full refresh sees that it is.
    std::fs::remove_file(sandbox.path("in/items/2024-01-01/a.csv")).unwrap();
    sandbox.ok(&["build", "--full-refresh"]);
    assert_eq!(ids(&sandbox), "1 2 3 4 5 6 7");
}

#[test]
fn a_changed_file_within_an_incremental_listing_is_replaced() {
    let replaces = format!("{ORDERED}, on_changed_file: replace");
    let merges = APPENDS.replace("')", "', unique_key='id')");
    for model in [APPENDS, &merges.replacen("source('raw', 'items', unique_key='id')", "source('raw', 'items')", 1)] {
        let sandbox = project(model, &replaces);
        (0..4).for_each(|at| deliver(&sandbox, &format!("{at}.csv"), at));
        sandbox.ok(&["build"]);
        // The rows of a table that merges cannot be told apart: it is rebuilt, from all files.
        deliver(&sandbox, "3.csv", 333);
        deliver(&sandbox, "4.csv", 4);
        sandbox.ok(&["build"]);
        assert_eq!(ids(&sandbox), "0 1 2 333 4", "{model}");
    }
}

#[test]
fn a_slice_leaves_no_gap_below_an_incremental_listing() {
    let sandbox = project(APPENDS, ORDERED);
    (0..5).for_each(|at| deliver(&sandbox, &format!("{at}.csv"), at));
    let gap = sandbox.lake(&["build", "--files", "3.csv"]);
    gap.assert_failed(1, "`0.csv` of `raw.items` waits to be taken in");
    sandbox.ok(&["build", "--files", "[01].csv"]);
    sandbox.ok(&["build"]);
    assert_eq!(ids(&sandbox), "0 1 2 3 4");
}

/// Builds, and returns what it said and the most memory that it had, where the system tells.
fn build(sandbox: &Sandbox) -> (i32, String, u64) {
    let mut child =
        sandbox.command(&["build"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), text, peak)
}

/// Refused with this message, in bounded memory.
#[track_caller]
fn assert_refused(settings: &str, name: &str, bytes: &[u8], message: &str) {
    let sandbox = project(APPENDS, settings);
    sandbox.write(&format!("in/items/{name}"), bytes);
    let (code, text, peak) = build(&sandbox);
    assert!(code == 1 && text.contains(message) && !text.contains("panicked"), "{code}: {text}");
    assert!(peak < 600 << 20, "{} MB", peak >> 20);
}

/// Gigabytes of the same bytes: gzip files stand one after another.
fn repeated(start: &str, bytes: &[u8], megabytes: usize) -> Vec<u8> {
    let part = compressed(FileCompressionType::GZIP, &bytes.repeat((8 << 20) / bytes.len()));
    [compressed(FileCompressionType::GZIP, start.as_bytes()), part.repeat(megabytes / 8)].concat()
}

#[test]
fn a_line_without_an_end_is_refused() {
    let options = "options: { max_decompression_ratio: 100000, max_line_bytes: 2MB }";
    let too_long = "longer than `max_line_bytes";
    assert_refused(&format!("format: csv, {options}"), "a.csv.gz", &repeated("id,value\n", b"a", 1024), too_long);
    assert_refused(&format!("format: csv, {options}"), "a.csv.gz", &repeated("id,value\n1,\"", b"a\n", 1024), too_long);
    assert_refused(&format!("format: csv, {options}"), "a.csv.gz", &repeated("", b"a", 1024), "header is longer");
    assert_refused(&format!("format: ndjson, {options}"), "a.json.gz", &repeated("{\"id\":\"", b"a", 1024), too_long);
    assert_refused(
        &format!("format: json, {options}"),
        "a.json.gz",
        &repeated("[{\"id\":\"", b"a", 1024),
        "max_line_bytes",
    );
}

#[test]
fn nesting_without_an_end_is_refused() {
    let options = "options: { max_decompression_ratio: 100000, max_line_bytes: 2MB }";
    for format in ["json", "ndjson"] {
        let settings = format!("format: {format}, {options}");
        assert_refused(&settings, "a.json.gz", &repeated("", b"[", 256), "a.json.gz");
        assert_refused(&settings, "a.json.gz", &repeated("", b"{\"id\":", 256), "a.json.gz");
        assert_refused(&settings, "a.json.gz", &repeated("{\"id\":\"1\",\"x\":", b"[[[[", 256), "a.json.gz");
    }
}

#[test]
fn a_file_that_becomes_too_large_is_refused() {
    let row = format!("1,{}\n", "x".repeat(1021));
    let bomb = repeated("id,value\n", row.as_bytes(), 1024);
    assert_refused("format: csv, options: { max_file_bytes: 2MB }", "a.csv.gz", &bomb, "larger than `max_file_bytes");
    let ratio = "format: csv, options: { max_decompression_ratio: 50 }";
    assert_refused(ratio, "a.csv.gz", &bomb, "more than 50 times its size");
}

#[test]
fn a_file_of_very_many_columns_takes_no_more_memory_than_others() {
    let more: String = (0..200_000).map(|at| format!(",c{at}")).collect();
    let sandbox = project(APPENDS, "format: csv");
    sandbox
        .write("in/items/a.csv", format!("id,value{more}\n1,x{}\n2,y{}\n", ",".repeat(200_000), ",".repeat(200_000)));
    // So large that the size of the file alone allows a large batch.
    let (code, text, peak) = build(&sandbox);
    assert!(code == 0, "{text}");
    assert!(peak < 600 << 20, "{} MB", peak >> 20);
    assert_eq!(rows(&sandbox, "items"), ["1 x", "2 y"]);
}
