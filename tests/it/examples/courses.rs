//! The lake at the root of the repository: views of courses as CSV, silver merged, gold incremental and joined.

use std::process::Command;

use serde_json::{Value, json};

use super::{Example, assert_same_files};
use crate::alerts::{server, taken};
use crate::reader::run;
use crate::sandbox::{Sandbox, names, node};

const HEADER: &str = "timestamp,user_id,platform,course_id,chapter_id\n";

/// What `course_progress` holds, counted anew.
const PROGRESS: &str = "select views.user_id, views.course_id, courses.title, count(distinct views.chapter_id) as chapters_viewed, courses.chapters, \
    min(views.viewed_at) as first_viewed_at, max(views.viewed_at) as last_viewed_at \
    from {{ ref('views') }} as views join {{ ref('courses') }} as courses on courses.course_id = views.course_id \
    where views.user_id is not null and views.chapter_id is not null \
    group by views.user_id, views.course_id, courses.title, courses.chapters";

fn courses() -> Example {
    Example { sandbox: Sandbox::sample(), name: "courses", target: None, root: "data/lake" }
}

/// Writes a file of views.
fn deliver(example: &Example, name: &str, lines: &str) {
    example.sandbox.write(&format!("data/bronze/views/{name}.csv"), format!("{HEADER}{lines}"));
}

/// The incremental gold table is what a count of all silver rows gives.
#[track_caller]
fn assert_exact(example: &Example) {
    let columns = "user_id, course_id, title, chapters_viewed, chapters, first_viewed_at, last_viewed_at";
    let of_table = format!("select {columns} from {{{{ ref('course_progress') }}}}");
    let lines = |rows: Vec<Value>| {
        let mut lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        lines.sort_unstable();
        lines
    };
    let (found, expected) = (lines(example.query(&of_table)), lines(example.query(PROGRESS)));
    assert!(found == expected, "{} rows, expected {}", found.len(), expected.len());
}

#[track_caller]
fn status(report: &Value, name: &str) -> (String, Value) {
    let node = node(report, name);
    (node["status"].as_str().unwrap().to_owned(), node["rows"].clone())
}

#[test]
fn it_is_built_from_nothing_once() {
    let example = courses();
    let made = Sandbox::empty();
    made.write("data/generate.py", include_str!("../../../data/generate.py"));
    run(Command::new("python3").arg(made.path("data/generate.py"))).unwrap();
    assert_same_files(&made.path("data/bronze"), &example.sandbox.path("data/bronze"));
    let report = example.build(&[]);
    let unit_tests = report["unit_tests"].as_array().unwrap();
    assert!(unit_tests.len() == 6 && unit_tests.iter().all(|test| test["status"] == "pass"), "{unit_tests:#?}");
    // Each model and macro is tried on rows of its own.
    let tried = |name: &str| unit_tests.iter().any(|test| test["model"] == name || test["macro"] == name);
    let models = report["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap());
    models.chain(["part_of_day"]).for_each(|name| assert!(tried(name), "{name} has no unit test"));
    assert_exact(&example);
    example.assert_rests();
    example.assert_read_by_others();
}

#[test]
fn an_empty_inbox_is_no_failure() {
    let example = courses();
    std::fs::remove_dir_all(example.sandbox.path("data/bronze/views")).unwrap();
    std::fs::create_dir_all(example.sandbox.path("data/bronze/views")).unwrap();
    let report = example.build(&[]);
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["status"] != "blocked"), "{report}");
    deliver(&example, "first", "2026-03-01 09:00:00,u1,web,2,1\n");
    example.build(&[]);
    assert_eq!(example.counts(["views", "course_progress", "users_platforms"]), [1, 1, 1]);
}

#[test]
fn gold_follows_new_and_late_files_by_what_changed() {
    let example = courses();
    example.build(&[]);
    let before = example.counts(["views", "course_progress"]);
    // A new day, a late file of an old day, and a file that is delivered twice.
    deliver(&example, "views_2026-03-08_00", "2026-03-08 09:00:00,u9001,web,2,1\n2026-03-08 09:00:00,u9001,web,2,1\n");
    deliver(&example, "views_2026-03-02_later", "2026-03-02 23:59:59,u9002,tv,3,1\n");
    let again = std::fs::read_to_string(example.sandbox.path("data/bronze/views/views_2026-03-01_00.csv")).unwrap();
    example.sandbox.write("data/bronze/views/views_2026-03-01_again.csv", &again);
    let report = example.build(&[]);
    assert_eq!(node(&report, "silver.views")["files_read"], 3);
    assert_eq!(example.counts(["views", "course_progress"]), [before[0] + 2, before[1] + 2]);
    let (word, rows) = status(&report, "gold.course_progress");
    assert!(word == "success" && rows.as_u64().unwrap() < before[1] / 2, "only what changed is counted again: {rows}");
    assert_exact(&example);
    // A course gets more chapters, and the catalogue a column.
    let catalogue = std::fs::read_to_string(example.sandbox.path("data/bronze/courses/courses.csv")).unwrap();
    let longer: Vec<String> = catalogue
        .lines()
        .map(|line| match line.split_once(',') {
            Some(("course_id", _)) => format!("{line},level"),
            Some(("2", rest)) => format!("2,{},40,hard", rest.rsplit_once(',').unwrap().0),
            _ => format!("{line},"),
        })
        .collect();
    example.sandbox.write("data/bronze/courses/courses.csv", longer.join("\n") + "\n");
    example.build(&[]);
    assert_eq!(
        example.query("select level, chapters from {{ ref('courses') }} where course_id = 2"),
        [json!({"level": "hard", "chapters": 40})]
    );
    assert_exact(&example);
    example.assert_rests();
}

#[test]
fn a_column_that_producers_add_widens_the_table() {
    let example = courses();
    example.build(&[]);
    let before = example.counts(["views", "course_progress"]);
    let lines = "2026-03-08 09:00:00,u9001,web,2,1,phone\n2026-03-08 09:00:00,u9002,tv,3,1,\n";
    let header = HEADER.replace("chapter_id", "chapter_id,device");
    example.sandbox.write("data/bronze/views/views_2026-03-08_00.csv", format!("{header}{lines}"));
    let report = example.build(&[]);
    assert_eq!(node(&report, "silver.views")["files_read"], 1, "files that are there already are not read again");
    assert_eq!(example.counts(["views", "course_progress"]), [before[0] + 2, before[1] + 2]);
    let of_devices = "select device, count(*) as views from {{ ref('views') }} group by device order by views";
    assert_eq!(example.query(of_devices), [json!({"device": "phone", "views": 1}), json!({"views": before[0] + 1})]);
    // Producers that do not know of it yet go on as they are.
    deliver(&example, "views_2026-03-08_01", "2026-03-08 10:00:00,u9003,web,2,1\n");
    example.build(&[]);
    assert_eq!(example.counts(["views"]), [before[0] + 3]);
    assert_exact(&example);
    example.assert_rests();
}

#[test]
fn parts_of_the_day_are_those_of_the_declared_clocks() {
    let example = courses();
    deliver(
        &example,
        "own",
        "2026-07-01 11:30:00,u1,tv,2,1\n2026-12-01 11:30:00,u1,tv,2,1\n2026-12-01 23:30:00,u1,tv,2,1\n",
    );
    let parts = |zone: &str| {
        let vars = format!("{{time_zone: {zone}}}");
        let sql = "select viewed_at, {{ part_of_day('viewed_at') }} as part from {{ ref('views') }} where user_id = 'u1' order by 1";
        let shown = example.ok(&["show", "--inline", sql, "--vars", &vars, "--output", "json"]);
        let rows: Vec<Value> = serde_json::from_str(&shown).unwrap();
        rows.iter().map(|row| row["part"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    example.build(&[]);
    assert_eq!(parts("UTC"), ["morning", "morning", "evening"]);
    // Summer time in July, and the next day.
    assert_eq!(parts("Europe/Berlin"), ["afternoon", "afternoon", "morning"]);
    assert_eq!(parts("America/New_York"), ["morning", "morning", "evening"]);
    let report = example.build(&["--vars", "{time_zone: Europe/Berlin}"]);
    assert_eq!(status(&report, "silver.views").0, "skipped");
    assert_eq!(status(&report, "gold.users_platforms").0, "success");
}

#[test]
fn a_model_of_another_group_is_not_read() {
    let example = courses();
    let mine = "models:\n  - name: views_of_others\n    config: { group: others }\ngroups:\n  - { name: others, owner: { name: Others } }\n";
    let sql = |name: &str| format!("select * from {{{{ ref('{name}') }}}}\n");
    example.sandbox.write("models/gold/others.yml", mine);
    example.sandbox.write("models/gold/views_of_others.sql", sql("course_progress"));
    example.ok(&["compile"]);
    let silver = std::fs::read_to_string(example.sandbox.path("project.yml")).unwrap();
    example.sandbox.write("project.yml", silver.replace("access: protected", "access: private"));
    example.sandbox.write("models/gold/views_of_others.sql", sql("views"));
    example.lake(&["compile"]).assert_failed(2, "private");
}

#[test]
fn users_are_counted_once_however_often_they_view() {
    let example = courses();
    deliver(
        &example,
        "own",
        "2026-05-01 09:00:00,u1,radio,2,1\n2026-05-01 10:00:00,u1,radio,2,2\n2026-05-01 11:00:00,,radio,2,3\n",
    );
    // `radio` is no platform: the test of silver would refuse it.
    example.ok(&["run"]);
    let found = example.query("select views_count, users from {{ ref('users_platforms') }} where platform = 'radio'");
    assert_eq!(found, [json!({"views_count": 3, "users": 1})]);
}

#[test]
fn a_failed_audit_publishes_nothing_and_is_told() {
    let (url, received) = server("200 OK|ok");
    let mut example = courses();
    example.build(&[]);
    example.sandbox.environment(&[("COURSES_SLACK_WEBHOOK".to_owned(), url)]);
    let before = example.counts(["views", "course_progress"]);
    deliver(&example, "fax", "2026-03-08 09:00:00,u9001,fax,2,1\n2026-03-08 10:00:00,u9001,web,2,1\n");
    let built = example.lake(&["build"]);
    assert!(built.code == 1 && built.stderr.contains("told learning (slack): 1 failed, 3 warned"), "{}", built.stderr);
    assert_eq!(example.counts(["views", "course_progress"]), before);
    let text = taken(&received).remove(0).to_string();
    for part in
        ["accepted_values_views_platform", "owner learning-data", "models/silver/silver.yml:", "gold.course_progress"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    deliver(&example, "fax", "2026-03-08 09:00:00,u9001,web,2,1\n2026-03-08 10:00:00,u9001,web,2,1\n");
    assert!(example.lake(&["build"]).stderr.contains("told learning (slack): 1 recovered"));
    assert_eq!(example.counts(["views", "course_progress"]), [before[0] + 2, before[1] + 1]);
}

#[test]
fn what_vanishes_from_silver_vanishes_from_gold() {
    let example = courses();
    deliver(&example, "own", "2026-03-08 09:00:00,u9001,web,2,1\n2026-03-08 09:00:00,u9002,tv,3,1\n");
    example.build(&[]);
    let own = "select count(*) from {{ ref('course_progress') }} where user_id like 'u900%'";
    assert_eq!(example.value(own), json!(2));
    std::fs::remove_file(example.sandbox.path("data/bronze/views/own.csv")).unwrap();
    // Everything again is a flag.
    example.ok(&["run", "--full-refresh", "--select", "silver.views"]);
    let report = example.build(&[]);
    assert_eq!(
        (example.value(own), node(&report, "gold.course_progress")["action"].clone()),
        (json!(0), json!("merge"))
    );
    assert_exact(&example);
    example.build(&["--full-refresh"]);
    assert_exact(&example);
    example.assert_rests();
}

#[test]
fn files_that_are_taken_in_become_few() {
    let example = courses();
    let sources = std::fs::read_to_string(example.sandbox.path("sources.yml")).unwrap();
    assert!(sources.contains("# after_load: { compact"));
    example.sandbox.write("sources.yml", sources.replace("# after_load: { compact", "after_load: { compact"));
    let folder = example.sandbox.path("data/bronze/views");
    let raw = || names(&folder).into_iter().filter(|name| name.ends_with(".csv")).count();
    assert_eq!(raw(), 15);
    let report = example.build(&[]);
    let before = example.counts(["views", "course_progress"]);
    // Rows that do not fit are NULL in silver, and fit bronze, which has texts.
    assert_eq!(
        (raw(), &report["archived"][0]["action"], &report["archived"][0]["files"]),
        (0, &json!("compacted"), &json!(15))
    );
    assert!(names(&folder.join("compacted")).len() < 4, "{:?}", names(&folder.join("compacted")));
    example.assert_rests();
    deliver(&example, "views_2026-03-08_00", "2026-03-08 09:00:00,u9001,web,2,1\n");
    example.build(&[]);
    assert_eq!((raw(), example.counts(["views", "course_progress"])), (0, [before[0] + 1, before[1] + 1]));
    example.build(&["--full-refresh"]);
    assert_eq!(example.counts(["views", "course_progress"]), [before[0] + 1, before[1] + 1]);
    assert_exact(&example);
}

#[test]
fn a_further_table_is_a_further_file() {
    let example = courses();
    example.build(&[]);
    example.sandbox.write(
        "models/gold/busiest_days.sql",
        "select cast(viewed_at as date) as day, count(*) as views, count(distinct user_id) as users\n\
         from {{ ref('views') }} where viewed_at is not null group by 1\n",
    );
    let report = example.build(&[]);
    assert_eq!(status(&report, "gold.busiest_days"), ("success".to_owned(), json!(7)));
    assert_eq!(report["nodes"].as_array().unwrap().iter().filter(|node| node["status"] == "skipped").count(), 5);
    example.assert_rests();
    // Who may read what: silver is for this project, gold is for everybody.
    let manifest = std::fs::read(example.sandbox.path(".lake/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let access = |name: &str| manifest["nodes"][format!("model.courses.{name}")]["access"].clone();
    assert_eq!((access("views"), access("busiest_days")), (json!("protected"), json!("public")));
}
