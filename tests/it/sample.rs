//! The sample lake: what a build publishes, compared with counts made from the CSV files by hand.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, Timelike};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, node};

const HEADER: &str = "timestamp,user_id,platform,course_id,chapter_id\n";
const GOLD: [&str; 3] = ["gold.course_progress", "gold.most_viewed_courses", "gold.users_platforms"];

/// A line of a views file, typed; the parts that do not parse are `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    at: Option<NaiveDateTime>,
    user: Option<String>,
    platform: Option<String>,
    course: Option<i64>,
    chapter: Option<i64>,
}

impl View {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split(',').collect();
        let [at, user, platform, course, chapter] = fields[..] else { panic!("not five fields: {line}") };
        let text = |field: &str| (!field.is_empty()).then(|| field.to_owned());
        Self {
            at: NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S").ok(),
            user: text(user),
            platform: text(platform),
            course: course.parse().ok(),
            chapter: chapter.parse().ok(),
        }
    }

    fn part(&self) -> Option<&'static str> {
        Some(match self.at?.hour() {
            0..12 => "morning",
            12..17 => "afternoon",
            _ => "evening",
        })
    }
}

/// The distinct views of all files.
fn views(sandbox: &Sandbox) -> BTreeSet<View> {
    let files = std::fs::read_dir(sandbox.path("data/bronze/views")).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    texts.flat_map(|text| text.lines().skip(1).map(View::parse).collect::<Vec<_>>()).collect()
}

/// Title and number of chapters of every course.
fn courses(sandbox: &Sandbox) -> BTreeMap<i64, (String, i64)> {
    let text = std::fs::read_to_string(sandbox.path("data/bronze/courses/courses.csv")).unwrap();
    let course = |line: &str| {
        let (id, rest) = line.split_once(',').unwrap();
        let (rest, chapters) = rest.rsplit_once(',').unwrap();
        let (title, _category) = rest.rsplit_once(',').unwrap();
        (id.parse().unwrap(), (title.trim_matches('"').to_owned(), chapters.parse().unwrap()))
    };
    text.lines().skip(1).map(course).collect()
}

/// Views and distinct users by two words.
fn tally<'a, K: Ord>(rows: impl Iterator<Item = (K, &'a View)>) -> BTreeMap<K, (i64, i64)> {
    let mut found: BTreeMap<K, (i64, BTreeSet<&String>)> = BTreeMap::new();
    for (key, view) in rows {
        let entry = found.entry(key).or_default();
        entry.0 += 1;
        entry.1.extend(&view.user);
    }
    found.into_iter().map(|(key, (count, users))| (key, (count, users.len() as i64))).collect()
}

fn failures(report: &Value, node_name: &str) -> Vec<(String, i64)> {
    let tests = node(report, node_name)["tests"].as_array().unwrap().clone();
    let warned = tests.iter().filter(|test| test["status"] == "warn");
    warned.map(|test| (test["name"].as_str().unwrap().to_owned(), test["failures"].as_i64().unwrap())).collect()
}

fn statuses(report: &Value) -> BTreeMap<&str, &str> {
    let nodes = report["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["name"].as_str().unwrap(), node["status"].as_str().unwrap())).collect()
}

fn loaded(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.query("select loaded_at, count(*) as n from {{ ref('views') }} group by 1 order by 1")
}

#[test]
fn the_first_build_publishes_every_model_and_warns_about_bad_rows() {
    let sandbox = Sandbox::sample();
    let report = sandbox.json(&["build"]);
    let all: BTreeSet<&str> = ["silver.courses", "silver.views"].into_iter().chain(GOLD).collect();
    assert_eq!(statuses(&report), all.into_iter().map(|name| (name, "success")).collect());
    let views = views(&sandbox);
    let nulls = |is: fn(&View) -> bool| views.iter().filter(|view| is(view)).count() as i64;
    let expected = [
        ("not_null_views_viewed_at".to_owned(), nulls(|view| view.at.is_none())),
        ("not_null_views_user_id".to_owned(), nulls(|view| view.user.is_none())),
        ("not_null_views_course_id".to_owned(), nulls(|view| view.course.is_none())),
    ];
    assert_eq!(failures(&report, "silver.views"), expected);
    assert_eq!(node(&report, "silver.views")["rows"], json!(views.len()));
    assert_eq!(node(&report, "silver.views")["files_read"], 15);
    assert!(GOLD.iter().all(|name| failures(&report, name).is_empty()), "{report}");
}

#[test]
fn the_second_build_skips_every_node_and_says_why() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let report = sandbox.json(&["build"]);
    assert!(statuses(&report).values().all(|status| *status == "skipped"), "{report}");
    assert_eq!(node(&report, "silver.views")["reason"], "no new files in bronze.views");
    let reason = node(&report, "gold.users_platforms")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("silver.views is still at version 0"), "{reason}");
    assert!(report["nodes"].as_array().unwrap().iter().all(|node| node["version"] == 0), "{report}");
}

#[test]
fn a_new_file_is_merged_alone_and_rebuilds_what_reads_it() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let before = views(&sandbox).len();
    let lines = "2026-03-08 09:00:00,u9001,web,2,1\n2026-03-08 10:00:00,u9001,web,2,2\n";
    sandbox.write("data/bronze/views/views_2026-03-08_00.csv", format!("{HEADER}{lines}"));
    let report = sandbox.json(&["build"]);
    let merged = node(&report, "silver.views");
    assert_eq!((&merged["files_read"], &merged["rows"], &merged["action"]), (&json!(1), &json!(2), &json!("merge")));
    assert_eq!(statuses(&report)["silver.courses"], "skipped");
    assert!(GOLD.iter().all(|name| statuses(&report)[name] == "success"), "{report}");
    assert_eq!(sandbox.value("select count(*) from {{ ref('views') }}"), json!(before + 2));
}

#[test]
fn a_gold_model_whose_inputs_did_not_change_is_not_rebuilt() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let header = "course_id,title,category,chapters\n";
    sandbox.write("data/bronze/courses/more.csv", format!("{header}21,Column Stores,data,9\n"));
    let report = sandbox.json(&["build"]);
    let statuses = statuses(&report);
    assert_eq!((statuses["silver.courses"], statuses["silver.views"]), ("success", "skipped"));
    assert_eq!((statuses["gold.users_platforms"], statuses["gold.course_progress"]), ("skipped", "success"));
    assert_eq!(node(&report, "gold.users_platforms")["version"], 0);
}

#[test]
fn a_selected_model_runs_alone() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    sandbox.write("data/bronze/views/new.csv", format!("{HEADER}2026-03-08 09:00:00,u9001,web,2,1\n"));
    let report = sandbox.json(&["build", "--select", "gold.most_viewed_courses+"]);
    assert_eq!(statuses(&report), BTreeMap::from([("gold.most_viewed_courses", "skipped")]));
    assert_eq!(loaded(&sandbox).len(), 1);
}

#[test]
fn loaded_at_has_one_value_for_each_run() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let first = loaded(&sandbox);
    assert_eq!(first.len(), 1);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sandbox.write("data/bronze/views/new.csv", format!("{HEADER}2026-03-08 09:00:00,u9001,web,2,1\n"));
    sandbox.write("data/bronze/views/newer.csv", format!("{HEADER}2026-03-08 09:00:01,u9001,web,2,1\n"));
    sandbox.ok(&["build"]);
    let second = loaded(&sandbox);
    assert_eq!((second.len(), &second[0], &second[1]["n"]), (2, &first[0], &json!(2)));
    assert!(second[1]["loaded_at"].as_str() > second[0]["loaded_at"].as_str());
}

#[test]
fn the_day_is_cut_at_noon_and_at_five() {
    let sandbox = Sandbox::sample();
    let times =
        [("11:59:59", "morning"), ("12:00:00", "afternoon"), ("16:59:59", "afternoon"), ("17:00:00", "evening")];
    for (number, (time, _)) in times.iter().enumerate() {
        let line = format!("2026-04-01 {time},u1,edge{number},1,1\n");
        sandbox.write(&format!("data/bronze/views/edge{number}.csv"), format!("{HEADER}{line}"));
    }
    sandbox.ok(&["run"]);
    let platforms = "select platform, part_of_the_day, views_count from {{ ref('users_platforms') }} \
                     where platform like 'edge%' order by 1";
    let expected: Vec<Value> = times
        .iter()
        .enumerate()
        .map(|(n, (_, part))| json!({"platform": format!("edge{n}"), "part_of_the_day": part, "views_count": 1}))
        .collect();
    assert_eq!(sandbox.query(platforms), expected);
    let parts = times.map(|(time, _)| format!("select 1 as n, timestamp '2026-04-01 {time}' as at"));
    let sql =
        format!("select at, {{{{ part_of_day('at') }}}} as part from ({}) as t order by at", parts.join(" union all "));
    let found: Vec<Value> = sandbox.query(&sql).iter().map(|row| row["part"].clone()).collect();
    assert_eq!(found, times.map(|(_, part)| json!(part)));
}

#[test]
fn rows_with_null_keys_do_not_multiply_when_delivered_again() {
    let sandbox = Sandbox::sample();
    let lines = "yesterday,,,course-7,intro\n2026-03-08 10:00:00,,web,,\n,u0001,tv,3,\n";
    sandbox.write("data/bronze/views/nulls.csv", format!("{HEADER}{lines}"));
    sandbox.ok(&["build"]);
    let expected = views(&sandbox).len();
    assert_eq!(sandbox.value("select count(*) from {{ ref('views') }}"), json!(expected));
    sandbox.write("data/bronze/views/nulls_again.csv", format!("{HEADER}{lines}"));
    let original = std::fs::read(sandbox.path("data/bronze/views/views_2026-03-04_late.csv")).unwrap();
    sandbox.write("data/bronze/views/views_again.csv", original);
    let report = sandbox.json(&["build"]);
    assert_eq!(node(&report, "silver.views")["files_read"], 2);
    assert_eq!(sandbox.value("select count(*) from {{ ref('views') }}"), json!(expected));
}

#[test]
fn gold_counts_what_the_files_hold() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let (views, courses) = (views(&sandbox), courses(&sandbox));
    let known = |view: &View| Some((view.course?, courses.get(&view.course?)?));

    let by_course = tally(views.iter().filter_map(|v| Some(((known(v)?.1.0.clone(), known(v)?.0, v.part()?), v))));
    let expected = by_course.iter().map(|((title, id, part), (count, users))| {
        json!({"course": title, "course_id": id, "part_of_the_day": part, "views_count": count, "users": users})
    });
    let sql = "select * from {{ ref('most_viewed_courses') }} order by course, course_id, part_of_the_day";
    assert_eq!(sandbox.query(sql), expected.collect::<Vec<_>>());

    let by_platform = tally(views.iter().filter_map(|v| Some(((v.platform.clone()?, v.part()?), v))));
    let expected = by_platform.iter().map(|((platform, part), (count, users))| {
        json!({"platform": platform, "part_of_the_day": part, "views_count": count, "users": users})
    });
    let sql = "select * from {{ ref('users_platforms') }} order by platform, part_of_the_day";
    assert_eq!(sandbox.query(sql), expected.collect::<Vec<_>>());

    let mut chapters: BTreeMap<(&String, i64), BTreeSet<i64>> = BTreeMap::new();
    for view in &views {
        if let (Some((course, _)), Some(user), Some(chapter)) = (known(view), &view.user, view.chapter) {
            chapters.entry((user, course)).or_default().insert(chapter);
        }
    }
    let expected = chapters.iter().map(|((user, course), seen)| {
        let share = (seen.len() as f64 / courses[course].1 as f64).min(1.0);
        (((*user).clone(), *course), (seen.len() as i64, (share * 1e6).round() as i64))
    });
    let sql = "select user_id, course_id, chapters_viewed, progress from {{ ref('course_progress') }}";
    let found = sandbox.query(sql).into_iter().map(|row| {
        let key = (row["user_id"].as_str().unwrap().to_owned(), row["course_id"].as_i64().unwrap());
        let share = row["progress"].as_f64().unwrap();
        (key, (row["chapters_viewed"].as_i64().unwrap(), (share * 1e6).round() as i64))
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());
}

#[test]
fn tests_of_the_published_lake_pass() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    let tested = sandbox.lake(&["test"]);
    assert_eq!(tested.code, 0, "{}", tested.stdout);
    assert!(tested.stdout.contains("26 tests: 23 passed, 3 warned"), "{}", tested.stdout);
}

#[test]
fn lineage_is_a_tree_from_the_sources() {
    let tree = Sandbox::sample().ok(&["docs"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines.contains(&"bronze.views  (source)") && lines.contains(&"bronze.courses  (source)"), "{tree}");
    assert!(lines.contains(&"└─ silver.views  (incremental)"), "{tree}");
    assert!(lines.contains(&"   └─ gold.users_platforms  (table)"), "{tree}");
    assert_eq!(tree.matches("gold.most_viewed_courses").count(), 2, "{tree}");
}

#[test]
fn cleaning_leaves_tables_alone() {
    let sandbox = Sandbox::sample();
    sandbox.ok(&["build"]);
    assert!(sandbox.path(".lake").is_dir());
    sandbox.ok(&["clean"]);
    assert!(!sandbox.path(".lake").exists());
    let report = sandbox.json(&["build"]);
    assert!(statuses(&report).values().all(|status| *status == "skipped"), "{report}");
}
