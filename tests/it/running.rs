//! How a run goes: what is taken up again, where it ends, what goes on after a failure, hooks, timeouts and retries.

use std::time::Duration;

use serde_json::{Value, json};

use crate::materialize::{items, rows};
use crate::sandbox::{Sandbox, node};

fn statuses(report: &Value) -> Vec<String> {
    let nodes = report["nodes"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let text = |node: &Value, key: &str| node[key].as_str().unwrap().to_owned();
    let mut all: Vec<String> =
        nodes.iter().map(|node| format!("{} {}", text(node, "name"), text(node, "status"))).collect();
    all.sort();
    all
}

const TABLE: &str = "{{ config(materialized='table') }} ";

/// `silver.a` -> `gold.b` -> `gold.c`, and `silver.z` beside them; a file of `broken` says whether `b` fails.
fn chain(a_config: &str) -> Sandbox {
    let b = format!("{TABLE} select id, 10 / (id - {{{{ var('bad', 100) }}}}) as x from {{{{ ref('a') }}}}");
    items(&[
        (
            "models/silver/a.sql",
            &format!(
                "{{{{ config(materialized='table'{a_config}) }}}} select id from {{{{ source('raw', 'items') }}}}"
            ),
        ),
        ("models/silver/z.sql", &format!("{TABLE} select 1 as one")),
        ("models/gold/b.sql", &b),
        ("models/gold/c.sql", &format!("{TABLE} select count(*) as n from {{{{ ref('b') }}}}")),
    ])
}

#[test]
fn a_retry_takes_up_what_failed_with_the_flags_of_the_run() {
    let sandbox = chain("");
    sandbox.lake(&["retry"]).assert_failed(2, "run_results.json` does not exist");
    let run = sandbox.lake(&["build", "--vars", "{bad: 1}", "--exclude", "z"]);
    run.assert_failed(1, "1 failed, 1 blocked");
    // Still broken: the variables are those of the run.
    let again = sandbox.json(&["retry"]);
    assert_eq!(statuses(&again), ["gold.b error", "gold.c blocked"]);
    // What is given now wins.
    assert_eq!(statuses(&sandbox.json(&["retry", "--vars", "{bad: 7}"])), ["gold.b success", "gold.c success"]);
    let nothing = sandbox.lake(&["retry"]);
    assert_eq!((nothing.code, nothing.stderr.trim()), (0, "nothing to retry: `lake build` left nothing undone"));
    // A node that went away is told, and a folder may be named.
    sandbox.lake(&["build", "--vars", "{bad: 1}", "--full-refresh"]).assert_failed(1, "1 failed, 1 blocked");
    std::fs::create_dir(sandbox.path("kept")).unwrap();
    std::fs::copy(sandbox.path(".lake/run_results.json"), sandbox.path("kept/run_results.json")).unwrap();
    std::fs::remove_file(sandbox.path("models/gold/c.sql")).unwrap();
    let run = sandbox.lake(&["retry", "--state", "kept", "--vars", "{bad: 7}"]);
    assert!(run.code == 0 && run.stderr.contains("1 node of the last run no longer in the project"), "{run:?}");
    let results: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path(".lake/run_results.json")).unwrap()).unwrap();
    assert_eq!(results["args"]["which"], "build");
    assert_eq!(results["args"]["full_refresh"], true, "the flags of the run stay");
    sandbox.write("kept/run_results.json", "{\"nodes\": [{\"name\": \"gold.b\", \"status\": \"error\"}]}");
    sandbox.lake(&["retry", "--state", "kept"]).assert_failed(2, "is not what lake writes: missing field `results`");
    let ended = "{\"results\": [{\"unique_id\": \"model.sandbox.b\", \"status\": \"error\"}]}";
    sandbox.write("kept/run_results.json", ended);
    sandbox.lake(&["retry", "--state", "kept"]).assert_failed(2, "cannot be called again");
}

#[test]
fn a_retry_takes_up_tests_and_killed_runs() {
    let sandbox = chain("");
    sandbox.write(
        "models/gold/b.yml",
        "models:\n  - name: b\n    columns: [{ name: id, data_tests: [accepted_values: { values: [1] }] }]\n",
    );
    sandbox.ok(&["run"]);
    sandbox.lake(&["test"]).assert_failed(1, "1 failed");
    let again = sandbox.lake(&["retry"]);
    again.assert_failed(1, "1 test: 1 failed");
    // A killed run did not say how it ended.
    sandbox.write("models/gold/b.yml", "");
    let mut killed = sandbox.command(&["build", "--select", "a", "b"]);
    sandbox.write("in/items/3.csv", "id,value\n1,c\n");
    assert_eq!(killed.env("LAKE_FAIL_POINT", "staged").output().unwrap().status.code(), None);
    assert_eq!(statuses(&sandbox.json(&["retry"])), ["gold.b success", "silver.a success"]);
}

#[test]
fn fail_fast_starts_nothing_after_the_first_failure() {
    let sandbox = items(&[
        ("models/silver/a.sql", &format!("{TABLE} select 1 / (id - 1) as x from {{{{ source('raw', 'items') }}}}")),
        ("models/silver/b.sql", &format!("{TABLE} select 1 as x")),
        ("models/gold/c.sql", &format!("{TABLE} select * from {{{{ ref('a') }}}}")),
        ("models/gold/d.sql", &format!("{TABLE} select * from {{{{ ref('b') }}}}")),
        // The longest way goes first.
        ("models/gold/e.sql", &format!("{TABLE} select * from {{{{ ref('c') }}}}")),
    ]);
    let report = sandbox.json(&["build", "-x", "--threads", "1"]);
    assert_eq!(
        statuses(&report),
        ["gold.c cancelled", "gold.d cancelled", "gold.e cancelled", "silver.a error", "silver.b cancelled"]
    );
    assert_eq!(node(&report, "gold.d")["reason"], "`silver.a` failed, and --fail-fast ends the run");
    assert_eq!(sandbox.lake(&["build", "--fail-fast", "--threads", "1"]).code, 1);
    // All that did not run is taken up.
    assert_eq!(sandbox.json(&["retry"])["nodes"].as_array().unwrap().len(), 5);
}

#[test]
fn models_below_a_failure_can_go_on_with_its_last_version() {
    let sandbox = chain(", on_error='continue'");
    sandbox.write("models/silver/a.yml", "models:\n  - name: a\n    columns: [{ name: id, data_tests: [not_null] }]\n");
    sandbox.write("in/items/2.csv", "id,value\n,c\n");
    // There is no earlier version to go on with.
    let report = sandbox.json(&["build"]);
    assert_eq!(statuses(&report), ["gold.b blocked", "gold.c blocked", "silver.a error", "silver.z success"]);
    assert!(node(&report, "silver.a")["reason"].as_str().unwrap().contains("no earlier version"), "{report}");
    std::fs::remove_file(sandbox.path("in/items/2.csv")).unwrap();
    sandbox.ok(&["build"]);
    sandbox.write("in/items/2.csv", "id,value\n,c\n");
    sandbox.write("models/gold/c.sql", format!("{TABLE} select count(*) + 1 as n from {{{{ ref('b') }}}}"));
    let run = sandbox.lake(&["build"]);
    run.assert_failed(
        1,
        "warning: `gold.b` was built on the last good version of `silver.a`, which failed in this run",
    );
    assert_eq!(rows(&sandbox, "c"), ["3"]);
    // With what failed also what went on without it is taken up.
    std::fs::remove_file(sandbox.path("in/items/2.csv")).unwrap();
    let again = sandbox.json(&["retry"]);
    assert_eq!(statuses(&again), ["gold.b skipped", "silver.a skipped"]);
    // A failure that lets nothing go on wins, and so does --fail-fast.
    sandbox.write("in/items/2.csv", "id,value\n,c\n");
    sandbox.write("models/silver/z.sql", format!("{TABLE} select id / 0 as one from {{{{ source('raw', 'items') }}}}"));
    sandbox.write(
        "models/gold/c.sql",
        format!("{TABLE} select 1 as n from {{{{ ref('b') }}}} cross join {{{{ ref('z') }}}}"),
    );
    let report = sandbox.json(&["build"]);
    assert_eq!(
        (&node(&report, "gold.b")["status"], &node(&report, "gold.c")["status"]),
        (&json!("skipped"), &json!("blocked"))
    );
    let report = sandbox.json(&["build", "-x", "--threads", "1", "--exclude", "z"]);
    assert_eq!(node(&report, "gold.b")["status"], "cancelled");
}

#[test]
fn a_storage_that_is_busy_is_tried_again_and_data_are_not() {
    let sandbox = chain("");
    let built = |point: &str| {
        let _ = std::fs::remove_dir_all(sandbox.path("lake"));
        let mut command = sandbox.command(&["build", "--select", "a"]);
        let output = command.env("LAKE_FAIL_POINT", point).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(built("stage!2").0, 0);
    let (code, text) = built("stage!9");
    assert!(code == 1 && text.contains("resource busy"), "{text}");
    sandbox.write("project.yml", "name: sandbox\ntargets:\n  dev: { root: lake, retries: 0 }\n");
    assert_eq!(built("stage!1").0, 1);
    let started = std::time::Instant::now();
    let run = sandbox.lake(&["build", "--vars", "{bad: 1}", "--select", "+b"]);
    run.assert_failed(1, "Divide by zero");
    assert!(!run.stderr.contains("tried again") && started.elapsed() < Duration::from_secs(60), "{}", run.stderr);
}

#[test]
fn a_model_has_a_time_to_be_built_in() {
    let slow =
        "{{ config(materialized='table', timeout='1s', pre_hook={'command': ['sleep', '30']}) }} select 1 as one";
    let sandbox =
        Sandbox::new(&[("models/silver/slow.sql", slow), ("models/gold/g.sql", "select * from {{ ref('slow') }}")]);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.slow")["reason"], "it took longer than its `timeout` of 1s");
    assert_eq!(node(&report, "gold.g")["status"], "blocked");
    // What runs is dropped, and a fast one is not hurt.
    let endless =
        "{{ config(materialized='table', timeout='1s') }} select count(*) as n from generate_series(1, 400000000) a
        where a.value % 7 = random() * 100";
    sandbox.write("models/silver/slow.sql", endless);
    assert_eq!(node(&sandbox.json(&["build"]), "silver.slow")["reason"], "it took longer than its `timeout` of 1s");
    sandbox.write("models/silver/slow.sql", "{{ config(materialized='table', timeout='10m') }} select 1 as one");
    sandbox.ok(&["build"]);
}

const HOOKED: &str = "{{ config(
    materialized='table',
    pre_hook={'command': 'echo before $LAKE_MODEL $LAKE_TARGET >> log.txt'},
    post_hook=[
        \"copy (select * from {{ this }} order by id) to 'out/{{ this.table }}.csv' options ('format.has_header' 'true')\",
        {'command': ['sh', '-c', 'echo after {{ target.name }} >> log.txt; test -d $LAKE_ROOT && test -n $LAKE_INVOCATION_ID']},
    ]) }}
select id from {{ source('raw', 'items') }}";

#[test]
fn joins_that_are_larger_than_the_memory_are_slower_and_right() {
    let join = "{{ config(materialized='table') }}
        with a as (select value as id, repeat('x', 60) || value as text from generate_series(1, 400000)),
            b as (select value as id, repeat('y', 60) || value as text from generate_series(1, 400000))
        select a.id, length(a.text) + length(b.text) as n from a join b on a.id = b.id and a.text <> b.text";
    let sandbox = Sandbox::new(&[
        ("project.yml", "name: sandbox\ntarget: dev\ntargets: { dev: { root: lake, memory: 12MB, threads: 2 } }\n"),
        ("models/gold/one.sql", join),
        ("models/gold/two.sql", join),
        ("models/gold/two.yml", "models:\n  - name: two\n    columns: [{ name: id, data_tests: [unique] }]\n"),
    ]);
    let report = sandbox.json(&["build"]);
    assert_eq!(statuses(&report), ["gold.one success", "gold.two success"], "{report}");
    assert_eq!(sandbox.value("select count(distinct id) = 400000 and sum(n) = 52577790 as ok from gold.one"), true);
}

#[test]
fn hooks_run_around_models_and_runs() {
    let sandbox = items(&[("models/silver/a.sql", HOOKED), ("models/gold/v.sql", "select * from {{ ref('a') }}")]);
    let project = "name: sandbox\ntargets:\n  dev: { root: lake }\non-run-start: { command: 'echo start >> log.txt' }
on-run-end:\n  - command: echo end $LAKE_STATUS >> log.txt\n  - select count(*) from {{ ref('v') }}
models:\n  gold:\n    +post-hook: { command: 'echo view >> log.txt' }\n";
    sandbox.write("project.yml", project);
    let log = || {
        let text = std::fs::read_to_string(sandbox.path("log.txt")).unwrap_or_default();
        std::fs::write(sandbox.path("log.txt"), "").unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    sandbox.ok(&["compile"]);
    assert_eq!(log(), [""; 0], "compiling runs nothing");
    let report = sandbox.json(&["build"]);
    assert_eq!(log(), ["start", "before silver.a dev", "after dev", "view", "end success"], "{report}");
    assert_eq!(std::fs::read_to_string(sandbox.path("out/a.csv")).unwrap(), "id\n1\n2\n");
    assert_eq!((&report["hooks"][2]["name"], &report["hooks"][2]["output"]), (&json!("on-run-end"), &json!("1 rows")));
    assert_eq!(node(&report, "silver.a")["hooks"].as_array().unwrap().len(), 3);
    // What is not built has nothing around it.
    sandbox.ok(&["build", "--select", "a"]);
    assert_eq!(log(), ["start", "end success"]);
    // A hook that fails.
    sandbox.write("models/silver/a.sql", HOOKED.replace("test -d", "echo no root; test -f"));
    sandbox.write("in/items/3.csv", "id,value\n");
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "exit code 1");
    assert!(
        ["post_hook of silver.a failed", "no root", "what it built is published"]
            .iter()
            .all(|said| run.stdout.contains(said)),
        "{}",
        run.stdout
    );
    assert_eq!(log().last().unwrap(), "end error");
    sandbox.write("models/silver/a.sql", HOOKED.replace("echo before", "nonsense"));
    sandbox.write("in/items/2.csv", "id,value\n3,c\n");
    sandbox.lake(&["build"]).assert_failed(1, "pre_hook of silver.a failed: exit code 127");
    assert_eq!(rows(&sandbox, "a"), ["1", "2"]);
    sandbox.write("project.yml", project.replace("echo start", "exit 4; echo"));
    let run = sandbox.lake(&["build"]);
    run.assert_failed(1, "on-run-start failed: exit code 4");
    assert!(run.stdout.contains("2 cancelled"), "{}", run.stdout);
}

#[test]
fn a_hook_sees_no_way_to_change_a_table() {
    for sql in [
        "insert into {{ this }} values (1)",
        "delete from {{ this }}",
        "drop table {{ this }}",
        "set x = 1",
        "create table t as select 1 as a",
    ] {
        let text = format!("{{{{ config(materialized='table', post_hook=\"{sql}\") }}}} select 1 as id");
        let sandbox = Sandbox::new(&[("models/silver/a.sql", &text)]);
        sandbox.lake(&["build"]).assert_failed(2, "a hook cannot `");
        assert!(!sandbox.path("lake").exists());
    }
}

#[test]
fn a_post_hook_that_did_not_come_to_its_end_runs_again() {
    let hook = "post_hook={'command': 'test -f ok && echo ran >> log.txt'}";
    let ways = [
        "materialized='table'",
        "materialized='incremental'",
        "materialized='scd2', unique_key='id', strategy='check', check_cols='all'",
    ];
    for (config, command) in ways.iter().zip(["retry", "build", "retry"]) {
        let sql = format!("{{{{ config({config}, {hook}) }}}} select id, value from {{{{ source('raw', 'items') }}}}");
        let sandbox = items(&[("models/silver/items.sql", &sql)]);
        let ran = || std::fs::read_to_string(sandbox.path("log.txt")).unwrap_or_default().lines().count();
        sandbox.lake(&["build"]).assert_failed(1, "post_hook of silver.items failed");
        sandbox.lake(&["build"]).assert_failed(1, "post_hook of silver.items failed");
        sandbox.write("ok", "");
        let report = sandbox.json(&[command]);
        let found = node(&report, "silver.items");
        assert_eq!((&found["status"], &found["action"]), (&json!("success"), &json!("post_hook")), "{report}");
        assert_eq!(ran(), 1);
        assert_eq!(node(&sandbox.json(&["build"]), "silver.items")["status"], "skipped");
        // A run that dies between the publish and the hook.
        sandbox.write("in/items/2.csv", "id,value\n3,c\n");
        let died = sandbox.command(&["build"]).env("LAKE_FAIL_POINT", "published").output().unwrap();
        assert!(!died.status.success());
        assert_eq!(ran(), 1, "{config}");
        sandbox.ok(&["build"]);
        assert_eq!(ran(), 2, "{config}");
        // A build that publishes nothing owes nothing, and what was owed before it is owed still.
        let tested = "models:\n  - name: items\n    columns: [{ name: id, data_tests: [{ accepted_range: { max_value: 9 } }] }]\n";
        sandbox.write("models/silver/items.yml", tested);
        std::fs::remove_file(sandbox.path("ok")).unwrap();
        sandbox.write("in/items/3.csv", "id,value\n5,e\n");
        sandbox.lake(&["build"]).assert_failed(1, "post_hook of silver.items failed");
        sandbox.write("ok", "");
        sandbox.write("in/items/4.csv", "id,value\n10,x\n");
        sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
        assert_eq!(ran(), 2, "{config}");
        std::fs::remove_file(sandbox.path("in/items/4.csv")).unwrap();
        sandbox.ok(&["build"]);
        assert_eq!(ran(), 3, "{config}");
        sandbox.write("in/items/5.csv", "id,value\n11,x\n");
        sandbox.lake(&["build"]).assert_failed(1, "nothing was published");
        std::fs::remove_file(sandbox.path("in/items/5.csv")).unwrap();
        sandbox.ok(&["maintain"]);
        sandbox.ok(&["build"]);
        assert_eq!(ran(), 3, "{config}");
    }
    // The tables of a burst.
    let sql = format!("{{{{ config(materialized='table', {hook}) }}}} select id from {{{{ source('raw', 'items') }}}}");
    let sandbox = items(&[("models/silver/a.sql", &sql), ("models/silver/b.sql", &sql)]);
    sandbox.lake(&["build", "--atomic"]).assert_failed(1, "post_hook of silver.b failed");
    sandbox.write("ok", "");
    sandbox.ok(&["build", "--atomic"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("log.txt")).unwrap(), "ran\nran\n");
    assert_eq!(statuses(&sandbox.json(&["build", "--atomic"])), ["silver.a skipped", "silver.b skipped"]);
}
